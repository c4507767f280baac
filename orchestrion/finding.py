"""What one check found: a figure, what it may be, and whether it is. Part of errors, records and answers alike."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure of a track, what it may be, and whether it is."""

    name: str
    measured: float
    #: The least that is allowed; None where only the most is limited.
    lowest: float | None
    #: The most that is allowed.
    highest: float
    unit: str
    passed: bool

    def describe(self) -> str:
        """In words: "true peak is -0.2 dBTP, may be at most -1 dBTP"."""
        if self.lowest is None:
            allowed = f"may be at most {self.highest:g} {self.unit}"
        else:
            allowed = f"must be between {self.lowest:g} and {self.highest:g} {self.unit}"
        return f"{self.name} is {self.measured:.6g} {self.unit}, {allowed}"
