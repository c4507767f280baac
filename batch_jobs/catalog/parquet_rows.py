"""Parquet as numbered rows of typed cells, read a few rows at a time.

The file is not trusted: what its pages unpack to is known before they are unpacked (`parquet_layout`), and a damaged
row group costs its own rows only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from batch_jobs.catalog.cells import BadCell, Opened, Read, typed_number
from batch_jobs.catalog.columns import ColumnNames
from batch_jobs.catalog.lines import BLOCK_BYTES, MAX_LINE_BYTES
from batch_jobs.catalog.parquet_layout import RowGroup, row_bytes, row_groups
from orchestrion.errors import InvalidRequest, shown

PARQUET_BATCH_ROWS: Final = 1024
#: What the rows of a batch may take, unpacked.
PARQUET_BATCH_BYTES: Final = 32 * 1024 * 1024
#: Writers make groups of 100,000 to a million rows. Each row of a damaged group is reported, so this bounds what a
#: forged count can make of it.
MAX_ROW_GROUP_ROWS: Final = 10_000_000
NOTHING: Final[Mapping[str, None]] = MappingProxyType({})


def open_parquet(file: IO[bytes], columns: ColumnNames, beside: Mapping[str, str | None] = NOTHING) -> Opened:
    """Read the footer and check the columns.

    Args:
        file: Of any length; it is read in pieces.
        columns: What the columns may be called.
        beside: Cells that each row has besides those of the file, as text, under the catalog's own names.

    Raises:
        InvalidRequest: the file cannot be used.
    """
    parquet, groups, theirs = _opened_parquet(file)
    header = columns.header([*theirs, *beside])
    ours = {name: our for name, our in zip(theirs, header.names, strict=False) if our is not None}
    cells = zip(header.names[len(theirs) :], beside.values(), strict=True)
    all_have = {our: typed_number(our, cell) for our, cell in cells if our and cell is not None}
    return Opened(("Parquet", *header.said), _rows(file, parquet, groups, ours, all_have))


def _rows(
    file: IO[bytes], parquet: pq.ParquetFile, groups: list[RowGroup], ours: Mapping[str, str], all_have: dict[str, Any]
) -> Iterator[tuple[int, Read]]:
    number = 0
    for index, group in enumerate(groups):
        for read in _group_rows(file, parquet, index, group, ours):
            number += 1
            yield number, read if isinstance(read, str) else all_have | read


def _opened_parquet(file: IO[bytes]) -> tuple[pq.ParquetFile, list[RowGroup], list[str]]:
    """The file, its row groups and the names of its columns."""
    try:
        groups = list(row_groups(file))
        metadata = pq.read_metadata(file)
        leaves = [metadata.schema.column(leaf).path for leaf in range(metadata.num_columns)]
        # Without a buffer size Arrow would hold the compressed row group whole.
        parquet = pq.ParquetFile(file, metadata=metadata, buffer_size=BLOCK_BYTES, page_checksum_verification=True)
        names = list(parquet.schema_arrow.names)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidRequest.of("catalog", "", f"is not a readable Parquet file: {_why(error)}") from None
    for group in groups:
        if [chunk.path for chunk in group.chunks] != leaves:
            raise InvalidRequest.of("catalog", "", "is not a readable Parquet file: the footer is damaged")
        if group.rows > MAX_ROW_GROUP_ROWS:
            message = f"has a row group of so many rows; write groups of at most {MAX_ROW_GROUP_ROWS}"
            raise InvalidRequest.of("catalog", group.rows, message)
    return parquet, groups, names


def _group_rows(
    file: IO[bytes], parquet: pq.ParquetFile, index: int, group: RowGroup, ours: Mapping[str, str]
) -> Iterator[dict[str, Any] | str]:
    """As many as the file says that there are, whatever is left of them. `ours`: the columns to read, and our names."""
    done = 0
    why = "it ends before its last row"
    try:
        unread = _unread(parquet, group, ours)
        names = [name for name in ours if name not in unread]
        bad = {ours[name]: cell for name, cell in unread.items() if cell is not None}
        rows = int(PARQUET_BATCH_BYTES / max(1.0, row_bytes(file, group, names)))
        # No threads: they would read from the file behind our back.
        batches = parquet.iter_batches(max(1, min(PARQUET_BATCH_ROWS, rows)), [index], names, use_threads=False)
        for cells in (cells for batch in batches for cells in _batch_rows(batch, ours)):
            if done == group.rows:
                return
            done += 1
            yield bad | cells
    except (pa.ArrowException, OSError, ValueError) as error:
        why = _why(error)
    for _ in range(group.rows - done):
        yield f"row: cannot be read: row group {index + 1} of {parquet.num_row_groups} is damaged or too large: {why}"


def _why(error: Exception) -> str:
    # Arrow's own complaints have no number: with one, the disc or the network has failed, not the file.
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    return str(error).partition("\n")[0][:200]


def _unread(parquet: pq.ParquetFile, group: RowGroup, ours: Mapping[str, str]) -> dict[str, BadCell | None]:
    """Those of our columns that are not read in a row group, since one cell of theirs may hold any amount.

    None for one that is null in every row, and so reads as not given.
    """
    unread: dict[str, BadCell | None] = {}
    for leaf, chunk in enumerate(group.chunks):
        # A name with a dot in it is that of a whole column first, and else of a part of one.
        name = chunk.path if chunk.path in ours else chunk.path.partition(".")[0]
        if name not in ours:
            continue
        kind = parquet.schema_arrow.field(name).type
        if pa.types.is_nested(kind) or parquet.schema.column(leaf).length > MAX_LINE_BYTES:
            unread.setdefault(name, None)
            if chunk.null_count != group.rows:
                unread[name] = BadCell(f"a column of {str(kind)[:80]}", "must be text or a number")
    return unread


def _batch_rows(batch: pa.RecordBatch, ours: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    names = [ours[name] for name in batch.schema.names]
    columns = [_cells(column) for column in batch.columns]
    for at in range(batch.num_rows):
        yield {name: column[at] for name, column in zip(names, columns, strict=True) if column[at] is not None}


def _cells(column: pa.Array) -> list[object]:
    if isinstance(column, pa.DictionaryArray):
        values = column.dictionary
        return [
            # The indices of a damaged page may lie anywhere.
            None if at is None else _cell(values[at]) if 0 <= at < len(values) else BadCell("…", "is damaged")
            for at in column.indices.to_pylist()
        ]
    return [_cell(scalar) for scalar in column]


def _cell(scalar: pa.Scalar) -> object:
    try:
        if isinstance(scalar, pa.BinaryScalar) and scalar.is_valid and scalar.as_buffer().size > MAX_LINE_BYTES:
            return BadCell(f"{scalar.as_buffer().size} bytes", f"is longer than {MAX_LINE_BYTES} bytes")
        cell = scalar.as_py()
        if isinstance(cell, Decimal):
            # Ids of databases are decimals of up to 38 digits, of which a float holds 15.
            cell = int(cell) if cell == int(cell) else float(cell)
        # Impala, Hive and old Spark write text as bytes.
        if isinstance(cell, bytes):
            try:
                return cell.decode("utf-8")
            except UnicodeDecodeError as error:
                return BadCell(shown(cell), f"is not UTF-8 at byte {error.start + 1}")
        return cell
    except Exception as error:  # Arrow has some forty types; whatever one of them raises costs this cell.
        return BadCell(f"a cell of {scalar.type}", f"cannot be read: {str(error)[:200]}")
