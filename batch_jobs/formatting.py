"""How the cost report says its figures, the same words on the terminal and on the page.

An amount below a dollar is shown with three digits that say something: a track often costs less than a cent. Amounts in
one column have the same number of places, so that they can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

#: Below a billionth of a dollar nobody counts.
MOST_PLACES: Final = 9


def usd(amount: float | None, places: int | None = None) -> str:
    """Dollars: "$12.34", "$0.0123", "$0.000213", "−$1.00", "<$0.01" (not nothing, but too small); "–" for None.

    Args:
        amount: USD.
        places: after the point; as many as this amount needs if None.
    """
    if amount is None:
        return "–"
    places = places_for([amount]) if places is None else places
    shown = f"${abs(amount):,.{places}f}"
    if amount and float(f"{abs(amount):.{places}f}") == 0:
        shown = f"<${10.0**-places:.{places}f}"
    return f"−{shown}" if amount < 0 else shown


def places_for(amounts: Iterable[float | None]) -> int:
    """Places after the point for amounts that are shown together: cents, or what the digits of small amounts need.

    Below a dollar the largest has three digits, and others two where that takes no more than two places more.
    """
    sizes = [abs(amount) for amount in amounts if amount]
    if not sizes or max(sizes) >= 1:
        return 2
    of_largest, of_smallest = (2 - math.floor(math.log10(max(sizes))), 1 - math.floor(math.log10(min(sizes))))
    return min(max(of_largest, min(of_smallest, of_largest + 2)), MOST_PLACES)


def column_of_usd(amounts: Sequence[float | None]) -> list[str]:
    """Amounts of one column, with the same number of places."""
    places = places_for(amounts)
    return [usd(amount, places) for amount in amounts]


def in_columns(rows: Sequence[Mapping[str, Any]], *groups: Sequence[str], alike: Sequence[str] = ()) -> list[list[str]]:
    """For each row the amounts in these columns, those of a group with the same number of places.

    Args:
        rows: rows with amounts in USD.
        groups: names of the columns that are shown.
        alike: more columns that decide about the places of a group that is among them.
    """
    shown: list[list[str]] = [[] for _ in rows]
    for group in groups:
        names = alike if set(group) <= set(alike) else group
        places = places_for(row[name] for row in rows for name in names)
        for cells, row in zip(shown, rows, strict=True):
            cells += [usd(row[name], places) for name in group]
    return shown


def counted(count: int, one: str, several: str | None = None) -> str:
    """A number and its noun: "1 machine", "1,200 machines"."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def printable(text: str, longest: int | None = None) -> str:
    """A name from a catalog without what a terminal obeys or an eye misses, and cut to `longest` characters."""
    shown = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return shown if longest is None or len(shown) <= longest else shown[: longest - 1] + "…"


def cents(amount_usd: float) -> str:
    """A difference in cents, with the places that show rounding from a mistake: "0.0000¢"."""
    # Adding 0.0 makes a zero of a negative zero.
    return f"{round(amount_usd * 100, 4) + 0.0:,.4f}¢".replace("-", "−")


def waste_cause(row: Mapping[str, Any]) -> str:
    """Why an attempt gave no track, from its `ended` and `reason`: "preempted", "failed: check-failed"."""
    return f"{row['ended']}: {row['reason']}" if row["reason"] else str(row["ended"])


def reconciled(totals: Mapping[str, Any]) -> str:
    """The sum that must hold: what tracks carry and what none carries is what the machines cost."""
    billed, unallocated, bill = column_of_usd([totals[n] for n in ("billed_usd", "unallocated_usd", "bill_usd")])
    return f"carried {billed} + unallocated {unallocated} = bill {bill}; difference {cents(totals['difference_usd'])}"


def unshared(totals: Mapping[str, Any]) -> str:
    """What is known of tracks without shares."""
    return (
        f"{totals['unshared_tracks']:,} rendered tracks have no share of waste and idle time, because an older release "
        f"wrote them or their job has not ended: they count with their own render, {usd(totals['unshared_usd'])}, in "
        "what tracks of a style, model or requester carry, and are on no bill"
    )


def spot_line(spot: Mapping[str, Any]) -> str:
    """What spot machines saved."""
    names = ("paid_usd", "on_demand_usd", "unknown_paid_usd", "saving_usd", "lost_usd", "lost_on_demand_usd")
    said = dict(zip(names, column_of_usd([spot[name] for name in names]), strict=True))
    hours = f"{spot['node_hours']:,.2f} node-hours on spot for {said['paid_usd']}"
    if spot["saving_usd"] is None:
        return f"{hours}; their price on demand is not known, so neither is the saving"
    unknown = ""
    if spot["unknown_paid_usd"]:
        unknown = f" (without machines for {said['unknown_paid_usd']}, whose price on demand is not known)"
    return (
        f"{hours}; on demand {said['on_demand_usd']}{unknown}: {said['saving_usd']} less, but "
        f"{counted(spot['lost_tries'], 'attempt')} were lost with their machine, for {said['lost_usd']} "
        f"({said['lost_on_demand_usd']} on demand, where they would not have been needed); "
        f"net saving {usd(spot['net_saving_usd'])}"
    )


def what_if_line(what_if: Sequence[Mapping[str, Any]], totals: Mapping[str, Any]) -> str:
    """The bill and the cost of an audio minute, now and at other prices."""
    now, then = (math.fsum(row[name] for row in what_if) for name in ("now_usd", "then_usd"))
    line = f"bill now {usd(now)}, then {usd(then)}"
    if minutes := totals["billed_minutes"]:
        line += f"; per audio minute now {usd(now / minutes)}, then {usd(then / minutes)}"
    return line
