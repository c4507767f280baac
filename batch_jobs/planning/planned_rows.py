"""What a plan keeps of each row of a catalog, and how rows become that: by themselves, one without another.

So rows can be planned by several processes, and what was planned once can be read again when the job goes on. What a
row has to do with others (an id that was there before, an upload that many share, the shard that it is in) is the
plan's own business.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

import batch_jobs.catalog
import orchestrion.errors
import orchestrion.tracks
from batch_jobs.catalog.rows import CatalogRow, ReadRow, RefusedRow, is_sampled, row_of, with_files
from orchestrion.tracks.request import COMPOSITION_FIELDS, DELIVERY_FIELDS, TrackRequest
from orchestrion.tracks.spec import TrackSpec


class PlannedRow(NamedTuple):
    """A row of the plan.

    With a `spec` it is to be rendered, with a `message` it can only fail. With neither it is no part of the job, and is
    here for its id.
    """

    line: int
    #: Where it stands in a catalog of several files, in words.
    place: str | None
    row_id: str | None
    title: str | None
    #: Whether no later row may have this id.
    takes_id: bool
    message: str | None = None
    #: Who asked for what, as far as that can be read.
    requester: str | None = None
    model: str | None = None
    style: str | None = None
    #: The wire form, as JSON.
    spec: str | None = None
    duration_s: float | None = None
    #: The same for rows that ask for the same audio, and for no others.
    content: bytes | None = None
    #: Names of files that are to be its uploads, by column, as JSON; they are not in `spec` and `content` yet.
    files: str | None = None
    #: Columns that go to the ledger as they are, as JSON.
    kept: str | None = None


#: The same as a table.
PART_SCHEMA: Final = pa.schema(
    [
        pa.field("line", pa.int64(), nullable=False),
        pa.field("place", pa.string()),
        pa.field("row_id", pa.string()),
        pa.field("title", pa.string()),
        pa.field("takes_id", pa.bool_(), nullable=False),
        pa.field("message", pa.string()),
        pa.field("requester", pa.string()),
        pa.field("model", pa.string()),
        pa.field("style", pa.string()),
        pa.field("spec", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("content", pa.binary()),
        pa.field("files", pa.string()),
        pa.field("kept", pa.string()),
    ]
)
#: Rows of a part that are Python's objects at a time.
_UNPACKED_ROWS: Final = 256

_COMPOSITION: Final = attrgetter(*(name for name in COMPOSITION_FIELDS if name != "key"))
_DELIVERY: Final = attrgetter(*(name for name in DELIVERY_FIELDS if name != "format"))


@dataclass(frozen=True, slots=True)
class RowSettings:
    """What decides how a row is planned, besides the row."""

    #: For rows that name none.
    default_model: str
    #: The share of all rows that the job is about.
    sample: float


def planned_row(row: CatalogRow | RefusedRow, place: str | None, takes_id: bool, sample: float) -> PlannedRow:
    """What the plan keeps of a row."""
    if isinstance(row, RefusedRow):
        refused = PlannedRow(row.line, place, row.row_id, row.title, takes_id, kept=_as_json(row.kept))
        if sample < 1.0:
            # What cannot be read belongs to no sample.
            return refused
        return refused._replace(message=row.message, requester=row.requester, model=row.model, style=row.style)
    # What is in the files decides whether the row is in a sample.
    if not row.files and not is_sampled(row, sample):
        return PlannedRow(row.line, place, row.row_id, row.title, takes_id)
    asked = row.request.composition
    return PlannedRow(
        line=row.line,
        place=place,
        row_id=row.row_id,
        title=row.title,
        takes_id=takes_id,
        requester=row.request.requester,
        model=asked.model,
        style=asked.style,
        spec=row.spec.model_dump_json(exclude_defaults=True),
        duration_s=asked.duration_s,
        content=_content(row.request),
        files=_as_json(row.files),
        kept=_as_json(row.kept),
    )


def _as_json(texts: Mapping[str, str]) -> str | None:
    return json.dumps(dict(texts), separators=(",", ":")) if texts else None


def texts_of(column: str | None) -> dict[str, str]:
    """What `kept` or `files` says: texts by the names of the catalog's columns."""
    return json.loads(column) if column else {}


def _content(request: TrackRequest) -> bytes:
    """A hash of what determines the audio; of the model its name, which has one revision in one job."""
    # Not canonical JSON as for a track's id: only hashes of one release are ever compared. -0.0 and 0.0 are one number.
    piece, form = request.composition, request.delivery
    values = (*_COMPOSITION(piece), str(piece.key), form.format.value, *_DELIVERY(form))
    plain = [value + 0.0 if isinstance(value, float) else value for value in values]
    return hashlib.blake2b(repr(plain).encode(), digest_size=16).digest()


def with_uploads(row: PlannedRow, reference: Callable[[str, str], str], sample: float) -> PlannedRow:
    """A row that names files with what `reference` makes of them: given a column and a name, an upload's reference."""
    spec = TrackSpec.model_validate_json(row.spec or "")
    files, kept = texts_of(row.files), texts_of(row.kept)
    asked = CatalogRow(row.line, row.row_id, row.title, spec, spec.resolve(), files, kept)
    return planned_row(with_files(asked, reference, row.place), row.place, row.takes_id, sample)


def plan_rows(reads: Sequence[ReadRow], settings: RowSettings) -> bytes:
    """What the plan keeps of these rows, as Parquet of `PART_SCHEMA`."""
    return packed(list(_planned(reads, settings)))


def _planned(reads: Sequence[ReadRow], settings: RowSettings) -> Iterator[PlannedRow]:
    taken: set[int] = set()

    def note(_: str, line: int) -> int:
        taken.add(line)
        # Whether an earlier row has this id is seen when all rows are together.
        return line

    for read in reads:
        row = row_of(read, settings.default_model, note)
        yield planned_row(row, read.place, read.line in taken, settings.sample)


def packed(rows: Sequence[PlannedRow]) -> bytes:
    """Rows as Parquet."""
    columns = list(zip(*rows, strict=True)) or [()] * len(PART_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, PART_SCHEMA, strict=True)]
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(arrays, schema=PART_SCHEMA), buffer, compression="zstd", write_statistics=False)
    data: bytes = buffer.getvalue().to_pybytes()
    return data


def unpacked(part: bytes) -> Iterator[tuple[Any, ...]]:
    """The rows of a part, each the values of a `PlannedRow`."""
    table = pq.read_table(pa.BufferReader(part), schema=PART_SCHEMA, use_threads=False)
    # As Python's objects a row is many times as large: some at a time.
    for batch in table.to_batches(max_chunksize=_UNPACKED_ROWS):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


@cache
def reader_version() -> str:
    """A hash of the code and the libraries that decide what is read of a row: with others, rows are planned anew."""
    digest = hashlib.sha256()
    folders = (Path(str(package.__file__)).parent for package in (batch_jobs.catalog, orchestrion.tracks))
    of_folders = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    for path in (*of_folders, Path(str(orchestrion.errors.__file__)), Path(__file__)):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    # Which characters are printable and what a number means is the interpreter's and the libraries' to say.
    digest.update(f"Python {platform.python_version()}\0".encode())
    for library in ("pydantic", "pydantic_core", "pyarrow"):
        digest.update(f"{library} {version(library)}\0".encode())
    return digest.hexdigest()
