"""The four sets of prompts of benchmarks/intent_prompts have the form that their README says."""

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.intent import SETS, Score, over_all, prompts_of, score, shown
from orchestrion.tracks.intent.intent import Intent
from orchestrion.tracks.musical_key import TONIC_NAMES
from orchestrion.tracks.request import SAMPLE_RATES_HZ, AudioFormat
from orchestrion.tracks.strict_json import parse_json_object
from orchestrion.tracks.vocabulary import MOODS, STYLES

FOLDER = Path(__file__).parents[3] / "benchmarks" / "intent_prompts"
LANGUAGES = ("en", "es", "pt", "fr", "de", "it", "nl", "pl", "ru", "ja", "ko", "zh")
VOCABULARY = json.loads((FOLDER / "vocabulary.json").read_text("utf-8"))
INSTRUMENTS = VOCABULARY["instruments"] | VOCABULARY["instruments_outside_general_midi"]
EXCLUSIONS = {*INSTRUMENTS, *VOCABULARY["other_exclusions"], *VOCABULARY["styles"], *VOCABULARY["moods"]}


def read_prompts(folder):
    return {
        language: [
            parse_json_object(line, f"{folder.name}/{language}.jsonl:{number}")
            for number, line in enumerate((folder / f"{language}.jsonl").read_text("utf-8").splitlines(), start=1)
        ]
        for language in LANGUAGES
    }


PROMPTS = read_prompts(FOLDER)
SECOND = read_prompts(FOLDER / "second")
THIRD = read_prompts(FOLDER / "third")
HELD_OUT = read_prompts(FOLDER / "held_out")

_KEY = re.compile(rf"(?:(?:{'|'.join(map(re.escape, TONIC_NAMES))}) )?(?:{'|'.join(VOCABULARY['modes'])})")


def is_range(value, lowest, highest):
    return (
        isinstance(value, list)
        and [type(bound) in (int, float) for bound in value] == [True, True]
        and lowest <= value[0] <= value[1] <= highest
    )


def is_number(value, lowest, highest):
    return type(value) in (int, float) and lowest <= value <= highest


def is_list_of(value, vocabulary):
    return isinstance(value, list) and bool(value) and len({*value}) == len(value) and {*value} <= {*vocabulary}


def is_style(value):
    if isinstance(value, str):
        return value in VOCABULARY["styles"]
    return value.keys() == {"genre", "nearest"} and is_list_of(value["nearest"], VOCABULARY["styles"])


def is_key(value):
    return isinstance(value, str) and _KEY.fullmatch(value) is not None


def is_ensemble(value):
    instruments = value["instruments"]
    return (
        value.keys() == {"kind", "instruments"}
        and value["kind"] in VOCABULARY["ensembles"]
        and (instruments == [] or is_list_of(instruments, INSTRUMENTS))
    )


def is_section(value):
    length = value.get("duration_s", value.get("bars"))
    return (
        value.keys() in ({"name", "duration_s"}, {"name", "bars"})
        and value["name"] in VOCABULARY["sections"]
        and is_number(length, 1, 600)
    )


#: Field → whether a value has its form.
FIELDS = {
    "style": is_style,
    "mood": lambda value: is_list_of(value, VOCABULARY["moods"]),
    "use": lambda value: is_list_of(value, VOCABULARY["uses"]),
    "tempo_bpm": lambda value: is_range(value, 20, 300),
    "tempo_end_bpm": lambda value: is_range(value, 20, 300),
    "key": is_key,
    "key_end": is_key,
    "metre": lambda value: value in VOCABULARY["metres"],
    "duration_s": lambda value: is_range(value, 1, 3600),
    "bars": lambda value: type(value) is int and 1 <= value <= 128,
    "loop": lambda value: value is True,
    "sections": lambda value: len(value) >= 2 and all(map(is_section, value)),
    "instruments": lambda value: is_list_of(value, INSTRUMENTS),
    "ensemble": is_ensemble,
    "exclude": lambda value: is_list_of(value, EXCLUSIONS),
    "fade_in_s": lambda value: is_number(value, 0.1, 30),
    "fade_out_s": lambda value: is_number(value, 0.1, 30),
    "loudness_lufs": lambda value: is_number(value, -30, -9),
    "format": lambda value: value in VOCABULARY["formats"],
    "channels": lambda value: type(value) is int and value in (1, 2),
    "sample_rate_hz": lambda value: type(value) is int and value in SAMPLE_RATES_HZ[AudioFormat.WAV],
    "energy": lambda value: value in VOCABULARY["energies"],
    "dynamics": lambda value: value in VOCABULARY["dynamics"],
    "conflict": lambda value: value.keys() == {"field"} and value["field"] in FIELDS,
}
#: A piece has several of these; of every other thing it has one.
SEVERAL = {"mood", "use", "instruments", "exclude"}


@pytest.fixture(params=LANGUAGES)
def language(request):
    return request.param


@pytest.fixture(params=[PROMPTS, SECOND, THIRD, HELD_OUT], ids=["tuned", "second", "third", "held-out"])
def prompts(request, language):
    return request.param[language]


def test_the_vocabulary_has_the_styles_moods_and_formats_of_the_product():
    assert {*STYLES} <= {*VOCABULARY["styles"]}
    assert {*MOODS} == {*VOCABULARY["moods"]}
    assert {*AudioFormat} == {*VOCABULARY["formats"]}


def test_the_readme_explains_every_field_and_kind():
    readme = (FOLDER / "README.md").read_text("utf-8")

    assert [name for name in (*FIELDS, *VOCABULARY["unfollowable"]) if f"`{name}`" not in readme] == []


def test_fifty_prompts_of_which_half_are_nasty(language):
    prompts = PROMPTS[language]

    assert [prompt["id"] for prompt in prompts] == [f"{language}-{number:03}" for number in range(1, 51)]
    assert sum(prompt["nasty"] for prompt in prompts) >= 25


@pytest.mark.parametrize(
    "chosen, letter", [(SECOND, "h"), (THIRD, "k"), (HELD_OUT, "m")], ids=["second", "third", "held-out"]
)
def test_twenty_prompts_of_which_half_are_nasty(chosen, letter, language):
    prompts = chosen[language]

    assert [prompt["id"] for prompt in prompts] == [f"{language}-{letter}{number:02}" for number in range(1, 21)]
    assert sum(prompt["nasty"] for prompt in prompts) == 10


def test_each_language_asks_for_everything_that_can_be_asked_for(language):
    prompts = PROMPTS[language]

    assert {entry["field"] for prompt in prompts for entry in prompt["asked"]} == {*FIELDS}
    assert {entry["kind"] for prompt in prompts for entry in prompt["unfollowable"]} == {*VOCABULARY["unfollowable"]}
    assert any(prompt["not_asked"] for prompt in prompts)


@pytest.mark.parametrize("chosen", [SECOND, THIRD, HELD_OUT], ids=["second", "third", "held-out"])
def test_the_smaller_sets_ask_for_everything_over_all_languages(chosen):
    prompts = [prompt for prompts in chosen.values() for prompt in prompts]

    assert {entry["field"] for prompt in prompts for entry in prompt["asked"]} == {*FIELDS}
    assert {entry["kind"] for prompt in prompts for entry in prompt["unfollowable"]} == {*VOCABULARY["unfollowable"]}


def test_no_prompt_stands_twice():
    texts = Counter(
        " ".join(unicodedata.normalize("NFKC", prompt["prompt"]).casefold().split())
        for prompts in (*PROMPTS.values(), *SECOND.values(), *THIRD.values(), *HELD_OUT.values())
        for prompt in prompts
    )

    assert [text for text, count in texts.items() if count > 1] == []


def test_each_prompt_has_the_same_members(prompts):
    for prompt in prompts:
        where = prompt["id"]
        assert prompt.keys() == {"id", "prompt", "asked", "unfollowable", "not_asked", "nasty", "note"}, where
        assert type(prompt["nasty"]) is bool and type(prompt["note"]) is str, where
        assert prompt["prompt"] == prompt["prompt"].strip() != "" and len(prompt["prompt"]) <= 2000, where
        assert prompt["asked"] or prompt["unfollowable"], where
        assert all({*entry} - {"or"} == {"field", "value", "words"} for entry in prompt["asked"]), where
        assert all(entry.keys() == {"words", "kind"} for entry in prompt["unfollowable"]), where
        assert all(entry.keys() == {"words", "field"} for entry in prompt["not_asked"]), where


def test_each_expectation_stands_on_words_of_the_prompt(prompts):
    for prompt in prompts:
        for entry in [*prompt["asked"], *prompt["unfollowable"], *prompt["not_asked"]]:
            assert entry["words"] == entry["words"].strip() != "", prompt["id"]
            assert entry["words"] in prompt["prompt"], (prompt["id"], entry["words"])


def test_each_value_is_of_its_fields_form(prompts):
    for prompt in prompts:
        for entry in prompt["asked"]:
            for reading in (entry, *entry.get("or", ())):
                assert FIELDS[reading["field"]](reading["value"]), (prompt["id"], reading)
        assert {entry["kind"] for entry in prompt["unfollowable"]} <= {*VOCABULARY["unfollowable"]}, prompt["id"]
        assert {entry["field"] for entry in prompt["not_asked"]} <= {*FIELDS}, prompt["id"]


def test_expectations_do_not_contradict_one_another(prompts):
    for prompt in prompts:
        fields = Counter(entry["field"] for entry in prompt["asked"] if entry["field"] not in SEVERAL)
        asked = {(entry["field"], entry["words"]) for entry in prompt["asked"]}
        not_asked = {(entry["field"], entry["words"]) for entry in prompt["not_asked"]}

        assert [field for field, count in fields.items() if count > 1] == [], prompt["id"]
        assert len(asked) == len(prompt["asked"]), prompt["id"]
        assert asked & not_asked == set(), prompt["id"]


def unread(_):
    return Intent(readings=(), not_followed=(), conflicts=(), not_understood=(), languages=())


def test_what_is_shown_has_nothing_of_the_held_out_prompts():
    scores = {name: {"de": score(prompts_of("de", folder), unread)} for name, folder in SETS.items()}

    assert [len(scores[name]["de"].misses) > 20 for name in SETS] == [True, True, True, True]
    assert {line.split(" ")[0] for line in shown(scores, "de")} == {
        p["id"] for p in (*PROMPTS["de"], *SECOND["de"], *THIRD["de"])
    }


def test_the_figure_over_all_languages_counts_each_thing_asked_once():
    scores = [Score(asked=10, right=9, said=1), Score(asked=30, right=15, said=9)]

    assert over_all(scores) == {"asked": 40, "right_percent": 60.0, "missed_and_not_said_percent": 15.0}
