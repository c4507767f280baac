"""Fields and words together: fields hold, words hold where they go with them, defaults are for the rest.

What the words ask for and does not go with a field, with a figure's limits or with what else they say gives way, and is
told as not followed. Fields that contradict each other are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import itemgetter
from typing import Any, Final

from orchestrion.errors import InvalidRequest
from orchestrion.tracks.instruments import check_players
from orchestrion.tracks.intent.intent import Intent, NotFollowed, Value
from orchestrion.tracks.lengths import TOLERANCE_S, Asked, length_and_tempo
from orchestrion.tracks.request import (
    COMPOSITION_FIELDS,
    CONTROLS,
    DEFAULT_LOUDNESS_LUFS,
    DEFAULT_SAMPLE_RATE_HZ,
    DELIVERY_FIELDS,
    MAX_BARS,
    MAX_DURATION_S,
    MAX_FADE_S,
    MAX_LOUDNESS_LUFS,
    MAX_SECTIONS,
    MAX_TEMPO_BPM,
    MIN_DURATION_S,
    MIN_LOUDNESS_LUFS,
    MIN_SECTION_S,
    MIN_TEMPO_BPM,
    OPUS_SAMPLE_RATE_HZ,
    SAMPLE_RATES_HZ,
    AudioFormat,
    Composition,
    Delivery,
    Purpose,
    TrackRequest,
    as_written,
)
from orchestrion.tracks.said import excluded_in, said_in

#: What makes the end of a track another than its beginning.
_SEAMS: Final = ("fade_in_s", "fade_out_s", "tempo_end_bpm", "key_end")
#: How far a tempo in words may be from the field's without saying something else.
_TEMPO_OF_A_WORD: Final = 0.25
#: What a figure that only words ask for may be; tempo and length beyond theirs are refused, as there is no music then.
_RANGES: Final = {
    "tempo_end_bpm": (MIN_TEMPO_BPM, MAX_TEMPO_BPM),
    "bars": (1, MAX_BARS),
    "fade_in_s": (0.0, MAX_FADE_S),
    "fade_out_s": (0.0, MAX_FADE_S),
    "loudness_lufs": (MIN_LOUDNESS_LUFS, MAX_LOUDNESS_LUFS),
    "channels": (1, 2),
}


def resolve(given: Mapping[str, Any], requester: str, purpose: Purpose) -> TrackRequest:
    """The request that fields and the words of its prompt ask for together.

    Args:
        given: every field of a composition and a delivery, as these have them; None where it is not given.
        requester: who asks.
        purpose: what for.

    Raises:
        InvalidRequest: a figure of the prompt is out of range, or fields contradict each other.
    """
    return _Resolution(given).request(requester, purpose)


class _Resolution:
    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = {name: value for name, value in given.items() if value is not None}
        self._said = said_in(given["prompt"])
        #: What the words ask for and still holds.
        self._words = dict(self._said.fields)
        self._not_followed: list[NotFollowed] = []

    def request(self, requester: str, purpose: Purpose) -> TrackRequest:
        self._let_fields_win()
        self._let_ranges_win()
        self._settle_unwanted()
        self._settle(_check_players, "ensemble", "instruments", "exclude")
        self._settle(_check_seams, *(("loop", *_SEAMS) if self._has_seam else (*_SEAMS, "loop")))
        self._let_seconds_win_over_bars()
        self._settle(self._lengths, "sections", "bars", "loop")
        duration_s, tempo_bpm = self._lengths(self._values)
        for name, value, low, high in (
            ("tempo_bpm", tempo_bpm, MIN_TEMPO_BPM, MAX_TEMPO_BPM),
            ("duration_s", duration_s, MIN_DURATION_S, MAX_DURATION_S),
        ):
            _in_range(name, value, low, high)
        self._settle(lambda values: _check_fades(values, duration_s), "fade_out_s", "fade_in_s")
        self._settle(_check_rate, "sample_rate_hz", "format")
        self._tell_what_came_otherwise({"duration_s": duration_s, "tempo_bpm": tempo_bpm})
        values = self._values | {"duration_s": duration_s, "tempo_bpm": tempo_bpm}
        values = _with_defaults(values)
        return TrackRequest(
            composition=Composition(*_COMPOSITION(values)),
            delivery=Delivery(*_DELIVERY(values)),
            requester=requester,
            purpose=purpose,
            intent=self._intent,
            said=frozenset(name for name in CONTROLS if name in self._words),
        )

    @property
    def _values(self) -> dict[str, Any]:
        """What holds of both."""
        return self._words | self._given

    @property
    def _has_seam(self) -> bool:
        return any(self._given.get(name) for name in _SEAMS)

    @property
    def _intent(self) -> Intent:
        intent = self._said.intent
        if not self._not_followed:
            return intent
        return replace(intent, not_followed=(*intent.not_followed, *self._not_followed))

    # Words give way

    def _give_way(self, name: str, why: str, kind: str = "field") -> None:
        del self._words[name]
        self._tell(name, why, kind)

    def _tell(self, name: str, why: str, kind: str) -> None:
        self._not_followed += [NotFollowed(words, kind, why) for words in self._said.words.get(name, ())]

    def _let_fields_win(self) -> None:
        for name in [name for name in self._words if name in self._given and name != "exclude"]:
            given = self._given[name]
            if (
                given == self._words[name]
                or _is_part(self._words[name], given)
                or _is_near(name, self._words[name], given)
            ):
                del self._words[name]
            else:
                self._give_way(name, f"the field {name} says {_in_words(given)}")

    def _let_ranges_win(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = self._words.get(name)
            if value is not None and not low <= value <= high:
                self._give_way(name, f"{name} is {low:g} to {high:g}", "range")
        sections = self._words.get("sections", ())
        if len(sections) > MAX_SECTIONS or any((each.duration_s or MIN_SECTION_S) < MIN_SECTION_S for each in sections):
            self._give_way("sections", f"a track has up to {MAX_SECTIONS} sections of {MIN_SECTION_S:g} s", "range")

    def _settle_unwanted(self) -> None:
        """What must not sound, by field, words and negative prompt together, but for what a field asks for."""
        unwanted = self._given.get("exclude", ())
        for name in ("style", "mood"):
            if self._words.get(name) in unwanted:
                self._give_way(name, f"the field exclude names {self._words[name]}")
        wanted = {self._values.get("style"), self._values.get("mood")}
        named = {*self._words.get("exclude", ()), *excluded_in(self._given.get("negative_prompt", ""))}
        kept = {name for name in named if name not in wanted and _may_miss(name, self._values)}
        if named - kept and "exclude" in self._words:
            self._tell("exclude", f"{', '.join(sorted(named - kept))} is asked for as well", "field")
        if "exclude" in self._given:
            self._given["exclude"] = tuple(sorted({*unwanted, *kept}))
            self._words.pop("exclude", None)
        elif kept:
            self._words["exclude"] = tuple(sorted(kept))
        else:
            self._words.pop("exclude", None)

    def _settle(self, check: Callable[[Mapping[str, Any]], object], *names: str) -> None:
        """Let words give way, one of these fields after the other, until nothing contradicts anything.

        Raises:
            InvalidRequest: fields contradict each other.
        """
        while True:
            try:
                check(self._values)
            except InvalidRequest as error:
                name = next((name for name in names if name in self._words), None)
                if name is None:
                    raise
                self._give_way(name, error.problems[0].message)
            else:
                return

    def _let_seconds_win_over_bars(self) -> None:
        """Of two lengths that words give, the one in seconds holds: "a twelve bar blues, 6 seconds" names a form."""
        bars, said_s = self._words.get("bars"), self._words.get("duration_s")
        if bars is None or said_s is None or "sections" in self._values:
            return
        try:
            duration_s, _ = self._lengths(self._values)
        except InvalidRequest:
            return
        if not math.isclose(duration_s, said_s, abs_tol=TOLERANCE_S):
            self._give_way(
                "bars", f"{bars} bars would last {duration_s:.6g} s, and the length asked for is {said_s:g} s"
            )

    def _lengths(self, values: Mapping[str, Any]) -> tuple[float, float | None]:
        given = self._given
        return length_and_tempo(
            Asked(
                duration_s=given.get("duration_s"),
                tempo_bpm=given.get("tempo_bpm"),
                tempo_end_bpm=values.get("tempo_end_bpm"),
                metre=values.get("metre"),
                style=values.get("style"),
                bars=values.get("bars"),
                sections=values.get("sections"),
                loop=bool(values.get("loop")),
                said_duration_s=self._words.get("duration_s"),
                said_tempo_bpm=self._words.get("tempo_bpm"),
            )
        )

    def _tell_what_came_otherwise(self, came: Mapping[str, float | None]) -> None:
        """Figures of the words that others of them have changed."""
        for name, value in came.items():
            said = self._words.get(name)
            if said is not None and value is not None and not math.isclose(said, value, abs_tol=0.01):
                self._tell(name, f"bars, sections and tempo come to {value:.6g}", "field")


def _is_part(said: object, given: object) -> bool:
    """Whether a list of the words is part of the field's."""
    return isinstance(said, tuple) and isinstance(given, tuple) and set(said) <= set(given)


def _is_near(name: str, said: Value, given: Value) -> bool:
    """Whether a tempo is one that a word may mean: "slow" is 60 as well as 70."""
    return name == "tempo_bpm" and math.isclose(said, given, rel_tol=_TEMPO_OF_A_WORD)


def _in_words(given: object) -> str:
    return f"{given:g}" if isinstance(given, float) else str(as_written(given))


def _may_miss(name: str, values: Mapping[str, Any]) -> bool:
    """Whether leaving this out leaves the named instruments."""
    try:
        check_players(values.get("instruments") or (), values.get("ensemble"), (name,))
    except InvalidRequest as error:
        return error.problems[0].field != "exclude"
    return True


def _check_players(values: Mapping[str, Any]) -> None:
    exclude = values.get("exclude") or ()
    check_players(values.get("instruments") or (), values.get("ensemble"), exclude)
    for name in ("style", "mood"):
        if values.get(name) in exclude:
            raise InvalidRequest.of("exclude", ", ".join(exclude), f"excludes the {name} that is asked for")


def _check_seams(values: Mapping[str, Any]) -> None:
    changes = [name for name in _SEAMS if values.get(name)]
    if values.get("loop") and changes:
        message = f"has no seam, and {' and '.join(changes)} would make one; leave it or them out"
        raise InvalidRequest.of("loop", True, message)


def _check_fades(values: Mapping[str, Any], duration_s: float) -> None:
    fade_in_s, fade_out_s = values.get("fade_in_s") or 0.0, values.get("fade_out_s") or 0.0
    fades_s = fade_in_s + fade_out_s
    if fades_s > duration_s and not math.isclose(fades_s, duration_s):
        raise InvalidRequest.of(
            "fade_out_s",
            fade_out_s,
            f"the fades ({fade_in_s:g} + {fade_out_s:g} s) are longer than the track ({duration_s:g} s)",
        )


def _check_rate(values: Mapping[str, Any]) -> None:
    audio_format, rate_hz = values.get("format") or AudioFormat.WAV, values.get("sample_rate_hz")
    if rate_hz is not None and rate_hz not in SAMPLE_RATES_HZ[audio_format]:
        rates = ", ".join(map(str, SAMPLE_RATES_HZ[audio_format]))
        raise InvalidRequest.of("sample_rate_hz", rate_hz, f"does not go with {audio_format.value}; use one of {rates}")


def _in_range(field: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise InvalidRequest.of(
            field, value, f"the prompt asks for {value:g}; give {field} between {low:g} and {high:g}"
        )


def _with_defaults(values: dict[str, Any]) -> dict[str, Any]:
    audio_format = values.setdefault("format", AudioFormat.WAV)
    rate_hz = OPUS_SAMPLE_RATE_HZ if audio_format is AudioFormat.OPUS else DEFAULT_SAMPLE_RATE_HZ
    defaults = {"sample_rate_hz": rate_hz, "loudness_lufs": DEFAULT_LOUDNESS_LUFS, "fade_in_s": 0.0, "fade_out_s": 0.0}
    values = dict.fromkeys((*COMPOSITION_FIELDS, *DELIVERY_FIELDS)) | defaults | values
    values["loop"] = values["loop"] or None
    # 14 and 14.0 are the same request: JSON does not tell them apart, and ids must not either.
    return values | {name: float(values[name]) for name in _FLOATS if values[name] is not None}


_FLOATS: Final = (
    *("tempo_bpm", "duration_s", "guidance", "temperature", "top_p", "tempo_end_bpm"),
    *("loudness_lufs", "fade_in_s", "fade_out_s"),
)
_COMPOSITION: Final = itemgetter(*COMPOSITION_FIELDS)
_DELIVERY: Final = itemgetter(*DELIVERY_FIELDS)
