"""Plan → score: chords for every bar, then each voice of the recipe, the ending, swing and human timing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np

from orchestrion.models.composer.band.seating import Percussion
from orchestrion.models.composer.composition import recipes
from orchestrion.models.composer.composition.accompaniment import Bar, play_bass, play_chords
from orchestrion.models.composer.composition.drums import (
    CLAP,
    CRASH,
    E_SNARE,
    KICK,
    SNARE,
    STICK,
    fitted_groove,
    play_groove,
)
from orchestrion.models.composer.composition.harmony import (
    Chord,
    chord,
    harmonise,
    in_mode,
    lead_voices,
    parse_progression,
    progression_choices,
    theme_numerals,
    tonic_chord,
    with_third,
)
from orchestrion.models.composer.composition.melody import play_counter, play_melody
from orchestrion.models.composer.composition.plan import Plan
from orchestrion.models.composer.composition.recipes import LEAD_CENTRE, Voice
from orchestrion.models.composer.composition.theme import Theme
from orchestrion.models.composer.score import Note, Part, Score, Section, as_velocity
from orchestrion.models.composer.sound.electronic import RISER
from orchestrion.tracks.musical_key import Key

#: How loud a section of each level is played.
_DYNAMICS: Final = {1: 0.72, 2: 0.86, 3: 0.96, 4: 1.05}
#: Patterns without a third: theirs is none to end on either.
_DRONES: Final = ("tanpura", "sruti", "drone-slow", "drone-late")
_DRUM_PROGRAM_PITCHES: Final = (CLAP, E_SNARE, SNARE, STICK)
#: How hard it is played where that was asked for: at the start and at the end.
_TOUCH: Final = {"soft": (0.66, 0.66), "loud": (1.18, 1.18), "crescendo": (0.55, 1.15), "diminuendo": (1.15, 0.55)}
#: Roles that play the drum kit's keys, and those that keep time.
_PERCUSSION: Final = frozenset({"drums", "percussion", "timpani"})
_TIGHT: Final = _PERCUSSION | {"bass"}
#: Nothing in a loop begins later than this before it begins again.
_LAST_BEATS: Final = 0.02
#: Notes that one player would strike twice within this many beats are one.
_SAME_BEATS: Final = 0.1


def arrange(plan: Plan, theme: Theme | None) -> Score:
    """Compose the piece that `plan` describes; the lead states `theme` where there is one."""
    if theme is not None and (not plan.sections or plan.sections[0].motifs == "A"):
        theme = theme.begun_by_a_bar(plan.metre.beats)
    bars, labels = _harmony(plan, theme)
    melody = _melody(plan, theme, bars, labels)
    played: dict[str, list[Part]] = {}
    for voice in plan.band.voices:
        notes = _performed(plan, voice, _play_voice(plan, voice, bars, melody))
        part = Part(voice.role, recipes.melodic(voice.program), notes)
        played.setdefault(voice.joins or voice.role, []).append(part)
    parts = [_joined(role, of_one) for role, of_one in played.items()]
    parts += [_percussion_part(plan, percussion) for percussion in plan.band.percussion]
    has_drums = any(percussion.role == "drums" for percussion in plan.band.percussion)
    if plan.recipe.rises and plan.band.rises and has_drums:
        parts.append(_risers(plan))
    kept = tuple(part for part in parts if part.notes)
    return Score(plan.tempo, plan.key, plan.metre, plan.sections, plan.end_beat, kept, plan.modulation, plan.is_loop)


def _joined(role: str, parts: Sequence[Part]) -> Part:
    """What one player plays: the melody, chords and bass of a solo piano, say."""
    if len(parts) == 1 and parts[0].role == role:
        return parts[0]
    kept: list[Note] = []
    last: dict[int, float] = {}
    for note in sorted((note for part in parts for note in part.notes), key=lambda n: (n.start, n.pitch, -n.length)):
        if note.start - last.get(note.pitch, -1.0) > _SAME_BEATS:
            kept.append(note)
            last[note.pitch] = note.start
    return Part(role, parts[0].instrument, tuple(kept))


def _section_of_bars(plan: Plan) -> list[tuple[Section, int]]:
    """For each bar before the final chord: its section and its index there; a half bar at the end counts as one."""
    placed = [(section, index) for section in plan.sections for index in range(section.bars)]
    if plan.end_beat % plan.metre.beats and placed:
        section, index = placed[-1]
        placed.append((section, index + 1))
    elif plan.end_beat and not placed:
        placed.append((Section("A", 0, 1, 2), 0))
    return placed


def _harmony(plan: Plan, theme: Theme | None) -> tuple[list[Bar], list[str]]:
    """The bars with their chords and voicings, and whose motifs each has."""
    placed = _section_of_bars(plan)
    chords = _chords(plan, theme, placed)
    centre = 60 + round(3 * plan.valence)
    flat = [with_third(item, plan.key_at(number)) for number, bar in enumerate(chords) for item in bar]
    voicings = iter(lead_voices(flat, centre))
    beats = plan.metre.beats
    bars = []
    for number, ((section, index), bar_chords) in enumerate(zip(placed, chords, strict=True)):
        start = float(number * beats)
        key = plan.key_at(number)
        home = chords[0][0].root if plan.is_loop else plan.final_key.tonic
        following = chords[number + 1][0].root if number + 1 < len(chords) else home
        # A section grows a little towards its end.
        growth = section.growth * index / max(1, section.bars - 1)
        bars.append(
            Bar(
                start=start,
                beats=min(beats, plan.end_beat - start),
                chords=bar_chords,
                voicings=tuple(next(voicings) for _ in bar_chords),
                next_root=following,
                tonic=key.tonic,
                index=index,
                dynamics=(_DYNAMICS[section.level] + growth) * (0.86 + 0.28 * plan.energy),
                scale=tuple((key.tonic + step) % 12 for step in key.steps),
                metre=plan.metre,
                pattern_beats=plan.recipe.beats_per_bar,
            )
        )
    labels = [section.motifs for section, _ in placed]
    if plan.band.leads_throughout:
        labels = ["A" if label in ("intro", "outro") else label for label in labels]
    return bars, labels


def _chords(plan: Plan, theme: Theme | None, placed: Sequence[tuple[Section, int]]) -> list[tuple[Chord, ...]]:
    """The chords of each bar."""
    order = plan.rng("harmony").permutation(len(progression_choices(plan.recipe.progressions, plan.key))).tolist()
    # A bar that is half of a pattern's has its chord for two.
    bars_of_a_chord = 2 if 2 * plan.metre.beats == plan.recipe.beats_per_bar else 1
    by_key: dict[Key, dict[str, tuple[tuple[Chord, ...], ...]]] = {}
    chords: list[tuple[Chord, ...]] = []
    for number, (section, index) in enumerate(placed):
        key = plan.key_at(number)
        if key not in by_key:
            by_key[key] = _progressions(plan, theme, key, order)
        progression = by_key[key][section.motifs]
        stated = theme is not None and section.motifs == "A"
        bar = progression[(index if stated else index // bars_of_a_chord) % len(progression)]
        following = plan.key_at(number + 1)
        if number > 0 and (number == len(placed) - 1 or following != key):
            # The last bar leads home, the last in a key to the next.
            bar = (chord(in_mode("V", following), following),)
        chords.append(bar)
    return chords


def _progressions(
    plan: Plan, theme: Theme | None, key: Key, order: Sequence[int]
) -> dict[str, tuple[tuple[Chord, ...], ...]]:
    """The progression of each section's motifs in a key."""
    choices = progression_choices(plan.recipe.progressions, key)
    texts = [choices[number % len(choices)] for number in order]
    by_label = {label: parse_progression(texts[n % len(texts)], key) for n, label in enumerate(("A", "B", "C"))}
    by_label |= {"intro": by_label["A"], "outro": by_label["A"]}
    return by_label | ({"A": _theme_chords(plan, theme, key)} if theme is not None else {})


def _theme_chords(plan: Plan, theme: Theme, key: Key) -> tuple[tuple[Chord, ...], ...]:
    beats = plan.metre.beats
    count = theme.bars(beats)
    weights = np.zeros((count, 12))
    for note in theme.in_key(key):
        bar = int(note.start // beats)
        if 0 <= bar < count:
            accent = 1.5 if note.start % beats % 2 == 0 else 1.0
            weights[bar, note.pitch % 12] += min(note.length, beats - note.start % beats) * accent
    return tuple((chord(numeral, key),) for numeral in harmonise(weights, key, theme_numerals(key)))


def _lead_centre(program: int, plan: Plan) -> int:
    return LEAD_CENTRE.get(program, 72) + round(2 * plan.valence)


def _melody(plan: Plan, theme: Theme | None, bars: Sequence[Bar], labels: Sequence[str]) -> list[Note]:
    lead = next(voice for voice in plan.recipe.voices if voice.role == "lead")
    lead = next((voice for voice in plan.band.voices if voice.role == "lead"), lead)
    ends = [i + 1 == len(labels) or bars[i + 1].index == 0 for i in range(len(labels))]
    centre = _lead_centre(lead.program, plan)
    composed = play_melody(lead.pattern, bars, labels, ends, centre, plan.energy, plan.rng("melody"))
    if theme is None:
        return composed
    beats = plan.metre.beats
    in_a = {bar.start for bar, label in zip(bars, labels, strict=True) if label == "A"}
    kept = [note for note in composed if note.start // beats * beats not in in_a]
    stated, pickups, begin = _state_theme(plan, theme, bars, labels, centre)
    spans = [(start - theme.pickup, start) for start in begin] if pickups else []
    return sorted([*_outside(spans, [*kept, *stated]), *pickups], key=lambda n: n.start)


def _state_theme(
    plan: Plan, theme: Theme, bars: Sequence[Bar], labels: Sequence[str], centre: int
) -> tuple[list[Note], list[Note], list[float]]:
    """The theme from the first bar of each A section, again and again until the section ends.

    Its notes from its first bar line on, those of its pickups, and the bar lines that these lead to.
    """
    beats = plan.metre.beats
    by_key = {key: theme.in_key(key) for key in (plan.key, plan.final_key)}
    mean = sum(note.pitch for note in by_key[plan.key]) / len(theme.notes)
    octave = 12 * round((centre - mean) / 12)
    period = theme.bars(beats)
    stated: list[Note] = []
    pickups: list[Note] = []
    begin: list[float] = []
    for number, (bar, label) in enumerate(zip(bars, labels, strict=True)):
        if label != "A":
            continue
        first = (bar.index % period) * beats
        if first == 0 and bar.start >= theme.pickup:
            begin.append(bar.start)
        for note in by_key[plan.key_at(number)]:
            if not (first <= note.start < first + bar.beats or (note.start < 0 and bar.start in begin)):
                continue
            start = bar.start + plan.metre.on_grid(note.start - first)
            velocity = as_velocity(note.velocity * bar.dynamics, 40, 122)
            played = Note(start, min(note.length, plan.end_beat - start), note.pitch + octave, velocity)
            (pickups if note.start < 0 else stated).append(played)
    return stated, pickups, begin


def _outside(spans: Sequence[tuple[float, float]], notes: Sequence[Note]) -> list[Note]:
    """The notes that begin outside these spans of beats, each ended where the next span begins."""
    free = []
    for note in notes:
        if any(begin <= note.start < end for begin, end in spans):
            continue
        until = min((begin for begin, _ in spans if begin > note.start), default=note.start + note.length)
        free.append(replace(note, length=min(note.length, until - note.start)))
    return free


def _play_voice(plan: Plan, voice: Voice, bars: Sequence[Bar], melody: Sequence[Note]) -> list[Note]:
    """What `voice` plays, final chord included, on the straight grid."""
    levels = [section.level for section, _ in _section_of_bars(plan)]
    # In pieces too short to build up, all voices play from the start.
    enters = voice.enters if len(plan.sections) > 2 else min(voice.enters, 2)
    active = [bar for bar, level in zip(bars, levels, strict=True) if level >= enters]
    end = [] if plan.is_loop else _final_chord(plan, voice)
    if voice.role == "lead":
        return [*melody, *end]
    if voice.role == "bass":
        return [*play_bass(voice.pattern, active, voice.octave, plan.rng("bass")), *end]
    if voice.role == "counter":
        shifted = play_counter(voice.pattern, melody, active)
        return [replace(n, pitch=n.pitch + 12 * voice.octave) for n in shifted] + end
    return [*play_chords(voice.pattern, active, voice.octave), *end]


def _final_chord(plan: Plan, voice: Voice) -> list[Note]:
    """The voice's share of the final tonic chord, held until just before the track ends."""
    key = plan.final_key
    final = tonic_chord(key)
    voicing = lead_voices([final], 60 + round(3 * plan.valence))[0]
    roles = {each.role for each in plan.band.voices}
    if "bass" not in roles:
        # Nobody is below: the chord itself stands on its root, as an end does.
        root = min(pitch for pitch in voicing if pitch % 12 == key.tonic)
        voicing = tuple(sorted(pitch + 12 if pitch < root else pitch for pitch in voicing))
    seconds_left = plan.duration_s - plan.tempo.seconds(plan.end_beat)
    end_bpm = plan.asked.tempo_end_bpm or plan.tempo_bpm
    length = max(0.25, (seconds_left - min(0.5, 0.3 * seconds_left)) * end_bpm / 60)
    velocity = as_velocity(84 * (0.8 + 0.35 * plan.energy), 30, 115)
    low = 28 + (key.tonic - 28) % 12
    match voice.role:
        case "bass":
            pitches: tuple[int, ...] = (low + 12 * voice.octave,)
        case "lead":
            centre = _lead_centre(voice.program, plan)
            pitches = (centre + (key.tonic - centre + 6) % 12 - 6,)
        case "counter":
            pitches = (voicing[1 if roles - {"lead", "counter"} else 0] + 12 * voice.octave,)
        case _ if voice.pattern in ("inner", "low inner"):
            pitches = (voicing[1 if voice.pattern == "inner" else 0] + 12 * voice.octave,)
        case _ if voice.pattern in ("power", "power-hold", "chug"):
            root = 40 + (key.tonic - 40) % 12
            pitches = (root, root + 7, root + 12)
        case _ if voice.pattern in _DRONES:
            root = 45 + (key.tonic - 45) % 12
            pitches = (root, root + (7 if 7 in key.steps else 5))
        case _:
            pitches = tuple(pitch + 12 * voice.octave for pitch in voicing)
    spread = 0.06 if plan.recipe.slows_at_end else 0.02
    return [Note(plan.end_beat + spread * i, length, pitch, velocity) for i, pitch in enumerate(pitches)]


def _percussion_part(plan: Plan, percussion: Percussion) -> Part:
    groove = fitted_groove(percussion.groove, percussion.beats, plan.metre)
    drive = 0.8 + 0.3 * plan.energy
    notes = play_groove(groove, plan.sections, plan.metre, drive, plan.rng(percussion.role))
    notes = [note for note in notes if note.start < plan.end_beat]
    if not plan.is_loop:
        notes += _last_hit(plan, percussion, drive)
    notes = [note for note in notes if note.pitch not in plan.band.silent_keys]
    voice = Voice(percussion.role, percussion.kit, "")
    return Part(percussion.role, recipes.kit(percussion.kit), _performed(plan, voice, notes))


def _last_hit(plan: Plan, percussion: Percussion, drive: float) -> list[Note]:
    """What falls with the final chord."""
    velocity = as_velocity(100 * drive, 40, 120)
    if percussion.role != "drums":
        return [Note(plan.end_beat, 0.5, percussion.groove.lanes[0].key, velocity)]
    last = [Note(plan.end_beat, 0.5, KICK, velocity)]
    if percussion.groove.crash:
        last.append(Note(plan.end_beat, 4.0, CRASH, max(1, velocity - 15)))
    return last


def _risers(plan: Plan) -> Part:
    """A bar of rising noise before each section that opens up."""
    beats = plan.metre.beats
    notes = [
        Note(float((section.first_bar - 1) * beats), float(beats), 60, 100)
        for before, section in pairwise(plan.sections)
        if section.level > before.level and section.level >= 3
    ]
    return Part("riser", recipes.melodic(RISER), tuple(notes))


def _performed(plan: Plan, voice: Voice, notes: Sequence[Note]) -> tuple[Note, ...]:
    """Notes with swing and human timing, sorted; pitches kept inside MIDI's range."""
    recipe, rng = plan.recipe, plan.rng(f"timing {voice.role}")
    beats_per_ms = plan.tempo_bpm / 60_000
    looseness = recipe.looseness_ms * (0.5 if voice.role in _TIGHT else 1.0)
    is_drums = voice.role in _PERCUSSION
    # Beats of three parts swing by themselves.
    swing = 0.5 if plan.metre.is_compound else recipe.swing
    jitter = np.clip(rng.standard_normal(len(notes)), -2, 2) * looseness * beats_per_ms
    performed = []
    for note, offset in zip(notes, jitter.tolist(), strict=True):
        start = swung(note.start, swing, recipe.swing_grid) + offset
        if is_drums and note.pitch in _DRUM_PROGRAM_PITCHES:
            start += recipe.backbeat_late_ms * beats_per_ms
        pitch = note.pitch if is_drums else _in_range(note.pitch, voice)
        velocity = as_velocity(note.velocity * _touch(plan, note.start), 1, 127)
        latest = plan.end_beat - _LAST_BEATS if plan.is_loop else start
        performed.append(Note(max(0.0, min(start, latest)), max(0.05, note.length), pitch, velocity))
    return tuple(sorted(performed, key=lambda n: (n.start, n.pitch)))


def _in_range(pitch: int, voice: Voice) -> int:
    """The pitch in the octave that the instrument has."""
    while pitch < voice.low:
        pitch += 12
    while pitch > voice.high:
        pitch -= 12
    return pitch


def _touch(plan: Plan, beat: float) -> float:
    """How hard a note at `beat` is played, 1 is as usual."""
    if plan.asked.dynamics is None:
        return 1.0
    first, last = _TOUCH[plan.asked.dynamics]
    return first + (last - first) * min(1.0, beat / max(1.0, plan.end_beat))


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
