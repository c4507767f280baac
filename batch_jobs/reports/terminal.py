"""The cost report as tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from batch_jobs.formatting import (
    column_of_usd,
    counted,
    in_columns,
    printable,
    reconciled,
    spot_line,
    unshared,
    usd,
    waste_cause,
    what_if_line,
)
from batch_jobs.reports.costs import BILL, DIMENSIONS, MONEY, CostReport
from batch_jobs.reports.headline import headline

#: Rows of one table on a terminal; the files have all of them.
MAX_TERMINAL_ROWS: Final = 40


def print_report(report: CostReport, console: Console) -> None:
    """The headline and the tables on a terminal."""
    totals = report.totals
    figures = headline(report).figures()
    word_width, shown_width = (max(len(getattr(figure, name)) for figure in figures) for name in ("word", "shown"))
    render, waste, idle, carried = column_of_usd([totals[name] for name in MONEY])
    lines = [
        *(f"{figure.word:<{word_width}}  {figure.shown:>{shown_width}}  {figure.note}" for figure in figures),
        "",
        f"{counted(totals['tracks'], 'track')} ({totals['rendered']:,} rendered, {totals['cache_hits']:,} cached), "
        f"{counted(totals['failures'], 'failure')}, {totals['audio_minutes']:,.1f} min of audio, "
        f"{totals['device_seconds']:,.1f} device seconds; carried {carried} is {render} render, {waste} waste, "
        f"{idle} idle; "
        f"the cache saved {usd(totals['saved_usd'])}",
        *([reconciled(totals)] if report.nodes else []),
        *([unshared(totals)] if totals["unshared_tracks"] else []),
    ]
    for line in lines:
        console.print(Text(line))
    for dimension in DIMENSIONS:
        rows = report.by(dimension)
        if dimension == "day":
            rows = sorted(rows, key=lambda row: row["value"], reverse=True)
        if rows:
            console.print(_breakdown_table(dimension, rows, console.width))
    if len(report.reconciliation) > 1:
        console.print(_bill_table("the bill of each job", "job", "job_id", report.reconciliation, console.width))
    if len(report.machines) > 1:
        console.print(_bill_table("the bill of each machine", "machine", "machine", report.machines, console.width))
    if report.waste:
        console.print(_waste_table(report, console.width))
    if report.spot:
        console.print(Text(spot_line(report.spot)))
    if report.what_if:
        console.print(_what_if_table(report, console.width))
        console.print(Text(what_if_line(report.what_if, report.totals)))
    if report.failures:
        console.print(_failures_table(report, console.width))


def _bill_table(title: str, word: str, name: str, rows: Sequence[Mapping[str, Any]], console_width: int) -> Table:
    amounts = in_columns(rows, BILL)
    return _table(
        title,
        (word, "bill", "carried", "unallocated"),
        [(row[name], *shown) for row, shown in zip(rows, amounts, strict=True)],
        console_width - 40,
    )


def _waste_table(report: CostReport, console_width: int) -> Table:
    costs = column_of_usd([row["cost_usd"] for row in report.waste])
    return _table(
        "attempts that gave no track",
        ("cause", "attempts", "device seconds", "cost"),
        [
            (waste_cause(row), f"{row['tries']:,}", f"{row['device_seconds']:,.1f}", cost)
            for row, cost in zip(report.waste, costs, strict=True)
        ],
        console_width - 43,
    )


def _what_if_table(report: CostReport, console_width: int) -> Table:
    amounts = in_columns(report.what_if, ("now_usd", "then_usd"))
    return _table(
        "at other prices",
        ("machine", "hours", "bill now", "then"),
        [
            (f"{row['node_type']} {row['market']}", f"{row['node_hours']:,.2f}", *shown)
            for row, shown in zip(report.what_if, amounts, strict=True)
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
    amounts = in_columns(rows, ("carried_usd",), ("carried_per_track_usd",), ("carried_per_audio_minute_usd",))
    return _table(
        f"by {dimension}",
        (dimension, "tracks", "failed", "carried", "per track", "per audio minute"),
        [
            (
                row["value"],
                f"{row['tracks']:,}",
                "–" if row["failures"] is None else f"{row['failures']:,}",
                *shown,
            )
            for row, shown in zip(rows, amounts, strict=True)
        ],
        console_width - 62,
    )


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], label_width: int) -> Table:
    """The first column is cut where the others need the room: never money."""
    table = Table(title=title, box=box.SIMPLE, title_justify="left", padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(headings[0], no_wrap=True, overflow="ellipsis", max_width=max(10, label_width))
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows[:MAX_TERMINAL_ROWS]:
        # Names come from catalogs: no markup, and no control characters for the terminal to obey.
        table.add_row(Text(printable(row[0])), *row[1:])
    if len(rows) > MAX_TERMINAL_ROWS:
        table.add_row(f"{len(rows) - MAX_TERMINAL_ROWS} more, in the files")
    return table
