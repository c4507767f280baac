"""Tables as CSV files that do nothing but show what is in them when a spreadsheet opens them."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

#: What a spreadsheet takes for a formula where a cell begins with it (CSV injection, OWASP), in full width, too.
_FORMULA = "^([=+\\-@\\t\\r\\n＝＋－＠])"
#: A spreadsheet of another country parts cells there as well, whatever stands in quotes.
_FORMULA_BEHIND_A_SEPARATOR = "([;|\\t\\r\\n])([=+\\-@＝＋－＠])"


def spreadsheet_safe(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows, with an apostrophe before all text that a spreadsheet would run instead of showing it."""
    columns = []
    for column in batch.columns:
        if pa.types.is_string(column.type):
            column = pc.replace_substring_regex(column, _FORMULA, "'\\1")
            column = pc.replace_substring_regex(column, _FORMULA_BEHIND_A_SEPARATOR, "\\1'\\2")
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


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
                writer.write(spreadsheet_safe(batch))
