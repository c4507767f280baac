"""When a row that failed for a transient reason is worth another attempt: a few attempts a row, and few rows in all.

The second bound is the one that matters: where every row fails, a job of an hour would otherwise take four. A store
that is away is no row's failure: `orchestrion.resilience.store_retry` waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_ATTEMPTS: Final = 4
#: 0.5, 2 and 8 s: together longer than a store's leader election, shorter than a person would wait.
FIRST_PAUSE_S: Final = 0.5
PAUSE_FACTOR: Final = 4.0


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
    """Seconds to wait after attempt number `attempts` (from 1) before the next."""
    return FIRST_PAUSE_S * PAUSE_FACTOR ** (attempts - 1)
