"""How one process takes a shard to its commit: claim → render what is missing → settle every row → commit.

No Ray here. A shard is never begun from nothing twice: what a dead worker of it finished is in the store and counts as
this job's own work, and only the tracks that it was working on when it died are made a second time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from batch_jobs.job_store.job_folder import AttemptRecord, JobFolder, WorkerJournal
from batch_jobs.ledger.snapshot import Totals
from batch_jobs.ledger.tables import TRACK
from batch_jobs.planning.planned_rows import texts_of
from batch_jobs.rendering.attempt import Attempt
from batch_jobs.rendering.exclusive import SharedExclusiveLock
from batch_jobs.rendering.journal import Journal
from batch_jobs.settlement.outcomes import RowContext, attempt_row, failure_row, shard_table, track_row
from batch_jobs.settlement.prices import JobPrices
from batch_jobs.settlement.settlement import shard_totals
from orchestrion.clock import Clock
from orchestrion.errors import ModelFailed, StoreUnavailable
from orchestrion.resilience.retry_budget import RetryBudget, pause_s
from orchestrion.resilience.store_retry import NOTE, StoreCalls
from orchestrion.tracks.outcome import Failure, Track
from orchestrion.tracks.request import TrackRequest
from orchestrion.tracks.spec import TrackSpec

if TYPE_CHECKING:
    from orchestrion.rendering.executor import Executor
    from orchestrion.rendering.renderer import Renderer

logger = logging.getLogger(__name__)

#: So many workers died while they worked on a shard: from then on its rows are rendered one at a time, and nothing
#: beside them.
DEATHS_BEFORE_EXCLUSIVE: Final = 2
#: So many workers died with one row alone: it is given up.
DEATHS_ALONE: Final = 3

#: What became of a shard that a worker was given.
COMMITTED: Final = "committed"
ELSEWHERE: Final = "elsewhere"
LEFT: Final = "left"
#: The store or the ledger was away for longer than a worker waits; `reason` has its last word.
GIVEN_UP: Final = "given-up"

_SUMMED: Final = pa.schema(
    [
        *((name, pa.int64()) for name in ("tracks", "failures", "cache_hits")),
        *((name, pa.float64()) for name in ("charged_usd", "saved_usd", "audio_s")),
    ]
)
#: One row for each shard that a worker was given: what the driver learns of it. From the fourth column on, `Totals`.
SUMMARY_SCHEMA: Final = pa.schema([*((name, pa.string()) for name in ("shard", "state", "reason")), *_SUMMED])


@dataclass(frozen=True, slots=True)
class Previous:
    """Workers that had a shard before, and since when."""

    since: datetime
    workers: tuple[WorkerJournal, ...]

    def maker(self, track: Track) -> WorkerJournal | None:
        """The one of them that made this track, if it was made for this shard."""
        if datetime.fromisoformat(track.record.created_at) < self.since:
            return None
        return next((worker for worker in self.workers if worker.node.node_id == track.record.node_id), None)

    @property
    def deaths(self) -> int:
        """How many of them died with it."""
        return sum(not worker.left for worker in self.workers)


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of a shard, and the id of its track, or why there can be none."""

    at: RowContext
    request: TrackRequest
    track_id: str | Failure


@dataclass(slots=True)
class _Settled:
    """What became of one request: its outcome, the number of attempts, and whether this job paid for it."""

    outcome: Track | Failure
    attempts: int
    paid: bool


class ShardWorker:
    """One render process's way with shards. Each of its threads may take one at the same time."""

    def __init__(
        self,
        folder: JobFolder,
        prices: JobPrices,
        renderer: Renderer,
        executor: Executor,
        journal: Journal,
        ledger: StoreCalls,
        clock: Clock,
        sleep: Callable[[float], None],
    ) -> None:
        """A worker that takes nothing yet.

        Args:
            folder: of the job.
            prices: of its machines.
            renderer: knows the ids of tracks.
            executor: makes them.
            journal: says what is being made.
            ledger: how the job's folder is called.
            clock: the time.
            sleep: waits between the tries of a row.
        """
        self._folder = folder
        self._prices = prices
        self._renderer = renderer
        self._executor = executor
        self._journal = journal
        self._clock = clock
        self._sleep = sleep
        self._reading, self._writing = ledger.reading, ledger.writing
        self._budget = RetryBudget()
        self._lock = SharedExclusiveLock()

    def take(self, block: pa.Table) -> pa.Table:
        """Take a shard (a table of `plan.WORK_SCHEMA`) as far as it goes; one row of `SUMMARY_SCHEMA`."""
        shard: str = block["shard"][0].as_py()
        try:
            return self._take(shard, block)
        except StoreUnavailable as error:
            if self._executor.is_over:
                return _summary(shard, LEFT)
            logger.warning("%s is given up: %s", shard, error)
            return _summary(shard, GIVEN_UP, reason=str(error))

    def _take(self, shard: str, block: pa.Table) -> pa.Table:
        if self._executor.is_stopped:
            return _summary(shard, LEFT)
        if (committed := self._committed(shard)) is not None:
            return _summary(shard, COMMITTED, committed)
        previous = self._reading(lambda: self._previous(shard))
        if previous is None:
            return _summary(shard, ELSEWHERE)
        if (refused := self._executor.refused) is not None and refused.is_given_up:
            # Others may take the shard on.
            raise StoreUnavailable(refused.error)
        self._writing(lambda: self._folder.claim(shard, self._journal.identity.worker_id, self._clock.now()), size=NOTE)
        rows = [self._row(row) for row in block.to_pylist()]
        if previous.deaths < DEATHS_BEFORE_EXCLUSIVE:
            with self._lock.shared():
                settled = self._render(shard, _first_of_each(rows), previous)
        else:
            with self._lock.exclusive():
                settled = self._settle_one_by_one(shard, rows, previous)
        if settled is None:
            return _summary(shard, LEFT)
        table = self._table(shard, rows, settled, previous)
        ours = self._writing(lambda: self._folder.commit(shard, table), size=table.nbytes)
        theirs = None if ours else self._committed(shard)
        if not ours and theirs is None:
            # What had the name was no shard, and is gone.
            ours = self._writing(lambda: self._folder.commit(shard, table), size=table.nbytes)
        self._journal.settle(shard, ours)
        return _summary(shard, COMMITTED, table if theirs is None else theirs)

    def _committed(self, shard: str) -> pa.Table | None:
        """What is committed of a shard; None if nothing is. What only has its name is removed."""
        if not self._reading(lambda: self._folder.is_committed(shard)):
            return None
        rows = self._reading(lambda: self._folder.shard(shard))
        if rows is None:
            self._writing(lambda: self._folder.discard(shard))
        return rows

    # ---- who had it before -------------------------------------------------------------------------------------

    def _previous(self, shard: str) -> Previous | None:
        """The workers that had the shard before; None if one of another run works on it now."""
        me, now = self._journal.identity, self._clock.now()
        claims = {worker: at for worker, at in self._folder.claims(shard).items() if worker != me.worker_id}
        workers = [journal for worker in claims if (journal := self._folder.journal(worker)) is not None]
        # A claim of our own run was handed on to us by Ray: the worker that made it is gone, however fresh it is.
        if any(worker.run_id != me.run_id and self._folder.is_at_work(worker, now) for worker in workers):
            return None
        return Previous(min(claims.values(), default=now), tuple(workers))

    # ---- rows --------------------------------------------------------------------------------------------------

    def _row(self, row: Mapping[str, Any]) -> _Row:
        run_id = self._journal.identity.run_id
        kept = texts_of(row["kept"])
        at = RowContext(self._folder.job_id, run_id, row["line"], row["row_id"], row["title"], kept)
        request = TrackSpec.from_json(json.loads(row["spec"])).resolve()
        try:
            return _Row(at, request, self._renderer.track_id(request))
        except Exception as error:
            return _Row(at, request, self._renderer.failed(error, "request", None, request.composition.model))

    def _settle_one_by_one(self, shard: str, rows: Sequence[_Row], previous: Previous) -> dict[str, _Settled] | None:
        """One row after the other, each noted before it is tried: the one that kills its process is found."""
        logger.warning("%s: %d workers died with it; its rows are tried one by one", shard, previous.deaths)
        settled: dict[str, _Settled] = {}
        worker_id = self._journal.identity.worker_id
        for track_id, row in _first_of_each(rows).items():
            line = row.at.line
            deaths = self._reading(partial(self._folder.deaths_alone, shard, line))
            if deaths >= DEATHS_ALONE:
                settled[track_id] = _Settled(_deadly(row, track_id, deaths), deaths + previous.deaths, paid=False)
                continue
            self._writing(partial(self._folder.begin_alone, shard, line, worker_id), size=NOTE)
            try:
                one = self._render(shard, {track_id: row}, previous)
            finally:
                self._writing(partial(self._folder.survived_alone, shard, line, worker_id))
            if one is None:
                return None
            settled |= one
        return settled

    def _render(self, shard: str, wanted: Mapping[str, _Row], previous: Previous) -> dict[str, _Settled] | None:
        """The outcome of each track, transient failures tried again as far as the budget goes; None if stopped."""
        settled: dict[str, _Settled] = {}
        again = list(wanted)
        number = 0
        self._budget.earn(len(wanted))
        while again:
            number += 1
            begun = {}
            for track_id in again:
                row = wanted[track_id]
                begun[track_id] = one = Attempt.begin(self._executor, row.request, track_id, self._journal.tell_begun)
                self._journal.note(shard, row.at.line, one)
            outcomes = {track_id: one.outcome.result() for track_id, one in begun.items()}
            for track_id, outcome in outcomes.items():
                if outcome is None:
                    return None
                was_made = begun[track_id].started_at is not None
                paid = was_made or (isinstance(outcome, Track) and previous.maker(outcome) is not None)
                settled[track_id] = _Settled(outcome, number, paid and isinstance(outcome, Track))
            failures = {track_id: one for track_id, one in outcomes.items() if isinstance(one, Failure)}
            # The executor has already waited for the store as long as it may.
            unstored = [one for one in failures.values() if one.code == StoreUnavailable.code]
            if unstored and (refused := self._executor.refused) is not None and refused.is_given_up:
                raise StoreUnavailable(unstored[0].message)
            again = [track_id for track_id, one in failures.items() if one.retryable and one not in unstored]
            if not again or not self._budget.can_retry(number, len(again)):
                break
            self._budget.spend(len(again))
            self._sleep(pause_s(number))
        return settled

    # ---- the commit --------------------------------------------------------------------------------------------

    def _table(self, shard: str, rows: Sequence[_Row], settled: Mapping[str, _Settled], previous: Previous) -> pa.Table:
        """The shard's commit: an outcome for each row, and the attempts that led to them."""
        now = self._clock.now()
        ended: list[dict[str, Any]] = []
        paid: set[str] = set()
        adopted: list[dict[str, Any]] = []
        for row in rows:
            if isinstance(row.track_id, Failure):
                ended.append(failure_row(row.at, row.request, row.track_id, 1, now))
                continue
            one = settled[row.track_id]
            if isinstance(one.outcome, Failure):
                ended.append(failure_row(row.at, row.request, one.outcome, one.attempts, now))
                continue
            # Of rows that ask for the same audio, the first pays.
            pays = one.paid and row.track_id not in paid
            paid.add(row.track_id)
            ended.append(track_row(row.at, row.request, one.outcome, pays, one.attempts, now))
            maker = previous.maker(one.outcome) if pays and one.outcome.cache_hit else None
            if maker is not None:
                adopted.append(self._adopted(shard, row, one.outcome, maker))
        own = [self._attempt_row(one, self._journal.identity) for one in self._journal.attempts(shard)]
        return shard_table(ended, own + adopted)

    def _attempt_row(self, attempt: AttemptRecord, worker: WorkerJournal) -> dict[str, Any]:
        return attempt_row(attempt, self._folder.job_id, worker, self._prices)

    def _adopted(self, shard: str, row: _Row, track: Track, maker: WorkerJournal) -> dict[str, Any]:
        """The attempt that made a track before its worker could commit it."""
        noted = [one for one in maker.attempts if one.shard == shard and one.track_id == track.track_id]
        ended_at = datetime.fromisoformat(track.record.created_at)
        device_seconds = track.record.device_seconds
        if noted:
            made = replace(noted[-1], ended=TRACK, ended_at=ended_at, device_seconds=device_seconds, reason=None)
        else:
            # Begun and ended between two beats of its journal.
            attempt_id = f"{maker.worker_id}-line-{row.at.line}"
            model = row.request.composition.model
            made = AttemptRecord(
                attempt_id, shard, row.at.line, track.track_id, model, ended_at, ended_at, device_seconds, TRACK
            )
        return self._attempt_row(made, maker)


def _first_of_each(rows: Sequence[_Row]) -> dict[str, _Row]:
    """The first row that asks for each track."""
    first: dict[str, _Row] = {}
    for row in rows:
        if isinstance(row.track_id, str):
            first.setdefault(row.track_id, row)
    return first


def _deadly(row: _Row, track_id: str, deaths: int) -> Failure:
    return Failure(
        track_id=track_id,
        code=ModelFailed.code,
        stage="worker",
        message=(
            f"the process that rendered line {row.at.line} died {deaths} times while it rendered this row alone; "
            "Ray's logs say why. If its nodes only happened to go away, run again with --retry-failures"
        ),
        retryable=True,
    )


def _summary(shard: str, state: str, rows: pa.Table | None = None, reason: str | None = None) -> pa.Table:
    totals = Totals() if rows is None else shard_totals(rows)
    summed = {name: getattr(totals, name) for name in _SUMMED.names}
    return pa.Table.from_pylist([{"shard": shard, "state": state, "reason": reason, **summed}], schema=SUMMARY_SCHEMA)
