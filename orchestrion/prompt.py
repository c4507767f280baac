"""What a prompt's own words ask for: tempo, key, length, style and mood.

"slow sad piano in D minor, 70 bpm, 20 seconds" gives 70 bpm, D minor, 20 s, style piano, mood sad. A field of the
request always wins over the prompt; what neither says is the model's to choose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from orchestrion.musical_key import KEY_PATTERN, Key
from orchestrion.vocabulary import MOODS, STYLES

_NUMBER = r"(?P<number>\d{1,4}(?:\.\d{1,3})?)"
_TEMPO = re.compile(_NUMBER + r"\s*-?\s*(?:bpm|beats\s+per\s+minute)\b", re.IGNORECASE)
_TEMPO_AFTER = re.compile(r"\b(?:tempo|bpm)\s*(?:of|:|=|at)?\s*" + _NUMBER, re.IGNORECASE)
#: "80s" and "1990s" are decades, "45s" is a length.
_SECONDS = re.compile(rf"(?![5-9]0s|\d{{4}}s)(?<!\d){_NUMBER}\s*-?\s*(?:seconds?|secs?|s)\b", re.IGNORECASE)
_MINUTES = re.compile(_NUMBER + r"\s*-?\s*(?:minutes?|mins?)\b", re.IGNORECASE)
_CLOCK = re.compile(r"(?<![\d:])(?P<minutes>\d{1,2}):(?P<seconds>[0-5]\d)(?![\d:])")
_KEY = re.compile(r"(?<![\w#])" + KEY_PATTERN, re.IGNORECASE)
#: Without a mode only "key of X" and a capital after "in" are a key ("in C, 90 bpm"); "in A hall" is not A.
_KEY_WITHOUT_MODE = re.compile(
    r"\b(?:[Kk]ey\s+of\s+(?P<tonic>[A-Ga-g])|in\s+(?P<capital>[B-G]|A(?=\s*[,.;]|\s*$)))"
    r"(?P<accidental>#|♯|b\b|♭|[\s-]?sharp|[\s-]?flat)?(?![\w'])"
)

#: Italian and plain tempo words → bpm, used only when no figure is given. Middle of the usual metronome ranges.
TEMPO_WORDS: Final = {
    "largo": 50.0, "adagio": 70.0, "andante": 88.0, "moderato": 110.0, "allegretto": 116.0, "allegro": 132.0,
    "vivace": 164.0, "presto": 184.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PromptReading:
    """What the words say; None where they say nothing."""

    style: str | None
    mood: str | None
    tempo_bpm: float | None
    key: Key | None
    duration_s: float | None


def read_prompt(prompt: str) -> PromptReading:
    """Read a prompt of any length; never fails."""
    return PromptReading(
        style=_best_match(prompt, ((name, words) for name, words in STYLES.items())),
        mood=_best_match(prompt, ((name, mood.words) for name, mood in MOODS.items())),
        tempo_bpm=_tempo(prompt),
        key=_key(prompt),
        duration_s=_duration(prompt),
    )


def canonical_name(text: str, vocabulary: Mapping[str, Iterable[str]]) -> str | None:
    """The canonical name that `text` is or means ("Lo-Fi" → "lofi"), or None."""
    wanted = " ".join(text.casefold().replace("_", " ").split())
    for name, words in vocabulary.items():
        if wanted in {name, name.replace("-", " "), *words}:
            return name
    return None


def _best_match(prompt: str, vocabulary: Iterable[tuple[str, Iterable[str]]]) -> str | None:
    """The name with the most weight of words in the prompt.

    The name itself counts double and the first mention decides ties: "jazz piano" is jazz, "piano with a hint of jazz"
    is piano.
    """
    text = prompt.casefold()
    best: tuple[float, int, str] | None = None
    for name, words in vocabulary:
        weight, first = 0.0, len(text)
        for word in {name, name.replace("-", " "), *words}:
            match = re.search(rf"(?<![\w-]){re.escape(word)}(?![\w])", text)
            if match is not None:
                weight += 2.0 if word in (name, name.replace("-", " ")) else 1.0
                first = min(first, match.start())
        if weight and (best is None or (-weight, first) < (-best[0], best[1])):
            best = (weight, first, name)
    return best[2] if best else None


def _tempo(prompt: str) -> float | None:
    match = _TEMPO.search(prompt) or _TEMPO_AFTER.search(prompt)
    if match is not None:
        return float(match["number"])
    words = re.findall(r"[a-z]+", prompt.casefold())
    return next((TEMPO_WORDS[word] for word in words if word in TEMPO_WORDS), None)


def _key(prompt: str) -> Key | None:
    match = _KEY.search(prompt)
    if match is not None:
        return Key.of(match["tonic"], match["accidental"], match["mode"])
    match = _KEY_WITHOUT_MODE.search(prompt)
    return Key.of(match["tonic"] or match["capital"], match["accidental"], None) if match else None


def _duration(prompt: str) -> float | None:
    clock = _CLOCK.search(prompt)
    if clock is not None:
        return 60.0 * int(clock["minutes"]) + int(clock["seconds"])
    minutes, seconds = _MINUTES.search(prompt), _SECONDS.search(prompt)
    if minutes is None and seconds is None:
        return None
    return 60.0 * float(minutes["number"] if minutes else 0) + float(seconds["number"] if seconds else 0)
