"""Prompts that differ in figures that say nothing are read once, and every prompt is read as if it were the first."""

import json
import random
import re

import pytest

from benchmarks.intent import FOLDER
from orchestrion.tracks.intent.numbered import OncePerNumber
from orchestrion.tracks.intent.reader import read

DIGIT = re.compile(r"\d")


@pytest.fixture
def read_once():
    """Like the reader's, with the prompts that were really read."""
    read_prompts = []

    def make(prompt):
        read_prompts.append(prompt)
        return read(prompt)

    return OncePerNumber(make, most_characters=100_000), read_prompts


@pytest.mark.parametrize(
    "form",
    [
        "sad piano, take {}",
        "calm lofi for rainy nights, take {}",
        "level {} of a castle, orchestral",
        "Folge {}: ruhiges Klavier",
        "canción número {}, flamenco triste",
        "第{}集的片尾曲，钢琴",
    ],
)
def test_numbered_takes_are_read_once(read_once, form):
    once, read_prompts = read_once

    intents = {id(once(form.format(number))) for number in range(1100, 1150)}

    assert len(intents) == len(read_prompts) == 1


@pytest.mark.parametrize(
    "one, other",
    [
        ("funk, 112", "funk, 118"),
        ("sad piano, 20 seconds", "sad piano, 40 seconds"),
        ("jazz in 3/4", "jazz in 5/4"),
        ("techno with an 808", "techno with an 809"),
        ("jazz 1:30", "jazz 2:45"),
        ("rock, fade out 4", "rock, fade out 9"),
        ("between 90 and 95 bpm", "between 70 and 75 bpm"),
        ("8-bit jingle", "9-bit jingle"),
        ("sad piano, take 12", "sad piano, take 120"),
    ],
)
def test_figures_that_say_something_are_read_each(read_once, one, other):
    once, read_prompts = read_once

    assert [once(one), once(other)] == [read(one)[0], read(other)[0]]
    assert read_prompts == [one, other]


def all_prompts():
    files = sorted(FOLDER.rglob("*.jsonl"))
    return [json.loads(line)["prompt"] for file in files for line in file.read_text("utf-8").splitlines()]


def test_whatever_was_read_before_a_prompt_is_read_as_alone(read_once):
    once, read_prompts = read_once
    chance = random.Random(17)
    numbered = [prompt for prompt in all_prompts() if DIGIT.search(prompt)]

    for prompt in numbered:
        for _ in range(3):
            variant = DIGIT.sub(lambda _: chance.choice("0123456789"), prompt)
            assert once(variant) == read(variant)[0], variant

    assert len(numbered) > 500
    assert len(read_prompts) < 3 * len(numbered)


def test_figures_that_are_words_of_a_language_are_read_after_others_of_their_length(read_once):
    once, _ = read_once
    for prompt in ("techno, 707 kick", "techno, 808 kick", "techno, 303 kick", "techno, 909 kick", "techno, 505 kick"):
        assert once(prompt) == read(prompt)[0]


def test_what_stands_for_a_digit_is_no_digit(read_once):
    once, _ = read_once
    once("sad piano, take 12")

    assert once("sad piano, take \0\0") == read("sad piano, take \0\0")[0]


def test_no_more_than_so_much_is_kept():
    read_prompts = []
    once = OncePerNumber(lambda prompt: (read_prompts.append(prompt) or prompt, False), most_characters=2)

    for prompt in ("a", "b", "c", "c", "a"):
        once(prompt)

    assert read_prompts == ["a", "b", "c", "a"]
