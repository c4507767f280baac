"""Figures that are not known exactly: a middle, and the range that eight of ten outcomes are expected in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

#: Eight of ten values of a normal distribution are within so many standard deviations.
_DEVIATIONS: Final = 1.2816
#: What is usual counts as much as so many measurements.
_USUAL_COUNTS: Final = 3.0
#: One measurement says no more than this, however far off it is: a factor.
_FARTHEST: Final = 10.0


@dataclass(frozen=True, slots=True)
class Span:
    """A figure that is not known exactly."""

    low: float
    middle: float
    high: float

    def times(self, factor: float) -> Span:
        """Each of the three, times a factor that is not negative."""
        return Span(self.low * factor, self.middle * factor, self.high * factor)

    def times_span(self, other: Span) -> Span:
        """Low times low, and so on."""
        return Span(self.low * other.low, self.middle * other.middle, self.high * other.high)

    def plus(self, *others: Span) -> Span:
        """Low plus low, and so on: what goes wrong goes wrong together."""
        spans = (self, *others)
        return Span(*(math.fsum(getattr(span, name) for span in spans) for name in ("low", "middle", "high")))

    def describe(self, show: Callable[[float], str]) -> str:
        """The middle, and the others in brackets."""
        return f"{show(self.middle)} ({show(self.low)} to {show(self.high)})"


NOTHING: Final = Span(0.0, 0.0, 0.0)


def around(middle: float, ratios: Sequence[float], weights: Sequence[float], usually: float) -> Span:
    """The range around a mean, from how far single measurements are from it.

    Args:
        middle: the mean.
        ratios: each measurement divided by it; 0 counts as very small.
        weights: how much each measurement counts.
        usually: standard deviation of the logarithms of such ratios; few measurements are believed less than this.
    """
    logs = [math.log(min(max(ratio, 1 / _FARTHEST), _FARTHEST)) for ratio in ratios]
    total = math.fsum(weights)
    squares = len(logs) * math.fsum(w * log**2 for w, log in zip(weights, logs, strict=True)) / total if total else 0.0
    deviation = math.sqrt((_USUAL_COUNTS * usually**2 + squares) / (_USUAL_COUNTS + len(logs)))
    factor = math.exp(eight_of_ten(deviation))
    return Span(middle / factor, middle, middle * factor)


def eight_of_ten(deviation: float) -> float:
    """How far eight of ten values are at most from their mean, when this is their standard deviation."""
    return _DEVIATIONS * deviation
