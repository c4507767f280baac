"""What a MusicGen hears of a request: a caption in the form of those it was trained on, and one of what it is to avoid.

A quarter of the training captions are a description with fields behind it, "Slow sad piano. instrument: piano. bpm:
70.0. key: d minor" (audiocraft's `augment_music_info_description`; Copet et al., 2023, section 4). They say what is
heard and nothing else, so a prompt's words for length, file or loudness, and for what must not sound, are left out of
the description: "no drums" has drums in it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from orchestrion.models.protocol import Conditioning
from orchestrion.tracks.intent.intent import Intent, Reading, Words
from orchestrion.tracks.musical_key import SCALE_STEPS, Key
from orchestrion.tracks.said import Said, excluded_in, reader_sources, said_in
from orchestrion.tracks.vocabulary import METRES, STYLE_METRES

#: What a caption can say of the fields that only some models follow.
HEARD: Final = ("instruments", "ensemble", "metre", "energy", "dynamics")
#: What words say that is no part of how the music sounds, or that is unwanted.
_UNHEARD: Final = frozenset(
    {"exclude", "duration_s", "format", "sample_rate_hz", "loudness_lufs", "fade_in_s", "fade_out_s", "channels"}
    | {"bars", "loop", "sections"}
)
#: Words that ask for it are not heard either: artists are not imitated, and there are no voices.
_REFUSED: Final = frozenset({"artist", "lyrics", "vocals", "language"})
#: Fields whose words stay in the description, unless a field of the request says something else.
_DESCRIBED: Final = ("style", "mood", "tempo_bpm", "key", "instruments", "ensemble", "metre", "energy", "dynamics")
#: A figure for these is not said twice.
_FIGURES: Final = frozenset({"tempo_bpm", "tempo_end_bpm"})
#: "Slow" still says what 72 bpm are where it was read as 70.
_SAME_TEMPO: Final = 0.15
#: Small words that mean nothing without what stood behind or before them.
_LEFT_BEFORE: Final = frozenset({
    "a", "an", "and", "about", "approx", "approximately", "around", "as", "at", "be", "but", "ca", "circa",
    "exactly", "export", "fade", "fades", "fading", "file", "for", "format", "from", "give", "i", "in", "is",
    "it", "key", "lasting", "length", "let", "make", "me", "must", "need", "of", "on", "or", "output", "over",
    "please", "roughly", "should", "tempo", "the", "then", "to", "want", "with", "without",
})  # fmt: skip
_LEFT_BEHIND: Final = frozenset(
    {"and", "duration", "file", "format", "length", "long", "of", "or", "please", "tempo", "then"}
)
_WORD_BEFORE: Final = re.compile(r"([\w'-]+)\W*$")
_WORD_BEHIND: Final = re.compile(r"^\W*([\w'-]+)")
#: Between clauses. A dot inside a figure or an abbreviation is none.
_STOPS: Final = re.compile(r"[,;:!?\n()\[\]]+|\.+(?=\s|$)|\s[-–—]+\s")
_SLOW_BPM: Final = 90.0
_FAST_BPM: Final = 140.0
#: What a caption calls them, where the value alone says too little.
_WORDS: Final[Mapping[tuple[str, str], str]] = {("energy", "low"): "sparse", ("energy", "high"): "energetic"}


@dataclass(frozen=True, slots=True)
class Caption:
    """What a model is told in words; empty: nothing."""

    text: str
    #: What guidance pushes away from.
    negative: str


def caption(conditioning: Conditioning, *, raw: bool = False) -> Caption:
    """The captions for a request; with `raw` its prompt as it was written, before what fields say beyond it."""
    said = said_in(conditioning.prompt)
    if raw:
        parts = [conditioning.prompt, *_tags(conditioning, _beyond(conditioning, said))]
        return Caption(_sentences(parts), _negative(conditioning, known=said.fields.get("exclude", ())))
    description = _own_words(conditioning, said) if said.intent.languages[:1] == ("en",) else ""
    description = description or _described(conditioning, said) or _own_words(conditioning, said)
    beyond = _beyond(conditioning, said) | {"instruments", "tempo_bpm", "key"}
    return Caption(_sentences([description, *_tags(conditioning, beyond)]), _negative(conditioning))


@cache
def caption_revision(*, raw: bool) -> str:
    """The part of a model's revision that says how its captions are made: the way, and a hash of our own sources."""
    digest = hashlib.sha256()
    for path in (Path(__file__), *reader_sources()):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return f"{'raw' if raw else 'intent'}-{digest.hexdigest()[:12]}"


# ---- the description ---------------------------------------------------------------------------------------------


def _own_words(conditioning: Conditioning, said: Said) -> str:
    """The prompt without what is not heard, and without the small words that are left over then."""
    text = conditioning.prompt
    spans = _merged(_not_to_be_said(conditioning, said))
    kept: list[str] = []
    at = 0
    for start, end in [*spans, (len(text), len(text))]:
        part = text[at:start]
        if at:
            part = _without(part, _WORD_BEHIND, _LEFT_BEHIND)
        if start < len(text):
            part = _without(part, _WORD_BEFORE, _LEFT_BEFORE)
        kept.append(part)
        at = end
    return _tidy(" ".join(kept), small=_LEFT_BEFORE | _LEFT_BEHIND if spans else frozenset())


def _not_to_be_said(conditioning: Conditioning, said: Said) -> Iterator[Words]:
    lost = {name for name in _DESCRIBED if name in said.fields and not _holds(conditioning, name, said.fields[name])}
    for reading in said.intent.readings:
        if reading.field in _UNHEARD or reading.field in lost or _is_figure(reading):
            yield reading.words
    for refused in said.intent.not_followed:
        if refused.kind in _REFUSED:
            yield refused.words


def _is_figure(reading: Reading) -> bool:
    """Whether a field behind the description says it exactly, or must: "70 bpm", "in D minor"."""
    if reading.field in _FIGURES:
        return any(character.isdigit() for character in reading.words.text)
    return reading.field in ("key", "key_end") and reading.value not in SCALE_STEPS


def _holds(conditioning: Conditioning, name: str, said: Any) -> bool:  # noqa: ANN401
    """Whether what the words say of a field is what the request came to."""
    value = getattr(conditioning, name)
    if name == "tempo_bpm":
        return value is not None and abs(value / said - 1) <= _SAME_TEMPO
    if isinstance(said, tuple):
        return set(said) <= set(value or ())
    return bool(value == said)


def _merged(words: Iterable[Words]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for start, end in sorted((each.start, each.end) for each in words):
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans


def _without(part: str, word: re.Pattern[str], small: frozenset[str]) -> str:
    """Without the small words at one end of it, up to the end of its clause."""
    while (match := word.search(part)) is not None and match[1].lower() in small and not _STOPS.search(match[0]):
        part = part[: match.start(1)] if match.end() == len(part) else part[match.end(1) :]
    return part


def _tidy(text: str, small: frozenset[str]) -> str:
    """One space between words, one comma or full stop between clauses that have words other than `small` ones."""
    parts: list[str] = []
    at = 0
    for stop in [*_STOPS.finditer(text), None]:
        clause = " ".join(text[at : stop.start() if stop else len(text)].split())
        if any(word not in small for word in re.findall(r"\w+", clause.lower())):
            parts.append(clause)
            sign = stop[0].strip() if stop else ""
            parts.append(". " if sign[:1] in {".", "!", "?"} or "\n" in (stop[0] if stop else "") else ", ")
        at = stop.end() if stop else len(text)
    return "".join(parts[:-1])


def _described(conditioning: Conditioning, said: Said) -> str:
    """What was understood, in English; empty where nothing was."""
    intent = said.intent
    moods = _names(intent, "mood") if _agrees(conditioning, said, "mood") else []
    kind = _genre(conditioning, said) or ""
    players = _listed(name for name in conditioning.instruments or ())
    uses = _listed(name for name in _names(intent, "use") if name not in kind.split())
    ensemble = conditioning.ensemble or ""
    # "Only" names no ensemble: its instruments are all that plays.
    ensemble = "" if ensemble == "only" else ensemble
    adjectives = [
        *_pace(conditioning.tempo_bpm),
        *(
            _WORDS.get((name, value), value)
            for name in ("energy", "dynamics")
            if (value := getattr(conditioning, name))
        ),
        *dict.fromkeys([*([conditioning.mood] if conditioning.mood else []), *moods]),
    ]
    adjectives = [word for word in dict.fromkeys(adjectives) if word not in (conditioning.exclude or ())]
    if not (adjectives or kind or players or uses or ensemble):
        return ""
    words = [*adjectives, *filter(None, [ensemble, kind]), *([] if kind.endswith("music") else ["music"])]
    with_players = f" with {players}" if players else ""
    in_metre = f" in {conditioning.metre}" if conditioning.metre else ""
    in_mode = f" in a {said.hints.mode} mode" if said.hints.mode in _names(intent, "key") else ""
    for_use = f" for {uses}" if uses else ""
    sentence = " ".join(words) + with_players + in_metre + in_mode + for_use
    return sentence[0].upper() + sentence[1:]


def _genre(conditioning: Conditioning, said: Said) -> str | None:
    """What the words call it, which is more than the style that the composer knows for it; else the style."""
    if _agrees(conditioning, said, "style"):
        of_style = said.words.get("style", ())
        named = (r.value for r in said.intent.of("style") if r.words in of_style and not isinstance(r.value, str))
        genre = next(named, None)
        if genre is not None:
            return str(genre["genre"])
    return conditioning.style and conditioning.style.replace("-", " ")


def _agrees(conditioning: Conditioning, said: Said, name: str) -> bool:
    return name in said.fields and _holds(conditioning, name, said.fields[name])


def _names(intent: Intent, field: str) -> list[str]:
    return list(dict.fromkeys(str(reading.value) for reading in intent.of(field)))


def _pace(tempo_bpm: float | None) -> list[str]:
    if tempo_bpm is None or _SLOW_BPM <= tempo_bpm < _FAST_BPM:
        return []
    return ["slow" if tempo_bpm < _SLOW_BPM else "fast"]


def _listed(names: Iterable[str]) -> str:
    *first, last = [*names] or [""]
    return f"{', '.join(first)} and {last}" if first else last


# ---- the fields behind it ----------------------------------------------------------------------------------------


def _beyond(conditioning: Conditioning, said: Said) -> set[str]:
    """The fields that are asked for and that the prompt's own words do not say."""
    return {name for name in _DESCRIBED if getattr(conditioning, name) != said.fields.get(name)}


def _tags(conditioning: Conditioning, fields: set[str]) -> list[str]:
    """Fields of training captions with what is asked for; in training each is there half of the time, in any order."""
    asked = {name: value for name in fields if (value := getattr(conditioning, name)) is not None}
    keywords = [
        *([asked["ensemble"]] if "ensemble" in asked else []),
        *([f"{asked['metre']} time"] if "metre" in asked else []),
        *(_WORDS.get((name, asked[name]), asked[name]) for name in ("energy", "dynamics") if name in asked),
    ]
    tags = {
        "genre": asked.get("style", "").replace("-", " "),
        "moods": asked.get("mood", ""),
        "keywords": ", ".join(keywords),
        "instrument": ", ".join(asked.get("instruments", ())),
        "bpm": str(round(_in_whole_bars(asked["tempo_bpm"], conditioning), 1)) if "tempo_bpm" in asked else "",
        "key": str(asked["key"]).lower() if isinstance(asked.get("key"), Key) else "",
    }
    return [f"{name}: {value}" for name, value in tags.items() if value]


def _in_whole_bars(tempo_bpm: float, conditioning: Conditioning) -> float:
    """The tempo; of a loop the nearest at which it has whole bars, if that is near."""
    if not conditioning.loop:
        return tempo_bpm
    metre = conditioning.metre or STYLE_METRES.get(conditioning.style or "", "4/4")
    beats = conditioning.duration_s * tempo_bpm / 60.0
    fitting_bpm = round(beats / METRES[metre]) * METRES[metre] * 60.0 / conditioning.duration_s
    return fitting_bpm if abs(fitting_bpm / tempo_bpm - 1) <= _SAME_TEMPO else tempo_bpm


# ---- what is to be avoided ---------------------------------------------------------------------------------------


def _negative(conditioning: Conditioning, known: Iterable[str] = ()) -> str:
    """The negative prompt and what is excluded beside it, but for what is `known` to be said elsewhere."""
    written = conditioning.negative_prompt.strip()
    if written and said_in(written).intent.languages[:1] != ("en",) and excluded_in(written):
        written = ""
    named = {*known, *(excluded_in(written) if written else ())}
    names = [name.replace("-", " ") for name in conditioning.exclude or () if name not in named]
    return ", ".join([*([written.rstrip(" \n\t.,;:")] if written else []), *names])


def _sentences(parts: Iterable[str]) -> str:
    """Joined as training captions are; a prompt alone stays as it was written."""
    first, *rest = parts
    if not rest:
        return first
    return ". ".join(filter(None, [first.rstrip(" \n\t.,;:"), *rest]))
