"""A process that reads Parquet and Arrow for the driver of a job, so that a harmful file ends this process only.

    python -m batch_jobs.catalog.table_worker

It has its memory, its time and two pipes: no file and no connection can be opened in it, and the catalog's bytes are
asked for piece by piece. `table_protocol` says how. Ends with its standard input.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from batch_jobs.catalog.lines import BLOCK_BYTES
from batch_jobs.catalog.table_cells import cells_of
from batch_jobs.catalog.table_protocol import (
    MAX_GROUP_ROWS,
    MAX_MEMORY_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_PART_S,
    MAX_READ_BYTES,
    Kind,
    Reading,
)
from orchestrion.isolation.limits import forbid_files, leave_nothing, limit_cpu_time, limit_memory

BATCH_ROWS: Final = 1024
#: Of Arrow's data, when it becomes cells: as those and as JSON it takes several times as much.
_CELLS_BYTES: Final = 8 * 1024 * 1024
#: An Arrow file begins and ends with it; in a stream it stands nowhere.
_ARROW_MAGIC: Final = b"ARROW1"
_FEATHER_1: Final = b"FEA1"
#: Ends a stream, so that one that was cut off is known for it.
_END_OF_STREAM: Final = b"\xff\xff\xff\xff\0\0\0\0"
_READABLE: Final = {"parquet": "a readable Parquet file", "arrow": "readable Arrow data"}


class _UnusableError(Exception):
    """The file as a whole cannot be used."""


#: Which columns are read: their places in the file, and whether as text.
Take = Sequence[tuple[int, Reading]]


def main() -> None:
    """Read one file after the other, until there are no more."""
    messages = _Messages(sys.stdin.buffer, sys.stdout.buffer)
    _warm_up()
    leave_nothing()
    limit_memory(MAX_MEMORY_BYTES)
    forbid_files()
    while (request := messages.next()) is not None:
        try:
            _read(messages, request)
        except _UnusableError as error:
            messages.say({"unusable": str(error)})
        except MemoryError:
            messages.say({"unusable": _too_large()})


class _NoPandas(MetaPathFinder):
    """Arrow loads pandas where it is installed, in a second, to see whether it was given anything of it."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("is not needed here", name=fullname)


def _warm_up() -> None:
    """Have all that is loaded when it is needed first loaded while files can be opened."""
    sys.meta_path.insert(0, _NoPandas())
    moment = pa.array([0], pa.timestamp("us", "UTC"))
    table = pa.table({"text": ["a"], "number": [1.5], "moment": moment, "list": [[{"name": "a"}]]})
    out = io.BytesIO()
    pq.write_table(table, out)
    for batch in pq.ParquetFile(out, page_checksum_verification=True).iter_batches(use_threads=False):
        for column in batch.columns:
            cells_of(column, "text")
            cells_of(column, "list")


def _read(messages: _Messages, request: dict[str, Any]) -> None:
    limit_cpu_time(MAX_PART_S)
    kind: Kind = request["kind"]
    file = _DriversFile(messages, request["bytes"])
    try:
        table = _Parquet(file) if kind == "parquet" else _Arrow(file)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _UnusableError(f"is not {_READABLE[kind]}: {_why(error)}") from None
    messages.say({"columns": table.names})
    answer = messages.next()
    if answer is None:
        return
    for part in table.parts([(at, reading) for at, reading in answer["take"]]):
        messages.say(part)
        limit_cpu_time(MAX_PART_S)
    messages.say({"end": True})


class _Messages:
    """The two pipes."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes]) -> None:
        self._requests = requests
        self._answers = answers

    def next(self) -> dict[str, Any] | None:
        """What the driver says; None when it says no more."""
        line = self._requests.readline()
        return json.loads(line) if line else None

    def say(self, message: dict[str, Any]) -> None:
        """Tell the driver, in as many messages as it takes."""
        line = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
        if len(line) >= MAX_MESSAGE_BYTES and message.get("rows", 1) > 1 and "cells" in message:
            half = message["rows"] // 2
            for rows, some in ((half, slice(half)), (message["rows"] - half, slice(half, None))):
                self.say({"rows": rows, "cells": [cells[some] for cells in message["cells"]]})
            return
        self._answers.write(line + b"\n")
        self._answers.flush()

    def read(self, at: int, size: int) -> bytes:
        """Bytes of the file."""
        self.say({"read": [at, size]})
        data = self._requests.read(size)
        if len(data) < size:
            raise EOFError("the driver is gone")
        return data


class _DriversFile(io.RawIOBase):
    """The catalog's file, which the driver reads."""

    def __init__(self, messages: _Messages, size: int) -> None:
        self._messages = messages
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._at)
        left = left if size is None or size < 0 else min(left, size)
        parts = []
        while left:
            parts.append(self._messages.read(self._at, min(left, MAX_READ_BYTES)))
            self._at += len(parts[-1])
            left -= len(parts[-1])
        return b"".join(parts)


class _Parquet:
    def __init__(self, file: _DriversFile) -> None:
        # Without a buffer size Arrow would hold the compressed row group whole.
        self._file = pq.ParquetFile(file, buffer_size=BLOCK_BYTES, page_checksum_verification=True)
        self.names: list[str] = list(self._file.schema_arrow.names)
        for group in range(self._file.num_row_groups):
            rows = self._file.metadata.row_group(group).num_rows
            if not 0 <= rows <= MAX_GROUP_ROWS:
                raise _UnusableError(f"has a row group of {rows} rows; write groups of at most {MAX_GROUP_ROWS}")

    def parts(self, take: Take) -> Iterator[dict[str, Any]]:
        """All rows, a damaged row group as so many rows that are lost."""
        for group in range(self._file.num_row_groups):
            yield from self._group(group, take)

    def _group(self, group: int, take: Take) -> Iterator[dict[str, Any]]:
        """As many rows as the file says that there are, whatever is left of them."""
        left = self._file.metadata.row_group(group).num_rows
        why = "it ends before its last row"
        names = [self.names[at] for at, _ in take]
        try:
            # No threads: they would read from the file behind our back.
            for batch in self._file.iter_batches(BATCH_ROWS, [group], names, use_threads=False) if names else ():
                columns = [(batch.column(name), reading) for name, (_, reading) in zip(names, take, strict=True)]
                for part in _parts(columns, min(batch.num_rows, left)):
                    left -= part["rows"]
                    yield part
        except MemoryError:
            why = _too_large()
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            why = _why(error)
        if left and not names:
            yield {"rows": left, "cells": []}
        elif left:
            of = f"row group {group + 1} of {self._file.num_row_groups}"
            yield {"rows": left, "lost": f"{of} is damaged or too large: {why}"}


class _Arrow:
    """An Arrow file (Feather version 2) or stream. Where a batch is damaged, nobody knows how many rows it had."""

    def __init__(self, file: _DriversFile) -> None:
        head = file.read(len(_ARROW_MAGIC))
        if head.startswith(_FEATHER_1):
            raise _UnusableError("is Feather of version 1; write version 2, or Parquet")
        self._is_file = head == _ARROW_MAGIC
        if not self._is_file:
            file.seek(-len(_END_OF_STREAM), io.SEEK_END)
            if file.read() != _END_OF_STREAM:
                raise _UnusableError("is no Arrow file, and no Arrow stream that is whole")
        self._source = file
        with self._open(None) as reader:
            self.names: list[str] = list(reader.schema.names)

    def _open(self, columns: list[int] | None) -> pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
        self._source.seek(0)
        options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=columns)
        if self._is_file:
            return pa.ipc.open_file(pa.PythonFile(self._source, "r"), options=options)
        return pa.ipc.open_stream(pa.PythonFile(self._source, "r"), options=options)

    def parts(self, take: Take) -> Iterator[dict[str, Any]]:
        """All rows."""
        names = [self.names[at] for at, _ in take]
        read = 0
        try:
            with self._open(sorted(at for at, _ in take)) as reader:
                for batch in _batches(reader):
                    if batch.num_rows > MAX_GROUP_ROWS:
                        raise _UnusableError(f"has a batch of {batch.num_rows} rows; write at most {MAX_GROUP_ROWS}")
                    batch.validate(full=True)
                    columns = [(batch.column(name), reading) for name, (_, reading) in zip(names, take, strict=True)]
                    yield from _parts(columns, batch.num_rows)
                    read += batch.num_rows
        except MemoryError:
            # One of Arrow's is an ArrowException as well.
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise _UnusableError(f"is damaged after row {read}: {_why(error)}") from None


def _batches(reader: pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        return (reader.get_batch(at) for at in range(reader.num_record_batches))
    return iter(reader)


def _parts(columns: Sequence[tuple[pa.Array, Reading]], rows: int) -> Iterator[dict[str, Any]]:
    for start in range(0, rows, BATCH_ROWS):
        yield from _small_parts([(_own(column.slice(start, BATCH_ROWS)), reading) for column, reading in columns])


def _small_parts(columns: Sequence[tuple[pa.Array, Reading]]) -> Iterator[dict[str, Any]]:
    rows = len(columns[0][0])
    if rows > 1 and sum(_bytes_of(column) for column, _ in columns) > _CELLS_BYTES:
        half = rows // 2
        yield from _small_parts([(column.slice(0, half), reading) for column, reading in columns])
        yield from _small_parts([(column.slice(half), reading) for column, reading in columns])
        return
    yield {"rows": rows, "cells": [cells_of(column, reading) for column, reading in columns]}


def _own(column: pa.Array) -> pa.Array:
    """Views share their text with all other rows, so that nobody could say how much these have."""
    kind = column.type
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return column.cast(pa.large_string() if pa.types.is_string_view(kind) else pa.large_binary())
    return column


def _bytes_of(column: pa.Array) -> int:
    # A dictionary is in memory once, however many rows are left; only what they use of it becomes cells.
    return int(column.indices.nbytes if pa.types.is_dictionary(column.type) else column.nbytes)


def _why(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


def _too_large() -> str:
    at_most = MAX_MEMORY_BYTES >> 20
    return f"needs more than {at_most} MiB to be read; write pages of about 1 MB, and smaller row groups or batches"


if __name__ == "__main__":
    main()
