"""Tempo that changes, keys that change, sections, bars and loops, read from the score and from the MIDI file."""

from __future__ import annotations

import io
import itertools

import mido
import numpy as np
import pytest

from orchestrion.models.composer.composition.harmony import PROGRESSIONS, parse_progression, progression_choices
from orchestrion.models.composer.model import _choices
from orchestrion.models.composer.score import Note, Score, TempoMap, key_signature, midi_bytes
from orchestrion.tracks.musical_key import SCALE_STEPS, Key
from orchestrion.tracks.section import Section
from orchestrion.tracks.vocabulary import METRES, SECTION_NAMES, STYLES
from tests.composing import composed, score_of
from tests.unit.models.composer.test_score import midi_theme


def conductor(score: Score) -> list[tuple[float, mido.MetaMessage]]:
    """(seconds, message) of the conductor track, by the tempos that it says itself."""
    file = mido.MidiFile(file=io.BytesIO(midi_bytes(score)))
    now_s, tempo, events = 0.0, 500_000, []
    for message in file.tracks[0]:
        now_s += mido.tick2second(message.time, file.ticks_per_beat, tempo)
        events.append((now_s, message))
        if message.type == "set_tempo":
            tempo = message.tempo
    return events


@pytest.mark.parametrize(("first", "last"), [(60.0, 140.0), (150.0, 70.0), (100.0, 101.0)])
@pytest.mark.parametrize("metre", ["4/4", "7/8", "6/8"])
def test_a_tempo_changes_evenly_to_its_end(first: float, last: float, metre: str) -> None:
    for style in STYLES if metre == "4/4" else ("rock", "waltz", "ambient"):
        plan, score = composed(style, 40.0, tempo_bpm=first, tempo_end_bpm=last, metre=metre)
        quarters = 1.5 if metre == "6/8" else 1.0
        tempos = [
            (at, mido.tempo2bpm(message.tempo) / quarters)
            for at, message in conductor(score)
            if message.type == "set_tempo"
        ]
        assert tempos[0][1] == pytest.approx(first, rel=0.02)
        assert tempos[-1][1] == pytest.approx(last, rel=0.001)
        end_s = tempos[-1][0]
        assert 34 < end_s < 40
        for at, bpm in tempos[:-1]:
            assert bpm == pytest.approx(first + (last - first) * at / end_s, rel=0.03)
        assert score.tempo.seconds(score.end_beat) == pytest.approx(end_s, abs=0.02)
        assert score.end_beat == pytest.approx(end_s / 60 * (first + last) / 2, rel=0.001)
        assert _choices(plan, score)["tempo_end_bpm"] == last


def test_beats_and_seconds_are_each_others_inverse() -> None:
    tempo = score_of(tempo_bpm=60.0, tempo_end_bpm=140.0).tempo
    for beat in np.linspace(0, 60, 241).tolist():
        assert tempo.beat(tempo.seconds(beat)) == pytest.approx(beat, abs=1e-9)
    assert TempoMap(((0.0, 120.0), (4.0, 60.0))).seconds(6.0) == 4.0


@pytest.mark.parametrize("style", STYLES)
def test_the_last_section_is_in_the_other_key(style: str) -> None:
    first, last = Key.parse("G major"), Key.parse("A major")
    plan, score = composed(style, 60.0, key=first, key_end=last)
    assert score.modulation is not None
    bar, key = score.modulation
    assert key == last
    turn = bar * score.metre.beats
    assert 0.3 * score.end_beat < turn < score.end_beat
    assert bar in {section.first_bar for section in score.sections}
    signatures = [message.key for _, message in conductor(score) if message.type == "key_signature"]
    assert signatures == [key_signature(first), key_signature(last)]
    notes = [n for p in score.parts if not p.instrument.is_drums and p.role != "riser" for n in p.notes]
    # The bar before the change leads over to it.
    before = [n for n in notes if n.start < turn - score.metre.beats - 0.2]
    after = [n for n in notes if n.start > turn]
    # A style has notes of its own that are not of the scale: what counts is which scale it turns to.
    towards_before, towards_after = (share_in(last, part) - share_in(first, part) for part in (before, after))
    assert towards_before < 0 < towards_after - towards_before
    assert towards_after - towards_before > 0.05
    end = [n.pitch % 12 for part in score.parts if part.role == "bass" for n in part.notes][-1]
    assert end == last.tonic
    assert str(_choices(plan, score)["key_end"]).startswith("A major from ")


def share_in(key: Key, notes: list[Note]) -> float:
    """The share of the time that sounds in which it is a note of the key's scale that does."""
    scale = {(key.tonic + step) % 12 for step in key.steps}
    return sum(n.length for n in notes if n.pitch % 12 in scale) / sum(n.length for n in notes)


NEW_KEYS = ("E locrian", "A harmonic minor", "C melodic minor", "A blues", "F# pentatonic", "Bb blues", "G locrian")


@pytest.mark.parametrize("text", NEW_KEYS)
def test_every_style_plays_in_the_other_modes(text: str) -> None:
    key = Key.parse(text)
    scale = {(key.tonic + step) % 12 for step in key.steps}
    for style in STYLES:
        score = score_of(style, key=key)
        lead = [n.pitch % 12 for part in score.parts if part.role == "lead" for n in part.notes]
        pitched = [p for p in score.parts if not p.instrument.is_drums and p.role != "riser"]
        everything = [n.pitch % 12 for part in pitched for n in part.notes]
        free = style in ("blues", "funk") or key.mode == "blues"
        assert sum(pitch in scale for pitch in everything) / len(everything) > (0.5 if free else 0.8), style
        # Over the chords of the blues a melody may use their thirds.
        assert sum(pitch in scale for pitch in lead) / max(1, len(lead)) > (0.55 if free else 0.85), style
        bass = next(part for part in score.parts if part.role == "bass")
        assert bass.notes[-1].pitch % 12 == key.tonic
        midi_bytes(score)


@pytest.mark.parametrize("mode", SCALE_STEPS)
def test_all_progressions_are_chords_in_every_mode(mode: str) -> None:
    for family, tonic in itertools.product(PROGRESSIONS, range(12)):
        key = Key(tonic, mode)
        for text in progression_choices(family, key):
            assert all(len(chord.pitch_classes) >= 3 for bar in parse_progression(text, key) for chord in bar)
        assert key_signature(key)


def test_sections_are_as_asked_in_their_order() -> None:
    for style, tempo_bpm in (*((style, None) for style in STYLES), ("pop", 96.0), ("waltz", 96.0), ("trance", 96.0)):
        beats = 3 if style == "waltz" else 4
        verse = Section("verse", 20.0) if tempo_bpm is None else Section("verse", None, 8)
        verse_s = verse.duration_s or 8 * beats * 60 / 96.0
        length_s = 64.0 + verse_s
        asked = (Section("intro", 20.0), verse, Section("chorus", 30.0), Section("outro", 14.0))
        plan, score = composed(style, length_s, sections=asked, tempo_bpm=tempo_bpm)
        assert [section.label for section in score.sections] == ["intro", "verse", "chorus", "outro"]
        bar_s = score.metre.beats * 60 / score.tempo.bpm
        starts_s = [score.tempo.seconds(section.first_bar * score.metre.beats) for section in score.sections]
        assert starts_s[1] == pytest.approx(20.0, abs=bar_s / 2 + 1e-6)
        assert starts_s[2] - starts_s[1] == pytest.approx(verse_s, abs=bar_s + 1e-6)
        assert starts_s[3] - starts_s[2] == pytest.approx(30.0, abs=bar_s + 1e-6)
        assert score.end_beat == sum(section.bars for section in score.sections) * score.metre.beats
        said = str(_choices(plan, score)["sections"])
        assert said.startswith(f"intro 0.00–{starts_s[1]:.2f} s, verse") and said.endswith(f"{length_s:.2f} s")
        markers = [message.text for _, message in conductor(score) if message.type == "marker"]
        assert markers == ["intro", "verse", "chorus", "outro"]


def test_a_tempo_that_is_free_is_chosen_so_that_sections_end_on_bar_lines() -> None:
    errors = []
    for style in STYLES:
        asked = (Section("intro", 15.0), Section("verse", 30.0), Section("chorus", 30.0))
        score = score_of(style, 75.0, sections=asked)
        starts_s = [score.tempo.seconds(section.first_bar * score.metre.beats) for section in score.sections]
        bar_s = score.metre.beats * 60 / score.tempo.bpm
        errors += [abs(starts_s[1] - 15.0) / bar_s, abs(starts_s[2] - 45.0) / bar_s]
    assert max(errors) < 0.3
    assert np.mean(errors) < 0.08


def test_sections_in_bars_have_their_bars() -> None:
    asked = (Section("part a", None, 8), Section("part b", None, 4), Section("part a", None, 8))
    score = score_of("folk", 20 * 4 * 60 / 100, tempo_bpm=100.0, sections=asked)
    # The final chord falls in the last bar.
    assert [section.bars for section in score.sections] == [8, 4, 7]
    assert score.end_beat == 19 * 4


def test_sections_without_lengths_share_what_is_left() -> None:
    asked = (Section("intro"), Section("verse"), Section("chorus", 30.0), Section("outro"))
    score = score_of("pop", 90.0, tempo_bpm=120.0, sections=asked)
    intro, verse, chorus, outro = score.sections
    assert chorus.bars == 15
    assert intro.bars + verse.bars + outro.bars == pytest.approx(29, abs=1)
    assert verse.bars == pytest.approx(2 * intro.bars, abs=1)


def loudness_and_density(score: Score, number: int) -> tuple[float, float]:
    section = score.sections[number]
    start, end = (bar * score.metre.beats for bar in (section.first_bar, section.first_bar + section.bars))
    notes = [n for part in score.parts for n in part.notes if start <= n.start < end]
    return sum(n.velocity for n in notes) / len(notes), len(notes) / section.bars


@pytest.mark.parametrize("style", ["pop", "rock", "house", "trance", "cinematic", "funk"])
def test_names_of_sections_shape_how_much_goes_on(style: str) -> None:
    names = ("intro", "verse", "chorus", "bridge", "drop", "outro")
    score = score_of(style, 120.0, sections=tuple(Section(name, None, 8) for name in names), tempo_bpm=96.0)
    _, density = zip(*(loudness_and_density(score, number) for number in range(len(names))), strict=True)
    intro, verse, chorus, bridge, drop, outro = density
    assert intro < verse < chorus
    assert bridge < drop and outro < drop
    build = score_of(style, 60.0, sections=(Section("build-up", None, 8), Section("drop", None, 8)), tempo_bpm=96.0)
    first = build.sections[0]
    strength = [
        [n.velocity for p in build.parts if p.role != "riser" for n in p.notes if bar * 4 <= n.start < (bar + 1) * 4]
        for bar in range(first.bars)
    ]
    assert np.mean(strength[-1]) > np.mean(strength[0]) + 8


@pytest.mark.parametrize("name", SECTION_NAMES)
def test_a_piece_of_one_section_is_that_section(name: str) -> None:
    score = score_of("pop", 10.0, sections=(Section(name),))
    assert [section.label for section in score.sections] == [name]
    assert score.parts


def test_energy_moves_tempo_density_and_loudness() -> None:
    for style in ("pop", "house", "folk", "jazz", "cinematic"):
        low, high = (score_of(style, 60.0, energy=energy) for energy in ("low", "high"))
        assert high.tempo.bpm > low.tempo.bpm + 3, style
        assert sum(len(p.notes) for p in high.parts) > 1.25 * sum(len(p.notes) for p in low.parts), style
        means = [np.mean([n.velocity for p in score.parts for n in p.notes]) for score in (low, high)]
        assert means[1] > means[0] + 5, style


def test_dynamics_are_in_the_velocities() -> None:
    for style in STYLES:
        usual = _thirds(score_of(style, 40.0))
        grows, fades = (_thirds(score_of(style, 40.0, dynamics=d)) for d in ("crescendo", "diminuendo"))
        assert grows[2] / grows[0] > 1.35 * usual[2] / usual[0], style
        assert fades[0] / fades[2] > 1.35 * usual[0] / usual[2], style
        assert _thirds(score_of(style, 40.0, dynamics="soft"))[1] < 0.75 * usual[1], style
        assert _thirds(score_of(style, 40.0, dynamics="loud"))[1] > 1.05 * usual[1], style


def _thirds(score: Score) -> list[float]:
    edges = [score.end_beat * third / 3 for third in range(4)]
    notes = [n for p in score.parts if p.role != "riser" for n in p.notes]
    return [float(np.mean([n.velocity for n in notes if a <= n.start < b])) for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("metre", METRES)
@pytest.mark.parametrize("bars", [1, 2, 4, 7, 12])
def test_bars_are_counted(metre: str, bars: int) -> None:
    for style, tempo_bpm in (("pop", 120.0), ("piano", 72.0), ("waltz", 160.0)):
        bar_s = METRES[metre] * 60 / tempo_bpm
        # As a request is resolved: the bars fill the length, or leave up to one bar for the end to ring.
        for length_s in (bars * bar_s, (bars + 1) * bar_s):
            plan, score = composed(style, length_s, bars=bars, metre=metre, tempo_bpm=tempo_bpm)
            assert _choices(plan, score)["bars"] == bars
            assert score.tempo.bpm == tempo_bpm
            final = score.end_beat / score.metre.beats
            assert bars - 1 <= final <= bars or bars == 1
            assert score.tempo.seconds(score.end_beat) < length_s


@pytest.mark.parametrize("metre", METRES)
@pytest.mark.parametrize("bars", [1, 8, 11])
def test_a_loop_has_its_bars_and_nothing_after_them(metre: str, bars: int) -> None:
    for style in STYLES if (metre, bars) == ("4/4", 8) else ("house", "waltz", "jazz", "celtic"):
        length_s = bars * METRES[metre] * 60 / 124.0
        plan, score = composed(style, length_s, bars=bars, loop=True, metre=metre, tempo_bpm=124.0)
        assert score.end_beat == bars * score.metre.beats
        assert score.tempo.seconds(score.end_beat) == pytest.approx(length_s, abs=1e-9)
        assert plan.tempo_bpm == 124.0
        assert all(0 <= n.start < score.end_beat for p in score.parts for n in p.notes)
        file = mido.MidiFile(file=io.BytesIO(midi_bytes(score)))
        assert file.length == pytest.approx(length_s, abs=0.002)
        assert _choices(plan, score)["bars"] == bars


def test_a_loop_is_alike_from_end_to_beginning() -> None:
    for style in STYLES:
        score = score_of(style, 32.0, loop=True)
        assert len({section.level for section in score.sections}) == 1
        assert {section.label for section in score.sections} <= {"A", "B"}


def test_a_loop_without_bars_fills_its_length_with_whole_bars() -> None:
    for style, length_s in itertools.product(STYLES, (7.0, 31.4)):
        score = score_of(style, length_s, loop=True)
        assert score.tempo.seconds(score.end_beat) == pytest.approx(length_s, abs=1e-9)
        assert score.end_beat % score.metre.beats == 0
    near = score_of("pop", 31.0, loop=True, tempo_bpm=100.0)
    assert near.tempo.bpm == pytest.approx(100.0, rel=0.04)


def test_what_was_not_asked_is_not_among_the_choices() -> None:
    plan, score = composed("pop")
    assert set(_choices(plan, score)) == {
        "tempo_bpm", "key", "style", "mood", "form", "time_signature", "instruments",
    }  # fmt: skip


def test_a_theme_is_stated_in_every_mode_and_metre() -> None:
    for text, metre in itertools.product(("D pentatonic", "D blues", "D locrian", "D major"), METRES):
        score = score_of("folk", 40.0, theme=midi_theme(), key=Key.parse(text), metre=metre)
        lead = score.part("lead")
        assert lead is not None and len(lead.notes) > 20
        assert share_in(Key.parse(text), list(lead.notes)) > 0.8
