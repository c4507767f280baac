"""Names of bands, shops, dogs and books: whatever their words say, they ask for no music."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from orchestrion.tracks.intent.lexicon import Match
from orchestrion.tracks.intent.text import COMMAS, Form, Text

#: Of the name of a band or a shop, in words.
_NAME: Final = 4
_QUOTES: Final = frozenset("\"'«»「」『』")
#: Of these, the ones that are no apostrophes. In most languages the two are folded to one sign.
_DOUBLE_QUOTES: Final = frozenset('"«»')
#: Quotation marks with those that close them, and those in which titles stand.
_PAIRS: Final = {'"': '"', "「": "」", "『": "』", "《": "》", "〈": "〉", "«": "»"}
_TITLES: Final = frozenset("『《〈")
#: Of what stands in quotation marks, at most, in tokens.
_LONGEST_TITLE: Final = 16


def without_quoted(text: Text, found: list[Match]) -> list[Match]:
    """Without what is a part of a name: in «Вальс цветов» and "Metalowa Dolina" one word says nothing of music."""
    quotes = [at for at, token in enumerate(text.tokens) if token.text in _DOUBLE_QUOTES]
    if len(quotes) < 2:
        return found
    known = {at for match in found for at in range(match.first, match.after)}
    names: set[int] = set()
    for first, last in zip(quotes[::2], quotes[1::2], strict=False):
        inside = range(first + 1, last)
        words = [at for at in inside if text.tokens[at].form is Form.WORD]
        is_name = 1 < len(words) <= _NAME and all(at in words or text.tokens[at].text == "-" for at in inside)
        # "The shop «House Decor»", "the channel «Jazz Rock»".
        is_told = any(match.section == "use" and match.after == first for match in found)
        is_told = is_told or not known.issuperset(words)
        if is_name and text.is_capital(words[0]) and is_told:
            names.update(words)
    return [match for match in found if names.isdisjoint(range(match.first, match.after))]


def without_titles(text: Text, matches: list[Match], language: str) -> list[Match]:
    """Without what only stands in a name or is sung: a café that is called "Rock", the book 《金属学原理》."""
    quoted = _quoted(text)
    for first, after in quoted:
        # Sung words are about whatever they like: lyrics: "sad goodbye, slow night".
        before = any(
            m.after == first or (m.after == first - 1 and text.tokens[m.after].text == ":")
            for m in matches
            if m.section == "cannot" and m.name in ("named_before", "lyrics")
        )
        behind = any(m.first == after for m in matches if m.section == "cannot" and m.name == "named_after")
        if before or behind or text.tokens[first].text in _TITLES:
            matches = [m for m in matches if m.after <= first or after <= m.first or m.section == "artist"]
            matches.append(Match("nothing", "phrases", language, first, after))
    return sorted(matches, key=lambda match: (match.first, -match.after)) if quoted else matches


def _quoted(text: Text) -> list[tuple[int, int]]:
    """What stands in quotation marks, with them."""
    spans: list[tuple[int, int]] = []
    first = -1
    for at, token in enumerate(text.tokens):
        if first >= 0 and token.text == _PAIRS[text.tokens[first].text]:
            if at - first <= _LONGEST_TITLE:
                spans.append((first, at + 1))
            first = -1
        elif first < 0 and token.text in _PAIRS:
            first = at
    return spans


def names_in(text: Text, found: Iterable[Match]) -> list[Match]:
    """What somebody or something is called, which is no music: "our band Country Gravy"."""
    names: list[Match] = []
    plain = [match for match in found if match.section == "nothing"]
    for match in plain:
        # "A dance called Polka" names no band.
        within = any(o.first <= match.first < match.after <= o.after and o.length > match.length for o in plain)
        if match.name not in ("named", "named_after") or within:
            continue
        if match.name == "named":
            first, after = _name_from(text, match.after)
        else:
            after, first = _name_from(text, match.first - 1, -1)
            first, after = first + 1, after + 1
        if first < after:
            names.append(Match("nothing", "phrases", match.language, first, after))
    return names


def _name_from(text: Text, at: int, step: int = 1) -> tuple[int, int]:
    """The quoted words, or those with capitals, from a token on in a direction."""
    tokens = text.tokens
    begin, is_quoted = at, False
    if step < 0 and 0 <= at < len(tokens) and tokens[at].text in COMMAS:
        # "Disco, my dog".
        at = begin = at - 1
        longest = 1
    else:
        longest = _NAME
    if 0 <= at < len(tokens) and tokens[at].text in _QUOTES:
        at, is_quoted, longest = at + step, True, 2 * _NAME
        begin = at
    while 0 <= at < len(tokens) and abs(at - begin) < longest:
        if is_quoted and tokens[at].text in _QUOTES:
            return begin, at
        if not is_quoted and not (tokens[at].form is Form.WORD and text.is_capital(at)):
            break
        at += step
    # A word at the very beginning has its capital anyway.
    is_beginning = not is_quoted and step < 0 and at < 0
    return (begin, begin) if is_quoted or is_beginning or text.original.isupper() else (begin, at)
