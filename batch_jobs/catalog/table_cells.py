"""Columns of Arrow as cells that JSON can carry; runs in the process that reads tables, and trusts nothing in them."""

from __future__ import annotations

import json
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.catalog.lines import MAX_LINE_BYTES
from batch_jobs.catalog.table_protocol import Reading
from orchestrion.errors import shown

#: A cell that was not read: its value as a message may show it, and what is wrong with it.
Bad = list[str]
_NO_CELL: Final = "must be text or a number"
_TEXTS: Final = (
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary),
)


def cells_of(column: pa.Array, reading: Reading) -> list[Any]:
    """The cells of a column: text, numbers, true and false, None where there is nothing; `Bad` for one that is none.

    Args:
        column: of any type.
        reading: what is read beyond these: nothing; of what no column of ours can be a date or a moment, as text; or a
            list, as JSON.
    """
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.UuidType):
        return cells_of(column.storage, reading)
    if pa.types.is_null(kind):
        return [None] * len(column)
    if pa.types.is_dictionary(kind):
        return _of_dictionary(column, reading)
    if pa.types.is_run_end_encoded(kind):
        return cells_of(pc.run_end_decode(column), reading)
    if any(is_text(kind) for is_text in _TEXTS):
        return _texts(column)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_float64(kind):
        return list(column.to_pylist())
    if pa.types.is_floating(kind):
        # The number that its author wrote, 3.3 and not 3.299999952316284: the shortest that is this one in its width.
        width = np.float16 if pa.types.is_float16(kind) else np.float32
        return [None if cell is None else float(str(width(cell))) for cell in column.to_pylist()]
    return [_cell(scalar, reading) if scalar.is_valid else None for scalar in _in_utc(column)]


def _texts(column: pa.Array) -> list[Any]:
    try:
        if (pc.max(pc.binary_length(column)).as_py() or 0) <= MAX_LINE_BYTES:
            text = column if not _is_bytes(column.type) else column.cast(pa.large_string())
            return list(text.to_numpy(zero_copy_only=False))
    except (pa.ArrowException, UnicodeDecodeError):
        pass
    return [_text(scalar) if scalar.is_valid else None for scalar in column]


def _is_bytes(kind: pa.DataType) -> bool:
    return not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _text(scalar: pa.Scalar) -> str | Bad:
    # Impala, Hive and old Spark write text as bytes.
    data: pa.Buffer = scalar.as_buffer()
    if data.size > MAX_LINE_BYTES:
        return [f"{data.size} bytes", f"is longer than {MAX_LINE_BYTES} bytes"]
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        return [shown(data.to_pybytes()), f"is not UTF-8 at byte {error.start + 1}"]


def _of_dictionary(column: pa.DictionaryArray, reading: Reading) -> list[Any]:
    places = column.indices.to_pylist()
    # A dictionary may hold far more than these rows use of it, and the places of a damaged page may lie anywhere.
    used = sorted({at for at in places if at is not None and 0 <= at < len(column.dictionary)})
    cells = dict(zip(used, cells_of(column.dictionary.take(pa.array(used, pa.int64())), reading), strict=True))
    return [None if at is None else cells.get(at, ["…", "is damaged"]) for at in places]


def _in_utc(column: pa.Array) -> pa.Array:
    # Python has microseconds, and knows other zones than UTC from files that this process may not open.
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", "UTC" if column.type.tz else None), safe=False)
    return column


def _cell(scalar: pa.Scalar, reading: Reading) -> str | int | float | Bad:
    kind = scalar.type
    if reading == "list" and isinstance(scalar, pa.ListScalar):
        return _list(scalar)
    if pa.types.is_nested(kind):
        # Its parts are called otherwise in each format.
        what = "map" if pa.types.is_map(kind) else "struct" if pa.types.is_struct(kind) else "list"
        return [f"a {what}", _NO_CELL]
    try:
        cell = scalar.as_py()
    except Exception as error:  # Arrow has some forty types; whatever one of them raises costs this cell.
        return [f"a cell of {kind}", f"cannot be read: {str(error)[:200]}"]
    if isinstance(cell, Decimal):
        # Ids of databases are decimals of up to 38 digits, of which a float holds 15.
        if cell == int(cell):
            return int(cell)
        return format(cell, "f").rstrip("0") if reading == "text" else float(cell)
    if isinstance(cell, UUID):
        return str(cell)
    if reading == "text" and isinstance(cell, date | datetime | time):
        return cell.isoformat().replace("+00:00", "Z")
    return [shown(str(cell)), _NO_CELL]


def _list(scalar: pa.ListScalar) -> str | Bad:
    # Its values are bounded before they become Python's, which take many times as much.
    size = scalar.values.nbytes if scalar.values is not None else 0
    if size > MAX_LINE_BYTES:
        return [f"a list of {size} bytes", f"is longer than {MAX_LINE_BYTES} bytes"]
    try:
        text = json.dumps(scalar.as_py())
    except Exception as error:  # As above: whatever Arrow or JSON raises costs this cell.
        return ["a list", f"cannot be read: {str(error)[:200]}"]
    return (
        text
        if len(text) <= MAX_LINE_BYTES
        else [f"a list of {len(text)} bytes", f"is longer than {MAX_LINE_BYTES} bytes"]
    )
