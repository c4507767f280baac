"""What a ledger cost: `python -m batch_jobs.cost_report --ledger out/catalog --report out/report`.

Reads the Parquet of catalog jobs with DuckDB and writes the same figures to the terminal, to CSV and Parquet, and to
one HTML page that needs nothing else. `reports/costs.py` says what the figures mean.

Exit codes: 0 the report is written · 2 there is nothing to report on, or a price is missing.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.text import Text

from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.reports.costs import BILL, FAILED_ROWS_SCHEMA, MONEY, WhatIf, cost_report, failed_rows
from batch_jobs.reports.csv_files import write_csv
from batch_jobs.reports.headline import SUMMARY_SCHEMA, summary_row
from batch_jobs.reports.terminal import print_report
from orchestrion.accounting.cost import PriceTable
from orchestrion.cli.arguments import add_storage_options
from orchestrion.cli.reader_gone import ending_quietly
from orchestrion.errors import OrchestrionError

#: What is written beside the page.
FILES: Final = (
    "summary.csv",
    "summary.parquet",
    "costs.csv",
    "costs.parquet",
    "bill_over_time.csv",
    "waste.csv",
    "waste_over_time.csv",
    "nodes.csv",
    "failures.csv",
)
_INTEGERS: Final = ("tracks", "rendered", "cache_hits", "failures")
_BREAKDOWN_SCHEMA: Final = pa.schema(
    [
        ("dimension", pa.string()),
        ("value", pa.string()),
        *((name, pa.int64()) for name in _INTEGERS),
        *(
            (name, pa.float64())
            for name in (
                "audio_minutes",
                "rendered_minutes",
                "device_seconds",
                *MONEY,
                "carried_per_track_usd",
                "carried_per_audio_minute_usd",
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
_BILL_OVER_TIME_SCHEMA: Final = pa.schema([("period", _MOMENT), *((name, pa.float64()) for name in BILL)])
_WASTE_OVER_TIME_SCHEMA: Final = pa.schema(
    [
        ("period", _MOMENT),
        ("ended", pa.string()),
        ("reason", pa.string()),
        ("tries", pa.int64()),
        ("cost_usd", pa.float64()),
    ]
)
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


def write_report(
    url: str,
    folder: Path,
    console: Console,
    storage_options: Mapping[str, Any] | None = None,
    job_id: str | None = None,
    what_if: WhatIf | None = None,
) -> Path:
    """Query a ledger, print the tables and write the files of the report to `folder`.

    These are index.html and what `FILES` names.

    Returns:
        The path of the page.

    Raises:
        NotFound: there is no ledger at `url`, or no such job in it.
        InvalidRequest: `what_if` does not fit the ledger.
    """
    snapshot = read_snapshot(url, storage_options or {})
    report = cost_report(url, storage_options, job_id, what_if, snapshot)
    print_report(report, console)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows, schema in (
        ("summary", [summary_row(report)], SUMMARY_SCHEMA),
        ("costs", report.breakdown, _BREAKDOWN_SCHEMA),
        ("bill_over_time", report.trends.bill, _BILL_OVER_TIME_SCHEMA),
        ("waste", report.waste, _WASTE_SCHEMA),
        ("waste_over_time", report.trends.waste, _WASTE_OVER_TIME_SCHEMA),
        ("nodes", report.nodes, _NODES_SCHEMA),
    ):
        table = pa.Table.from_pylist(rows, schema=schema)
        write_csv(folder / f"{name}.csv", schema, table.to_batches())
        if f"{name}.parquet" in FILES:
            pq.write_table(table, folder / f"{name}.parquet")
    failed = failed_rows(url, storage_options or {}, job_id, snapshot)
    write_csv(folder / "failures.csv", FAILED_ROWS_SCHEMA, failed, for_people=True)
    # What draws the charts takes longer to load than the ledger to be read.
    from batch_jobs.reports.page import report_page

    page = folder / "index.html"
    page.write_text(report_page(report), encoding="utf-8")
    return page


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
    add_storage_options(parser)
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
    written = f"written: {page}, {', '.join(FILES)}"
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
    sys.exit(ending_quietly(main))
