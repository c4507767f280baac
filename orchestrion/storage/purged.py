"""What is left of an object that was to be removed for good."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Purged:
    """What became of an object that was to go with every version that its bucket keeps of it."""

    was_there: bool
    #: Versions that can still be read, as "<key>?versionId=<id>", and why they could not be removed.
    left: tuple[str, ...] = ()
    #: Why it is not known whether versions are left; "" where it is.
    unknown: str = ""
