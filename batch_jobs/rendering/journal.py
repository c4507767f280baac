"""What a render process writes about its attempts while they run, so that they can be counted if it dies."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime
from typing import Final

from batch_jobs.job_store.job_folder import AttemptRecord, JobFolder, WorkerJournal
from batch_jobs.ledger.tables import TRACK, TWIN
from batch_jobs.rendering.attempt import Attempt
from orchestrion.clock import Clock
from orchestrion.tracks.outcome import Failure

#: Of what a process says that it waits for: an error of a library may quote its whole input.
MAX_WAITING_CHARACTERS: Final = 300


class Journal:
    """What a worker is working on, for the workers after it. Threads may note and write at any time."""

    def __init__(self, folder: JobFolder, identity: WorkerJournal, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        #: Held while the journal is written: what is older never replaces what is newer.
        self._writing = threading.Lock()
        self._noted: dict[str, tuple[str, int, Attempt]] = {}
        self._twins: list[AttemptRecord] = []
        self._numbers = 0
        #: Whether an attempt has begun since the journal was last written.
        self._news = threading.Event()
        self.identity = identity

    def note(self, shard: str, line: int, one: Attempt) -> str:
        """An attempt begins; returns its id."""
        with self._lock:
            self._numbers += 1
            attempt_id = f"{self.identity.worker_id}-{self._numbers}"
            self._noted[attempt_id] = (shard, line, one)
        if one.started_at is not None:
            self._news.set()
        return attempt_id

    def tell_begun(self) -> None:
        """A model has begun with an attempt, which may have been noted long before."""
        self._news.set()

    def wait_for_news(self, timeout_s: float | None = None) -> bool:
        """Return when an attempt has begun that no write of the journal has told of; False if none has in this time."""
        return self._news.wait(timeout_s)

    def attempts(self, shard: str) -> list[AttemptRecord]:
        """The attempts of one shard that have ended."""
        return [one for one in self._all() if one.shard == shard and one.ended is not None]

    def settle(self, shard: str, committed: bool) -> None:
        """The shard is committed: by this worker, whose attempts are in the commit, or by another."""
        lost = [] if committed else self.attempts(shard)
        twins = [replace(one, ended=TWIN) if one.ended == TRACK else one for one in lost]
        with self._lock:
            self._twins += twins
            self._noted = {key: noted for key, noted in self._noted.items() if noted[0] != shard}

    def write(self, left: bool = False, is_ready: bool = True, waiting: str | None = None) -> None:
        """Replace the journal that the others see.

        Args:
            left: the process goes in order.
            is_ready: its models are loaded.
            waiting: what it waits for, in words.

        Raises:
            StoreUnavailable: it could not be written.
        """
        with self._writing:
            # Before looking: what begins from here on is news again.
            self._news.clear()
            attempts = (*self._twins, *self._all())
            self._folder.write_journal(
                replace(
                    self.identity,
                    seen_at=self._clock.now(),
                    attempts=attempts,
                    left=left,
                    is_ready=is_ready,
                    waiting=waiting and waiting[:MAX_WAITING_CHARACTERS],
                )
            )

    def _all(self) -> list[AttemptRecord]:
        with self._lock:
            noted = list(self._noted.items())
        now = self._clock.now()
        return [_attempt(key, shard, line, one, now) for key, (shard, line, one) in noted if one.started_at is not None]


def _attempt(attempt_id: str, shard: str, line: int, one: Attempt, now: datetime) -> AttemptRecord:
    outcome = one.outcome.result() if one.outcome.done() and one.outcome.exception() is None else None
    return AttemptRecord(
        attempt_id=attempt_id,
        shard=shard,
        line=line,
        track_id=one.track_id,
        model=one.request.composition.model,
        started_at=one.started_at or now,
        ended_at=one.ended_at or now,
        device_seconds=one.device_seconds,
        ended=one.ended,
        reason=outcome.code if isinstance(outcome, Failure) else None,
    )
