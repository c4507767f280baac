"""Whether a call that failed is made again, and after which pause: a decision, without a clock and without waiting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orchestrion.client.problems import Refusal
from orchestrion.errors import Transient

#: Share of a pause that chance may add, so that clients that were refused together do not come back together. It
#: only adds: no client comes back before `Retry-After`.
JITTER: Final = 0.25
#: Where the service names no time, the pause after the first attempt; it doubles after each.
FIRST_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and for how long a client repeats one call."""

    #: Attempts after the first one.
    retries: int
    #: Seconds for all attempts together, pauses included.
    deadline_s: float

    def pause_s(self, refusal: Refusal, failed_tries: int, passed_s: float, chance: float) -> float | None:
        """Seconds to wait before the next attempt; None: there is none.

        Args:
            refusal: how the last attempt ended.
            failed_tries: so far, at least 1.
            passed_s: since the call began.
            chance: drawn evenly from [0, 1).
        """
        if not isinstance(refusal.error, Transient) or failed_tries > self.retries:
            return None
        asked_s = refusal.retry_after_s
        wanted_s = FIRST_PAUSE_S * 2.0 ** (failed_tries - 1) if asked_s is None else asked_s
        pause_s = wanted_s * (1.0 + JITTER * chance)
        return pause_s if passed_s + pause_s < self.deadline_s else None
