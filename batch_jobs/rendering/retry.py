"""When a transient failure is worth another try: a few tries a row, and few rows in all.

The second bound is the one that matters. A store that is down fails every row; without a budget each row would be
tried again and a job of an hour would hammer the dead store for four.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_ATTEMPTS: Final = 4
#: 0.5, 2 and 8 s: together longer than a store's leader election, shorter than a person's patience.
FIRST_PAUSE_S: Final = 0.5
PAUSE_FACTOR: Final = 4.0
#: A store that is away is waited for: 1, 2, 4 … s, about ten minutes in all. Its rows are not to blame.
LONGEST_STORE_PAUSE_S: Final = 20.0
STORE_TRIES: Final = 34


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


def store_pause_s(tries: int) -> float | None:
    """Seconds to wait for a store that did not answer try number `tries` (from 1); None: it has been away too long."""
    return min(LONGEST_STORE_PAUSE_S, 2.0 ** (tries - 1)) if tries <= STORE_TRIES else None
