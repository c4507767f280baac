"""Words that are spelt wrong by one letter, and the word of the vocabulary that is meant.

Two letters that changed places, a letter doubled or not, one that is missing or too many, or another vowel. Short words
are left alone: each of them is nearly another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from orchestrion.tracks.intent.lexicon import phrases_of
from orchestrion.tracks.intent.text import phrase_tokens

#: Of a word that may be spelt wrong, in letters; of one with a letter missing, too many or wrong.
_SHORTEST: Final = 5
_LONG: Final = 7
_VOWEL: Final = re.compile("[aeiouyаеиоуыэюя]")


class Spelling:
    """The words of a vocabulary, by what they become where one letter is wrong."""

    def __init__(self, words: Iterable[str]) -> None:
        self._words = frozenset(word for word in words if len(word) >= _SHORTEST and word.isalpha())
        # Two words that become the same are told by nothing: neither is meant.
        self._shortened: dict[str, str | None] = {}
        self._without_vowels: dict[str, str | None] = {}
        for word in self._words:
            if len(word) >= _LONG:
                for shorter in {word[:at] + word[at + 1 :] for at in range(1, len(word))}:
                    self._shortened[shorter] = None if shorter in self._shortened else word
                masked = _VOWEL.sub("?", word)
                self._without_vowels[masked] = None if masked in self._without_vowels else word

    def meant(self, word: str) -> str | None:
        """The word of the vocabulary that one that is not in it stands for."""
        if len(word) < _SHORTEST or word in self._words:
            return None
        places = range(1, len(word))
        swapped = {word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :] for at in places[1:]}
        doubled = {word[:at] + word[at - 1] + word[at:] for at in range(1, len(word) + 1)}
        single = {word[:at] + word[at + 1 :] for at in places if word[at] == word[at - 1]}
        found = (swapped | single | (doubled if len(word) >= _LONG - 1 else set())) & self._words
        if not found and len(word) >= _LONG:
            missing = self._shortened.get(word)
            found |= {missing} if missing else set()
        if not found and len(word) > _LONG:
            longer = {word[:at] + word[at + 1 :] for at in places} & self._words
            found |= longer
        if not found and len(word) >= _LONG:
            vowels = self._without_vowels.get(_VOWEL.sub("?", word))
            found |= {vowels} if vowels is not None and vowels[0] == word[0] and _differ(vowels, word) == 1 else set()
        return found.pop() if len(found) == 1 else None


def _differ(one: str, other: str) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


@lru_cache(maxsize=16)
def spelling(language: str) -> Spelling:
    """The words of a language that say something of music."""
    return Spelling(token for phrase in phrases_of(language) for token in phrase_tokens(phrase))
