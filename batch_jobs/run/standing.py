"""What a run is at and what it waits for, looked at every few seconds, so that no run is silent.

A run that waits says for what, since when, what the last error was, and until when it will wait. What render processes
wait for they write into their journals; what the driver waits for it knows itself. The journals are read in a thread of
their own: a ledger that hangs must not silence the run that waits for it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from batch_jobs.job_store.job_folder import LEASE_S, JobFolder, WorkerJournal
from orchestrion.clock import Clock
from orchestrion.resilience.store_retry import STORE_RETRY_S, UNANSWERED_S, Away

#: How often a run says where it stands, also when nothing has changed. What has changed is said at once.
TICK_S: Final = 5.0
#: How often it is looked for what has changed, at most.
LOOK_S: Final = 1.0

#: Of an error that is quoted: what it says stands at its beginning, and what follows it must have room, too.
MAX_ERROR_CHARACTERS: Final = 180

#: The phase in which render processes are asked what they wait for.
RENDERING: Final = "rendering"


@dataclass(frozen=True, slots=True)
class _Failing:
    """The journals cannot be read: since when, and why not."""

    since: datetime
    error: str


@dataclass(slots=True)
class Standing:
    """Where a run stands. Its own thread changes it, others look."""

    #: What it is at, e.g. "reading the catalog".
    phase: str = "starting"
    #: Of a run that has begun.
    folder: JobFolder | None = None
    run_id: str = ""
    #: Since when the ledger does not answer the driver, and what it last said.
    away: Callable[[], Away | None] = lambda: None
    #: How long a store or a ledger that is away is waited for.
    patience_s: float = STORE_RETRY_S
    #: How many shards another run works on, while this one waits for them, and since when it does.
    shards_elsewhere: int = 0
    elsewhere_since: datetime | None = None
    #: What the last look at the journals gave, and since when one is under way.
    _journals: Sequence[WorkerJournal] | None = None
    _failing: _Failing | None = None
    _asked_at: datetime | None = None

    def look(self, clock: Clock) -> None:
        """Read the journals, if there is a reason to; takes as long as the ledger does."""
        if self.folder is None or self.phase != RENDERING:
            self._journals = self._failing = None
            return
        self._asked_at = clock.now()
        try:
            self._journals = [one for one in self.folder.journals() if one.renders]
            self._failing = None
        except Exception as error:
            since = self._asked_at if self._failing is None else self._failing.since
            self._failing = _Failing(since, str(error))
        finally:
            self._asked_at = None

    def describe(self, now: datetime) -> str | None:
        """What it is at or waits for, in words; None while it renders and nothing is in its way."""
        if (away := self.away()) is not None:
            return "waiting: " + is_away("ledger", now, away)
        if self.folder is None or self.phase != RENDERING:
            return self.phase
        failing, asked_at, journals = self._failing, self._asked_at, self._journals
        if failing is None and asked_at is not None and (now - asked_at).total_seconds() > UNANSWERED_S:
            failing = _Failing(asked_at, "no answer yet")
        if failing is not None:
            away = Away((now - failing.since).total_seconds(), failing.error, self.patience_s)
            return "waiting: " + is_away("ledger", now, away)
        if journals is None:
            return self.phase
        if self.shards_elsewhere:
            living = [one for one in journals if one.is_alive(now)]
            return waiting_for_others(living, self.run_id, self.shards_elsewhere, self.elsewhere_since or now)
        return waiting_for([one for one in journals if one.run_id == self.run_id], now)


def waiting_for(journals: Sequence[WorkerJournal], now: datetime) -> str | None:
    """What the render processes of a run wait for, of whom these are the journals; None if they do not wait."""
    living = [one for one in journals if one.is_alive(now)]
    if not living:
        return _nobody_lives(journals)
    waiting = [one for one in living if one.waiting is not None]
    if waiting:
        [(why, _)] = Counter(one.waiting for one in waiting).most_common(1)
        return f"{len(waiting)} of {len(living)} render processes wait: {why}"
    if not any(one.is_ready for one in living):
        return f"{len(living)} render processes load their models"
    return None


def _nobody_lives(journals: Sequence[WorkerJournal]) -> str:
    lost = [one.seen_at for one in journals if not one.left]
    if not lost:
        return "waiting for Ray to start a render process"
    return (
        f"waiting for Ray to start a render process; {len(lost)} were there, and none has been heard of since "
        f"{max(lost):%H:%M:%S} UTC: their nodes are gone, or the ledger does not take what they write"
    )


def waiting_for_others(living: Sequence[WorkerJournal], run_id: str, shards: int, since: datetime) -> str:
    """What a run waits for whose last shards another run works on."""
    others = sorted({one.run_id for one in living if one.run_id != run_id})
    whom = " and ".join(others) if others else "another run, which was last seen a moment ago"
    return (
        f"waiting for {whom}, which works on {shards} shards, since {since:%H:%M:%S} UTC: until they are committed, or "
        f"it has not been heard of for {LEASE_S:.0f} s"
    )


def is_away(what: str, now: datetime, away: Away) -> str:
    """What a process says that waits for the store or the ledger."""
    since = now - timedelta(seconds=away.for_s)
    until = since + timedelta(seconds=away.patience_s)
    error = away.error if len(away.error) <= MAX_ERROR_CHARACTERS else f"{away.error[:MAX_ERROR_CHARACTERS]}…"
    return (
        f"the {what} has not answered, or takes nothing, since {since:%H:%M:%S} UTC ({error}); given up at "
        f"{until:%H:%M:%S}"
    )


@contextmanager
def ticking(standing: Standing, clock: Clock, tick: Callable[[str | None], None]) -> Iterator[None]:
    """While entered, call `tick` with what the run is at or waits for: when that changes, and every few seconds."""
    over = threading.Event()

    def keep_looking() -> None:
        pause_s = LOOK_S
        while not over.wait(pause_s):
            began_s = clock.monotonic_s()
            standing.look(clock)
            # A bucket of many workers is busy enough.
            pause_s = min(TICK_S, max(LOOK_S, 4.0 * (clock.monotonic_s() - began_s)))

    def keep_ticking() -> None:
        said, said_at_s = None, clock.monotonic_s()
        while not over.wait(LOOK_S):
            what = standing.describe(clock.now())
            if what != said or clock.monotonic_s() - said_at_s >= TICK_S:
                tick(what)
                said, said_at_s = what, clock.monotonic_s()

    looker = threading.Thread(target=keep_looking, name="look", daemon=True)
    ticker = threading.Thread(target=keep_ticking, name="standing", daemon=True)
    looker.start()
    ticker.start()
    try:
        yield
    finally:
        over.set()
        # Not the one that looks: the ledger may keep it for minutes.
        ticker.join()
