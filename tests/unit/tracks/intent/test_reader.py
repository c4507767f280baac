"""What is understood of prompts, in English: each kind of thing, what it is not, and what is said of the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.tracks.intent.reader import read_intent


def values(prompt, field):
    return [reading.value for reading in read_intent(prompt).readings if reading.field == field]


@pytest.mark.parametrize(
    "prompt, field, expected",
    [
        ("slow piano", "tempo_bpm", [70.0]),
        ("very slow piano", "tempo_bpm", [52.0]),
        ("fast techno", "tempo_bpm", [144.0]),
        ("presto for strings", "tempo_bpm", [184.0]),
        ("not too fast, please", "tempo_bpm", [96.0]),
        ("neither fast nor slow", "tempo_bpm", [104.0]),
        ("fast, 90 bpm", "tempo_bpm", [90]),
        ("118-122 bpm", "tempo_bpm", [120]),
        ("between 90 and 110 bpm", "tempo_bpm", [100]),
        ("about 90 bpm", "tempo_bpm", [90]),
        ("tempo: 104", "tempo_bpm", [104]),
        ("house, 124", "tempo_bpm", [124]),
        ("drum and bass at 174", "tempo_bpm", [174]),
        ("a hundred and eighty beats per minute", "tempo_bpm", [180]),
        ("80s pop", "tempo_bpm", []),
        ("start at 70 bpm and speed up to 140", "tempo_end_bpm", [140]),
        ("start at 70 bpm and speed up to 140", "tempo_bpm", [70]),
        ("from 160 bpm slowing down to 80", "tempo_end_bpm", [80]),
        ("1½ min", "duration_s", [90]),
        ("a minute and a half of jazz", "duration_s", [90]),
        ("2:15 of jazz", "duration_s", [135]),
        ("2 min 30 s", "duration_s", [150]),
        ("2m30s of jazz", "duration_s", [150]),
        ("forty-five seconds", "duration_s", [45]),
        ("at 10:30 pm", "duration_s", []),
        ("808s and 80s", "duration_s", []),
        ("fade in over 5 seconds, 20 seconds long", "duration_s", [20]),
        ("fade in over 5 seconds, 20 seconds long", "fade_in_s", [5.0]),
        ("fade in over 3 seconds and out over the last 6", "fade_out_s", [6.0]),
        ("in D minor", "key", ["D minor"]),
        ("F sharp minor", "key", ["F# minor"]),
        ("B-flat major", "key", ["Bb major"]),
        ("in Bb", "key", ["Bb major"]),
        ("key of E", "key", ["E major"]),
        ("F#m", "key", ["F# minor"]),
        ("phrygian feel in E", "key", ["E phrygian"]),
        ("A harmonic minor", "key", ["A harmonic minor"]),
        ("C blues shuffle", "key", ["C blues"]),
        ("a minor problem with my song", "key", []),
        ("the key to success", "key", []),
        ("from G major up to A major", "key_end", ["A major"]),
        ("in D minor, no wait, Eb major", "key", ["Eb major"]),
        ("jazz in 7/8", "metre", ["7/8"]),
        ("twelve eight gospel", "metre", ["12/8"]),
        ("loop of 8 bars", "bars", [8]),
        ("seamless loop", "loop", [True]),
        ("mono", "channels", [1]),
        ("as mp3, 48 kHz, -16 LUFS", "loudness_lufs", [-16]),
        ("as mp3, 48 kHz, -16 LUFS", "sample_rate_hz", [48000]),
        ("as mp3, 48 kHz, -16 LUFS", "format", ["mp3"]),
        ("getting louder to the end", "dynamics", ["crescendo"]),
        ("sparse and low energy", "energy", ["low", "low"]),
        ("music for yoga", "use", ["yoga"]),
    ],
)
def test_things_are_read(prompt, field, expected):
    assert values(prompt, field) == expected


@pytest.mark.parametrize(
    "prompt, unwanted",
    [
        ("rock (no drums)", {"drums"}),
        ("drumless hip hop", {"drums"}),
        ("no drums, bass or guitars please, just a soft pad", {"drums", "bass", "guitar"}),
        ("without drums, slow piano", {"drums"}),
        ("synthwave, anything but drums", {"drums"}),
        ("don't use any strings", {"strings"}),
        ("free of synths", {"synthesizer"}),
        ("minus the keyboards", {"keyboards"}),
        ("drums: none. melody: flute", {"drums"}),
        ("not jazz, not blues", {"jazz", "blues"}),
        ("no big gated snare drums", {"snare drum"}),
        ("no problem, drums are fine", set()),
        ("guitar but no drums", {"drums"}),
        ("anything but a minor key", {"minor"}),
    ],
)
def test_what_is_not_wanted_is_excluded_and_nothing_else(prompt, unwanted):
    assert set(values(prompt, "exclude")) == unwanted


@pytest.mark.parametrize(
    "prompt, kind, players",
    [
        ("solo cello", "solo", ["cello"]),
        ("trumpet solo", "solo", ["trumpet"]),
        ("a string quartet", "quartet", ["strings"]),
        ("acoustic trio: guitar, double bass and violin", "trio", ["guitar", "double bass", "violin"]),
        ("piano trio", "trio", ["piano"]),
        ("only flute and harp", "only", ["flute", "harp"]),
        ("accordion only", "only", ["accordion"]),
        ("nothing but the cello", "only", ["cello"]),
    ],
)
def test_who_plays(prompt, kind, players):
    assert values(prompt, "ensemble") == [{"kind": kind, "instruments": players}]


def test_sections_have_their_lengths_in_order():
    [sections] = values("30 sec intro, then a 16 bar verse, then a 40 second outro, 128 bpm", "sections")

    assert sections == [
        {"name": "intro", "duration_s": 30},
        {"name": "verse", "bars": 16},
        {"name": "outro", "duration_s": 40},
    ]
    assert values("30 sec intro, then a 16 bar verse, then a 40 second outro, 128 bpm", "duration_s") == []


@pytest.mark.parametrize(
    "prompt, kind, words",
    [
        ("something like Taylor Swift", "artist", "something like Taylor Swift"),
        ("soul with lyrics about rain", "lyrics", "lyrics about rain"),
        ("jazz with whispery vocals", "vocals", "whispery vocals"),
        ("choir singing in Swahili", "language", "singing in Swahili"),
        ("rock in 11/8", "metre", "11/8"),
        ("ambient in 432 Hz", "other", "432 Hz"),
        ("What time does the bus leave?", "other", "What time does the bus leave?"),
        ("asdkfj qpwoe", "other", "asdkfj qpwoe"),
    ],
)
def test_what_cannot_be_had_is_said_with_its_words_and_why(prompt, kind, words):
    [said] = [one for one in read_intent(prompt).not_followed if one.kind == kind and one.words.text == words]

    assert said.why and prompt[said.words.start : said.words.end] == words


@pytest.mark.parametrize(
    "prompt, field",
    [
        ("slow and fast at once", "tempo_bpm"),
        ("waltz in 4/4", "metre"),
        ("quiet but loud", "dynamics"),
        ("in D minor and in E major", "key"),
        ("90 bpm, 120 bpm", "tempo_bpm"),
    ],
)
def test_two_things_that_do_not_go_together_are_named(prompt, field):
    assert [conflict.field for conflict in read_intent(prompt).conflicts] == [field]


def test_words_that_mean_nothing_here_are_listed():
    assert [words.text for words in read_intent("jazz with a frobnicated zwirbel").not_understood] == [
        "frobnicated zwirbel"
    ]


PIECES = (
    "no ",
    "drums",
    " and ",
    "90",
    " bpm",
    "-",
    "in ",
    "A",
    " minor",
    "1:30",
    "½",
    " s",
    ",",
    "(",
    ")",
    "solo ",
    "ん",
    "調",
    "Ü",
    "\u0301",
    "🥁",
    "/",
    "4",
)


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=20).map("".join)))
def test_any_text_is_read_and_its_words_are_where_it_says(prompt):
    intent = read_intent(prompt)

    told = [*intent.readings, *intent.not_followed]
    for words in [
        *(one.words for one in told),
        *intent.not_understood,
        *(w for c in intent.conflicts for w in c.words),
    ]:
        assert 0 <= words.start < words.end <= len(prompt) and prompt[words.start : words.end] == words.text
    assert intent == read_intent(prompt)


@pytest.mark.parametrize("mark", ["\u0301", "\ue000", "\u0301\u0301"])
def test_marks_without_a_letter_change_no_place(mark):
    prompt = f"{mark}piano{mark} at 90 bpm, é"

    readings = {reading.field: reading.words for reading in read_intent(prompt).readings}

    assert prompt[readings["tempo_bpm"].start : readings["tempo_bpm"].end].endswith("90 bpm")


def test_a_word_spelt_wrong_is_understood_however_often_it_comes():
    twice = [values("sad pianno", "instruments") for _ in range(2)]

    assert twice == [["piano"], ["piano"]]


@pytest.mark.parametrize(
    "prompt, who",
    [
        ("harp and flute, no other instruments", ["harp", "flute"]),
        ("harp, leave out all other instruments", ["harp"]),
        ("oboe, sin otros instrumentos", ["oboe"]),
        ("oboé, sem os outros instrumentos", ["oboe"]),
        ("hautbois, tous les autres instruments dehors", ["oboe"]),
        ("Oboe, alle anderen Instrumente weglassen", ["oboe"]),
        ("oboe, senza gli altri strumenti", ["oboe"]),
        ("hobo, geen andere instrumenten", ["oboe"]),
        ("obój, bez innych instrumentów", ["oboe"]),
        ("гобой, все остальные инструменты убрать", ["oboe"]),
    ],
)
def test_without_all_others_only_those_who_are_named_play(prompt, who):
    assert {"kind": "only", "instruments": who} in values(prompt, "ensemble")


@pytest.mark.parametrize(
    "prompt",
    [
        'a café called "Rock House", soft jazz',
        'un café llamado "Casa Rock", jazz',
        'um café chamado "Casa Rock", jazz',
        'un café nommé "Le Rock", jazz',
        'ein Café namens "Rock Eck", Jazz',
        'un caffè chiamato "Rock", jazz',
        'een café genaamd "Rock", jazz',
        'kawiarnia o nazwie "Rock", jazz',
        "кафе под названием «Рок», джаз",
    ],
)
def test_what_is_in_a_name_is_no_wish(prompt):
    assert values(prompt, "style") == ["jazz"]


def test_what_is_only_quoted_is_one():
    assert values('a "dark" ambient track', "mood") == ["dark"]


@pytest.mark.parametrize(
    "prompt, field, expected",
    [
        ("techno, 120 bpm → 135 bpm", "tempo_end_bpm", [135]),
        ("techno, 120 -> 135", "tempo_bpm", [120]),
        ("from 1 min 30 s to 2 min", "duration_s", [105]),
        ("about 126 bpm", "tempo_bpm", [126]),
        ("jazz in 6/8, not 3/4", "metre", ["6/8"]),
        ("fade in 3 s, fade out 5 s", "fade_out_s", [5.0]),
        ("drums: none, bass: yes", "exclude", ["drums"]),
        ("No: drums, bass, choir. Yes: piano", "exclude", ["drums", "bass", "choir"]),
        ("a guitar solo in the bridge, rock", "ensemble", []),
        ("cello solo, an intro of 4 bars", "ensemble", [{"kind": "solo", "instruments": ["cello"]}]),
    ],
)
def test_how_things_are_written_down(prompt, field, expected):
    assert values(prompt, field) == expected
