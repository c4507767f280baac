"""Which reader reads a file of which name.

A reader keeps nothing longer than its row, so memory does not grow with the catalog, with a line, or with a page of
Parquet.
"""

from __future__ import annotations

from typing import Final

from batch_jobs.catalog.cells import Reader
from batch_jobs.catalog.csv_rows import open_csv
from batch_jobs.catalog.json_rows import open_json, open_json_lines
from batch_jobs.catalog.parquet_rows import open_parquet

READERS: Final[dict[str, Reader]] = {
    ".csv": open_csv,
    ".tsv": open_csv,
    ".txt": open_csv,
    ".jsonl": open_json_lines,
    ".ndjson": open_json_lines,
    ".json": open_json,
    ".parquet": open_parquet,
}
