"""The cost report as tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from batch_jobs.formatting import cents, reconciled, spot_line, unshared, usd, waste_cause, what_if_line
from batch_jobs.reports.costs import DIMENSIONS, MONEY, CostReport

#: Rows of one table on a terminal; the files have all of them.
MAX_TERMINAL_ROWS: Final = 40


def print_report(report: CostReport, console: Console) -> None:
    """The tables on a terminal."""
    totals = report.totals
    lines = [
        f"{totals['tracks']} tracks ({totals['rendered']} rendered, {totals['cache_hits']} cached), "
        f"{totals['failures']} failures, {totals['audio_minutes']:.1f} min of audio, "
        f"{totals['device_seconds']:.1f} device-seconds: {usd(totals['total_usd'])} "
        f"({usd(totals['render_usd'])} render, {usd(totals['waste_usd'])} waste, {usd(totals['idle_usd'])} idle); "
        f"the cache saved {usd(totals['saved_usd'])}",
        *([reconciled(totals)] if report.nodes else []),
        *([unshared(totals)] if totals["unshared_tracks"] else []),
    ]
    for line in lines:
        console.print(Text(line))
    for dimension in DIMENSIONS:
        rows = report.by(dimension)
        if rows:
            console.print(_breakdown_table(dimension, rows, console.width))
    if len(report.reconciliation) > 1:
        console.print(_jobs_table(report, console.width))
    if report.waste:
        console.print(_waste_table(report, console.width))
    if report.spot:
        console.print(Text(spot_line(report.spot)))
    if report.what_if:
        console.print(_what_if_table(report, console.width))
        console.print(Text(what_if_line(report.what_if, report.totals)))
    if report.failures:
        console.print(_failures_table(report, console.width))


def _jobs_table(report: CostReport, console_width: int) -> Table:
    return _table(
        "the bill of each job",
        ("job", "tracks", "not charged", "machines", "difference"),
        [
            (
                row["job_id"],
                *(usd(row[name]) for name in ("tracks_usd", "unallocated_usd", "nodes_usd")),
                cents(row["difference_usd"]),
            )
            for row in report.reconciliation
        ],
        console_width - 52,
    )


def _waste_table(report: CostReport, console_width: int) -> Table:
    return _table(
        "attempts that gave no track",
        ("cause", "attempts", "device-seconds", "cost"),
        [
            (waste_cause(row), str(row["tries"]), f"{row['device_seconds']:.1f}", usd(row["cost_usd"]))
            for row in report.waste
        ],
        console_width - 43,
    )


def _what_if_table(report: CostReport, console_width: int) -> Table:
    return _table(
        "at other prices",
        ("machine", "hours", "now", "then"),
        [
            (
                f"{row['node_type']} {row['market']}",
                f"{row['node_hours']:.2f}",
                *(usd(row[name]) for name in ("now_usd", "then_usd")),
            )
            for row in report.what_if
        ],
        console_width - 40,
    )


def _failures_table(report: CostReport, console_width: int) -> Table:
    return _table(
        "failures",
        ("reason", "stage", "transient", "rows"),
        [
            (row["reason"], row["stage"], "yes" if row["transient"] else "no", str(row["rows"]))
            for row in report.failures
        ],
        console_width - 40,
    )


def _breakdown_table(dimension: str, rows: Sequence[Mapping[str, Any]], console_width: int) -> Table:
    """Fits into 80 columns; the files have every figure."""
    return _table(
        f"by {dimension}",
        (dimension, "tracks", "failed", "render", "waste", "idle", "total", "a track"),
        [
            (
                row["value"],
                str(row["tracks"]),
                "–" if row["failures"] is None else str(row["failures"]),
                *(usd(row[name]) for name in (*MONEY, "cost_per_track_usd")),
            )
            for row in rows
        ],
        console_width - 70,
    )


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], label_width: int) -> Table:
    """The first column is cut where the others need the room: never money."""
    table = Table(title=title, box=box.SIMPLE, title_justify="left", padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(headings[0], no_wrap=True, overflow="ellipsis", max_width=max(10, label_width))
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows[:MAX_TERMINAL_ROWS]:
        # Names come from catalogs: no markup, and no control characters for the terminal to obey.
        label = "".join(character if character.isprintable() else "�" for character in row[0])
        table.add_row(Text(label), *row[1:])
    if len(rows) > MAX_TERMINAL_ROWS:
        table.add_row(f"{len(rows) - MAX_TERMINAL_ROWS} more, in the files")
    return table
