"""Parquet and Arrow as numbered rows of typed cells, read by Arrow in a process of its own.

The file is not trusted, and Arrow was written for speed: whatever a file makes of it, a crash, gigabytes, a loop, ends
that process and is one refusal here. What comes back is text and numbers in JSON, checked like any other input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from types import MappingProxyType, TracebackType
from typing import IO, Any, Final, Self

from batch_jobs.catalog.cells import BadCell, Opened, Read, Row, typed_number
from batch_jobs.catalog.columns import ColumnNames, Kept, Name
from batch_jobs.catalog.table_protocol import (
    MAX_GROUP_ROWS,
    MAX_MEMORY_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_PART_S,
    MAX_READ_BYTES,
    Kind,
    Reading,
)
from orchestrion.errors import InvalidRequest
from orchestrion.isolation.process import IsolatedProcess, ProcessLostError
from orchestrion.tracks.spec import LISTS

COMMAND: Final = (sys.executable, "-m", "batch_jobs.catalog.table_worker")
#: Arrow's own allocators reserve addresses by the gigabyte, and would have none left under a limit.
ENVIRONMENT: Final = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
NOTHING: Final[Mapping[str, str | None]] = MappingProxyType({})
_CALLED: Final[Mapping[Kind, str]] = {"parquet": "Parquet", "arrow": "Arrow"}
_NO_ANSWER: Final = "answers what it was not asked"
#: Types of cells as JSON has them; a list is a cell that could not be read.
_CELL_TYPES: Final = frozenset({str, int, float, bool, type(None), list})


class TableReader:
    """One process that reads files, one after the other. Close it to end the process."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._process: IsolatedProcess | None = None
        self._table: _Table | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def open(self, kind: Kind, file: IO[bytes]) -> _Table:
        """Begin with a file. The one before is read no further.

        Raises:
            InvalidRequest: it cannot be used.
            OSError: it could not be read.
        """
        if self._table is not None and not self._table.is_done:
            self.close()
        try:
            size = file.seek(0, 2)
        except ValueError as error:
            message = f"cannot be read from any place on: {error}; copy it to a folder or a bucket first"
            raise InvalidRequest.of("catalog", "", message) from None
        if self._process is None:
            self._process = IsolatedProcess(self._command, ENVIRONMENT)
        self._table = _Table(self._process, file, size)
        self._table.begin(kind)
        return self._table


class _Table:
    """A file that a process reads for us."""

    def __init__(self, process: IsolatedProcess, file: IO[bytes], size: int) -> None:
        self._process = process
        self._file = file
        self._size = size
        #: Of its columns, in its own order.
        self.names: list[str] = []
        #: Whether the process is ready for another file.
        self.is_done = False

    def begin(self, kind: Kind) -> None:
        """Learn the names of its columns."""
        self._say({"kind": kind, "bytes": self._size})
        names = self._answer().get("columns")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self._lost(_NO_ANSWER)
        self.names = names

    def rows(self, take: Mapping[int, Name]) -> Iterator[Row | str]:
        """All rows of the file, or what is wrong with them.

        Args:
            take: The columns to read, by their places in the file, and what each is to be called.

        Raises:
            InvalidRequest: it cannot be read on.
            OSError: the same, for want of its bytes.
        """
        self._say({"take": [[at, _reading(name)] for at, name in take.items()]})
        names = list(take.values())
        while "end" not in (part := self._answer()):
            rows = part.get("rows")
            if type(rows) is not int or not 0 <= rows <= MAX_GROUP_ROWS:
                raise self._lost(_NO_ANSWER)
            if "lost" in part:
                yield from repeat(f"row: cannot be read: {_said(part['lost'])}", rows)
                continue
            columns = self._cells(part.get("cells"), len(names), rows)
            for at in range(rows):
                row = zip(names, columns, strict=True)
                yield {name: cell for name, cells in row if (cell := cells[at]) is not None}
        self.is_done = True

    def _cells(self, columns: object, count: int, rows: int) -> list[list[Any]]:
        """So many columns of so many cells, if they are that."""
        if not isinstance(columns, list) or len(columns) != count:
            raise self._lost(_NO_ANSWER)
        for at, cells in enumerate(columns):
            kinds = set(map(type, cells)) if isinstance(cells, list) and len(cells) == rows else {object}
            if not kinds <= _CELL_TYPES:
                raise self._lost(_NO_ANSWER)
            if list in kinds:
                columns[at] = [_bad_cell(cell) if isinstance(cell, list) else cell for cell in cells]
        return columns

    def _say(self, message: dict[str, Any]) -> None:
        try:
            self._process.write(json.dumps(message).encode() + b"\n", MAX_PART_S)
        except ProcessLostError as error:
            raise self._lost(str(error)) from None

    def _answer(self) -> dict[str, Any]:
        """What it says, when it has been given the bytes that it asks for."""
        try:
            while "read" in (message := json.loads(self._process.read_line(MAX_PART_S, MAX_MESSAGE_BYTES))):
                at, size = message["read"]
                self._process.write(self._bytes(int(at), int(size)), MAX_PART_S)
            if "unusable" in message:
                self.is_done = True
                raise InvalidRequest.of("catalog", "", _said(message["unusable"]))
            return dict(message)
        except ProcessLostError as error:
            raise self._lost(str(error)) from None
        except (ValueError, TypeError, RecursionError):
            raise self._lost("answers what nobody understands") from None

    def _bytes(self, at: int, size: int) -> bytes:
        if at < 0 or not 0 < size <= MAX_READ_BYTES or at + size > self._size:
            raise ValueError("it asks for what is not there")
        self._file.seek(at)
        data = b""
        while len(data) < size:
            if not (more := self._file.read(size - len(data))):
                raise OSError(f"it has become shorter than {self._size} bytes")
            data += more
        return data

    def _lost(self, what: str) -> InvalidRequest:
        self._process.kill()
        message = (
            f"cannot be read: the process that reads it {what}. It has {MAX_MEMORY_BYTES >> 20} MiB, and {MAX_PART_S} "
            "s for each thousand rows: the file is damaged or harmful, or needs smaller row groups and pages"
        )
        return InvalidRequest.of("catalog", "", message)


def _reading(name: Name) -> Reading:
    """How the cells of this column are read."""
    return "text" if isinstance(name, Kept) else "list" if name in LISTS else "typed"


def _bad_cell(cell: list[Any]) -> BadCell:
    value, reason = (*map(str, cell), "", "")[:2]
    return BadCell(_said(value), _said(reason))


def _said(text: object) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in str(text)[:500])


def open_table(
    kind: Kind,
    file: IO[bytes],
    columns: ColumnNames,
    beside: Mapping[str, str | None] = NOTHING,
    reader: TableReader | None = None,
) -> Opened:
    """Read the schema and check the columns.

    Args:
        kind: What the file is.
        file: Of any length; it is read in pieces.
        columns: What the columns may be called.
        beside: Cells that each row has besides those of the file, as text, under the catalog's own names.
        reader: Reads it, and is the caller's to close; by default one of its own.

    Raises:
        InvalidRequest: the file cannot be used.
    """
    tables = reader or TableReader()
    close = tables.close if reader is None else lambda: None
    try:
        table = tables.open(kind, file)
        theirs = table.names
        header = columns.header([*theirs, *beside])
    except BaseException:
        close()
        raise
    take = {at: name for at, name in enumerate(header.names[: len(theirs)]) if name}
    cells = zip(header.names[len(theirs) :], beside.values(), strict=True)
    all_have: Row = {name: _beside(name, cell) for name, cell in cells if name and cell is not None}
    return Opened((_CALLED[kind], *header.said), _numbered(table.rows(take), all_have), close)


def _beside(name: Name, cell: str) -> Any:  # noqa: ANN401  (a cell)
    return cell if isinstance(name, Kept) else typed_number(name, cell)


def _numbered(rows: Iterator[Row | str], all_have: Row) -> Iterator[tuple[int, Read]]:
    for number, read in enumerate(rows, start=1):
        yield number, read if isinstance(read, str) or not all_have else all_have | read
