"""A section of a piece as a request names it: what it is, and how long it lasts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Section:
    """One of the sections that a piece consists of, in the order in which they are played.

    Its length is given in seconds or in bars, never in both; with neither it takes its share of what the others leave.
    """

    #: One of `vocabulary.SECTION_NAMES`.
    name: str
    duration_s: float | None = None
    bars: int | None = None
