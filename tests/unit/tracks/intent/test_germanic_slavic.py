"""What German, Dutch, Polish and Russian say in ways of their own: rules of the reader, not words of a file."""

import pytest

from orchestrion.tracks.intent.reader import read_intent


def values(prompt, field):
    return [reading.value for reading in read_intent(prompt).readings if reading.field == field]


@pytest.mark.parametrize(
    "prompt, key",
    [
        # B is B flat where the mode is said in German, Polish or Russian, and B where it is English.
        ("ein Stück in B-Dur mit Klavier", "Bb major"),
        ("ein Stück in H-Dur mit Klavier", "B major"),
        ("utwór w b-moll na organy", "Bb minor"),
        ("ein Stück mit Klavier, B major", "B major"),
        ("ein Walzer in es, langsam", "Eb major"),
        ("ein Walzer in Moll, langsam", "minor"),
        ("грустно, минор, 120", "minor"),
        ("ein Marsch, aber in Moll und nicht zu militärisch", "minor"),
        ("utwór a-moll na fortepian", "A minor"),
        ("пьеса, гармонический ми минор, для рояля", "E harmonic minor"),
    ],
)
def test_keys_have_the_names_of_their_language(prompt, key):
    assert values(prompt, "key") == [key]


def test_es_is_no_key_where_the_clause_goes_on():
    assert values("im Video gefällt es in es Café zu gehen", "key") == []


@pytest.mark.parametrize(
    "prompt, tempos, ends",
    [
        ("flott, aber nicht zu schnell, mit Klavier", [118], []),
        ("langsam, aber nicht zu langsam, mit Klavier", [80], []),
        ("spannend, von 100 auf 160 BPM, Streicher", [100], [160]),
        ("spannend, von 100 bis 160 BPM, Streicher", [130], []),
        ("feestje voor opa (80), accordeon", [], []),
        ("feestje voor opa, accordeon, 80", [80], []),
    ],
)
def test_tempos(prompt, tempos, ends):
    assert (values(prompt, "tempo_bpm"), values(prompt, "tempo_end_bpm")) == (tempos, ends)


@pytest.mark.parametrize(
    "prompt, length_s",
    [
        ("арфа, полминуты", 30),
        ("zweiminütiges Klavierstück", 120),
        ("музыка для видео, секунд 90", 90),
        ("арфа, минуты на две, тихо", 120),
        ("utwór na minut pięć, spokojny", 300),
        ("Klavierstück, drei Minuten, nein, vier", 240),
        ("2 минуты, 90 bpm, арфа", 120),
    ],
)
def test_lengths(prompt, length_s):
    assert values(prompt, "duration_s") == [length_s]


@pytest.mark.parametrize(
    "prompt, excluded",
    [
        ("zonder drums, bas of gedoe, piano", ["drums", "bass"]),
        ("zonder drums, met bas en piano", ["drums"]),
        ("ein Marsch in Moll und nicht zu militärisch", []),
        ("żadnych głośnych bębnów, fortepian", ["drums"]),
        ("nichts Trauriges, Jazz", ["sad"]),
        ("эпичный металл? нет: арфа", ["metal"]),
        ("🥁🚫 Klavier", ["drums"]),
    ],
)
def test_what_a_no_reaches(prompt, excluded):
    assert sorted(values(prompt, "exclude")) == sorted(excluded)


def test_quiet_after_a_refused_loud_is_quiet_once():
    readings = [
        reading for reading in read_intent("громко — нет. тихо, челеста").readings if reading.field == "dynamics"
    ]
    assert [(reading.value, reading.words.text) for reading in readings] == [("soft", "тихо")]


def test_mono_and_stereo_at_once_are_a_conflict():
    conflicts = read_intent("in mono én in stereo, accordeon").conflicts
    assert [(conflict.field, [words.text for words in conflict.words]) for conflict in conflicts] == [
        ("channels", ["in mono", "in stereo"])
    ]


def test_a_part_that_shall_be_missing_is_said():
    intent = read_intent("клубняк, 2:15, без дропа")
    assert [(one.kind, one.words.text) for one in intent.not_followed] == [("other", "без дропа")]


def test_stress_marks_and_letters_in_two_characters_are_read():
    assert values("меди́тация, арфа", "use") == ["meditation"]
    assert values("споко\u0438\u0306ная музыка", "mood") == ["calm"]


def test_about_sixteen_bars_are_sixteen():
    assert values("zapętl mi to, dubstep, około szesnaście taktów", "bars") == [16]


def test_a_fade_takes_the_number_right_behind_it():
    assert values("фейд-ин три секунды, фейд-аут пять, всего полминуты, арфа", "fade_out_s") == [5]
