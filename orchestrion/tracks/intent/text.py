"""A prompt as tokens: folded so that spelling, width and accents do not matter, each with its place in the original."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple

from orchestrion.tracks.intent.han import SIMPLIFIED
from orchestrion.tracks.intent.intent import Words

#: Letters that Unicode does not take apart, as people type them who have no such key.
_PLAIN: Final = str.maketrans({
    "ł": "l", "ø": "o", "đ": "d", "ß": "ss", "æ": "ae", "œ": "oe", "ı": "i", "ё": "е", "‐": "-", "‑": "-", "‒": "-",
    "–": "-", "—": "-", "−": "-", "’": "'", "‘": "'", "´": "'", "`": "'", "“": '"', "”": '"', "„": '"', "♯": "#",
    "♭": "b", "～": "~", "〜": "~", "、": ", ", "，": ", ", "。": ". ", "・": ",", "：": ":",
})  # fmt: skip
#: Fractions in one character.
FRACTIONS: Final = {"½": 0.5, "¼": 0.25, "¾": 0.75, "⅓": 1 / 3, "⅔": 2 / 3}
#: Scripts without spaces, or whose particles are written onto words: each character is a token. Hangul, kana, Han.
_CHARACTERS: Final = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7a3々〆"
#: Scripts of India and Thai, whose vowels are marks on letters and parts of words.
_VOWEL_SIGNS: Final = "\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e"
_TOKEN: Final = re.compile(
    rf"(?P<character>[{_CHARACTERS}])|(?P<word>(?:[^\W\d_{_CHARACTERS}\u0300-\u036f]|(?!\d)[{_VOWEL_SIGNS}])+)|(?P<number>\d+(?:[.,]\d+)*)|(?P<symbol>\S)"
)
#: The same of a phrase of the vocabulary.
_PHRASE: Final = re.compile(rf"[{_CHARACTERS}]|\*?[^\W\d_{_CHARACTERS}]+\*?|\d+(?:[.,]\d+)*|[^\s'*-]")


#: Stands for a mark that belongs to the letter before it; of no meaning in Unicode.
_MARK: Final = "\ue000"
#: Characters whose folding is kept in mind: there are a million.
_MOST_FOLDED: Final = 8192


class Form(Enum):
    """What a token is made of."""

    WORD = "word"
    CHARACTER = "character"
    NUMBER = "number"
    SYMBOL = "symbol"


#: By the group of `_TOKEN`, which always has one.
_FORMS: Final[dict[str | None, Form]] = {form.value: form for form in Form}


class Token(NamedTuple):
    """A word, a character of a script without spaces, a number in figures, or a sign."""

    text: str
    form: Form
    start: int
    end: int
    #: Whether a space or the beginning stands before it.
    apart: bool


#: Ends of clauses, which no "no" and no list crosses.
STOPS: Final = frozenset(".;!?()[]/|\n…→>")
#: Between the parts of a list.
COMMAS: Final = frozenset(",")
#: What rules see of figures.
_FIGURES: Final = "#"


class Text:
    """A prompt and its tokens.

    Rules work on `tokens`, in which all figures are the same, and ask for those that they look at: so it is known where
    a reading has nothing of them. Phrases of the vocabulary are found in `exact`.
    """

    __slots__ = ("exact", "original", "tokens")

    def __init__(self, original: str) -> None:
        self.original = original
        folded, places = _folded(original)
        self.exact = tuple(
            Token(
                match[0],
                _FORMS[match.lastgroup],
                places[match.start()],
                places[match.end() - 1] + 1,
                match.start() == 0 or folded[match.start() - 1].isspace(),
            )
            for match in _TOKEN.finditer(folded)
        )
        self.tokens = self._without_figures()

    def _without_figures(self) -> tuple[Token, ...]:
        if all(token.form is not Form.NUMBER for token in self.exact):
            return self.exact
        return tuple(t._replace(text=_FIGURES) if t.form is Form.NUMBER else t for t in self.exact)

    def spelt(self, words: Mapping[int, str]) -> None:
        """Read some tokens as other words: those that are meant."""
        self.exact = tuple(
            token._replace(text=words[at]) if at in words else token for at, token in enumerate(self.exact)
        )
        self.tokens = self._without_figures()

    def is_capital(self, at: int) -> bool:
        """Whether a token begins with a capital."""
        return self.original[self.tokens[at].start].isupper()

    def words(self, first: int, after: int) -> Words:
        """The words from one token up to another, which is not part of them."""
        start, end = self.tokens[first].start, self.tokens[after - 1].end
        return Words(self.original[start:end], start, end)


def _folded(text: str) -> tuple[str, Sequence[int]]:
    """The text folded, and for each character of that its place in the text."""
    if text.isascii():
        return text.casefold(), range(len(text))
    folded = text.translate(_FOLDING)
    if len(folded) == len(text) and _MARK not in folded:
        return folded, range(len(text))
    letters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        if letters and unicodedata.combining(character):
            # A mark of its own: part of the letter before it (и + ̆ is й), or a stress that no dictionary writes.
            whole = unicodedata.normalize("NFC", letters[-1][-1:] + character)
            letters[-1] = letters[-1][:-1] + _plain(whole) if len(whole) == 1 else letters[-1]
            continue
        plain = _FOLDING[ord(character)] if letters else _plain(character)
        letters.append(plain)
        places.extend([place] * len(plain))
    return "".join(letters), places


def _plain(character: str) -> str:
    if "\uac00" <= character <= "\ud7a3" or "\u3040" <= character <= "\u30ff" or character in FRACTIONS:
        return character.translate(_PLAIN)
    if character in SIMPLIFIED:
        return SIMPLIFIED[character]
    wide = unicodedata.normalize("NFKC", character.translate(_PLAIN)).casefold().translate(_PLAIN)
    return "".join(_without_accent(each) for each in wide)


def _without_accent(letter: str) -> str:
    base = unicodedata.normalize("NFD", letter)[0]
    return base if base.isascii() else letter


class _Folding(dict[int, str]):
    """What `str.translate` makes of each character, worked out when it first comes."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        folded = _MARK if unicodedata.combining(character) else _plain(character)
        if len(self) < _MOST_FOLDED:
            self[code] = folded
        return folded


_FOLDING: Final = _Folding()


def phrase_tokens(phrase: str) -> tuple[str, ...]:
    """The tokens of a phrase of the vocabulary; "*" at an end of a word stands for any letters.

    A syllable of Hangul behind a space has a space before it: people leave spaces out, but put none into a word.
    """
    folded = phrase.casefold() if phrase.isascii() else _folded(phrase)[0]
    tokens: list[str] = _PHRASE.findall(folded)
    if not any(map(is_hangul, tokens)):
        return tuple(tokens)
    return tuple(
        f" {match[0]}" if is_hangul(match[0]) and folded[: match.start()].endswith(" ") else match[0]
        for match in _PHRASE.finditer(folded)
    )


def is_hangul(token: str) -> bool:
    """Whether it is a syllable of Korean."""
    return "\uac00" <= token[0] <= "\ud7a3"
