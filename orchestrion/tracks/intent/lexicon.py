"""The words of all languages, from one file each, and where they stand in a text.

A file has the same sections and names as every other; what stands behind a name are the phrases of that language.
"*" at an end of a word stands for any letters: "grust*", "*musik".
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any, Final

from orchestrion.tracks.intent.genres import genres
from orchestrion.tracks.intent.text import Form, Text, Token, phrase_tokens

_FOLDER: Final = resources.files("orchestrion.tracks.intent") / "languages"
#: By ISO 639-1: those that have a file.
LANGUAGES: Final = tuple(
    sorted(file.name.removesuffix(".toml") for file in _FOLDER.iterdir() if file.name.endswith(".toml"))
)
#: Signs that may stand inside a phrase without being part of it: "hip-hop", "drum 'n' bass".
_INSIDE: Final = frozenset("-'(")
#: Of a word with "*", the least that is known of it.
_LEAST_KNOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Match:
    """A phrase of the vocabulary in a text."""

    section: str
    name: str
    language: str
    #: Its tokens: the first, and the one after the last.
    first: int
    after: int

    @property
    def length(self) -> int:
        """In tokens."""
        return self.after - self.first


@dataclass(slots=True)
class _Node:
    """A place in the tree of all phrases: what may come next, and what ends here."""

    words: dict[str, _Node] = field(default_factory=dict)
    beginnings: dict[str, _Node] = field(default_factory=dict)
    endings: dict[str, _Node] = field(default_factory=dict)
    meanings: list[tuple[str, str, str]] = field(default_factory=list)

    def child(self, token: str) -> _Node:
        """The node after a token, made where there is none."""
        if token.endswith("*") and len(token) > 1:
            return self.beginnings.setdefault(token[:-1], _Node())
        if token.startswith("*") and len(token) > 1:
            return self.endings.setdefault(token[1:], _Node())
        return self.words.setdefault(token, _Node())

    def after(self, token: Token) -> Iterator[_Node]:
        """The nodes after a token of a text."""
        text = token.text
        if text in self.words:
            yield self.words[text]
        if token.form is not Form.WORD:
            return
        if self.beginnings:
            for length in range(_LEAST_KNOWN, len(text) + 1):
                if (found := self.beginnings.get(text[:length])) is not None:
                    yield found
        if self.endings:
            for begin in range(1, len(text) - _LEAST_KNOWN + 1):
                if (found := self.endings.get(text[begin:])) is not None:
                    yield found


class Lexicon:
    """The phrases of some languages."""

    def __init__(self, languages: Mapping[str, Mapping[str, Mapping[str, Sequence[str]]]]) -> None:
        self._root = _Node()
        for language, sections in languages.items():
            for section, names in sections.items():
                for name, phrases in names.items():
                    for phrase in phrases:
                        self._add(phrase, (section, name, language))

    def _add(self, phrase: str, meaning: tuple[str, str, str]) -> None:
        node = self._root
        for token in phrase_tokens(phrase):
            node = node.child(token)
        node.meanings.append(meaning)

    def matches(self, text: Text) -> list[Match]:
        """Every phrase that stands in the text, in the order of their beginnings."""
        found: dict[Match, None] = {}
        for first in range(len(text.tokens)):
            for meaning, after in self._from(text.tokens, first, self._root):
                found[Match(*meaning, first, after)] = None
        return list(found)

    def _from(
        self, tokens: Sequence[Token], at: int, node: _Node, begun: bool = False
    ) -> Iterator[tuple[tuple[str, str, str], int]]:
        for meaning in node.meanings:
            yield meaning, at
        if at == len(tokens):
            return
        for following in node.after(tokens[at]):
            yield from self._from(tokens, at + 1, following, True)
        if begun and tokens[at].text in _INSIDE and at + 1 < len(tokens) and (node.words or node.beginnings):
            for following in node.after(tokens[at + 1]):
                yield from self._from(tokens, at + 2, following, True)


def read_language(language: str) -> dict[str, dict[str, Any]]:
    """The file of one language."""
    return tomllib.loads(_text_of(language))


@lru_cache(maxsize=len(LANGUAGES))
def lexicon(language: str) -> Lexicon:
    """The phrases of a language; read when a prompt may be in it."""
    return Lexicon({language: read_language(language)})


@lru_cache(maxsize=len(LANGUAGES))
def small_words(language: str) -> Lexicon:
    """The words that tell a language: the first section of its file, which is read in no time."""
    first = _text_of(language).partition("\n[filler]")[0]
    return Lexicon({language: tomllib.loads(first)})


@lru_cache(maxsize=1)
def genre_names() -> Lexicon:
    """The names of genres that all languages have in common."""
    surely = {name: [each for each in genre.names if each not in genre.in_context] for name, genre in genres().items()}
    perhaps = {name: genre.in_context for name, genre in genres().items()}
    return Lexicon({"": {"genre": surely, "maybe_genre": perhaps}})


def _text_of(language: str) -> str:
    return (_FOLDER / f"{language}.toml").read_text("utf-8")
