"""When everything happens: tempo, its change, how many bars there are and where the final chord falls.

The length of a track is exact, and so is a tempo that was asked for. What gives way is how long the final chord rings,
and a tempo that nobody asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from orchestrion.models.composer.composition.form import sections_error_s
from orchestrion.models.composer.composition.recipes import Recipe
from orchestrion.models.composer.metre import Metre
from orchestrion.models.composer.score import TempoMap
from orchestrion.models.protocol import Conditioning

#: How long the final chord rings at least, and as a share of short pieces, in seconds.
_RING_S: Final = 1.8
_RING_SHARE: Final = 0.25
#: A tempo that was not asked for may be moved this much so that the piece ends on a bar line.
_NUDGE: Final = 0.06
#: … and this much so that sections begin on bar lines when they should.
_SECTIONS_NUDGE: Final = 0.1
#: The slowing end: (beats before the final chord, share of the tempo).
RITARDANDO: Final = ((3.0, 0.94), (2.0, 0.86), (1.0, 0.74))
_RIT_EXTRA_BEATS: Final = sum(1 / share - 1 for _, share in RITARDANDO)
#: A tempo that changes is written in steps of this many beats.
_STEP_BEATS: Final = 0.5
#: What a loop of an odd number of bars costs against one of two, four or eight, as a change of tempo would.
_ODD_LOOPS: Final = ((8, 0.0), (4, 0.03), (2, 0.08), (1, 0.15))


@dataclass(frozen=True, slots=True)
class Timing:
    """`bpm` is the tempo as it is said; `end_beat` is where the final chord falls or a loop begins again."""

    bpm: float
    tempo: TempoMap
    end_beat: float


def decide_timing(
    conditioning: Conditioning,
    recipe: Recipe,
    metre: Metre,
    energy: float,
    theme_tempo_bpm: float | None,
    usual_bpm: tuple[float, float] | None,
    rng: np.random.Generator,
) -> Timing:
    """The timing of the piece that `conditioning` asks for. `usual_bpm`: what suits its genre, not the style's own."""
    ring_s = min(_RING_S + 0.3 * (recipe.reverb_s - 1.0), _RING_SHARE * conditioning.duration_s)
    asked_bpm = conditioning.tempo_bpm
    wanted_bpm = asked_bpm or _wanted_bpm(recipe, metre, energy, theme_tempo_bpm, usual_bpm, rng)
    if conditioning.loop:
        return _looping(conditioning, metre, wanted_bpm)
    if conditioning.bars or conditioning.sections or conditioning.tempo_end_bpm is not None:
        if asked_bpm is None and conditioning.sections:
            wanted_bpm = _fitting_sections(conditioning, metre, wanted_bpm)
        return _in_bars(conditioning, recipe, metre, wanted_bpm, ring_s)
    bpm, end_beat = _plain(conditioning, recipe, metre, wanted_bpm, ring_s)
    return Timing(bpm, _steady(recipe, metre, bpm, end_beat), end_beat)


def _wanted_bpm(
    recipe: Recipe,
    metre: Metre,
    energy: float,
    theme_tempo_bpm: float | None,
    usual_bpm: tuple[float, float] | None,
    rng: np.random.Generator,
) -> float:
    low, high = usual_bpm or (bpm * _pace(recipe, metre) for bpm in recipe.tempo_bpm)
    place = float(np.clip(energy + 0.12 * rng.standard_normal(), 0, 1))
    if theme_tempo_bpm is not None and 0.8 * low <= theme_tempo_bpm <= 1.25 * high:
        return theme_tempo_bpm
    return low + (high - low) * place


def _pace(recipe: Recipe, metre: Metre) -> float:
    """Beats of three parts are played more slowly, and a bar of three turned into such beats more slowly still."""
    if not metre.is_compound:
        return 1.0
    return 0.5 if recipe.beats_per_bar == 3 else 0.85


def _plain(
    conditioning: Conditioning, recipe: Recipe, metre: Metre, wanted_bpm: float, ring_s: float
) -> tuple[float, float]:
    """The tempo and the beat of the final chord: a bar line, or half a bar where the asked tempo leaves more room."""
    beats = metre.beats
    # Slowing down at the end takes about as long as this many beats at full tempo.
    extra_beats = _RIT_EXTRA_BEATS if recipe.slows_at_end else 0.0
    play_s = conditioning.duration_s - ring_s
    if conditioning.tempo_bpm is not None:
        free = play_s * conditioning.tempo_bpm / 60 - extra_beats
        step = beats / 2 if conditioning.metre is None and beats % 2 == 0 else beats
        return conditioning.tempo_bpm, max(0.0, float(np.floor(free / step + 1e-6)) * step)
    bars = max(0, round((play_s * wanted_bpm / 60 - extra_beats) / beats))
    if bars == 0:
        return wanted_bpm, 0.0
    fitting = (bars * beats + extra_beats) * 60 / play_s
    # One decimal: the figure that is shown is the figure that is played.
    tempo = round(float(np.clip(fitting, wanted_bpm * (1 - _NUDGE), wanted_bpm * (1 + _NUDGE))), 1)
    while bars > 0 and (bars * beats + extra_beats) * 60 / tempo > play_s + 0.05:
        bars -= 1
    return tempo, float(bars * beats)


def _steady(recipe: Recipe, metre: Metre, bpm: float, end_beat: float) -> TempoMap:
    if not recipe.slows_at_end or end_beat < 2 * metre.beats:
        return TempoMap(((0.0, bpm),))
    slowing = [(end_beat - before, bpm * share) for before, share in RITARDANDO if before < end_beat]
    return TempoMap(((0.0, bpm), *slowing))


def _in_bars(conditioning: Conditioning, recipe: Recipe, metre: Metre, bpm: float, ring_s: float) -> Timing:
    """A piece whose bars are counted, whose sections were asked for, or whose tempo changes.

    The final chord falls after the last of the bars that were asked for, or on the first beat of that bar where the
    length leaves it no more room.
    """
    duration_s, end_bpm = conditioning.duration_s, conditioning.tempo_end_bpm
    mean_bpm = bpm if end_bpm is None else (bpm + end_bpm) / 2
    bar_s = metre.beats * 60 / mean_bpm
    fitting = math.floor((duration_s - min(ring_s, bar_s)) / bar_s + 1e-6)
    bars = fitting if conditioning.bars is None else min(conditioning.bars, fitting)
    if conditioning.bars is None and conditioning.sections is None:
        bars = math.floor((duration_s - ring_s) / bar_s + 1e-6)
    # A single bar is played to its half.
    end_beat = bars * metre.beats if bars > 0 else metre.split if duration_s >= bar_s else 0.0
    if end_bpm is not None and end_beat:
        return Timing(bpm, _changing(bpm, end_bpm, end_beat), end_beat)
    slowing = _steady(recipe, metre, bpm, end_beat)
    has_room = slowing.seconds(end_beat) <= duration_s - 0.5 * min(ring_s, bar_s)
    return Timing(bpm, slowing if has_room else TempoMap(((0.0, bpm),)), end_beat)


def _changing(bpm: float, end_bpm: float, end_beat: float) -> TempoMap:
    """A tempo that changes evenly in time from `bpm` at the start to `end_bpm` at `end_beat`."""
    whole_s = end_beat * 60 / ((bpm + end_bpm) / 2)
    change = (end_bpm - bpm) / whole_s

    def seconds(beat: float) -> float:
        # beats = (bpm · t + change · t² / 2) / 60, solved for t without a difference of like numbers.
        return 120 * beat / (bpm + math.sqrt(bpm * bpm + 120 * change * beat))

    count = max(1, round(end_beat / _STEP_BEATS))
    edges = [end_beat * step / count for step in range(count + 1)]
    times_s = [seconds(edge) for edge in edges]
    steps = [
        (edge, (edges[number + 1] - edge) * 60 / (times_s[number + 1] - times_s[number]))
        for number, edge in enumerate(edges[:-1])
    ]
    return TempoMap((*steps, (end_beat, end_bpm)))


def _looping(conditioning: Conditioning, metre: Metre, wanted_bpm: float) -> Timing:
    """Whole bars that fill the length exactly; the tempo gives way where it must."""
    duration_s, end_bpm = conditioning.duration_s, conditioning.tempo_end_bpm
    mean_bpm = wanted_bpm if end_bpm is None else (wanted_bpm + end_bpm) / 2
    bars = conditioning.bars or _loop_bars(duration_s * mean_bpm / 60 / metre.beats, conditioning.tempo_bpm is None)
    end_beat = bars * metre.beats
    stretch = end_beat * 60 / duration_s / mean_bpm
    bpm = wanted_bpm * stretch
    said_bpm = wanted_bpm if conditioning.tempo_bpm is not None and abs(stretch - 1) < 1e-3 else round(bpm, 2)
    if end_bpm is not None:
        return Timing(said_bpm, _changing(bpm, end_bpm * stretch, end_beat), end_beat)
    return Timing(said_bpm, TempoMap(((0.0, bpm),)), end_beat)


def _loop_bars(fitting: float, is_free: bool) -> int:
    """How many bars a loop has: what fits best, in twos, fours or eights where the tempo is free."""
    if not is_free:
        return max(1, round(fitting))
    choices = {max(unit, round(fitting / unit) * unit): cost for unit, cost in reversed(_ODD_LOOPS)}
    return min(choices, key=lambda bars: (abs(math.log(bars / max(fitting, 0.1))) + choices[bars], bars))


def _fitting_sections(conditioning: Conditioning, metre: Metre, wanted_bpm: float) -> float:
    """The tempo near `wanted_bpm` at which the asked sections end nearest to bar lines."""
    asked = conditioning.sections or ()
    span = round(wanted_bpm * _SECTIONS_NUDGE * 10)
    choices = [round(wanted_bpm + step / 10, 1) for step in range(-span, span + 1)]
    return min(
        choices, key=lambda bpm: (sections_error_s(asked, metre, bpm) + 0.02 * abs(bpm - wanted_bpm) / wanted_bpm, bpm)
    )
