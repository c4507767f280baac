"""The ledger of catalog jobs: Parquet files, and numbered manifests that say which of them count.

    <out>/tracks/day=2026-11-22/model=composer/part-<moment>-<hash>.parquet
    <out>/failures/day=…/  attempts/day=…/  nodes/day=…/
    <out>/manifests/00000007.json   the seventh state of all four tables: created once, never changed
    <out>/manifest.json             a copy of the newest, for recipes that want one name

A commit is the creation of the next manifest: one object, one winner. The surprising thing: what lies in a folder is
not the table. Files that a dead writer left, and files that newer ones replaced, lie there too for a while; readers
take the files that one manifest names (`ledger_dataset`), and so see all of a commit, in every table, or none of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, Final, Literal
from urllib.parse import quote

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from batch_jobs.books.tables import ATTEMPTS_SCHEMA, FAILURES_SCHEMA, LEDGER_SCHEMA_VERSION, NODES_SCHEMA, TRACKS_SCHEMA
from orchestrion.clock import Clock
from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable
from orchestrion.objects import Objects
from orchestrion.provenance import utc_timestamp

MANIFEST_VERSION: Final = 2
MANIFESTS_KEPT: Final = 20
#: Each lost try means that somebody else committed, so this many in a row is a ledger that cannot be worked with.
COMMIT_TRIES: Final = 50
#: A file of a track's rows is then some 20 MB: few to open, and still one that a laptop holds in memory.
MAX_ROWS_PER_FILE: Final = 50_000
#: What is read when one row of a file is wanted.
ROWS_PER_ROW_GROUP: Final = 8_192
#: A file that no manifest names belongs to the dead after this time. Files older than half of it are not committed.
ABANDONED_AFTER: Final = timedelta(hours=24)
_MOMENT_IN_NAME: Final = "%Y%m%dT%H%M%SZ"
_MANIFEST: Final = re.compile(r"(?:^|/)manifests/(\d{8})\.json$")
_PART: Final = re.compile(r"part-(?P<moment>\d{8}T\d{6}Z)-[0-9a-f]{32}\.parquet")


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

    tracks: int = 0
    failures: int = 0
    cache_hits: int = 0
    #: What the renders of its tracks held of devices.
    charged_usd: float = 0.0
    #: What its tracks carry of the tries that gave no track.
    waste_usd: float = 0.0
    #: What its tracks carry of the time that workers were not rendering.
    idle_usd: float = 0.0
    #: What no track carries.
    unallocated_usd: float = 0.0
    node_usd: float = 0.0
    #: What the cache hits would have cost: the sum of their `cost_usd`.
    saved_usd: float = 0.0
    audio_s: float = 0.0

    def add(self, other: Totals) -> None:
        """Count more rows in."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(frozen=True, slots=True)
class LedgerFile:
    """One Parquet file, by its path below the ledger's folder."""

    path: str
    rows: int
    bytes: int
    sha256: str
    #: The one job that its rows are of; None for a file of several.
    job_id: str | None
    day: str
    #: None in tables that are not split by model.
    model: str | None


@dataclass(frozen=True, slots=True)
class JobEntry:
    """What a manifest says of a job. A closing counts, with the shards and workers it lists, when it is named here."""

    catalog: str
    catalog_sha256: str
    store: str
    state: JobState
    #: Rows of its catalog.
    rows: int
    totals: Totals
    #: Keys of its closings, oldest first.
    closings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replaced:
    """A file that left the tables, and when; it stays for readers of older manifests."""

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

    def after(self, change: Change, now: datetime) -> Snapshot:
        """The next state."""
        removed, forgotten = set(change.removed), set(change.forgotten)
        tables = {}
        for name, files in self.tables.items():
            tables[name] = tuple(file for file in files if file.path not in removed) + tuple(change.added.get(name, ()))
        kept = tuple(each for each in self.replaced if each.path not in forgotten)
        left = tuple(Replaced(path, utc_timestamp(now)) for path in sorted(removed))
        return Snapshot(self.number + 1, utc_timestamp(now), tables, {**self.jobs, **change.jobs}, kept + left)

    def to_bytes(self) -> bytes:
        """The manifest."""
        values = {"manifest_version": MANIFEST_VERSION, "ledger_schema_version": LEDGER_SCHEMA_VERSION, **asdict(self)}
        return json.dumps(values, indent=1, allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Snapshot:
        """Read a manifest.

        Raises:
            InvalidRequest: it is of a release with another layout.
        """
        values = json.loads(data)
        if values.pop("manifest_version") != MANIFEST_VERSION:
            raise InvalidRequest.of("ledger", data[:40], "is of another release; read it with that release")
        del values["ledger_schema_version"]
        return cls(
            **values
            | {
                "tables": {
                    name: tuple(LedgerFile(**file) for file in values["tables"].get(name, ())) for name in TABLES
                },
                "jobs": {
                    job_id: JobEntry(**job | {"totals": Totals(**job["totals"]), "closings": tuple(job["closings"])})
                    for job_id, job in values["jobs"].items()
                },
                "replaced": tuple(Replaced(**each) for each in values["replaced"]),
            }
        )


class Ledger:
    """Writes a ledger. Any number of writers, anywhere; each commit is all there or not at all."""

    def __init__(self, objects: Objects, clock: Clock) -> None:
        #: Everything below the ledger's address.
        self.objects = objects
        self._clock = clock

    def snapshot(self) -> Snapshot:
        """The newest state."""
        return _newest(lambda: self.objects.keys("manifests"), self.objects.read)

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
            newest = self.snapshot()
            change = build(newest)
            if change is None:
                if newest.number > 0:
                    # Perhaps it was this commit that won, only the answer was lost, or the copy was never made.
                    self._point_to_newest()
                return newest
            now = self._clock.now()
            self._refuse_what_may_be_swept(change, now)
            following = newest.after(change, now)
            if not self.objects.create(_manifest_key(following.number), following.to_bytes()):
                continue
            numbers = _numbers(self.objects.keys("manifests"))
            if max(numbers) >= following.number + MANIFESTS_KEPT:
                # So many commits came meanwhile that the number may have been taken, and its manifest deleted since.
                self.objects.delete(_manifest_key(following.number))
                continue
            self._point_to_newest()
            for number in numbers:
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
        data = self.objects.read(file.path)
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
        lying = {key for name in TABLES for key in self.objects.keys(name)}
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

    def _point_to_newest(self) -> None:
        """Copy the newest manifest to manifest.json; whoever finds that it is not the newest any more copies again."""
        for _ in range(COMMIT_TRIES):
            newest = self.snapshot()
            self.objects.replace("manifest.json", newest.to_bytes())
            if max(_numbers(self.objects.keys("manifests"))) == newest.number:
                return


# Reading


def read_snapshot(url: str, storage_options: Mapping[str, Any]) -> Snapshot:
    """The newest state of a ledger, without writing anything there.

    Raises:
        NotFound: there is no ledger at `url`.
        StoreUnavailable: the bucket does not answer.
    """
    if url.startswith("s3://"):
        objects = Objects(url, storage_options)
        snapshot = _newest(lambda: objects.keys("manifests"), objects.read)
    else:
        # Not by `Objects`, which make a folder where there is none.
        fs, root = fsspec.url_to_fs(url)
        snapshot = _newest(lambda: fs.find(f"{root}/manifests"), lambda key: fs.cat_file(f"{root}/{key}"))
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


def _numbers(keys: Iterable[str]) -> list[int]:
    # What else somebody may have put there is no manifest.
    return [int(name[1]) for key in keys if (name := _MANIFEST.search(key))]


def _newest(keys: Callable[[], Iterable[str]], read: Callable[[str], bytes]) -> Snapshot:
    for _ in range(COMMIT_TRIES):
        number = max(_numbers(keys()), default=0)
        if number == 0:
            return Snapshot.empty()
        try:
            return Snapshot.from_bytes(read(_manifest_key(number)))
        except (NotFound, FileNotFoundError):
            # So many commits since it was listed that it is deleted: the next listing has a newer one.
            continue
    raise StoreUnavailable(f"manifest {number} is listed and cannot be read")


def _moment(path: str) -> datetime | None:
    """When a file of ours was written, by its name; None for a name that is not ours."""
    name = _PART.fullmatch(PurePosixPath(path).name)
    return datetime.strptime(name["moment"], _MOMENT_IN_NAME).replace(tzinfo=UTC) if name else None
