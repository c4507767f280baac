"""Keys as people write them: D minor, Es-Dur, fa dièse mineur, 降E大调, F#m, "phrygian in E"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from orchestrion.tracks.intent.lexicon import Match
from orchestrion.tracks.intent.passage import Passage
from orchestrion.tracks.intent.rules.findings import Findings, Span
from orchestrion.tracks.intent.text import Form
from orchestrion.tracks.musical_key import TONIC_NAMES

MODES: Final = (
    "major", "minor", "dorian", "phrygian", "lydian", "mixolydian", "locrian", "harmonic minor", "melodic minor",
    "blues", "pentatonic",
)  # fmt: skip
#: Letters and figures that make one word with a Latin letter; kana, Han and Hangul beside it do not.
_LETTERS_BESIDE: Final = r"0-9A-Za-z_\u00c0-\u024f\u0400-\u04ff"
#: "Am", "F#m", "B♭m", "Dmin", "Cmaj" as musicians write them, with a capital letter; "who I Am" and "5 Cm" are no keys.
_SHORT: Final = re.compile(
    rf"(?<![{_LETTERS_BESIDE}#♯♭'])(?<!\bI )(?<!\d )(?P<tonic>[A-H])(?P<sign>[#♯b♭])?(?P<mode>m|min|maj)"
    rf"(?![{_LETTERS_BESIDE}'’&])(?! I\b)"
)
#: Of a key that is said to be unwanted.
_WHY_NOT: Final = "a key cannot be left out; name the one that it shall be in"
_LETTERS: Final = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
#: In letters, of what says that a key changes: "then", not "to".
_LEAST_CHANGE: Final = 4
_SYLLABLES: Final = {"do": 0, "re": 2, "mi": 4, "fa": 5, "sol": 7, "la": 9, "si": 11}
#: "LAm", "SI♭m": the same in languages that sing the notes; in small letters they are words ("mim", "rem").
_SHORT_SYLLABLES: Final = re.compile(r"(?<!\w)(?P<tonic>DO|RE|RÉ|MI|FA|SOL|LA|SI)(?P<sign>[#♯b♭])?m(?!\w)")
#: Small words that look like tonics and are no last word of a clause: "en la, con bandurria" and "in es" are keys.
_NO_END: Final = frozenset({"la", "re", "mi", "as", "es", "des", "c", "d"})
#: Letters that are no word before a mode: "a b minor mood".
_NO_ARTICLES: Final = frozenset("bcd")
#: Articles and other small words that look like tonics.
_SMALL: Final = frozenset({"a", "e", "la", "si", "do", "re", "mi", "sol", "b", "as", "es", "des", "is", "c", "d"})


@dataclass(frozen=True, slots=True)
class _Found:
    tonic: int | None
    mode: str
    span: Span
    sure: float

    @property
    def value(self) -> str:
        return self.mode if self.tonic is None else f"{TONIC_NAMES[self.tonic]} {self.mode}"


def read_keys(findings: Findings) -> None:
    """The key, where it changes to, and two that do not go together."""
    every = _keys(findings)
    found = [key for key in every if not _is_unwanted(findings.passage, key, len(every) == 1)]
    for key in every:
        if key not in found:
            findings.refuse("other", _WHY_NOT, key.span)
    if not found:
        return
    passage, one = findings.passage, found[0]
    others = [key for key in found[1:] if key.value != one.value]
    if not others:
        findings.read("key", one.value, one.span, one.sure)
        return
    two = others[0]
    if _leads(passage, one, "until", "modulate") and _leads(passage, two, "from") and not _leads(passage, one, "from"):
        # "Ends in A major, begins in F sharp minor".
        findings.read("key", two.value, two.span)
        findings.read("key_end", one.value, one.span)
        return
    correction = [m for m in passage.of("change", "correction") if one.span[1] <= m.first < two.span[0]]
    # 마장조 말고 마단조: the "no" stands behind what it takes back.
    correction += [m for m in passage.beginning(one.span[1], "negation", "after") if m.after <= two.span[0]]
    changes = passage.of("change", "modulate")
    # The "to" of "from C to D" belongs to the second key.
    until = [
        m
        for m in passage.of("change", "until")
        if one.span[1] <= m.first
        and (m.after <= two.span[0] or (m.first == two.span[0] and passage.starting(m.after, "tonic") is not None))
    ]
    corrected = bool(correction) or _is_taken_back(passage, one, two)
    parts = [m for m in passage.of("section") if one.span[1] <= m.first and m.after <= two.span[0]]
    # Korean and Japanese say behind it where it ends: 라단조로 끝나게. A particle alone says nothing.
    behind = passage.starting(two.span[1], "change", "until")
    # And where it begins: ハ短調から.
    ends_there = (behind is not None and behind.length > 1) or (
        passage.tokens[one.span[1] - 1].form is Form.CHARACTER
        and passage.starting(one.span[1], "change", "from") is not None
    )
    if corrected and not any(one.span[1] <= match.first < two.span[0] for match in changes):
        findings.read("key", two.value, (one.span[0], two.span[1]))
    elif changes or until or parts or ends_there:
        findings.read("key", one.value, one.span)
        begin = min(until[-1].first, two.span[0]) if until else two.span[0]
        findings.read("key_end", two.value, (begin, two.span[1]))
    else:
        findings.read("key", one.value, one.span, 0.5)
        findings.conflict("key", one.span, two.span)
        findings.used.update(range(*two.span))


def _leads(passage: Passage, key: _Found, *names: str) -> bool:
    """Whether one of these words of change stands right before a key."""
    return passage.ending(key.span[0], "change", *names) is not None


def _is_taken_back(passage: Passage, one: _Found, two: _Found) -> bool:
    """Whether nothing but a "no" stands between two keys: "in D minor, no, E minor"."""
    at = passage.skips(one.span[1], signs=",-.…")
    no = passage.starting(at, "negation", "before")
    if no is None or at == one.span[1]:
        return False
    at = passage.skips(no.after, signs=",-.…")
    link = passage.starting(at, "key", "in")
    return two.span[0] in (at, link.after if link is not None else at)


def _is_unwanted(passage: Passage, key: _Found, is_alone: bool) -> bool:
    """Whether a "no" stands right before a key: "not in C major but D minor"; of a mode alone `Negations` tells.

    Behind a key (ハ長調以外で) it takes the only one; of two, the first is corrected by it.
    """
    at = key.span[0]
    if is_alone and key.tonic is not None and passage.starting(key.span[1], "negation", "after") is not None:
        return True
    if key.tonic is None or passage.ending(at, "change", "correction") is not None:
        return False
    while (link := passage.ending(at, "key", "in", "word") or passage.ending(at, "filler")) is not None:
        at = link.first
    no = passage.ending(at, "negation", "before")
    return no is not None and passage.ending(at, "change", "correction") is None


def _keys(findings: Findings) -> list[_Found]:
    passage = findings.passage
    found: dict[int, _Found] = {}
    begins = {match.start() for match in _SHORT.finditer(passage.text.original)}
    for first, after, tonic in _tonics(passage):
        key = _with_mode(passage, first, after, tonic) or _mode_before(passage, first, after, tonic)
        # The "min" of "a 3 min waltz in G" is no mode, nor is the blues of "a slow blues in G"; "キーはF#m" is minor.
        is_short = key is None and passage.tokens[first].start in begins
        if not is_short and (key is None or not findings.is_free(key.span)):
            key = _without_mode(passage, first, after, tonic)
        if key is not None and findings.is_free(key.span):
            known = found.get(first)
            if known is None or key.span[1] - key.span[0] > known.span[1] - known.span[0]:
                found[first] = key
    for match in _SHORT.finditer(passage.text.original):
        span = _tokens_of(passage, match.start(), match.end())
        if span is not None and not any(_overlap(span, key.span) for key in found.values()):
            sign = {"#": 1, "♯": 1, "b": -1, "♭": -1}.get(match["sign"] or "", 0)
            tonic = (_LETTERS.get(match["tonic"].lower(), 11) + sign) % 12
            found[span[0]] = _Found(tonic, "major" if match["mode"] == "maj" else "minor", span, 0.85)
    for match in _SHORT_SYLLABLES.finditer(passage.text.original):
        span = _tokens_of(passage, match.start(), match.end())
        if span is not None and not any(_overlap(span, key.span) for key in found.values()):
            sign = {"#": 1, "♯": 1, "b": -1, "♭": -1}.get(match["sign"] or "", 0)
            pitch = _SYLLABLES[match["tonic"].lower().replace("é", "e")]
            found[span[0]] = _Found((pitch + sign) % 12, "minor", span, 0.85)
    keys = sorted(found.values(), key=lambda key: key.span)
    apart: list[_Found] = []
    for key in keys:
        if not apart or key.span[0] >= apart[-1].span[1]:
            apart.append(key)
    return apart or _mode_alone(findings)


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _tonics(passage: Passage) -> list[tuple[int, int, int]]:
    """Notes that may be tonics: first token, the one after the last, pitch class."""
    found = []
    for match in sorted(passage.of("tonic"), key=lambda match: _strangeness(passage, match)):
        first, after, pitch = match.first, match.after, TONIC_NAMES.index(match.name)
        ahead = passage.ending(passage.skips(first - 1, -1, "-") + 1, "key", "sharp_before", "flat_before")
        if ahead is not None:
            pitch, first = pitch + (1 if ahead.name == "sharp_before" else -1), ahead.first
        sign = passage.starting(passage.skips(after, signs="-"), "key", "sharp", "flat")
        apart = sign is not None and passage.tokens[sign.first].apart and len(passage.tokens[sign.first].text) == 1
        # "Mi b maggiore": behind a note whose name is a syllable a letter by itself is a sign.
        if sign is not None and (not apart or (passage.tokens[first].text in _SYLLABLES and _has_mode(passage, sign))):
            pitch, after = pitch + (1 if sign.name == "sharp" else -1), sign.after
        found.append((first, after, pitch % 12))
    for at, token in enumerate(passage.tokens):
        # "Bb" is one word.
        if token.form is Form.WORD and len(token.text) == 2 and token.text[1] == "b" and token.text[0] in _LETTERS:
            found.append((at, at + 1, (_LETTERS[token.text[0]] - 1) % 12))
        # "Sib majeur".
        is_sung = passage.languages[0] != "en" and token.text[:-1] in _SYLLABLES
        if token.form is Form.WORD and token.text[-1] == "b" and is_sung:
            found.append((at, at + 1, (_SYLLABLES[token.text[:-1]] - 1) % 12))
    return found


def _has_mode(passage: Passage, sign: Match) -> bool:
    mode = passage.starting(passage.skips(sign.after, signs="-"), "key", *MODES)
    return mode is not None or passage.is_end_of_clause(sign.after)


def _strangeness(passage: Passage, note: Match) -> int:
    """Of notes of the same name the one in the language of its mode is meant: "B-Dur" is no B major."""
    mode = passage.starting(passage.skips(note.after, signs="-"), "key", *MODES)
    languages = passage.languages
    if mode is not None and mode.language == note.language:
        return -1
    return languages.index(note.language) if note.language in languages else len(languages)


def _with_mode(passage: Passage, first: int, after: int, tonic: int) -> _Found | None:
    at = passage.skips(after, signs="-")
    mode = passage.starting(at, "key", *MODES)
    if mode is None:
        return None
    name, end = mode.name, mode.after
    if name in ("minor", "major"):
        behind = passage.skips(end, signs="-(")
        more = passage.starting(behind, "key", "harmonic minor", "melodic minor", "pentatonic")
        more = more or passage.ending(first, "key", "harmonic minor", "melodic minor")
        kind = passage.starting(behind, "key", "harmonic", "melodic")
        ahead = passage.ending(first, "key", "harmonic", "melodic")
        if more is not None:
            name, first, end = more.name, min(first, more.first), max(end, more.after)
        elif kind is not None and name == "minor":
            name, end = f"{kind.name} minor", kind.after
        elif ahead is not None and name == "minor":
            name, first = f"{ahead.name} minor", ahead.first
    if _is_small(passage, first, after):
        letter = passage.tokens[first].text
        if letter == "a" and passage.starting(passage.skips(end, signs="-"), "key", "word") is not None:
            return None  # "In a minor key" names no note.
        is_sure = letter in _NO_ARTICLES or _introduced(passage, first) or passage.is_end_of_clause(end)
        if not is_sure:
            return None
    return _Found(tonic, name, (first, end), 0.95)


def _mode_before(passage: Passage, first: int, after: int, tonic: int) -> _Found | None:
    """Keys as "harmonic minor on B", "phrygian feel in E"."""
    link = passage.ending(first, "key", "in", "word")
    before = link.first if link else first
    for back in range(3):
        mode = passage.ending(before - back, "key", *MODES)
        if mode is not None and (link is not None or back == 0):
            if link is None and after - first == 1 and len(passage.tokens[first].text) < 2:
                return None
            return _Found(tonic, mode.name, (mode.first, after), 0.8)
    return None


def _without_mode(passage: Passage, first: int, after: int, tonic: int) -> _Found | None:
    """What is major because no mode is named: "key of X", "in Es"."""
    if passage.starting(after, "key", *MODES) is not None:
        return None
    word = passage.ending(passage.skips(first - 1, -1, ":=-") + 1, "key", "word")
    is_character = passage.tokens[after - 1].form is Form.CHARACTER
    if word is not None and (not is_character or passage.is_end_of_clause(after)):
        return _Found(tonic, "major", (word.first, after), 0.8)
    # "A调", "Cのキー".
    behind = passage.starting(after, "key", "word")
    if behind is not None and passage.tokens[after].form is Form.CHARACTER and not is_character:
        return _Found(tonic, "major", (first, behind.after), 0.8)
    link = passage.ending(first, "key", "in")
    capital = passage.text.is_capital(first)
    if capital and len(passage.tokens) == after - first == 1 and len(passage.tokens[first].text) == 2:
        return _Found(tonic, "major", (first, after), 0.6)  # "Bb" is all that is said.
    if capital and not is_character and passage.of("change", "modulate"):
        # "In C, modulation to D in the last chorus": whatever comes behind it.
        changes = passage.ending(first, "change", "modulate", "until")
        is_whole = passage.is_end_of_clause(first - 1) and passage.is_end_of_clause(after)
        if changes is not None or is_whole:
            return _Found(tonic, "major", (changes.first if changes else first, after), 0.6)
    is_note = capital or passage.tokens[first].text in _NO_END or not _is_small(passage, first, after)
    if capital and len(passage.tokens[first].text) == 1 and _is_all_of_its_clause(passage, first, after):
        return _Found(tonic, "major", (first, after), 0.5)
    # "B flat" alone between commas.
    if after - first > 1 and passage.is_end_of_clause(first - 1) and passage.is_end_of_clause(after):
        return _Found(tonic, "major", (first, after), 0.6)
    # "From C to D".
    goes_on = passage.ending(first, "change", "from") is not None and passage.starting(after, "change", "until")
    goes_on = goes_on or passage.starting(after, "change", "modulate", "until") or passage.starting(after, "section")
    if link is not None and (passage.is_end_of_clause(after) or (goes_on and capital)) and is_note:
        return _Found(tonic, "major", (link.first, after), 0.6)
    if _is_changed_to(passage, first, after) and (
        capital or (passage.is_end_of_clause(after) and (is_note or passage.tokens[first].text in _SYLLABLES))
    ):
        return _Found(tonic, "major", (first, after), 0.6)
    return None


def _is_all_of_its_clause(passage: Passage, first: int, after: int) -> bool:
    """Whether a letter stands alone between commas, and is the only one: "72 bpm, G"; "A, B, A" is a form."""
    size = len(passage.tokens)

    def is_alone(at: int, end: int) -> bool:
        return (at == 0 or passage.tokens[at - 1].text in ",.;") and (end == size or passage.tokens[end].text in ",.;")

    letters = [at for at, token in enumerate(passage.tokens) if len(token.text) == 1 and token.text.isalpha()]
    others = [at for at in letters if at != first and passage.text.is_capital(at)]
    return size > 1 and is_alone(first, after) and not others


def _is_changed_to(passage: Passage, first: int, after: int) -> bool:
    """Whether what stands before a note says that the key changes to it: "up a step to E", "then A at the end"."""
    change = passage.ending(first, "change", "modulate", "until") or passage.ending(first, "section", "then")
    if change is None or passage.letters(change) < _LEAST_CHANGE:
        return False
    return passage.is_end_of_clause(after) or any(
        passage.starting(after, section) is not None for section in ("function", "filler", "change", "section", "list")
    )


def _mode_alone(findings: Findings) -> list[_Found]:
    """A mode without a tonic: "in a minor key", "phrygian"."""
    passage = findings.passage
    for mode in passage.of("key", *MODES):
        if not findings.is_free((mode.first, mode.after)):
            continue
        word = passage.starting(passage.skips(mode.after, signs="-"), "key", "word")
        word = word or passage.ending(mode.first, "key", "word")
        link = passage.ending(mode.first, "key", "in")
        if word is None and link is not None and mode.name in ("major", "minor"):
            is_whole = passage.is_end_of_clause(mode.after) or passage.starting(mode.after, "function") is not None
            word = link if is_whole else None
        particle = (
            passage.starting(mode.after, "function") if passage.tokens[mode.first].form is Form.CHARACTER else None
        )
        ends = passage.is_end_of_clause(particle.after if particle is not None else mode.after)
        begins = passage.is_end_of_clause(mode.first - 1) or passage.ending(mode.first, "negation", "end") is not None
        if word is None and begins and ends:
            word = mode  # "Sad, minor, 120".
        if word is not None:
            one = _Found(None, mode.name, (min(mode.first, word.first), max(mode.after, word.after)), 0.7)
            return [one, *_mode_at_the_end(passage, one)]
        if mode.name in (
            "dorian",
            "phrygian",
            "lydian",
            "mixolydian",
            "locrian",
            "harmonic minor",
            "melodic minor",
            "pentatonic",
        ):
            return [_Found(None, mode.name, (mode.first, mode.after), 0.7)]
    return []


def _mode_at_the_end(passage: Passage, one: _Found) -> list[_Found]:
    """The mode that another changes to: "in Dur, kippt am Ende nach Moll"."""
    for mode in passage.of("key", "major", "minor"):
        leads = passage.ending(mode.first, "change", "until", "modulate")
        if mode.first >= one.span[1] and mode.name != one.mode and leads is not None:
            return [_Found(None, mode.name, (mode.first, mode.after), 0.6)]
    return []


def _is_small(passage: Passage, first: int, after: int) -> bool:
    token = passage.tokens[first]
    if after < len(passage.tokens) and not passage.tokens[after].apart:
        # No article: a小调, a-moll.
        behind = passage.tokens[after : after + 2]
        if behind[0].form is Form.CHARACTER or (behind[0].text == "-" and len(behind) == 2 and not behind[1].apart):
            return False
    return after - first == 1 and token.text in _SMALL and not passage.text.is_capital(first)


def _introduced(passage: Passage, first: int) -> bool:
    at = passage.skips(first - 1, -1, ":=-") + 1
    change = passage.ending(at, "change", "from", "until", "modulate")
    return change is not None or passage.ending(at, "key", "word", "in") is not None


def _tokens_of(passage: Passage, start: int, end: int) -> Span | None:
    inside = [at for at, token in enumerate(passage.tokens) if start <= token.start and token.end <= end]
    return (inside[0], inside[-1] + 1) if inside else None
