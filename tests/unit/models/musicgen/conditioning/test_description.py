"""What a MusicGen is told in words."""

import pytest

from orchestrion.models.musicgen.conditioning.description import description
from orchestrion.models.protocol import Conditioning
from orchestrion.tracks.spec import TrackSpec


def heard(**fields) -> str:
    request = TrackSpec.from_json(fields).resolve()
    return description(Conditioning.of(request.composition, None, None))


@pytest.mark.parametrize(
    "prompt",
    [
        "slow sad piano in D minor, 70 bpm, 20 seconds",
        "neon city at night.",
        "80s pop, no drums",
        "  line one\nline two ",
        "静かなピアノ",
    ],
)
def test_a_prompt_alone_is_heard_as_it_was_written(prompt):
    assert heard(prompt=prompt) == prompt.strip()


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"style": "drum-and-bass"}, "a walk in the rain, drum and bass"),
        ({"mood": "nostalgic"}, "a walk in the rain, nostalgic"),
        ({"tempo_bpm": 120}, "a walk in the rain, 120 bpm"),
        ({"tempo_bpm": 92.5}, "a walk in the rain, 92.5 bpm"),
        ({"key": "F# dorian"}, "a walk in the rain, in F# dorian"),
        (
            {"style": "jazz", "mood": "calm", "tempo_bpm": 88, "key": "Eb"},
            "a walk in the rain, jazz, calm, 88 bpm, in Eb major",
        ),
        ({"duration_s": 12, "seed": 7, "negative_prompt": "drums"}, "a walk in the rain"),
    ],
    ids=str,
)
def test_fields_are_said_after_the_prompt(fields, expected):
    assert heard(prompt="a walk in the rain", **fields) == expected


def test_what_the_prompt_says_already_is_not_said_twice():
    prompt = "slow sad piano in D minor, 70 bpm"

    assert heard(prompt=prompt, style="piano", mood="sad", tempo_bpm=70, key="d min") == prompt


def test_a_field_that_says_something_else_than_the_prompt_is_said():
    assert heard(prompt="slow piano, 70 bpm", tempo_bpm=140, key="A minor") == "slow piano, 70 bpm, 140 bpm, in A minor"


@pytest.mark.parametrize("end", [".", ",", "...", "; ", ":"])
def test_the_end_of_a_sentence_does_not_come_before_what_follows(end):
    assert heard(prompt=f"a walk in the rain{end}", tempo_bpm=90) == "a walk in the rain, 90 bpm"
