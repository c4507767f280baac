"""A theme's melody, metre and pickup, as its file says them or its notes show them; and that a piece keeps them."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrion.models.composer.composition.theme import Theme, read_theme
from orchestrion.models.composer.model import compose
from orchestrion.models.composer.score import Score, midi_bytes
from orchestrion.models.protocol import Conditioning
from orchestrion.tracks.musical_key import Key
from tests.midi_files import SCALE, TEMPO_120, header, midi, notes, number, time_signature, track
from tests.recordings import tune, wav

#: A rest of so many beats: an event that says nothing.
BEAT_RESTS = {beats: number(round(480 * beats)) + b"\xff\x01\0" for beats in (0.5, 1, 2, 3)}

#: Lengths in beats of melodies that everybody knows, as they are sung.
IN_THREE = {
    "Happy Birthday": ".75 .25 1 1 1 2 .75 .25 1 1 1 2 .75 .25 1 1 1 1 1 .75 .25 1 1 1 2",
    "Amazing Grace": "1 2 .5 .5 2 1 2 1 2 1 2 .5 .5 2 1 5 1 2 .5 .5 2 1 2 1 2 1 2 .5 .5 2 1 5",
    "Silent Night": "1.5 .5 1 3 1.5 .5 1 3 2 1 3 2 1 3 2 1 1.5 .5 1 1.5 .5 1 3 2 1 1.5 .5 1 1.5 .5 1 3",
    "Greensleeves": "1 2 1 1.5 .5 1 2 1 1.5 .5 1 2 1 1.5 .5 1 2 1 2 1 2 1 1.5 .5 1 2 1 1.5 .5 1",
    "Minuet in G": "1 .5 .5 .5 .5 1 1 1 1 .5 .5 .5 .5 1 1 1 1 .5 .5 .5 .5 1 .5 .5 .5 .5 1 .5 .5 .5 .5 3",
    "The Star-Spangled Banner": ".75 .25 1 1 1 2 .75 .25 1 1 1 2 .5 .5 1.5 .5 1 2 .5 .5 1 1 1 1",
    "God Save the King": "1 1 1 1.5 .5 1 1 1 1 1.5 .5 1 1 1 1 3 1 1 1 1.5 .5 1 1 1 1 1.5 .5 1",
    "a Ländler": "2 1 2 1 2 1 3 2 1 2 1 2 1 3",
}
NOT_IN_THREE = {
    "Ode to Joy": "1 1 1 1 1 1 1 1 1 1 1 1 1.5 .5 2 1 1 1 1 1 1 1 1 1 1 1 1 1.5 .5 2",
    "Twinkle, Twinkle": "1 1 1 1 1 1 2 1 1 1 1 1 1 2 1 1 1 1 1 1 2 1 1 1 1 1 1 2",
    "Frère Jacques": "1 1 1 1 1 1 1 1 1 1 2 1 1 2 .5 .5 .5 .5 1 1 .5 .5 .5 .5 1 1 1 1 2 1 1 2",
    "Jingle Bells": "1 1 2 1 1 2 1 1 1.5 .5 4 1 1 1.5 .5 1 1 1 .5 .5 1 1 1 1 2 2",
    "Auld Lang Syne": "1 1.5 .5 1 1 1.5 .5 1 1 1.5 .5 1 1 3 1 1.5 .5 1 1 1.5 .5 1 1 1.5 .5 1 1 3",
    "When the Saints": "1 1 1 5 1 1 1 5 1 1 1 2 2 2 2 5 1 1 2 1 2 1 2 2 2",
    "London Bridge": "1.5 .5 1 1 1 1 2 1 1 2 1 1 2 1.5 .5 1 1 1 1 2 2 2 1 3",
    "a Charleston": "1.5 2.5 1.5 2.5 1.5 2.5 1 1 2 1.5 2.5 1.5 2.5",
    "a tresillo": "1.5 1.5 1 1.5 1.5 1 1.5 1.5 1 1.5 1.5 1 1 1 2",
    "even eighths": ".5 .5 .5 .5 .5 .5 .5 .5 .5 .5 .5 .5 .5 .5 2 .5 .5 .5 .5 .5 .5 .5 .5 .5 .5 .5 .5 .5 .5 2",
}


def melody(lengths: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """These lengths with pitches that come and go."""
    beats = tuple(map(float, lengths.split()))
    return tuple(60 + (0, 4, 7, 5, 2, 4, 0, 9)[i % 8] for i in range(len(beats))), beats


def signed(count: int, unit_power: int, events: bytes) -> Theme:
    return read_theme(midi(TEMPO_120 + time_signature(count, unit_power) + events))


@pytest.mark.parametrize(
    "count, unit_power, metre",
    [
        (3, 2, "3/4"), (4, 2, "4/4"), (2, 2, "2/4"), (5, 2, "5/4"), (6, 3, "6/8"), (7, 3, "7/8"), (12, 3, "12/8"),
        (2, 1, "4/4"), (3, 3, "6/8"), (6, 2, "3/4"), (9, 3, None), (255, 6, None),
    ],
)  # fmt: skip
def test_a_time_signature_says_the_metre(count, unit_power, metre):
    theme = signed(count, unit_power, notes())

    assert (theme.metre, theme.pickup, theme.notes[0].start) == (metre, 0.0, 0.0)


@pytest.mark.parametrize(
    "count, rest, first", [(3, 2, -1.0), (3, 1, 1.0), (4, 3, -1.0), (4, 2, -2.0), (4, 0.5, 0.5)], ids=str
)
def test_what_begins_late_in_a_bar_is_a_pickup_and_early_in_it_comes_after_a_rest(count, rest, first):
    theme = signed(count, 2, BEAT_RESTS[rest] + notes())

    assert theme.notes[0].start == first
    assert theme.pickup == max(0.0, -first)
    assert theme.notes[-1].start == first + 7


@pytest.mark.parametrize("lengths", IN_THREE.values(), ids=IN_THREE.keys())
def test_without_a_signature_long_notes_show_a_metre_of_three(lengths):
    pitches, beats = melody(lengths)

    theme = read_theme(midi(notes(pitches, beats)))

    assert theme.metre == "3/4"
    assert theme.tempo_bpm == 120.0


@pytest.mark.parametrize("lengths", NOT_IN_THREE.values(), ids=NOT_IN_THREE.keys())
def test_no_other_melody_is_said_to_be_in_three(lengths):
    pitches, beats = melody(lengths)

    assert read_theme(midi(notes(pitches, beats))).metre in (None, "4/4")


def test_rhythms_that_mean_nothing_are_given_no_metre():
    rng = np.random.default_rng(0)
    drawn = [rng.choice([0.5, 0.5, 1, 1, 1, 1.5, 2], size=int(rng.integers(12, 60))) for _ in range(200)]

    said = [read_theme(midi(notes(*melody(" ".join(map(str, beats)))))).metre for beats in drawn]

    assert said.count(None) > 180
    assert said.count("3/4") <= 4


def test_a_pickup_is_known_by_the_long_note_after_it():
    theme = read_theme(midi(notes(*melody(IN_THREE["Amazing Grace"]))))

    assert theme.pickup == 1.0
    assert theme.notes[1].start == 0.0


def sung(lengths: str, tempo_bpm: float) -> bytes:
    pitches, beats = melody(lengths)
    return wav(tune(pitches=pitches, note_s=tuple(60 / tempo_bpm * length for length in beats)))


@pytest.mark.parametrize("name, tempo_bpm", [("Amazing Grace", 96.0), ("Silent Night", 108.0), ("a Ländler", 132.0)])
def test_a_recording_in_three_is_heard_as_one(name, tempo_bpm):
    theme = read_theme(sung(IN_THREE[name], tempo_bpm))

    assert theme.metre == "3/4"
    assert theme.tempo_bpm == pytest.approx(tempo_bpm, rel=0.02)
    assert len(theme.notes) == len(IN_THREE[name].split())


@pytest.mark.parametrize("name", ["Ode to Joy", "Auld Lang Syne"])
def test_a_recording_in_four_is_not_heard_in_three(name):
    assert read_theme(sung(NOT_IN_THREE[name], 100.0)).metre in (None, "4/4")


def test_the_melody_is_the_highest_voice_also_where_all_are_in_one_track():
    together = b"".join(
        b"\0\x91" + bytes([low, 90]) + b"\0\x90" + bytes([high, 90]) + number(480)
        + b"\x81" + bytes([low, 0]) + b"\0\x80" + bytes([high, 0])
        for high, low in zip(SCALE, (36, 43) * 4, strict=True)
    )  # fmt: skip

    for data in (midi(together), header(1, 2) + track(notes((36, 43) * 4, channel=1)) + track(notes())):
        assert tuple(note.pitch for note in read_theme(data).notes) == SCALE


def test_a_file_that_counts_frames_has_the_tempo_of_its_notes():
    theme = read_theme(header(0, 1, 0xE728) + track(notes()))  # A tick is a millisecond: a note each 480 ms.

    assert theme.tempo_bpm == pytest.approx(125.0)
    assert [note.start for note in theme.notes] == list(range(8))


def piece(theme: bytes, **fields: object) -> Score:
    said = {
        "prompt": "music", "negative_prompt": "", "style": "piano", "mood": None, "tempo_bpm": 100.0,
        "key": Key.parse("C major"), "duration_s": 40.0, "seed": 0, "theme": theme,
    }  # fmt: skip
    return compose(Conditioning(**said | fields))[1]


@pytest.mark.parametrize("style", ["pop", "techno", "jazz", "piano", "waltz"])
def test_a_theme_in_three_makes_a_piece_in_three(style):
    score = piece(midi(TEMPO_120 + time_signature(3, 2) + notes((60, 64, 67) * 4)), style=style)

    assert score.metre.beats == 3
    assert b"\xff\x58\x04\x03\x02" in midi_bytes(score)
    first_a = next(section.first_bar for section in score.sections if section.label == "A") * 3
    lead = [note for note in score.part("lead").notes if first_a - 0.2 <= note.start < first_a + 11.8]
    # The tonic is on each first beat, and nowhere else.
    assert [note.pitch % 12 for note in lead] == [0, 4, 7] * 4
    assert [round(note.start) - first_a for note in lead] == list(range(12))


def test_a_theme_in_six_eights_is_played_in_beats_of_three_parts():
    score = piece(midi(TEMPO_120 + time_signature(6, 3) + notes((60, 64, 67) * 4, (0.5,) * 12)), style="folk")

    assert str(score.metre) == "6/8"
    first_a = next(section.first_bar for section in score.sections if section.label == "A") * 2
    lead = [note for note in score.part("lead").notes if first_a - 0.1 <= note.start < first_a + 3.9]
    assert [note.pitch % 12 for note in lead] == [0, 4, 7] * 4
    # Three to a beat: an eighth of the file is a third of the beat.
    assert [note.start - first_a for note in lead] == pytest.approx([third / 3 for third in range(12)], abs=0.06)


def test_a_theme_in_fours_leaves_a_waltz_a_waltz():
    assert str(piece(midi(TEMPO_120 + time_signature(4, 2) + notes((60, 64, 67) * 4)), style="waltz").metre) == "3/4"
    asked = piece(midi(TEMPO_120 + time_signature(3, 2) + notes((60, 64, 67) * 4)), style="pop", metre="7/8")
    assert str(asked.metre) == "7/8"


@pytest.mark.parametrize("duration_s", [12.0, 40.0], ids=["begins with the theme", "has an introduction"])
def test_a_pickup_leads_to_the_first_beat_of_a_bar(duration_s):
    pickup = number(2 * 480) + b"\xff\x01\0" + notes((67, *(60, 64, 65) * 4))
    score = piece(midi(TEMPO_120 + time_signature(3, 2) + pickup), duration_s=duration_s)

    lead = [note for note in score.part("lead").notes if note.start < score.end_beat - 0.2]
    on_g = [round(note.start) for note in lead if note.pitch % 12 == 7]
    on_c = [round(note.start) for note in lead if note.pitch % 12 == 0]
    section = next(section for section in score.sections if section.label == "A")
    begins = section.first_bar * 3 + (3 if section.first_bar == 0 else 0)

    assert begins - 1 in on_g and begins in on_c
    inside = [beat for beat in on_c if begins <= beat < begins + 12]
    assert inside == [begins, begins + 3, begins + 6, begins + 9]
    starts = sorted(note.start for note in lead)
    assert starts == [note.start for note in sorted(lead, key=lambda note: note.start)]
