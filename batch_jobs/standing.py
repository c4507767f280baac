"""What a run is at and what it waits for, looked at every few seconds, so that no run is silent.

A run that waits says for what, since when, what the last error was, and until when it will wait. What render processes
wait for they write into their journals; what the driver waits for it knows itself.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from batch_jobs.job_store.job_folder import JobFolder, WorkerJournal
from orchestrion.clock import Clock
from orchestrion.resilience.store_retry import STORE_RETRY_S, Away

#: How often a run says where it stands, also when nothing has changed.
TICK_S: Final = 5.0


@dataclass(slots=True)
class Standing:
    """Where a run stands. Its own thread changes it, another one looks."""

    #: What it is at, e.g. "reading the catalog".
    phase: str = "starting"
    #: Of a run that has begun.
    folder: JobFolder | None = None
    run_id: str = ""
    #: Since when the ledger does not answer the driver, and what it last said.
    away: Callable[[], Away | None] = lambda: None
    #: How many shards another run works on, while this one waits for them.
    shards_elsewhere: int = 0

    def describe(self, now: datetime) -> str | None:
        """What it is at or waits for, in words; None while it renders and nothing is in its way."""
        if (away := self.away()) is not None:
            return f"waiting for the ledger, which has not answered {_since_and_until(now, away)}"
        if self.folder is None or self.phase != RENDERING:
            return self.phase
        try:
            journals = [one for one in self.folder.journals() if one.renders and one.is_alive(now)]
        except Exception as error:
            return f"waiting for the ledger, which does not answer: {error}"
        if self.shards_elsewhere:
            return waiting_for_others(journals, self.run_id, self.shards_elsewhere)
        return waiting_for([one for one in journals if one.run_id == self.run_id], now)


#: The phase in which render processes are asked what they wait for.
RENDERING: Final = "rendering"


def waiting_for(living: Sequence[WorkerJournal], now: datetime) -> str | None:
    """What the living render processes of a run wait for; None if they do not wait."""
    if not living:
        return "waiting for Ray to start a render process"
    waiting = [one for one in living if one.waiting is not None]
    if waiting:
        [(why, _)] = Counter(one.waiting for one in waiting).most_common(1)
        return f"{len(waiting)} of {len(living)} render processes wait: {why}"
    if not any(one.is_ready for one in living):
        return f"{len(living)} render processes load their models"
    return None


def waiting_for_others(living: Sequence[WorkerJournal], run_id: str, shards: int) -> str:
    """What a run waits for whose last shards another run works on."""
    others = sorted({one.run_id for one in living if one.run_id != run_id})
    whom = " and ".join(others) if others else "another run, which was last seen a moment ago"
    return f"waiting for {whom}, which works on {shards} shards"


def store_is_away(now: datetime, away: Away) -> str:
    """What a render process says that waits for the store."""
    return f"the store has not answered {_since_and_until(now, away)}"


def _since_and_until(now: datetime, away: Away) -> str:
    since = now - timedelta(seconds=away.for_s)
    until = since + timedelta(seconds=STORE_RETRY_S)
    return f"since {since:%H:%M:%S} UTC ({away.error}); given up at {until:%H:%M:%S}"


@contextmanager
def ticking(standing: Standing, clock: Clock, tick: Callable[[str | None], None]) -> Iterator[None]:
    """While entered, call `tick` every few seconds, in a thread of its own, with what the run is at or waits for."""
    over = threading.Event()

    def keep_ticking() -> None:
        while not over.wait(TICK_S):
            tick(standing.describe(clock.now()))

    thread = threading.Thread(target=keep_ticking, name="standing", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
