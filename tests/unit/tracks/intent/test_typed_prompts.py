"""Prompts as people typed them into the page: a few words, several languages, contradictions, and what is no music."""

import pytest

from orchestrion.errors import InvalidRequest
from orchestrion.tracks.intent.reader import read_intent
from orchestrion.tracks.said import said_in
from orchestrion.tracks.spec import TrackSpec


def values(prompt, field):
    return [reading.value for reading in read_intent(prompt).readings if reading.field == field]


WHOLE = {
    "piano triste y lento en re menor, 70 pulsaciones por minuto, 20 segundos": {
        "instruments": ["piano"], "mood": ["sad"], "key": ["D minor"], "tempo_bpm": [70], "duration_s": [20],
    },
    "ruhige Klaviermusik ohne Schlagzeug, 80 Schläge pro Minute, a-Moll, 20 Sekunden": {
        "mood": ["calm"], "style": ["piano"], "exclude": ["drums"], "tempo_bpm": [80], "key": ["A minor"],
        "duration_s": [20],
    },
    "fröhliche Blasmusik im Dreivierteltakt, 15 Sekunden, D-Dur": {
        "mood": ["happy"], "metre": ["3/4"], "duration_s": [15], "key": ["D major"],
    },
    "悲しいピアノ曲、ニ短調、BPM 70、20秒": {
        "mood": ["sad"], "style": ["piano"], "key": ["D minor"], "tempo_bpm": [70], "duration_s": [20],
    },
    "джаз медленно 60 ударов в минуту": {"style": ["jazz"], "tempo_bpm": [60]},
    "爵士乐 慢": {"style": ["jazz"], "tempo_bpm": [70]},
    "chanson douce à la guitare, sans percussions, 15 secondes": {
        "mood": ["calm"], "instruments": ["guitar"], "exclude": ["percussion"], "duration_s": [15],
    },
    "techno at 200bpm in C#m, 15 seconds": {"style": ["techno"], "tempo_bpm": [200], "key": ["C# minor"]},
    "seamless loop for a game menu, 8 bars at 120 bpm": {"loop": [True], "bars": [8], "tempo_bpm": [120]},
    "modulate from C major to E minor halfway": {"key": ["C major"], "key_end": ["E minor"]},
    "start slow at 60 bpm then accelerate to 140 bpm": {"tempo_bpm": [60], "tempo_end_bpm": [140]},
    "fade in over 5 seconds and fade out over 5 seconds, piano, 20 seconds": {
        "fade_in_s": [5], "fade_out_s": [5], "duration_s": [20],
    },
    "30 sec intro, then 1 minute main part, house": {"style": ["house"], "duration_s": []},
    "mp3, mono, 48kHz, funk": {"format": ["mp3"], "channels": [1], "sample_rate_hz": [48_000], "style": ["funk"]},
    "quiet, mastered at -23 LUFS": {"dynamics": ["soft"], "loudness_lufs": [-23]},
    "progressive rock in 7/8 time": {"style": ["rock"], "metre": ["7/8"]},
    "in the style of Daft Punk": {"style": ["house"]},
    "🎹😢 15 seconds": {"instruments": ["piano"], "mood": ["sad"], "duration_s": [15]},
    "rock, drums: none": {"style": ["rock"], "exclude": ["drums"]},
    "rock no drum kit": {"style": ["rock"], "exclude": ["drums"]},
    "I don't want jazz, I want rock": {"style": ["rock"], "exclude": ["jazz"]},
    "anything but classical": {"style": [], "exclude": ["classical"]},
    "not happy": {"mood": [], "exclude": ["happy"]},
    "unhappy": {"mood": ["sad"], "exclude": []},
    "Largo assai e mesto": {"tempo_bpm": [52], "mood": ["sad"]},
    "punk rock as fast as possible": {"style": ["rock"], "tempo_bpm": [172]},
    "a minute and a half": {"duration_s": [90]},
    "two minutes thirty": {"duration_s": [150]},
    "1min30": {"duration_s": [90]},
    "1'30\"": {"duration_s": [90]},
    "60 seconds of 80s pop": {"duration_s": [60], "style": ["pop"]},
    "90 BPM boom bap, length: 0:15": {"duration_s": [15], "tempo_bpm": [90]},
    "key: F#": {"key": ["F# major"]},
    "A flat": {"key": ["Ab major"]},
    "Am": {"key": ["A minor"]},
    "D Dorian mode": {"key": ["D dorian"]},
    "Bb blues": {"key": ["Bb blues"], "style": ["blues"]},
    "tempo=120": {"tempo_bpm": [120]},
    "90-100 bpm": {"tempo_bpm": [95]},
}  # fmt: skip


@pytest.mark.parametrize("prompt, asked", WHOLE.items(), ids=WHOLE.keys())
def test_short_prompts_in_several_languages_are_read_whole(prompt, asked):
    assert {field: list(dict.fromkeys(values(prompt, field))) for field in asked} == asked


@pytest.mark.parametrize(
    "prompt",
    [
        "rock garden meditation", "trap door game sound", "club sandwich lunch", "drill sergeant", "rapture",
        "reel to reel tape", "salsa verde", "island vacation", "the metal detector", "90s", "elegant",
    ],
)  # fmt: skip
def test_words_that_are_also_styles_are_none_where_they_mean_something_else(prompt):
    assert values(prompt, "style") == []


@pytest.mark.parametrize(
    "prompt, kind, players",
    [
        ("solo cello, nothing else", "solo", ["cello"]),
        ("cello solo", "solo", ["cello"]),
        ("drum solo", "solo", ["drums"]),
        ("only drums", "only", ["drums"]),
        ("just a piano, nothing else", "only", ["piano"]),
        ("a cappella choir", "a cappella", ["choir"]),
        ("jazz trio without piano", "trio", []),
    ],
)
def test_who_plays_alone(prompt, kind, players):
    assert {"kind": kind, "instruments": players} in values(prompt, "ensemble")


@pytest.mark.parametrize(
    "prompt, field",
    [
        ("120 BPM 90 BPM", "tempo_bpm"),
        ("slow and fast at the same time", "tempo_bpm"),
        ("waltz in 4/4", "metre"),
    ],
)
def test_what_does_not_go_together_is_said(prompt, field):
    assert field in [conflict.field for conflict in read_intent(prompt).conflicts]


@pytest.mark.parametrize(
    "prompt, words",
    [
        ("epic music like Hans Zimmer", "Hans Zimmer"),
        ("Mozart meets Metallica", "Metallica"),
        ('a pop song with the lyrics "I will always love the rain"', "I will always love the rain"),
        ("soul, female vocals", "female vocals"),
        ("432 Hz healing music", "432 Hz"),
        ("sound effect of rain on a tin roof", "sound effect"),
        ("white noise for sleeping", "white noise"),
        ("bachata", "bachata"),
        ("jazz or blues", "blues"),
        ("Rock auf Deutsch", "auf Deutsch"),
    ],
)
def test_what_cannot_be_had_is_said_of_its_words(prompt, words):
    assert any(words in one.words.text for one in TrackSpec(prompt=prompt).resolve().intent.not_followed)


@pytest.mark.parametrize("prompt", ["an hour", "11 minutes", "ambient, 45 minutes long"])
def test_a_length_that_no_track_has_is_refused(prompt):
    with pytest.raises(InvalidRequest, match="duration_s: the prompt asks for"):
        TrackSpec(prompt=prompt).resolve()


@pytest.mark.parametrize(
    "prompt, fields, told",
    [
        ("techno, 128 B.P.M.", {"style": "techno", "tempo_bpm": 128.0}, []),
        ("h-Moll", {"key": "B minor"}, []),
        ("slow waltz, B-Dur", {"style": "waltz", "tempo_bpm": 70.0, "key": "Bb major"}, []),
        ("Eb", {"key": "Eb major"}, []),
        ("jazz in A min, 90 bpm", {"style": "jazz", "key": "A minor", "tempo_bpm": 90.0}, []),
        ("a swinging big band", {"style": "jazz"}, []),
        ("slow rock", {"style": "rock", "tempo_bpm": 70.0}, []),
        ('lyrics: "sad goodbye, slow night"', {}, ["lyrics"]),
        ('ballad with lyrics "happy days", piano', {"style": "pop", "instruments": ("piano",)}, ["lyrics"]),
        ('title: "Love Story", piano', {"instruments": ("piano",)}, []),
        ("a minor incident in a major city, sad piano", {"style": "piano", "mood": "sad"}, []),
        ("0.5 seconds of techno", {"style": "techno"}, ["range"]),
        ("a 3-minute-20-second ballad", {"duration_s": 200.0, "style": "pop"}, []),
        ("hard rock without the guitar solo", {"style": "rock", "exclude": ("guitar",)}, []),
        ("medium swing, walking bass, 140", {"style": "jazz", "tempo_bpm": 140.0, "instruments": ("bass",)}, []),
        ("the tempo goes from slow to fast", {"tempo_bpm": 70.0, "tempo_end_bpm": 144.0}, []),
        ("a cappella choir, in Latin", {"ensemble": "a cappella", "instruments": ("choir",)}, ["language"]),
        ("half a second", {}, ["range"]),
    ],
)
def test_what_was_misread_is_read(prompt, fields, told):
    said = said_in(prompt)
    read = {name: str(value) if name == "key" else value for name, value in said.fields.items()}

    assert {name: read.get(name) for name in fields} == fields
    assert set(read) <= {*fields, "mood", "instruments"}
    assert [one.kind for one in said.intent.not_followed if one.kind != "instrument"] == told


@pytest.mark.parametrize(
    "prompt, is_told", [("fast techno at 60 bpm", True), ("fast techno at 150 bpm", False), ("slow ballad, 70", False)]
)
def test_a_word_that_contradicts_the_figure_is_told(prompt, is_told):
    assert any(conflict.field == "tempo_bpm" for conflict in said_in(prompt).intent.conflicts) is is_told


def test_words_of_unknown_scripts_are_whole():
    assert [words.text for words in said_in("उदास धीमा पियानो, 60 bpm").intent.not_understood] == ["उदास धीमा पियानो"]


def test_lengths_in_brackets_are_of_their_sections():
    (sections,) = values("intro (4 bars), verse (8 bars), outro (12 s), indie rock", "sections")

    assert sections == [{"name": "intro", "bars": 4}, {"name": "verse", "bars": 8}, {"name": "outro", "duration_s": 12}]
