"""When to try again: a row that failed for a transient reason, and a store that is away.

A row has a few tries, and few rows in all have them: where every row fails, a job of an hour would otherwise try for
four. The surprising thing: a store that is away is no row's failure. Whoever needs it waits, with the piece in hand,
and whoever needs it after ten minutes of silence does not wait any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from orchestrion.clock import Clock
from orchestrion.errors import OrchestrionError, StoreUnavailable

logger = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 4
#: 0.5, 2 and 8 s: together longer than a store's leader election, shorter than a person's patience.
FIRST_PAUSE_S: Final = 0.5
PAUSE_FACTOR: Final = 4.0
#: How long a store that is away is waited for.
STORE_PATIENCE_S: Final = 600.0
#: It is asked again after 1, 2, 4, 8 and then each 10 s: when it is back, nobody waits for long.
LONGEST_STORE_PAUSE_S: Final = 10.0

_Result = TypeVar("_Result")


@dataclass(slots=True)
class RetryBudget:
    """Retries that one process may still spend: a reserve, refilled by each row that it takes on."""

    reserve: float = 10.0
    limit: float = 50.0
    refill_per_row: float = 0.2

    def earn(self, rows: int) -> None:
        """Rows taken on pay for retries: one retry per five rows, up to `limit`."""
        self.reserve = min(self.limit, self.reserve + rows * self.refill_per_row)

    def can_retry(self, attempts: int, rows: int) -> bool:
        """Whether `rows` rows that failed after `attempts` tries may all be tried again."""
        return attempts < MAX_ATTEMPTS and rows <= self.reserve

    def spend(self, rows: int) -> None:
        """Take `rows` retries from the reserve."""
        self.reserve -= rows


def pause_s(attempts: int) -> float:
    """Seconds to wait after try number `attempts` (from 1) before the next."""
    return FIRST_PAUSE_S * PAUSE_FACTOR ** (attempts - 1)


class StorePatience:
    """What all threads of a process know of a store: whether it answers, and since when not.

    One for reading and one for writing: a disk that is full still answers whoever reads.
    """

    def __init__(self, clock: Clock, sleep: Callable[[float], None], is_over: Callable[[], bool]) -> None:
        """Patience that ends when `is_over`, or with the store.

        Args:
            clock: measures how long the store has been away.
            sleep: waits.
            is_over: whether there is no time to wait any more.
        """
        self._clock = clock
        self._sleep = sleep
        self._is_over = is_over
        self._away_since_s: float | None = None

    @property
    def is_lost(self) -> bool:
        """Whether nobody was answered for as long as anybody waits."""
        since_s = self._away_since_s
        return since_s is not None and self._clock.monotonic_s() - since_s >= STORE_PATIENCE_S

    def __call__(self, call: Callable[[], _Result], /) -> _Result:
        """Call; while the store is away, wait and call again.

        Raises:
            StoreUnavailable: this call was not answered for ten minutes, nobody's was, or the time is over.
        """
        pause_s, began_s = 1.0, self._clock.monotonic_s()
        while True:
            try:
                result = call()
            except StoreUnavailable:
                now_s = self._clock.monotonic_s()
                if self._away_since_s is None:
                    self._away_since_s = now_s
                if self._is_over() or self.is_lost or now_s - began_s >= STORE_PATIENCE_S:
                    raise
                logger.warning("the store is away; trying again in %.0f s", pause_s, exc_info=pause_s == 1.0)
                self._sleep(pause_s)
                pause_s = min(LONGEST_STORE_PAUSE_S, 2.0 * pause_s)
            except OrchestrionError:
                self._away_since_s = None
                raise
            else:
                self._away_since_s = None
                return result
