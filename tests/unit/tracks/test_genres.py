"""The data of the words people use for music: genres, instruments, uses, and phrases that only sound like music."""

import json
import re
import tomllib
import unicodedata
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from orchestrion.tracks.instruments import INSTRUMENTS, stand_ins
from orchestrion.tracks.musical_key import SCALE_STEPS
from orchestrion.tracks.strict_json import parse_json_object
from orchestrion.tracks.vocabulary import ENERGIES, METRES, MOODS, PARTS

ROOT = Path(__file__).parents[3]
DATA = ROOT / "orchestrion" / "tracks" / "intent"
PROMPTS = ROOT / "benchmarks" / "intent_prompts"
GENRES, WORDS, USES = (
    tomllib.loads((DATA / f"{name}.toml").read_text("utf-8")) for name in ("genres", "instruments", "uses")
)
TRAPS = tomllib.loads((DATA / "traps_en.toml").read_text("utf-8"))["traps"]
VOCABULARY = json.loads((PROMPTS / "vocabulary.json").read_text("utf-8"))
STYLES = {*VOCABULARY["styles"]}
#: What is played, and what only has a style of ours near it.
OURS, OTHERS = (
    {name: genre for name, genre in GENRES.items() if (genre["distance"] == 0) == ours} for ours in (True, False)
)
#: Instruments of requests, and those that only have a stand-in among them.
KNOWN = {*INSTRUMENTS, *WORDS}


def folded(text):
    """Without case, accents, apostrophes, hyphens and spaces: how a name is compared."""
    letters = unicodedata.normalize("NFKD", text.casefold().translate(str.maketrans("łøđ", "lod")))
    return re.sub(r"[\s\-'’.]", "", "".join(letter for letter in letters if not unicodedata.combining(letter)))


def names_of(tables):
    return [(name, table) for table, members in tables.items() for name in (table, *members.get("names", ()))]


def named_twice(tables):
    counts = Counter(folded(name) for name, _ in {(folded(name), table) for name, table in names_of(tables)})
    return [(name, table) for name, table in names_of(tables) if counts[folded(name)] > 1]


def readings(prompt):
    return [reading for entry in prompt["asked"] for reading in (entry, *entry.get("or", ()))]


@cache
def prompts_of(language):
    lines = (PROMPTS / f"{language}.jsonl").read_text("utf-8").splitlines()
    return [parse_json_object(line, f"{language}.jsonl:{number}") for number, line in enumerate(lines, start=1)]


ASKED_GENRES = [
    (prompt["id"], reading["value"]["genre"], reading["value"]["nearest"])
    for path in sorted(PROMPTS.glob("*.jsonl"))
    for prompt in prompts_of(path.stem)
    for reading in readings(prompt)
    if reading["field"] == "style" and isinstance(reading["value"], dict)
]


def test_there_are_as_many_genres_and_instruments_as_people_ask_for():
    without_a_sound = [name for name in WORDS if name not in INSTRUMENTS or not INSTRUMENTS[name].is_in_general_midi]

    assert len(OTHERS) >= 420
    assert len(without_a_sound) >= 100
    assert sum(map(len, TRAPS.values())) >= 150


@pytest.mark.parametrize("tables", [GENRES, WORDS, USES], ids=["genres", "instruments", "uses"])
def test_no_name_means_two_things(tables):
    assert named_twice(tables) == []
    for table, members in tables.items():
        spelt = [" ".join(name.casefold().replace("-", " ").split()) for name in (table, *members.get("names", ()))]
        assert len({*spelt}) == len(spelt), table
        assert {*members.get("in_context", ())} <= {table, *members.get("names", ())}, table


def test_a_genre_and_an_instrument_share_no_name():
    genres, instruments = ({name.casefold() for name, _ in names_of(tables)} for tables in (GENRES, WORDS))

    assert genres & instruments == set()


def test_every_genre_leads_to_styles_of_ours():
    for name, genre in GENRES.items():
        assert name == name.casefold().strip(), name
        assert genre["nearest"] and {*genre["nearest"]} <= STYLES, name
        assert len({*genre["nearest"]}) == len(genre["nearest"]), name
        assert 0 <= genre["distance"] <= 1, name


def test_each_style_is_one_genre_and_keeps_its_own_tempo_and_sound():
    assert sorted(style for genre in OURS.values() for style in genre["nearest"]) == sorted(STYLES)
    for name, genre in OURS.items():
        assert genre.keys() <= {"names", "nearest", "distance"}, name


def test_what_a_genre_changes_can_be_asked_for():
    own = {"tempo_bpm", "metre", "instruments", "exclude", "key_mode", "mood", "uses"}

    for name, genre in OTHERS.items():
        low, high = genre["tempo_bpm"]
        assert genre.keys() <= {"names", "in_context", "nearest", "distance", *own}, name
        assert 40 <= low < high <= min(260, 3 * low), name
        assert genre.get("metre", "4/4") in METRES, name
        assert genre.get("key_mode", "major") in SCALE_STEPS, name
        assert {*genre.get("mood", ())} <= {*MOODS}, name
        assert {*genre.get("uses", ())} <= {*USES}, name
        assert {*genre.get("instruments", ())} <= KNOWN, name
        assert {*genre.get("exclude", ())} <= {*KNOWN, *PARTS}, name
        assert {*genre.get("instruments", ())} & {*genre.get("exclude", ())} == set(), name


@pytest.mark.parametrize(
    "prompt, genre, nearest", ASKED_GENRES, ids=[f"{where} {name}" for where, name, _ in ASKED_GENRES]
)
def test_the_genres_that_the_prompts_ask_for_lead_where_their_reviewers_would_look(prompt, genre, nearest):
    assert {*GENRES[genre.casefold()]["nearest"]} <= {*nearest}


def names_in(text, names):
    """The longest names that stand in a text: what each belongs to, and from where to where it stands."""
    words = [(folded(word[0]), word.start(), word.end()) for word in re.finditer(r"[^\W_]+(?:['’][^\W_]+)*|&", text)]
    found = []
    for first in range(len(words)):
        for after in range(len(words), first, -1):
            known = names.get(" ".join(word for word, _, _ in words[first:after]))
            if known and not any(start <= words[first][1] and words[after - 1][2] <= end for _, start, end in found):
                found.append((known, words[first][1], words[after - 1][2]))
    return found


def styles_of(prompt):
    """All styles that some reading of the prompt comes to."""
    values = [reading["value"] for reading in readings(prompt) if reading["field"] == "style"]
    return {style for value in values for style in (value["nearest"] if isinstance(value, dict) else [value])}


def test_a_genres_name_means_it_wherever_the_prompts_have_it():
    names = {
        " ".join(folded(word) for word in re.findall(r"[^\s-]+", name)): table
        for name, table in names_of(OTHERS)
        if name not in OTHERS[table].get("in_context", ())
    }
    found = [
        (prompt, genre, prompt["prompt"][start:end])
        for path in PROMPTS.glob("*.jsonl")
        for prompt in prompts_of(path.stem)
        for genre, start, end in names_in(prompt["prompt"], names)
    ]

    assert len(found) >= 60
    for prompt, genre, words in found:
        unwanted = [entry["words"] for entry in prompt["asked"] if entry["field"] == "exclude"]
        if not any(words in phrase for phrase in unwanted):
            assert OTHERS[genre]["nearest"][0] in styles_of(prompt), (prompt["id"], genre, words)


def test_styles_that_the_prompts_exclude_are_known():
    known = {folded(name) for name, _ in names_of(GENRES)}
    no_genres = {*PARTS, *KNOWN, "vocals", "minor"}

    assert {name for name in {*VOCABULARY["other_exclusions"]} - no_genres if folded(name) not in known} == set()


def test_every_instrument_of_a_request_has_words():
    assert WORDS.keys() >= INSTRUMENTS.keys()
    assert [name for name in INSTRUMENTS if not WORDS[name].get("names")] == []


def test_the_instruments_of_the_prompts_are_known_with_all_that_they_may_be_read_as():
    spelt = {folded(name): table for name, table in names_of(WORDS)}
    wanted = VOCABULARY["instruments"] | VOCABULARY["instruments_outside_general_midi"]

    assert {*wanted} <= KNOWN
    assert {other for near in wanted.values() for other in near if folded(other) not in spelt} == set()


def test_what_has_no_sound_is_played_by_something_that_has_one():
    for name, words in WORDS.items():
        if name in INSTRUMENTS and INSTRUMENTS[name].is_in_general_midi:
            assert words.keys() <= {"names", "in_context"}, name
            continue
        assert words.keys() - {"names", "in_context", "near"} == {"plays_as", "said"}, name
        assert re.fullmatch(rf"played by (an? )?{re.escape(words['plays_as'])}", words["said"]), name
        # Models go by the module: a second list of what is near would differ from it one day.
        assert ("near" in words) == (name not in INSTRUMENTS), name
        assert {*words.get("near", ())} <= KNOWN - {name}, name
        near = stand_ins(name) if name in INSTRUMENTS else map(INSTRUMENTS.get, words["near"])
        assert words["plays_as"] == next(other.name for other in near if other and other.is_in_general_midi), name


def test_every_use_has_styles_moods_and_a_tempo():
    assert USES.keys() == {*VOCABULARY["uses"]}
    for name, use in USES.items():
        low, high = use["tempo_bpm"]
        assert use.keys() - {"energy"} == {"names", "styles", "mood", "tempo_bpm"}, name
        assert use["styles"] and {*use["styles"]} <= STYLES, name
        assert use["mood"] and {*use["mood"]} <= {*MOODS}, name
        assert 40 <= low < high <= 180, name
        assert use.get("energy", "low") in ENERGIES, name


def tokens(text):
    return re.findall(r"[\w'#&]+", text.casefold().replace("-", " "))


def spaced(text):
    """Words between single spaces, with one at either end: a phrase is in a text where it is within it."""
    return f" {' '.join(tokens(text))} "


def test_a_trap_holds_its_word_and_something_else():
    seen = Counter(spaced(phrase) for phrases in TRAPS.values() for phrase in phrases)

    assert [phrase for phrase, count in seen.items() if count > 1] == []
    for word, phrases in TRAPS.items():
        forms = {word, f"{word}s", f"{word}es", f"{word}r", f"{word}ed", f"{word}ing", f"{word}#", "c#", "f#"}
        assert [phrase for phrase in phrases if not forms & {*tokens(phrase)} or len(tokens(phrase)) < 2] == [], word


def trapped_in(prompt):
    """The traps that stand in the prompt: words of music and the phrases that make them none."""
    text = spaced(prompt["prompt"])
    return [(word, phrase) for word, phrases in TRAPS.items() for phrase in phrases if spaced(phrase) in text]


def test_traps_hide_nothing_that_the_english_prompts_ask_for():
    for prompt in prompts_of("en"):
        for word, phrase in trapped_in(prompt):
            hidden = [
                entry
                for entry in prompt["asked"]
                if word in tokens(entry["words"]) and spaced(entry["words"]) in spaced(phrase)
            ]
            assert hidden == [], (prompt["id"], phrase)


def test_traps_catch_those_that_the_english_prompts_lay():
    caught = {prompt["id"] for prompt in prompts_of("en") if trapped_in(prompt)}

    assert caught >= {"en-006", "en-007", "en-012", "en-018", "en-028", "en-038"}
