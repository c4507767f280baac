"""The words of all languages, from one file each, and where they stand in a text.

A file has the same sections and names as every other; what stands behind a name are the phrases of that language.
"*" at an end of a word stands for any letters: "grust*", "*musik".
"""

from __future__ import annotations

import gc
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import resources
from typing import Any, Final, NamedTuple, TypeAlias

from orchestrion.tracks.intent.genres import genres, uses
from orchestrion.tracks.intent.text import Form, Text, Token, is_hangul, phrase_tokens

#: By ISO 639-1: those that have a file.
LANGUAGES: Final = tuple(
    sorted(
        file.name.removesuffix(".toml")
        for file in resources.files("orchestrion.tracks.intent").joinpath("languages").iterdir()
        if file.name.endswith(".toml")
    )
)
#: The sections of what can be wanted, in whose words a wrong letter is overlooked.
CONTENT: Final = (
    "style", "genre", "mood", "use", "instrument", "excluded", "dynamics", "energy", "tempo", "change", "fade", "form",
    "ensemble", "only", "unit", "key", "section",
)  # fmt: skip
#: Signs that may stand inside a phrase without being part of it: "hip-hop", "drum 'n' bass".
_INSIDE: Final = frozenset("-'(")
#: Section, name and language.
Meaning: TypeAlias = tuple[str, str, str]
_NOTHING: Final[Mapping[str, Any]] = {}
#: Of a word with "*", the least that is known of it.
_LEAST_KNOWN: Final = 3
#: Of a word that may be spelt wrong, in letters; of one with a letter missing, too many or wrong.
_LEAST_SPELT: Final = 5
_LONG: Final = 7
#: Figures that phrases have, of all languages that were read: 808, 8 (of 8-bit).
_FIGURES: Final[set[str]] = set()
#: Words of texts of which is kept in mind what they mean; words are people's, and any number of them.
_MOST_WORDS: Final = 16_384
_VOWEL: Final = re.compile("[aeiouyаеиоуыэюя]")


class Match(NamedTuple):
    """A phrase of the vocabulary in a text."""

    section: str
    name: str
    language: str
    #: Its tokens: the first, and the one after the last.
    first: int
    after: int

    @property
    def span(self) -> tuple[int, int]:
        """Its tokens: the first, and the one after the last."""
        return self.first, self.after

    @property
    def length(self) -> int:
        """In tokens."""
        return self.after - self.first


class _Node:
    """A place in the tree of all phrases: what may come next, and what ends here."""

    __slots__ = ("apart", "beginnings", "endings", "meanings", "words")

    def __init__(self) -> None:
        # Most nodes are ends of phrases: they have no dictionary of their own.
        self.words: Mapping[str, _Node] = _NOTHING
        #: Syllables of Hangul that may stand behind a space.
        self.apart: Mapping[str, _Node] = _NOTHING
        self.beginnings: Mapping[str, _Node] = _NOTHING
        self.endings: Mapping[str, _Node] = _NOTHING
        self.meanings: tuple[Meaning, ...] = ()

    @property
    def is_leaf(self) -> bool:
        """Whether no phrase goes on."""
        return not (self.words or self.apart or self.beginnings or self.endings)

    def child(self, token: str) -> _Node:
        """The node after a token, made where there is none."""
        kind = "words"
        if token.endswith("*") and len(token) > 1:
            kind, token = "beginnings", token[:-1]
        elif token.startswith("*") and len(token) > 1:
            kind, token = "endings", token[1:]
        elif token.startswith(" "):
            kind, token = "apart", token[1:]
        following = getattr(self, kind)
        if following is _NOTHING:
            following = {}
            setattr(self, kind, following)
        node: _Node = following.setdefault(token, _Node())
        return node

    def after(self, token: Token, begun: bool) -> list[_Node]:
        """The nodes after a token of a text; `begun`: it is not the first of the phrase."""
        text, found = token.text, []
        plain = self.words.get(text)
        if plain is not None and not (begun and token.apart and is_hangul(text)):
            found.append(plain)
        if token.form is not Form.WORD:
            if self.apart and (apart := self.apart.get(text)) is not None:
                found.append(apart)
            return found
        if self.beginnings:
            known = (text[:length] for length in range(_LEAST_KNOWN, len(text) + 1))
            found += [self.beginnings[each] for each in known if each in self.beginnings]
        if self.endings:
            known = (text[begin:] for begin in range(1, len(text) - _LEAST_KNOWN + 1))
            found += [self.endings[each] for each in known if each in self.endings]
        return found


class Lexicon:
    """The phrases of some languages."""

    def __init__(self, languages: Mapping[str, Mapping[str, Mapping[str, Sequence[str]]]]) -> None:
        self._root = _Node()
        self._begun: dict[str, tuple[_Node, ...]] = {}
        #: Of each language the words that say something of music.
        self._words: dict[str, set[str]] = {}
        self._spellings: dict[str, Spelling] = {}
        for language, sections in languages.items():
            for section, names in sections.items():
                for name, phrases in names.items():
                    meaning = (section, name, language)
                    for phrase in phrases:
                        self._add(phrase, meaning)

    def _add(self, phrase: str, meaning: Meaning) -> None:
        node = self._root
        tokens = phrase_tokens(phrase)
        for token in tokens:
            node = node.child(token)
        node.meanings += (meaning,)
        _FIGURES.update(token for token in tokens if token[0].isdecimal())
        section, _, language = meaning
        if section in CONTENT:
            self._words.setdefault(language or "en", set()).update(tokens)

    def spelling(self, language: str) -> Spelling:
        """How the words of a language that say something of music are spelt."""
        if language not in self._spellings:
            self._spellings[language] = Spelling(self._words.get(language, ()))
        return self._spellings[language]

    def matches(self, text: Text) -> list[Match]:
        """Every phrase that stands in the text, in the order of their beginnings."""
        tokens = text.exact
        found: dict[Match, None] = {}
        for first, token in enumerate(tokens):
            reached = [(node, first + 1) for node in self._begun_by(token)]
            while reached:
                node, at = reached.pop()
                for section, name, language in node.meanings:
                    found[Match(section, name, language, first, at)] = None
                if node.is_leaf or at == len(tokens):
                    continue
                reached += [(following, at + 1) for following in node.after(tokens[at], True)]
                if tokens[at].text in _INSIDE and at + 1 < len(tokens) and (node.words or node.beginnings):
                    # Two of them: "drum-'n-bass".
                    at += tokens[at + 1].text in _INSIDE and at + 2 < len(tokens)
                    reached += [(following, at + 2) for following in node.after(tokens[at + 1], False)]
        return list(found)

    def _begun_by(self, token: Token) -> Sequence[_Node]:
        """The nodes after a first token, which are looked for once a word: most words begin nothing."""
        if token.form is Form.NUMBER:
            # Each another one, and hardly any has a phrase.
            return self._root.after(token, False)
        begun = self._begun.get(token.text)
        if begun is None:
            if len(self._begun) == _MOST_WORDS:
                self._begun = {}
            begun = self._begun[token.text] = tuple(self._root.after(token, False))
        return begun


class Spelling:
    """The words of a vocabulary, by what they become where one letter is wrong.

    That are two letters that changed places, a letter doubled or not, one that is missing or too many, or another
    vowel. Short words are left alone: each of them is nearly another.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._words = frozenset(word for word in words if len(word) >= _LEAST_SPELT and word.isalpha())
        # Each text has the same few words that no vocabulary has.
        self._nearest = lru_cache(maxsize=_MOST_WORDS)(self._find_nearest)
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
        if len(word) < _LEAST_SPELT or word in self._words:
            return None
        return self._nearest(word)

    def _find_nearest(self, word: str) -> str | None:
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


def is_in_a_phrase(figures: str) -> bool:
    """Whether figures are part of some phrase of the languages that were read so far."""
    return figures in _FIGURES


def read_language(language: str) -> dict[str, dict[str, Any]]:
    """The file of one language."""
    return tomllib.loads(_text_of(language))


@contextmanager
def _no_collections() -> Iterator[None]:
    """While a tree grows, half of the time would go into looking through it for garbage, again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@lru_cache(maxsize=1)
@_no_collections()
def english() -> Lexicon:
    """The phrases of English, the language of the trade, and what all languages have in common.

    That are the names of genres and instruments; English also has what only sounds like them.
    """
    own = read_language("en")
    traps = tomllib.loads(_read("traps_en.toml"))["traps"]
    own["nothing"] = own["nothing"] | traps
    own["use"] = {name: [*own["use"].get(name, ()), *use.names] for name, use in uses().items()}
    surely = {name: [each for each in genre.names if each not in genre.in_context] for name, genre in genres().items()}
    perhaps = {name: genre.in_context for name, genre in genres().items()}
    common: Mapping[str, Mapping[str, Sequence[str]]] = {
        "genre": surely,
        "maybe_genre": perhaps,
        "instrument": instruments(),
        "maybe_instrument": _maybe_instruments(),
        "artist": artists(),
    }
    return Lexicon({"": common, "en": own})


@lru_cache(maxsize=8)
@_no_collections()
def lexicon(languages: tuple[str, ...]) -> Lexicon:
    """The phrases of some languages, in one tree; read when a prompt may be in them."""
    return Lexicon({language: read_language(language) for language in languages})


@lru_cache(maxsize=8)
def small_words(languages: tuple[str, ...]) -> Lexicon:
    """The words that tell languages: the first section of each file, which is read in no time."""
    first = {language: _text_of(language).partition("\n[filler]")[0] for language in languages}
    return Lexicon({language: tomllib.loads(text) for language, text in first.items()})


@lru_cache(maxsize=1)
def instruments() -> Mapping[str, Sequence[str]]:
    """Of each instrument the names that mean nothing else in any language."""
    return {
        name: [each for each in (name, *table.get("names", ())) if each not in table.get("in_context", ())]
        for name, table in _instrument_tables().items()
    }


class StandIn(NamedTuple):
    """What plays an instrument that General MIDI has no sound for."""

    plays_as: str
    #: That, as people are told it.
    said: str


@lru_cache(maxsize=1)
def stand_ins() -> Mapping[str, StandIn]:
    """Of each instrument without a sound of its own the one that plays it."""
    tables = _instrument_tables().items()
    return {name: StandIn(table["plays_as"], table["said"]) for name, table in tables if "plays_as" in table}


@lru_cache(maxsize=1)
def _instrument_tables() -> Mapping[str, Mapping[str, Any]]:
    return tomllib.loads(_read("instruments.toml"))


def _maybe_instruments() -> Mapping[str, Sequence[str]]:
    """Of each instrument the names that everyday words have, too."""
    tables = _instrument_tables().items()
    return {name: table["in_context"] for name, table in tables if "in_context" in table}


@lru_cache(maxsize=1)
def artists() -> Mapping[str, Sequence[str]]:
    """Of each style the artists whose music is nearest to it."""
    return tomllib.loads(_read("artists.toml"))


def _text_of(language: str) -> str:
    return _read(f"languages/{language}.toml")


def _read(file: str) -> str:
    return resources.files("orchestrion.tracks.intent").joinpath(file).read_text("utf-8")
