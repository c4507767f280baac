"""The ledger of catalog jobs: Parquet files, and numbered manifests that say which of them count.

    <out>/tracks/day=2026-11-22/model=composer/part-<moment>-<hash>.parquet
    <out>/failures/day=…/  attempts/day=…/  nodes/day=…/
    <out>/manifests/00000007.json   the seventh state of all four tables: created once, never changed
    <out>/manifest.json             a copy of the newest, for recipes that want one name

A commit is the creation of the next manifest: one object, one winner. What lies in a folder is not the table: files
that a dead writer left, and files that newer ones replaced, lie there too for a while. Readers take the files that one
manifest names (`ledger_dataset`), and so see all of a commit, in every table, or none of it.

Others may write the folder, too. A manifest counts if it is one in every field and names nothing but what this program
writes, below the ledger's own folder; any other is skipped, and commits go around its number.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import quote

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from pydantic import ConfigDict, Field, TypeAdapter

from batch_jobs.books.tables import ATTEMPTS_SCHEMA, FAILURES_SCHEMA, LEDGER_SCHEMA_VERSION, NODES_SCHEMA, TRACKS_SCHEMA
from batch_jobs.shared_folder import CLOSING, JOB_ID, MANIFEST, PART, SHA256, TABLE_FILE, SharedFolder
from orchestrion.clock import Clock
from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable, VerificationFailed, shown
from orchestrion.objects import Objects
from orchestrion.provenance import utc_timestamp

logger = logging.getLogger(__name__)

MANIFEST_VERSION: Final = 2
MANIFESTS_KEPT: Final = 20
#: Each lost try means that somebody else committed, so this many in a row is a ledger that cannot be worked with.
COMMIT_TRIES: Final = 50
#: A file of a track's rows is then some 20 MB: few to open, and still one that a laptop holds in memory.
MAX_ROWS_PER_FILE: Final = 50_000
#: What is read when one row of a file is wanted.
ROWS_PER_ROW_GROUP: Final = 8_192
MAX_MANIFEST_BYTES: Final = 256 * 1024 * 1024
LAST_NUMBER: Final = 99_999_999
#: A file that no manifest names belongs to the dead after this time. Files older than half of it are not committed.
ABANDONED_AFTER: Final = timedelta(hours=24)
_MOMENT_IN_NAME: Final = "%Y%m%dT%H%M%SZ"
_MANIFEST: Final = re.compile(rf"(?:^|/)manifests/({MANIFEST.pattern})\.json$", re.ASCII)

_Exactly = ConfigDict(extra="forbid", strict=True)
_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Sum = Annotated[float, Field(allow_inf_nan=False)]


JobState = Literal["complete", "interrupted", "budget", "failed"]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table lies in files."""

    schema: pa.Schema
    #: The column whose UTC day names the folder.
    day_of: str
    #: Whether the folder of a day has a folder for each model; the column is then not in the files.
    by_model: bool
    #: Order within a file. A job's rows lie together, so that the question "what of this job" skips row groups.
    sorted_by: tuple[str, ...]


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
    #: What its tracks carry of the tries that gave no track.
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


@dataclass(frozen=True, slots=True)
class JobEntry:
    """What a manifest says of a job. A closing counts, with the shards and workers it lists, when it is named here."""

    __pydantic_config__: ClassVar[ConfigDict] = _Exactly

    catalog: str
    catalog_sha256: str
    store: str
    state: JobState
    #: Rows of its catalog.
    rows: _Count
    totals: Totals
    #: Keys of its closings, oldest first.
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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of the four tables; number 0 is the empty ledger, which no manifest shows."""

    number: int
    written_at: str
    tables: Mapping[str, tuple[LedgerFile, ...]]
    jobs: Mapping[str, JobEntry]
    replaced: tuple[Replaced, ...]

    @classmethod
    def empty(cls) -> Snapshot:
        """The ledger before its first commit."""
        return cls(0, "", dict.fromkeys(TABLES, ()), {}, ())

    def after(self, change: Change, now: datetime, number: int | None = None) -> Snapshot:
        """The next state, by default of the next number."""
        removed, forgotten = set(change.removed), set(change.forgotten)
        tables = {}
        for name, files in self.tables.items():
            tables[name] = tuple(file for file in files if file.path not in removed) + tuple(change.added.get(name, ()))
        kept = tuple(each for each in self.replaced if each.path not in forgotten)
        left = tuple(Replaced(path, utc_timestamp(now)) for path in sorted(removed))
        jobs = {**self.jobs, **change.jobs}
        return Snapshot(number or self.number + 1, utc_timestamp(now), tables, jobs, kept + left)

    def to_bytes(self) -> bytes:
        """The manifest."""
        values = {"manifest_version": MANIFEST_VERSION, "ledger_schema_version": LEDGER_SCHEMA_VERSION, **asdict(self)}
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
        if head.manifest_version != MANIFEST_VERSION:
            raise InvalidRequest.of(
                "ledger", head.manifest_version, "is the layout of another release; read it with that release"
            )
        found = _MANIFEST_VALUES.validate_json(data)
        if strange := sorted(found.tables.keys() - TABLES.keys()):
            raise ValueError(f"it has a table {shown(strange[0])}")
        for table, files in found.tables.items():
            for file in files:
                _check_file(table, file)
        for job_id, job in found.jobs.items():
            _check_job(job_id, job)
        for each in found.replaced:
            _check_replaced(each)
        tables = {name: found.tables.get(name, ()) for name in TABLES}
        return cls(found.number, found.written_at, tables, found.jobs, found.replaced)


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
    tables: dict[str, tuple[LedgerFile, ...]]
    jobs: dict[str, JobEntry]
    replaced: tuple[Replaced, ...]


_HEAD: Final = TypeAdapter(_Head)
_MANIFEST_VALUES: Final = TypeAdapter(_ManifestValues)


def _check_file(table: str, file: LedgerFile) -> None:
    """Hold what a manifest says of a file to what `Ledger.write` would have written.

    Raises:
        ValueError: it would not have written that.
    """
    path = TABLE_FILE.fullmatch(file.path)
    if path is None or path["table"] != table or path["day"] != file.day:
        raise ValueError(f"{shown(file.path)} is no file of {shown(table)} and {shown(file.day)}")
    if path["model"] != (None if file.model is None else quote(file.model, safe="")):
        raise ValueError(f"{shown(file.path)} is no file of the model {shown(file.model)}")
    date.fromisoformat(file.day)
    if not SHA256.fullmatch(file.sha256):
        raise ValueError(f"{shown(file.sha256)} is no hash")
    if file.job_id is not None and not JOB_ID.fullmatch(file.job_id):
        raise ValueError(f"{shown(file.job_id)} is no job")


def _check_job(job_id: str, job: JobEntry) -> None:
    if not JOB_ID.fullmatch(job_id):
        raise ValueError(f"{shown(job_id)} is no job")
    for key in job.closings:
        name = key.removeprefix(f"jobs/{job_id}/closings/").removesuffix(".json")
        if key != closing_key(job_id, name) or not CLOSING.fullmatch(name):
            raise ValueError(f"{shown(key)} is no closing of {job_id}")


def _check_replaced(replaced: Replaced) -> None:
    if not TABLE_FILE.fullmatch(replaced.path):
        raise ValueError(f"{shown(replaced.path)} is no file of a table")
    if datetime.fromisoformat(replaced.at).tzinfo is None:
        raise ValueError(f"{shown(replaced.at)} has no time zone")


def closing_key(job_id: str, name: str) -> str:
    """Where the record of one closing of a job's books lies."""
    return f"jobs/{job_id}/closings/{name}.json"


class Ledger:
    """Writes a ledger. Any number of writers, anywhere; each commit is all there or not at all."""

    def __init__(self, objects: Objects, clock: Clock) -> None:
        #: Everything below the ledger's address.
        self.objects = objects
        self._clock = clock
        shared = SharedFolder(objects)
        self._manifests = _Manifests(
            lambda: objects.keys("manifests"), lambda key: objects.read(key, MAX_MANIFEST_BYTES), shared.skip
        )

    def snapshot(self) -> Snapshot:
        """The newest state."""
        return self._manifests.newest()[0]

    def commit(self, build: Callable[[Snapshot], Change | None]) -> Snapshot:
        """Make a change to all tables at once.

        Args:
            build: makes the change from the newest state. It is asked again when somebody else was faster, and it must
                then find for itself whether what it wanted is done already: None if there is nothing to do.

        Returns:
            The state after the change, or the newest state if there was none.

        Raises:
            StoreUnavailable: the folder or bucket did not take it, or others were always faster.
        """
        for _ in range(COMMIT_TRIES):
            newest, taken = self._manifests.newest()
            change = build(newest)
            if change is None:
                if newest.number > 0:
                    # Perhaps it was this commit that won, only the answer was lost, or the copy was never made.
                    self._point_to(*self._manifests.newest())
                return newest
            now = self._clock.now()
            self._refuse_what_may_be_swept(change, now)
            following = newest.after(change, now, _next_free(newest.number, taken))
            data = following.to_bytes()
            if len(data) > MAX_MANIFEST_BYTES:
                raise StoreUnavailable(f"the manifest of {self.objects.url} would be too long; compact the ledger")
            # What we would skip ourselves is not written: a number that it took would be gone.
            Snapshot.from_bytes(data)
            if not self.objects.create(_manifest_key(following.number), data):
                continue
            standing, taken = self._manifests.newest()
            if not 0 <= standing.number - following.number < MANIFESTS_KEPT:
                # So many commits came meanwhile that the number may have been taken, and its manifest deleted since.
                self.objects.delete(_manifest_key(following.number))
                continue
            self._point_to(standing, taken)
            for number in taken:
                if number <= following.number - MANIFESTS_KEPT:
                    self.objects.delete(_manifest_key(number))
            return following
        raise StoreUnavailable(
            f"the ledger {self.objects.url} was committed to by others {COMMIT_TRIES} times while this commit waited; "
            "run the same command again"
        )

    def write(self, table: str, rows: pa.Table) -> list[LedgerFile]:
        """Write rows into files of their partitions. They count when a commit names them.

        Args:
            table: tracks, failures, attempts or nodes.
            rows: in the table's schema; a column that an older release did not have may be missing.
        """
        layout = TABLES[table]
        rows = conformed(rows, layout.schema)
        written: list[LedgerFile] = []
        for day, model, some in _by_partition(rows, layout):
            ordered = some.sort_by([(name, "ascending") for name in layout.sorted_by])
            parts = (ordered.slice(at, MAX_ROWS_PER_FILE) for at in range(0, ordered.num_rows, MAX_ROWS_PER_FILE))
            written += [self._write_file(table, day, model, part) for part in parts]
        return written

    def read(self, table: str, file: LedgerFile) -> pa.Table:
        """All rows of one file, in the newest schema."""
        try:
            data = self.objects.read(file.path, file.bytes)
        except VerificationFailed as error:
            raise StoreUnavailable(f"{file.path} in {self.objects.url} is damaged: {error}") from None
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise StoreUnavailable(f"{file.path} in {self.objects.url} is damaged: its SHA-256 is not the manifest's")
        # Not `read_table`: given a path-like name, it would add the partition's columns from there.
        rows = pq.ParquetFile(io.BytesIO(data)).read()
        if file.model is not None:
            rows = rows.append_column("model", pa.array([file.model] * rows.num_rows, pa.string()))
        return conformed(rows, TABLES[table].schema)

    def dataset(self, table: str) -> ds.Dataset:
        """The newest state of one table, without rows before the first commit; see `ledger_dataset`."""
        return ledger_dataset(self.objects.url, self.objects.storage_options, table, self.snapshot())

    def sweep(self, keep: timedelta = ABANDONED_AFTER) -> list[str]:
        """Delete files that no longer count.

        Args:
            keep: how long a replaced file stays for those who read by an older manifest. What a dead writer left stays
                `ABANDONED_AFTER` in any case: a living one may be about to commit it.

        Returns:
            The deleted paths.
        """
        now = self._clock.now()
        snapshot = self.snapshot()
        named = {file.path for files in snapshot.tables.values() for file in files}
        replaced = {each.path: datetime.fromisoformat(each.at) for each in snapshot.replaced}
        over = [path for path, at in replaced.items() if now - at >= keep]
        lying = {key for name in TABLES for key in self.objects.keys(name) if TABLE_FILE.fullmatch(key)}
        abandoned = [
            key
            for key in lying - named - replaced.keys()
            if (moment := _moment(key)) is not None and now - moment >= ABANDONED_AFTER
        ]
        deleted = sorted((lying & {*over, *abandoned}) - named)
        for key in deleted:
            self.objects.delete(key)
        if over:
            self.commit(lambda newest: _forgetting(newest, over))
        return deleted

    def _write_file(self, table: str, day: str, model: str | None, rows: pa.Table) -> LedgerFile:
        job_ids = pc.unique(rows["job_id"]).to_pylist()
        folder = f"{table}/day={day}"
        if model is not None:
            # Hive's way: what the folder's name says is not in the file; pyarrow refuses a column that is in both.
            folder += f"/model={quote(model, safe='')}"
            rows = rows.drop_columns(["model"])
        buffer = pa.BufferOutputStream()
        pq.write_table(rows, buffer, compression="zstd", row_group_size=ROWS_PER_ROW_GROUP, write_statistics=True)
        data = buffer.getvalue().to_pybytes()
        sha256 = hashlib.sha256(data).hexdigest()
        path = f"{folder}/part-{self._clock.now().strftime(_MOMENT_IN_NAME)}-{sha256[:32]}.parquet"
        # A name that is taken holds these very bytes.
        self.objects.create(path, data)
        job_id = job_ids[0] if len(job_ids) == 1 else None
        return LedgerFile(path, rows.num_rows, len(data), sha256, job_id, day, model)

    def _refuse_what_may_be_swept(self, change: Change, now: datetime) -> None:
        for files in change.added.values():
            for file in files:
                moment = _moment(file.path)
                if moment is not None and now - moment > ABANDONED_AFTER / 2:
                    raise StoreUnavailable(
                        f"{file.path} was written at {moment} and is only now committed, so it may be deleted as "
                        "abandoned; run the same command again"
                    )

    def _point_to(self, newest: Snapshot, taken: set[int]) -> None:
        """Copy the newest manifest to manifest.json; whoever finds that it is not the newest any more copies again."""
        for _ in range(COMMIT_TRIES):
            self.objects.replace("manifest.json", newest.to_bytes())
            if not _numbers(self.objects.keys("manifests")) - taken:
                return
            newest, taken = self._manifests.newest()


# Reading


def read_snapshot(url: str, storage_options: Mapping[str, Any]) -> Snapshot:
    """The newest state of a ledger, without writing anything there.

    Raises:
        NotFound: there is no ledger at `url`.
        StoreUnavailable: the bucket does not answer.
    """
    if url.startswith("s3://"):
        objects = Objects(url, storage_options)
        manifests = _Manifests(
            lambda: objects.keys("manifests"),
            lambda key: objects.read(key, MAX_MANIFEST_BYTES),
            SharedFolder(objects).skip,
        )
    else:
        # Not by `Objects`, which make a folder where there is none.
        fs, root = fsspec.url_to_fs(url)
        manifests = _Manifests(
            lambda: fs.find(f"{root}/manifests"),
            lambda key: fs.cat_file(f"{root}/{key}", end=MAX_MANIFEST_BYTES),
            lambda key, why: logger.warning("%s in %s is skipped: %s", key, url, why),
        )
    snapshot, _ = manifests.newest()
    if snapshot.number == 0:
        raise NotFound(f"there is no ledger in {url}: it has no manifests/; give the --out of render_catalog")
    return snapshot


def ledger_dataset(
    url: str, storage_options: Mapping[str, Any], table: str, snapshot: Snapshot | None = None
) -> ds.Dataset:
    """One table as a pyarrow dataset over exactly the files of one manifest.

    Its columns are those of the newest schema, null where a file of an older release has none, and `day` (a date).
    Filters on `day` and `model` open only the files they ask for.

    Args:
        url: the `--out` of render_catalog.
        storage_options: for fsspec.
        table: tracks, failures, attempts or nodes.
        snapshot: the state to read; the newest if None. Give one to all tables that are to agree with each other.

    Raises:
        NotFound: there is no ledger at `url`.
    """
    snapshot = snapshot or read_snapshot(url, storage_options)
    fs, root = fsspec.url_to_fs(url, **storage_options)
    schema = pa.schema([*(each.with_nullable(True) for each in TABLES[table].schema), ("day", pa.date32())])
    files = snapshot.tables[table]
    if not files:
        return ds.dataset(schema.empty_table())
    if type(fs) is LocalFileSystem:
        _refuse_links(root, files)
    # Arrow's own reads a folder without Python's lock.
    filesystem = pafs.LocalFileSystem() if type(fs) is LocalFileSystem else pafs.PyFileSystem(pafs.FSSpecHandler(fs))
    return ds.FileSystemDataset.from_paths(
        [f"{root}/{file.path}" for file in files],
        schema=schema,
        format=ds.ParquetFileFormat(),
        filesystem=filesystem,
        partitions=[_partition(file) for file in files],
    )


def conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """`rows` with exactly the columns of `schema`, null where they have none."""
    if rows.schema.names == schema.names and rows.schema.types == schema.types:
        return pa.Table.from_arrays(rows.columns, schema=schema)
    columns = [
        rows[each.name].cast(each.type) if each.name in rows.schema.names else pa.nulls(rows.num_rows, each.type)
        for each in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _partition(file: LedgerFile) -> ds.Expression:
    wanted = ds.field("day") == pa.scalar(date.fromisoformat(file.day))
    return wanted if file.model is None else wanted & (ds.field("model") == file.model)


def _by_partition(rows: pa.Table, layout: Layout) -> list[tuple[str, str | None, pa.Table]]:
    """The rows of each day (and model)."""
    days = pc.strftime(rows[layout.day_of], "%Y-%m-%d")
    keys = pa.table({"day": days, "model": rows["model"] if layout.by_model else pa.nulls(rows.num_rows, pa.string())})
    found = []
    for key in sorted(keys.group_by(["day", "model"]).aggregate([]).to_pylist(), key=str):
        wanted = pc.equal(days, key["day"])
        if layout.by_model:
            wanted = pc.and_(wanted, pc.equal(rows["model"], key["model"]))
        found.append((key["day"], key["model"], rows.filter(wanted)))
    return found


def _forgetting(newest: Snapshot, paths: Iterable[str]) -> Change | None:
    """The change that drops these replaced files, unless somebody did."""
    known = {each.path for each in newest.replaced}.intersection(paths)
    return Change(forgotten=known) if known else None


def _manifest_key(number: int) -> str:
    return f"manifests/{number:08}.json"


@dataclass(frozen=True, slots=True)
class _Manifests:
    """The manifests of a ledger, whoever wrote them."""

    keys: Callable[[], Iterable[str]]
    #: At most `MAX_MANIFEST_BYTES`.
    read: Callable[[str], bytes]
    #: Says that a manifest does not count, and why.
    skip: Callable[[str, str], None]

    def newest(self) -> tuple[Snapshot, set[int]]:
        """The newest state, and every number that is taken.

        Raises:
            InvalidRequest: it is of a release with another layout.
        """
        for _ in range(COMMIT_TRIES):
            keys = list(self.keys())
            taken = _numbers(keys)
            for key in keys:
                if not _MANIFEST.search(key):
                    self.skip(key, "its name is none that this program gives")
            try:
                found = self._newest_of(taken)
            except (NotFound, FileNotFoundError):
                # So many commits since it was listed that it is deleted: the next listing has a newer one.
                continue
            return found, taken
        raise StoreUnavailable("manifests are listed and cannot be read")

    def _newest_of(self, taken: set[int]) -> Snapshot:
        stretches = _stretches(taken)
        for stretch in stretches:
            for number in reversed(stretch):
                if (found := self._manifest(number)) is not None:
                    for apart in (other for other in stretches if other[0] > stretch[-1]):
                        self.skip(_manifest_key(apart[-1]), "its number is far from those of the others")
                    return found
        return Snapshot.empty()

    def _manifest(self, number: int) -> Snapshot | None:
        key = _manifest_key(number)
        try:
            data = self.read(key)
            return Snapshot.from_bytes(data, number)
        except (ValueError, VerificationFailed) as error:
            self.skip(key, str(error))
            return None


def _numbers(keys: Iterable[str]) -> set[int]:
    return {int(name[1]) for key in keys if (name := _MANIFEST.search(key))}


def _stretches(numbers: Iterable[int]) -> list[list[int]]:
    """The numbers, cut where more are missing than are ever kept: the longest stretch first, of equals the lowest.

    Commits go on from the newest, so theirs are one stretch; what lies far from it, nobody has committed.
    """
    found: list[list[int]] = []
    for number in sorted(numbers):
        if not found or number - found[-1][-1] > MANIFESTS_KEPT:
            found.append([])
        found[-1].append(number)
    return sorted(found, key=len, reverse=True)


def _next_free(newest: int, taken: set[int]) -> int:
    """The next number that is not taken: not even by what is no manifest, which stays where it is."""
    number = newest + 1
    while number in taken:
        number += 1
    if number > LAST_NUMBER:
        raise StoreUnavailable("no number is left for another manifest; look at what lies in manifests/")
    return number


def _refuse_links(root: str, files: Iterable[LedgerFile]) -> None:
    """Refuse files below the ledger's folder that are, or lie behind, links: Arrow would follow them."""
    real = os.path.realpath(root)
    for file in files:
        if os.path.realpath(f"{root}/{file.path}") != f"{real}/{file.path}":
            raise InvalidRequest.of("ledger", file.path, "is a link; a ledger has none. Find out who put it there")


def _moment(path: str) -> datetime | None:
    """When a file of ours was written, by its name; None for a name that is not ours."""
    name = PART.fullmatch(PurePosixPath(path).name)
    return datetime.strptime(name["moment"], _MOMENT_IN_NAME).replace(tzinfo=UTC) if name else None
