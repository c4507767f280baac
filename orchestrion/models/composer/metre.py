"""Metres: how long a bar is, where it is accented, and how a pattern written for one metre is played in another.

Patterns are written once, in four or in three. Another metre takes their beats in another order: 5/4 repeats the
second, 3/4 leaves the third out, 2/4 plays a bar in two. In 6/8 and 12/8 the beat is the dotted quarter, as musicians
count it, and what lies within a beat moves to its thirds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final

#: The beats of a pattern that each beat of a bar plays; several bars alternate.
_Order = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Metre:
    """A metre as it is written and as it is played."""

    numerator: int
    denominator: int
    #: Length of a bar in beats, and of a beat in quarter notes (1.5 where three eighths make a beat).
    beats: float
    beat_quarters: float
    #: The beats that are accented, and the one where the bar's second half begins.
    strong: tuple[float, ...]
    split: float
    #: How patterns in four and in three are played.
    of_four: _Order
    of_three: _Order

    def __str__(self) -> str:
        return f"{self.numerator}/{self.denominator}"

    @property
    def is_compound(self) -> bool:
        """Whether a beat has three parts."""
        return self.beat_quarters == 1.5

    def order(self, pattern_beats: int) -> _Order:
        """The beats of a pattern of `pattern_beats` (2, 3 or 4) that each bar plays."""
        if pattern_beats == 2:
            return (tuple(beat % 2 for beat in self.of_four[0]),)
        return self.of_three if pattern_beats == 3 else self.of_four

    def is_native(self, pattern_beats: int) -> bool:
        """Whether a pattern of `pattern_beats` is played as it is written."""
        return self.denominator == 4 and self.beats == pattern_beats

    def in_beat(self, place: float) -> float:
        """Where in a beat (0 … 1) that falls which a pattern has at `place` of a plain beat."""
        if not self.is_compound:
            return place
        return 0.0 if place < 0.2 else 1 / 3 if place < 0.45 else 2 / 3

    def on_grid(self, beat: float) -> float:
        """`beat`, counted from a bar line, with its place in the beat as `in_beat` has it."""
        whole = math.floor(beat + 1e-6)
        return whole + self.in_beat(beat - whole) if self.is_compound else beat


_FOUR: Final = ((0, 1, 2, 3),)
METRES: Final[dict[str, Metre]] = {
    "2/4": Metre(2, 4, 2.0, 1.0, (0,), 1.0, ((0, 1), (2, 3)), ((0, 1),)),
    "3/4": Metre(3, 4, 3.0, 1.0, (0, 2), 2.0, ((0, 1, 3),), ((0, 1, 2),)),
    "4/4": Metre(4, 4, 4.0, 1.0, (0, 2), 2.0, _FOUR, ((0, 1, 0, 2),)),
    "5/4": Metre(5, 4, 5.0, 1.0, (0, 3), 3.0, ((0, 1, 1, 2, 3),), ((0, 1, 2, 0, 1),)),
    "6/8": Metre(6, 8, 2.0, 1.5, (0,), 1.0, ((0, 1), (2, 3)), ((0, 1), (0, 2))),
    "7/8": Metre(7, 8, 3.5, 1.0, (0, 2), 2.0, _FOUR, ((0, 1, 2, 1),)),
    "12/8": Metre(12, 8, 4.0, 1.5, (0, 2), 2.0, _FOUR, ((0, 1, 0, 2),)),
}  # fmt: skip

#: Notes this long fill their part of the bar, and grow with it.
_SUSTAINED_BEATS: Final = 1.4


def fitted_times(start: float, length: float, pattern_beats: int, metre: Metre) -> list[tuple[int, float, float]]:
    """Where a note of a pattern falls in `metre`: (which of the alternating bars, start, length), in beats.

    A note that sounds on into a part of the pattern that has a bar of its own is struck again there.
    """
    placed = []
    beat = int(start + 1e-6)
    grown = length * max(1.0, metre.beats / pattern_beats) if length >= _SUSTAINED_BEATS else length
    for bar, order in enumerate(metre.order(pattern_beats)):
        times = [target + metre.in_beat(start - beat) for target, source in enumerate(order) if source == beat]
        times = [at for at in times if at < metre.beats - 1e-6]
        if start < order[0] < start + length - 0.3:
            placed.append((bar, 0.0, start + length - order[0]))
        # What is struck twice in a bar sounds until it is struck again.
        gaps = [after - at for at, after in pairwise([*times, math.inf])]
        placed += [(bar, at, min(grown, gap)) for at, gap in zip(times, gaps, strict=True)]
    return placed


def fitted_steps(steps: str, pattern_beats: int, metre: Metre, *, is_even: bool) -> str:
    """The steps of a percussion lane ("9..5…", bars separated by "|") as `metre` plays them.

    Where a lane `is_even` and has both halves of a beat, it has all three parts of a beat of three.
    """
    if metre.is_native(pattern_beats):
        return steps
    return "|".join(
        "".join(_beats_in_order(bar, pattern_beats, order, metre, is_even))
        for bar in steps.split("|")
        for order in metre.order(pattern_beats)
    )


def _beats_in_order(bar: str, pattern_beats: int, order: tuple[int, ...], metre: Metre, is_even: bool) -> list[str]:
    per_beat = len(bar) // pattern_beats
    beats = [bar[per_beat * source : per_beat * (source + 1)] for source in order]
    if metre.is_compound:
        return [_in_thirds(beat, is_even) for beat in beats]
    if metre.beats % 1:
        # The last beat is a half: steps are halved where they would not divide it.
        beats = ["".join(f"{step}." for step in beat) for beat in beats] if per_beat % 2 else beats
        beats[-1] = beats[-1][: len(beats[-1]) // 2]
    return beats


@cache
def _in_thirds(beat: str, is_even: bool) -> str:
    """A beat's steps on its thirds: the loudest that falls on each."""
    thirds = ["."] * 3
    for number, step in enumerate(beat):
        place = number / len(beat)
        third = 0 if place < 0.2 else 1 if place < 0.45 else 2
        thirds[third] = max(thirds[third], step)  # "." sorts before the digits.
    if is_even and thirds[0] != "." and thirds[2] != "." and thirds[1] == ".":
        thirds[1] = str(max(1, int(min(thirds[0], thirds[2])) - 1))
    return "".join(thirds)
