"""The tables of the report's page: every figure in words and digits, ready to be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from batch_jobs.formatting import (
    cents,
    column_of_usd,
    counted,
    in_columns,
    printable,
    reconciled,
    spot_line,
    unshared,
    waste_cause,
    what_if_line,
)
from batch_jobs.reports.costs import BILL, MONEY, CostReport
from batch_jobs.reports.headline import hours
from batch_jobs.reports.trends import moment

#: Rows in one table; the files have all of them.
MAX_ROWS: Final = 50
NAME_CHARACTERS: Final = 80
PROMPT_CHARACTERS: Final = 240
#: Dimensions with a table of their own, and what one value is called.
DRILL_DOWNS: Final = {
    "style": "style",
    "model": "model",
    "requester": "requester",
    "day": "day",
    "market": "market",
    "pool": "pool",
    "job": "job",
}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text; the first cell of each names it."""

    key: str
    title: str
    note: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    #: Columns with running text instead of figures.
    words: frozenset[int] = frozenset()
    #: Which rows are not here and where they are.
    more: str = ""


def tables(report: CostReport) -> list[Table]:
    """All that have rows, in the order of the page."""
    found = [
        *(_breakdown(report, dimension) for dimension in DRILL_DOWNS),
        _runs(report),
        _machines(report),
        _node_types(report),
        _bill_of_jobs(report),
        _over_time(report),
        _waste(report),
        _waste_over_time(report),
        _lengths(report),
        _spot(report),
        _what_if(report),
        _failures(report),
        _withdrawn(report),
        _dearest(report),
    ]
    return [table for table in found if table.rows]


def _breakdown(report: CostReport, dimension: str) -> Table:
    rows = report.by(dimension)
    if dimension == "day":
        rows = sorted(rows, key=lambda row: row["value"], reverse=True)
    shown, more = _cut(rows, "costs.csv")
    return Table(
        f"by-{dimension}",
        f"Carried by {dimension}",
        f"{counted(len(rows), DRILL_DOWNS[dimension])}. Carried is render, waste and idle time together; per track and "
        "per audio minute are over what was rendered, as the minutes are. Saved: what the cached tracks had cost.",
        (
            dimension,
            "carried",
            "per track",
            "per audio minute",
            "tracks",
            "rendered",
            "cached",
            "failed",
            "minutes",
            "render",
            "waste",
            "idle",
            "saved",
        ),
        [
            (
                _name(row["value"]),
                *amounts,
                f"{row['tracks']:,}",
                f"{row['rendered']:,}",
                f"{row['cache_hits']:,}",
                "–" if row["failures"] is None else f"{row['failures']:,}",
                f"{row['rendered_minutes']:,.1f}",
                *parts,
            )
            for row, amounts, parts in zip(
                shown,
                in_columns(
                    shown, ("carried_usd",), ("carried_per_track_usd",), ("carried_per_audio_minute_usd",), alike=MONEY
                ),
                in_columns(shown, ("render_usd", "waste_usd", "idle_usd"), ("saved_usd",), alike=MONEY),
                strict=True,
            )
        ],
        more=more,
    )


def _runs(report: CostReport) -> Table:
    shown, more = _cut(report.runs, "nodes.csv")
    return Table(
        "by-run",
        "Bill by run",
        "Each execution of a job's command, newest first. What its machines cost, and what of it tracks carry.",
        ("run", "began", "job", "machines", "hours", "rendered", "bill", "carried", "unallocated"),
        [
            (
                _name(row["run_id"]),
                moment(row["up_from"], "hour"),
                _name(row["job_id"]),
                f"{row['machines']:,}",
                hours(row["node_hours"]),
                f"{row['rendered']:,}",
                *amounts,
            )
            for row, amounts in zip(shown, _bills(shown), strict=True)
        ],
        more=more,
    )


def _machines(report: CostReport) -> Table:
    shown, more = _cut(report.machines, "nodes.csv")
    return Table(
        "by-node",
        "Bill by machine",
        "Each machine once, however many runs and processes it had; lost is what attempts without a track cost on it.",
        ("machine", "type", "market", "runs", "hours", "tracks", "bill", "carried", "unallocated", "lost"),
        [
            (
                _name(row["machine"]),
                _name(row["node_type"]),
                _name(row["market"]),
                f"{row['runs']:,}",
                hours(row["node_hours"]),
                f"{row['tracks']:,}",
                *amounts,
            )
            for row, amounts in zip(shown, _bills(shown, "lost_usd"), strict=True)
        ],
        more=more,
    )


def _node_types(report: CostReport) -> Table:
    shown, more = _cut(report.node_types, "nodes.csv")
    return Table(
        "by-node-type",
        "Bill by type of machine",
        "",
        ("type", "market", "machines", "hours", "bill", "carried", "unallocated"),
        [
            (
                _name(row["node_type"]),
                _name(row["market"]),
                f"{row['machines']:,}",
                hours(row["node_hours"]),
                *amounts,
            )
            for row, amounts in zip(shown, _bills(shown), strict=True)
        ],
        more=more,
    )


def _bill_of_jobs(report: CostReport) -> Table:
    shown, more = _cut(report.reconciliation, "costs.csv")
    note = f"{reconciled(report.totals)}."
    if report.totals["unshared_tracks"]:
        note += f" {unshared(report.totals)}."
    return Table(
        "bill",
        "Bill by job",
        note,
        ("job", "bill", "carried", "unallocated", "difference"),
        [
            (_name(row["job_id"]), *amounts, cents(row["difference_usd"]))
            for row, amounts in zip(shown, _bills(shown), strict=True)
        ],
        more=more,
    )


def _over_time(report: CostReport) -> Table:
    unit = report.trends.unit
    shown, more = _cut(list(reversed(report.trends.bill)), "bill_over_time.csv", 2 * MAX_ROWS)
    return Table(
        "over-time",
        f"Bill by {unit}",
        "Newest first, UTC. The bill of a machine is spread evenly over the time that it was up.",
        (unit, "bill", "carried", "unallocated"),
        [(moment(row["period"], unit), *amounts) for row, amounts in zip(shown, _bills(shown), strict=True)],
        more=more,
    )


def _waste(report: CostReport) -> Table:
    shown, more = _cut(report.waste, "waste.csv")
    return Table(
        "waste",
        "Waste by cause",
        "Attempts that gave no track; what was kept, another attempt went on from.",
        ("cause", "cost", "attempts", "device seconds"),
        [
            (waste_cause(row), cost, f"{row['tries']:,}", f"{row['device_seconds']:,.1f}")
            for row, cost in zip(shown, column_of_usd([row["cost_usd"] for row in shown]), strict=True)
        ],
        more=more,
    )


def _waste_over_time(report: CostReport) -> Table:
    unit = report.trends.unit
    shown, more = _cut(list(reversed(report.trends.waste)), "waste_over_time.csv", 2 * MAX_ROWS)
    return Table(
        "waste-by-time",
        f"Waste by {unit}",
        "Newest first, UTC, by when the attempt ended.",
        (unit, "cause", "attempts", "cost"),
        [
            (moment(row["period"], unit), waste_cause(row), f"{row['tries']:,}", cost)
            for row, cost in zip(shown, column_of_usd([row["cost_usd"] for row in shown]), strict=True)
        ],
        more=more,
    )


def _lengths(report: CostReport) -> Table:
    rows = report.trends.lengths
    names = ("low_usd", "middle_usd", "high_usd")
    per_minute = [row["carried_usd"] / row["minutes"] if row["minutes"] else None for row in rows]
    return Table(
        "lengths",
        "Cost of a track by length",
        "What a rendered track carries: the middle, and what a tenth of the tracks are below and above.",
        ("model", "length", "tracks", "lowest tenth", "middle", "highest tenth", "per audio minute"),
        [
            (_name(row["model"]), f"{row['from_s']:g} to {row['to_s']:g} s", f"{row['tracks']:,}", *amounts, minute)
            for row, amounts, minute in zip(rows, in_columns(rows, names), column_of_usd(per_minute), strict=True)
        ],
    )


def _spot(report: CostReport) -> Table:
    spot = report.spot
    if spot is None:
        return Table("spot", "Spot", "", (), [])
    names = {
        "spot machines, paid": "paid_usd",
        "of these, price on demand not known": "unknown_paid_usd",
        "the others on demand": "on_demand_usd",
        "saving": "saving_usd",
        "lost with their machine, paid": "lost_usd",
        "the same on demand, where it would not have been needed": "lost_on_demand_usd",
        "net saving": "net_saving_usd",
    }
    amounts = column_of_usd([spot[name] for name in names.values()])
    rows: list[tuple[str, ...]] = list(zip(names, amounts, strict=True))
    return Table("spot", "Spot savings", f"{spot_line(spot)}.", ("", "USD"), rows)


def _what_if(report: CostReport) -> Table:
    rows = report.what_if
    return Table(
        "what-if",
        "At other prices",
        f"{what_if_line(rows, report.totals)}." if rows else "",
        ("machine", "market", "hours", "bill now", "then", "carried now", "then"),
        [
            (_name(row["node_type"]), _name(row["market"]), hours(row["node_hours"]), *amounts)
            for row, amounts in zip(
                rows, in_columns(rows, ("now_usd", "then_usd", "now_carried_usd", "then_carried_usd")), strict=True
            )
        ],
    )


def _failures(report: CostReport) -> Table:
    shown, more = _cut(report.failures, "failures.csv")
    return Table(
        "failures",
        "Failures by reason",
        "Rows without a track. failures.csv has each of them, with what is to be mended.",
        ("reason", "stage", "may succeed later", "rows", "example"),
        [
            (
                row["reason"],
                row["stage"],
                "yes" if row["transient"] else "no",
                f"{row['rows']:,}",
                printable(row["example"], PROMPT_CHARACTERS),
            )
            for row in shown
        ],
        words=frozenset({4}),
        more=more,
    )


def _withdrawn(report: CostReport) -> Table:
    shown, more = _cut(report.withdrawn, "")
    return Table(
        "withdrawn",
        "Withdrawn tracks by reason",
        "They were paid for and do not stand. A cost per kept track leaves them out.",
        ("reason", "carried", "tracks", "of these rendered"),
        [
            (_name(row["reason"]), amount, f"{row['tracks']:,}", f"{row['rendered']:,}")
            for row, amount in zip(shown, column_of_usd([row["carried_usd"] for row in shown]), strict=True)
        ],
        more=more,
    )


def _dearest(report: CostReport) -> Table:
    rows = report.dearest
    amounts = column_of_usd([row["carried_usd"] for row in rows])
    return Table(
        "dearest",
        "Dearest tracks",
        "",
        ("title", "carried", "style", "model", "length", "device seconds", "prompt"),
        [
            (
                _name(row["title"] or "(no title)"),
                amount,
                _name(row["style"] or "–"),
                _name(row["model"]),
                f"{row['duration_s']:,.1f} s",
                f"{row['device_seconds']:,.2f}",
                printable(row["prompt"], PROMPT_CHARACTERS),
            )
            for row, amount in zip(rows, amounts, strict=True)
        ],
        words=frozenset({6}),
    )


def _bills(rows: Sequence[Mapping[str, Any]], *more: str) -> list[list[str]]:
    return in_columns(rows, (*BILL, *more))


def _cut(
    rows: Sequence[Mapping[str, Any]], file: str, longest: int = MAX_ROWS
) -> tuple[Sequence[Mapping[str, Any]], str]:
    """The first rows, and what to say of the others."""
    left = len(rows) - longest
    return rows[:longest], f"{left:,} more{f' in {file}' if file else ''}" if left > 0 else ""


def _name(text: str) -> str:
    return printable(text, NAME_CHARACTERS)
