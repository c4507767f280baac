"""What makes a run stop before its catalog is done: a signal, or a job that costs what it may.

The cost is read from the workers' journals, not from what they have rendered: a worker that waits, loads or dies costs
as much as one that renders. A run stops before the limit by what finishing its open tracks will take, and a job that
has stopped at a limit begins nothing more under the same one.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from batch_jobs.job_store.job_folder import BEAT_S, JobFolder, WorkerJournal
from batch_jobs.options import MaxCostOf
from batch_jobs.settlement.billing import node_bills
from batch_jobs.settlement.prices import JobPrices
from orchestrion.clock import Clock

logger = logging.getLogger(__name__)

STOPPED_AT_MAX_COST: Final = "max-cost"
#: How often it is looked whether the run is to stop.
LOOK_S: Final = 1.0
#: How often the journals are read for what the job has cost, at most and at least: a bucket of many workers is read as
#: often as the limit could be exceeded by `TOLERANCE`, and no more.
LEAST_READ_S: Final = 1.0
MOST_READ_S: Final = 15.0
TOLERANCE: Final = 0.01
#: From the moment at which the limit is seen to be near until every worker has read that it is to stop.
STOPPING_S: Final = LOOK_S + BEAT_S
#: From then on, where Ray was started for the job, until it has ended and the run is settled.
ENDING_S: Final = 3.0


@dataclass(slots=True)
class Stop:
    """Whether a run is to end before its work does, and why. Any thread may ask or say."""

    #: None: go on.
    reason: str | None = None
    signal_number: int | None = None

    def by_signal(self, number: int) -> None:
        """A signal came."""
        self.signal_number = number
        self.reason = signal.Signals(number).name

    def at_max_cost(self) -> None:
        """The job has cost what it may."""
        self.reason = self.reason or STOPPED_AT_MAX_COST


@dataclass(frozen=True, slots=True)
class Spent:
    """What a job has cost so far, in USD."""

    usd: float
    #: What it goes on to cost each second.
    usd_per_s: float
    #: What it will cost from a stop on: until its workers know, and until their open tracks are finished, as far as
    #: earlier ones tell.
    to_finish_usd: float


@dataclass(slots=True)
class Meter:
    """Reads what a job has cost from its journals, again and again."""

    of: MaxCostOf
    prices: JobPrices
    #: Seconds that attempts took, and held of a device, by attempt: a journal forgets those that are committed.
    _took: dict[str, tuple[float, float]] = field(default_factory=dict)

    def read(self, journals: Sequence[WorkerJournal], rendered_usd: float, now: datetime) -> Spent:
        """What the job has cost.

        Args:
            journals: of all its workers, in the time that the job has had.
            rendered_usd: what the renders of its committed tracks cost.
            now: the time.
        """
        for attempt in (each for journal in journals for each in journal.attempts if each.ended is not None):
            took_s = (attempt.ended_at - attempt.started_at).total_seconds()
            self._took[attempt.attempt_id] = (took_s, attempt.device_seconds)
        living = [journal for journal in journals if journal.is_alive(now)]
        if self.of == "bill":
            return self._bill(journals, living, now)
        return self._renders(journals, living, rendered_usd)

    def _bill(self, journals: Sequence[WorkerJournal], living: Sequence[WorkerJournal], now: datetime) -> Spent:
        ids = {journal.worker_id for journal in living}
        # A living worker's machine is paid for until now, not until its last beat.
        until_now = [
            replace(each, seen_at=max(each.seen_at, now)) if each.worker_id in ids else each for each in journals
        ]
        machines = {each.node.machine: self.prices.of(each.node) for each in living}
        usd_per_s = math.fsum(node.usd_per_node_hour / 3600.0 for node in machines.values())
        is_open = any(attempt.ended is None for each in living for attempt in each.attempts)
        took_s, _ = self._means()
        stopping_s = STOPPING_S if all(each.renders for each in living) else STOPPING_S + ENDING_S
        return Spent(
            # As if no other job had paid for a machine: the limit holds whoever settles first.
            math.fsum(bill.cost_usd for bill in node_bills(until_now, self.prices)),
            usd_per_s,
            usd_per_s * (stopping_s + (took_s if is_open else 0.0)),
        )

    def _renders(
        self, journals: Sequence[WorkerJournal], living: Sequence[WorkerJournal], rendered_usd: float
    ) -> Spent:
        _, held_s = self._means()
        usd, usd_per_s, to_finish_usd = [rendered_usd], [], []
        ids = {journal.worker_id for journal in living}
        for journal in journals:
            price = self.prices.of(journal.node).usd_per_device_second
            for attempt in journal.attempts:
                usd.append(attempt.device_seconds * price)
                if attempt.ended is None and journal.worker_id in ids:
                    usd_per_s.append(price)
                    to_finish_usd.append(max(0.0, held_s - attempt.device_seconds) * price)
        to_finish_usd.append(STOPPING_S * math.fsum(usd_per_s))
        return Spent(math.fsum(usd), math.fsum(usd_per_s), math.fsum(to_finish_usd))

    def _means(self) -> tuple[float, float]:
        """Mean seconds of an attempt: on the clock, and of a device."""
        count = len(self._took)
        if not count:
            return 0.0, 0.0
        took, held = zip(*self._took.values(), strict=True)
        return math.fsum(took) / count, math.fsum(held) / count


@dataclass(frozen=True, slots=True)
class Budget:
    """What a job may cost, over all its runs."""

    max_usd: float
    of: MaxCostOf
    #: What it has cost so far.
    spent: Callable[[], Spent]

    def is_spent(self, spent: Spent) -> bool:
        """Whether nothing new may be begun."""
        return spent.usd + spent.to_finish_usd >= self.max_usd

    def read_after_s(self, spent: Spent) -> float:
        """When to read again: before it costs so much more that the limit could be exceeded by `TOLERANCE`."""
        if spent.usd_per_s <= 0.0:
            return LEAST_READ_S
        left_usd = max(0.0, self.max_usd - spent.usd - spent.to_finish_usd)
        after_s = (left_usd + TOLERANCE * self.max_usd) / spent.usd_per_s / 2.0
        return min(max(after_s, LEAST_READ_S), MOST_READ_S)

    def describe(self, spent: Spent) -> str:
        """In words, without what to do about it."""
        what = "its machines have cost" if self.of == "bill" else "its renders have cost"
        return f"--max-cost {self.max_usd:g}: {what} ${spent.usd:.6f} over all its runs"


def nothing_left(budget: Budget, folder: JobFolder) -> str | None:
    """Why a run need not begin: the limit is reached, or an earlier run has stopped at the same one; None: it may."""
    spent = budget.spent()
    if budget.is_spent(spent):
        return budget.describe(spent)
    stopped_at = folder.stopped_at_usd(budget.of)
    if stopped_at is not None and budget.max_usd <= stopped_at:
        return f"{budget.describe(spent)}, and an earlier run stopped at {stopped_at:g}: another track would exceed it"
    return None


@contextmanager
def watch(stop: Stop, folder: JobFolder, run_id: str, budget: Budget | None, clock: Clock) -> Iterator[None]:
    """While entered, tell the run's workers when it is to stop, and stop it when the job has cost too much.

    Args:
        stop: what the workers are told of, and what is told that the money is spent.
        folder: of the job.
        run_id: the run.
        budget: what the job may cost; None for any sum.
        clock: says when to look again.
    """
    over = threading.Event()

    def look(read_at_s: float) -> float:
        """Look once; when to read the journals next."""
        if budget is not None and stop.reason is None and clock.monotonic_s() >= read_at_s:
            spent = budget.spent()
            if budget.is_spent(spent):
                logger.warning(
                    "%s, and what is open will take $%.6f; it stops", budget.describe(spent), spent.to_finish_usd
                )
                stop.at_max_cost()
            read_at_s = clock.monotonic_s() + budget.read_after_s(spent)
        if stop.reason is not None:
            limit = (budget.of, budget.max_usd) if budget and stop.reason == STOPPED_AT_MAX_COST else None
            folder.stop(run_id, stop.reason, limit)
            over.set()
        return read_at_s

    def keep_looking() -> None:
        read_at_s = clock.monotonic_s()
        while not over.wait(LOOK_S):
            try:
                read_at_s = look(read_at_s)
            except Exception:
                # Also an unforeseen error: a run that is not watched is not stopped.
                logger.warning("the run cannot be watched just now; trying again", exc_info=True)

    thread = threading.Thread(target=keep_looking, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
