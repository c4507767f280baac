"""Catalogs written by tests, and the rows that are read of them."""

import atexit
import csv
import hashlib
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import feather

from batch_jobs.catalog.rows import RefusedRow, read_catalog
from batch_jobs.catalog.tables import TableReader

FORMATS = ("csv", "jsonl", "json", "parquet", "arrow")
#: To start one for each catalog would be most of these tests' time.
TABLES = TableReader()
atexit.register(TABLES.close)


def put_theme(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def rows_of(path, put=put_theme, column_map=None, keep=()):
    seen = {}
    return list(read_catalog(str(path), {}, put, "composer", seen.setdefault, column_map or {}, keep, TABLES))


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def kinds(rows):
    """R for a refused row, a dot for a good one."""
    return "".join("R" if isinstance(row, RefusedRow) else "." for row in rows)


def prompts(rows):
    return [row.spec.prompt for row in rows]


def written(folder, row, schema=None):
    """The same row as a catalog of each format; the file's path by its format."""
    paths = {name: folder / f"c.{name}" for name in FORMATS}
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(row)
    table.writerow("" if cell is None else cell for cell in row.values())
    write(paths["csv"], text.getvalue())
    write(paths["jsonl"], json.dumps(row) + "\n")
    write(paths["json"], json.dumps([row], indent=2))
    typed = pa.Table.from_pylist([row], schema=schema)
    pq.write_table(typed, paths["parquet"])
    feather.write_feather(typed, paths["arrow"])
    return paths
