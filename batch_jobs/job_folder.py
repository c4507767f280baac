"""What a job leaves in the ledger's folder while it runs: enough for anybody to go on with it after any death.

    jobs/<job>/job.json                     what the job is; created once
    jobs/<job>/rounds/<round>.json          the rows that a later round tries again; created once
    jobs/<job>/shards/<shard>.parquet       outcomes and tries of a finished shard; created once: this is the commit
    jobs/<job>/claims/<shard>/<worker>.json who took a shard on, and when
    jobs/<job>/alone/<shard>/<line>/<n>     a row of a shard that has killed its workers is being tried alone
    jobs/<job>/workers/<worker>.json        a worker's journal, rewritten every few seconds while it lives
    jobs/<job>/partials/<track id>          codes of a long piece whose node went away
    jobs/<job>/stops/<run>.json             a run that is to take nothing new
    jobs/<job>/ended/<run>                  a run whose workers are gone, however fresh their journals are

The surprising thing: claims and journals are hints that save work and explain waste. They may be stale or lost; what is
rendered exactly once follows from `shards/` alone, where a name is taken once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrion.errors import NotFound
from orchestrion.objects import Objects
from orchestrion.provenance import utc_timestamp

#: A journal that has not been rewritten for so long belongs to the dead. Ten beats: a store that is slow for a moment
#: does not make two workers render the same shard.
LEASE_S: Final = 20.0
#: What a sudden death leaves unsaid, and one small write for each worker.
BEAT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one row: fields as in `tables.ATTEMPTS_SCHEMA`, without those that its worker has in common.

    `ended` is None while it runs, and for ever if its worker dies.
    """

    attempt_id: str
    shard: str
    line: int
    track_id: str | None
    model: str
    started_at: datetime
    ended_at: datetime
    device_seconds: float
    ended: str | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerNode:
    """The machine of a worker and its price."""

    node_id: str
    node_type: str
    market: str
    #: "cpu-core" or "gpu".
    device: str
    devices: int
    usd_per_node_hour: float
    on_demand_usd_per_node_hour: float | None
    price_source: str

    @property
    def usd_per_device_second(self) -> float:
        """Price of one device for a second."""
        return self.usd_per_node_hour / self.devices / 3600.0


@dataclass(frozen=True, slots=True)
class WorkerJournal:
    """What is known of one render process: where it ran, from when until when, and its tries of unfinished shards."""

    worker_id: str
    run_id: str
    node: WorkerNode
    #: Devices that the process has to itself (of `node.device`'s kind).
    reserved_devices: float
    up_from: datetime
    seen_at: datetime
    #: Tries that are in no shard's commit yet (one may be in both for a moment; `attempt_id` tells).
    attempts: tuple[Attempt, ...] = field(default=())
    #: Whether it went in order (drained, stopped or done), and not by a sudden death.
    left: bool = False

    @property
    def reserved_device_seconds(self) -> float:
        """Seconds of devices that this process kept from others."""
        return self.reserved_devices * (self.seen_at - self.up_from).total_seconds()

    def is_alive(self, now: datetime) -> bool:
        """Whether it was seen within the lease and has not said good-bye."""
        return not self.left and (now - self.seen_at).total_seconds() <= LEASE_S


class JobFolder:
    """The objects of one job. Any process may read and write at any time."""

    def __init__(self, objects: Objects, job_id: str) -> None:
        self._objects = objects
        self.job_id = job_id
        self._root = f"jobs/{job_id}"

    # What the job is

    def begin(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Note what the job is, unless that is noted; returns what is noted."""
        key = f"{self._root}/job.json"
        data = json.dumps(job, allow_nan=False).encode()
        if self._objects.create(key, data):
            return dict(job)
        return self.description() or dict(job)

    def description(self) -> dict[str, Any] | None:
        """What the job is; None if it never began."""
        try:
            described: dict[str, Any] = json.loads(self._objects.read(f"{self._root}/job.json"))
        except NotFound:
            return None
        return described

    def begin_round(self, number: int, lines: list[int]) -> list[int]:
        """Note which lines a round (2 or more) tries again, unless that is noted; returns what is noted."""
        self._objects.create(f"{self._root}/rounds/{number:02d}.json", json.dumps(lines).encode())
        return self.round_lines(number)

    def newest_round(self) -> int:
        """The number of the round that the job is in; 1 is the first."""
        keys = self._objects.keys(f"{self._root}/rounds")
        return max((int(key.rpartition("/")[2].removesuffix(".json")) for key in keys), default=1)

    def round_lines(self, number: int) -> list[int]:
        """The lines that a round tries again."""
        lines: list[int] = json.loads(self._objects.read(f"{self._root}/rounds/{number:02d}.json"))
        return lines

    # Shards

    def committed(self) -> list[str]:
        """Names of the shards that are committed, in order."""
        prefix, suffix = f"{self._root}/shards/", ".parquet"
        keys = self._objects.keys(f"{self._root}/shards")
        return sorted(key.removeprefix(prefix).removesuffix(suffix) for key in keys)

    def is_committed(self, shard: str) -> bool:
        """Whether this shard is done."""
        return self._objects.exists(f"{self._root}/shards/{shard}.parquet")

    def commit(self, shard: str, rows: pa.Table) -> bool:
        """Make the outcomes of a shard known, all of them or none; False if somebody else did.

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

    def shard(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a committed shard, of `SHARD_SCHEMA` as it was when they were written.

        Args:
            name: of the shard.
            columns: only these, e.g. "track.line"; all if None.
        """
        data = self._objects.read(f"{self._root}/shards/{name}.parquet")
        return pq.ParquetFile(pa.BufferReader(data)).read(columns=columns, use_threads=False)

    # Claims and journals

    def claim(self, shard: str, worker_id: str, now: datetime) -> None:
        """Say that a worker takes a shard on."""
        note = json.dumps({"claimed_at": utc_timestamp(now)}).encode()
        self._objects.replace(f"{self._root}/claims/{shard}/{worker_id}.json", note)

    def claims(self, shard: str) -> dict[str, datetime]:
        """Who has taken this shard on, ever, and when: by worker id."""
        folder = f"{self._root}/claims/{shard}"
        found = {}
        for key in self._objects.keys(folder):
            worker_id = key.removeprefix(f"{folder}/").removesuffix(".json")
            found[worker_id] = datetime.fromisoformat(json.loads(self._objects.read(key))["claimed_at"])
        return found

    def begin_alone(self, shard: str, line: int, worker_id: str) -> None:
        """A row that may have killed its workers is about to be tried, with nothing beside it."""
        self._objects.replace(f"{self._root}/alone/{shard}/{line}/{worker_id}", b"")

    def survived_alone(self, shard: str, line: int, worker_id: str) -> None:
        """That try came to an end."""
        self._objects.delete(f"{self._root}/alone/{shard}/{line}/{worker_id}")

    def deaths_alone(self, shard: str, line: int) -> int:
        """How many workers began this row alone and were never heard of again."""
        return len(self._objects.keys(f"{self._root}/alone/{shard}/{line}"))

    def write_journal(self, journal: WorkerJournal) -> None:
        """Replace a worker's journal."""
        self._objects.replace(f"{self._root}/workers/{journal.worker_id}.json", _journal_bytes(journal))

    def journal(self, worker_id: str) -> WorkerJournal | None:
        """A worker's journal; None if it never wrote one."""
        try:
            return _journal(self._objects.read(f"{self._root}/workers/{worker_id}.json"))
        except NotFound:
            return None

    def journals(self) -> list[WorkerJournal]:
        """Every worker's journal, by worker id."""
        return [_journal(self._objects.read(key)) for key in sorted(self._objects.keys(f"{self._root}/workers"))]

    # Partial pieces

    def keep_partial(self, track_id: str, checkpoint: bytes) -> None:
        """Keep what there is of a piece for whoever makes the rest."""
        self._objects.replace(f"{self._root}/partials/{track_id}", checkpoint)

    def partial(self, track_id: str) -> bytes | None:
        """What there is of a piece."""
        try:
            return self._objects.read(f"{self._root}/partials/{track_id}")
        except NotFound:
            return None

    def drop_partial(self, track_id: str) -> None:
        """The piece is made."""
        self._objects.delete(f"{self._root}/partials/{track_id}")

    # Stopping

    def stop(self, run_id: str, why: str) -> None:
        """Ask the workers of a run to finish what they are at and to take nothing new."""
        self._objects.replace(f"{self._root}/stops/{run_id}.json", json.dumps({"why": why}).encode())

    def end_run(self, run_id: str) -> None:
        """Say that no worker of this run is left."""
        self._objects.replace(f"{self._root}/ended/{run_id}", b"")

    def has_ended(self, run_id: str) -> bool:
        """Whether no worker of this run is left. A run that was killed never said so."""
        return self._objects.exists(f"{self._root}/ended/{run_id}")

    def is_at_work(self, worker: WorkerJournal, now: datetime) -> bool:
        """Whether a worker was seen within the lease, and its run has not said that nobody is left."""
        return worker.is_alive(now) and not self.has_ended(worker.run_id)

    def is_stopped(self, run_id: str) -> bool:
        """Whether the workers of this run are asked to stop."""
        return self._objects.exists(f"{self._root}/stops/{run_id}.json")


def _journal_bytes(journal: WorkerJournal) -> bytes:
    values = asdict(journal)
    for name in ("up_from", "seen_at"):
        values[name] = utc_timestamp(values[name])
    for attempt in values["attempts"]:
        for name in ("started_at", "ended_at"):
            attempt[name] = utc_timestamp(attempt[name])
    return json.dumps(values, allow_nan=False).encode()


def _journal(data: bytes) -> WorkerJournal:
    values = json.loads(data)
    for name in ("up_from", "seen_at"):
        values[name] = datetime.fromisoformat(values[name])
    for attempt in values["attempts"]:
        for name in ("started_at", "ended_at"):
            attempt[name] = datetime.fromisoformat(attempt[name])
    attempts = tuple(Attempt(**attempt) for attempt in values["attempts"])
    return WorkerJournal(**values | {"node": WorkerNode(**values["node"]), "attempts": attempts})
