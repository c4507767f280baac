"""Text that no spreadsheet takes for a formula (CSV injection, OWASP): what every CSV file of ours is written with."""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

#: What a formula begins with, in full width, too.
_SIGNS: Final = r"=+\-@＝＋－＠"
#: Each pattern with what takes its place; Python and Arrow read them alike. A cell that begins with a tab or a line end
#: may lose it on the way in. A spreadsheet of another country parts cells elsewhere, whatever stands in quotes.
_RULES: Final = (
    (r"\A([\t\r\n])", r"'\1"),
    (rf"(\A|[;,|\t\r\n][ \"']*)([{_SIGNS}])", r"\1'\2"),
)
_COMPILED: Final = tuple((re.compile(pattern), replacement) for pattern, replacement in _RULES)


def safe_text(text: str) -> str:
    """The text with an apostrophe before all that a spreadsheet would run instead of showing it."""
    for pattern, replacement in _COMPILED:
        text = pattern.sub(replacement, text)
    return text


def safe_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with `safe_text` in each column of text."""
    columns = []
    for column in batch.columns:
        if pa.types.is_string(column.type):
            for pattern, replacement in _RULES:
                column = pc.replace_substring_regex(column, pattern, replacement)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)
