"""What a job leaves in the ledger's folder while it runs: enough for the next run to go on with it after any death.

    jobs/<job>/job.json                     what the job is; created once
    jobs/<job>/rounds/<round>.json          the rows that a later round tries again; created once
    jobs/<job>/shards/<shard>.parquet       outcomes and attempts of a finished shard; created once: the commit
    jobs/<job>/claims/<shard>/<worker>.json who took a shard on, and when
    jobs/<job>/alone/<shard>/<line>/<n>     a row of a shard that has killed its workers is being tried alone
    jobs/<job>/workers/<worker>.json        a worker's journal, rewritten every few seconds while it lives
    jobs/<job>/plan/<plan>/<number>         a part of the job's plan, so that it is not made again (`plan_parts`)
    jobs/<job>/journals.json                the journals of workers that have long been settled, in one
    jobs/<job>/partials/<track id>          codes of a long piece whose node went away (`partial_pieces`)
    jobs/<job>/stops/<run>.json             a run that is to take nothing new
    jobs/<job>/ended/<run>                  a run whose workers are gone, however fresh their journals are

Claims and journals are hints that save work and explain waste. They may be stale or lost; what is rendered exactly once
follows from `shards/` alone, where a name is taken once. Others may write the folder, too: what does not read as one of
the above is skipped (`shared_folder`), and what a journal says is bounded by the job and by the clock.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter

from batch_jobs.ledger.tables import ENDINGS, SHARD_KINDS, SHARD_SCHEMA
from batch_jobs.shared_folder import JOB_ID, ROUND, RUN_ID, SHARD, WORKER_ID, SharedFolder, whole_numbers
from orchestrion.storage.object_store import Dated, Objects
from orchestrion.tracks.record import utc_timestamp

logger = logging.getLogger(__name__)

#: A journal that has not been rewritten for so long belongs to the dead. Ten beats: a store that is slow for a moment
#: does not make two workers render the same shard.
LEASE_S: Final = 20.0
#: What a sudden death leaves unsaid, and one small write for each worker.
BEAT_S: Final = 2.0
#: Of the id under which a driver writes a journal of its own machine; it renders nothing.
DRIVER_PREFIX: Final = "driver-"
#: How far the clock of a worker may be from the driver's. What a journal says of times beyond that does not count.
CLOCK_SKEW: Final = timedelta(minutes=10)

#: Journals that are read side by side: a bucket answers slowly, and a job of a hundred workers has as many.
_READERS: Final = 8
#: Where a listing of shards is cut: their names are a round, nearly always the first, and a hash.
_CUTS: Final = tuple(f"01-{digit:x}" for digit in range(16))

#: What is read of one object at most. A journal names the attempts of a few shards, a shard holds a thousand rows.
MAX_JOB_BYTES: Final = 1024 * 1024
MAX_ROUND_BYTES: Final = 256 * 1024 * 1024
MAX_CLAIM_BYTES: Final = 4096
MAX_STOP_BYTES: Final = 4096
MAX_JOURNAL_BYTES: Final = 16 * 1024 * 1024
MAX_JOURNALS_BYTES: Final = 64 * 1024 * 1024
MAX_SHARD_BYTES: Final = 128 * 1024 * 1024
#: The same of a shard, unpacked.
MAX_SHARD_ROWS: Final = 100_000
MAX_SHARD_UNPACKED_BYTES: Final = 1024 * 1024 * 1024


def _with_zone(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("has no time zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is no moment of our time") from None


def _named(pattern: re.Pattern[str]) -> AfterValidator:
    def check(name: str) -> str:
        if not pattern.fullmatch(name):
            raise ValueError("is none of our names")
        return name

    return AfterValidator(check)


def _an_ending(ended: str) -> str:
    if ended not in ENDINGS:
        raise ValueError("is none of " + ", ".join(ENDINGS))
    return ended


_Moment = Annotated[datetime, AfterValidator(_with_zone)]
_Words = Annotated[str, StringConstraints(min_length=1, max_length=500)]
_Amount = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
_Exactly = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt at one row: fields as in `tables.ATTEMPTS_SCHEMA`, without those that its worker has in common.

    `ended` is None while it runs, and for ever if its worker dies.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _Exactly

    attempt_id: _Words
    shard: Annotated[str, _named(SHARD)]
    line: Annotated[int, Field(ge=1, lt=2**63)]
    track_id: _Words | None
    model: _Words
    started_at: _Moment
    ended_at: _Moment
    device_seconds: _Amount
    ended: Annotated[str, AfterValidator(_an_ending)] | None
    reason: _Words | None = None


@dataclass(frozen=True, slots=True)
class WorkerNode:
    """The machine of a worker. What it costs is not its worker's to say (`settlement.prices`)."""

    # A journal that says more, a price, is read all the same, and the price is not.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)

    node_id: _Words
    #: A row of the price table, and how the machine was bought.
    node_type: _Words
    market: _Words
    #: The same for all that runs on it at the same time, in any run of any job; None in journals of older releases.
    machine_id: _Words | None = None

    @property
    def machine(self) -> str:
        """What the bill calls it."""
        return self.machine_id or self.node_id


@dataclass(frozen=True, slots=True)
class WorkerJournal:
    """What is known of one render process: where it ran, from when until when, its attempts of unfinished shards."""

    __pydantic_config__: ClassVar[ConfigDict] = _Exactly

    worker_id: Annotated[str, _named(WORKER_ID)]
    run_id: Annotated[str, _named(RUN_ID)]
    node: WorkerNode
    #: Devices of the machine that the process has to itself.
    reserved_devices: _Amount
    up_from: _Moment
    seen_at: _Moment
    #: Attempts that are in no shard's commit yet (one may be in both for a moment; `attempt_id` tells).
    attempts: tuple[AttemptRecord, ...] = field(default=())
    #: Whether it went in order (drained, stopped or done), and not by a sudden death.
    left: bool = False
    #: Whether its models are loaded.
    is_ready: bool = True
    #: What it waits for, in words; None if it does not.
    waiting: _Words | None = None
    #: How old what is read here was when it was read, by the clock of the folder or bucket; None where that does not
    #: tell. Not part of what is written: a journal cannot say it of itself.
    age_s: float | None = None

    @property
    def renders(self) -> bool:
        """Whether it is a render process, and not a driver that notes when its machine was up."""
        return not self.worker_id.startswith(DRIVER_PREFIX)

    def is_alive(self, now: datetime) -> bool:
        """Whether it was seen within the lease and has not said good-bye.

        By the clock of the folder or bucket, where that tells: the worker's own may be hours ahead or behind. A time
        in the future does not count.
        """
        age_s = (now - self.seen_at).total_seconds() if self.age_s is None else self.age_s
        return not self.left and abs(age_s) <= LEASE_S

    def dated(self, written_at: datetime | None, read_at: datetime | None) -> WorkerJournal:
        """The same with its age, and with the times of a clock that is ahead put back to those of the store's.

        Args:
            written_at: when it was written, by the store's clock; later than it says where it was copied since.
            read_at: when it was read, by the same clock.
        """
        if written_at is None or read_at is None:
            return replace(self, age_s=None)
        age_s = (read_at - written_at).total_seconds()
        ahead = self.seen_at - written_at
        if ahead.total_seconds() <= LEASE_S:
            return replace(self, age_s=age_s)
        attempts = tuple(
            replace(one, started_at=one.started_at - ahead, ended_at=one.ended_at - ahead) for one in self.attempts
        )
        return replace(self, age_s=age_s, up_from=self.up_from - ahead, seen_at=self.seen_at - ahead, attempts=attempts)

    def within(self, begun_at: datetime, now: datetime) -> WorkerJournal:
        """The same, in the time that the job has had so far; a warning says what was beyond it.

        Args:
            begun_at: when the job began.
            now: the time; both are given or taken `CLOCK_SKEW`.
        """
        first, last = min(begun_at, now) - CLOCK_SKEW, now + CLOCK_SKEW
        up_from = min(max(self.up_from, first), last)
        seen_at = min(max(self.seen_at, up_from), last)
        most_s = max(1.0, self.reserved_devices) * (seen_at - up_from).total_seconds()
        attempts = tuple(_bounded(one, first, last, most_s) for one in self.attempts)
        bounded = replace(self, up_from=up_from, seen_at=seen_at, attempts=attempts)
        if bounded != self:
            logger.warning(
                "worker %s of run %s says more than the job's time allows (up from %s to %s); it is counted from %s to "
                "%s",
                self.worker_id, self.run_id, self.up_from, self.seen_at, up_from, seen_at,
            )  # fmt: skip
        return bounded


def _bounded(attempt: AttemptRecord, first: datetime, last: datetime, most_s: float) -> AttemptRecord:
    started_at = min(max(attempt.started_at, first), last)
    ended_at = min(max(attempt.ended_at, started_at), last)
    # Threads that master beside the model hold the device a little longer than their process is there.
    device_seconds = min(attempt.device_seconds, most_s)
    return replace(attempt, started_at=started_at, ended_at=ended_at, device_seconds=device_seconds)


@dataclass(frozen=True, slots=True)
class _Description:
    """What is read of job.json; it may hold more."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)

    job_id: str
    catalog: str
    catalog_sha256: str
    store: str
    requests_per_shard: Annotated[int, Field(ge=1, le=1_000_000)]
    requests_in_the_last: Annotated[int, Field(ge=1, le=1_000_000)]
    begun_at: _Moment


@dataclass(frozen=True, slots=True)
class _Claim:
    __pydantic_config__: ClassVar[ConfigDict] = _Exactly

    claimed_at: _Moment


@dataclass(frozen=True, slots=True)
class _StopNote:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)

    why: str
    max_cost_of: str | None = None
    max_cost_usd: _Amount | None = None


_JOURNAL: Final = TypeAdapter(WorkerJournal)
_JOURNALS: Final = TypeAdapter(tuple[WorkerJournal, ...])
_STOP: Final = TypeAdapter(_StopNote)
_DESCRIPTION: Final = TypeAdapter(_Description)
_CLAIM: Final = TypeAdapter(_Claim)
_NODE_FIELDS: Final = {each.name for each in fields(WorkerNode)}


class JobFolder:
    """The objects of one job. Any process may read and write at any time."""

    def __init__(self, objects: Objects, job_id: str) -> None:
        if not JOB_ID.fullmatch(job_id):
            raise ValueError(f"{job_id!r} is no job's name")
        self._objects = objects
        self._shared = SharedFolder(objects)
        self.job_id = job_id
        self._root = f"jobs/{job_id}"
        #: Those in one object, once they were looked for: they change only in a job that has rested for days.
        self._old_journals: tuple[WorkerJournal, ...] | None = None

    @property
    def objects(self) -> Objects:
        """Everything below the ledger's address."""
        return self._objects

    # What the job is

    def begin(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Note what the job is, unless that is noted; returns what is noted."""
        key = f"{self._root}/job.json"
        data = json.dumps(job, allow_nan=False).encode()
        if not self._objects.create(key, data):
            if (noted := self.description()) is not None:
                return noted
            # What lies there is no job: this one has not been begun.
            self._objects.replace(key, data)
        return dict(job)

    def description(self) -> dict[str, Any] | None:
        """What the job is; None if it never began."""
        return self._shared.read_if_there(f"{self._root}/job.json", self._described, MAX_JOB_BYTES)

    def _described(self, data: bytes) -> dict[str, Any]:
        described = _DESCRIPTION.validate_json(data)
        if described.job_id != self.job_id:
            raise ValueError("it is of another job")
        values: dict[str, Any] = json.loads(data)
        return values | {"begun_at": utc_timestamp(described.begun_at)}

    def begin_round(self, number: int, lines: list[int]) -> list[int]:
        """Note which lines a round (2 or more) tries again, unless that is noted; returns what is noted."""
        key, data = f"{self._root}/rounds/{number:02d}.json", json.dumps(lines).encode()
        if self._objects.create(key, data):
            return lines
        if (noted := self.round_lines(number)) is not None:
            return noted
        self._objects.replace(key, data)
        return lines

    def newest_round(self) -> int:
        """The number of the round that the job is in; 1 is the first. Rounds have no gaps."""
        names = set(self._shared.names(f"{self._root}/rounds", ROUND, ".json"))
        number = 1
        while f"{number + 1:02d}" in names and self.round_lines(number + 1) is not None:
            number += 1
        return number

    def round_lines(self, number: int) -> list[int] | None:
        """The lines that a round tries again; None if there is no such round."""
        return self._shared.read_if_there(f"{self._root}/rounds/{number:02d}.json", whole_numbers, MAX_ROUND_BYTES)

    # Shards

    def committed(self) -> list[str]:
        """Names of the shards that are committed, in order."""
        return self._shared.names(f"{self._root}/shards", SHARD, ".parquet", _CUTS)

    def is_committed(self, shard: str) -> bool:
        """Whether this shard is done."""
        return self._objects.exists(f"{self._root}/shards/{shard}.parquet")

    def commit(self, shard: str, rows: pa.Table) -> bool:
        """Make the outcomes of a shard known, all of them or none; False if another worker did.

        Args:
            shard: its name.
            rows: of `SHARD_SCHEMA`.
        """
        buffer = pa.BufferOutputStream()
        # A shard is small, and read whole: without dictionaries and statistics it takes half the bytes and the time.
        pq.write_table(
            rows, buffer, compression="zstd", use_dictionary=False, write_statistics=False, store_schema=False
        )
        data = buffer.getvalue().to_pybytes()
        key = f"{self._root}/shards/{shard}.parquet"
        # A create whose answer was lost is tried again below us, and then finds itself.
        return self._objects.create(key, data) or self._objects.read(key) == data

    def shard(self, name: str, columns: Sequence[str] | None = None) -> pa.Table | None:
        """The rows of a committed shard, of `SHARD_SCHEMA` as it was when they were written; None if there is none.

        Args:
            name: of the shard.
            columns: only these, e.g. "track.line"; all if None.
        """
        key = f"{self._root}/shards/{name}.parquet"
        return self._shared.read_if_there(key, lambda data: _shard_rows(data, columns), MAX_SHARD_BYTES)

    def discard(self, shard: str) -> None:
        """Remove what lies under a shard's name and is none, so that the shard is open again."""
        self._objects.delete(f"{self._root}/shards/{shard}.parquet")

    # Claims and journals

    def claim(self, shard: str, worker_id: str, now: datetime) -> None:
        """Say that a worker takes a shard on."""
        note = json.dumps({"claimed_at": utc_timestamp(now)}).encode()
        self._objects.replace(f"{self._root}/claims/{shard}/{worker_id}.json", note)

    def claims(self, shard: str) -> dict[str, datetime]:
        """Who has taken this shard on, ever, and when: by worker id."""
        folder = f"{self._root}/claims/{shard}"
        found = {}
        for worker_id in self._shared.names(folder, WORKER_ID, ".json"):
            claim = self._shared.read_if_there(f"{folder}/{worker_id}.json", _CLAIM.validate_json, MAX_CLAIM_BYTES)
            if claim is not None:
                found[worker_id] = claim.claimed_at
        return found

    def begin_alone(self, shard: str, line: int, worker_id: str) -> None:
        """A row that may have killed its workers is about to be tried, with nothing beside it."""
        self._objects.replace(f"{self._root}/alone/{shard}/{line}/{worker_id}", b"")

    def survived_alone(self, shard: str, line: int, worker_id: str) -> None:
        """That attempt came to an end."""
        self._objects.delete(f"{self._root}/alone/{shard}/{line}/{worker_id}")

    def deaths_alone(self, shard: str, line: int) -> int:
        """How many workers began this row alone and were never heard of again."""
        return len(self._shared.names(f"{self._root}/alone/{shard}/{line}", WORKER_ID, ""))

    def write_journal(self, journal: WorkerJournal) -> None:
        """Replace a worker's journal."""
        self._objects.replace(f"{self._root}/workers/{journal.worker_id}.json", _journal_bytes(journal))

    def journal(self, worker_id: str) -> WorkerJournal | None:
        """A worker's journal; None if it never wrote one."""
        key = f"{self._root}/workers/{worker_id}.json"

        def read(dated: Dated) -> WorkerJournal:
            data = dated.data
            journal = _JOURNAL.validate_json(data)
            if journal.age_s is not None:
                raise ValueError("it says how old it is")
            if journal.worker_id != worker_id:
                raise ValueError(f"it says that it is of {journal.worker_id}")
            if more := sorted(json.loads(data)["node"].keys() - _NODE_FIELDS):
                self._shared.tell(
                    key, f"says more of its machine than which it is ({', '.join(more)}); that is not read"
                )
            return self._by_the_stores_clock(key, journal, dated)

        return self._shared.read_dated_if_there(key, read, MAX_JOURNAL_BYTES)

    def _by_the_stores_clock(self, key: str, journal: WorkerJournal, dated: Dated) -> WorkerJournal:
        try:
            put_right = journal.dated(dated.written_at, dated.read_at)
        except OverflowError:
            raise ValueError("it speaks of no moment of our time") from None
        if put_right.seen_at != journal.seen_at:
            ahead_s = (journal.seen_at - put_right.seen_at).total_seconds()
            self._shared.tell(key, f"is of a machine whose clock is {ahead_s:.0f} s ahead; its times are put back")
        return put_right

    def journals(self) -> list[WorkerJournal]:
        """Every worker's journal."""
        names = self._shared.names(f"{self._root}/workers", WORKER_ID, ".json")
        with ThreadPoolExecutor(_READERS, thread_name_prefix="journals") as pool:
            of_their_own = [journal for journal in pool.map(self.journal, names) if journal is not None]
        return [*(each for each in self._in_one() if each.worker_id not in names), *of_their_own]

    def _in_one(self) -> tuple[WorkerJournal, ...]:
        if self._old_journals is None:
            key = f"{self._root}/journals.json"
            self._old_journals = self._shared.read_if_there(key, _JOURNALS.validate_json, MAX_JOURNALS_BYTES) or ()
        return self._old_journals

    def put_journals_in_one(self, journals: Sequence[WorkerJournal]) -> bool:
        """Write these beside those of living workers; False, and nothing is written, where they are too long."""
        data = b"[" + b",".join(map(_journal_bytes, journals)) + b"]"
        if len(data) > MAX_JOURNALS_BYTES:
            return False
        self._objects.replace(f"{self._root}/journals.json", data)
        self._old_journals = None
        return True

    # Stopping

    def stop(self, run_id: str, why: str, limit: tuple[str, float] | None = None) -> None:
        """Ask the workers of a run to finish what they are at and to take nothing new.

        Args:
            run_id: the run.
            why: in a word.
            limit: where it stops because of what the job has cost: which cost, and how much it may be in USD.
        """
        note: dict[str, object] = {"why": why}
        if limit is not None:
            note["max_cost_of"], note["max_cost_usd"] = limit
        self._objects.replace(f"{self._root}/stops/{run_id}.json", json.dumps(note).encode())

    def stopped_at_usd(self, of: str) -> float | None:
        """The highest limit of this cost at which a run of this job has stopped; None if none has."""
        limits = []
        for run_id in self._shared.names(f"{self._root}/stops", RUN_ID, ".json"):
            key = f"{self._root}/stops/{run_id}.json"
            note = self._shared.read_if_there(key, _STOP.validate_json, MAX_STOP_BYTES)
            if note is not None and note.max_cost_of == of and note.max_cost_usd is not None:
                limits.append(note.max_cost_usd)
        return max(limits, default=None)

    def end_run(self, run_id: str) -> None:
        """Say that no worker of this run is left."""
        self._objects.replace(f"{self._root}/ended/{run_id}", b"")

    def has_ended(self, run_id: str) -> bool:
        """Whether no worker of this run is left. A run that was killed never said so."""
        return self._objects.exists(f"{self._root}/ended/{run_id}")

    def is_at_work(self, worker: WorkerJournal, now: datetime) -> bool:
        """Whether a worker was seen within the lease, and its run has not said that all of its workers are gone."""
        return worker.is_alive(now) and not self.has_ended(worker.run_id)

    def is_stopped(self, run_id: str) -> bool:
        """Whether the workers of this run are asked to stop."""
        return self._objects.exists(f"{self._root}/stops/{run_id}.json")


def _journal_bytes(journal: WorkerJournal) -> bytes:
    values = asdict(journal)
    del values["age_s"]
    for name in ("up_from", "seen_at"):
        values[name] = utc_timestamp(values[name])
    for attempt in values["attempts"]:
        for name in ("started_at", "ended_at"):
            attempt[name] = utc_timestamp(attempt[name])
    return json.dumps(values, allow_nan=False).encode()


def _shard_rows(data: bytes, columns: Sequence[str] | None) -> pa.Table:
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        if file.metadata.num_rows > MAX_SHARD_ROWS:
            raise ValueError(f"it has {file.metadata.num_rows} rows")
        unpacked = sum(file.metadata.row_group(at).total_byte_size for at in range(file.metadata.num_row_groups))
        if unpacked > MAX_SHARD_UNPACKED_BYTES:
            raise ValueError(f"it would unpack to {unpacked} bytes")
        _check_shard_schema(file.schema_arrow)
        return file.read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        # From memory: whatever it is, it is the bytes.
        raise ValueError(f"it is no Parquet file of ours: {error}") from None


def _check_shard_schema(schema: pa.Schema) -> None:
    """Hold a shard's columns to ours. One of an older release may lack those that may be null."""
    if schema.equals(SHARD_SCHEMA):
        return
    if schema.names != list(SHARD_KINDS):
        raise ValueError(f"it has the columns {', '.join(schema.names)}")
    for kind, rows in SHARD_KINDS.items():
        found = schema.field(kind).type
        if not pa.types.is_struct(found):
            raise ValueError(f"its column {kind} is {found}")
        types = {each.name: each.type for each in found}
        for each in rows:
            if types.get(each.name, each.type if each.nullable else None) != each.type:
                raise ValueError(f"its field {kind}.{each.name} is {types.get(each.name, 'missing')}, not {each.type}")
