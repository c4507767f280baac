"""The bytes of a catalog (CSV, JSON lines or Parquet) as numbered rows: cells, or the reason why there are none.

The file is not trusted, and nothing is kept longer than its row, so memory does not grow with the catalog, with a line,
or with a page of Parquet. A record that spans several lines and is no row costs its first line only: reading goes on
with the next line, so a quote that is never closed does not take the rest of the file with it.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from batch_jobs.catalog.parquet_layout import RowGroup, row_bytes, row_groups
from orchestrion.errors import InvalidRequest
from orchestrion.tracks.spec import TrackSpec
from orchestrion.tracks.strict_json import parse_json_object

#: A longer line is a broken file, not a request: the longest valid row is about 15 kB of UTF-8.
MAX_LINE_BYTES: Final = 64 * 1024
#: Lines that one CSV record may span. Without a limit a line of five bytes can cost 64 kB of reading.
MAX_RECORD_LINES: Final = 100
#: A line without an end is skipped in pieces of this size.
BLOCK_BYTES: Final = 1024 * 1024
PARQUET_BATCH_ROWS: Final = 1024
#: What the rows of a batch may take, unpacked.
PARQUET_BATCH_BYTES: Final = 32 * 1024 * 1024
#: Writers make groups of 100,000 to a million rows. Each row of a damaged group is reported, so this bounds what a
#: forged count can make of it.
MAX_ROW_GROUP_ROWS: Final = 10_000_000

#: Columns that are the caller's own and go to the ledger as they are.
LABELS: Final = ("row_id", "title")
COLUMNS: Final = (*LABELS, *TrackSpec.model_fields)


@dataclass(frozen=True, slots=True)
class TextCells:
    """Cells of a CSV row: text, empty where nothing is given."""

    cells: dict[str, str]


@dataclass(frozen=True, slots=True)
class BadCell:
    """What stands for a typed cell that was not read: `value` as a message may show it, and what is wrong with it."""

    value: str
    reason: str


#: What a reader makes of one row: typed cells (some perhaps a `BadCell`), text cells, or what is wrong with the row.
Read = dict[str, Any] | TextCells | str


# Lines


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    #: At most `MAX_LINE_BYTES` + 1 bytes; the rest of a longer line was skipped.
    data: bytes

    def text(self) -> str:
        if len(self.data) > MAX_LINE_BYTES:
            raise InvalidRequest.of("row", "…", f"the line is longer than {MAX_LINE_BYTES} bytes")
        if b"\0" in self.data:
            raise InvalidRequest.of("row", "\0", "the line contains a NUL byte")
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError as error:
            wrong = self.data[error.start : error.end]
            raise InvalidRequest.of("row", wrong, f"byte {error.start + 1} of the line is not UTF-8") from None


@dataclass(slots=True)
class _Lines:
    """The lines of a file, one at a time; lines may be given back."""

    file: IO[bytes]
    number: int = 0
    returned: deque[_Line] = field(default_factory=deque)
    block: bytes = b""
    at: int = 0

    def __iter__(self) -> Iterator[_Line]:
        return self

    def __next__(self) -> _Line:
        if self.returned:
            return self.returned.popleft()
        data = self._next_bytes()
        if not data:
            raise StopIteration
        self.number += 1
        return _Line(self.number, self._without_mark(data) if self.number == 1 else data)

    def give_back(self, lines: Iterable[_Line]) -> None:
        self.returned.extendleft(reversed(tuple(lines)))

    def _next_bytes(self) -> bytes:
        # The file's own readline would do, but takes a line of 10 GB in a hundred thousand calls, and from S3 in more.
        line = b""
        while True:
            end = self.block.find(b"\n", self.at) + 1
            stop = end or len(self.block)
            line += self.block[self.at : min(stop, self.at + MAX_LINE_BYTES + 1 - len(line))]
            self.at = stop
            if end:
                return line
            self.block, self.at = self.file.read(BLOCK_BYTES), 0
            if not self.block:
                return line

    @staticmethod
    def _without_mark(data: bytes) -> bytes:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InvalidRequest.of("catalog", data[:2], "is UTF-16; save it as UTF-8")
        return data.removeprefix(b"\xef\xbb\xbf")


# CSV (RFC 4180, comma-separated, with a header)


def _csv_rows(file: IO[bytes]) -> Iterator[tuple[int, Read]]:
    lines = _Lines(file)
    columns: list[str] | None = None
    for first in lines:
        if not first.data.strip():
            continue
        try:
            cells = _csv_record(first, lines, columns)
        except InvalidRequest as error:
            if columns is None:
                raise
            yield first.number, str(error)
            continue
        if columns is None:
            columns = _checked_columns([name.strip() for name in cells])
        else:
            yield first.number, TextCells(dict(zip(columns, cells, strict=True)))
    if columns is None:
        raise InvalidRequest.of("catalog", "", "is empty; the first line must name its columns: " + ", ".join(COLUMNS))


def _csv_record(first: _Line, lines: _Lines, columns: list[str] | None) -> list[str]:
    """The record that begins at `first`; when there is none, the lines after `first` are given back."""
    taken: list[_Line] = []

    def text_lines() -> Iterator[str]:
        yield first.text()
        size = len(first.data)
        for line in lines:
            taken.append(line)
            size += len(line.data)
            if size > MAX_LINE_BYTES or len(taken) >= MAX_RECORD_LINES:
                return
            yield line.text()

    try:
        cells = next(csv.reader(text_lines(), strict=True))
        if columns is not None and len(cells) != len(columns):
            raise InvalidRequest.of("row", cells[0], f"has {len(cells)} cells, the header has {len(columns)}")
    except csv.Error as error:
        lines.give_back(taken)
        raise InvalidRequest.of("row", first.text().rstrip("\r\n"), f"is not a CSV row: {error}") from None
    except InvalidRequest:
        lines.give_back(taken)
        raise
    return cells


def _checked_columns(names: list[str]) -> list[str]:
    unknown = [name for name in names if name not in COLUMNS]
    remedy = "known columns: " + ", ".join(COLUMNS)
    if unknown:
        raise InvalidRequest.of("catalog", ", ".join(unknown), f"has unknown columns (comma-separated?); {remedy}")
    if len(set(names)) < len(names):
        raise InvalidRequest.of("catalog", ", ".join(names), "names a column twice")
    if "prompt" not in names:
        raise InvalidRequest.of("catalog", ", ".join(names), f"has no column 'prompt'; {remedy}")
    return names


# JSON lines


def _jsonl_rows(file: IO[bytes]) -> Iterator[tuple[int, Read]]:
    for line in _Lines(file):
        if not line.data.strip():
            continue
        try:
            yield line.number, parse_json_object(line.text(), "row")
        except InvalidRequest as error:
            yield line.number, str(error)


# Parquet


def _parquet_rows(file: IO[bytes]) -> Iterator[tuple[int, Read]]:
    parquet, groups = _opened_parquet(file)
    number = 0
    for index, group in enumerate(groups):
        for read in _group_rows(file, parquet, index, group):
            number += 1
            yield number, read


def _opened_parquet(file: IO[bytes]) -> tuple[pq.ParquetFile, list[RowGroup]]:
    try:
        groups = list(row_groups(file))
        metadata = pq.read_metadata(file)
        leaves = [metadata.schema.column(leaf).path for leaf in range(metadata.num_columns)]
        # Without a buffer size Arrow would hold the compressed row group whole.
        parquet = pq.ParquetFile(file, metadata=metadata, buffer_size=BLOCK_BYTES, page_checksum_verification=True)
        _checked_columns(parquet.schema_arrow.names)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidRequest.of("catalog", "", f"is not a readable Parquet file: {_why(error)}") from None
    for group in groups:
        if [chunk.path for chunk in group.chunks] != leaves:
            raise InvalidRequest.of("catalog", "", "is not a readable Parquet file: the footer is damaged")
        if group.rows > MAX_ROW_GROUP_ROWS:
            message = f"has a row group of so many rows; write groups of at most {MAX_ROW_GROUP_ROWS}"
            raise InvalidRequest.of("catalog", group.rows, message)
    return parquet, groups


def _group_rows(file: IO[bytes], parquet: pq.ParquetFile, index: int, group: RowGroup) -> Iterator[Read]:
    """As many as the file says that there are, whatever is left of them."""
    done = 0
    why = "it ends before its last row"
    try:
        unread = _unread(parquet, group)
        names = [name for name in parquet.schema_arrow.names if name not in unread]
        bad = {name: cell for name, cell in unread.items() if cell is not None}
        rows = int(PARQUET_BATCH_BYTES / max(1.0, row_bytes(file, group, names)))
        # No threads: they would read from the file behind our back.
        batches = parquet.iter_batches(max(1, min(PARQUET_BATCH_ROWS, rows)), [index], names, use_threads=False)
        for cells in (cells for batch in batches for cells in _batch_rows(batch)):
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


def _unread(parquet: pq.ParquetFile, group: RowGroup) -> dict[str, BadCell | None]:
    """The columns of a row group that are not read, since one cell of theirs may hold any amount.

    None for one that is null in every row, and so reads as not given.
    """
    unread: dict[str, BadCell | None] = {}
    for leaf, chunk in enumerate(group.chunks):
        name = chunk.path.partition(".")[0]
        kind = parquet.schema_arrow.field(name).type
        if pa.types.is_nested(kind) or parquet.schema.column(leaf).length > MAX_LINE_BYTES:
            unread.setdefault(name, None)
            if chunk.null_count != group.rows:
                unread[name] = BadCell(f"a column of {str(kind)[:80]}", "must be text or a number")
    return unread


def _batch_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    names = batch.schema.names
    columns = [_cells(name, column) for name, column in zip(names, batch.columns, strict=True)]
    for at in range(batch.num_rows):
        yield {name: column[at] for name, column in zip(names, columns, strict=True) if column[at] is not None}


def _cells(name: str, column: pa.Array) -> list[object]:
    if isinstance(column, pa.DictionaryArray):
        values = column.dictionary
        return [
            # The indices of a damaged page may lie anywhere.
            None if at is None else _cell(name, values[at]) if 0 <= at < len(values) else BadCell("…", "is damaged")
            for at in column.indices.to_pylist()
        ]
    return [_cell(name, scalar) for scalar in column]


def _cell(name: str, scalar: pa.Scalar) -> object:
    try:
        if isinstance(scalar, pa.BinaryScalar) and scalar.is_valid and scalar.as_buffer().size > MAX_LINE_BYTES:
            return BadCell(f"{scalar.as_buffer().size} bytes", f"is longer than {MAX_LINE_BYTES} bytes")
        cell = scalar.as_py()
        if isinstance(cell, Decimal):
            cell = float(cell)
        # pandas turns a column of whole numbers into floats as soon as one cell is missing.
        if name in _WHOLE_NUMBERS and isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
            cell = int(cell)
        return cell
    except Exception as error:  # Arrow has some forty types; whatever one of them raises costs this cell.
        return BadCell(f"a cell of {scalar.type}", f"cannot be read: {str(error)[:200]}")


_WHOLE_NUMBERS: Final = frozenset({"row_id", "seed", "sample_rate_hz", "top_k"})

#: How a file of this suffix is read, row by row: the line that the row begins at, from 1 (in Parquet: its number).
READERS: Final[dict[str, Callable[[IO[bytes]], Iterator[tuple[int, Read]]]]] = {
    ".csv": _csv_rows,
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".parquet": _parquet_rows,
}
