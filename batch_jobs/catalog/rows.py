"""A catalog (CSV, JSON, Parquet or Arrow) as a stream of rows: each one a request, or the reason why it is not.

`files` has the readers of bytes; here cells become requests, and files beside the catalog become uploads. A row id that
was there before costs the row: it is the caller's key, and the ledger would hold two tracks under it.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from batch_jobs.catalog.cells import (
    BadCell,
    Opened,
    Read,
    TextCells,
    from_text,
    from_types,
    is_blank,
    is_given,
    kept_text,
    label_text,
)
from batch_jobs.catalog.columns import LABELS, ColumnNames, Kept
from batch_jobs.catalog.files import READERS, TABLES
from batch_jobs.catalog.location import CatalogFile, catalog_files, open_beside, open_catalog
from batch_jobs.catalog.tables import TableReader, open_table
from orchestrion.errors import InvalidRequest, Problem, StoreUnavailable, shown
from orchestrion.tracks.request import TrackRequest
from orchestrion.tracks.said import said_in
from orchestrion.tracks.spec import TrackSpec

MAX_UPLOAD_BYTES: Final = 20 * 1024 * 1024
MAX_LABEL_CHARACTERS: Final = 500
#: Files whose reference is remembered, so that a catalog on one theme reads its file once.
REMEMBERED_FILES: Final = 1024
#: Columns that may name a file beside the catalog instead of an upload.
UPLOADS: Final = ("theme", "continuation")
#: A catalog that calls its columns as we do.
OWN_NAMES: Final[Mapping[str, str]] = MappingProxyType({})


class ReadRow(NamedTuple):
    """A row as its reader gives it. `line` counts lines of the file from 1 (rows, in Parquet)."""

    line: int
    read: Read
    #: Where it stands in a catalog of several files, in words.
    place: str | None


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """A row that can be rendered. `line` counts lines of the file from 1 (rows, in Parquet and Arrow)."""

    line: int
    row_id: str | None
    title: str | None
    spec: TrackSpec
    request: TrackRequest
    #: Names of files beside the catalog that are to be its uploads, by column; `spec` has neither of these columns yet.
    files: Mapping[str, str] = field(default_factory=dict)
    #: What of it is carried into the ledger, by the catalog's own names.
    kept: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that cannot be rendered, and what its author has to mend."""

    line: int
    row_id: str | None
    title: str | None
    message: str
    #: Who asked for what, as far as that can be read.
    requester: str | None = None
    model: str | None = None
    style: str | None = None
    kept: Mapping[str, str] = field(default_factory=dict)


def catalog_sha256(url: str, storage_options: Mapping[str, Any]) -> str:
    """Hash of the catalog file's bytes; of several files, hash of their names and hashes.

    Raises:
        InvalidRequest: a catalog cannot have such an address.
        NotFound: there is no such file.
    """
    files = catalog_files(url, storage_options)
    hashes = [(file.name, _sha256(file.url, storage_options)) for file in files]
    if len(hashes) == 1 and not hashes[0][0]:
        return hashes[0][1]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def _sha256(url: str, storage_options: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    with open_catalog(url, storage_options) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def how_read(
    url: str,
    storage_options: Mapping[str, Any],
    column_map: Mapping[str, str] = OWN_NAMES,
    keep_columns: Collection[str] = (),
) -> str:
    """One line that says how the catalog is understood, e.g. "CSV in UTF-8, separated by semicolons".

    Raises:
        InvalidRequest: the catalog as a whole cannot be used.
        NotFound: there is no such file.
        StoreUnavailable: it was there but could not be read.
    """
    files = catalog_files(url, storage_options)
    columns = ColumnNames(column_map, keep_columns)
    with TableReader() as tables, _opened(url, files[0], storage_options, columns, tables) as opened:
        said = list(opened.said)
    if files[0].name:
        first, last = shown(files[0].name), shown(files[-1].name)
        several = f"{len(files)} files in the order of their names, {first} to {last}"
        said[0] = f"Parquet, {several}" if len(files) > 1 else f"Parquet, {first}"
    return "; ".join(said)


def read_catalog(
    url: str,
    storage_options: Mapping[str, Any],
    put_theme: Callable[[bytes], str],
    default_model: str,
    first_line_of: Callable[[str, int], int],
    column_map: Mapping[str, str] = OWN_NAMES,
    keep_columns: Collection[str] = (),
    tables: TableReader | None = None,
) -> Iterator[CatalogRow | RefusedRow]:
    """Each row of the catalog, in order; a row in which nothing is given is none.

    Themes and continuations given as paths are handed to `put_theme`.

    Args:
        url: Path or URL (`location.SCHEMES`) that ends as `files.READERS` says, or a folder or pattern of Parquet.
        storage_options: Passed to fsspec.
        put_theme: Stores a theme's or a continuation's bytes and returns its "sha256:…" reference.
        default_model: For rows that name none.
        first_line_of: Given a row id and the line it stands in, returns the line in which it was seen first, which is
            this one if it is new.
        column_map: Of our columns, those that the catalog calls otherwise, and how.
        keep_columns: Columns that are none of ours and go to the ledger as they are; `columns.KEEP_ALL` for all.
        tables: Reads Parquet and Arrow, for callers with many catalogs; by default one for this catalog.

    Raises:
        InvalidRequest: the catalog as a whole cannot be used (kind, header, columns; JSON that ends in the middle).
        NotFound: there is no such file.
        StoreUnavailable: the file was there but could not be read to its end.
    """
    folder = CatalogFolder(url, storage_options, put_theme)
    for read in catalog_reads(url, storage_options, column_map, keep_columns, tables):
        row = row_of(read, default_model, first_line_of)
        yield with_files(row, folder.reference, read.place) if isinstance(row, CatalogRow) else row


def catalog_reads(
    url: str,
    storage_options: Mapping[str, Any],
    column_map: Mapping[str, str] = OWN_NAMES,
    keep_columns: Collection[str] = (),
    tables: TableReader | None = None,
) -> Iterator[ReadRow]:
    """The cells of each row of the catalog, in order, not looked at yet; a row in which nothing is given is none.

    Raises:
        InvalidRequest: the catalog as a whole cannot be used (kind, header, columns; JSON that ends in the middle).
        NotFound: there is no such file.
        StoreUnavailable: the file was there but could not be read to its end.
    """
    columns = ColumnNames(column_map, keep_columns)
    before = 0
    with TableReader() if tables is None else nullcontext(tables) as reader:
        for file in catalog_files(url, storage_options):
            line, name = 0, shown(file.name) if file.name else None
            with _opened(url, file, storage_options, columns, reader) as opened:
                for line, read in opened.rows:
                    if not is_blank(read):
                        yield ReadRow(before + line, read, f"it is row {line} of {name}" if name else None)
            before += line


@contextmanager
def _opened(
    url: str, file: CatalogFile, storage_options: Mapping[str, Any], columns: ColumnNames, tables: TableReader
) -> Iterator[Opened]:
    suffix = PurePosixPath(file.url.partition("?")[0]).suffix.lower()
    if suffix not in READERS:
        remedy = "is no catalog; its name must end in " + ", ".join(READERS) + ", or it is a folder of .parquet files"
        raise InvalidRequest.of("catalog", url, remedy)
    with open_catalog(file.url, storage_options) as bytes_:
        try:
            if suffix in TABLES:
                yield open_table(TABLES[suffix], bytes_, columns, file.partition, tables)
            else:
                yield READERS[suffix](bytes_, columns)
        except OSError as error:
            raise StoreUnavailable(f"the catalog {shown(url)} could not be read to its end: {error}") from None
        except InvalidRequest as error:
            name = file.name or PurePosixPath(file.url.partition("?")[0]).name
            raise InvalidRequest(
                [Problem(f"{p.field} {shown(name)}", p.value, p.message) for p in error.problems]
            ) from None


def is_sampled(row: CatalogRow, share: float) -> bool:
    """Whether the row belongs to a sample of this share (0 to 1) of all rows.

    By content, so that a sample is the same each time, and part of every larger one; rows that ask for the same are in
    it together.
    """
    if share >= 1.0:
        return True
    digest = hashlib.sha256(row.spec.model_dump_json(exclude_defaults=True).encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def row_of(read: ReadRow, default_model: str, first_line_of: Callable[[str, int], int]) -> CatalogRow | RefusedRow:
    """What a row asks for, or why it asks for nothing; the files that it names are not looked at yet."""
    if isinstance(read.read, str):
        return _refused(read, read.read)
    cells: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, cell in (read.read.cells if isinstance(read.read, TextCells) else read.read).items():
        if isinstance(name, Kept):
            unknown[name.name] = cell
        else:
            cells[name] = cell
    if not is_given(cells.get("model")):
        cells["model"] = default_model
    labels: dict[str, str | None] = {"row_id": None, "title": None}
    kept: dict[str, str] = {}
    asked = dict(cells)
    try:
        # All labels first: a row that is refused for another reason can still be found by its id.
        given = {name: cells.pop(name, None) for name in LABELS}
        for name, value in given.items():
            labels[name] = _label(name, value)
        kept = kept_text(unknown)
        _check_new(labels["row_id"], read.line, first_line_of)
        if bad := [Problem(name, cell.value, cell.reason) for name, cell in cells.items() if isinstance(cell, BadCell)]:
            raise InvalidRequest(bad)
        files = {name: cells.pop(name) for name in UPLOADS if _is_path(cells.get(name))}
        if isinstance(read.read, TextCells):
            spec = TrackSpec.from_text(from_text(cells, read.read.decimal_comma))
        else:
            spec = TrackSpec.from_json(from_types(cells))
        request = spec.resolve()
    except InvalidRequest as error:
        who = {name: _readable(name, asked) for name in ("requester", "model", "style")}
        return _refused(read, str(error), labels["row_id"], labels["title"], kept, **who)
    return CatalogRow(read.line, labels["row_id"], labels["title"], spec, request, files, kept)


def with_files(row: CatalogRow, reference: Callable[[str, str], str], place: str | None) -> CatalogRow | RefusedRow:
    """The row with references in place of the files that it names, which `reference` stores.

    Last of all, so that only rows that will be rendered put anything into the store.
    """
    if not row.files:
        return row
    try:
        spec = row.spec.model_copy(update={name: reference(name, path) for name, path in row.files.items()})
        return replace(row, spec=spec, request=spec.resolve(), files={})
    except InvalidRequest as error:
        return refused_after_all(row, str(error), place)


def refused_after_all(row: CatalogRow, message: str, place: str | None) -> RefusedRow:
    """A row that is in order by itself, and yet cannot be rendered."""
    asked = row.request
    read = ReadRow(row.line, "", place)
    who = {"requester": asked.requester, "model": asked.composition.model, "style": asked.composition.style}
    return _refused(read, message, row.row_id, row.title, row.kept, **who)


def repeated_id(row_id: str, first: int) -> InvalidRequest:
    """What is wrong with a row whose id another row had before it, in this line."""
    return InvalidRequest.of("row_id", row_id, f"is the id of line {first} already; give each row its own, or none")


def _refused(
    read: ReadRow,
    message: str,
    row_id: str | None = None,
    title: str | None = None,
    kept: Mapping[str, str] = OWN_NAMES,
    **who: str | None,
) -> RefusedRow:
    return RefusedRow(read.line, row_id, title, placed(message, read.place), **who, kept=kept)


def placed(message: str, place: str | None) -> str:
    """What is wrong with a row, and where that stands if it is not in the catalog's only file."""
    return f"{message}; {place}" if place else message


def _readable(name: str, cells: Mapping[str, Any]) -> str | None:
    """What a refused row says of this field, or its default, where that alone is in order."""
    # A prompt must be there, and says the style of a row that has no column for it.
    wanted = {"prompt": "music"} | {key: cells[key] for key in (name, "prompt") if is_given(cells.get(key))}
    for given in (wanted, wanted | {"prompt": "music"}):
        with suppress(InvalidRequest):
            spec = TrackSpec.from_json(from_types(given))
            said = said_in(spec.prompt).fields.get("style") if name == "style" else None
            value = getattr(spec, name) or said
            return value if isinstance(value, str) else None
    return None


def _check_new(row_id: str | None, line: int, first_line_of: Callable[[str, int], int]) -> None:
    first = line if row_id is None else first_line_of(row_id, line)
    if row_id is not None and first != line:
        raise repeated_id(row_id, first)


def _label(name: str, value: object) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, BadCell):
        raise InvalidRequest([Problem(name, value.value, value.reason)])
    value = label_text(value)
    if not isinstance(value, str) or len(value) > MAX_LABEL_CHARACTERS:
        raise InvalidRequest.of(name, value, f"must be text of at most {MAX_LABEL_CHARACTERS} characters")
    if not value.isprintable() and any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise InvalidRequest.of(name, value, "contains control characters; use printable text")
    return value


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
            self.known[name] = self.put(self._read(column, name))
        return self.known[name]

    def _read(self, column: str, name: str) -> bytes:
        try:
            with open_beside(column, name, self.catalog_url, self.storage_options) as file:
                data = file.read(MAX_UPLOAD_BYTES + 1)
        except OSError as error:
            raise InvalidRequest.of(column, name, f"cannot be read: {error.strerror or error}") from None
        if not data:
            raise InvalidRequest.of(column, name, "is an empty file")
        if len(data) > MAX_UPLOAD_BYTES:
            raise InvalidRequest.of(column, name, f"is larger than {MAX_UPLOAD_BYTES // 2**20} MiB")
        return data
