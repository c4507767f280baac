"""A catalog (CSV, JSONL or Parquet) as a stream of rows: each one a request, or the reason why it is not.

Bytes are decoded line by line and nothing outlives its row, so memory does not grow with the catalog. The surprising
thing: a record that spans several lines and does not read as one row only costs its first line; reading goes on with
the next one, so a quote that somebody forgot to close never swallows the rest of the file.
"""

from __future__ import annotations

import csv
import hashlib
import os
import stat
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from orchestrion.errors import InvalidRequest, NotFound, shown
from orchestrion.request import TrackRequest, TrackSpec
from orchestrion.strict_json import parse_json_object

#: A longer line is a broken file, not a request: the longest valid row is about 15 kB of UTF-8.
MAX_LINE_BYTES: Final = 64 * 1024
MAX_UPLOAD_BYTES: Final = 20 * 1024 * 1024
MAX_LABEL_CHARACTERS: Final = 500
#: Files whose reference is remembered, so that a catalog on one theme reads its file once.
REMEMBERED_FILES: Final = 1024
PARQUET_BATCH_ROWS: Final = 64

#: Columns that are the caller's own and go to the ledger as they are.
LABELS: Final = ("row_id", "title")
COLUMNS: Final = (*LABELS, *TrackSpec.model_fields)
#: Columns that may name a file beside the catalog instead of an upload.
UPLOADS: Final = ("theme", "continuation")

Cells = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """A row that can be rendered. `line` counts lines of the file from 1 (rows, in Parquet)."""

    line: int
    row_id: str | None
    title: str | None
    spec: TrackSpec
    request: TrackRequest


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that cannot be rendered, and what its author has to mend."""

    line: int
    row_id: str | None
    title: str | None
    message: str


def catalog_sha256(url: str, storage_options: Mapping[str, Any]) -> str:
    """Hash of the catalog file's bytes.

    Raises:
        NotFound: there is no such file.
    """
    digest = hashlib.sha256()
    with _opened(url, storage_options) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_catalog(
    url: str, storage_options: Mapping[str, Any], put_theme: Callable[[bytes], str], default_model: str = "composer"
) -> Iterator[CatalogRow | RefusedRow]:
    """Each row of the catalog, in order. Themes and continuations given as paths are handed to `put_theme`.

    Args:
        url: Path or fsspec URL that ends in .csv, .jsonl, .ndjson or .parquet.
        storage_options: Passed to fsspec.
        put_theme: Stores a theme's or a continuation's bytes and returns its "sha256:…" reference.
        default_model: For rows that name none.

    Raises:
        InvalidRequest: the catalog as a whole cannot be used (kind, header, columns); raised with the first row.
        NotFound: there is no such file.
    """
    suffix = PurePosixPath(url.partition("?")[0]).suffix.lower()
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".ndjson": _jsonl_rows, ".parquet": _parquet_rows}
    if suffix not in readers:
        raise InvalidRequest.of("catalog", url, "is no catalog; its name must end in " + ", ".join(readers))
    uploads = CatalogFolder(url, storage_options, put_theme)
    with _opened(url, storage_options) as file:
        for line, cells in readers[suffix](file):
            yield _row(line, cells, uploads, default_model)


def _opened(url: str, storage_options: Mapping[str, Any]) -> IO[bytes]:
    try:
        return fsspec.open(url, "rb", **storage_options).open()  # type: ignore[no-any-return]
    except (OSError, ValueError, ImportError) as error:
        raise NotFound(f"cannot open the catalog {shown(url)}: {error}") from None


@dataclass(frozen=True, slots=True)
class _Text:
    """Cells of a CSV row: text, empty where nothing is given."""

    cells: dict[str, str]


#: What a reader makes of one row: typed cells, text cells, or what is wrong with it.
_Read = dict[str, Any] | _Text | str


def _row(line: int, read: _Read, folder: CatalogFolder, default_model: str) -> CatalogRow | RefusedRow:
    if isinstance(read, str):
        return RefusedRow(line, None, None, read)
    cells: dict[str, Any] = dict(read.cells) if isinstance(read, _Text) else dict(read)
    if cells.get("model") in (None, ""):
        cells["model"] = default_model
    labels: dict[str, str | None] = {"row_id": None, "title": None}
    try:
        # All labels first: a row that is refused for another reason can still be found by its id.
        given = {name: cells.pop(name, None) for name in LABELS}
        for name, value in given.items():
            labels[name] = _label(name, value)
        paths = {name: cells.pop(name) for name in UPLOADS if _is_path(cells.get(name))}
        spec = TrackSpec.from_text(cells) if isinstance(read, _Text) else TrackSpec.from_json(cells)
        request = spec.resolve()
        if paths:
            # Last, so that only rows that will be rendered put anything into the store.
            spec = spec.model_copy(update={name: folder.reference(name, path) for name, path in paths.items()})
            request = spec.resolve()
    except InvalidRequest as error:
        return RefusedRow(line, labels["row_id"], labels["title"], str(error))
    return CatalogRow(line, labels["row_id"], labels["title"], spec, request)


def _label(name: str, value: object) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or len(value) > MAX_LABEL_CHARACTERS:
        raise InvalidRequest.of(name, value, f"must be text of at most {MAX_LABEL_CHARACTERS} characters")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise InvalidRequest.of(name, value, "contains control characters; use printable text")
    return value


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

    def __iter__(self) -> Iterator[_Line]:
        return self

    def __next__(self) -> _Line:
        if self.returned:
            return self.returned.popleft()
        data = self.file.readline(MAX_LINE_BYTES + 1)
        if not data:
            raise StopIteration
        rest = data
        while not rest.endswith(b"\n") and len(rest) > MAX_LINE_BYTES:
            rest = self.file.readline(MAX_LINE_BYTES + 1)
        self.number += 1
        return _Line(self.number, self._without_mark(data) if self.number == 1 else data)

    def give_back(self, lines: Iterable[_Line]) -> None:
        self.returned.extendleft(reversed(tuple(lines)))

    @staticmethod
    def _without_mark(data: bytes) -> bytes:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InvalidRequest.of("catalog", data[:2], "is UTF-16; save it as UTF-8")
        return data.removeprefix(b"\xef\xbb\xbf")


# CSV (RFC 4180, comma-separated, with a header)


def _csv_rows(file: IO[bytes]) -> Iterator[tuple[int, _Read]]:
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
            yield first.number, _Text(dict(zip(columns, cells, strict=True)))
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
            if size > MAX_LINE_BYTES:
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


def _jsonl_rows(file: IO[bytes]) -> Iterator[tuple[int, _Read]]:
    for line in _Lines(file):
        if not line.data.strip():
            continue
        try:
            yield line.number, parse_json_object(line.text(), "row")
        except InvalidRequest as error:
            yield line.number, str(error)


# Parquet


def _parquet_rows(file: IO[bytes]) -> Iterator[tuple[int, _Read]]:
    try:
        parquet = pq.ParquetFile(file)
        _checked_columns(parquet.schema_arrow.names)
        yield from _parquet_cells(parquet)
    except (pa.ArrowException, OSError) as error:
        raise InvalidRequest.of("catalog", "", f"is not a readable Parquet file: {error}") from None


def _parquet_cells(parquet: pq.ParquetFile) -> Iterator[tuple[int, _Read]]:
    number = 0
    for batch in parquet.iter_batches(batch_size=PARQUET_BATCH_ROWS):
        for index in range(batch.num_rows):
            number += 1
            try:
                yield number, {name: cell for name, cell in _cells_of(batch, index) if cell is not None}
            except (ValueError, OverflowError) as error:
                yield number, f"row: a cell cannot be read: {error}"


def _cells_of(batch: pa.RecordBatch, index: int) -> Iterator[tuple[str, Any]]:
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        cell = column[index].as_py()
        # pandas turns a column of whole numbers into floats as soon as one cell is missing.
        whole = name in _WHOLE_NUMBERS and isinstance(cell, float) and cell.is_integer()
        yield name, int(cell) if whole else cell


_WHOLE_NUMBERS: Final = frozenset({"seed", "sample_rate_hz", "top_k"})


# Files beside the catalog


def _is_path(cell: object) -> bool:
    return isinstance(cell, str) and bool(cell.strip()) and not cell.startswith("sha256:")


@dataclass(slots=True)
class CatalogFolder:
    """The folder of the catalog: the only place that a row's `theme` or `continuation` may name a file in."""

    catalog_url: str
    storage_options: Mapping[str, Any]
    put: Callable[[bytes], str]
    known: dict[str, str] = field(default_factory=dict)

    def reference(self, column: str, name: str) -> str:
        """Store the file of this name, which stands in this column, and return its "sha256:…" reference.

        Raises:
            InvalidRequest: the path leaves the folder, or the file cannot be read or is too large.
            StoreUnavailable: the store did not take it.
        """
        if name not in self.known:
            if len(self.known) >= REMEMBERED_FILES:
                self.known.clear()
            self.known[name] = self.put(self._read(column, _plain_relative(column, name)))
        return self.known[name]

    def _read(self, column: str, path: PurePosixPath) -> bytes:
        fs, catalog = fsspec.url_to_fs(self.catalog_url, **self.storage_options)
        folder = str(PurePosixPath(catalog).parent)
        full = str(PurePosixPath(folder) / path)
        try:
            if isinstance(fs, LocalFileSystem):
                _check_inside(column, full, folder)
            with fs.open(full, "rb") as file:
                data: bytes = file.read(MAX_UPLOAD_BYTES + 1)
        except OSError as error:
            raise InvalidRequest.of(column, str(path), f"cannot be read: {error.strerror or error}") from None
        if len(data) > MAX_UPLOAD_BYTES:
            raise InvalidRequest.of(column, str(path), f"is larger than {MAX_UPLOAD_BYTES // 2**20} MiB")
        return data


def _plain_relative(column: str, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    strange = any(unicodedata.category(c) in ("Cc", "Cs") or c in "\\:?#%*" for c in name)
    if strange or path.is_absolute() or ".." in path.parts or len(name) > 1000:
        raise InvalidRequest.of(column, name, "must be 'sha256:…' or a plain path below the catalog's folder")
    return path


def _check_inside(column: str, path: str, folder: str) -> None:
    """Follow links now, so that none leads out of the folder; refuse pipes and devices, which may never end."""
    real, real_folder = os.path.realpath(path), os.path.realpath(folder)
    if os.path.commonpath([real, real_folder]) != real_folder:
        raise InvalidRequest.of(column, path, "is a link out of the catalog's folder")
    if not stat.S_ISREG(Path(real).stat().st_mode):
        raise InvalidRequest.of(column, path, "is not a regular file")
