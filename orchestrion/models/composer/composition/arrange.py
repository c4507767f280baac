"""Plan → score: chords for every bar, then each voice of the recipe, the ending, swing and human timing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np

from orchestrion.models.composer.composition import recipes
from orchestrion.models.composer.composition.accompaniment import Bar, play_bass, play_chords
from orchestrion.models.composer.composition.drums import CLAP, CRASH, E_SNARE, GROOVES, KICK, SNARE, STICK, play_groove
from orchestrion.models.composer.composition.harmony import (
    THEME_NUMERALS,
    Chord,
    chord,
    harmonise,
    in_mode,
    lead_voices,
    parse_progression,
    progression_choices,
    tonic_chord,
    with_third,
)
from orchestrion.models.composer.composition.melody import play_counter, play_melody
from orchestrion.models.composer.composition.plan import RITARDANDO, Plan
from orchestrion.models.composer.composition.recipes import LEAD_CENTRE, Voice
from orchestrion.models.composer.composition.theme import Theme
from orchestrion.models.composer.score import Note, Part, Score, Section, TempoMap, as_velocity
from orchestrion.models.composer.sound.electronic import RISER

#: How loud a section of each level is played.
_DYNAMICS: Final = {1: 0.72, 2: 0.86, 3: 0.96, 4: 1.05}
#: Patterns without a third: theirs is none to end on either.
_DRONES: Final = ("tanpura", "sruti", "drone-slow", "drone-late")
_DRUM_PROGRAM_PITCHES: Final = (CLAP, E_SNARE, SNARE, STICK)


def arrange(plan: Plan, theme: Theme | None) -> Score:
    """Compose the piece that `plan` describes; the lead states `theme` where there is one."""
    bars, labels = _harmony(plan, theme)
    tempo = _tempo_map(plan)
    scale = [(plan.key.tonic + step) % 12 for step in plan.key.steps]
    melody = _melody(plan, theme, bars, labels, scale)
    parts = []
    for voice in plan.voices:
        notes = _play_voice(plan, voice, bars, melody, scale)
        parts.append(_finished_part(plan, voice, notes))
    if plan.has_drums:
        parts.append(_drum_part(plan))
    if plan.recipe.rises and plan.has_drums:
        parts.append(_risers(plan))
    kept = tuple(part for part in parts if part.notes)
    return Score(tempo, plan.key, plan.recipe.beats_per_bar, plan.sections, plan.end_beat, kept)


def _tempo_map(plan: Plan) -> TempoMap:
    if not plan.recipe.slows_at_end or plan.end_beat < 2 * plan.recipe.beats_per_bar:
        return TempoMap(((0.0, plan.tempo_bpm),))
    slowing = [(plan.end_beat - before, plan.tempo_bpm * share) for before, share in RITARDANDO]
    return TempoMap(((0.0, plan.tempo_bpm), *slowing))


def _section_of_bars(plan: Plan) -> list[tuple[Section, int]]:
    """For each bar before the final chord: its section and its index there; a half bar at the end counts as one."""
    placed = [(section, index) for section in plan.sections for index in range(section.bars)]
    if plan.end_beat % plan.recipe.beats_per_bar and placed:
        section, index = placed[-1]
        placed.append((section, index + 1))
    elif plan.end_beat and not placed:
        placed.append((Section("A", 0, 1, 2), 0))
    return placed


def _harmony(plan: Plan, theme: Theme | None) -> tuple[list[Bar], list[str]]:
    """The bars with their chords and voicings, and the section label of each."""
    rng = plan.rng("harmony")
    choices = progression_choices(plan.recipe.progressions, plan.key)
    order = [choices[int(i)] for i in rng.permutation(len(choices))]
    by_label = {"A": order[0], "B": order[1 % len(order)], "C": order[2 % len(order)]}
    by_label |= {"intro": by_label["A"], "outro": by_label["A"]}
    placed = _section_of_bars(plan)
    theme_chords = _theme_chords(plan, theme) if theme is not None else None
    chords: list[tuple[Chord, ...]] = []
    for number, (section, index) in enumerate(placed):
        progression = parse_progression(by_label[section.label], plan.key)
        if theme_chords is not None and section.label == "A":
            progression = theme_chords
        bar = progression[index % len(progression)]
        if number == len(placed) - 1 and number > 0:
            # The last bar leads home.
            bar = (chord(in_mode("V", plan.key), plan.key),)
        chords.append(bar)
    centre = 60 + round(3 * plan.valence)
    flat = [with_third(item, plan.key) for bar in chords for item in bar]
    voicings = iter(lead_voices(flat, centre))
    beats = plan.recipe.beats_per_bar
    bars = []
    for number, ((section, index), bar_chords) in enumerate(zip(placed, chords, strict=True)):
        start = float(number * beats)
        following = chords[number + 1][0].root if number + 1 < len(chords) else plan.key.tonic
        # A section grows a little towards its end.
        growth = 0.06 * index / max(1, section.bars - 1)
        bars.append(
            Bar(
                start=start,
                beats=int(min(beats, plan.end_beat - start)),
                chords=bar_chords,
                voicings=tuple(next(voicings) for _ in bar_chords),
                next_root=following,
                tonic=plan.key.tonic,
                index=index,
                dynamics=(_DYNAMICS[section.level] + growth) * (0.86 + 0.28 * plan.energy),
            )
        )
    return bars, [section.label for section, _ in placed]


def _theme_chords(plan: Plan, theme: Theme) -> tuple[tuple[Chord, ...], ...]:
    beats = plan.recipe.beats_per_bar
    count = theme.bars(beats)
    weights = np.zeros((count, 12))
    for note in theme.in_key(plan.key):
        bar = int(note.start // beats)
        if bar < count:
            accent = 1.5 if note.start % 2 == 0 else 1.0
            weights[bar, note.pitch % 12] += min(note.length, beats - note.start % beats) * accent
    numerals = THEME_NUMERALS[1 if plan.key.is_minor else 0]
    return tuple((chord(numeral, plan.key),) for numeral in harmonise(weights, plan.key, numerals))


def _lead_centre(program: int, plan: Plan) -> int:
    return LEAD_CENTRE.get(program, 72) + round(2 * plan.valence)


def _melody(
    plan: Plan, theme: Theme | None, bars: Sequence[Bar], labels: Sequence[str], scale: Sequence[int]
) -> list[Note]:
    lead = next(voice for voice in plan.recipe.voices if voice.role == "lead")
    lead = next((voice for voice in plan.voices if voice.role == "lead"), lead)
    ends = [i + 1 == len(labels) or bars[i + 1].index == 0 for i in range(len(labels))]
    centre = _lead_centre(lead.program, plan)
    composed = play_melody(lead.pattern, bars, labels, ends, scale, centre, plan.energy, plan.rng("melody"))
    if theme is None:
        return composed
    beats = plan.recipe.beats_per_bar
    in_a = {bar.start for bar, label in zip(bars, labels, strict=True) if label == "A"}
    kept = [note for note in composed if note.start // beats * beats not in in_a]
    return sorted([*kept, *_state_theme(plan, theme, bars, labels, centre)], key=lambda n: n.start)


def _state_theme(plan: Plan, theme: Theme, bars: Sequence[Bar], labels: Sequence[str], centre: int) -> list[Note]:
    """The theme from the first bar of each A section, again and again until the section ends."""
    beats = plan.recipe.beats_per_bar
    moved = theme.in_key(plan.key)
    mean = sum(note.pitch for note in moved) / len(moved)
    octave = 12 * round((centre - mean) / 12)
    period = theme.bars(beats)
    stated = []
    for bar, label in zip(bars, labels, strict=True):
        if label != "A":
            continue
        first = (bar.index % period) * beats
        for note in moved:
            if first <= note.start < first + bar.beats:
                start = bar.start + note.start - first
                velocity = as_velocity(note.velocity * bar.dynamics, 40, 122)
                stated.append(Note(start, min(note.length, plan.end_beat - start), note.pitch + octave, velocity))
    return stated


def _play_voice(
    plan: Plan, voice: Voice, bars: Sequence[Bar], melody: Sequence[Note], scale: Sequence[int]
) -> list[Note]:
    """What `voice` plays, final chord included, on the straight grid."""
    levels = {float(n * plan.recipe.beats_per_bar): s.level for n, (s, _) in enumerate(_section_of_bars(plan))}
    # In pieces too short to build up, all voices play from the start.
    enters = voice.enters if len(plan.sections) > 2 else min(voice.enters, 2)
    active = [bar for bar in bars if levels[bar.start] >= enters]
    starts = {bar.start for bar in active}
    end = _final_chord(plan, voice)
    if voice.role == "lead":
        return [*melody, *end]
    if voice.role == "bass":
        return [*play_bass(voice.pattern, active, voice.octave, scale, plan.rng("bass")), *end]
    if voice.role == "counter":
        beats = plan.recipe.beats_per_bar
        heard = [note for note in melody if note.start // beats * beats in starts]
        shifted = play_counter(voice.pattern, heard, active, scale)
        return [replace(n, pitch=n.pitch + 12 * voice.octave) for n in shifted] + end
    return [*play_chords(voice.pattern, active, voice.octave), *end]


def _final_chord(plan: Plan, voice: Voice) -> list[Note]:
    """The voice's share of the final tonic chord, held until just before the track ends."""
    final = tonic_chord(plan.key)
    voicing = lead_voices([final], 60 + round(3 * plan.valence))[0]
    seconds_left = plan.duration_s - _tempo_map(plan).seconds(plan.end_beat)
    length = max(0.25, (seconds_left - min(0.5, 0.3 * seconds_left)) * plan.tempo_bpm / 60)
    velocity = as_velocity(84 * (0.8 + 0.35 * plan.energy), 30, 115)
    low = 28 + (plan.key.tonic - 28) % 12
    match voice.role:
        case "bass":
            pitches: tuple[int, ...] = (low + 12 * voice.octave,)
        case "lead":
            centre = _lead_centre(voice.program, plan)
            pitches = (centre + (plan.key.tonic - centre + 6) % 12 - 6,)
        case "counter":
            pitches = (voicing[1] + 12 * voice.octave,)
        case _ if voice.pattern in ("power", "power-hold", "chug"):
            root = 40 + (plan.key.tonic - 40) % 12
            pitches = (root, root + 7, root + 12)
        case _ if voice.pattern in _DRONES:
            root = 45 + (plan.key.tonic - 45) % 12
            pitches = (root, root + 7)
        case _:
            pitches = tuple(pitch + 12 * voice.octave for pitch in voicing)
    spread = 0.06 if plan.recipe.slows_at_end else 0.02
    return [Note(plan.end_beat + spread * i, length, pitch, velocity) for i, pitch in enumerate(pitches)]


def _drum_part(plan: Plan) -> Part:
    recipe = plan.recipe
    groove = GROOVES[recipe.groove]
    drive = 0.8 + 0.3 * plan.energy
    notes = play_groove(groove, plan.sections, recipe.beats_per_bar, drive, plan.rng("drums"))
    notes = [note for note in notes if note.start < plan.end_beat]
    end_velocity = as_velocity(100 * drive, 40, 120)
    notes.append(Note(plan.end_beat, 0.5, KICK, end_velocity))
    if groove.crash:
        notes.append(Note(plan.end_beat, 4.0, CRASH, max(1, end_velocity - 15)))
    voice = Voice("drums", recipe.kit, "")
    return Part("drums", recipes.kit(recipe.kit), _performed(plan, voice, notes))


def _risers(plan: Plan) -> Part:
    """A bar of rising noise before each section that opens up."""
    beats = plan.recipe.beats_per_bar
    notes = [
        Note(float((section.first_bar - 1) * beats), float(beats), 60, 100)
        for before, section in pairwise(plan.sections)
        if section.level > before.level and section.level >= 3
    ]
    return Part("riser", recipes.melodic(RISER), tuple(notes))


def _finished_part(plan: Plan, voice: Voice, notes: Sequence[Note]) -> Part:
    return Part(voice.role, recipes.melodic(voice.program), _performed(plan, voice, notes))


def _performed(plan: Plan, voice: Voice, notes: Sequence[Note]) -> tuple[Note, ...]:
    """Notes with swing and human timing, sorted; pitches kept inside MIDI's range."""
    recipe, rng = plan.recipe, plan.rng(f"timing {voice.role}")
    beats_per_ms = plan.tempo_bpm / 60_000
    looseness = recipe.looseness_ms * (0.5 if voice.role in ("drums", "bass") else 1.0)
    jitter = np.clip(rng.standard_normal(len(notes)), -2, 2) * looseness * beats_per_ms
    performed = []
    for note, offset in zip(notes, jitter.tolist(), strict=True):
        start = swung(note.start, recipe.swing, recipe.swing_grid) + offset
        if voice.role == "drums" and note.pitch in _DRUM_PROGRAM_PITCHES:
            start += recipe.backbeat_late_ms * beats_per_ms
        pitch = note.pitch
        while not 12 <= pitch <= 115:
            pitch += 12 if pitch < 12 else -12
        velocity = as_velocity(note.velocity, 1, 127)
        performed.append(Note(max(0.0, start), max(0.05, note.length), pitch, velocity))
    return tuple(sorted(performed, key=lambda n: (n.start, n.pitch)))


def swung(beat: float, swing: float, grid: float) -> float:
    """Where a straight beat falls when the second of each pair of `grid` notes sits at `swing` of the pair.

    Triplet positions (thirds of a beat) are already swung and stay.
    """
    if swing == 0.5 or abs(beat * 3 - round(beat * 3)) < 0.01:
        return beat
    pair = 2 * grid
    whole, part = divmod(beat / pair, 1.0)
    bent = part / 0.5 * swing if part < 0.5 else swing + (part - 0.5) / 0.5 * (1 - swing)
    return (whole + bent) * pair
