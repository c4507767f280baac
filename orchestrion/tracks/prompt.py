"""What a prompt's own words ask for: tempo, key, length, style and mood.

"slow sad piano in D minor, 70 bpm, 20 seconds" gives 70 bpm, D minor, 20 s, style piano, mood sad. A field of the
request always wins over the prompt; what neither says is the model's to choose. Ordinary English looks like keys,
lengths and styles ("a minor detail", "80s pop", "not jazz"), so each pattern below also says what it does not mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from orchestrion.tracks.musical_key import KEY_PATTERN, Key
from orchestrion.tracks.vocabulary import MOODS, STYLES

NUMBER_WORDS: Final = {
    "half a": 0.5, "half": 0.5, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30, "forty": 40, "forty-five": 45,
    "fifty": 50, "sixty": 60, "ninety": 90,
}  # fmt: skip
#: Never part of a longer figure: neither the 2 of "1/2" nor the 120 of "3,120". Possessive: long digits stay linear.
_FIGURE = r"(?<![\d/])(?<!\d[.,])\d++(?:\.\d{1,3}+|,\d{1,2}+)?+(?![\d/]|[.,]\d)"
_WORD = r"\b(?:" + "|".join(sorted((re.escape(word) for word in NUMBER_WORDS), key=len, reverse=True)) + r")"
_AMOUNT = rf"(?:{_FIGURE}|{_WORD}\b)(?:\s+and\s+a\s+half\b)?"

_BPM = r"\s*-?\s*(?:bpm|beats\s+per\s+minute)\b"
_TEMPO = re.compile(rf"(?=\d)(?:(?P<low>{_FIGURE})\s*(?:-|to)\s*)?(?P<number>{_FIGURE}){_BPM}", re.IGNORECASE)
#: "tempo 90", "bpm: 140", "♩ = 120", but not the length in "fast tempo, 30 seconds" or "tempo 30 s".
_TEMPO_AFTER = re.compile(
    rf"(?:\b(?:tempo|bpm)\s*(?:of|:|=|at)?|♩\s*=)\s*(?P<number>{_FIGURE})(?!\s*-?\s*(?:s|secs?|seconds?|m|mins?|minutes?|:)\b)",
    re.IGNORECASE,
)

#: "80s", "808s", "1990s", "the 20s" and "roaring 20s" are decades and drum machines; "45s" is a length.
_DECADE = r"(?![5-9]0s|808s|\d{4}s)(?<!\bthe )(?<!roaring )(?<!')"
_SECONDS = rf"(?:{_AMOUNT}[\s-]*(?:seconds?|secs?)|{_DECADE}{_FIGURE}s|{_FIGURE}\s+s)\b"
#: Seconds belong to the minutes that they follow: "2 min 30 s", "1 minute and 30 seconds", "2m30s".
_MINUTES = (
    rf"(?P<minutes>{_AMOUNT})(?:[\s-]*(?:minutes?|mins?)\b|m(?=\s*\d+\s*s\b))(?:\s*(?:,|and)?\s*(?P<rest>{_SECONDS}))?"
)
_HOURS = rf"(?P<hours>{_FIGURE})[\s-]*hours?\b"
#: "1:30" is a length; "10:30 pm" and "16:9" are not.
_CLOCK = r"(?<![\d:])(?P<clock_minutes>\d{1,2}):(?P<clock_seconds>[0-5]\d)(?![\d:])(?!\s*[ap]\.?m\b)"
#: Where any of them can begin: most of a prompt is passed over without four of them being tried at each letter.
_AN_AMOUNT = rf"(?=\d|{_WORD}\b)"
_DURATION = re.compile(rf"{_AN_AMOUNT}(?:{_CLOCK}|{_HOURS}|{_MINUTES}|(?P<seconds>{_SECONDS}))", re.IGNORECASE)

#: What goes before a word that is not wanted: "no jazz", "without any piano", "not rock or metal".
_NEGATION = re.compile(
    r"\b(?:no|not|non|nor|never|without|avoid|minus|isn't|don't\s+want)[\s-]+(?:(?:any|too|a|an|the|very|so|in)\s+)*"
    r"(?:[\w&'-]+,?\s+n?or\s+)*$",
    re.IGNORECASE,
)
#: How far back a negation is looked for, in characters.
_NEGATION_REACH: Final = 48

_KEY = re.compile(
    r"(?<![\w#♯♭'-])" + KEY_PATTERN + r"(?!\s+(?:keys?|modes?|scales?|thirds?|sixths?|sevenths?|chords?)\b)", re.I
)
#: As musicians write it: "Am", "F#m", "B♭m"; not "Am I", "I Am", "5 Cm".
_KEY_SHORT = re.compile(
    r"(?<![\w#♯♭'])(?<!\bI )(?<!\d )(?P<tonic>[A-G])(?P<accidental>[#♯b♭])?(?P<mode>m)(?![\w'&/-])(?! I\b)"
)
#: Without a mode only "key of X" and a capital after "in" are a key ("in C, 90 bpm"); "in A hall" is not A.
_KEY_WITHOUT_MODE = re.compile(
    r"\b(?:[Kk]ey\s+of\s+(?P<tonic>[A-Ga-g])|in\s+(?P<capital>[B-G]|A(?=[#♯b♭]|\s*[,.;]|\s*$|[\s-]+(?:sharp|flat)\b)))"
    r"(?P<accidental>[#♯♭]|b\b|[\s-]+(?:sharp|flat)\b)?(?![\w'&/-])"
)
_BEFORE_A_KEY = re.compile(r"(?:\bin|\bkey(?:\s+of|\s*[:=])?)\s+$", re.IGNORECASE)
_END_OF_CLAUSE = re.compile(r"\s*(?:[,.;:!?)]|$)")

#: Italian tempo words → bpm, used only when no figure is given. Middle of the usual metronome ranges.
TEMPO_WORDS: Final = {
    "largo": 50.0, "adagio": 70.0, "andante": 88.0, "moderato": 110.0, "allegretto": 116.0, "allegro": 132.0,
    "vivace": 164.0, "presto": 184.0,
}  # fmt: skip

#: Typographic forms → the plain ones that the patterns and the vocabulary are written in.
_PLAIN = str.maketrans({"’": "'", "‘": "'", "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "\u00a0": " "})


@dataclass(frozen=True, slots=True)
class PromptReading:
    """What the words say; None where they say nothing."""

    style: str | None
    mood: str | None
    tempo_bpm: float | None
    key: Key | None
    duration_s: float | None


@lru_cache(
    maxsize=256
)  # A catalog often asks for many takes of one prompt, and each request is resolved more than once.
def read_prompt(prompt: str) -> PromptReading:
    """Read a prompt of any length; never fails, and judges no figure: "900 bpm" reads as 900."""
    # Single spaces: the patterns may then allow spaces twice in a row without trying every way to share them.
    text = " ".join(prompt.translate(_PLAIN).split())
    folded = text.casefold()
    letters = set(_LETTERS.findall(folded))
    return PromptReading(
        style=_best_match(folded, letters, _STYLE_WORDS),
        mood=_best_match(folded, letters, _MOOD_WORDS),
        tempo_bpm=_tempo(text),
        key=_key(text),
        duration_s=_duration(text),
    )


def canonical_name(text: str, vocabulary: Mapping[str, Iterable[str]]) -> str | None:
    """The canonical name that `text` is or means ("Lo-Fi" → "lofi"), or None."""
    wanted = " ".join(text.translate(_PLAIN).casefold().replace("_", " ").split())
    for name, words in vocabulary.items():
        if wanted in {name, name.replace("-", " "), *words}:
            return name
    return None


@dataclass(frozen=True, slots=True)
class _Word:
    """A word or phrase that means a name."""

    #: The name's place in its vocabulary.
    place: int
    name: str
    weight: float
    pattern: re.Pattern[str]


def _by_first_letters(vocabulary: Mapping[str, Iterable[str]]) -> dict[str, list[_Word]]:
    """All words that mean a name, by the letters and digits that they begin with: "lo" of "lo-fi"."""
    words: dict[str, list[_Word]] = {}
    for place, (name, others) in enumerate(vocabulary.items()):
        own = {name, name.replace("-", " ")}
        for word in own.union(others):
            pattern = re.compile(rf"(?<![\w-]){re.escape(word)}(?!\w)")
            found = _Word(place, name, 2.0 if word in own else 1.0, pattern)
            words.setdefault(_LETTERS.findall(word)[0], []).append(found)
    return words


_LETTERS: Final = re.compile(r"\w+")
_STYLE_WORDS: Final = _by_first_letters(STYLES)
_MOOD_WORDS: Final = _by_first_letters({name: mood.words for name, mood in MOODS.items()})


def _best_match(text: str, letters: Iterable[str], vocabulary: Mapping[str, Sequence[_Word]]) -> str | None:
    """The name with the most weight of words in the prompt, of which `letters` are all that stand together.

    The name itself counts double and the first mention decides ties: "jazz piano" is jazz, "piano with a hint of jazz"
    is piano. A word that the prompt says no to counts nothing.
    """
    weights: dict[tuple[int, str], float] = {}
    firsts: dict[tuple[int, str], int] = {}
    # Of some 250 words a prompt begins a few, and a catalog has a million prompts.
    for beginning in letters:
        for word in vocabulary.get(beginning, ()):
            start = _first_wanted(word.pattern, text)
            if start is not None:
                name = (word.place, word.name)
                weights[name] = weights.get(name, 0.0) + word.weight
                firsts[name] = min(start, firsts.get(name, start))
    if not weights:
        return None
    return min(weights, key=lambda name: (-weights[name], firsts[name], name))[1]


def _first_wanted(pattern: re.Pattern[str], text: str) -> int | None:
    for match in pattern.finditer(text):
        if not _is_negated(text, match.start()):
            return match.start()
    return None


def _is_negated(text: str, start: int) -> bool:
    return _NEGATION.search(text[max(0, start - _NEGATION_REACH) : start]) is not None


def _tempo(prompt: str) -> float | None:
    match = _TEMPO.search(prompt) or _TEMPO_AFTER.search(prompt)
    if match is not None:
        high = _figure(match["number"])
        low = match.groupdict().get("low")
        return (_figure(low) + high) / 2 if low else high
    folded = prompt.casefold()
    if not any(word in folded for word in TEMPO_WORDS):
        return None
    words = re.findall(r"[a-z]+", folded)
    return next((TEMPO_WORDS[word] for word in words if word in TEMPO_WORDS), None)


def _key(prompt: str) -> Key | None:
    for match in _KEY.finditer(prompt):
        if not _is_negated(prompt, match.start()) and not _is_article(prompt, match):
            return Key.of(match["tonic"], match["accidental"], match["mode"])
    short = _KEY_SHORT.search(prompt)
    if short is not None:
        return Key.of(short["tonic"], short["accidental"], short["mode"])
    bare = _KEY_WITHOUT_MODE.search(prompt)
    return Key.of(bare["tonic"] or bare["capital"], bare["accidental"], None) if bare else None


def _is_article(prompt: str, key: re.Match[str]) -> bool:
    """Whether the tonic is the English article, as in "a minor detail"; "in a minor" and "piano, a minor" are keys."""
    return (
        key["tonic"] == "a"
        and not key["accidental"]
        and key["mode"].lower() in ("major", "minor")
        and _BEFORE_A_KEY.search(prompt, max(0, key.start() - 12), key.start()) is None
        and _END_OF_CLAUSE.match(prompt, key.end()) is None
    )


def _duration(prompt: str) -> float | None:
    match = _DURATION.search(prompt)
    if match is None:
        return None
    if match["clock_minutes"]:
        return 60.0 * int(match["clock_minutes"]) + int(match["clock_seconds"])
    if match["hours"]:
        return 3600.0 * _figure(match["hours"])
    if match["minutes"]:
        return 60.0 * _amount(match["minutes"]) + _amount(match["rest"] or "0")
    return _amount(match["seconds"])


def _figure(text: str) -> float:
    return float(text.replace(",", "."))


def _amount(text: str) -> float:
    """The number at the start of "2.5", "two", "half a", "two and a half", "30 s", "forty-five seconds"."""
    words = " ".join(text.casefold().split())
    half = 0.5 if "and a half" in words else 0.0
    figure = re.match(r"\d+(?:[.,]\d+)?", words)
    if figure is not None:
        return _figure(figure[0]) + half
    return (
        next(NUMBER_WORDS[word] for word in sorted(NUMBER_WORDS, key=len, reverse=True) if words.startswith(word))
        + half
    )
