"""What a ledger cost: `python -m batch_jobs.cost_report --ledger out/catalog --report out/report`.

Reads the Parquet of catalog jobs with DuckDB and writes tables to the terminal, to CSV and Parquet, and one HTML page
that needs nothing else. The surprising thing: a track that was there already is counted as delivered but not as paid,
so every sum of money is of `charged_usd`, and a cost per track is per track that was rendered.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from rich import box
from rich.console import Console
from rich.table import Table

from batch_jobs.outcomes import FAILURES_SCHEMA, TRACKS_SCHEMA
from batch_jobs.report_page import report_page, usd
from orchestrion.errors import InvalidRequest, NotFound

#: What the money can be split by → the columns of `tracks` and of `failures` that say it (None: failures do not know).
DIMENSIONS: Final[dict[str, tuple[str, str | None]]] = {
    "model": ("model", "model"),
    "style": ("style", "style"),
    "pool": ("pool", None),
    "market": ("market", None),
    "requester": ("requested_by", "requested_by"),
    "day": ("CAST(day AS VARCHAR)", "CAST(day AS VARCHAR)"),
}
#: Points in the page's plots: more would make it slow to open and no clearer.
MAX_POINTS: Final = 1500
DEAREST_TRACKS: Final = 12

# fsum is DuckDB's Kahan sum: a plain one drifts with the order in which threads finish.
_FIGURES: Final = """
    count(*) AS tracks,
    count(*) FILTER (NOT cache_hit) AS rendered,
    count(*) FILTER (cache_hit) AS cache_hits,
    coalesce(fsum(duration_s), 0) / 60 AS audio_minutes,
    coalesce(fsum(device_seconds) FILTER (NOT cache_hit), 0) AS device_seconds,
    coalesce(fsum(charged_usd), 0) AS cost_usd,
    fsum(charged_usd) FILTER (NOT cache_hit) / count(*) FILTER (NOT cache_hit) AS cost_per_track_usd,
    fsum(charged_usd) FILTER (NOT cache_hit) / fsum(duration_s / 60) FILTER (NOT cache_hit)
        AS cost_per_audio_minute_usd,
    coalesce(fsum(cost_usd) FILTER (cache_hit), 0) AS saved_usd
"""
_TOTALS: Final = f"SELECT {_FIGURES} FROM chosen_tracks"  # noqa: S608


@dataclass(frozen=True, slots=True)
class CostReport:
    """The answers, as rows. Money is in USD; a cost per track or minute is None where nothing was rendered."""

    ledger: str
    jobs: int
    totals: dict[str, Any]
    #: One row for each value of each dimension: dimension, value, failures and the figures of `totals`.
    breakdown: list[dict[str, Any]]
    #: reason, stage, transient, rows; most frequent first.
    failures: list[dict[str, Any]]
    #: A sample of rendered tracks: style, duration_s, device_seconds, charged_usd.
    points: list[dict[str, Any]]
    #: Tracks that cost most: title, prompt, style, model, duration_s, device_seconds, charged_usd.
    dearest: list[dict[str, Any]]

    def by(self, dimension: str) -> list[dict[str, Any]]:
        """The rows of one dimension, dearest first."""
        return [row for row in self.breakdown if row["dimension"] == dimension]


def open_ledger(url: str, storage_options: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the views `tracks` and `failures` over a ledger's Parquet.

    Raises:
        NotFound: there is no ledger at `url`.
    """
    fs, root = fsspec.url_to_fs(url, **storage_options)
    if not (fs.exists(f"{root}/tracks") or fs.exists(f"{root}/failures")):
        raise NotFound(f"there is no ledger in {url}: neither tracks/ nor failures/; give the --out of render_catalog")
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    day = pa.field("day", pa.date32())
    for name, schema, keys in (
        ("tracks", TRACKS_SCHEMA, [day, pa.field("model", pa.string())]),
        ("failures", FAILURES_SCHEMA, [day]),
    ):
        connection.register(name, _dataset(fs, f"{root}/{name}", schema.append(day), pa.schema(keys)))
    return connection


def _dataset(fs: Any, folder: str, schema: pa.Schema, keys: pa.Schema) -> ds.Dataset | pa.Table:  # noqa: ANN401
    # A file that an older version wrote lacks newer columns; they read as null.
    schema = pa.schema([field.with_nullable(True) for field in schema])
    if not fs.exists(folder):
        return schema.empty_table()
    return ds.dataset(
        folder, schema=schema, filesystem=fs, format="parquet", partitioning=ds.partitioning(keys, flavor="hive")
    )


def cost_report(url: str, storage_options: Mapping[str, Any] | None = None, job_id: str | None = None) -> CostReport:
    """Query a ledger.

    Args:
        url: the `out` of catalog jobs.
        storage_options: for fsspec.
        job_id: only this job's rows; every job's if None.

    Raises:
        NotFound: there is no ledger at `url`, or no such job in it.
    """
    with open_ledger(url, storage_options or {}) as connection:
        for name in ("tracks", "failures"):
            condition = "true" if job_id is None else "job_id = $job"
            connection.execute(
                f"CREATE TEMP TABLE chosen_{name} AS SELECT * FROM {name} WHERE {condition}",  # noqa: S608
                {} if job_id is None else {"job": job_id},
            )
        jobs = _rows(
            connection,
            "SELECT count(*) AS jobs FROM (SELECT job_id FROM chosen_tracks UNION SELECT job_id FROM chosen_failures)",
        )[0]["jobs"]
        if job_id is not None and jobs == 0:
            raise NotFound(f"there is no job {job_id} in the ledger {url}")
        failed = _rows(connection, "SELECT count(*) AS failures FROM chosen_failures")[0]
        return CostReport(
            ledger=url,
            jobs=jobs,
            totals=_rows(connection, _TOTALS)[0] | failed,
            breakdown=[row for name in DIMENSIONS for row in _breakdown(connection, name)],
            failures=_rows(
                connection,
                "SELECT reason, stage, transient, count(*) AS rows, min(message) AS example FROM chosen_failures "
                "GROUP BY ALL ORDER BY rows DESC, reason, stage",
            ),
            points=_rows(
                connection,
                "SELECT coalesce(style, '(model chose)') AS style, duration_s, device_seconds, charged_usd "
                "FROM chosen_tracks WHERE NOT cache_hit ORDER BY hash(track_id) LIMIT $limit",
                limit=MAX_POINTS,
            ),
            dearest=_rows(
                connection,
                "SELECT title, prompt, style, model, duration_s, device_seconds, charged_usd FROM chosen_tracks "
                "WHERE NOT cache_hit ORDER BY charged_usd DESC, track_id LIMIT $limit",
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
               coalesce(cost_usd, 0) AS cost_usd, cost_per_track_usd, cost_per_audio_minute_usd,
               coalesce(saved_usd, 0) AS saved_usd
        FROM paid FULL JOIN failed USING (value)
        ORDER BY cost_usd DESC, value
        """  # noqa: S608
    return _rows(connection, query)


def _rows(connection: duckdb.DuckDBPyConnection, query: str, **parameters: object) -> list[dict[str, Any]]:
    result = connection.execute(query, parameters)
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


# Output

_BREAKDOWN_SCHEMA: Final = pa.schema(
    [
        ("dimension", pa.string()),
        ("value", pa.string()),
        *((name, pa.int64()) for name in ("tracks", "rendered", "cache_hits", "failures")),
        *(
            (name, pa.float64())
            for name in (
                "audio_minutes",
                "device_seconds",
                "cost_usd",
                "cost_per_track_usd",
                "cost_per_audio_minute_usd",
                "saved_usd",
            )
        ),
    ]
)


def write_report(
    url: str,
    folder: Path,
    console: Console,
    storage_options: Mapping[str, Any] | None = None,
    job_id: str | None = None,
) -> Path:
    """Query a ledger, print the tables and write costs.csv, costs.parquet, failures.csv and index.html to `folder`.

    Returns:
        The path of the page.

    Raises:
        NotFound: there is no ledger at `url`, or no such job in it.
    """
    report = cost_report(url, storage_options, job_id)
    print_report(report, console)
    folder.mkdir(parents=True, exist_ok=True)
    breakdown = pa.Table.from_pylist(report.breakdown, schema=_BREAKDOWN_SCHEMA)
    pq.write_table(breakdown, folder / "costs.parquet")
    pa_csv.write_csv(breakdown, folder / "costs.csv")
    failures = pa.schema(
        [("reason", pa.string()), ("stage", pa.string()), ("transient", pa.bool_()), ("rows", pa.int64())]
    )
    pa_csv.write_csv(pa.Table.from_pylist(report.failures, schema=failures), folder / "failures.csv")
    page = folder / "index.html"
    page.write_text(report_page(report), encoding="utf-8")
    return page


def print_report(report: CostReport, console: Console) -> None:
    """The tables on a terminal."""
    totals = report.totals
    console.print(
        f"{totals['tracks']} tracks ({totals['rendered']} rendered, {totals['cache_hits']} cached), "
        f"{totals['failures']} failures, {totals['audio_minutes']:.1f} min of audio, "
        f"{totals['device_seconds']:.1f} device-seconds: {usd(totals['cost_usd'])}; "
        f"the cache saved {usd(totals['saved_usd'])}"
    )
    for dimension in DIMENSIONS:
        rows = report.by(dimension)
        if rows:
            console.print(_table(dimension, rows, console.width))
    if report.failures:
        table = Table(title="failures", box=box.SIMPLE, title_justify="left")
        for name in ("reason", "stage", "transient", "rows"):
            table.add_column(name, justify="right" if name == "rows" else "left")
        for row in report.failures:
            table.add_row(row["reason"], row["stage"], "yes" if row["transient"] else "no", str(row["rows"]))
        console.print(table)


def _table(dimension: str, rows: Sequence[Mapping[str, Any]], console_width: int) -> Table:
    """Fits into 80 columns; the files have every figure."""
    table = Table(title=f"by {dimension}", box=box.SIMPLE, title_justify="left", padding=(0, 1, 0, 0), show_edge=False)
    # What the figures leave: long names are cut, never money.
    table.add_column(dimension, no_wrap=True, overflow="ellipsis", max_width=max(12, console_width - 68))
    for heading in ("tracks", "cached", "failed", "minutes", "paid", "a track", "a minute", "saved"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["value"],
            str(row["tracks"]),
            str(row["cache_hits"]),
            "–" if row["failures"] is None else str(row["failures"]),
            f"{row['audio_minutes']:.1f}",
            *(usd(row[name]) for name in ("cost_usd", "cost_per_track_usd", "cost_per_audio_minute_usd", "saved_usd")),
        )
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when the report is written, 2 when there is nothing to report on."""
    parser = argparse.ArgumentParser(prog="python -m batch_jobs.cost_report", description="Say what a ledger cost.")
    parser.add_argument("--ledger", required=True, help="the --out of render_catalog; a folder or fsspec URL")
    parser.add_argument(
        "--report", type=Path, default=Path("out/report"), help="folder to write (default: %(default)s)"
    )
    parser.add_argument("--job", help="only this job (default: every job in the ledger)")
    parser.add_argument("--storage-options", type=json.loads, default={}, help="JSON for fsspec")
    arguments = parser.parse_args(argv)
    console = Console()
    try:
        page = write_report(arguments.ledger, arguments.report, console, arguments.storage_options, arguments.job)
    except (NotFound, InvalidRequest) as error:
        sys.stderr.write(f"cost_report: {error}\n")
        return 2
    console.print(f"written: {page}, costs.csv, costs.parquet, failures.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
