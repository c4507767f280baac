"""Which calls of a process have stopped moving, so that requests are told and a hung replica is replaced.

A call that hangs cannot be ended from outside: its thread stays. What can be done is to notice it, to answer the
requests that wait for it, and, when no thread is left for a kind of work, to say that the process is stuck.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from orchestrion.clock import Clock

T = TypeVar("T")


class Stage(StrEnum):
    """Kinds of work, each with threads of its own."""

    PREPARE = "prepare"
    RENDER = "render"
    MASTER = "master"
    STORE = "store"


@dataclass(eq=False, slots=True)
class Call(Generic[T]):
    """One call into a model, a codec or a store that has not come back yet."""

    stage: Stage
    subject: T
    #: A figure that grows while the call gets on; None for calls that show nothing before their end.
    progress: Callable[[], float] | None
    seen: float
    moved_at_s: float


class StallWatch(Generic[T]):
    """The calls in progress of one replica. Any thread may ask."""

    def __init__(self, threads: Mapping[Stage, int], stall_s: float, clock: Clock) -> None:
        """A watch without calls.

        Args:
            threads: how many each kind of work has.
            stall_s: a call that has not moved on for so long has stalled.
            clock: monotonic seconds.
        """
        self._threads = threads
        self._stall_s = stall_s
        self._clock = clock
        self._lock = threading.Lock()
        self._calls: list[Call[T]] = []

    @contextmanager
    def call(self, stage: Stage, subject: T, progress: Callable[[], float] | None = None) -> Iterator[None]:
        """Watch what is called inside the block."""
        call = Call(stage, subject, progress, _seen(progress), self._clock.monotonic_s())
        with self._lock:
            self._calls.append(call)
        try:
            yield
        finally:
            with self._lock:
                self._calls.remove(call)

    def stalled(self) -> list[Call[T]]:
        """The calls that have not moved on for `stall_s`."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            seen = _seen(call.progress)
            if seen > call.seen:
                call.seen, call.moved_at_s = seen, now_s
        return [call for call in calls if now_s - call.moved_at_s >= self._stall_s]

    @property
    def is_stuck(self) -> bool:
        """Whether some kind of work has no thread left that moves."""
        stalled = Counter(call.stage for call in self.stalled())
        return any(stalled[stage] >= threads for stage, threads in self._threads.items())


def _seen(progress: Callable[[], float] | None) -> float:
    try:
        return 0.0 if progress is None else progress()
    except Exception:
        # It is asked of a model that may be broken: then it has not moved on.
        return 0.0
