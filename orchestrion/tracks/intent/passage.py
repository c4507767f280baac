"""A prompt as the grammar reads it: its tokens, and which phrases of which language count."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Final

from orchestrion.tracks.intent.intent import Words
from orchestrion.tracks.intent.lexicon import LANGUAGES, Lexicon, Match, english, lexicon, small_words
from orchestrion.tracks.intent.names import names_in, without_quoted, without_titles
from orchestrion.tracks.intent.text import COMMAS, STOPS, Form, Text

#: Sections whose words mean something only where others stand beside them: they neither hide others nor are counted.
_GRAMMAR: Final = frozenset(
    {"function", "filler", "number", "tonic", "list", "degree", "amount", "unit", "key", "fraction"}
)
#: Those of them whose words tell a language, if they are long enough: "ciento", "dièse", "battute".
_TELLING: Final = frozenset({"number", "key", "unit", "degree"})
_LEAST_TELLING: Final = 4
#: So many small words of another language beside English ones make it worth a look.
_LEAST_SMALL_WORDS: Final = 2
#: What a word of a language that the prompt is not in may still mean.
_BORROWED: Final = frozenset({"style", "genre", "maybe_genre", "mood", "use", "instrument", "ensemble", "format"})
_LEAST_BORROWED: Final = 5
#: Of a word that may be spelt wrong.
_LEAST_MISSPELT: Final = 5
#: What a longer phrase does not hide: a "wedding march" is for a wedding, a "C blues shuffle" in C blues.
_BESIDE: Final = {
    "use": frozenset({"style", "genre"}),
    "mood": frozenset({"use", "genre", "energy", "dynamics", "tempo"}),
    "tempo": frozenset({"style", "genre", "change"}),
    "key": frozenset({"style", "genre"}),
    "style": frozenset({"genre", "tempo"}),
    "genre": frozenset({"tempo"}),
    "instrument": frozenset({"genre"}),
    "filler": frozenset({"negation"}),
}
#: Names of instruments that everyday words have, too.
_MAYBE: Final = "maybe_instrument"
_NOWHERE: Final[frozenset[str]] = frozenset()
#: Where a "no" may stand, though a longer one ends there too.
_BESIDE_A_NO: Final = frozenset({"before", "after"})
#: Languages that are told by their script.
_OWN_SCRIPT: Final = frozenset({"ja", "ko", "zh", "ru"})
_IN_LATIN: Final = frozenset(LANGUAGES) - _OWN_SCRIPT
#: Languages that are looked for together: those in Latin letters, whose words are in one tree, and each other one.
_GROUPS: Final = (
    tuple(language for language in LANGUAGES if language in _IN_LATIN and language != "en"),
    *((language,) for language in LANGUAGES if language in _OWN_SCRIPT),
)
_NONE: Final[list[Match]] = []
_SCRIPTS: Final = {
    "hangul": ("\uac00", "\ud7a3"),
    "kana": ("\u3040", "\u30ff"),
    "han": ("\u3400", "\u9fff"),
    "cyrillic": ("\u0400", "\u04ff"),
}


class Passage:
    """A prompt, and the phrases in it that count."""

    def __init__(self, prompt: str) -> None:
        self.text = Text(prompt)
        self.languages, found = _languages(self.text)
        if misspelt := _misspelt(self.text, self.languages, found):
            self.text.spelt(misspelt)
            self.languages, found = _languages(self.text)
        self.tokens = self.text.tokens
        #: Whether a rule has looked at what figures say, beyond that they are some.
        self.looks_at_figures = False
        self.matches = without_quoted(self.text, self._that_count(found))
        self._by_section: dict[str, list[Match]] = defaultdict(list)
        self._beginning: dict[tuple[str, int], list[Match]] = defaultdict(list)
        self._ending: dict[tuple[str, int], list[Match]] = defaultdict(list)
        for match in self.matches:
            self._by_section[match.section].append(match)
            self._beginning[match.section, match.first].append(match)
            self._ending[match.section, match.after].append(match)

    def figures(self, at: int) -> str:
        """The figures of a token, "" if it has none, for a rule that decides by them."""
        token = self.text.exact[at]
        if token.form is not Form.NUMBER:
            return ""
        self.looks_at_figures = True
        return token.text

    def has_decimals(self, at: int) -> bool:
        """Whether a token is figures with a comma or a point, whatever they say."""
        token = self.text.exact[at]
        return token.form is Form.NUMBER and not token.text.isdecimal()

    def of(self, section: str, *names: str) -> list[Match]:
        """The phrases of a section, or of some of its names, in order."""
        found = self._by_section.get(section, _NONE)
        return [match for match in found if match.name in names] if names and found else found

    def beginning(self, at: int, section: str, *names: str) -> list[Match]:
        """All phrases of a section that begin at a token."""
        found = self._beginning.get((section, at), _NONE)
        return [match for match in found if match.name in names] if names and found else found

    def starting(self, at: int, section: str, *names: str) -> Match | None:
        """The longest phrase of a section that begins at a token."""
        longest: Match | None = None
        for match in self._beginning.get((section, at), _NONE):
            if (longest is None or match.after > longest.after) and (not names or match.name in names):
                longest = match
        return longest

    def ending(self, after: int, section: str, *names: str) -> Match | None:
        """The longest phrase of a section that ends before a token."""
        longest: Match | None = None
        for match in self._ending.get((section, after), _NONE):
            if (longest is None or match.first < longest.first) and (not names or match.name in names):
                longest = match
        return longest

    def words(self, first: int, after: int) -> Words:
        """The words of some tokens."""
        return self.text.words(first, after)

    def letters(self, match: Match) -> int:
        """How long a phrase is written, without its spaces."""
        return sum(len(token.text) for token in self.tokens[match.first : match.after])

    def skips(self, at: int, step: int = 1, signs: str = "-'\":=~,") -> int:
        """The next token, in the direction of `step`, that is none of these signs."""
        while 0 <= at < len(self.tokens) and self.tokens[at].text in signs:
            at += step
        return at

    def is_end_of_clause(self, at: int) -> bool:
        """Whether a token is the end of the text, a comma or another stop."""
        return not 0 <= at < len(self.tokens) or self.tokens[at].text in STOPS or self.tokens[at].text in COMMAS | {":"}

    def between(self, one: tuple[int, int], other: tuple[int, int]) -> range:
        """The tokens between two spans of tokens."""
        left, right = sorted((one, other))
        return range(left[1], right[0])

    def distance(self, one: tuple[int, int], other: tuple[int, int]) -> int:
        """How far two spans of tokens are from each other; a comma counts as three words, a stop as eight."""
        tokens = [self.tokens[at].text for at in self.between(one, other)]
        return sum(8 if token in STOPS else 3 if token in COMMAS else 1 for token in tokens)

    @cached_property
    def covered(self) -> frozenset[int]:
        """Tokens that some phrase has, and numbers and signs."""
        words = {at for match in self.matches for at in range(match.first, match.after)}
        return frozenset(
            words | {at for at, token in enumerate(self.tokens) if token.form in (Form.NUMBER, Form.SYMBOL)}
        )

    def _that_count(self, found: Iterable[Match]) -> list[Match]:
        # The names of genres belong to no language.
        active = {*self.languages, ""}
        found = list(found)
        maybe = [match for match in found if match.section == _MAYBE]
        found = [match for match in found if match.section != _MAYBE]
        if names := names_in(self.text, [match for match in found if match.language in active]):
            within = {at for name in names for at in range(name.first, name.after)}
            found = [m for m in found if m.section in _GRAMMAR or within.isdisjoint(range(m.first, m.after))] + names
        own = _longest(self._in_the_likeliest([match for match in found if match.language in active]))
        own += self._in_a_list(maybe, own) if maybe else []
        # "Night" is a small word in English, and a club in Italian.
        likeliest = [m for m in own if m.section not in _GRAMMAR or (m.section, m.language) == ("function", "en")]
        taken = {at for match in likeliest for at in range(match.first, match.after)}
        borrowed = [
            match
            for match in found
            if match.language not in active
            and match.section in _BORROWED
            and self._letters(match) >= _LEAST_BORROWED
            and taken.isdisjoint(range(match.first, match.after))
        ]
        both = own + _longest(borrowed)
        rank = {language: number for number, language in enumerate(self.languages)}
        seen: dict[tuple[str, str, int, int], Match] = {}
        for match in sorted(both, key=lambda match: (match.first, -match.after, rank.get(match.language, len(rank)))):
            seen.setdefault((match.section, match.name, match.first, match.after), match)
        return without_titles(self.text, list(seen.values()), self.languages[0])

    def _in_a_list(self, maybe: Iterable[Match], own: list[Match]) -> list[Match]:
        """Of everyday words that are instruments as well those in a list of instruments: "bass, keys, drums"."""
        known = {match.span for match in own if match.section == "instrument"}
        begins, ends = {first for first, _ in known}, {after for _, after in known}
        small = ("list", "filler", "negation")
        opens = {match.after for match in own if match.section in small}
        lists = [match for match in own if match.section == "list"]
        no = {match.after for match in own if (match.section, match.name) == ("negation", "before")}
        joined: list[Match] = []
        for match in sorted(maybe, key=lambda match: (match.first, -match.after)):
            if match.span in known:
                continue
            left = {match.first} | {link.first for link in lists if link.after == match.first}
            left |= {at - 1 for at in left if at and self.text.tokens[at - 1].text in COMMAS}
            right = {match.after} | ({match.after + 1} if self._is_comma(match.after) else set())
            right |= {link.after for link in lists if link.first in right}
            stands_left = match.first in opens or self.text.tokens[match.first - 1].text in STOPS | COMMAS | {":", "-"}
            is_end = not match.after < len(self.text.tokens) or self.text.tokens[match.after].text in STOPS | COMMAS
            stands_right = is_end or len(right) > 1
            is_beside = any(at in ends for at in left - {match.first}) or any(
                at in begins for at in right - {match.after}
            )
            if (not match.first or stands_left) and stands_right and (is_beside or (match.first in no and is_end)):
                joined.append(match._replace(section="instrument"))
                begins.add(match.first)
                ends.add(match.after)
        return joined

    def _is_comma(self, at: int) -> bool:
        return at < len(self.text.tokens) and self.text.tokens[at].text in COMMAS

    def _in_the_likeliest(self, found: list[Match]) -> list[Match]:
        """Of meanings of the same words in several languages those in the likeliest; its small words mean no more."""
        rank = {language: number for number, language in enumerate(self.languages)}
        best: dict[tuple[int, int], int] = {}
        known: set[int] = set()
        kinds = {m.span for m in found if m.section in ("style", "genre") and m.language == self.languages[0]}
        for match in found:
            if match.language in rank and (match.section not in _GRAMMAR or match.section == "function"):
                span = match.span
                best[span] = min(best.get(span, len(rank)), rank[match.language])
                if not rank[match.language]:
                    known.update(range(*span))

        def counts(match: Match) -> bool:
            if match.section in _GRAMMAR:
                return True
            if match.language not in rank:
                # The common name of a genre or an instrument, where the language has none of its own.
                return match.span not in (best if match.section in ("instrument", "artist") else kinds)
            number = rank[match.language]
            if number and match.section == "nothing" and match.language != "en":
                return False
            # "e piano" is "and piano" in Portuguese: each of its words is known there.
            is_chance = number > 0 and match.length > 1 and known.issuperset(range(match.first, match.after))
            return number == best[match.first, match.after] and not is_chance

        return [match for match in found if counts(match)]

    def _letters(self, match: Match) -> int:
        return sum(len(token.text) for token in self.tokens[match.first : match.after] if token.form is Form.WORD)


def _longest(found: Iterable[Match]) -> list[Match]:
    """Without those that stand inside a longer one: "bass" in "bass fishing"."""
    matches = list(found)
    # A phrase of one token hides nothing.
    hiding = [m for m in matches if m.after - m.first > 1 and (m.section not in _GRAMMAR or m.section == "amount")]
    if not hiding:
        return matches

    def is_hidden(match: Match) -> bool:
        section, name, _, first, after = match
        beside = _BESIDE.get(section, _NOWHERE)
        return any(
            other.first <= first
            and after <= other.after
            and other.after - other.first > after - first
            and other.section not in beside
            # "No more than" has no "no"; of all else an amount hides nothing.
            and (other.section != "amount" or section == "negation")
            # "Please no" may stand behind its thing as well as "no".
            and not (section == other.section == "negation" and after == other.after and name in _BESIDE_A_NO)
            for other in near.get(first, ())
        )

    # By the tokens that they cover.
    near: dict[int, list[Match]] = defaultdict(list)
    for match in hiding:
        for at in range(match.first, match.after):
            near[at].append(match)
    return [match for match in matches if match.first not in near or not is_hidden(match)]


def _languages(text: Text) -> tuple[tuple[str, ...], list[Match]]:
    """The languages that the text is in, and the phrases of them and of those that it may be in.

    English is always among them: the words of music are. Where it has every word, no other language is looked at.
    """
    scripts = _scripts(text)
    possible = [language for language in LANGUAGES if language in scripts]
    others = tuple(language for language in possible if language != "en")
    found = english().matches(text)
    known = {at for match in found for at in range(match.first, match.after)}
    words = {at for at, token in enumerate(text.tokens) if token.form in (Form.WORD, Form.CHARACTER)}
    if "en" in possible and words <= known:
        told = {at for match in found if match.section == "function" for at in range(match.first, match.after)}
        small = {(match.language, match.first) for match in small_words(others).matches(text)}
        of_others = Counter(language for language, at in small if at not in told)
        # One word is not enough: "solo cello" is English, though "solo" is Spanish for "only".
        if max(of_others.values(), default=0) < _LEAST_SMALL_WORDS:
            return ("en",), found
    found += [match for group in _GROUPS if not scripts.isdisjoint(group) for match in lexicon(group).matches(text)]
    return _likeliest(text, possible, found), found


def _misspelt(text: Text, languages: tuple[str, ...], found: Iterable[Match]) -> dict[int, str]:
    """Which words are spelt wrong by a letter, and what is meant; names have capitals and stay."""
    known = {at for match in found if match.language in (*languages, "") for at in range(match.first, match.after)}
    meant: dict[int, str] = {}
    for at, token in enumerate(text.tokens):
        if at in known or token.form is not Form.WORD or len(token.text) < _LEAST_MISSPELT:
            continue
        begins = at == 0 or text.tokens[at - 1].text in STOPS
        if text.is_capital(at) and not begins and languages[0] != "de":
            continue
        meanings = (_lexicon_of(language).spelling(language).meant(token.text) for language in languages)
        each = next((word for word in meanings if word), None)
        if each is not None:
            meant[at] = each
    return meant


def _lexicon_of(language: str) -> Lexicon:
    return english() if language == "en" else lexicon(next(group for group in _GROUPS if language in group))


def read_vocabulary() -> None:
    """Read the words of all languages: a second, which else the first prompt of each takes."""
    small_words(_GROUPS[0])
    for language in LANGUAGES:
        _lexicon_of(language).spelling(language)


def _likeliest(text: Text, possible: Iterable[str], found: Iterable[Match]) -> tuple[str, ...]:
    scores = dict.fromkeys(possible, 0.0)
    seen: set[tuple[str, int, str]] = set()
    for match in found:
        section, name, language, first, after = match
        if language not in scores:
            continue
        weight = 1.0 if section == "function" else 0.0 if section in _GRAMMAR else 0.5
        least = _LEAST_TELLING - (section == "key")  # "Dur" is no word of other languages.
        if section in _TELLING and name != "in" and len(text.tokens[first].text) >= least:
            weight = 1.0
        key = (language, first, section)
        if weight and key not in seen:
            seen.add(key)
            scores[language] += weight * (after - first)
    best = max(scores.values(), default=0.0)
    # Nearly as many words of another tongue are a mixture; of sister tongues they are the same words.
    active = [language for language, score in scores.items() if score >= max(0.75 * best, 0.5)]
    # What has no words of content, as 嬰ヘ長調, is told by its script.
    active = active or [language for language in scores if language in _OWN_SCRIPT]
    # Han without kana is Chinese, though many of its words are Japanese as well.
    active.sort(key=lambda language: (language != "zh", -scores[language]))
    return (*active, *(() if "en" in active else ("en",)))


def _scripts(text: Text) -> frozenset[str]:
    """The languages that are written in these letters."""
    letters = {_script(token.text[0]) for token in text.tokens if token.form in (Form.WORD, Form.CHARACTER)}
    if letters == {"latin"}:
        return _IN_LATIN
    found: set[str] = set()
    if "kana" in letters:
        found.add("ja")
    elif "han" in letters:
        found |= {"zh", "ja"}
    if "hangul" in letters:
        found.add("ko")
    if "cyrillic" in letters:
        found.add("ru")
    if "latin" in letters:
        found.add("en")
    return frozenset(found or {"en"}) & {*LANGUAGES}


def _script(letter: str) -> str:
    if letter < "\u0400":
        return "latin"
    if letter in "々〆":
        return "han"
    return next((name for name, (first, last) in _SCRIPTS.items() if first <= letter <= last), "latin")


def runs(places: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Spans of tokens that stand beside one another."""
    first = last = None
    for at in sorted(places):
        if last is not None and at == last + 1:
            last = at
            continue
        if first is not None and last is not None:
            yield first, last + 1
        first = last = at
    if first is not None and last is not None:
        yield first, last + 1
