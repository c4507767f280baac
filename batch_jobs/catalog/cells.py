"""What a cell means: one value is the same in CSV, where all cells are text, and in JSON and Parquet, which have types.

An empty text, a null and a missing cell are all "not given". Numbers are read by one rule: where a text has two
readings, as 1.000 may be one or a thousand, it is refused.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import IO, Any, Final, get_args

from batch_jobs.catalog.columns import MAX_KEPT_COLUMNS, ColumnNames, Name
from orchestrion.errors import InvalidRequest, Problem
from orchestrion.tracks.spec import LISTS, TrackSpec


@dataclass(frozen=True, slots=True)
class TextCells:
    """Cells of a CSV row: text, empty where nothing is given."""

    cells: dict[Name, str]
    #: Whether a number may have a decimal comma: not where commas separate cells.
    decimal_comma: bool = False


@dataclass(frozen=True, slots=True)
class BadCell:
    """What stands for a typed cell that was not read: `value` as a message may show it, and what is wrong with it."""

    value: str
    reason: str


#: Typed cells of a row, some perhaps a `BadCell`.
Row = dict[Name, Any]
#: What a reader makes of one row: typed cells, text cells, or what is wrong with the row.
Read = Row | TextCells | str


@dataclass(frozen=True, slots=True)
class Opened:
    """A catalog file whose header is read: how it is understood, in words for people, and its numbered rows."""

    said: tuple[str, ...]
    rows: Iterator[tuple[int, Read]]
    #: Ends what reads it, whether all rows were taken or none.
    close: Callable[[], None] = lambda: None


#: Reads a file of one kind. Raises `InvalidRequest` where the file as a whole cannot be used, now or at a later row.
Reader = Callable[[IO[bytes], ColumnNames], Opened]


def _columns_of(kind: type) -> frozenset[str]:
    fields = TrackSpec.model_fields.items()
    return frozenset(name for name, field in fields if kind in (field.annotation, *get_args(field.annotation)))


WHOLE_NUMBERS: Final = _columns_of(int)
NUMBERS: Final = WHOLE_NUMBERS | _columns_of(float)
#: Beyond it a float is not every whole number.
_MAX_WHOLE_FLOAT: Final = 2**53
#: Of the text of one kept cell, and of all kept cells of a row with their names; both in UTF-8.
MAX_KEPT_BYTES: Final = 4096
MAX_KEPT_ROW_BYTES: Final = 16 * 1024
#: From here on Excel shows and saves a number as 1.23457E+11.
_ROUNDED_FROM: Final = 10**11
#: An exponent of more digits leads nowhere, and `Decimal` raises for it.
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
_DECIMAL_COMMA: Final = re.compile(r"[+-]?\d+,\d+", re.ASCII)
#: One to three digits, and three after a separator: 1.5 or 1500, it depends on who wrote it.
_TWO_READINGS: Final = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}", re.ASCII)


def is_given(cell: object) -> bool:
    """Whether the cell holds anything."""
    return cell is not None and not (isinstance(cell, str) and not cell.strip())


def is_blank(read: Read) -> bool:
    """Whether the row holds nothing at all, as many do at the end of a spreadsheet: no text in CSV, elsewhere nulls.

    An empty text that has a type was written by somebody, and is wrong.
    """
    if isinstance(read, TextCells):
        return not any(map(is_given, read.cells.values()))
    return not isinstance(read, str) and all(cell is None for cell in read.values())


def from_text(cells: Mapping[str, str], decimal_comma: bool) -> dict[str, str]:
    """The given cells of a row of text, each number as JSON would write it.

    Raises:
        InvalidRequest: a number has two readings.
    """
    given = {name: cell.strip() for name, cell in cells.items() if is_given(cell)}
    return {name: _number(name, cell, decimal_comma) if name in NUMBERS else cell for name, cell in given.items()}


def from_types(cells: Mapping[str, Any]) -> dict[str, Any]:
    """The given cells of a row of typed ones; a float that is a whole number is that number where one is asked for."""
    return {name: _typed(name, cell) for name, cell in cells.items() if is_given(cell)}


def typed_number(name: str, text: str) -> int | float | str:
    """The value of this text in the column of this name, where that is one of numbers and the text is one."""
    text = text.strip()
    if name not in NUMBERS or not _NUMBER.fullmatch(text):
        return text
    plain = _number(name, text, decimal_comma=False)
    return int(plain) if plain.lstrip("+-").isdigit() else float(plain)


def _number(name: str, text: str, decimal_comma: bool) -> str:
    # Beside commas 3.500 seconds are common and 3500 out of range; a seed of three decimals is not, and 3500 is one.
    if (decimal_comma or name in WHOLE_NUMBERS) and _TWO_READINGS.fullmatch(text):
        one, thousands = text.replace(",", "."), text.replace(",", "").replace(".", "")
        remedy = f"may mean {float(one):g} or {thousands}; write no separator between thousands and no zeros behind"
        raise InvalidRequest.of(name, text, remedy)
    if _DECIMAL_COMMA.fullmatch(text):
        if not decimal_comma:
            remedy = "has a comma; in a file that is separated by commas write 3.5 and 1000, not 3,5 and 1,000"
            raise InvalidRequest.of(name, text, remedy)
        text = text.replace(",", ".")
    if name in WHOLE_NUMBERS and not text.isdigit() and _NUMBER.fullmatch(text):
        value = Decimal(text)
        if abs(value) < _MAX_WHOLE_FLOAT and value == value.to_integral_value():
            if abs(value) >= _ROUNDED_FROM and "e" in text.lower():
                remedy = (
                    "may be rounded, as spreadsheets do with long numbers; write all its digits, and format it as text"
                )
                raise InvalidRequest.of(name, text, remedy)
            return str(int(value))
    return text


def _typed(name: str, cell: object) -> object:
    if isinstance(cell, str):
        return _list(name, cell.strip()) if name in LISTS else cell.strip()
    # pandas turns a column of whole numbers into floats as soon as one cell is missing.
    if name in WHOLE_NUMBERS and isinstance(cell, float) and cell.is_integer() and abs(cell) < _MAX_WHOLE_FLOAT:
        return int(cell)
    return cell


def _list(name: str, text: str) -> list[Any]:
    """What a text lists in a column of lists, as in CSV; Parquet's lists come here as JSON."""
    try:
        return LISTS[name](text)
    except ValueError as error:
        raise InvalidRequest.of(name, text, str(error)) from None


def label_text(value: object) -> object:
    """A row id or title as text: text as it stands (007 is not 7), a number in its shortest digits (7.0 is 7)."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and abs(value) < _MAX_WHOLE_FLOAT:
        return str(int(value)) if value.is_integer() else format(Decimal(repr(value)), "f")
    return value


# Columns that are kept


def kept_text(cells: Mapping[str, Any]) -> dict[str, str]:
    """The given cells of the columns that are kept, each as text that is the same in every format.

    Text stays as it stands, a number has its shortest digits, and true and false are these words.

    Raises:
        InvalidRequest: one is no such value or too long, or there are too many.
    """
    kept = {name: _kept_cell(name, cell) for name, cell in cells.items() if is_given(cell)}
    size = sum(len(name.encode()) + len(text.encode()) for name, text in kept.items())
    if size > MAX_KEPT_ROW_BYTES or len(kept) > MAX_KEPT_COLUMNS:
        what = f"{len(kept)} cells of {size} bytes"
        remedy = f"are more than a row can keep, {MAX_KEPT_COLUMNS} of {MAX_KEPT_ROW_BYTES} bytes; keep fewer columns"
        raise InvalidRequest.of("keep_columns", what, remedy)
    return kept


def _kept_cell(name: str, cell: object) -> str:
    if isinstance(cell, BadCell):
        raise InvalidRequest([Problem(name, cell.value, cell.reason)])
    match cell:
        case bool():
            return str(cell).lower()
        case int():
            text = str(cell)
        case float() if math.isfinite(cell):
            text = str(int(cell)) if cell.is_integer() else format(Decimal(repr(cell)), "f")
        case str():
            text = cell
        case _:
            remedy = "must be text, a number, true or false to be kept; write it as text, or do not keep its column"
            raise InvalidRequest.of(name, cell, remedy)
    # A surrogate has no UTF-8, so it is looked for before the text is measured.
    if any(unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\t\r\n" for letter in text):
        raise InvalidRequest.of(
            name, text, "contains control characters; use printable text, or do not keep its column"
        )
    if len(text.encode()) > MAX_KEPT_BYTES:
        remedy = f"is longer than {MAX_KEPT_BYTES} bytes; shorten it, or do not keep its column"
        raise InvalidRequest.of(name, text, remedy)
    return text
