"""What to do while the store is away: fail at once, because a person waits for the answer, or wait for the store.

The ten minutes of waiting are the process's, not each call's: when no call was answered for ten minutes, the next one
does not wait another ten.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from orchestrion.clock import Clock
from orchestrion.errors import OrchestrionError, StoreUnavailable

logger = logging.getLogger(__name__)

#: How long a store that is away is waited for.
STORE_RETRY_S: Final = 600.0
#: It is asked again after 1, 2, 4, 8 and then each 10 s: when it is back, no call waits for long.
LONGEST_PAUSE_S: Final = 10.0

_Result = TypeVar("_Result")


class Retry(Protocol):
    """Makes a call to the store, and may make it again while the store is away."""

    def __call__(self, call: Callable[[], _Result], /) -> _Result: ...  # noqa: D102


def no_retry(call: Callable[[], _Result], /) -> _Result:
    """Do not wait at all."""
    return call()


@dataclass(frozen=True, slots=True)
class Away:
    """That a store does not answer: for how long, and what it last said."""

    for_s: float
    error: str


class StoreRetry:
    """What all threads of a process know of a store: whether it answers, and since when not.

    One for reading and one for writing: a disk that is full still answers readers.
    """

    def __init__(self, clock: Clock, sleep: Callable[[float], None], is_over: Callable[[], bool]) -> None:
        """Retry that ends when `is_over`, or with the store.

        Args:
            clock: measures how long the store has been away.
            sleep: waits.
            is_over: whether there is no time to wait any more.
        """
        self._clock = clock
        self._sleep = sleep
        self._is_over = is_over
        self._away_since_s: float | None = None
        self._last_error = ""
        #: Calls so far, of all threads: grows while the store is still asked.
        self.attempts = 0

    @property
    def is_lost(self) -> bool:
        """Whether no call was answered for as long as a call may wait."""
        since_s = self._away_since_s
        return since_s is not None and self._clock.monotonic_s() - since_s >= STORE_RETRY_S

    @property
    def away(self) -> Away | None:
        """For how long the store has not answered; None if it did when it was asked last. Any thread may ask."""
        since_s = self._away_since_s
        return None if since_s is None else Away(self._clock.monotonic_s() - since_s, self._last_error)

    def __call__(self, call: Callable[[], _Result], /) -> _Result:
        """Call; while the store is away, wait and call again.

        Raises:
            StoreUnavailable: this call was not answered for ten minutes, no call was, or the time is over.
        """
        pause_s, began_s = 1.0, self._clock.monotonic_s()
        while True:
            self.attempts += 1
            try:
                result = call()
            except StoreUnavailable as error:
                now_s = self._clock.monotonic_s()
                self._last_error = str(error)
                if self._away_since_s is None:
                    self._away_since_s = now_s
                if self._is_over() or self.is_lost or now_s - began_s >= STORE_RETRY_S:
                    raise
                logger.warning("trying again in %.0f s: %s", pause_s, error)
                self._sleep(pause_s)
                pause_s = min(LONGEST_PAUSE_S, 2.0 * pause_s)
            except OrchestrionError:
                self._away_since_s = None
                raise
            else:
                self._away_since_s = None
                return result
