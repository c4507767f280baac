"""How fast something is handed over to a client that may read slowly."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """So much at once, and then so much a second, of whatever is counted: bytes, or seconds of audio."""

    lead: float
    per_s: float

    def wait_s(self, sent: float, elapsed_s: float) -> float:
        """Seconds until more may be sent, when so much was sent in this time."""
        return max(0.0, (sent - self.lead) / self.per_s - elapsed_s)
