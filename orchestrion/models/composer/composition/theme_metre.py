"""The metre of a theme: what a MIDI file's time signature says, or the lengths of its notes where those are plain.

Long notes are heard as accents, and accents come back with every bar (J. C. Brown, "Determination of the meter of
musical scores by autocorrelation", 1993). Many melodies do not tell, so a metre is only given where one stands out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from orchestrion.audio.midi import TimeSignature
from orchestrion.models.composer.score import Note

#: The metre that a piece has for each time signature; those that are not here have none that bars of ours can be.
_METRES: Final = {
    (2, 4): "2/4", (4, 8): "2/4", (3, 4): "3/4", (6, 4): "3/4", (4, 4): "4/4", (2, 2): "4/4", (8, 8): "4/4",
    (5, 4): "5/4", (6, 8): "6/8", (3, 8): "6/8", (7, 8): "7/8", (12, 8): "12/8",
}  # fmt: skip
#: Fewer notes say nothing.
_LEAST_NOTES: Final = 12
#: A longer note is no stronger accent, in beats.
_LONGEST: Final = 3.0
#: By how much the correlation at a bar's length must exceed that at any other length, and what it must be.
_STANDS_OUT: Final = 0.25
_STANDS_OUT_OVER_TWO_BARS: Final = 0.45
_LEAST: Final = 0.3
#: How much stronger the first beat of a bar must be than the others, to say where bars begin.
_FIRST_BEAT: Final = 1.25


@dataclass(frozen=True, slots=True)
class HeardMetre:
    """`name` as "3/4"; the first bar line comes `pickup` beats after the first note.

    `tempo_factor`: by what a tempo must be multiplied whose beats were taken to be twice as long as they are.
    """

    name: str
    pickup: float = 0.0
    tempo_factor: float = 1.0


def metre_of_signature(signature: TimeSignature, first_beat: float) -> HeardMetre | None:
    """What a time signature says, of a melody that begins `first_beat` quarter notes after it; None: no metre of ours.

    A melody that begins in the second half of a bar has a pickup; in the first half, a rest (a negative one).
    """
    name = _METRES.get((signature.count, signature.unit))
    if name is None:
        return None
    bar = signature.count * 4 / signature.unit
    place = first_beat % bar
    return HeardMetre(name, bar - place if place >= bar / 2 else -place)


def metre_of_notes(notes: Sequence[Note]) -> HeardMetre | None:
    """The metre that the lengths of these notes show plainly: 3/4 or 4/4; None: they do not say.

    The first of them is at beat 0.
    """
    if len(notes) < _LEAST_NOTES:
        return None
    halves, beats = _accents(notes, 0.5), _accents(notes, 1.0)
    same = _correlations(halves)
    if _is_in_three(same):
        return HeardMetre("3/4", _pickup(halves, 3), 2.0)
    same = _correlations(beats)
    if _is_in_three(same) or _is_in_three_by_two_bars(same):
        return HeardMetre("3/4", _pickup(beats, 3))
    if same[4] > _LEAST and same[4] - max(same[3], 0.0) > _STANDS_OUT:
        return HeardMetre("4/4", _pickup(beats, 4))
    return None


def _is_in_three(same: dict[int, float]) -> bool:
    return same[3] > _LEAST and min(same[3], same[6]) - max(same[2], same[4]) > _STANDS_OUT


def _is_in_three_by_two_bars(same: dict[int, float]) -> bool:
    """Of melodies whose bars are alike in pairs: one of four beats would come back after eight."""
    return same[3] > -0.15 and same[6] - max(same[2], same[4], same[8]) > _STANDS_OUT_OVER_TWO_BARS


def _accents(notes: Sequence[Note], beat: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """How long the note is that begins on each beat, 0 where none does. `beat` in beats of the notes."""
    ends = [note.start for note in notes[1:]] + [notes[-1].start + notes[-1].length]
    accents = np.zeros(int(notes[-1].start / beat) + 1)
    for note, end in zip(notes, ends, strict=True):
        place = note.start / beat
        if place == int(place):
            accents[int(place)] = min((end - note.start) / beat, _LONGEST)
    return accents


def _correlations(accents: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[int, float]:
    """How much the accents are like themselves so many beats later, −1 … 1."""
    around = accents - accents.mean()
    found = {}
    for lag in (2, 3, 4, 6, 8):
        now, later = around[:-lag], around[lag:]
        scale = float(np.sqrt(np.square(now).sum() * np.square(later).sum()))
        found[lag] = float((now * later).sum()) / scale if scale > 1e-9 else 0.0
    return found


def _pickup(accents: np.ndarray[tuple[int], np.dtype[np.float64]], beats: int) -> float:
    """Beats before the first bar line, one or none: longer pickups are rarer than mistakes about them."""
    strengths = [float(accents[place::beats].mean()) for place in range(beats)]
    strongest = int(np.argmax(strengths))
    others = max(strength for place, strength in enumerate(strengths) if place != strongest)
    return 1.0 if strongest == 1 and strengths[strongest] >= _FIRST_BEAT * others else 0.0
