"""The threads that do the parts of a step."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from orchestrion.models.musicgen.decoder.cpu.threads import Home


class Crew:
    """Threads that run one compiled function together. They sleep between calls and end with `close` or with the crew.

    All of the work is theirs and the caller only waits, so when a caller is interrupted no thread waits for it.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._home = Home()
        self._inboxes: list[SimpleQueue[_Job | None]] = [SimpleQueue() for _ in range(threads if threads > 1 else 0)]
        for thread, inbox in enumerate(self._inboxes):
            name = f"musicgen-decoder-{thread}"
            threading.Thread(target=_work, args=(thread, inbox), name=name, daemon=True).start()
        self._dismiss = weakref.finalize(self, _dismiss, self._inboxes)

    def run(self, function: Any, *arguments: Any) -> None:  # noqa: ANN401
        """Calls `function(*arguments, threads, thread)` on every thread and waits for all.

        Raises:
            ValueError: the crew has been closed.
            ModelFailed: the process was forked since the crew was made.
        """
        self._home.require()
        if not self._dismiss.alive:
            raise ValueError("this decoder has been closed: make another")
        if not self._inboxes:
            function(*arguments, self.threads, 0)
            return
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        job = _Job(function, (*arguments, self.threads), done)
        for inbox in self._inboxes:
            inbox.put(job)
        for error in [done.get() for _ in self._inboxes]:
            if error is not None:
                raise error

    def close(self) -> None:
        """Ends the threads; they finish what they are at."""
        self._dismiss()


@dataclass(frozen=True, slots=True)
class _Job:
    function: Any
    arguments: tuple[Any, ...]
    done: SimpleQueue[BaseException | None]


def _work(thread: int, inbox: SimpleQueue[_Job | None]) -> None:
    while (job := inbox.get()) is not None:
        try:
            job.function(*job.arguments, thread)
        except BaseException as error:  # Whatever it is, the caller waits for an answer and gets it.
            job.done.put(error)
        else:
            job.done.put(None)
        del job


def _dismiss(inboxes: list[SimpleQueue[_Job | None]]) -> None:
    for inbox in inboxes:
        inbox.put(None)
