"""What to do while the store is away: fail at once, because a person waits for the answer, or wait for the store.

The ten minutes of waiting are the process's, not each call's: when a store has refused a call for ten minutes, the next
one does not wait another ten. A store that takes a small write while it refuses a large one, as a full disk does, is
still away for all that is at least as large.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from orchestrion.clock import Clock
from orchestrion.errors import OrchestrionError, StoreUnavailable

logger = logging.getLogger(__name__)

#: How long a store that is away is waited for, unless somebody says otherwise.
STORE_RETRY_S: Final = 600.0
#: It is asked again after 1, 2, 4, 8 and then each 10 s: when it is back, no call waits for long.
LONGEST_PAUSE_S: Final = 10.0
#: A call that has no answer after so long, and after what its bytes may take, is told of. A connection that hangs is
#: broken off by the operating system or a library only minutes later.
UNANSWERED_S: Final = 3.0
SLOWEST_BYTES_PER_S: Final = 1e6
#: From so many refusals of one call on, it is looked whether the store takes as many other bytes.
PROBED_AFTER: Final = 3
#: Bytes of a short note: more than those of a call that writes nothing, and that is all that matters.
NOTE: Final = 1

_Result = TypeVar("_Result")


class Retry(Protocol):
    """Makes a call to the store, and may make it again while the store is away.

    `size`: bytes that it writes. `works`: it does more than ask the store, and may take long though that answers.
    """

    def __call__(self, call: Callable[[], _Result], /, size: int = 0, works: bool = False) -> _Result: ...  # noqa: D102


def no_retry(call: Callable[[], _Result], /, size: int = 0, works: bool = False) -> _Result:
    """Do not wait at all."""
    return call()


@dataclass(frozen=True, slots=True)
class Away:
    """That a store does not answer, or refuses what it is given: for how long, and what it last said."""

    for_s: float
    error: str
    #: How long it is waited for.
    patience_s: float = STORE_RETRY_S

    @property
    def is_given_up(self) -> bool:
        """Whether it is not waited for any more."""
        return self.for_s >= self.patience_s


@dataclass(frozen=True, slots=True)
class _Refusal:
    size: int
    since_s: float
    error: str


class StoreRetry:
    """What all threads of a process know of a store: whether it answers, what it refuses, and since when.

    One for reading and one for writing: a disk that is full still answers readers. A store that refuses some bytes is
    taken to refuse more as well, and one that takes some to take fewer as well.
    """

    def __init__(
        self,
        clock: Clock,
        sleep: Callable[[float], None],
        is_over: Callable[[], bool],
        patience_s: float = STORE_RETRY_S,
        probe: Callable[[int], None] | None = None,
    ) -> None:
        """Retry that ends when `is_over`, or with the store.

        Args:
            clock: measures how long the store has been away.
            sleep: waits.
            is_over: whether there is no time to wait any more.
            patience_s: how long a store that is away is waited for.
            probe: writes so many bytes and removes them again. It tells a store that takes nothing from one that does
                not take what this one call writes.
        """
        self._clock = clock
        self._sleep = sleep
        self._is_over = is_over
        self._patience_s = patience_s
        self._probe = probe
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        #: By call: those that wait, and when the store is given up, those that it was given up for.
        self._refused: dict[int | str, _Refusal] = {}
        #: By call that has no answer yet: when it was made, and when it should have come back.
        self._asked: dict[int | str, tuple[float, float]] = {}
        #: Calls so far, of all threads: grows while the store is still asked.
        self.attempts = 0

    @property
    def refused(self) -> Away | None:
        """For how long the store has refused what still waits for it; None if nothing does. Any thread may ask."""
        with self._lock:
            oldest = min(self._refused.values(), key=lambda each: each.since_s, default=None)
        return None if oldest is None else self._away(oldest.since_s, oldest.error)

    @property
    def away(self) -> Away | None:
        """The same, and also of a call that has got no answer at all. Any thread may ask."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            late_since_s = min((made_s for made_s, due_s in self._asked.values() if now_s > due_s), default=None)
        late = None if late_since_s is None else self._away(late_since_s, "no answer yet")
        # What was refused says more than what has not come back.
        return self.refused or late

    @property
    def is_lost(self) -> bool:
        """Whether something was refused for as long as a call may wait."""
        refused = self.refused
        return refused is not None and refused.is_given_up

    def __call__(self, call: Callable[[], _Result], /, size: int = 0, works: bool = False) -> _Result:
        """Call; while the store is away, wait and call again.

        Args:
            call: reads from the store, or writes to it.
            size: bytes that it writes.
            works: it does more than ask the store, so that a late answer says nothing about that.

        Raises:
            StoreUnavailable: this call was not answered for as long as it may wait, nor was any of its size, or the
                time is over.
        """
        number = next(self._numbers)
        pause_s, began_s = 1.0, self._clock.monotonic_s()
        is_its_own = False
        due_s = math.inf if works else _due_s(size)
        for refusals in itertools.count(1):
            try:
                return self._once(number, call, size, due_s, is_its_own)
            except StoreUnavailable as error:
                if not is_its_own and refusals >= PROBED_AFTER and self._takes_others(size):
                    is_its_own = True
                    self._forget(number)
                is_lost = self._is_lost_for(size)
                if self._is_over() or is_lost or self._clock.monotonic_s() - began_s >= self._patience_s:
                    if not is_lost:
                        # Nothing waits for this any more, so nothing would find out that the store is back.
                        self._forget(number)
                    raise
                logger.warning("trying again in %.0f s: %s", pause_s, error)
            try:
                self._sleep(pause_s)
            except BaseException:
                self._forget(number)
                raise
            pause_s = min(LONGEST_PAUSE_S, 2.0 * pause_s)
        raise AssertionError("counting ends with a return or a raise")

    def try_once(self, name: str, call: Callable[[], _Result], size: int = 0) -> _Result:
        """Call once, and remember by `name` that it was refused, until the same is called again.

        Raises:
            StoreUnavailable: it was refused.
        """
        return self._once(name, call, size, _due_s(size))

    def _takes_others(self, size: int) -> bool:
        """Whether the store takes as many bytes that are nothing to anybody."""
        if self._probe is None or size <= NOTE:
            return False
        try:
            self._probe(size)
        except StoreUnavailable:
            return False
        return True

    def _once(
        self, key: int | str, call: Callable[[], _Result], size: int, due_s: float, is_its_own: bool = False
    ) -> _Result:
        now_s = self._clock.monotonic_s()
        with self._lock:
            self.attempts += 1
            self._asked[key] = (now_s, now_s + due_s)
        answered: int | None = None
        try:
            result = call()
            answered = size
            return result
        except StoreUnavailable as error:
            if not is_its_own:
                self._note_refusal(key, size, str(error))
            raise
        except OrchestrionError:
            # "No" is an answer, and none about how much the store would take.
            answered = 0
            self._forget(key)
            raise
        except BaseException:
            self._forget(key)
            raise
        finally:
            with self._lock:
                self._asked.pop(key, None)
                if answered is not None:
                    self._refused = {at: each for at, each in self._refused.items() if each.size > answered}

    def _note_refusal(self, key: int | str, size: int, error: str) -> None:
        now_s = self._clock.monotonic_s()
        with self._lock:
            since_s = min((each.since_s for each in self._refused.values() if each.size <= size), default=now_s)
            # Of calls that do not wait, those that a given-up store was given up for say enough.
            if key in self._refused or now_s - since_s < self._patience_s:
                self._refused[key] = _Refusal(size, since_s, error)

    def _forget(self, key: int | str) -> None:
        with self._lock, suppress(KeyError):
            del self._refused[key]

    def _is_lost_for(self, size: int) -> bool:
        now_s = self._clock.monotonic_s()
        with self._lock:
            return any(
                each.size <= size and now_s - each.since_s >= self._patience_s for each in self._refused.values()
            )

    def _away(self, since_s: float, error: str) -> Away:
        return Away(self._clock.monotonic_s() - since_s, error, self._patience_s)


def _due_s(size: int) -> float:
    """Seconds after which a call should have come back that writes so many bytes."""
    return UNANSWERED_S + size / SLOWEST_BYTES_PER_S


class StoreCalls:
    """How a process calls a store that it waits for: reading and writing, each with its own patience."""

    def __init__(
        self,
        clock: Clock,
        sleep: Callable[[float], None],
        is_over: Callable[[], bool],
        patience_s: float = STORE_RETRY_S,
        probe: Callable[[int], None] | None = None,
    ) -> None:
        """As `StoreRetry`."""
        self.reading = StoreRetry(clock, sleep, is_over, patience_s)
        self.writing = StoreRetry(clock, sleep, is_over, patience_s, probe)

    @property
    def away(self) -> Away | None:
        """For how long the store has not answered, or refused something; None if it answers. Any thread may ask."""
        return longest(self.reading.away, self.writing.away)

    @property
    def refused(self) -> Away | None:
        """For how long it has refused what still waits for it. Any thread may ask."""
        return longest(self.reading.refused, self.writing.refused)


def longest(*found: Away | None) -> Away | None:
    """The one that has lasted longest; None if there is none."""
    return max((each for each in found if each is not None), key=lambda each: each.for_s, default=None)
