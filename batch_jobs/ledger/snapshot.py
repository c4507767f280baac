"""What a ledger holds at one moment, and the manifest that says so: one JSON document, read strictly."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import date, datetime
from typing import Annotated, ClassVar, Final, Literal
from urllib.parse import quote

import pyarrow as pa
from pydantic import ConfigDict, Field, TypeAdapter

from batch_jobs.ledger.tables import (
    ATTEMPTS_SCHEMA,
    FAILURES_SCHEMA,
    LEDGER_SCHEMA_VERSION,
    NODES_SCHEMA,
    TRACKS_SCHEMA,
    day_field,
)
from batch_jobs.shared_folder import HIVE_TABLE_FILE, JOB_ID, SETTLEMENT, SHA256, TABLE_FILE
from orchestrion.errors import InvalidRequest, shown
from orchestrion.tracks.record import utc_timestamp

#: 3: a table's files have `day` and `model` as columns, and the first of them has no rows but the schema.
MANIFEST_VERSION: Final = 3
#: 2: folders say day and model, in Hive's way, and files do not.
READABLE_VERSIONS: Final = (2, MANIFEST_VERSION)
LAST_NUMBER: Final = 99_999_999
_Exactly = ConfigDict(extra="forbid", strict=True)
_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Sum = Annotated[float, Field(allow_inf_nan=False)]
JobState = Literal["complete", "interrupted", "budget", "failed"]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table lies in files."""

    #: Of its rows, as they are made.
    schema: pa.Schema
    #: The column whose UTC day is `day`.
    day_of: str
    #: Whether a file has the rows of one model only.
    by_model: bool
    #: Order within a file. A job's rows lie together, so that the question "what of this job" skips row groups.
    sorted_by: tuple[str, ...]

    @property
    def file_schema(self) -> pa.Schema:
        """The columns of its files: those of its rows, and `day`."""
        return self.schema.append(day_field(self.day_of))


TABLES: Final[Mapping[str, Layout]] = {
    "tracks": Layout(TRACKS_SCHEMA, "settled_at", True, ("job_id", "settled_at", "line")),
    "failures": Layout(FAILURES_SCHEMA, "settled_at", False, ("job_id", "settled_at", "line")),
    "attempts": Layout(ATTEMPTS_SCHEMA, "ended_at", False, ("job_id", "ended_at", "attempt_id")),
    "nodes": Layout(NODES_SCHEMA, "up_from", False, ("job_id", "up_from", "node_id")),
}


@dataclass(slots=True)
class Totals:
    """Sums over rows of one job. Money: `node_usd` is the bill, and the four sums before it add up to it."""

    __pydantic_config__: ClassVar[ConfigDict] = _Exactly

    tracks: int = 0
    failures: int = 0
    cache_hits: int = 0
    #: What the renders of its tracks held of devices.
    charged_usd: _Sum = 0.0
    #: What its tracks carry of the attempts that gave no track.
    waste_usd: _Sum = 0.0
    #: What its tracks carry of the time that workers were not rendering.
    idle_usd: _Sum = 0.0
    #: What no track carries.
    unallocated_usd: _Sum = 0.0
    node_usd: _Sum = 0.0
    #: What the cache hits would have cost: the sum of their `cost_usd`.
    saved_usd: _Sum = 0.0
    audio_s: _Sum = 0.0

    def add(self, other: Totals) -> None:
        """Count more rows in."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(frozen=True, slots=True)
class LedgerFile:
    """One Parquet file, by its path below the ledger's folder."""

    __pydantic_config__: ClassVar[ConfigDict] = _Exactly

    path: str
    rows: _Count
    bytes: _Count
    sha256: str
    #: The one job that its rows are of; None for a file of several.
    job_id: str | None
    day: str
    #: None in tables that are not split by model.
    model: str | None

    @property
    def is_of_hive(self) -> bool:
        """Whether an older release wrote it: `day` and `model` are in its path then, and not in its columns."""
        return HIVE_TABLE_FILE.fullmatch(self.path) is not None


@dataclass(frozen=True, slots=True)
class SchemaFile:
    """The first file of a table: no rows, all columns. Readers that ask the first file for the schema find it there."""

    __pydantic_config__: ClassVar[ConfigDict] = _Exactly

    path: str
    bytes: _Count
    sha256: str
    rows: Literal[0] = 0
    job_id: None = None
    day: None = None
    model: None = None

    @property
    def schema_version(self) -> int:
        """The ledger's schema that it has."""
        path = TABLE_FILE.fullmatch(self.path)
        return int(path["schema_version"]) if path else 0


@dataclass(frozen=True, slots=True)
class JobEntry:
    """What a manifest says of a job. A settlement counts, with its shards and workers, when it is named here."""

    __pydantic_config__: ClassVar[ConfigDict] = _Exactly

    catalog: str
    catalog_sha256: str
    #: An address, or a path from the ledger's folder on.
    store: str
    state: JobState
    #: Rows of its catalog.
    rows: _Count
    totals: Totals
    #: Keys of its settlements, oldest first. The name is that of the files.
    closings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replaced:
    """A file that left the tables, and when; it stays for readers of older manifests."""

    __pydantic_config__: ClassVar[ConfigDict] = _Exactly

    path: str
    at: str


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit does to the newest manifest."""

    #: By table.
    added: Mapping[str, Sequence[LedgerFile]] = field(default_factory=dict)
    #: Paths that leave the tables.
    removed: Collection[str] = ()
    #: By job id.
    jobs: Mapping[str, JobEntry] = field(default_factory=dict)
    #: Paths of replaced files that are deleted.
    forgotten: Collection[str] = ()
    #: By table: in place of those before. `Ledger.commit` sees to it that every table has one.
    schemas: Mapping[str, SchemaFile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of the four tables; number 0 is the empty ledger, which no manifest shows."""

    number: int
    written_at: str
    tables: Mapping[str, tuple[LedgerFile, ...]]
    jobs: Mapping[str, JobEntry]
    replaced: tuple[Replaced, ...]
    #: By table. None in a ledger that only older releases wrote.
    schemas: Mapping[str, SchemaFile] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> Snapshot:
        """The ledger before its first commit."""
        return cls(0, "", dict.fromkeys(TABLES, ()), {}, ())

    def after(self, change: Change, now: datetime, number: int | None = None) -> Snapshot:
        """The next state, by default of the next number."""
        forgotten = set(change.forgotten)
        removed = {*change.removed, *(self.schemas[name].path for name in change.schemas.keys() & self.schemas.keys())}
        tables = {}
        for name, files in self.tables.items():
            tables[name] = tuple(file for file in files if file.path not in removed) + tuple(change.added.get(name, ()))
        kept = tuple(each for each in self.replaced if each.path not in forgotten)
        left = tuple(Replaced(path, utc_timestamp(now)) for path in sorted(removed))
        jobs = {**self.jobs, **change.jobs}
        schemas = {**self.schemas, **change.schemas}
        return Snapshot(number or self.number + 1, utc_timestamp(now), tables, jobs, kept + left, schemas)

    def to_bytes(self) -> bytes:
        """The manifest."""
        values = {"manifest_version": MANIFEST_VERSION, "ledger_schema_version": LEDGER_SCHEMA_VERSION, **asdict(self)}
        for table, schema in values.pop("schemas").items():
            values["tables"][table] = [schema, *values["tables"][table]]
        return json.dumps(values, indent=1, allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes, number: int | None = None) -> Snapshot:
        """Read a manifest: the one of this `number`, if that is given.

        Raises:
            InvalidRequest: it is of a release with another layout.
            ValueError: it is no manifest, is that of another number, or names what this program does not write.
        """
        head = _HEAD.validate_json(data)
        if number is not None and head.number != number:
            raise ValueError("it has the number of another one")
        if head.manifest_version not in READABLE_VERSIONS:
            raise InvalidRequest.of(
                "ledger", head.manifest_version, "is the layout of another release; read it with that release"
            )
        found = _MANIFEST_VALUES.validate_json(data)
        if strange := sorted(found.tables.keys() - TABLES.keys()):
            raise ValueError(f"it has a table {shown(strange[0])}")
        schemas: dict[str, SchemaFile] = {}
        tables: dict[str, tuple[LedgerFile, ...]] = dict.fromkeys(TABLES, ())
        for table, files in found.tables.items():
            first = files[0] if files else None
            if isinstance(first, SchemaFile):
                _check_schema_file(table, first)
                schemas[table], files = first, files[1:]
            tables[table] = tuple(_checked_file(table, file) for file in files)
        for job_id, job in found.jobs.items():
            _check_job(job_id, job)
        for each in found.replaced:
            _check_replaced(each)
        return cls(found.number, found.written_at, tables, found.jobs, found.replaced, schemas)


@dataclass(frozen=True, slots=True)
class _Head:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)

    manifest_version: int
    number: int


@dataclass(frozen=True, slots=True)
class _ManifestValues:
    __pydantic_config__: ClassVar[ConfigDict] = _Exactly

    manifest_version: int
    ledger_schema_version: int
    number: Annotated[int, Field(ge=1, le=LAST_NUMBER)]
    written_at: str
    tables: dict[str, tuple[SchemaFile | LedgerFile, ...]]
    jobs: dict[str, JobEntry]
    replaced: tuple[Replaced, ...]


_HEAD: Final = TypeAdapter(_Head)
_MANIFEST_VALUES: Final = TypeAdapter(_ManifestValues)


def _checked_file(table: str, file: LedgerFile | SchemaFile) -> LedgerFile:
    """What a manifest says of a file, held to what `Ledger.write` would have written, in this release or an older one.

    Raises:
        ValueError: it would not have written that.
    """
    if isinstance(file, SchemaFile):
        raise ValueError(f"{shown(file.path)} has no rows and is not the first of {shown(table)}")
    of_hive = HIVE_TABLE_FILE.fullmatch(file.path)
    path = of_hive or TABLE_FILE.fullmatch(file.path)
    if path is None or path["table"] != table or path["day"] != file.day:
        raise ValueError(f"{shown(file.path)} is no file of {shown(table)} and {shown(file.day)}")
    if (file.model is not None) != TABLES[table].by_model:
        raise ValueError(f"{shown(file.path)} is no file of the model {shown(file.model)}")
    if of_hive and of_hive["model"] != (None if file.model is None else quote(file.model, safe="")):
        raise ValueError(f"{shown(file.path)} is no file of the model {shown(file.model)}")
    date.fromisoformat(file.day)
    _check_sha256(file.sha256)
    if file.job_id is not None and not JOB_ID.fullmatch(file.job_id):
        raise ValueError(f"{shown(file.job_id)} is no job")
    return file


def _check_schema_file(table: str, file: SchemaFile) -> None:
    path = TABLE_FILE.fullmatch(file.path)
    if path is None or path["table"] != table or path["schema_version"] is None:
        raise ValueError(f"{shown(file.path)} is no schema of {shown(table)}")
    _check_sha256(file.sha256)


def _check_sha256(text: str) -> None:
    if not SHA256.fullmatch(text):
        raise ValueError(f"{shown(text)} is no hash")


def _check_job(job_id: str, job: JobEntry) -> None:
    if not JOB_ID.fullmatch(job_id):
        raise ValueError(f"{shown(job_id)} is no job")
    for key in job.closings:
        name = key.removeprefix(f"jobs/{job_id}/closings/").removesuffix(".json")
        if key != settlement_key(job_id, name) or not SETTLEMENT.fullmatch(name):
            raise ValueError(f"{shown(key)} is no settlement of {job_id}")


def _check_replaced(replaced: Replaced) -> None:
    if not is_table_file(replaced.path):
        raise ValueError(f"{shown(replaced.path)} is no file of a table")
    if datetime.fromisoformat(replaced.at).tzinfo is None:
        raise ValueError(f"{shown(replaced.at)} has no time zone")


def is_table_file(path: str) -> bool:
    """Whether this program, or an older release, would give a file of a table this path."""
    return (TABLE_FILE.fullmatch(path) or HIVE_TABLE_FILE.fullmatch(path)) is not None


def settlement_key(job_id: str, name: str) -> str:
    """Where the record of one settlement of a job lies."""
    return f"jobs/{job_id}/closings/{name}.json"


def forgetting(newest: Snapshot, paths: Iterable[str]) -> Change | None:
    """The change that drops these replaced files, unless another writer did."""
    known = {each.path for each in newest.replaced}.intersection(paths)
    return Change(forgotten=known) if known else None
