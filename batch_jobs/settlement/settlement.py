"""Settlement: what a job's workers committed since the last one becomes rows of the ledger, all at once.

shards and journals that no settlement counted yet → sums → charges → rows → one commit. It happens at the end
of each run, also of one that was stopped, and includes what a killed run left. There is no half settlement to repair:
until the manifest names it, nothing of it counts; after that, its list of shards and workers keeps them from being
counted again.

What lies in the job's folder and does not read as ours stops no settlement: a journal is skipped, and what only has the
name of a shard is removed, so that the next run renders its rows.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.job_store.job_folder import AttemptRecord, JobFolder, WorkerJournal
from batch_jobs.ledger.dataset import conformed
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.snapshot import Change, JobEntry, JobState, LedgerFile, Snapshot, Totals, settlement_key
from batch_jobs.ledger.tables import ATTEMPTS_SCHEMA, NODES_SCHEMA, PREEMPTED, SHARD_KINDS, STOPPED, TRACK
from batch_jobs.settlement.billing import Bill, Hours, NodeBill, node_bills, split_bill
from batch_jobs.settlement.outcomes import attempt_row
from batch_jobs.settlement.prices import JobPrices
from orchestrion.clock import Clock
from orchestrion.errors import InvalidRequest
from orchestrion.resilience.store_retry import Retry, no_retry
from orchestrion.storage.object_store import Objects

logger = logging.getLogger(__name__)

_Shard = TypeVar("_Shard", pa.Table, pa.Table | None)

#: Rows that wait for their file: what a settlement holds in memory, whatever the size of the job.
ROWS_AT_A_TIME: Final = 8_192
#: Shards that are read side by side: a bucket answers slowly, and decompressing leaves the interpreter free.
READERS: Final = 4
#: Columns that no sum survives if one value of them is not a number.
_AMOUNTS: Final = frozenset({"charged_usd", "cost_usd", "duration_s", "device_seconds"})
#: What the sums need of a shard: a tenth of it.
_SUMMED: Final = (
    "track.line", "track.cache_hit", "track.charged_usd", "track.cost_usd", "track.duration_s",
    "failure.line", "attempt.attempt_id", "attempt.line", "attempt.cost_usd", "attempt.ended",
)  # fmt: skip


def settle(
    ledger: Ledger,
    folder: JobFolder,
    job: Mapping[str, Any],
    prices: JobPrices,
    run_id: str,
    state: JobState,
    rows: int,
    clock: Clock,
    retrying: Retry = no_retry,
) -> JobEntry:
    """Publish every shard that is committed and every worker that is done, each once.

    Args:
        ledger: where to.
        folder: the job, below the same address as the ledger.
        job: what it is (`catalog`, `catalog_sha256`, `store`, `begun_at`).
        prices: of its machines.
        run_id: the run that ends: its workers count as done. Of other runs, those that were not seen for a while.
        state: how the run ends.
        rows: rows of the catalog.
        clock: says which workers are alive.
        retrying: makes the whole settlement; it may be made again, and is counted once.

    Returns:
        The state of the job, and its sums so far, over all its runs. It is not complete where a shard had to be
        removed.

    Raises:
        InvalidRequest: the record of an earlier settlement is damaged.
        StoreUnavailable: the folder or bucket did not answer.
    """
    settlement = _Settlement(ledger, folder, job, prices, run_id, state, rows, clock)
    entry = retrying(lambda: ledger.commit(settlement.build), works=True).jobs[folder.job_id]
    for shard in settlement.unreadable:
        retrying(partial(folder.discard, shard))
    return entry


def shard_totals(shard: pa.Table) -> Totals:
    """Counts and direct sums over the rows of a shard (of `SHARD_SCHEMA`)."""
    tracks = rows_of(shard, "track")
    return Totals(
        tracks=tracks.num_rows,
        failures=len(shard) - shard["failure"].null_count,
        cache_hits=pc.sum(tracks["cache_hit"]).as_py() or 0,
        charged_usd=math.fsum(tracks["charged_usd"].to_numpy()),
        saved_usd=math.fsum(tracks["cost_usd"].filter(tracks["cache_hit"]).to_numpy()),
        audio_s=math.fsum(tracks["duration_s"].to_numpy()),
    )


def charged_usd(folder: JobFolder) -> float:
    """What the renders of all tracks in a job's shards cost, settled or not."""
    shards = _read_ahead(lambda name: folder.shard(name, ["track.charged_usd"]), folder.committed())
    return math.fsum(
        value
        for _, shard in shards
        if shard is not None
        for value in rows_of(shard, "track")["charged_usd"].to_numpy()
        if 0.0 <= value < math.inf
    )


def settled_workers(objects: Objects, closings: Sequence[str]) -> set[str]:
    """The workers that these settlements have counted.

    Raises:
        InvalidRequest: one of them is damaged.
    """
    accounted = _Accounted()
    for key in closings:
        accounted.include(key, objects.read(key))
    return accounted.workers


def rows_of(shard: pa.Table, kind: str) -> pa.Table:
    """The tracks, failures or attempts of a shard, as far as their columns were read."""
    structs = shard[kind].drop_null().combine_chunks()
    return pa.Table.from_batches([pa.RecordBatch.from_struct_array(structs)])


@dataclass(slots=True)
class _Accounted:
    """What the job's settlements have counted already."""

    shards: set[str] = field(default_factory=set)
    workers: set[str] = field(default_factory=set)
    #: Attempts of dead workers that were in no shard at the time.
    attempts: set[str] = field(default_factory=set)

    def include(self, key: str, settlement: bytes) -> None:
        # A name is the hash of these very bytes. To go on without them would count everything in them twice.
        if key.rpartition("/")[2] != f"{_settlement_name(settlement)}.json":
            raise InvalidRequest.of(
                "ledger", key, "is not what was written when the run was settled; restore it and run again"
            )
        values = json.loads(settlement)
        self.shards.update(values["shards"])
        self.workers.update(values["workers"])
        self.attempts.update(values["attempts"])


@dataclass(slots=True)
class _Sums:
    """The first pass over the new shards."""

    totals: Totals = field(default_factory=Totals)
    charged: list[float] = field(default_factory=list)
    wasted: list[float] = field(default_factory=list)
    #: Lines that came again, by the round in which they did.
    retried: dict[int, list[pa.Array]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True, slots=True)
class _Result:
    """What is written and waits for the commit."""

    key: str
    totals: Totals
    added: Mapping[str, Sequence[LedgerFile]]
    removed: frozenset[str]
    #: Machines and days that were asked for, and what the ledger had of them then.
    asked: _MachineDays
    hours: tuple[Hours, ...]


@dataclass(frozen=True, slots=True)
class _MachineDays:
    """Some machines, in the days from the first to the last; none of them if there are no workers."""

    machines: frozenset[str]
    first: str
    last: str

    @classmethod
    def of(cls, workers: Sequence[WorkerJournal]) -> _MachineDays:
        """Those of these workers."""
        days = sorted(moment.date().isoformat() for each in workers for moment in (each.up_from, each.seen_at))
        return cls(frozenset(each.node.machine for each in workers), *(days[:1] + days[-1:] or ["", ""]))


class _Settlement:
    """One settlement, made anew when another one of the same job was faster."""

    def __init__(
        self,
        ledger: Ledger,
        folder: JobFolder,
        job: Mapping[str, Any],
        prices: JobPrices,
        run_id: str,
        state: JobState,
        rows: int,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._objects = ledger.objects
        self._folder = folder
        self._job = job
        self._prices = prices
        self._run_id = run_id
        self._state: JobState = state
        self._rows = rows
        self._clock = clock
        #: Shards that are none, by their names.
        self.unreadable: set[str] = set()
        #: The settlements before this one, and what this one came to on top of them.
        self._made: tuple[tuple[str, ...], _Result | None] | None = None
        #: Hours in the files of machines that were read, by path: a file never changes.
        self._hours_in: dict[str, list[Hours]] = {}

    def build(self, newest: Snapshot) -> Change | None:
        """The change to the newest state; None if there is nothing to settle."""
        known = newest.jobs.get(self._folder.job_id)
        before = known.closings if known else ()
        if self._made is None or self._made[0] != before or not self._still_there(newest):
            self._made = (before, self._result(newest, before))
        result = self._made[1]
        if self.unreadable and self._state == "complete":
            self._state = "interrupted"
        if result is None and known and (known.state, known.rows) == (self._state, self._rows):
            return None
        totals = replace(known.totals) if known else Totals()
        if result:
            totals.add(result.totals)
        entry = JobEntry(
            catalog=self._job["catalog"],
            catalog_sha256=self._job["catalog_sha256"],
            store=self._job["store"],
            state=self._state,
            rows=self._rows,
            totals=totals,
            closings=(*before, result.key) if result else before,
        )
        return Change(
            added=result.added if result else {},
            removed=result.removed if result else (),
            jobs={self._folder.job_id: entry},
        )

    def _still_there(self, newest: Snapshot) -> bool:
        """Whether nothing else has replaced the files that this settlement replaces, or paid for its machines."""
        result = self._made[1] if self._made else None
        if result is None:
            return True
        is_there = result.removed <= {file.path for file in newest.tables["failures"]}
        return is_there and result.hours == self._known_hours(newest, result.asked)

    def _known_hours(self, newest: Snapshot, asked: _MachineDays) -> tuple[Hours, ...]:
        """What the ledger has of these machines, whichever job paid. No hours lie in two days."""
        files = [file for file in newest.tables["nodes"] if asked.machines and asked.first <= file.day <= asked.last]
        new = [file for file in files if file.path not in self._hours_in]
        with ThreadPoolExecutor(READERS, thread_name_prefix="hours") as pool:
            tables = pool.map(lambda file: self._ledger.read("nodes", file), new)
            self._hours_in.update((file.path, _hours(rows)) for file, rows in zip(new, tables, strict=True))
        found = (hours for file in files for hours in self._hours_in[file.path] if hours.machine in asked.machines)
        # Not in the order of files: a compaction changes that, and nothing else.
        return tuple(sorted(found))

    def _result(self, newest: Snapshot, before: tuple[str, ...]) -> _Result | None:
        accounted = _Accounted()
        for key in before:
            accounted.include(key, self._objects.read(key))
        while True:
            try:
                return self._result_of_readable(newest, accounted)
            except _UnreadableShardError as error:
                logger.warning("shard %s of job %s %s", error.shard, self._folder.job_id, error)
                self.unreadable.add(error.shard)

    def _result_of_readable(self, newest: Snapshot, accounted: _Accounted) -> _Result | None:
        # Journals first: an attempt that leaves a journal meanwhile is then in a shard that the listing has.
        workers = self._workers_done(accounted)
        committed = self._folder.committed()
        shards = [name for name in committed if name not in accounted.shards | self.unreadable]
        if not shards and not workers:
            return None
        lost = self._tries_in_journals(workers, set(committed) - set(shards))
        sums = self._sum_up(shards, lost, accounted)
        lost_rows = self._rows_of_lost(lost)
        sums.wasted += [row["cost_usd"] for row in lost_rows]
        sums.totals.charged_usd = math.fsum(sums.charged)
        workers = [self._until_now(each) for each in workers]
        asked = _MachineDays.of(workers)
        hours = self._known_hours(newest, asked)
        bill = split_bill(sums.totals.charged_usd, math.fsum(sums.wasted), node_bills(workers, self._prices, hours))
        added: dict[str, list[LedgerFile]] = defaultdict(list)
        sums.totals.failures -= self._write_shards(shards, sums, bill, accounted, added)
        if lost_rows:
            added["attempts"] += self._ledger.write("attempts", pa.Table.from_pylist(lost_rows, schema=ATTEMPTS_SCHEMA))
        if bill.nodes:
            nodes = [_node_row(one, self._folder.job_id) for one in bill.nodes]
            added["nodes"] += self._ledger.write("nodes", pa.Table.from_pylist(nodes, schema=NODES_SCHEMA))
        replaced, removed = self._take_back(newest, sums, added)
        sums.totals.failures -= replaced
        sums.totals.waste_usd, sums.totals.idle_usd = bill.waste_usd, bill.idle_usd
        sums.totals.unallocated_usd, sums.totals.node_usd = bill.unallocated_usd, bill.node_usd
        return _Result(self._record(shards, workers, lost), sums.totals, added, removed, asked, hours)

    def _workers_done(self, accounted: _Accounted) -> list[WorkerJournal]:
        """The workers to account for now. What still works for another run is left to that run, by machine."""
        now, begun_at = self._clock.now(), datetime.fromisoformat(self._job["begun_at"])
        journals = self._folder.journals()
        at_work = {
            (each.run_id, each.node.machine)
            for each in journals
            if each.run_id != self._run_id and self._folder.is_at_work(each, now)
        }
        return [
            each.within(begun_at, now)
            for each in journals
            if each.worker_id not in accounted.workers and (each.run_id, each.node.machine) not in at_work
        ]

    def _until_now(self, worker: WorkerJournal) -> WorkerJournal:
        """The driver that settles its own run is there until now, and not until its last beat."""
        is_here = worker.run_id == self._run_id and not worker.renders and not worker.left
        return replace(worker, seen_at=max(worker.seen_at, self._clock.now())) if is_here else worker

    def _tries_in_journals(
        self, workers: Iterable[WorkerJournal], published: set[str]
    ) -> dict[str, tuple[AttemptRecord, WorkerJournal]]:
        """Attempts that only their worker's journal tells of, unless a new shard does."""
        found = {attempt.attempt_id: (attempt, worker) for worker in workers for attempt in worker.attempts}
        for shard in {attempt.shard for attempt, _ in found.values()} & published:
            # What was counted is not looked at again: without it, an attempt may be counted twice.
            if (rows := self._folder.shard(shard)) is not None:
                for attempt_id in rows_of(rows, "attempt")["attempt_id"].to_pylist():
                    found.pop(attempt_id, None)
        return found

    def _sum_up(
        self, shards: Sequence[str], lost: dict[str, tuple[AttemptRecord, WorkerJournal]], accounted: _Accounted
    ) -> _Sums:
        """The first pass. Takes the attempts that it finds out of `lost`."""
        sums = _Sums()
        for name, shard in _read_ahead(lambda name: self._readable(name, _SUMMED), shards):
            self._check_values(name, shard)
            counted = shard_totals(shard)
            sums.charged.append(counted.charged_usd)
            sums.totals.add(counted)
            tracks, attempts = rows_of(shard, "track"), rows_of(shard, "attempt")
            for attempt_id in attempts["attempt_id"].to_pylist() if lost else ():
                lost.pop(attempt_id, None)
            attempts = _without(attempts, "attempt_id", accounted.attempts)
            charged_lines = tracks["line"].filter(pc.invert(tracks["cache_hit"]))
            paid = pc.and_(
                pc.equal(attempts["ended"], TRACK), pc.is_in(attempts["line"], value_set=charged_lines.combine_chunks())
            )
            sums.wasted.append(math.fsum(attempts["cost_usd"].filter(pc.invert(paid)).to_numpy()))
            if _round(name) > 1:
                failed = rows_of(shard, "failure")["line"]
                sums.retried[_round(name)] += [*tracks["line"].chunks, *failed.chunks]
        return sums

    def _readable(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        rows = self._folder.shard(name, columns)
        if rows is None:
            raise _UnreadableShardError(name, "is no shard; it is removed, and the next run renders its rows")
        return rows

    def _check_values(self, name: str, shard: pa.Table) -> None:
        """Hold the rows of a shard to this job, and their figures to what can be summed."""
        checked = (_wrong_value(kind, rows_of(shard, kind), self._folder.job_id) for kind in SHARD_KINDS)
        if (wrong := next(filter(None, checked), None)) is not None:
            raise _UnreadableShardError(name, f"has {wrong}; it is removed, and the next run renders its rows")

    def _rows_of_lost(self, lost: Mapping[str, tuple[AttemptRecord, WorkerJournal]]) -> list[dict[str, Any]]:
        now = self._clock.now()
        rows = []
        for attempt, worker in lost.values():
            if attempt.ended is None:
                is_stopped = worker.left or (worker.run_id == self._run_id and worker.is_alive(now))
                ended = STOPPED if is_stopped else PREEMPTED
                attempt = replace(attempt, ended=ended, ended_at=worker.seen_at)
            rows.append(attempt_row(attempt, self._folder.job_id, worker, self._prices))
        return rows

    def _write_shards(
        self,
        shards: Sequence[str],
        sums: _Sums,
        bill: Bill,
        accounted: _Accounted,
        added: dict[str, list[LedgerFile]],
    ) -> int:
        """The second pass; returns how many failures were left out because a later round settled their rows."""
        superseded = 0
        waiting: list[tuple[str, pa.Table]] = []

        def flush(in_round: int) -> int:
            rows = pa.concat_tables(shard for _, shard in waiting)
            tables = {kind: rows_of(rows, kind) for kind in SHARD_KINDS}
            if any(_wrong_value(kind, table, self._folder.job_id) for kind, table in tables.items()):
                for name, shard in waiting:
                    self._check_values(name, shard)
            waiting.clear()
            tracks, failures, attempts = (conformed(tables[kind], schema) for kind, schema in SHARD_KINDS.items())
            attempts = _without(attempts, "attempt_id", accounted.attempts)
            failed = failures.num_rows
            if later := [lines for number, many in sums.retried.items() if number > in_round for lines in many]:
                failures = failures.filter(pc.invert(pc.is_in(failures["line"], value_set=pa.concat_arrays(later))))
            tracks = _with_shares(tracks, bill)
            for table, kept in (("tracks", tracks), ("failures", failures), ("attempts", attempts)):
                added[table] += self._ledger.write(table, kept)
            return int(failed - failures.num_rows)

        number, count = 1, 0
        for name, shard in _read_ahead(self._readable, shards):
            if waiting:
                is_full = count + len(shard) > ROWS_AT_A_TIME
                # Another schema: a worker of another release wrote it.
                if is_full or _round(name) != number or shard.schema != waiting[0][1].schema:
                    superseded += flush(number)
                    count = 0
            number = _round(name)
            count += len(shard)
            waiting.append((name, shard))
        if waiting:
            superseded += flush(number)
        return superseded

    def _take_back(
        self, newest: Snapshot, sums: _Sums, added: dict[str, list[LedgerFile]]
    ) -> tuple[int, frozenset[str]]:
        """Failures of earlier settlements that a later round settled leave the table: how many, and the old files."""
        again = [lines for many in sums.retried.values() for lines in many]
        if not again:
            return 0, frozenset()
        lines = pa.concat_arrays(again)
        count, removed = 0, set()
        for file in newest.tables["failures"]:
            if file.job_id not in (self._folder.job_id, None):
                continue
            rows = self._ledger.read("failures", file)
            gone = pc.and_(pc.equal(rows["job_id"], self._folder.job_id), pc.is_in(rows["line"], value_set=lines))
            if went := pc.sum(gone).as_py():
                count += went
                removed.add(file.path)
                added["failures"] += self._ledger.write("failures", rows.filter(pc.invert(gone)))
        return count, frozenset(removed)

    def _record(self, shards: Sequence[str], workers: Iterable[WorkerJournal], lost: Iterable[str]) -> str:
        """Write down what this settlement counts; returns the key."""
        record = {
            "run_id": self._run_id,
            "shards": list(shards),
            "workers": sorted(each.worker_id for each in workers),
            "attempts": sorted(lost),
        }
        data = json.dumps(record).encode()
        key = settlement_key(self._folder.job_id, _settlement_name(data))
        # A name that is taken holds these very bytes.
        self._objects.create(key, data)
        return key


class _UnreadableShardError(Exception):
    """What lies under a shard's name is none."""

    def __init__(self, shard: str, why: str) -> None:
        super().__init__(why)
        self.shard = shard


def _wrong_value(kind: str, rows: pa.Table, job_id: str) -> str | None:
    """What no worker of this job writes, e.g. "a track without line"; None if there is nothing."""
    for column in (each for each in SHARD_KINDS[kind] if each.name in rows.schema.names):
        values = rows[column.name]
        if not column.nullable and values.null_count:
            return f"a {kind} without {column.name}"
        if column.name == "job_id" and not pc.all(pc.equal(values, job_id), min_count=0).as_py():
            return f"a {kind} of another job"
        if column.name in _AMOUNTS and len(values):
            amounts = values.to_numpy()
            # Neither is true of NaN.
            if not (amounts.min() >= 0.0 and amounts.max() < math.inf):
                return f"a {kind} whose {column.name} is less than 0 or not finite"
    return None


def _settlement_name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _with_shares(tracks: pa.Table, bill: Bill) -> pa.Table:
    """The tracks with what they carry of waste and idle time."""
    charged = tracks["charged_usd"]
    waste, idle = bill.shares(charged)
    total = pc.add(pc.add(charged, waste), idle)
    for name, values in (("waste_usd", waste), ("idle_usd", idle), ("total_usd", total)):
        at = tracks.schema.get_field_index(name)
        tracks = tracks.set_column(at, tracks.schema.field(at), values)
    return tracks


def _node_row(bill: NodeBill, job_id: str) -> dict[str, Any]:
    node = bill.node
    return {
        "job_id": job_id,
        "run_id": bill.run_id,
        "node_id": node.node_id,
        "machine_id": bill.machine,
        "node_type": node.node_type,
        "market": node.market,
        "device": node.device,
        "devices": node.devices,
        "usd_per_node_hour": node.usd_per_node_hour,
        "on_demand_usd_per_node_hour": node.on_demand_usd_per_node_hour,
        "price_source": node.price_source,
        "up_from": bill.up_from,
        "up_to": bill.up_to,
        "workers": bill.workers,
        "reserved_device_seconds": bill.reserved_device_seconds,
        "cost_usd": bill.cost_usd,
        "unallocated_usd": bill.unallocated_usd,
    }


def _hours(nodes: pa.Table) -> list[Hours]:
    """The hours in a file of `nodes`. Older releases knew a machine only as its scheduler did."""
    columns = ("machine_id", "node_id", "up_from", "up_to", "reserved_device_seconds", "cost_usd")
    return [
        Hours(machine or node_id, up_from, up_to, reserved_device_seconds, usd > 0.0)
        for machine, node_id, up_from, up_to, reserved_device_seconds, usd in zip(
            *(nodes[name].to_pylist() for name in columns), strict=True
        )
    ]


def _without(rows: pa.Table, column: str, values: set[str]) -> pa.Table:
    if not values:
        return rows
    return rows.filter(pc.invert(pc.is_in(rows[column], value_set=pa.array(sorted(values), pa.string()))))


def _round(shard: str) -> int:
    """The round that a shard belongs to: 1, or later ones that repeat failed rows."""
    return int(shard.partition("-")[0])


def _read_ahead(read: Callable[[str], _Shard], names: Sequence[str]) -> Iterator[tuple[str, _Shard]]:
    """Each name with its shard, in order; a few are read before they are asked for."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="shards") as pool:
        under_way: deque[tuple[str, Future[_Shard]]] = deque()
        for name in names:
            under_way.append((name, pool.submit(read, name)))
            if len(under_way) > 2 * READERS:
                first, table = under_way.popleft()
                yield first, table.result()
        for first, table in under_way:
            yield first, table.result()
