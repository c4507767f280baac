"""Work that was not written to be interrupted, done a turn at a time.

audiocraft makes a piece in one call of minutes, in which it calls back after every step. Run in a thread of its own
that holds still between turns, the call becomes something that the replica's one thread can leave, come back to and
give up. Nothing here runs at the same time: exactly one of the two threads is awake.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class _GivenUp(BaseException):
    """Unwinds the work; not an Exception, so that no handler in it keeps it going."""


class Turns(Generic[T]):
    """A function that is called with `pause`; each `pause()` ends its turn, and returns when the next one begins."""

    def __init__(self, work: Callable[[Callable[[], None]], T]) -> None:
        self._work = work
        self._begin = threading.Semaphore(0)
        self._end = threading.Semaphore(0)
        self._given_up = False
        self._result: Future[T] = Future()
        # A daemon: a piece that is never finished must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="audiocraft", daemon=True)

    @property
    def is_over(self) -> bool:
        """Whether the work has returned, raised or been given up."""
        return self._result.done()

    def advance(self) -> None:
        """Let it work until it pauses or is over."""
        if self.is_over:
            return
        if self._thread.ident is None:
            self._thread.start()
        self._begin.release()
        self._end.acquire()

    def result(self) -> T:
        """What the work returned, or raises what it raised; only when it is over."""
        return self._result.result(timeout=0)

    def give_up(self) -> None:
        """Unwind the work from where it pauses; nothing happens if it is over."""
        self._given_up = True
        self.advance()

    def _run(self) -> None:
        self._begin.acquire()
        try:
            self._pause_if_given_up()
            self._result.set_result(self._work(self._pause))
        except BaseException as error:
            self._result.set_exception(error)
        self._end.release()

    def _pause(self) -> None:
        self._end.release()
        self._begin.acquire()
        self._pause_if_given_up()

    def _pause_if_given_up(self) -> None:
        if self._given_up:
            raise _GivenUp
