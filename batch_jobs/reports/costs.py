"""What a ledger cost, asked of its Parquet with DuckDB: figures by dimension, the bill, waste, spot, other prices.

A track that was stored already is delivered but not paid for. So the cost per track is what everything cost, divided by
the tracks that were rendered, not by those that were delivered.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import duckdb
import pyarrow as pa

from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.ledger.snapshot import Snapshot
from batch_jobs.ledger.tables import PREEMPTED, STOPPED, TRACK
from orchestrion.errors import InvalidRequest, NotFound, Problem

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
#: What a row's money is made of, and its sum.
MONEY: Final = ("render_usd", "waste_usd", "idle_usd", "total_usd")
#: Points in the page's plots: more would make it slow to open and no clearer.
MAX_POINTS: Final = 1500
DEAREST_TRACKS: Final = 12
#: Of failures, what somebody needs who mends a catalog.
FAILED_ROWS_SCHEMA: Final = pa.schema(
    [
        ("job_id", pa.string()),
        ("line", pa.int64()),
        *((name, pa.string()) for name in ("row_id", "title", "requested_by", "reason", "stage", "message")),
        ("transient", pa.bool_()),
    ]
)
ROWS_AT_A_TIME: Final = 8_192

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
    #: job_id, tracks_usd, unallocated_usd, nodes_usd, difference_usd; a job that was never settled is not in it.
    reconciliation: list[dict[str, Any]]
    #: ended, reason, tries, device_seconds, cost_usd; dearest first.
    waste: list[dict[str, Any]]
    #: Each machine of each run, with its hours, its bill and what it would have cost on demand (None: not known).
    nodes: list[dict[str, Any]]
    #: The same machines summed by node type and market.
    node_types: list[dict[str, Any]]
    #: What spot machines saved; None if there were none. A figure of it is None if no price on demand is known.
    spot: dict[str, Any] | None
    #: The node types at other prices; empty if not asked for.
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


def open_ledger(
    url: str, storage_options: Mapping[str, Any], snapshot: Snapshot | None = None
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the views `tracks`, `failures`, `attempts` and `nodes` over a ledger's Parquet.

    Args:
        url: the `out` of catalog jobs.
        storage_options: for fsspec.
        snapshot: the state to read; the newest if None.

    Raises:
        NotFound: there is no ledger at `url`.
    """
    snapshot = snapshot or read_snapshot(url, storage_options)
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
    snapshot: Snapshot | None = None,
) -> CostReport:
    """Query a ledger.

    Args:
        url: the `out` of catalog jobs.
        storage_options: for fsspec.
        job_id: only this job's rows; every job's if None.
        what_if: other prices to hold against the bill.
        snapshot: the state to read; the newest if None.

    Raises:
        NotFound: there is no ledger at `url`, or no such job in it.
        InvalidRequest: `what_if` lacks a price of a machine in the ledger, or names one that is not in it.
    """
    with open_ledger(url, storage_options or {}, snapshot) as connection:
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


def failed_rows(
    url: str, storage_options: Mapping[str, Any], job_id: str | None, snapshot: Snapshot
) -> Iterator[pa.RecordBatch]:
    """The rows that failed, of `FAILED_ROWS_SCHEMA`, in the order of their catalogs: of one job, or of all if None."""
    columns = ", ".join(FAILED_ROWS_SCHEMA.names)
    with open_ledger(url, storage_options, snapshot) as connection:
        rows = connection.sql(
            f"SELECT {columns} FROM failures WHERE $job IS NULL OR job_id = $job ORDER BY job_id, line",  # noqa: S608
            params={"job": job_id},
        )
        for batch in rows.to_arrow_reader(ROWS_AT_A_TIME):
            yield batch.cast(FAILED_ROWS_SCHEMA)


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
    """What spot machines saved, from the sums over them and over the attempts that were lost with them.

    An attempt that was lost would not have been needed on demand, where no machine is taken away: its seconds are
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
