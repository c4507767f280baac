"""Keys: every spelling people use is one value, and one value is printed one way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.errors import InvalidRequest
from orchestrion.tracks.musical_key import SCALE_STEPS, TONIC_NAMES, Key

KEYS = st.builds(Key, tonic=st.integers(0, 11), mode=st.sampled_from(sorted(SCALE_STEPS)))


@given(key=KEYS)
def test_what_is_printed_reads_back_as_the_same_key(key):
    assert Key.parse(str(key)) == key


def test_no_two_keys_print_the_same():
    printed = {str(Key(tonic, mode)) for tonic in range(12) for mode in SCALE_STEPS}

    assert len(printed) == 12 * len(SCALE_STEPS)


@pytest.mark.parametrize(
    "key, spellings",
    [
        (
            "D minor",
            ["D minor", "d minor", "Dm", "dm", "D min", "Dmin", "D-minor", " D  minor ", "D aeolian", "D MINOR"],
        ),
        (
            "Eb minor",
            ["Eb minor", "D# minor", "E♭ minor", "E flat minor", "e-flat minor", "D sharp minor", "ebm", "d#m"],
        ),
        ("C major", ["C", "c", "C major", "Cmaj", "C ionian", "B# major", "C  major"]),
        ("B major", ["B", "Cb", "C♭ major", "B major"]),
        ("F# dorian", ["F# dorian", "f♯ Dorian", "Gb dorian", "F sharp dorian"]),
        ("Bb mixolydian", ["Bb mixolydian", "A# mixolydian", "B flat mixolydian"]),
        ("F major", ["E# major", "F"]),
        ("E minor", ["Fb minor", "Em"]),
        ("B locrian", ["B locrian", "b Locrian", "Cb locrian"]),
        ("A harmonic minor", ["A harmonic minor", "a harmonic-minor", "A HARMONIC MIN", "A  harmonic  minor"]),
        ("C melodic minor", ["C melodic minor", "B# melodic min"]),
        ("Bb blues", ["Bb blues", "A# blues", "bbblues", "B flat blues"]),
        ("B blues", ["B blues", "bblues"]),
        ("F# pentatonic", ["F# pentatonic", "Gb pentatonic", "F sharp major pentatonic"]),
    ],
)
def test_all_spellings_are_one_key(key, spellings):
    assert {spelling: str(Key.parse(spelling)) for spelling in spellings} == dict.fromkeys(spellings, key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "H",
        "H minor",
        "minor",
        "D minor please",
        "Dmaj7",
        "D##",
        "Dbb minor",
        "D minor pentatonic",
        "D harmonic",
        "DM",
        "in D",
        "2",
        "DM7",
        "Д",
    ],
)
def test_what_is_no_key_is_refused_with_examples(text):
    with pytest.raises(InvalidRequest, match="write for example 'D minor'"):
        Key.parse(text)


@given(text=st.text(max_size=30))
def test_any_text_is_a_key_or_an_invalid_request(text):
    try:
        key = Key.parse(text)
    except InvalidRequest:
        return
    assert str(key).split()[0] in TONIC_NAMES


@given(key=KEYS)
def test_a_scale_rises_through_the_degrees_of_one_octave(key):
    assert list(key.steps) == sorted(set(key.steps))
    assert (len(key.steps), key.steps[0]) == ({"blues": 6, "pentatonic": 5}.get(key.mode, 7), 0)
    assert key.steps[-1] < 12


def test_minor_is_heard_in_the_third():
    assert {mode for mode in SCALE_STEPS if Key(0, mode).is_minor} == {
        *("minor", "dorian", "phrygian", "locrian", "harmonic minor", "melodic minor", "blues")
    }


def test_harmonic_and_melodic_minor_raise_the_degrees_that_they_are_named_for():
    minor, harmonic, melodic = (Key(0, mode).steps for mode in ("minor", "harmonic minor", "melodic minor"))

    assert [b - a for a, b in zip(minor, harmonic, strict=True)] == [0, 0, 0, 0, 0, 0, 1]
    assert [b - a for a, b in zip(minor, melodic, strict=True)] == [0, 0, 0, 0, 0, 1, 1]
