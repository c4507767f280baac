"""The files of all languages: the same entries in each, phrases that can be found, and none that says two things."""

import gc
from collections import Counter

import pytest

from orchestrion.tracks.intent.genres import genres
from orchestrion.tracks.intent.lexicon import LANGUAGES, english, instruments, read_language
from orchestrion.tracks.intent.text import phrase_tokens

#: A language has names of its own for some genres; the rest go by their international ones.
OWN = {"genre"}
#: Entries that some languages have no words for: accidentals that are part of the note's name, say.
MAY_BE_EMPTY = {
    "key",
    "tonic",
    "fraction",
    "excluded",
    "change",
    "amount",
    "ensemble",
    "number",
    "unit",
    "only",
    "negation",
    "cannot",
    "instrument",
    "degree",
    "function",
}


@pytest.fixture(params=LANGUAGES)
def language(request):
    return request.param


def test_each_has_the_entries_of_every_other(language):
    english, own = read_language("en"), read_language(language)

    assert list(own) == list(english)
    for section in english.keys() - OWN:
        # Notes and numbers have names of their own: "Es", "fünfundzwanzig".
        extra = own[section].keys() - english[section].keys() if section != "number" else set()
        # English names of instruments are common to all.
        extra -= instruments().keys() if section == "instrument" else set()
        # Where compounds are words: "gitaarloos", "beckenfrei".
        extra -= {*own["instrument"]} if section == "excluded" else set()
        assert (sorted(english[section].keys() - own[section].keys()), sorted(extra)) == ([], []), section


def test_nothing_is_left_without_words(language):
    empty = [
        (section, name)
        for section, entries in read_language(language).items()
        for name, phrases in entries.items()
        if not phrases and section not in MAY_BE_EMPTY
    ]
    assert empty == []


def test_every_phrase_has_letters_and_stands_once_in_its_entry(language):
    for section, entries in read_language(language).items():
        for name, phrases in entries.items():
            folded = [phrase_tokens(phrase) for phrase in phrases]
            assert all(folded), (section, name)
            assert [tokens for tokens, count in Counter(folded).items() if count > 1] == [], (section, name)


def test_own_names_of_genres_are_of_genres_that_there_are(language):
    assert read_language(language)["genre"].keys() - genres().keys() == set()


def test_stars_stand_at_an_end_of_a_word_of_which_three_letters_are_known(language):
    for section, entries in read_language(language).items():
        for name, phrases in entries.items():
            for token in (
                token for phrase in phrases for token in phrase_tokens(phrase) if "*" in token and token != "*"
            ):
                assert token.count("*") == 1 and len(token) >= 4, (section, name, token)


@pytest.mark.parametrize("collects", [True, False])
def test_reading_a_vocabulary_leaves_garbage_to_whoever_collected_it_before(collects):
    (gc.enable if collects else gc.disable)()
    try:
        english.__wrapped__()

        assert gc.isenabled() is collects
    finally:
        gc.enable()
