"""Which reader reads a file of which name.

A reader keeps nothing longer than its row, so memory does not grow with the catalog or with a line; a page of Parquet
is in the memory of another process, which is bounded.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from batch_jobs.catalog.cells import Reader
from batch_jobs.catalog.csv_rows import open_csv
from batch_jobs.catalog.json_rows import open_json, open_json_lines
from batch_jobs.catalog.table_protocol import Kind
from batch_jobs.catalog.tables import open_table

#: Files that are read by a process of its own (`tables`), and as what.
TABLES: Final[dict[str, Kind]] = {".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow"}
READERS: Final[dict[str, Reader]] = {
    ".csv": open_csv,
    ".tsv": open_csv,
    ".txt": open_csv,
    ".jsonl": open_json_lines,
    ".ndjson": open_json_lines,
    ".json": open_json,
    **{suffix: partial(open_table, kind) for suffix, kind in TABLES.items()},
}
