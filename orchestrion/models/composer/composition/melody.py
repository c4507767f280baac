"""The lead melody: motifs that return, phrases that ask and answer, notes that fit the chord under them.

Every section label owns its motifs, so that when A comes back the listener knows it; four-bar phrases go
"motif, answer, motif again, cadence", and every second cadence comes home to the tonic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np

from orchestrion.models.composer.composition.accompaniment import Bar
from orchestrion.models.composer.metre import METRES, Metre, fitted_times
from orchestrion.models.composer.score import Note, as_velocity


@dataclass(frozen=True, slots=True)
class Feel:
    """How a style's melodies move.

    `cells` and `cadences` are rhythms of one bar, "beat:length" in beats; `leap` is the chance of a step larger than a
    third, `rest` the chance that a weak note is left out,
    `reach` how many semitones above and below its centre it goes.
    """

    cells: tuple[str, ...]
    cadences: tuple[str, ...]
    leap: float = 0.12
    rest: float = 0.05
    reach: int = 9
    #: Chance that the third bar of a phrase stays silent to let the music breathe.
    breath: float = 0.0
    #: Another feel that the first section is sung in, before the pulse sets in.
    opening: str = ""


_STRAIGHT = (
    "0:1 1:1 2:2",
    "0:1.5 1.5:.5 2:1 3:1",
    "0:.5 .5:.5 1:1 2:1.5",
    "0:.5 .5:.5 1:.5 1.5:.5 2:1 3:1",
    "0:1 1:.5 1.5:.5 2:1 3:1",
)
_LONG_CADENCES = ("0:1.5 1.5:2", "0:1 1:2.5", "0:.5 .5:.5 1:2.5")

FEELS: Final[dict[str, Feel]] = {
    "lyrical": Feel(
        ("0:1.5 1.5:.5 2:1 3:1", "0:2 2:1 3:1", "0:1 1:1 2:1.5 3.5:.5", "0:3 3:.5 3.5:.5", "0:1.5 1.5:1.5 3:1",
        "0:1 1:.5 1.5:.5 2:2"),
        ("0:3", "0:1 1:2.5", "0:1.5 1.5:2"),
    ),
    "straight": Feel(_STRAIGHT, _LONG_CADENCES),
    "classical": Feel(
        ("0:1 1:.5 1.5:.5 2:1 3:1", "0:.5 .5:.5 1:.5 1.5:.5 2:1 3:1", "0:1.5 1.5:.25 1.75:.25 2:1 3:1",
        "0:.5 .5:.5 1:1 2:.5 2.5:.5 3:1", "0:1 1:1 2:.5 2.5:.5 3:.5 3.5:.5"),
        ("0:1 1:.5 1.5:.5 2:1.8", "0:.5 .5:.5 1:1 2:1.8"),
        leap=0.16,
    ),
    "syncopated": Feel(
        ("0:.75 .75:.75 1.5:.5 2:1 3:1", "0:.5 .5:1 1.5:1 2.5:1.5", ".5:.5 1:.5 1.5:1 2.5:.5 3:1",
        "0:1.5 1.5:.5 2.5:.5 3:.5 3.5:.5", "0:.5 .5:.5 1.5:.5 2:.5 2.5:1.5"),
        ("0:.75 .75:.75 1.5:2", ".5:.5 1:.5 1.5:2"),
        rest=0.08,
    ),
    "bossa": Feel(
        (".5:1 1.5:1 2.5:1.5", "0:.5 .5:1 1.5:.5 2:.5 2.5:1.5", ".5:.5 1:.5 1.5:1 2.5:.5 3:.5 3.5:.5",
        "0:1.5 1.5:1 2.5:.5 3:1"),
        ("0:.5 .5:1 1.5:2.3", "0:1.5 1.5:2.3"),
        rest=0.08,
    ),
    "swing": Feel(
        ("0:.5 .5:.5 1:.5 1.5:.5 2:1 3.5:.5", "0:1 1.5:.5 2:.5 2.5:.5 3:.5 3.5:.5", ".5:.5 1:.5 1.5:1 2.5:.5 3:1",
        "0:.5 .5:1 1.5:.5 2:.5 2.5:1", "0:.5 .5:.5 1:.5 1.5:.5 2:.5 2.5:.5 3:1"),
        ("0:.5 .5:.5 1:.5 1.5:1.5", "0:.5 .5:1.5 2.5:.5", "0:1 1.5:.5 2:1.5"),
        leap=0.18, rest=0.1, reach=11, breath=0.12,
    ),
    "blues": Feel(
        ("0:.5 .5:.5 1:1 2.5:.5 3:1", ".5:.5 1:.5 1.5:.5 2:1.5", "0:1 1.5:.5 2:.5 2.5:.5 3:.5", "0:.5 .5:1 1.5:.5 2:2"),
        ("0:.5 .5:.5 1:2", "0:1 1:2", ".5:.5 1:2.5"),
        leap=0.14, rest=0.08, breath=0.2,
    ),
    "riff": Feel(
        ("0:.5 .5:.5 1:.5 1.5:1 3:.5 3.5:.5", "0:.75 .75:.75 1.5:.5 2:2", "0:.5 .75:.25 1:.5 2:.5 2.5:.5 3:1",
        ".5:.5 1:.5 1.5:.5 2.5:.5 3:1", "0:1 1:.5 1.5:.5 2:1.5 3.5:.5"),
        ("0:.5 .5:.5 1:2.5", "0:.75 .75:.75 1.5:2"),
        leap=0.15, rest=0.06,
    ),
    "hook": Feel(
        ("0:.75 .75:.75 1.5:.5 2:.75 2.75:.75 3.5:.5", "0:.5 .75:.5 1.5:.5 2.5:.5 3:.5",
        "0:.5 .5:.5 1.5:.5 2:.5 3:.5 3.5:.5"),
        ("0:.75 .75:.75 1.5:1.5", "0:.5 .75:.5 1.5:2"),
        leap=0.1, reach=7,
    ),
    "anthem": Feel(
        ("0:1.5 1.5:1.5 3:1", "0:.75 .75:.75 1.5:.5 2:1 3:1", "0:1.5 1.5:.5 2:1.5 3.5:.5", "0:3 3:.5 3.5:.5",
        "0:1.5 1.5:1.5 3:.5 3.5:.5"),
        ("0:3.5", "0:1.5 1.5:2.3"),
        leap=0.18, rest=0.02,
    ),
    "heroic": Feel(
        ("0:1.5 1.5:.5 2:2", "0:1 1:1 2:1.5 3.5:.5", "0:2 2:1 3:1", "0:1.5 1.5:.5 2:1 3:1", "0:3 3:.5 3.5:.5"),
        ("0:3.5", "0:1 1:2.8"),
        leap=0.25, rest=0.0, reach=8,
    ),
    "sparse": Feel(
        ("0:1.5 1.5:2", "1:.5 1.5:.5 2:1.5", "0:2.5 3:.5", ".5:.5 1:2", "0:1 1.5:.5 2:1.5"),
        ("0:3", "1:2.5", "0:1 1:2.5"),
        leap=0.14, rest=0.1, breath=0.3,
    ),
    "tango": Feel(
        ("0:.5 .5:.5 1:.5 1.5:.5 2:1 3:1", "0:1.5 1.5:.5 2:1 3:.5 3.5:.5", "0:.75 .75:.25 1:.5 1.5:.5 2:1.5 3.5:.5",
        "0:.5 .5:.5 1:1 2:.5 2.5:.5 3:1"),
        ("0:1 1:1 2:.4 3:.4", "0:.5 .5:.5 1:2"),
        leap=0.18,
    ),
    "jig": Feel(
        ("0:.5 .333:.33 .667:.33 1:.33 1.333:.33 1.667:.33 2:.33 2.333:.33 2.667:.33 3:.33 3.333:.33 3.667:.33",
        "0:.66 .667:.33 1:.33 1.333:.33 1.667:.33 2:.66 2.667:.33 3:.33 3.333:.33 3.667:.33",
        "0:.33 .333:.33 .667:.33 1:.66 1.667:.33 2:.33 2.333:.33 2.667:.33 3:.66 3.667:.33"),
        ("0:.33 .333:.33 .667:.33 1:.66 1.667:.33 2:1.6", "0:.66 .667:.33 1:.33 1.333:.33 1.667:.33 2:1.6"),
        leap=0.1, rest=0.0, reach=10,
    ),
    "waltz": Feel(
        ("0:2 2:1", "0:1 1:1 2:1", "0:1.5 1.5:.5 2:1", "0:1 1:.5 1.5:.5 2:1", "0:.5 .5:.5 1:1 2:1"),
        ("0:2.8", "0:1 1:1.8"),
        leap=0.2, rest=0.02,
    ),
    "arcade": Feel(
        ("0:.5 .5:.5 1:.5 1.5:.5 2:.5 2.5:.5 3:1", "0:.75 .75:.25 1:.5 1.5:.5 2:.75 2.75:.25 3:.5 3.5:.5",
        "0:.5 .5:.25 .75:.25 1:.5 1.5:.5 2:1 3:.5 3.5:.5", "0:.25 .25:.25 .5:.5 1:1 2:.25 2.25:.25 2.5:.5 3:1"),
        ("0:.5 .5:.5 1:.5 1.5:.5 2:1.5", "0:.25 .25:.25 .5:.5 1:2"),
        leap=0.2, rest=0.0, reach=11,
    ),
    # Note against note with the "chorale" chords: three bars of quarters, then a cadence.
    "hymn": Feel(("0:1 1:1 2:1 3:1",), ("0:1 1:1 2:2",), leap=0.06, rest=0.0, reach=8),
    "march": Feel(
        ("0:.75 .75:.25 1:1 2:.75 2.75:.25 3:1", "0:1 1:.75 1.75:.25 2:1 3:1", "0:1.5 1.5:.5 2:1 3:.75 3.75:.25",
        "0:.5 .5:.5 1:.5 1.5:.5 2:1 3:1", "0:1 1:1 2:.75 2.75:.25 3:.5 3.5:.5"),
        ("0:1 1:1 2:1.8", "0:.75 .75:.25 1:1 2:1.8"),
        leap=0.25, rest=0.0, reach=9,
    ),
    "alap": Feel(
        ("0:2.5 2.5:.5 3:1", ".5:1.5 2:2", "0:.25 .25:3.5", "1:.25 1.25:.25 1.5:2.5", "0:1.5 1.5:.5 2:1.5"),
        ("0:3.6", ".5:3"),
        leap=0.03, rest=0.0, reach=9, breath=0.2,
    ),
    "gat": Feel(
        ("0:.5 .5:.25 .75:.25 1:.5 1.5:.5 2:1 3:.5 3.5:.5", "0:1 1:.5 1.5:.25 1.75:.25 2:.5 2.5:.5 3:1",
        "0:.25 .25:.25 .5:.5 1:.5 1.5:.5 2:.25 2.25:.25 2.5:.5 3:1",
        "0:.5 .5:.5 1:.25 1.25:.25 1.5:.5 2:.5 2.5:.5 3:.25 3.25:.25 3.5:.5"),
        ("0:.5 .5:.5 1:1 2:2", "0:.25 .25:.25 .5:.5 1:.5 1.5:2.3"),
        leap=0.05, rest=0.0, reach=12, opening="alap",
    ),
    "falseta": Feel(
        ("0:.333 .333:.333 .667:.333 1:.5 1.5:.5 2:1", "0:.25 .25:.25 .5:.25 .75:.25 1:1 2:1", "0:1.5 1.5:.5 2:1",
        "0:.5 .5:.5 1:.333 1.333:.333 1.667:.333 2:1", "0:.5 .5:.5 1:.5 1.5:.5 2:.25 2.25:.25 2.5:.25 2.75:.25"),
        ("0:.333 .333:.333 .667:.333 1:1.8", "0:.5 .5:.5 1:1.8"),
        leap=0.04, rest=0.0, reach=10,
    ),
    "timeless": Feel(("0:4", "2:2"), ("0:4", "1:3"), leap=0.1, rest=0.0, reach=7, breath=0.5),
    "cowbell": Feel(
        ("0:.25 .5:.25 .75:.25 1.25:.25 1.5:.25 2:.25 2.5:.25 2.75:.25 3.25:.25 3.5:.25",
        "0:.25 .25:.25 .75:.25 1:.25 1.5:.25 2:.25 2.25:.25 2.75:.25 3:.25 3.5:.25",
        "0:.25 .75:.25 1.5:.25 2:.25 2.75:.25 3.25:.25 3.5:.25"),
        ("0:.25 .5:.25 .75:.25 1.25:.25 1.5:.25 2:.5", "0:.25 .75:.25 1.5:.25 2:.25 2.5:.5"),
        leap=0.12, rest=0.0, reach=7,
    ),
}  # fmt: skip

#: Scale steps between the notes of a motif and how likely each is; leaps are added by the feel.
_STEPS: Final = ((-2, 0.16), (-1, 0.27), (0, 0.08), (1, 0.27), (2, 0.16))
_LEAPS: Final = (-4, -3, 3, 4)
#: Where the rhythms of a feel in three end at the latest, in beats.
_IN_THREE: Final = 3.01
#: Where a section's melody starts against the voice's centre, in semitones.
_SECTION_LIFT: Final = {"A": 0, "B": 4, "C": -3}
#: The label of the first section that is sung, where the feel has an opening.
_OPENING: Final = "opening"


@dataclass(frozen=True, slots=True)
class _Cell:
    onsets: tuple[tuple[float, float], ...]
    steps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Motifs:
    opening: _Cell
    answer: _Cell
    cadence: _Cell
    closing: _Cell


def play_melody(
    feel_name: str,
    bars: Sequence[Bar],
    labels: Sequence[str],
    section_ends: Sequence[bool],
    centre: int,
    energy: float,
    rng: np.random.Generator,
) -> list[Note]:
    """A melody over `bars`.

    Args:
        feel_name: an entry of `FEELS`.
        bars: all bars of the piece.
        labels: whose motifs each bar has; only "A", "B" and "C" are sung, intro and outro are left to others.
        section_ends: whether each bar is the last of its section.
        centre: the middle of the voice, as a MIDI pitch.
        energy: 0 … 1; driven music prefers the busier rhythms.
        rng: chooses motifs and variations.

    Returns:
        Notes on the straight grid.
    """
    metre, pattern_beats = (str(bars[0].metre), bars[0].pattern_beats) if bars else ("4/4", 4)
    feel = _fitted(feel_name, metre, pattern_beats)
    opening = _fitted(feel.opening, metre, pattern_beats) if feel.opening else feel
    motifs = {label: _make_motifs(feel, energy, rng) for label in _SECTION_LIFT}
    if feel.opening:
        motifs[_OPENING] = _make_motifs(opening, energy, rng)
        labels = _with_opening(labels, section_ends)
    notes: list[Note] = []
    pitch = centre
    for number, bar in enumerate(bars):
        label = labels[number]
        if label not in motifs:
            continue
        place = bar.index % 4
        ends = section_ends[number] or place == 3
        cell = _cell_for(motifs[label], place, ends, bar.index)
        if place == 0:
            lift = _SECTION_LIFT.get(label, 0) + int(rng.integers(-2, 3))
            pitch = _nearest_in(bar.chords[0].pitch_classes, centre + lift)
        moving = opening if label == _OPENING else feel
        if place == 2 and rng.random() < moving.breath:
            continue
        home = bar.scale[0] if ends and (bar.index % 8 == 7 or section_ends[number]) else None
        sung = _sing(cell, bar, pitch, centre, moving, home, rng)
        if sung:
            pitch = sung[-1].pitch
        notes += sung
    return notes


@cache
def _fitted(feel_name: str, metre_name: str, pattern_beats: int) -> Feel:
    """A feel whose rhythms fit the metre; where two bars share a pattern, each is a rhythm of its own."""
    feel, metre = FEELS[feel_name], METRES[metre_name]
    if metre.is_native(pattern_beats):
        return feel
    # Rhythms in three are those that end by the third beat, whatever the recipe's patterns are written in.
    ends = (float(onset) + float(length) for text in feel.cells for onset, length in map(_pair, text.split()))
    written = 3 if max(ends) <= _IN_THREE else 4
    if metre.is_native(written):
        return feel
    cells = tuple(dict.fromkeys(cell for text in feel.cells for cell in _fitted_cells(text, written, metre)))
    cadences = tuple(dict.fromkeys(_fitted_cells(text, written, metre)[0] for text in feel.cadences))
    return replace(feel, cells=cells, cadences=cadences)


def _pair(text: str) -> tuple[str, str]:
    onset, _, length = text.partition(":")
    return onset, length


def _fitted_cells(text: str, written: int, metre: Metre) -> list[str]:
    bars: list[dict[float, float]] = [{} for _ in metre.order(written)]
    for pair in text.split():
        onset, length = map(float, pair.split(":"))
        for bar, at, fitted in fitted_times(onset, length, written, metre):
            bars[bar].setdefault(round(at, 4), fitted)
    return [" ".join(f"{at:.10g}:{length:g}" for at, length in sorted(bar.items())) for bar in bars if bar]


def _with_opening(labels: Sequence[str], section_ends: Sequence[bool]) -> list[str]:
    """`labels` with the first section that is sung called the opening."""
    opened = list(labels)
    for number, label in enumerate(labels):
        if label in _SECTION_LIFT:
            opened[number] = _OPENING
            if section_ends[number]:
                break
    return opened


def _make_motifs(feel: Feel, energy: float, rng: np.random.Generator) -> _Motifs:
    by_density = sorted(feel.cells, key=lambda text: text.count(":"))
    # Calm music draws from the sparser rhythms, driven music from the busier.
    spread = max(2, round(0.6 * len(by_density)))
    first = round((len(by_density) - spread) * energy)
    pool = by_density[first : first + spread]
    return _Motifs(
        opening=_make_cell(pool[int(rng.integers(len(pool)))], feel, rng),
        answer=_make_cell(pool[int(rng.integers(len(pool)))], feel, rng),
        cadence=_make_cell(feel.cadences[int(rng.integers(len(feel.cadences)))], feel, rng),
        closing=_make_cell(feel.cadences[int(rng.integers(len(feel.cadences)))], feel, rng),
    )


def _make_cell(text: str, feel: Feel, rng: np.random.Generator) -> _Cell:
    pairs = [pair.split(":") for pair in text.split()]
    onsets = tuple((float(onset), float(length)) for onset, length in pairs)
    values, weights = [step for step, _ in _STEPS], np.array([weight for _, weight in _STEPS])
    steps = [0]
    for _ in onsets[1:]:
        leaps = rng.random() < feel.leap
        drawn = int(rng.choice(_LEAPS)) if leaps else int(rng.choice(values, p=weights / weights.sum()))
        # After a leap the line turns back (Meyer's gap-fill).
        steps.append(-int(np.sign(steps[-1])) if abs(steps[-1]) >= 3 else drawn)
    return _Cell(onsets, tuple(steps))


def _cell_for(motifs: _Motifs, place: int, ends: bool, index: int) -> _Cell:
    if ends:
        return motifs.closing if index % 8 == 7 else motifs.cadence
    return motifs.answer if place == 1 else motifs.opening


def _sing(
    cell: _Cell,
    bar: Bar,
    pitch: int,
    centre: int,
    feel: Feel,
    home: int | None,
    rng: np.random.Generator,
) -> list[Note]:
    notes = []
    for number, ((onset, length), step) in enumerate(zip(cell.onsets, cell.steps, strict=True)):
        if onset >= bar.beats:
            break
        chord = bar.chords[bar.at(onset)]
        ladder = _ladder(bar.scale, chord.pitch_classes, centre - feel.reach, centre + feel.reach)
        pitch = _climb(ladder, pitch, step)
        is_last = number == len(cell.onsets) - 1
        if home is not None and is_last:
            pitch = _nearest_in((home,) if home in chord.pitch_classes else chord.pitch_classes, pitch)
        elif (onset % 1 == 0 and (onset in bar.metre.strong or length >= 1)) or is_last:
            pitch = _nearest_in(chord.pitch_classes, pitch)
        weak = onset % 1 != 0
        if weak and rng.random() < feel.rest:
            continue
        accent = 8 if onset in bar.metre.strong else 7 if not weak else 6
        velocity = as_velocity((accent + 1.5) / 10 * 112 * bar.dynamics, 20, 122)
        notes.append(Note(bar.start + onset, min(length, bar.beats - onset) * 0.94, pitch, velocity))
    return notes


def _ladder(scale: Sequence[int], chord: Sequence[int], low: int, high: int) -> list[int]:
    """Scale pitches in range, where tones a semitone from a chord tone outside the scale give way to it."""
    outside = [tone for tone in chord if tone not in scale]
    tones = {tone for tone in scale if all((tone - other) % 12 not in (1, 11) for other in outside)} | set(outside)
    return [pitch for pitch in range(low, high + 1) if pitch % 12 in tones]


def _climb(ladder: list[int], pitch: int, step: int) -> int:
    nearest = min(range(len(ladder)), key=lambda i: (abs(ladder[i] - pitch), i))
    target = nearest + step
    if not 0 <= target < len(ladder):
        target = nearest - step
    return ladder[int(np.clip(target, 0, len(ladder) - 1))]


def _nearest_in(pitch_classes: Sequence[int], pitch: int) -> int:
    return min((pitch + (tone - pitch + 6) % 12 - 6 for tone in pitch_classes), key=lambda p: (abs(p - pitch), p))


def play_counter(kind: str, melody: Sequence[Note], bars: Sequence[Bar]) -> list[Note]:
    """A second voice: "double" follows a third below the melody, "counter" moves where the melody rests."""
    if kind == "double":
        return [
            Note(note.start, note.length, _third_below(note.pitch, bar.scale), max(1, note.velocity - 14))
            for bar in bars
            for note in melody
            if bar.start <= note.start < bar.start + bar.beats
        ]
    notes, previous = [], None
    for bar in bars:
        voicing = bar.voicings[0]
        top = voicing[-1]
        # Contrary to the pad: half notes through the chord's upper tones, a step apart where it can be.
        second = voicing[-2] if len(voicing) > 1 else top
        first = top if previous is None or abs(top - previous) <= abs(second - previous) else second
        other = second if first == top else top
        velocity = as_velocity(74 * bar.dynamics, 20, 110)
        notes.append(Note(bar.start, bar.half * 0.96, first, velocity))
        notes.append(Note(bar.start + bar.half, (bar.beats - bar.half) * 0.96, other, max(1, velocity - 6)))
        previous = other
    return notes


def _third_below(pitch: int, scale: Sequence[int]) -> int:
    for candidate in (pitch - 3, pitch - 4):
        if candidate % 12 in scale:
            return candidate
    return pitch - 5
