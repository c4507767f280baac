"""How the cost report says its figures, the same words on the terminal and on the page.

Amounts below a cent are shown in millionths of a dollar: a track often costs no more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def usd(amount: float | None) -> str:
    """Dollars, or millionths of a dollar below a cent: "$12.34", "$0.0123", "213 µ$", "−$1.00"; "–" for None."""
    if amount is None:
        return "–"
    if amount < 0:
        return f"−{usd(-amount)}"
    if amount == 0 or amount >= 1:
        return f"${amount:,.2f}"
    if amount >= 0.01:
        return f"${amount:.4f}"
    millionths = amount * 1e6
    return f"{millionths:,.0f} µ$" if millionths >= 100 else f"{millionths:.1f} µ$"


def cents(amount_usd: float) -> str:
    """A difference in cents, with the places that show rounding from a mistake: "0.0000¢"."""
    # Adding 0.0 makes a zero of a negative zero.
    return f"{round(amount_usd * 100, 4) + 0.0:,.4f}¢".replace("-", "−")


def waste_cause(row: Mapping[str, Any]) -> str:
    """Why an attempt gave no track, from its `ended` and `reason`: "preempted", "failed: check-failed"."""
    return f"{row['ended']}: {row['reason']}" if row["reason"] else str(row["ended"])


def reconciled(totals: Mapping[str, Any]) -> str:
    """The sum that must hold: what tracks are charged and what none is charged is what the machines cost."""
    return (
        f"tracks {usd(totals['tracks_usd'])} + charged to no track {usd(totals['unallocated_usd'])} = "
        f"machines {usd(totals['nodes_usd'])}; difference {cents(totals['difference_usd'])}"
    )


def unshared(totals: Mapping[str, Any]) -> str:
    """What is known of tracks without shares."""
    return (
        f"{totals['unshared_tracks']:,} rendered tracks have no share of waste and idle time, because an older release "
        f"wrote them or their job has not ended: they count with their own render, {usd(totals['unshared_usd'])}, and "
        "are not in the sum of the machines"
    )


def spot_line(spot: Mapping[str, Any]) -> str:
    """What spot machines saved."""
    hours = f"{spot['node_hours']:,.2f} node-hours on spot for {usd(spot['paid_usd'])}"
    if spot["saving_usd"] is None:
        return f"{hours}; their price on demand is not known, so neither is the saving"
    unknown = ""
    if spot["unknown_paid_usd"]:
        unknown = f" (without machines for {usd(spot['unknown_paid_usd'])}, whose price on demand is not known)"
    return (
        f"{hours}; on demand {usd(spot['on_demand_usd'])}{unknown}: {usd(spot['saving_usd'])} less, but "
        f"{spot['lost_tries']:,} attempts were lost with their machine, for {usd(spot['lost_usd'])} "
        f"({usd(spot['lost_on_demand_usd'])} on demand, where they would not have been needed); "
        f"net saving {usd(spot['net_saving_usd'])}"
    )


def what_if_line(what_if: Sequence[Mapping[str, Any]], totals: Mapping[str, Any]) -> str:
    """The bill and the cost of a track, now and at other prices."""
    now, then, tracks_now, tracks_then = (
        math.fsum(row[name] for row in what_if) for name in ("now_usd", "then_usd", "now_tracks_usd", "then_tracks_usd")
    )
    rendered = totals["rendered"] - totals["unshared_tracks"]
    line = f"machines now {usd(now)}, then {usd(then)}"
    if rendered:
        line += f"; a track now {usd(tracks_now / rendered)}, then {usd(tracks_then / rendered)}"
    return line
