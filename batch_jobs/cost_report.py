"""What a ledger cost: `python -m batch_jobs.cost_report --ledger out/catalog --report out/report`.

Reads the Parquet of catalog jobs with DuckDB and writes tables to the terminal, to CSV and Parquet, and one HTML page
that needs nothing else. The surprising thing: a track that was there already is delivered but not paid, so a cost per
track is what everything cost divided by the tracks that were rendered, not by those that were delivered.

Exit codes: 0 the report is written · 2 there is nothing to report on, or a price is missing.
"""

from __future__ import annotations

import argparse
import json
import math
import operator
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from batch_jobs.ledger import ledger_dataset, read_snapshot
from batch_jobs.report_page import report_page
from batch_jobs.report_words import cents, reconciled, spot_line, unshared, usd, waste_cause, what_if_line
from batch_jobs.tables import PREEMPTED, STOPPED, TRACK
from orchestrion.cost import PriceTable
from orchestrion.errors import InvalidRequest, NotFound, OrchestrionError, Problem

#: What the money can be split by → the columns of `tracks` and of `failures` that say it (None: failures do not know).
DIMENSIONS: Final[dict[str, tuple[str, str | None]]] = {
    "model": ("model", "model"),
    "style": ("style", "style"),
    "pool": ("pool", None),
    "market": ("market", None),
    "requester": ("requested_by", "requested_by"),
    "day": ("CAST(day AS VARCHAR)", "CAST(day AS VARCHAR)"),
    "job": ("job_id", "job_id"),
}
#: Points in the page's plots: more would make it slow to open and no clearer.
MAX_POINTS: Final = 1500
DEAREST_TRACKS: Final = 12
#: Rows of one table on a terminal; the files have all of them.
MAX_TERMINAL_ROWS: Final = 40

_CHOSEN_TRACKS: Final = """
    SELECT job_id, track_id, title, prompt, style, model, pool, market, requested_by, day, cache_hit, duration_s,
           device_seconds, cost_usd, charged_usd AS render_usd, coalesce(waste_usd, 0) AS waste_usd,
           coalesce(idle_usd, 0) AS idle_usd, coalesce(total_usd, charged_usd) AS total_usd,
           total_usd IS NOT NULL AS has_shares
    FROM tracks
"""
# fsum is DuckDB's Kahan sum: a plain one drifts with the order in which threads finish.
_FIGURES: Final = """
    count(*) AS tracks,
    count(*) FILTER (NOT cache_hit) AS rendered,
    count(*) FILTER (cache_hit) AS cache_hits,
    coalesce(fsum(duration_s), 0) / 60 AS audio_minutes,
    coalesce(fsum(device_seconds) FILTER (NOT cache_hit), 0) AS device_seconds,
    coalesce(fsum(render_usd), 0) AS render_usd,
    coalesce(fsum(waste_usd), 0) AS waste_usd,
    coalesce(fsum(idle_usd), 0) AS idle_usd,
    coalesce(fsum(total_usd), 0) AS total_usd,
    fsum(total_usd) / nullif(count(*) FILTER (NOT cache_hit), 0) AS cost_per_track_usd,
    fsum(total_usd) / nullif(fsum(duration_s / 60) FILTER (NOT cache_hit), 0) AS cost_per_audio_minute_usd,
    coalesce(fsum(cost_usd) FILTER (cache_hit), 0) AS saved_usd
"""
_TOTALS: Final = f"""
    SELECT {_FIGURES}, count(*) FILTER (NOT has_shares AND NOT cache_hit) AS unshared_tracks,
           coalesce(fsum(render_usd) FILTER (NOT has_shares), 0) AS unshared_usd
    FROM chosen_tracks
"""  # noqa: S608
_RECONCILIATION: Final = """
    WITH shared AS (SELECT job_id, fsum(total_usd) AS tracks_usd FROM chosen_tracks WHERE has_shares GROUP BY 1),
         bill AS (SELECT job_id, fsum(cost_usd) AS nodes_usd, fsum(unallocated_usd) AS unallocated_usd
                  FROM chosen_nodes GROUP BY 1)
    SELECT job_id, coalesce(tracks_usd, 0) AS tracks_usd, coalesce(unallocated_usd, 0) AS unallocated_usd,
           coalesce(nodes_usd, 0) AS nodes_usd
    FROM shared FULL JOIN bill USING (job_id) ORDER BY nodes_usd DESC, job_id
"""
_WASTE: Final = f"""
    SELECT ended, reason, count(*) AS tries, coalesce(fsum(device_seconds), 0) AS device_seconds,
           coalesce(fsum(cost_usd), 0) AS cost_usd
    FROM chosen_attempts WHERE ended <> '{TRACK}' GROUP BY ALL ORDER BY cost_usd DESC, ended, reason
"""  # noqa: S608
# The bill divided by the price is the hours that were paid, whatever the clocks say.
_NODES: Final = """
    SELECT job_id, run_id, node_id, node_type, market, device, devices, workers,
           up_from AT TIME ZONE 'UTC' AS up_from, up_to AT TIME ZONE 'UTC' AS up_to,
           cost_usd / usd_per_node_hour AS node_hours, usd_per_node_hour, on_demand_usd_per_node_hour, price_source,
           reserved_device_seconds, cost_usd, unallocated_usd,
           cost_usd / usd_per_node_hour * on_demand_usd_per_node_hour AS on_demand_usd
    FROM chosen_nodes ORDER BY cost_usd DESC, job_id, run_id, node_id
"""
_NODE_TYPES: Final = """
    SELECT node_type, market, count(DISTINCT node_id) AS nodes, fsum(cost_usd / usd_per_node_hour) AS node_hours,
           fsum(cost_usd) AS cost_usd, fsum(unallocated_usd) AS unallocated_usd
    FROM chosen_nodes GROUP BY ALL ORDER BY cost_usd DESC, node_type, market
"""
_SPOT: Final = """
    SELECT count(DISTINCT node_id) AS nodes, coalesce(fsum(cost_usd / usd_per_node_hour), 0) AS node_hours,
           coalesce(fsum(cost_usd), 0) AS paid_usd,
           coalesce(fsum(cost_usd) FILTER (on_demand_usd_per_node_hour IS NULL), 0) AS unknown_paid_usd,
           fsum(cost_usd / usd_per_node_hour * on_demand_usd_per_node_hour) AS on_demand_usd
    FROM chosen_nodes WHERE market = 'spot'
"""
# Of machines whose price on demand is known: only they have a saving that this can be held against.
_LOST_ON_SPOT: Final = f"""
    WITH ratios AS (SELECT job_id, run_id, node_id, any_value(on_demand_usd_per_node_hour / usd_per_node_hour) AS ratio
                    FROM chosen_nodes WHERE market = 'spot' GROUP BY ALL)
    SELECT count(*) AS lost_tries, coalesce(fsum(cost_usd), 0) AS lost_usd,
           coalesce(fsum(cost_usd * ratio), 0) AS lost_on_demand_usd
    FROM chosen_attempts JOIN ratios USING (job_id, run_id, node_id)
    WHERE market = 'spot' AND ended IN ('{PREEMPTED}', '{STOPPED}') AND ratio IS NOT NULL
"""  # noqa: S608

#: Prices of other machines or times: USD per hour of a whole node, by node type and market.
Prices = Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Other prices to hold against the bill.

    `table` names a price for everything in the ledger; `changes` stand above it, or above what was paid.
    """

    changes: Prices = field(default_factory=dict)
    table: Prices | None = None


@dataclass(frozen=True, slots=True)
class CostReport:
    """The answers, as rows. Money is in USD; a cost per track or minute is None where nothing was rendered."""

    ledger: str
    jobs: int
    totals: dict[str, Any]
    #: One row for each value of each dimension: dimension, value, failures and the figures of `totals`.
    breakdown: list[dict[str, Any]]
    #: job_id, tracks_usd, unallocated_usd, nodes_usd, difference_usd; a job whose books are not closed is not in it.
    reconciliation: list[dict[str, Any]]
    #: ended, reason, tries, device_seconds, cost_usd; dearest first.
    waste: list[dict[str, Any]]
    #: Each machine of each run, with its hours, its bill and what it would have cost on demand (None: not known).
    nodes: list[dict[str, Any]]
    #: The same machines summed by node type and market.
    node_types: list[dict[str, Any]]
    #: What spot machines saved; None if there were none. A figure of it is None if no price on demand is known.
    spot: dict[str, Any] | None
    #: The node types at other prices; empty if nobody asked.
    what_if: list[dict[str, Any]]
    #: reason, stage, transient, rows; most frequent first.
    failures: list[dict[str, Any]]
    #: A sample of rendered tracks: style, duration_s, device_seconds, total_usd.
    points: list[dict[str, Any]]
    #: Tracks that cost most: title, prompt, style, model, duration_s, device_seconds, total_usd.
    dearest: list[dict[str, Any]]

    def by(self, dimension: str) -> list[dict[str, Any]]:
        """The rows of one dimension, dearest first."""
        return [row for row in self.breakdown if row["dimension"] == dimension]


def open_ledger(url: str, storage_options: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the views `tracks`, `failures`, `attempts` and `nodes` over a ledger's Parquet.

    Raises:
        NotFound: there is no ledger at `url`.
    """
    snapshot = read_snapshot(url, storage_options)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for name in snapshot.tables:
        connection.register(name, ledger_dataset(url, storage_options, name, snapshot))
    return connection


def cost_report(
    url: str,
    storage_options: Mapping[str, Any] | None = None,
    job_id: str | None = None,
    what_if: WhatIf | None = None,
) -> CostReport:
    """Query a ledger.

    Args:
        url: the `out` of catalog jobs.
        storage_options: for fsspec.
        job_id: only this job's rows; every job's if None.
        what_if: other prices to hold against the bill.

    Raises:
        NotFound: there is no ledger at `url`, or no such job in it.
        InvalidRequest: `what_if` lacks a price of a machine in the ledger, or names one that is not in it.
    """
    with open_ledger(url, storage_options or {}) as connection:
        wanted = "true" if job_id is None else "job_id = $job"
        for name, rows in (("tracks", _CHOSEN_TRACKS), *((n, f"FROM {n}") for n in ("failures", "attempts", "nodes"))):
            connection.execute(
                f"CREATE TEMP TABLE chosen_{name} AS {rows} WHERE {wanted}",
                {} if job_id is None else {"job": job_id},
            )
        jobs = _rows(
            connection,
            "SELECT count(*) AS jobs FROM (SELECT job_id FROM chosen_tracks UNION SELECT job_id FROM chosen_failures "
            "UNION SELECT job_id FROM chosen_nodes)",
        )[0]["jobs"]
        if job_id is not None and jobs == 0:
            raise NotFound(f"there is no job {job_id} in the ledger {url}")
        failed = _rows(connection, "SELECT count(*) AS failures FROM chosen_failures")[0]
        reconciliation = _rows(connection, _RECONCILIATION)
        for row in reconciliation:
            row["difference_usd"] = row["tracks_usd"] + row["unallocated_usd"] - row["nodes_usd"]
        bill = {
            name: math.fsum(row[name] for row in reconciliation)
            for name in ("tracks_usd", "unallocated_usd", "nodes_usd")
        }
        bill["difference_usd"] = bill["tracks_usd"] + bill["unallocated_usd"] - bill["nodes_usd"]
        nodes = _rows(connection, _NODES)
        return CostReport(
            ledger=url,
            jobs=jobs,
            totals=_rows(connection, _TOTALS)[0] | failed | bill,
            breakdown=[row for name in DIMENSIONS for row in _breakdown(connection, name)],
            reconciliation=reconciliation,
            waste=_rows(connection, _WASTE),
            nodes=nodes,
            node_types=_rows(connection, _NODE_TYPES),
            spot=spot_savings(_rows(connection, _SPOT)[0], _rows(connection, _LOST_ON_SPOT)[0]),
            what_if=repriced(nodes, what_if) if what_if else [],
            failures=_rows(
                connection,
                "SELECT reason, stage, transient, count(*) AS rows, min(message) AS example FROM chosen_failures "
                "GROUP BY ALL ORDER BY rows DESC, reason, stage",
            ),
            points=_rows(
                connection,
                "SELECT coalesce(style, '(model chose)') AS style, duration_s, device_seconds, total_usd "
                "FROM chosen_tracks WHERE NOT cache_hit ORDER BY hash(track_id) LIMIT $limit",
                limit=MAX_POINTS,
            ),
            dearest=_rows(
                connection,
                "SELECT title, prompt, style, model, duration_s, device_seconds, total_usd FROM chosen_tracks "
                "WHERE NOT cache_hit ORDER BY total_usd DESC, track_id LIMIT $limit",
                limit=DEAREST_TRACKS,
            ),
        )


def _breakdown(connection: duckdb.DuckDBPyConnection, dimension: str) -> list[dict[str, Any]]:
    in_tracks, in_failures = DIMENSIONS[dimension]
    unknown = "(not given)"
    failed = "SELECT NULL::VARCHAR AS value, NULL::BIGINT AS failures WHERE false"
    if in_failures is not None:
        failed = f"SELECT coalesce({in_failures}, '{unknown}') AS value, count(*) AS failures FROM chosen_failures GROUP BY 1"  # noqa: E501, S608
    # Only constants of this file are put into the query.
    query = f"""
        WITH paid AS (SELECT coalesce({in_tracks}, '{unknown}') AS value, {_FIGURES} FROM chosen_tracks GROUP BY 1),
             failed AS ({failed})
        SELECT '{dimension}' AS dimension, value, coalesce(tracks, 0) AS tracks, coalesce(rendered, 0) AS rendered,
               coalesce(cache_hits, 0) AS cache_hits, {"coalesce(failures, 0)" if in_failures else "NULL"} AS failures,
               coalesce(audio_minutes, 0) AS audio_minutes, coalesce(device_seconds, 0) AS device_seconds,
               coalesce(render_usd, 0) AS render_usd, coalesce(waste_usd, 0) AS waste_usd,
               coalesce(idle_usd, 0) AS idle_usd, coalesce(total_usd, 0) AS total_usd,
               cost_per_track_usd, cost_per_audio_minute_usd, coalesce(saved_usd, 0) AS saved_usd
        FROM paid FULL JOIN failed USING (value)
        ORDER BY total_usd DESC, value
        """  # noqa: S608
    return _rows(connection, query)


def _rows(connection: duckdb.DuckDBPyConnection, query: str, **parameters: object) -> list[dict[str, Any]]:
    result = connection.execute(query, parameters)
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def spot_savings(nodes: Mapping[str, Any], lost: Mapping[str, Any]) -> dict[str, Any] | None:
    """What spot machines saved, from the sums over them and over the tries that were lost with them.

    A try that was lost would not have been needed on demand, where nobody takes the machine away: its seconds are
    taken off the comparison at the price on demand.

    Returns:
        None without spot machines; sums of money that need an unknown price are None.
    """
    if not nodes["nodes"]:
        return None
    savings = {**nodes, **lost, "saving_usd": None, "net_saving_usd": None}
    if nodes["on_demand_usd"] is not None:
        savings["saving_usd"] = nodes["on_demand_usd"] - (nodes["paid_usd"] - nodes["unknown_paid_usd"])
        savings["net_saving_usd"] = savings["saving_usd"] - lost["lost_on_demand_usd"]
    return savings


def repriced(nodes: Sequence[Mapping[str, Any]], what_if: WhatIf) -> list[dict[str, Any]]:
    """The bill at other prices, by node type and market.

    Args:
        nodes: rows with node_type, market, node_hours, usd_per_node_hour, cost_usd and unallocated_usd.
        what_if: the prices.

    Raises:
        InvalidRequest: a price is missing, or one is for a machine that is not in the ledger.
    """
    used = {(row["node_type"], row["market"]) for row in nodes}
    problems = [
        Problem("--what-if", f"{node_type}={market}", f"is not in this ledger, which has {_pairs(used)}")
        for node_type, market in sorted(set(what_if.changes) - used)
    ]
    prices = dict(what_if.changes)
    if what_if.table is not None:
        prices = {**what_if.table, **what_if.changes}
        problems += [
            Problem("--prices", f"{node_type}={market}", "has no price; add it to the table or give it with --what-if")
            for node_type, market in sorted(used - set(prices))
        ]
    if problems:
        raise InvalidRequest(problems)
    rows = []
    for pair in sorted(used):
        same = [row for row in nodes if (row["node_type"], row["market"]) == pair]
        # The same machine may have had several prices over time: each row is scaled from its own.
        factors = [prices.get(pair, row["usd_per_node_hour"]) / row["usd_per_node_hour"] for row in same]
        paid = [row["cost_usd"] for row in same]
        of_tracks = [row["cost_usd"] - row["unallocated_usd"] for row in same]
        rows.append(
            {
                "node_type": pair[0],
                "market": pair[1],
                "node_hours": math.fsum(row["node_hours"] for row in same),
                "now_usd": math.fsum(paid),
                "then_usd": math.fsum(map(operator.mul, paid, factors)),
                "now_tracks_usd": math.fsum(of_tracks),
                "then_tracks_usd": math.fsum(map(operator.mul, of_tracks, factors)),
            }
        )
    return sorted(rows, key=lambda row: -row["now_usd"])


def _pairs(pairs: set[tuple[str, str]]) -> str:
    return ", ".join(f"{node_type}={market}" for node_type, market in sorted(pairs)) or "no machines"


# Output

_INTEGERS: Final = ("tracks", "rendered", "cache_hits", "failures")
_MONEY: Final = ("render_usd", "waste_usd", "idle_usd", "total_usd")
_BREAKDOWN_SCHEMA: Final = pa.schema(
    [
        ("dimension", pa.string()),
        ("value", pa.string()),
        *((name, pa.int64()) for name in _INTEGERS),
        *(
            (name, pa.float64())
            for name in (
                "audio_minutes",
                "device_seconds",
                *_MONEY,
                "cost_per_track_usd",
                "cost_per_audio_minute_usd",
                "saved_usd",
            )
        ),
    ]
)
_WASTE_SCHEMA: Final = pa.schema(
    [
        ("ended", pa.string()),
        ("reason", pa.string()),
        ("tries", pa.int64()),
        ("device_seconds", pa.float64()),
        ("cost_usd", pa.float64()),
    ]
)
_MOMENT: Final = pa.timestamp("us", tz="UTC")
_NODES_SCHEMA: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("job_id", "run_id", "node_id", "node_type", "market", "device")),
        ("devices", pa.int64()),
        ("workers", pa.int64()),
        ("up_from", _MOMENT),
        ("up_to", _MOMENT),
        *((name, pa.float64()) for name in ("node_hours", "usd_per_node_hour", "on_demand_usd_per_node_hour")),
        ("price_source", pa.string()),
        *((name, pa.float64()) for name in ("reserved_device_seconds", "cost_usd", "unallocated_usd", "on_demand_usd")),
    ]
)
_FAILURES_SCHEMA: Final = pa.schema(
    [("reason", pa.string()), ("stage", pa.string()), ("transient", pa.bool_()), ("rows", pa.int64())]
)


def write_report(
    url: str,
    folder: Path,
    console: Console,
    storage_options: Mapping[str, Any] | None = None,
    job_id: str | None = None,
    what_if: WhatIf | None = None,
) -> Path:
    """Query a ledger, print the tables and write the files of the report to `folder`.

    These are costs.csv, costs.parquet, waste.csv, nodes.csv, failures.csv and index.html.

    Returns:
        The path of the page.

    Raises:
        NotFound: there is no ledger at `url`, or no such job in it.
        InvalidRequest: `what_if` does not fit the ledger.
    """
    report = cost_report(url, storage_options, job_id, what_if)
    print_report(report, console)
    folder.mkdir(parents=True, exist_ok=True)
    breakdown = pa.Table.from_pylist(report.breakdown, schema=_BREAKDOWN_SCHEMA)
    pq.write_table(breakdown, folder / "costs.parquet")
    for name, rows, schema in (
        ("costs", report.breakdown, _BREAKDOWN_SCHEMA),
        ("waste", report.waste, _WASTE_SCHEMA),
        ("nodes", report.nodes, _NODES_SCHEMA),
        ("failures", report.failures, _FAILURES_SCHEMA),
    ):
        pa_csv.write_csv(pa.Table.from_pylist(rows, schema=schema), folder / f"{name}.csv")
    page = folder / "index.html"
    page.write_text(report_page(report), encoding="utf-8")
    return page


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
        console.print(
            _table(
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
                console.width - 52,
            )
        )
    if report.waste:
        console.print(
            _table(
                "tries that gave no track",
                ("cause", "tries", "device-seconds", "cost"),
                [
                    (waste_cause(row), str(row["tries"]), f"{row['device_seconds']:.1f}", usd(row["cost_usd"]))
                    for row in report.waste
                ],
                console.width - 40,
            )
        )
    if report.spot:
        console.print(Text(spot_line(report.spot)))
    if report.what_if:
        console.print(
            _table(
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
                console.width - 40,
            )
        )
        console.print(Text(what_if_line(report.what_if, report.totals)))
    if report.failures:
        console.print(
            _table(
                "failures",
                ("reason", "stage", "transient", "rows"),
                [
                    (row["reason"], row["stage"], "yes" if row["transient"] else "no", str(row["rows"]))
                    for row in report.failures
                ],
                console.width - 40,
            )
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
                *(usd(row[name]) for name in (*_MONEY, "cost_per_track_usd")),
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring for the exit codes."""
    parser = argparse.ArgumentParser(prog="python -m batch_jobs.cost_report", description="Say what a ledger cost.")
    parser.add_argument("--ledger", required=True, help="the --out of render_catalog; a folder or fsspec URL")
    parser.add_argument(
        "--report", type=Path, default=Path("out/report"), help="folder to write (default: %(default)s)"
    )
    parser.add_argument("--job", help="only this job (default: every job in the ledger)")
    parser.add_argument(
        "--what-if",
        action="append",
        type=_changed_price,
        default=[],
        metavar="TYPE=MARKET:USD",
        help="show the bill with another price per node-hour, e.g. g5.xlarge=spot:0.30; repeat for more",
    )
    parser.add_argument("--prices", help="show the bill with the prices of this table (YAML, like prices.yaml)")
    parser.add_argument("--storage-options", type=json.loads, default={}, help="JSON for fsspec")
    arguments = parser.parse_args(argv)
    console = Console()
    try:
        what_if = None
        if arguments.what_if or arguments.prices:
            table = PriceTable.load(arguments.prices).usd_per_node_hour() if arguments.prices else None
            what_if = WhatIf(dict(arguments.what_if), table)
        page = write_report(
            arguments.ledger, arguments.report, console, arguments.storage_options, arguments.job, what_if
        )
    except OrchestrionError as error:
        sys.stderr.write(f"cost_report: {error}\n")
        return 2
    written = f"written: {page}, costs.csv, costs.parquet, waste.csv, nodes.csv, failures.csv"
    console.print(Text(written), soft_wrap=True)
    return 0


def _changed_price(text: str) -> tuple[tuple[str, str], float]:
    node_type, equals, rest = text.partition("=")
    market, colon, amount = rest.rpartition(":")
    try:
        price = float(amount)
    except ValueError:
        price = math.nan
    if not (node_type and equals and market and colon and math.isfinite(price) and price > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not TYPE=MARKET:USD, for example g5.xlarge=spot:0.30")
    return (node_type, market), price


if __name__ == "__main__":
    sys.exit(main())
