"""Tables as CSV files that do nothing but show what is in them when a spreadsheet opens them."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from batch_jobs.spreadsheet import safe_batch


def write_csv(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], for_people: bool = False) -> None:
    """Write batches of `schema` as one CSV file, safe in a spreadsheet.

    Args:
        path: where to.
        schema: the columns.
        batches: the rows.
        for_people: begin with the mark by which spreadsheets know UTF-8; some programs take it for a part of the first
            column's name.
    """
    with path.open("wb") as file:
        if for_people:
            file.write(codecs.BOM_UTF8)
        with pa_csv.CSVWriter(file, schema) as writer:
            for batch in batches:
                writer.write(safe_batch(batch))
