"""One attempt at one row's track: what the row's worker waits for, and what its journal says of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from batch_jobs.ledger.tables import FAILED, KEPT, STOPPED, TRACK
from orchestrion.rendering.admission import Priority
from orchestrion.tracks.outcome import Failure, Track
from orchestrion.tracks.request import TrackRequest

if TYPE_CHECKING:
    from orchestrion.rendering.executor import Executor
    from orchestrion.rendering.task import Listener, Task


@dataclass(eq=False, slots=True)
class Attempt:
    """An attempt. `outcome` is done with None when the executor was stopped before there was one.

    A track that two shards ask for at once is made once: it is the first one's attempt, and the other finds it.
    """

    request: TrackRequest
    track_id: str
    outcome: Future[Track | Failure | None] = field(default_factory=Future)
    _listener: Listener | None = None
    #: To be told once that its model has begun; None when it was.
    _on_start: Callable[[], None] | None = None

    @classmethod
    def begin(
        cls, executor: Executor, request: TrackRequest, track_id: str, on_start: Callable[[], None] | None = None
    ) -> Attempt:
        """Have one request rendered, or found; its outcome comes by itself.

        The outcome raises only what is to end the process (KeyboardInterrupt, SystemExit).

        Args:
            executor: that renders it.
            request: what to render.
            track_id: of the request.
            on_start: told, from any thread, when its model has begun.
        """
        attempt = cls(request, track_id, _on_start=on_start)
        if executor.is_stopped:
            attempt.outcome.set_result(None)
            return attempt
        try:
            attempt._listener = executor.join(
                request, track_id, wake=attempt._note, priority=Priority.BATCH, on_start=attempt._note_start
            )
        except Exception as error:
            is_stopped = executor.is_stopped
            attempt._settle(None if is_stopped else executor.failed(error, "request", request, track_id))
        except BaseException as error:
            attempt._raise(error)
        attempt._note()
        return attempt

    def _note(self) -> None:
        """Hand on what became of the task, once it is over."""
        self._note_start()
        if self._listener is None or self._listener.task.outcome is None:
            return
        task = self._listener.task
        if task.ended_by is not None:
            self._raise(task.ended_by)
        elif task.is_stopped:
            self._settle(None)
        elif isinstance(task.outcome, Track) and not self._listener.is_first:
            self._settle(replace(task.outcome, cache_hit=True))
        else:
            self._settle(task.outcome)

    def _note_start(self) -> None:
        """Hand on that the model has begun, once it has."""
        on_start = self._on_start
        if on_start is not None and self.started_at is not None:
            self._on_start = None
            on_start()

    def _settle(self, outcome: Track | Failure | None) -> None:
        # The task may be over before `join` has come back, and both see it.
        with suppress(InvalidStateError):
            self.outcome.set_result(outcome)

    def _raise(self, error: BaseException) -> None:
        with suppress(InvalidStateError):
            self.outcome.set_exception(error)

    @property
    def _own_task(self) -> Task | None:
        """Its task, unless that was begun for another attempt."""
        return self._listener.task if self._listener is not None and self._listener.is_first else None

    @property
    def started_at(self) -> datetime | None:
        """When its model began; None for a track that was there already, and for what was never begun."""
        return None if self._own_task is None else self._own_task.began_at

    @property
    def ended_at(self) -> datetime | None:
        """When it was over."""
        return None if self._own_task is None else self._own_task.ended_at

    @property
    def ended(self) -> str | None:
        """How it ended, of `tables.ENDINGS`; None before that, and for what was never begun."""
        task = self._own_task
        if task is None or task.began_at is None or task.outcome is None:
            return None
        if task.is_stopped:
            return KEPT if task.is_kept_for_others else STOPPED
        return TRACK if isinstance(task.outcome, Track) else FAILED

    @property
    def kept(self) -> bool:
        """Whether a part of it is among the partial pieces."""
        return self._own_task is not None and self._own_task.is_kept

    @property
    def device_seconds(self) -> float:
        """Seconds of the device so far. Any thread may ask."""
        return 0.0 if self._own_task is None else self._own_task.device_seconds
