"""Who plays: ensembles, instruments that were asked for, and what must not sound, in every style."""

from __future__ import annotations

import io
from collections import Counter

import mido
import pytest

from orchestrion.errors import InvalidRequest
from orchestrion.models.composer.composition.repertoire import RECIPES
from orchestrion.models.composer.mixer import part_lufs
from orchestrion.models.composer.model import compose
from orchestrion.models.composer.score import Score, midi_bytes
from orchestrion.models.protocol import Conditioning
from orchestrion.tracks.instruments import INSTRUMENTS
from orchestrion.tracks.vocabulary import STYLES
from tests.composing import composed, conditioning, score_of

#: General MIDI's programs by their families, as the specification lists them.
STRINGS = {*range(40, 47), *range(48, 52)} - {46}
BRASS, WINDS, GUITARS, BASSES = set(range(56, 64)), set(range(56, 80)), set(range(24, 32)), {*range(32, 40), 43}
SYNTHESIZERS = {38, 39, 50, 51, 62, 63, *range(80, 104)}
SNARES, CYMBALS = {38, 40}, {49, 51, 52, 53, 55, 57, 59}


def played(score: Score) -> Counter[str]:
    """How many parts each instrument plays."""
    assert all(part.notes for part in score.parts)
    return Counter(part.instrument.name for part in score.parts)


def programs(score: Score) -> set[int]:
    """The General MIDI programs of all that has pitch."""
    return {part.instrument.midi_program for part in score.parts if part.notes and not part.instrument.is_drums}


def test_the_midi_file_has_the_same_programs_as_the_score() -> None:
    for style in STYLES:
        score = score_of(style, 12.0, instruments=("tin whistle", "timpani"))
        tracks = mido.MidiFile(file=io.BytesIO(midi_bytes(score))).tracks[1:]
        changes = [next(m for m in track if m.type == "program_change") for track in tracks]
        assert {change.program for change in changes if change.channel != 9} == programs(score)


def drum_keys(score: Score) -> set[int]:
    return {note.pitch for part in score.parts if part.instrument.is_drums for note in part.notes}


def at_a_time(score: Score, role: str) -> int:
    """The most notes that a part begins together."""
    part = score.part(role)
    assert part is not None
    return max(Counter(round(note.start * 8) for note in part.notes).values())


@pytest.mark.parametrize("style", [*STYLES, None])
@pytest.mark.parametrize("instrument", ["cello", "flute"])
def test_a_solo_is_one_part_that_plays_one_line_alone(style: str | None, instrument: str) -> None:
    score = score_of(style, ensemble="solo", instruments=(instrument,))
    assert played(score) == {instrument.title(): 1}
    low, high = {"cello": (36, 76), "flute": (60, 96)}[instrument]
    assert all(low <= note.pitch <= high for note in score.parts[0].notes)
    # It plays from the beginning: nobody else has the introduction.
    assert score.parts[0].notes[0].start < 2 * score.metre.beats
    assert at_a_time(score, score.parts[0].role) == 1


@pytest.mark.parametrize("style", STYLES)
def test_a_solo_of_a_piano_is_one_part_with_melody_chords_and_bass(style: str) -> None:
    score = score_of(style, ensemble="solo", instruments=("piano",))
    assert played(score) == {"Grand Piano": 1}
    pitches = [note.pitch for note in score.parts[0].notes]
    assert min(pitches) < 48 and max(pitches) > 66
    assert at_a_time(score, score.parts[0].role) >= 2


@pytest.mark.parametrize("style", STYLES)
def test_small_ensembles_are_who_they_are(style: str) -> None:
    quartet = score_of(style, ensemble="quartet", instruments=("strings",))
    assert played(quartet) == {"Violin": 2, "Viola": 1, "Cello": 1}
    assert all(at_a_time(quartet, part.role) == 1 for part in quartet.parts)
    trio = score_of(style, ensemble="trio", instruments=("piano",))
    if style in ("classical", "waltz", "cinematic", "choral"):
        assert played(trio) == {"Grand Piano": 1, "Violin": 1, "Cello": 1}
    else:
        assert {part.role for part in trio.parts} == {"lead", "bass", "drums"}
        assert next(part for part in trio.parts if part.role == "lead").instrument.name == "Grand Piano"
    assert played(score_of(style, ensemble="duo", instruments=("cello", "harp"))) == {"Cello": 1, "Harp": 1}
    assert played(score_of(style, ensemble="quartet", instruments=("saxophone",))) == {"Tenor Saxophone": 4}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("ensemble", "size"), [("solo", 1), ("duo", 2), ("trio", 3), ("quartet", 4)])
def test_an_ensemble_without_names_is_of_the_style_and_of_its_size(style: str, ensemble: str, size: int) -> None:
    for instruments in (None, ("violin",), ("organ",), ("drums",)):
        score = score_of(style, 12.0, ensemble=ensemble, instruments=instruments)
        assert len(score.parts) == size, (instruments, played(score))


@pytest.mark.parametrize("style", STYLES)
def test_only_is_nothing_but_the_instruments(style: str) -> None:
    assert played(score_of(style, ensemble="only", instruments=("flute", "harp"))) == {"Flute": 1, "Harp": 1}
    pads = score_of(style, ensemble="only", instruments=("synth pad",))
    assert played(pads) == {"Warm Pad": 1} and pads.parts[0].role == "pad"
    hands = score_of(style, ensemble="only", instruments=("cajon", "claps"))
    assert all(part.instrument.is_drums for part in hands.parts) and 39 in drum_keys(hands)
    assert SNARES.isdisjoint(drum_keys(hands))
    band = score_of(style, ensemble="only", instruments=("bass", "drums"))
    assert {part.role for part in band.parts} == {"bass", "drums"}


@pytest.mark.parametrize("style", [*STYLES, None])
def test_a_cappella_is_voices_alone(style: str | None) -> None:
    score = score_of(style, ensemble="a cappella")
    assert set(played(score)) == {"Choir"}
    assert 3 <= len(score.parts) <= 4


ASKED = (
    ("ukulele", "claps"), ("double bass", "drums"), ("harp",), ("slap bass", "brass"), ("clarinet",),
    ("tin whistle", "fiddle"), ("piano",), ("synth bass",), ("electric guitar",), ("music box",), ("choir", "organ"),
    ("washboard", "accordion"), ("pedal steel",), ("congas", "trumpet", "trombone"), ("timpani", "strings"),
    ("sitar", "tabla"), ("harpsichord", "oboe", "bassoon"), ("marimba", "glockenspiel", "kalimba", "vibraphone"),
    ("electric piano", "saxophone"), ("synth pad", "synth lead"), ("banjo", "fiddle", "double bass", "mandolin"),
    ("drums",), ("percussion",), ("cowbell",), ("koto", "shakuhachi", "taiko"), ("orchestra",), ("bagpipe",),
)  # fmt: skip


@pytest.mark.parametrize("instruments", ASKED, ids=" ".join)
def test_asked_instruments_are_among_the_parts_in_every_style(instruments: tuple[str, ...]) -> None:
    for style in STYLES:
        plan, score = composed(style, 16.0, instruments=instruments)
        sounding = programs(score)
        names = {part.instrument.name for part in score.parts}
        assert [name for name, _ in plan.band.played_by] == list(instruments)
        for name, by in plan.band.played_by:
            wanted = INSTRUMENTS[name]
            can = set(wanted.programs) & _IN_THE_FONT
            if can and not wanted.notes:
                assert can & sounding, (style, name, names)
            elif wanted.notes:
                assert set(wanted.notes) & drum_keys(score), (style, name)
            for one in by.split(" + "):
                what, _, role = one.partition(" (")
                part = score.part(role.rstrip(")"))
                assert part is not None, (style, name, by)
                assert part.instrument.is_drums or part.instrument.name == what


#: The melodic presets of the composer's sound font.
_IN_THE_FONT = {
    0, 4, 9, 10, 11, 12, 14, 16, 18, 21, 22, 24, 25, 26, 27, 29, 30, 32, 33, 34, 36, 38, 39, 40, 41, 42, 43, 46, 48, 49,
    50, 52, 56, 60, 61, 66, 68, 71, 73, 75, 80, 81, 87, 89, 90, 91, 104, 105, 107, 108,
}  # fmt: skip


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_every_instrument_there_is_a_name_for_can_play_alone_and_is_said(name: str) -> None:
    try:
        plan, score = composed(None, 12.0, ensemble="only", instruments=(name,))
    except InvalidRequest as refused:
        assert INSTRUMENTS[name].family == "sound effects" and "nobody to play" in str(refused)
        return
    assert played(score)
    (asked, by), *_ = plan.band.played_by
    assert asked == name and by.partition(" (")[0]


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_every_asked_instrument_has_its_place_in_the_mix_of_a_band(name: str) -> None:
    _, score = composed("jazz", 8.0, instruments=(name,))
    assert all(-60 < part_lufs(score, part) < 0 for part in score.parts)


EXCLUSIONS: dict[str, object] = {
    "strings": STRINGS, "brass": BRASS, "winds": WINDS, "guitar": GUITARS, "synthesizer": SYNTHESIZERS,
    "piano": {0, 1, 2, 3}, "saxophone": set(range(64, 68)), "choir": {52, 53, 54}, "vocals": {52, 53, 54, 85, 91},
    "organ": set(range(16, 21)), "violin": {40}, "accordion": {21}, "electric guitar": {26, 27, 28, 29, 30, 31},
    "bass": BASSES, "flute": {73}, "harp": {46},
    "synth pad": set(range(88, 96)), "orchestra": (STRINGS | BRASS) - {50, 51, 62, 63},
}  # fmt: skip


@pytest.mark.parametrize("name", EXCLUSIONS)
def test_an_excluded_instrument_or_family_has_no_note_in_any_style(name: str) -> None:
    for seed, style in enumerate(STYLES):
        score = score_of(style, 12.0, exclude=(name,), seed=seed)
        assert EXCLUSIONS[name].isdisjoint(programs(score)), style
        assert len(score.parts) >= 2, style
        if name == "synthesizer":
            made = {part.instrument.name for part in score.parts if part.instrument.bank < 0}
            # Neither is one, though no sample is played.
            assert made <= {"Tanpura", "Tuned Cowbell"}, style


@pytest.mark.parametrize("name", ["drums", "percussion"])
def test_excluded_drums_are_all_percussion(name: str) -> None:
    for style in STYLES:
        score = score_of(style, exclude=(name,))
        assert not drum_keys(score), style
        assert {47, *range(112, 120)}.isdisjoint(programs(score)), style


@pytest.mark.parametrize(
    ("name", "keys"),
    [("snare drum", SNARES), ("cymbals", CYMBALS), ("claps", {39}), ("hi-hat", {42, 44, 46}), ("kick drum", {35, 36})],
)
def test_an_excluded_piece_of_the_kit_is_never_struck(name: str, keys: set[int]) -> None:
    for style in STYLES:
        score = score_of(style, 40.0, exclude=(name,))
        assert keys.isdisjoint(drum_keys(score)), style
        if RECIPES[style].groove not in ("tango", "waltz", "celtic", ""):
            assert drum_keys(score), style


@pytest.mark.parametrize(
    ("part", "roles"),
    [
        ("bass", {"bass"}), ("melody", {"lead", "counter"}), ("pad", {"pad", "pad2", "pad3"}),
        ("chords", {"comp", "comp2", "comp3", "arp", "brass", "pad", "pad2", "pad3"}),
    ],
)  # fmt: skip
def test_an_excluded_part_is_not_played_by_anybody(part: str, roles: set[str]) -> None:
    for style in STYLES:
        score = score_of(style, exclude=(part,))
        assert roles.isdisjoint(each.role for each in score.parts), style
        solo = score_of(style, exclude=(part,), ensemble="solo", instruments=("piano",))
        assert len(solo.parts) == 1
        pitches = [note.pitch for note in solo.parts[0].notes]
        if part == "bass":
            assert min(pitches) >= 40, style
        if part == "chords":
            # What is left are a melody and a left hand.
            assert at_a_time(solo, solo.parts[0].role) <= 2, style


def test_who_must_not_play_is_stood_in_for() -> None:
    score = score_of("rock", exclude=("guitar",))
    assert {"lead", "comp", "comp2", "bass"} <= {part.role for part in score.parts}


def test_a_style_that_is_excluded_is_not_chosen() -> None:
    for seed in range(12):
        assert composed(None, seed=seed, mood="calm", exclude=("ambient",))[0].style != "ambient"
    assert composed("jazz", exclude=("jazz",))[0].style == "jazz"


@pytest.mark.parametrize("style", ["pop", "house", "cinematic", "lofi"])
def test_a_mood_that_is_excluded_is_kept_away_from(style: str) -> None:
    assert not score_of(style, exclude=("sad",)).key.is_minor
    assert score_of(style, exclude=("happy",)).key.is_minor
    assert score_of(style, exclude=("energetic",)).tempo.bpm < score_of(style, exclude=("calm",)).tempo.bpm
    assert score_of(style, exclude=("romantic",)).key.is_minor == score_of(style).key.is_minor
    # A mood that is asked for is stronger than one that is not wanted.
    assert score_of(style, mood="dark", exclude=("sad",)).key.is_minor


def test_excluding_everybody_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="nobody to play"):
        score_of(exclude=("drums", "bass", "chords", "melody", "pad"))


def test_fields_stand_above_the_prompt() -> None:
    """What was read of the words comes in the fields; the words are not read a second time."""
    asked = conditioning("rock", exclude=("drums", "bass", "guitar"))
    asked = Conditioning(**{name: getattr(asked, name) for name in asked.__slots__} | {
        "prompt": "no drums, bass or guitars please"
    })  # fmt: skip
    score = compose(asked)[1]
    assert GUITARS.isdisjoint(programs(score)) and BASSES.isdisjoint(programs(score)) and not drum_keys(score)
