"""Every metre in every style, read from the score and from the MIDI file."""

from __future__ import annotations

import io
import itertools

import mido
import numpy as np
import pytest

from orchestrion.models.composer.metre import METRES, fitted_steps, fitted_times
from orchestrion.models.composer.score import TICKS_PER_BEAT, Score, midi_bytes
from orchestrion.tracks.vocabulary import METRES as BEATS
from orchestrion.tracks.vocabulary import STYLE_METRES, STYLES
from tests.composing import composed, conditioning, score_of
from tests.performing import generate

#: How far swing, a late back-beat and human timing move a note, in beats.
_LOOSE_BEATS = 0.16


@pytest.mark.parametrize("metre", METRES)
def test_metres_are_as_long_as_requests_count_them(metre: str) -> None:
    assert METRES[metre].beats == BEATS[metre]
    numerator, denominator = map(int, metre.split("/"))
    assert METRES[metre].beats * METRES[metre].beat_quarters == numerator * 4 / denominator


def test_a_style_is_in_its_own_metre_where_none_is_asked() -> None:
    """Requests count bars by the table of styles; recipes are written in the same metre."""
    for style in STYLES:
        assert str(score_of(style, 8.0).metre) == STYLE_METRES.get(style, "4/4"), style


@pytest.mark.parametrize("metre", BEATS)
def test_midi_says_the_metre_and_its_bars_in_every_style(metre: str) -> None:
    numerator, denominator = map(int, metre.split("/"))
    bar_ticks = TICKS_PER_BEAT * 4 * numerator // denominator
    for style in STYLES:
        score = score_of(style, 16.0, metre=metre)
        file = mido.MidiFile(file=io.BytesIO(midi_bytes(score)))
        signature = next(message for message in file.tracks[0] if message.type == "time_signature")
        assert (signature.numerator, signature.denominator) == (numerator, denominator), style
        now, marks = 0, []
        for message in file.tracks[0]:
            now += message.time
            if message.type == "marker":
                marks.append(now / bar_ticks)
        assert marks == [section.first_bar for section in score.sections], style
        assert file.length > 10, style


def accompaniment(score: Score) -> list[tuple[str, float]]:
    """(what, beat) of what repeats from bar to bar: everything but melodies."""
    return [
        (f"{part.role} {note.pitch if part.instrument.is_drums else ''}", note.start)
        for part in score.parts
        if part.role not in ("lead", "counter", "riser")
        for note in part.notes
    ]


def likeness(score: Score, period: float) -> float:
    """The share of the accompaniment that is heard again `period` beats later, inside sections."""
    times: dict[str, list[float]] = {}
    for what, at in accompaniment(score):
        times.setdefault(what, []).append(at)
    beats = score.metre.beats
    spans = [(section.first_bar * beats, (section.first_bar + section.bars - 1) * beats) for section in score.sections]
    found = total = 0
    for ats in times.values():
        struck = np.array(ats)
        for at in ats:
            if any(start - 0.2 <= at and at + period < end for start, end in spans):
                total += 1
                found += bool((np.abs(struck - at - period) < _LOOSE_BEATS).any())
    return found / total if total else 0.0


@pytest.mark.parametrize("metre", ["3/4", "5/4", "7/8"])
def test_the_accompaniment_repeats_by_its_bars_and_by_no_others(metre: str) -> None:
    """What each bar plays comes again two bars later, and not after as many beats of 4/4."""
    beats, told_apart = BEATS[metre], 0
    for style in STYLES:
        score = score_of(style, 40.0, metre=metre)
        own, other = likeness(score, 2 * beats), likeness(score, 8.0)
        assert own > 0.75, style
        told_apart += own > other + 0.04
    # Some styles play the same on every beat, and could be in any metre.
    assert told_apart >= 0.75 * len(STYLES)


@pytest.mark.parametrize("metre", ["6/8", "12/8"])
def test_beats_of_three_parts_are_played_in_thirds(metre: str) -> None:
    for style in STYLES:
        score = score_of(style, 40.0, metre=metre)
        inside = [at % 1 for what, at in accompaniment(score) if 0.1 < at % 1 < 0.9 and not what.startswith("arp")]
        # Banjos play sixths, where the half of a beat is one.
        straight = sum(0.2 < place < 0.28 or 0.72 < place < 0.8 for place in inside)
        assert straight <= 0.08 * len(inside) + 1, (style, straight, len(inside))
    rock = score_of("rock", 40.0, metre=metre)
    thirds = [at % 1 for what, at in accompaniment(rock) if what.startswith("drums") and 0.1 < at % 1 < 0.9]
    assert any(place < 0.4 for place in thirds) and any(place > 0.6 for place in thirds)


@pytest.mark.parametrize("metre", BEATS)
def test_every_style_has_a_bass_note_or_a_drum_on_most_first_beats(metre: str) -> None:
    for style in STYLES:
        score = score_of(style, 40.0, metre=metre)
        struck = [at for _, at in accompaniment(score)]
        bars = [bar * score.metre.beats for bar in range(int(score.end_beat // score.metre.beats))]
        on_time = sum(any(abs(at - bar) < _LOOSE_BEATS for at in struck) for bar in bars)
        assert on_time >= 0.8 * len(bars), style


@pytest.mark.parametrize("metre", BEATS)
def test_an_asked_metre_ends_on_a_bar_line_with_an_asked_tempo(metre: str) -> None:
    for style, tempo_bpm in itertools.product(("pop", "waltz", "jazz"), (63.0, 120.0, 181.0)):
        plan, score = composed(style, metre=metre, tempo_bpm=tempo_bpm)
        assert score.end_beat % score.metre.beats == 0
        assert plan.tempo_bpm == tempo_bpm
        assert score.tempo.seconds(score.end_beat) < 30


def test_tempo_of_compound_metres_counts_dotted_quarters() -> None:
    score = score_of("folk", metre="6/8", tempo_bpm=60.0)
    events = list(itertools.chain(*mido.MidiFile(file=io.BytesIO(midi_bytes(score))).tracks))
    assert mido.tempo2bpm(next(e.tempo for e in events if e.type == "set_tempo")) == pytest.approx(90)
    assert next(e.clocks_per_click for e in events if e.type == "time_signature") == 36
    assert score.tempo.seconds(score.metre.beats) == pytest.approx(2.0)


def test_patterns_in_their_own_metre_are_left_as_they_are() -> None:
    assert fitted_steps("9..5|....", 4, METRES["4/4"], is_even=True) == "9..5|...."


def test_patterns_take_the_beats_of_their_metre() -> None:
    assert fitted_steps("1234", 4, METRES["5/4"], is_even=False) == "12234"
    assert fitted_steps("1234", 4, METRES["3/4"], is_even=False) == "124"
    assert fitted_steps("1234", 4, METRES["2/4"], is_even=False) == "12|34"
    assert fitted_steps("12345678", 4, METRES["7/8"], is_even=False) == "1234567"
    assert fitted_steps("6.4.6.4.", 4, METRES["6/8"], is_even=True) == "6..4..|6..4.."
    assert fitted_steps("6.4.6.4.6.4.6.4.", 4, METRES["12/8"], is_even=True) == "634634634634"
    # A held chord lasts through the longer bar, and is struck again where its second half has a bar of its own.
    assert fitted_times(0.0, 4.0, 4, METRES["5/4"]) == [(0, 0, 5.0)]
    assert fitted_times(0.0, 4.0, 4, METRES["2/4"]) == [(0, 0, 4.0), (1, 0.0, 2.0)]


def test_seven_eights_is_as_long_in_the_sound_as_in_the_score(composer) -> None:
    asked = conditioning("rock", 8.0, metre="7/8", tempo_bpm=140.0)
    made = generate(composer, [asked])[0]
    assert made.choices["time_signature"] == "7/8"
    assert len(made.audio) == 8 * 44_100
