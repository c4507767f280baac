"""Instruments: the whole of General MIDI has names, and each name leads to a sound."""

import pytest

from orchestrion.errors import InvalidRequest
from orchestrion.tracks.instruments import (
    EXCLUDABLE,
    FAMILIES,
    INSTRUMENTS,
    check_players,
    excludable_name,
    instrument_name,
    stand_ins,
)


def test_every_program_and_every_drum_of_general_midi_has_a_name_of_its_own():
    programs = {instrument.programs[0] for instrument in INSTRUMENTS.values() if instrument.programs}
    second = {
        37: "slap bass",
        39: "808 bass",
        49: "strings",
        51: "synth strings",
        63: "synth brass",
        5: "electric piano",
    }
    notes = {note for instrument in INSTRUMENTS.values() for note in instrument.notes}

    assert programs | second.keys() >= set(range(128))
    assert all(program in INSTRUMENTS[name].programs for program, name in second.items())
    assert notes >= set(range(35, 82))


def test_programs_and_notes_are_those_that_midi_has_and_none_stands_twice():
    for instrument in INSTRUMENTS.values():
        assert len(set(instrument.programs)) == len(instrument.programs), instrument
        assert len(set(instrument.notes)) == len(instrument.notes), instrument
        assert all(0 <= program < 128 for program in instrument.programs), instrument
        assert all(27 <= note <= 87 for note in instrument.notes), instrument


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_every_instrument_sounds_or_is_near_to_one_that_does(name):
    first, *others = stand_ins(name)

    assert first.name == name
    assert first.is_in_general_midi or any(other.is_in_general_midi for other in others)
    assert len({instrument.name for instrument in (first, *others)}) == 1 + len(others)


def test_what_is_near_comes_in_its_order():
    assert [instrument.name for instrument in stand_ins("bouzouki")][:5] == [
        *("bouzouki", "mandolin", "steel guitar", "acoustic guitar", "guitar")
    ]


@pytest.mark.parametrize(
    "name, family",
    [("cello", "strings"), ("taiko", "percussive"), ("snare drum", "drums"), ("bouzouki", "guitar"), ("oud", "guitar")],
)
def test_an_instrument_is_of_the_family_that_it_or_what_is_near_belongs_to(name, family):
    assert INSTRUMENTS[name].family == family
    assert family in (*FAMILIES, "drums")


@pytest.mark.parametrize(
    "text, name",
    [
        ("Violins", "violin"), ("hi hat", "hi-hat"), ("Hi-Hats", "hi-hat"), ("honky_tonk piano", "honky-tonk piano"),
        ("string", "strings"), ("SAX", "saxophone"), ("Bag  pipes", None), ("bagpipes", "bagpipe"), ("", None),
        ("jew's harps", "jew's harp"), ("upright-bass", "double bass"), ("kazoo", None), ("drum kits", "drums"),
    ],
)  # fmt: skip
def test_a_name_is_found_in_any_usual_spelling(text, name):
    assert instrument_name(text) == name


def test_every_name_spells_itself():
    assert [name for name in INSTRUMENTS if instrument_name(name) != name] == []


# Who plays, and who must not


@pytest.mark.parametrize(
    "instruments, ensemble, exclude",
    [
        ((), None, ()),
        (("cello", "piano"), None, ("drums", "vocals", "jazz")),
        (("guitar",), None, ("jazz guitar",)),
        (("bouzouki",), None, ("guitar",)),
        (("cello",), "solo", ("double bass",)),
        (("cello", "violin"), "duo", ()),
        (("cello", "violin"), "quartet", ()),
        (tuple(f"{lead} lead" for lead in ("saw", "square", "chiff", "fifths", "voice")), "only", ()),
        (("choir", "voice oohs"), "a cappella", ("drums",)),
        ((), "a cappella", ("drums", "bass", "chords")),
    ],
)
def test_what_agrees_passes(instruments, ensemble, exclude):
    check_players(instruments, ensemble, exclude)


@pytest.mark.parametrize(
    "instruments, ensemble, exclude, message",
    [
        (("cello", "viola"), None, ("viola",), "excludes viola, which instruments names"),
        (("jazz guitar",), None, ("guitar",), "excludes jazz guitar"),
        (("bouzouki",), None, ("bouzouki",), "excludes bouzouki"),
        (("hi-hat",), None, ("drums",), "excludes hi-hat"),
        (("snare drum",), None, ("percussion",), "excludes snare drum"),
        ((), None, ("bass", "chords", "drums", "melody", "pad"), "leaves nothing that sounds"),
        (("cello", "viola"), "solo", (), "has 1 instrument, but 2 are named"),
        ((), "only", (), "name them in instruments"),
        (("choir", "harp"), "a cappella", (), "leave out harp"),
        ((), "a cappella", ("choir",), "excludes the voices"),
        ((), "a cappella", ("vocals",), "excludes the voices"),
    ],
)
def test_what_contradicts_is_refused(instruments, ensemble, exclude, message):
    with pytest.raises(InvalidRequest, match=message):
        check_players(instruments, ensemble, exclude)


@pytest.mark.parametrize("name", EXCLUDABLE)
def test_everything_that_can_be_excluded_is_found_by_its_name(name):
    assert excludable_name(name) == name
    assert excludable_name(name.replace("-", " ").upper()) == name


@pytest.mark.parametrize("name", ["doom", "chill", "", "lo-fi beats"])
def test_words_that_only_mean_a_style_are_no_names_to_exclude(name):
    assert excludable_name(name) is None
