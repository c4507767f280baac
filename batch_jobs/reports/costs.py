"""What a ledger cost, asked of its Parquet with DuckDB: figures by dimension, the bill, waste, spot, other prices.

Three words have one meaning in all forms of the report. The **bill** is what the machines cost; it is what tracks
**carry** (their own render, and their shares of waste and idle time) and what stays **unallocated**. A track that was
stored already is delivered but not paid for: every cost per track or minute is divided by what was rendered.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import duckdb
import pyarrow as pa

from batch_jobs.ledger.snapshot import Snapshot
from batch_jobs.ledger.tables import PREEMPTED, STOPPED, TRACK
from batch_jobs.reports.query import fetch, open_ledger
from batch_jobs.reports.trends import Trends, read_trends
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
    "run": ("run_id", "run_id"),
}
#: A value of a dimension that the ledger does not say.
NOT_GIVEN: Final = "(not given)"
#: What a row's money is made of, and its sum.
MONEY: Final = ("render_usd", "waste_usd", "idle_usd", "carried_usd")
#: The bill and its two parts.
BILL: Final = ("bill_usd", "carried_usd", "unallocated_usd")
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
           coalesce(idle_usd, 0) AS idle_usd, coalesce(total_usd, charged_usd) AS carried_usd,
           total_usd IS NOT NULL AS has_shares, withdrawn_at IS NOT NULL AS withdrawn, withdrawn_reason,
           run_id, settled_at
    FROM tracks
"""
# fsum is DuckDB's Kahan sum: a plain one drifts with the order in which threads finish.
_FIGURES: Final = """
    count(*) AS tracks,
    count(*) FILTER (NOT cache_hit) AS rendered,
    count(*) FILTER (cache_hit) AS cache_hits,
    coalesce(fsum(duration_s), 0) / 60 AS audio_minutes,
    coalesce(fsum(duration_s) FILTER (NOT cache_hit), 0) / 60 AS rendered_minutes,
    coalesce(fsum(device_seconds) FILTER (NOT cache_hit), 0) AS device_seconds,
    coalesce(fsum(render_usd), 0) AS render_usd,
    coalesce(fsum(waste_usd), 0) AS waste_usd,
    coalesce(fsum(idle_usd), 0) AS idle_usd,
    coalesce(fsum(carried_usd), 0) AS carried_usd,
    fsum(carried_usd) / nullif(count(*) FILTER (NOT cache_hit), 0) AS carried_per_track_usd,
    fsum(carried_usd) / nullif(fsum(duration_s / 60) FILTER (NOT cache_hit), 0) AS carried_per_audio_minute_usd,
    coalesce(fsum(cost_usd) FILTER (cache_hit), 0) AS saved_usd
"""
_TOTALS: Final = f"""
    SELECT {_FIGURES}, count(*) FILTER (NOT has_shares AND NOT cache_hit) AS unshared_tracks,
           coalesce(fsum(render_usd) FILTER (NOT has_shares), 0) AS unshared_usd,
           count(*) FILTER (has_shares AND NOT cache_hit) AS billed_tracks,
           coalesce(fsum(duration_s) FILTER (has_shares AND NOT cache_hit), 0) / 60 AS billed_minutes,
           count(*) FILTER (withdrawn AND NOT cache_hit) AS withdrawn_tracks,
           coalesce(fsum(carried_usd) FILTER (withdrawn), 0) AS withdrawn_usd,
           count(*) FILTER (has_shares AND NOT cache_hit AND NOT withdrawn) AS kept_tracks
    FROM chosen_tracks
"""  # noqa: S608
_RECONCILIATION: Final = """
    WITH shared AS (SELECT job_id, fsum(carried_usd) AS carried_usd FROM chosen_tracks WHERE has_shares GROUP BY 1),
         bill AS (SELECT job_id, fsum(cost_usd) AS bill_usd, fsum(unallocated_usd) AS unallocated_usd
                  FROM chosen_nodes GROUP BY 1)
    SELECT job_id, coalesce(bill_usd, 0) AS bill_usd, coalesce(carried_usd, 0) AS carried_usd,
           coalesce(unallocated_usd, 0) AS unallocated_usd
    FROM shared FULL JOIN bill USING (job_id) ORDER BY bill_usd DESC, job_id
"""
_WASTE: Final = f"""
    SELECT ended, reason, count(*) AS tries, coalesce(fsum(device_seconds), 0) AS device_seconds,
           coalesce(fsum(cost_usd), 0) AS cost_usd
    FROM chosen_attempts WHERE ended <> '{TRACK}' GROUP BY ALL ORDER BY cost_usd DESC, ended, reason
"""  # noqa: S608
# The bill divided by the price is the hours that were paid, whatever the clocks say.
_NODES: Final = """
    SELECT job_id, run_id, machine, node_id, node_type, market, device, devices, workers,
           up_from AT TIME ZONE 'UTC' AS up_from, up_to AT TIME ZONE 'UTC' AS up_to,
           cost_usd / usd_per_node_hour AS node_hours, usd_per_node_hour, on_demand_usd_per_node_hour, price_source,
           reserved_device_seconds, cost_usd, unallocated_usd,
           cost_usd / usd_per_node_hour * on_demand_usd_per_node_hour AS on_demand_usd
    FROM chosen_nodes ORDER BY cost_usd DESC, job_id, run_id, node_id
"""
_NODE_TYPES: Final = """
    SELECT node_type, market, count(DISTINCT machine) AS machines, fsum(cost_usd / usd_per_node_hour) AS node_hours,
           fsum(cost_usd) AS bill_usd, fsum(cost_usd - unallocated_usd) AS carried_usd,
           fsum(unallocated_usd) AS unallocated_usd
    FROM chosen_nodes GROUP BY ALL ORDER BY bill_usd DESC, node_type, market
"""
# A machine is one however many runs, jobs and processes it has worked for.
_MACHINES: Final = f"""
    WITH name AS (SELECT node_id, any_value(machine) AS machine FROM chosen_nodes GROUP BY 1),
         tried AS (SELECT machine, count(*) FILTER (ended = '{TRACK}') AS tracks,
                          coalesce(fsum(cost_usd) FILTER (ended <> '{TRACK}'), 0) AS lost_usd
                   FROM chosen_attempts JOIN name USING (node_id) GROUP BY 1),
         billed AS (SELECT machine, string_agg(DISTINCT node_type, ', ' ORDER BY node_type) AS node_type,
                            string_agg(DISTINCT market, ', ' ORDER BY market) AS market,
                            count(DISTINCT run_id) AS runs, min(up_from AT TIME ZONE 'UTC') AS up_from,
                            max(up_to AT TIME ZONE 'UTC') AS up_to,
                            fsum(cost_usd / usd_per_node_hour) AS node_hours, fsum(cost_usd) AS bill_usd,
                            fsum(cost_usd - unallocated_usd) AS carried_usd, fsum(unallocated_usd) AS unallocated_usd
                     FROM chosen_nodes GROUP BY 1)
    SELECT billed.*, coalesce(tracks, 0) AS tracks, coalesce(lost_usd, 0) AS lost_usd
    FROM billed LEFT JOIN tried USING (machine) ORDER BY bill_usd DESC, machine
"""  # noqa: S608
_RUNS: Final = """
    WITH settled AS (SELECT run_id, count(*) FILTER (NOT cache_hit) AS rendered FROM chosen_tracks GROUP BY 1),
         run AS (SELECT run_id, any_value(job_id) AS job_id, count(DISTINCT machine) AS machines,
                        min(up_from AT TIME ZONE 'UTC') AS up_from, max(up_to AT TIME ZONE 'UTC') AS up_to,
                        fsum(cost_usd / usd_per_node_hour) AS node_hours, fsum(cost_usd) AS bill_usd,
                        fsum(cost_usd - unallocated_usd) AS carried_usd, fsum(unallocated_usd) AS unallocated_usd
                 FROM chosen_nodes GROUP BY 1)
    SELECT run.*, coalesce(rendered, 0) AS rendered
    FROM run LEFT JOIN settled USING (run_id) ORDER BY up_from DESC, run_id
"""
_SPOT: Final = """
    SELECT count(DISTINCT machine) AS machines, coalesce(fsum(cost_usd / usd_per_node_hour), 0) AS node_hours,
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
    """The answers, as rows. Money is in USD; a cost per track or minute is None where nothing was rendered.

    `totals` has the sums over all tracks (`carried_usd` counts tracks without shares by their own render), the bill and
    its two parts over the tracks with shares (`bill_usd` = `billed_usd` + `unallocated_usd`, but for `difference_usd`),
    and the costs that everything is divided into.
    """

    ledger: str
    jobs: int
    totals: dict[str, Any]
    #: One row for each value of each dimension: dimension, value, failures and the figures of `totals`.
    breakdown: list[dict[str, Any]]
    #: job_id, bill_usd, carried_usd, unallocated_usd, difference_usd; a job that was never settled is not in it.
    reconciliation: list[dict[str, Any]]
    #: ended, reason, tries, device_seconds, cost_usd; dearest first.
    waste: list[dict[str, Any]]
    #: Each machine of each run, with its hours, its bill and what it would have cost on demand (None: not known).
    nodes: list[dict[str, Any]]
    #: The same by machine, by node type and market, and by run.
    machines: list[dict[str, Any]]
    node_types: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    #: What spot machines saved; None if there were none. A figure of it is None if no price on demand is known.
    spot: dict[str, Any] | None
    #: The node types at other prices; empty if not asked for.
    what_if: list[dict[str, Any]]
    #: reason, stage, transient, rows; most frequent first.
    failures: list[dict[str, Any]]
    #: Tracks that were withdrawn, also those from the cache: reason, tracks, rendered, carried_usd; dearest first.
    withdrawn: list[dict[str, Any]]
    #: Tracks that cost most: title, prompt, style, model, duration_s, device_seconds, carried_usd.
    dearest: list[dict[str, Any]]
    #: The same money over time, and against the length of tracks.
    trends: Trends

    def by(self, dimension: str) -> list[dict[str, Any]]:
        """The rows of one dimension, dearest first."""
        return [row for row in self.breakdown if row["dimension"] == dimension]


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
        return report_of(connection, url, job_id, what_if)


def report_of(
    connection: duckdb.DuckDBPyConnection, url: str, job_id: str | None = None, what_if: WhatIf | None = None
) -> CostReport:
    """The report of a connection that has the four tables; the arguments and errors are those of `cost_report`."""
    _choose(connection, job_id)
    jobs = fetch(
        connection,
        "SELECT count(*) AS jobs FROM (SELECT job_id FROM chosen_tracks UNION SELECT job_id FROM chosen_failures "
        "UNION SELECT job_id FROM chosen_nodes)",
    )[0]["jobs"]
    if job_id is not None and jobs == 0:
        raise NotFound(f"there is no job {job_id} in the ledger {url}")
    reconciliation = fetch(connection, _RECONCILIATION)
    for row in reconciliation:
        row["difference_usd"] = row["carried_usd"] + row["unallocated_usd"] - row["bill_usd"]
    nodes = fetch(connection, _NODES)
    return CostReport(
        ledger=url,
        jobs=jobs,
        totals=_totals(connection, reconciliation),
        breakdown=[row for name in DIMENSIONS for row in _breakdown(connection, name)],
        reconciliation=reconciliation,
        waste=fetch(connection, _WASTE),
        nodes=nodes,
        machines=fetch(connection, _MACHINES),
        node_types=fetch(connection, _NODE_TYPES),
        runs=fetch(connection, _RUNS),
        spot=spot_savings(fetch(connection, _SPOT)[0], fetch(connection, _LOST_ON_SPOT)[0]),
        what_if=repriced(nodes, what_if) if what_if else [],
        failures=fetch(
            connection,
            "SELECT reason, stage, transient, count(*) AS rows, min(message) AS example FROM chosen_failures "
            "GROUP BY ALL ORDER BY rows DESC, reason, stage",
        ),
        withdrawn=fetch(
            connection,
            f"SELECT coalesce(withdrawn_reason, '{NOT_GIVEN}') AS reason, count(*) AS tracks, "  # noqa: S608
            "count(*) FILTER (NOT cache_hit) AS rendered, fsum(carried_usd) AS carried_usd "
            "FROM chosen_tracks WHERE withdrawn GROUP BY 1 ORDER BY carried_usd DESC, reason",
        ),
        dearest=fetch(
            connection,
            "SELECT title, prompt, style, model, duration_s, device_seconds, carried_usd FROM chosen_tracks "
            "WHERE NOT cache_hit ORDER BY carried_usd DESC, track_id LIMIT $limit",
            limit=DEAREST_TRACKS,
        ),
        trends=read_trends(connection),
    )


def _choose(connection: duckdb.DuckDBPyConnection, job_id: str | None) -> None:
    """Make the tables `chosen_…`: the rows of one job, or all."""
    rows_of = {
        "tracks": _CHOSEN_TRACKS,
        "failures": "FROM failures",
        "attempts": "FROM attempts",
        # A Ray that a command starts has another node id each time, on the same machine.
        "nodes": "SELECT *, coalesce(machine_id, node_id) AS machine FROM nodes",
    }
    for name, rows in rows_of.items():
        connection.execute(
            f"CREATE TEMP TABLE chosen_{name} AS {rows} WHERE $job IS NULL OR job_id = $job", {"job": job_id}
        )


def _totals(connection: duckdb.DuckDBPyConnection, reconciliation: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    totals = fetch(connection, _TOTALS)[0] | fetch(connection, "SELECT count(*) AS failures FROM chosen_failures")[0]
    machines = fetch(
        connection,
        "SELECT count(DISTINCT machine) AS machines, coalesce(fsum(cost_usd / usd_per_node_hour), 0) AS node_hours "
        "FROM chosen_nodes",
    )[0]
    bill, billed, unallocated = (
        math.fsum(row[name] for row in reconciliation) for name in ("bill_usd", "carried_usd", "unallocated_usd")
    )
    known = bill if machines["machines"] else None
    return {
        **totals,
        **machines,
        "bill_usd": bill,
        "billed_usd": billed,
        "unallocated_usd": unallocated,
        "difference_usd": billed + unallocated - bill,
        "bill_per_audio_minute_usd": _ratio(known, totals["billed_minutes"]),
        "bill_per_kept_track_usd": _ratio(known, totals["kept_tracks"]),
    }


def _ratio(amount_usd: float | None, parts: float) -> float | None:
    return amount_usd / parts if amount_usd is not None and parts else None


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
    unknown = NOT_GIVEN
    failed = "SELECT NULL::VARCHAR AS value, NULL::BIGINT AS failures WHERE false"
    if in_failures is not None:
        failed = f"SELECT coalesce({in_failures}, '{unknown}') AS value, count(*) AS failures FROM chosen_failures GROUP BY 1"  # noqa: E501, S608
    # Only constants of this file are put into the query.
    query = f"""
        WITH paid AS (SELECT coalesce({in_tracks}, '{unknown}') AS value, {_FIGURES} FROM chosen_tracks GROUP BY 1),
             failed AS ({failed})
        SELECT '{dimension}' AS dimension, value, coalesce(tracks, 0) AS tracks, coalesce(rendered, 0) AS rendered,
               coalesce(cache_hits, 0) AS cache_hits, {"coalesce(failures, 0)" if in_failures else "NULL"} AS failures,
               coalesce(audio_minutes, 0) AS audio_minutes, coalesce(rendered_minutes, 0) AS rendered_minutes,
               coalesce(device_seconds, 0) AS device_seconds, coalesce(render_usd, 0) AS render_usd,
               coalesce(waste_usd, 0) AS waste_usd, coalesce(idle_usd, 0) AS idle_usd,
               coalesce(carried_usd, 0) AS carried_usd, carried_per_track_usd, carried_per_audio_minute_usd,
               coalesce(saved_usd, 0) AS saved_usd
        FROM paid FULL JOIN failed USING (value)
        ORDER BY carried_usd DESC, value
        """  # noqa: S608
    return fetch(connection, query)


def spot_savings(nodes: Mapping[str, Any], lost: Mapping[str, Any]) -> dict[str, Any] | None:
    """What spot machines saved, from the sums over them and over the attempts that were lost with them.

    An attempt that was lost would not have been needed on demand, where no machine is taken away: its seconds are
    taken off the comparison at the price on demand.

    Returns:
        None without spot machines; sums of money that need an unknown price are None.
    """
    if not nodes["machines"]:
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
                "now_carried_usd": math.fsum(of_tracks),
                "then_carried_usd": math.fsum(map(operator.mul, of_tracks, factors)),
            }
        )
    return sorted(rows, key=lambda row: -row["now_usd"])


def _pairs(pairs: set[tuple[str, str]]) -> str:
    return ", ".join(f"{node_type}={market}" for node_type, market in sorted(pairs)) or "no machines"
