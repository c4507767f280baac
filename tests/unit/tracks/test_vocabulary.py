"""The vocabulary as a whole: names can be told apart, written and found."""

import itertools

import pytest

from orchestrion.tracks.vocabulary import MOODS, STYLES, canonical_name

MOOD_WORDS = {name: mood.words for name, mood in MOODS.items()}


@pytest.mark.parametrize("vocabulary", [STYLES, MOOD_WORDS], ids=["styles", "moods"])
def test_no_word_means_two_things(vocabulary):
    words = list(
        itertools.chain.from_iterable({name, name.replace("-", " "), *said} for name, said in vocabulary.items())
    )

    assert sorted(word for word in set(words) if words.count(word) > 1) == []


@pytest.mark.parametrize("vocabulary", [STYLES, MOOD_WORDS], ids=["styles", "moods"])
def test_every_word_names_its_style_or_mood(vocabulary):
    wrong = [
        (word, name)
        for name, words in vocabulary.items()
        for word in (name, name.replace("-", " "), name.replace("-", "_"), name.upper(), *words)
        if canonical_name(word, vocabulary) != name
    ]

    assert wrong == []


@pytest.mark.parametrize("vocabulary", [STYLES, MOOD_WORDS], ids=["styles", "moods"])
def test_names_and_words_are_as_prompts_are_compared(vocabulary):
    # Prompts are compared in lower case with plain hyphens and apostrophes: another form could never be found.
    for name, words in vocabulary.items():
        assert name.replace("-", "").isalpha() and name.isascii()
        assert all(word == word.casefold().strip() and word.isascii() for word in (name, *words))


def test_there_are_as_many_styles_as_promised():
    assert len(STYLES) >= 20


def test_moods_lie_on_the_circumplex_and_no_two_at_the_same_place():
    assert all(-1 <= mood.valence <= 1 and 0 <= mood.energy <= 1 for mood in MOODS.values())
    assert len({(mood.valence, mood.energy) for mood in MOODS.values()}) == len(MOODS)


@pytest.mark.parametrize("text", ["", " ", "polka", "rock!", "../rock", "\x00", "drum"])
def test_what_is_not_in_the_vocabulary_has_no_name(text):
    assert canonical_name(text, STYLES) is None
