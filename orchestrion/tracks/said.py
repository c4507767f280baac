"""What the words of a prompt ask for, as fields of a request, and what suits them where nothing else is asked.

What a prompt asks for holds like a field, and gives way to one. What only suits a genre or a use is a hint: a model
that composes takes it where neither words nor fields say otherwise, and it is no part of the request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from orchestrion.tracks.instruments import EXCLUDABLE, INSTRUMENTS
from orchestrion.tracks.intent.genres import genres, uses
from orchestrion.tracks.intent.intent import Intent, NotFollowed, Reading, Value, Words
from orchestrion.tracks.intent.lexicon import stand_ins
from orchestrion.tracks.intent.numbered import OncePerNumber
from orchestrion.tracks.intent.reader import read, read_intent
from orchestrion.tracks.musical_key import SCALE_STEPS, Key
from orchestrion.tracks.request import MAX_NAMES, AudioFormat
from orchestrion.tracks.section import Section
from orchestrion.tracks.vocabulary import SECTION_NAMES, VOCALS

#: What "no minor" leaves, and the other way round.
_OTHER_MODE: Final = {"minor": "major", "major": "minor"}


@dataclass(frozen=True, slots=True)
class Hints:
    """What suits the genre or the use that words name; empty or None: nothing is known."""

    #: The likeliest first, as the moods.
    styles: tuple[str, ...] = ()
    moods: tuple[str, ...] = ()
    #: From and to.
    tempo_bpm: tuple[float, float] | None = None
    metre: str | None = None
    instruments: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    #: One of `musical_key.SCALE_STEPS`.
    mode: str | None = None
    energy: str | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What the words of a request say."""

    intent: Intent
    #: Fields of a request and their values, as `Composition` and `Delivery` have them.
    fields: Mapping[str, Any]
    #: Of each of them the words that say so.
    words: Mapping[str, tuple[Words, ...]]
    hints: Hints


def said_in(prompt: str) -> Said:
    """What a prompt of any length says; never fails, and judges no figure: "900 bpm" is 900."""
    return _ONCE(prompt)


def _said(prompt: str) -> tuple[Said, bool]:
    """What it says, and whether its figures have nothing to do with that."""
    read_as, is_of_any_number = read(prompt)
    return _said_by(_consistent(read_as)), is_of_any_number


def _said_by(intent: Intent) -> Said:
    kinds = _Kinds(intent)
    found: dict[str, Any] = {}
    words: dict[str, tuple[Words, ...]] = {}

    def note(field: str, value: object, *readings: Reading) -> None:
        found[field] = value
        words[field] = words.get(field, ()) + tuple(reading.words for reading in readings)

    asked = {reading.field for reading in intent.readings}
    for field in [field for field in _VALUES if field in asked]:
        reading = intent.first(field)
        if reading is not None and (value := _VALUES[field](reading.value)) is not None:
            note(field, value, reading)
            others = dict.fromkeys(r.words for r in intent.of(field) if r.value != reading.value)
            why = f"one {field} is kept to, here {reading.value}"
            kinds.not_followed += [NotFollowed(other, "field", why) for other in others]
    if kinds.style is not None:
        note("style", kinds.style, *kinds.of_style)
    kinds.not_followed += _players(intent, note)
    missing = [(reading, name) for reading in intent.of("exclude") for name in _unwanted(reading.value, kinds.style)]
    if missing:
        names, readings = {name for _, name in missing}, dict.fromkeys(reading for reading, _ in missing)
        note("exclude", tuple(sorted(names)[:MAX_NAMES]), *readings)
    mode = next((m for name in ("key", "exclude") for r in intent.of(name) if (m := _mode(name, r.value))), None)
    key = found.get("key")
    for reading in intent.of("exclude"):
        if isinstance(key, Key) and reading.value in _OTHER_MODE and (reading.value == "minor") == key.is_minor:
            kinds.not_followed.append(NotFollowed(reading.words, "field", f"the key is kept to, here {key}"))
    if kinds.not_followed:
        intent = replace(intent, not_followed=(*intent.not_followed, *kinds.not_followed))
    hints = replace(kinds.hints, mode=mode) if mode is not None else kinds.hints
    return Said(intent=intent, fields=MappingProxyType(found), words=MappingProxyType(words), hints=hints)


#: A request is resolved more than once, and a catalog asks for many takes of one prompt.
_ONCE: Final = OncePerNumber(_said, most_characters=131_072)


def reader_sources() -> list[Path]:
    """The files that decide what `said_in` says: part of the revision of a model that asks it."""
    here = Path(__file__).parent
    names = (here / f"{name}.py" for name in ("instruments", "musical_key", "section", "vocabulary"))
    reader = here / "intent"
    return [Path(__file__), *names, *sorted(reader.rglob("*.py")), *sorted(reader.rglob("*.toml"))]


def _consistent(intent: Intent) -> Intent:
    """Without instruments that the same words exclude: "drumless" has drums in it."""
    unwanted = [(reading.value, reading.words) for reading in intent.of("exclude")]
    if not unwanted:
        return intent
    kept = tuple(
        reading
        for reading in intent.readings
        if reading.field != "instruments"
        or not any(reading.value == name and _overlap(reading.words, words) for name, words in unwanted)
    )
    return replace(intent, readings=kept)


def excluded_in(negative_prompt: str) -> tuple[str, ...]:
    """What a negative prompt names, so that it must not sound: "drums, no vocals" says the same of both."""
    if not negative_prompt:
        return ()
    intent = read_intent(negative_prompt)
    kinds = ("exclude", "instruments", "style", "mood")
    # The style nearest to an unwanted genre is not unwanted.
    named = {r.value for r in intent.readings if r.field in kinds and isinstance(r.value, str)}
    sung = {VOCALS} if any(one.kind == "vocals" for one in intent.not_followed) else set()
    return tuple(sorted((named & {*EXCLUDABLE}) | sung))


def _key(text: str) -> Key | None:
    # A mode alone is a hint.
    return None if text in SCALE_STEPS else Key.parse(text)


def _mode(field: str, value: str) -> str | None:
    if field == "key":
        return value if value in SCALE_STEPS else None
    return _OTHER_MODE.get(value)


def _unwanted(name: str, style: str | None) -> tuple[str, ...]:
    """What a model can leave out where a text says that it does not want `name`: of a genre, the nearest style."""
    if name in EXCLUDABLE:
        return (name,)
    # Nobody sings or raps here anyway; a genre is not a reason to leave out the style that is asked for.
    nearest = "hip-hop" if name == "rap" else genres()[name].nearest[0] if name in genres() else None
    return () if nearest is None or nearest == style else (nearest,)


def _sections(values: Iterable[Mapping[str, Any]]) -> tuple[Section, ...]:
    return tuple(
        Section(value["name"], _as_float(value.get("duration_s")), value.get("bars"))
        for value in values
        if value["name"] in SECTION_NAMES
    )


def _as_float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _same(value: object) -> object:
    return value


#: How a reading's value becomes that of a field; None: it says nothing that a field can hold.
_VALUES: Final[Mapping[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("mood", "metre", "bars", "loop", "energy", "dynamics", "channels", "sample_rate_hz"), _same),
    **dict.fromkeys(
        ("tempo_bpm", "tempo_end_bpm", "duration_s", "fade_in_s", "fade_out_s", "loudness_lufs"), _as_float
    ),
    "format": AudioFormat,
    "key": _key,
    "key_end": _key,
    "sections": _sections,
}


def _players(intent: Intent, note: Callable[..., None]) -> list[NotFollowed]:
    """Who plays, those of the ensemble first: "solo cello with piano" means the cello. Gives whom another plays for."""
    ensemble = intent.first("ensemble")
    if ensemble is not None:
        note("ensemble", ensemble.value["kind"], ensemble)
    readings = intent.of("instruments")
    front = ensemble.value["instruments"] if ensemble is not None else []
    names = list(dict.fromkeys(player(name) for name in [*front, *(r.value for r in readings)]))
    if names:
        note("instruments", tuple(names[:MAX_NAMES]), *readings)
    replaced = [(reading.words, stand_ins()[reading.value]) for reading in readings if reading.value in stand_ins()]
    return [NotFollowed(words, "instrument", other.said) for words, other in dict.fromkeys(replaced)]


def player(name: str) -> str:
    """The instrument of a request that plays this one."""
    return name if name in INSTRUMENTS else stand_ins()[name].plays_as


class _Kinds:
    """Which style an intent means, and what is known of its genre and its use."""

    def __init__(self, intent: Intent) -> None:
        readings = intent.of("style")
        # "Not funk but punk": a style that is not wanted is one only if there is no other.
        unwanted = {reading.value for reading in intent.of("exclude")}
        wanted = [reading for reading in readings if _style_of(reading.value) not in unwanted] or readings
        avoided = dict.fromkeys(reading.words for reading in readings if reading not in wanted)
        self.not_followed = [NotFollowed(words, "style", "other words say that it is not wanted") for words in avoided]
        readings = wanted
        # The dub of dub techno is no style beside it.
        whole = [r for r in readings if not any(_is_inside(r.words, other.words) for other in readings)]
        best = min(whole, key=lambda reading: (-reading.sure, reading.words.start), default=None)
        self.style: str | None = None
        self.of_style: tuple[Reading, ...] = ()
        self.hints = Hints()
        if best is not None:
            self.of_style = tuple(r for r in readings if _overlap(r.words, best.words))
            named = next((r.value["genre"] for r in self.of_style if not isinstance(r.value, str)), None)
            self.style = _style_of(best.value)
            if named is not None:
                self._of_genre(named, self.style, best)
            others = dict.fromkeys(
                r.words for r in readings if r not in self.of_style and self.style != _style_of(r.value)
            )
            why = f"one style is played at a time, here {self.style}; ask for a track of each"
            self.not_followed += [NotFollowed(words, "style", why) for words in others]
        for_what = next((uses()[r.value] for r in intent.of("use") if r.value in uses()), None)
        if for_what is not None:
            self.hints = replace(
                self.hints,
                styles=for_what.styles,
                moods=self.hints.moods or for_what.moods,
                tempo_bpm=self.hints.tempo_bpm or (for_what.tempo_bpm if best is None else None),
                energy=for_what.energy,
            )

    def _of_genre(self, name: str, style: str, reading: Reading) -> None:
        genre = genres()[name]
        self.hints = Hints(
            moods=genre.moods,
            tempo_bpm=genre.tempo_bpm,
            metre=genre.metre,
            instruments=genre.instruments,
            exclude=genre.exclude,
            mode=genre.mode,
        )
        if all(not isinstance(each.value, str) for each in self.of_style):
            own = (("tempo", genre.tempo_bpm), ("metre", genre.metre), ("instruments", genre.instruments))
            has = [what for what, value in own if value]
            with_own = f", with the {' and '.join(has)} of {name}" if has else ""
            why = f"there is no style {name}; played as {style}, the nearest{with_own}"
            self.not_followed.append(NotFollowed(reading.words, "style", why))


def _style_of(value: Value) -> str:
    """The style that a reading of a style or of a genre comes to."""
    style: str = value if isinstance(value, str) else value["nearest"][0]
    return style


def _is_inside(one: Words, other: Words) -> bool:
    return other.start <= one.start and one.end <= other.end and len(one.text) < len(other.text)


def _overlap(one: Words, other: Words) -> bool:
    return one.start < other.end and other.start < one.end
