"""Drum grooves as step tables, and the fills that lead from one section to the next.

A lane is one percussion key; its steps are digits (loudness 1–9) or "." and divide the bar evenly, so sixteen steps
are sixteenths in 4/4 and twelve are triplets in 4/4 or sixteenths in 3/4. "|" separates bars that alternate. A lane
joins at its section level: that is how a groove builds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from orchestrion.models.composer.metre import Metre, fitted_steps
from orchestrion.models.composer.score import Note, Section, as_velocity

KICK, STICK, SNARE, CLAP, E_SNARE = 36, 37, 38, 39, 40
SCRATCH_PUSH, SCRATCH_PULL = 29, 30
CLOSED, PEDAL, OPEN, CRASH, RIDE, BELL, CRASH_2 = 42, 44, 46, 49, 51, 53, 57
TOM_1, TOM_2, TOM_3, TOM_4 = 48, 45, 43, 41
TAMBOURINE, COWBELL, HIGH_BONGO, LOW_BONGO, MUTE_CONGA, HIGH_CONGA, LOW_CONGA = 54, 56, 60, 61, 62, 63, 64
TIMBALE, CABASA, MARACAS, CLAVES, HIGH_BLOCK, TRIANGLE, GUIRO = 65, 69, 70, 75, 76, 81, 74
HIGH_AGOGO, LOW_AGOGO, MUTE_CUICA, OPEN_CUICA, SHAKER, CASTANETS, TAIKO = 67, 68, 78, 79, 82, 85, 87
#: Hitting a closed or pedal hi-hat ends an open one.
CHOKES: Final = {OPEN: (CLOSED, PEDAL)}
#: Percussion that keeps its place when the drums play a fill.
_STEADY: Final = frozenset({KICK, TAMBOURINE, CABASA, MARACAS, CLAVES, TRIANGLE, HIGH_CONGA, LOW_CONGA, MUTE_CONGA})

#: Percussion that counts the parts of the beat: where it has two, a beat of three parts has three.
_TIMEKEEPERS: Final = frozenset({CLOSED, PEDAL, RIDE, TAMBOURINE, CABASA, MARACAS, HIGH_BONGO, HIGH_CONGA})


@dataclass(frozen=True, slots=True)
class Lane:
    """One percussion key: its steps and the section level at which it joins (and from which it is silent)."""

    key: int
    steps: str
    enters: int = 2
    leaves: int = 9


@dataclass(frozen=True, slots=True)
class Groove:
    """The lanes of a groove, its fill (a name in `FILLS` or "") and whether sections open with a crash."""

    lanes: tuple[Lane, ...]
    fill: str = ""
    crash: bool = True


#: The last half bar before a new section: (key, beats before the bar line, loudness 1–9).
FILLS: Final[dict[str, tuple[tuple[tuple[int, float, int], ...], ...]]] = {
    "rock": (
        ((SNARE, 1.0, 6), (SNARE, 0.75, 7), (TOM_1, 0.5, 7), (TOM_3, 0.25, 8)),
        ((SNARE, 2.0, 6), (SNARE, 1.5, 6), (TOM_1, 1.0, 7), (TOM_1, 0.75, 6), (TOM_2, 0.5, 8), (TOM_4, 0.25, 8)),
        ((SNARE, 1.0, 7), (TOM_1, 0.75, 6), (SNARE, 0.5, 8), (SNARE, 0.25, 8)),
    ),
    "roll": (
        tuple((SNARE, 2.0 - step / 4, 3 + (3 * step) // 4) for step in range(8)),
        tuple((SNARE, 1.0 - step / 8, 3 + (3 * step) // 4) for step in range(8)),
    ),
    "clap": (
        ((CLAP, 1.0, 6), (CLAP, 0.5, 7), (CLAP, 0.25, 8)),
        tuple((CLAP, 2.0 - step / 4, 3 + step // 2) for step in range(8)),
    ),
    "soft": (((SNARE, 0.5, 4), (SNARE, 0.25, 5)), ((STICK, 1.0, 4), (STICK, 0.5, 5)), ((SNARE, 0.75, 3), (SNARE, 0.25,
    5))),
    "toms": (
        ((TOM_1, 2.0, 7), (TOM_2, 1.5, 7), (TOM_3, 1.0, 8), (TOM_3, 0.75, 7), (TOM_4, 0.5, 9), (TOM_4, 0.25, 8)),
        ((TOM_4, 1.0, 7), (TOM_4, 0.75, 7), (TOM_4, 0.5, 8), (TOM_4, 0.25, 9)),
    ),
    "triplet": (
        ((SNARE, 1.0, 5), (SNARE, 2 / 3, 6), (SNARE, 1 / 3, 7)),
        ((SNARE, 1.0, 6), (TOM_1, 2 / 3, 6), (TOM_3, 1 / 3, 7)),
    ),
    "timbale": (
        ((TIMBALE, 1.0, 7), (TIMBALE, 0.5, 6), (TIMBALE, 0.25, 7)),
        ((TIMBALE, 1.5, 6), (TIMBALE, 1.25, 5), (TIMBALE, 0.75, 7), (TIMBALE, 0.25, 7)),
    ),
    "hats": (tuple((CLOSED, 1.0 - step / 8, 3 + step // 2) for step in range(8)), ((OPEN, 0.5, 6),)),
}  # fmt: skip

GROOVES: Final[dict[str, Groove]] = {
    "lofi": Groove(
        (
            Lane(KICK, "9......5..9.....|9......5..9..4.."),
            Lane(SNARE, "....7.......7...|....7..2....7..2"),
            Lane(CLOSED, "5.3.5.4.5.3.5.4.|5.3.5.4.5.3.543."),
            Lane(OPEN, "................|..............3.", 3),
        ),
        fill="soft",
        crash=False,
    ),
    "epic": Groove(
        (
            Lane(TOM_4, "9...5.6.8...5...|9...5.6.8...6.66"),
            Lane(TOM_3, "......5...5...5.|......5...5.5.5.", 3),
            Lane(KICK, "9...6...8...6...", 2),
            Lane(SNARE, "....4..4....4.44|....4..4....4444", 4),
            Lane(CRASH_2, "6...............|................", 4),
        ),
        fill="toms",
    ),
    "rock": Groove(
        (
            Lane(KICK, "9.....5.9.......|9.....5.9.7....."),
            Lane(SNARE, "....9.......9...|....9.......9..3"),
            Lane(CLOSED, "7.5.7.5.7.5.7.5.", 1, 3),
            Lane(RIDE, "6.4.6.4.6.4.6.4.", 4),
            Lane(OPEN, "6...5...6...5...", 3, 4),
        ),
        fill="rock",
    ),
    "metal": Groove(
        (
            Lane(KICK, "9.77..779.77..77|9.77..779.77.777", 2, 4),
            Lane(KICK, "9777977797779777", 4),
            Lane(SNARE, "....9.......9...|....9.......9.6."),
            Lane(CRASH_2, "7...6...7...6...", 3),
            Lane(CLOSED, "6.4.6.4.6.4.6.4.", 1, 3),
        ),
        fill="rock",
    ),
    "pop": Groove(
        (
            Lane(KICK, "9.....6.9.......|9.....6.9..5...."),
            Lane(SNARE, "....8.......8..."),
            Lane(CLAP, "....5.......5...", 3),
            Lane(CLOSED, "6.4.6.4.6.4.6.4.|6.4.6.4.6.4.6.45"),
            Lane(OPEN, "..............4.", 3),
            Lane(TAMBOURINE, "3.5.3.5.3.5.3.5.", 3),
        ),
        fill="rock",
    ),
    "house": Groove(
        (
            Lane(KICK, "9...9...9...9..."),
            Lane(CLAP, "....8.......8...|....8.......8..4", 3),
            Lane(OPEN, "..6...6...6...6.", 2),
            Lane(CLOSED, "5.35.35.35.35.35|5.35.35.35.355.5", 1),
            Lane(CABASA, "3535353535353535", 3),
        ),
        fill="clap",
    ),
    "techno": Groove(
        (
            Lane(KICK, "9...9...9...9..."),
            Lane(CLOSED, "..7...7...7...7.", 1),
            Lane(RIDE, "5...5...5...5...", 4),
            Lane(STICK, "...5..5...5..5..|...5..5....5..55", 3),
            Lane(CLAP, "....6.......6...", 3),
            Lane(LOW_CONGA, ".....4.....4..4.|.....4.....4...4", 2),
        ),
        fill="hats",
        crash=False,
    ),
    "trance": Groove(
        (
            Lane(KICK, "9...9...9...9..."),
            Lane(CLAP, "....8.......8..."),
            Lane(OPEN, "..7...7...7...7."),
            Lane(CLOSED, "5454545454545454", 1),
            Lane(RIDE, "..5...5...5...5.", 4),
        ),
        fill="roll",
    ),
    "breaks": Groove(
        (
            Lane(KICK, "9.........9.....|9.........9..7.."),
            Lane(SNARE, "....9..3.3..9...|....9..3.3..9..4"),
            Lane(CLOSED, "6.5.6.5.6.5.6.5.", 1),
            Lane(RIDE, "5...5...5...5...", 4),
            Lane(CABASA, ".4.4.4.4.4.4.4.4", 3),
        ),
        fill="roll",
    ),
    "synthwave": Groove(
        (
            Lane(KICK, "9...6...9...6...|9...6...9..66..."),
            Lane(SNARE, "....9.......9..."),
            Lane(CLOSED, "5.5.5.5.5.5.5.5.", 1, 3),
            Lane(CLOSED, "6464646464646464", 3),
            Lane(TOM_2, "................|.............6.5", 3),
        ),
        fill="toms",
    ),
    "boombap": Groove(
        (
            Lane(KICK, "9..5......97....|9..5...4..9....."),
            Lane(SNARE, "....9..2.2..9..3|....9..2.2..9..."),
            Lane(CLOSED, "7.5.7.5.7.5.7.5.|7.5.7.5.7.5.7.55"),
            Lane(OPEN, "................|......5.........", 3),
            Lane(SCRATCH_PUSH, "................|............6.6.", 3),
            Lane(SCRATCH_PULL, "................|.............6.7", 3),
        ),
        fill="soft",
        crash=False,
    ),
    "trap": Groove(
        (
            Lane(KICK, "9......6..8.....|9.....6...8..5.."),
            Lane(SNARE, "........9.......|........9......."),
            Lane(CLAP, "........7.......|........7......5", 2),
            Lane(
                CLOSED,
                "6.....5.....6.....5.....6.....5.....6.555555....|6.....5.....6.5.5.5.....6.....5.....6.5.66666666",
                1,
            ),
            Lane(OPEN, "..............4.", 3),
        ),
        fill="hats",
        crash=False,
    ),
    "swing": Groove(
        (
            Lane(RIDE, "6..7.46..7.4|6..7.46..7.5", 1),
            Lane(PEDAL, "...6.....6..", 2),
            Lane(KICK, "3..2..3..2..", 2),
            Lane(SNARE, "........2..3|.....3......|..2.....3...|.....2...3.2", 2),
            Lane(KICK, "...........4|.....4......", 3),
        ),
        fill="triplet",
        crash=False,
    ),
    "bossa": Groove(
        (
            Lane(KICK, "7..57..57..57..5"),
            Lane(STICK, "6..6..6...6..6..|..6..6....6..6.."),
            Lane(CLOSED, "4343434343434343", 1),
            Lane(CABASA, "3.43.43.43.43.43", 3),
        ),
        fill="",
        crash=False,
    ),
    "salsa": Groove(
        (
            Lane(CLAVES, "7..7..7.....7...|....7...7..7..7.", 1),
            Lane(MUTE_CONGA, "5.3.6.3.5.3.....", 1),
            Lane(HIGH_CONGA, "....7.......6.6.", 1),
            Lane(LOW_CONGA, "............6.6.|..............7."),
            Lane(COWBELL, "6...5.5.6.5.5.5.|6...5...6.5.5.5.", 3),
            # Cáscara, on the shell of the timbales.
            Lane(STICK, "6.4.6.64.6.46.4.|6.4.6.64.6.46.4.", 2, 4),
            Lane(TIMBALE, "......4.......4.", 3),
            Lane(MARACAS, "5.4.5.4.5.4.5.4.", 2),
            Lane(KICK, "......6.....6...", 2),
        ),
        fill="timbale",
    ),
    "tango": Groove(
        (
            Lane(SNARE, "5...3...5..33...|5...3...4..3.5..", 3),
            Lane(KICK, "6.......5.......", 3),
            Lane(TRIANGLE, "....2.......2...", 4),
        ),
        fill="",
        crash=False,
    ),
    "funk": Groove(
        (
            Lane(KICK, "9..6..7...9..5..|9..6..7..69....."),
            Lane(SNARE, "....9..3.3..9..3|....9..3.3..9.33"),
            Lane(CLOSED, "7464746474647464"),
            Lane(OPEN, "..............6.|......6.........", 3),
            Lane(COWBELL, "5...5...5...5...", 4),
            Lane(HIGH_CONGA, "..4..4....4..44.", 3),
        ),
        fill="rock",
    ),
    "disco": Groove(
        (
            Lane(KICK, "9...9...9...9..."),
            Lane(SNARE, "....8.......8..."),
            Lane(CLOSED, "6.4.6.4.6.4.6.4.", 1, 3),
            Lane(OPEN, "..7...7...7...7.", 2),
            Lane(CLAP, "....6.......6...", 3),
            Lane(TAMBOURINE, "4545454545454545", 3),
            Lane(HIGH_CONGA, "..5..5.5..5..5.5", 3),
        ),
        fill="rock",
    ),
    "soul": Groove(
        (
            Lane(KICK, "9.....69..5.....|9.....69..5...4."),
            Lane(SNARE, "....8..2....8..2|....8..2.2..8..."),
            Lane(CLOSED, "6.4.6.4.6.4.6.4."),
            Lane(TAMBOURINE, "....5.......5...", 3),
            Lane(OPEN, "..............4.", 4),
        ),
        fill="soft",
    ),
    "onedrop": Groove(
        (
            Lane(KICK, "........9......."),
            Lane(STICK, "........8.......|........8.....4."),
            Lane(CLOSED, "6.4.5.4.6.4.5.44", 1),
            Lane(SNARE, "................|.............3.4", 3),
            Lane(HIGH_BONGO, "...4..4.....4...", 3),
        ),
        fill="timbale",
    ),
    "folk": Groove(
        (
            Lane(MARACAS, "5.3.6.3.5.3.6.3.", 2),
            Lane(KICK, "6.......6.....4.", 3),
            Lane(TAMBOURINE, "....5.......5...", 3),
            Lane(STICK, "....4.......4...", 4),
        ),
        fill="",
        crash=False,
    ),
    "train": Groove(
        (
            Lane(SNARE, "4.427.424.427.42", 2),
            Lane(KICK, "7.......7......."),
            Lane(CLOSED, "....4.......4...", 2),
            Lane(TAMBOURINE, "....4.......4...", 4),
        ),
        fill="rock",
    ),
    "celtic": Groove(
        (
            Lane(LOW_CONGA, "7..4..7..4..|7..4..7.44..", 2),
            Lane(HIGH_BONGO, ".34.34.34.34", 3),
            Lane(TAMBOURINE, "4..5..4..5..", 4),
        ),
        fill="",
        crash=False,
    ),
    "waltz": Groove(
        (
            Lane(KICK, "6...........", 3),
            Lane(TRIANGLE, "....3...3...", 3),
            Lane(SNARE, "....2...2...", 4),
        ),
        fill="",
        crash=False,
    ),
    "chip": Groove(
        (
            Lane(KICK, "9...7...9..7....|9...7...9..7..7."),
            Lane(E_SNARE, "....8.......8...|....8.......8..5"),
            Lane(CLOSED, "5.5.5.5.5.5.5.5.", 1),
            Lane(CLOSED, ".3.3.3.3.3.3.3.3", 3),
        ),
        fill="roll",
        crash=False,
    ),
    "shuffle": Groove(
        (
            Lane(KICK, "8.....8.....|8.....8....5"),
            Lane(SNARE, "...8.....8..|...8.....8.3"),
            Lane(CLOSED, "6.46.46.46.4", 1, 3),
            Lane(RIDE, "6.46.46.46.4", 3),
        ),
        fill="triplet",
    ),
    # Half time: one back-beat a bar, on the third beat.
    "half-time": Groove(
        (
            Lane(KICK, "9.........6.....|9.....6...7....."),
            Lane(SNARE, "........9......."),
            Lane(CLAP, "........8.......", 3),
            Lane(CLOSED, "5..4..5.5..4..5.|5..4..5.5..4.555", 1),
            Lane(OPEN, "..............5.|....5...........", 4),
        ),
        fill="roll",
    ),
    # Kick on every beat, snare on the 3-3-2 of the Shabba Ranks riddim.
    "dembow": Groove(
        (
            Lane(KICK, "9...9...9...9..."),
            Lane(SNARE, "...8..8....8..8."),
            Lane(STICK, "...6..5....6..5.", 1, 3),
            Lane(TIMBALE, "...6..6....6..6.", 3),
            Lane(CLOSED, "5.3.5.3.5.3.5.3.", 1),
            Lane(CABASA, "..4...4...4...4.", 3),
        ),
        fill="timbale",
    ),
    "k-pop": Groove(
        (
            Lane(KICK, "9.....8.9...7...|9.....8.9..7....", 2, 4),
            Lane(KICK, "9...9...9...9...|9...9...9...9.7.", 4),
            Lane(CLAP, "....8.......8..."),
            Lane(SNARE, "....8.......8...|....8.......8..6", 3),
            Lane(CLOSED, "6.5.6.5.6.5.6.5.|6.5.6.5.6.5.6555", 1, 3),
            Lane(CLOSED, "6464646464646464|6464646464646466", 3),
            Lane(OPEN, "..6...6...6...6.", 4),
        ),
        fill="clap",
    ),
    "gospel": Groove(
        (
            Lane(KICK, "8....58.....|8....58...5."),
            Lane(SNARE, "...7.....7..|...7.....7.3"),
            Lane(CLAP, "...8.....8..", 1),
            Lane(TAMBOURINE, "4.46.44.46.4", 3),
            Lane(CLOSED, "6.46.46.46.4", 2, 4),
            Lane(RIDE, "6.46.46.46.4", 4),
        ),
        fill="triplet",
    ),
    # A compás of twelve beats in four bars of three, accents on 12, 3, 6, 8 and 10: palmas, a box and castanets.
    "bulerias": Groove(
        (
            Lane(CLAP, "9.4.4.|9.4.4.|9.4.9.|4.9.4.", 1),
            Lane(STICK, ".3.4.4|.3.4.4|.3.4.3|.4.3.4", 3),
            Lane(LOW_CONGA, "8.....|8...4.|8...8.|..8..."),
            Lane(MUTE_CONGA, "..4.5.|..4.54|..4...|4...54", 2),
            Lane(CASTANETS, "6.....|6..444|6...6.|..6...", 4),
        ),
        fill="",
        crash=False,
    ),
    # The low surdo answers the damped one on the second beat of each half; the tamborim plays teleco-teco.
    "batucada": Groove(
        (
            Lane(TOM_4, "....9.......9..4|....9.......9.5."),
            Lane(TOM_2, "6.......6......."),
            Lane(HIGH_BONGO, "7.7.7.77.7.7.77.", 2),
            Lane(TAMBOURINE, "6.356.356.356.35", 1),
            Lane(MARACAS, "6345634563456345", 1),
            Lane(SNARE, "5223522352235223", 3),
            Lane(HIGH_AGOGO, "6...6.6.....6.6.", 3),
            Lane(LOW_AGOGO, "..6.....6.6.....", 3),
            Lane(OPEN_CUICA, "..5.....5.......|................", 4),
            Lane(MUTE_CUICA, "......5.....5...|................", 4),
        ),
        fill="timbale",
        crash=False,
    ),
    # Sixteen beats of teental in four bars: the low drum is silent from the tenth to the thirteenth.
    "teental": Groove(
        (
            Lane(LOW_CONGA, "8...7...7...8...|8...7...7...8...|8...............|....7...7...8...", 3),
            Lane(HIGH_BONGO, "7...6...6...7...|7...6...6...7...|7...5...5...6...|6...6...6...7...", 3),
            Lane(LOW_BONGO, "..3...34..3...3.|..3...34..3...3.|..3...3...3...34|..3...3...34.434", 3),
            Lane(HIGH_BONGO, "...4..4....4..4.|...4..4....4..4.|...4..4...44..4.|.4..4.4.4.44.444", 4),
        ),
        fill="",
        crash=False,
    ),
    "march": Groove(
        (
            Lane(SNARE, "7..56.557..56.55|7..56.557.555555", 1),
            Lane(KICK, "9.......8......."),
            Lane(CRASH_2, "5.......4.......", 3),
            Lane(TRIANGLE, "....3...3...3...", 4),
        ),
        fill="roll",
        crash=False,
    ),
    # The rim plays the son clave, 3-3-4-2-4, over an even shaker.
    "afrobeats": Groove(
        (
            Lane(KICK, "9.....7...9.....|9.....7...9..6.."),
            Lane(STICK, "8..8..8...8.8..."),
            Lane(SHAKER, "5.365.365.365.36", 1),
            Lane(SNARE, "............7...|............7..4", 3),
            Lane(HIGH_CONGA, "...4..5....4..55", 3),
            Lane(LOW_CONGA, "..4.......5.....", 2),
            Lane(OPEN, "..............4.", 4),
        ),
        fill="timbale",
        crash=False,
    ),
    "phonk": Groove(
        (
            Lane(KICK, "9.....8.9.....7.|9.....8.9..7..7."),
            Lane(CLAP, "....9.......9..."),
            Lane(SNARE, "....7.......7...", 3),
            Lane(CLOSED, "6.5.6.5.6.5.6.5.|6.5.6.5.6.5.6555", 1),
            Lane(OPEN, "..6...6...6...6.", 4),
        ),
        fill="hats",
        crash=False,
    ),
}  # fmt: skip


def fitted_groove(groove: Groove, pattern_beats: int, metre: Metre) -> Groove:
    """A groove that is written in `pattern_beats` as `metre` plays it."""
    if metre.is_native(pattern_beats):
        return groove
    return replace(
        groove,
        lanes=tuple(
            replace(lane, steps=fitted_steps(lane.steps, pattern_beats, metre, is_even=lane.key in _TIMEKEEPERS))
            for lane in groove.lanes
        ),
    )


def play_groove(
    groove: Groove, sections: Sequence[Section], metre: Metre, drive: float, rng: np.random.Generator
) -> list[Note]:
    """The drum part of all sections: lanes by level, a fill before each new section, crashes where they open.

    Args:
        groove: what is played.
        sections: the form, in order.
        metre: what the groove was fitted to.
        drive: loudness of the playing, 1 is normal.
        rng: chooses fills and small differences of touch.

    Returns:
        Notes on the straight grid (swing and timing come later).
    """
    notes: list[Note] = []
    beats_per_bar = metre.beats
    for number, section in enumerate(sections):
        leads_on = number + 1 < len(sections)
        for bar in range(section.bars):
            start = float((section.first_bar + bar) * beats_per_bar)
            is_last = bar == section.bars - 1
            fill = _fill(groove, rng) if is_last and leads_on and section.level >= 2 else ()
            fill_from = beats_per_bar - max((before for _, before, _ in fill), default=0.0)
            notes += _bar(groove, section, bar, start, beats_per_bar, fill_from, drive, rng)
            end = start + beats_per_bar
            notes += [
                Note(metre.on_grid(end - before), 0.2, key, _velocity(loud, drive, rng)) for key, before, loud in fill
            ]
        if groove.crash and section.level >= 3 and number > 0:
            start = float(section.first_bar * beats_per_bar)
            notes.append(Note(start, 3.0, CRASH, _velocity(7, drive, rng)))
    return notes


def _fill(groove: Groove, rng: np.random.Generator) -> tuple[tuple[int, float, int], ...]:
    if not groove.fill:
        return ()
    choices = FILLS[groove.fill]
    return choices[int(rng.integers(len(choices)))]


def _bar(
    groove: Groove,
    section: Section,
    bar: int,
    start: float,
    beats_per_bar: float,
    fill_from: float,
    drive: float,
    rng: np.random.Generator,
) -> list[Note]:
    notes = []
    for lane in groove.lanes:
        if not lane.enters <= section.level < lane.leaves:
            continue
        bars = lane.steps.split("|")
        steps = bars[bar % len(bars)]
        step_beats = beats_per_bar / len(steps)
        for index, loudness in enumerate(steps):
            beat = index * step_beats
            if loudness == "." or (beat >= fill_from and lane.key not in _STEADY):
                continue
            length = 0.9 if lane.key in (OPEN, CRASH_2, RIDE) else 0.2
            notes.append(Note(start + beat, length, lane.key, _velocity(int(loudness), drive, rng)))
    return notes


def _velocity(loudness: int, drive: float, rng: np.random.Generator) -> int:
    touch = 1.0 + 0.05 * float(rng.standard_normal())
    return as_velocity(loudness / 9 * 116 * drive * touch, 8, 127)
