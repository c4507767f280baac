"""What an intent says beside what is played: each reading of an answer is held against its score and its sound."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyloudnorm

from benchmarks.played import (
    BAR_QUARTERS,
    Audio,
    Played,
    bars,
    dynamics_of,
    ensemble_faults,
    first_bpm,
    is_heard,
    is_same_tempo,
    key_faults,
    last_bpm,
    likeliest_key,
    liveliness,
    metre_faults,
    pitch_classes,
    plays_excluded,
    read_midi,
    rises_in,
    seam_step,
    tempo_of_audio,
)
from orchestrion.errors import InvalidRequest
from orchestrion.models.composer.model import Composer
from orchestrion.models.protocol import Conditioning, Performance
from orchestrion.tracks.instruments import INSTRUMENTS
from orchestrion.tracks.intent.genres import genres
from orchestrion.tracks.musical_key import SCALE_STEPS, Key
from orchestrion.tracks.request import TrackRequest
from orchestrion.tracks.said import player
from orchestrion.tracks.spec import TrackSpec
from orchestrion.tracks.vocabulary import MOODS, PARTS, STYLES, VOCALS

#: Of a prompt that asks for no length, no bars and no sections.
LENGTH_S: Final = 12.0
#: Fields that say something of it.
_LENGTHS: Final = frozenset({"duration_s", "bars", "sections", "loop", "fade_in_s", "fade_out_s"})
#: Kinds of `not_followed` that say of a reading that it is not played.
_TOLD: Final = frozenset({"field", "range", "model", "metre", "instrument", "vocals", "other"})
_CONTAINERS: Final = {"wav": "WAV", "flac": "FLAC", "mp3": "MP3", "ogg": "OGG", "opus": "OGG"}
_TEMPO_TOLERANCE: Final = 0.02
_LENGTH_TOLERANCE_S: Final = 0.01
#: How far from where it was asked a section may begin: half a bar, as it begins on a bar line, and human timing.
_SECTION_BARS: Final = 0.55
#: How hard is soft and loud, as a MIDI velocity.
_SOFT_BELOW, _LOUD_ABOVE = 76.0, 76.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one prompt."""

    id: str
    prompt: str
    intent: Mapping[str, Any]
    record: Mapping[str, Any]
    played: Played
    #: [samples, channels], and None where only the score is there.
    audio: Audio | None = None
    rate_hz: int = 0
    container: str = ""
    #: The same request with the opposite energy, where the intent says one.
    contrary: Played | None = None

    @property
    def choices(self) -> Mapping[str, Any]:
        """What the model says it chose."""
        chosen = self.record.get("choices") or {}
        return chosen if isinstance(chosen, Mapping) else {}

    def told(self, reading: Mapping[str, Any]) -> bool:
        """Whether the intent says of a reading's words that they are not followed."""
        start, end = reading["words"]["start"], reading["words"]["end"]
        return any(
            one["kind"] in {*_TOLD, reading["field"]} and one["words"]["start"] < end and start < one["words"]["end"]
            for one in self.intent["not_followed"]
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """What was measured of one thing that the intent says."""

    field: str
    value: Any
    #: Empty: it is what is played.
    faults: Sequence[str]
    told: bool = False


def judge(answer: Answer) -> Iterator[Finding]:
    """Each reading of an answer's intent beside what is played."""
    readings: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for reading in answer.intent["readings"]:
        readings[reading["field"]].append(reading)
    for field, of_field in readings.items():
        check = SCORE_CHECKS.get(field) or (SOUND_CHECKS.get(field) if answer.audio is not None else None)
        if check is None:
            continue
        for reading in of_field:
            faults = list(check(answer, reading["value"]))
            yield Finding(field, reading["value"], faults, bool(faults) and answer.told(reading))
    if answer.audio is not None:
        yield from _sound_of_all(answer)


def _sound_of_all(answer: Answer) -> Iterator[Finding]:
    """What holds of every answer: its length, and that its tempo is heard where drums keep it."""
    assert answer.audio is not None
    length_s, said_s = len(answer.audio) / answer.rate_hz, float(answer.record["duration_s"])
    yield Finding("length", said_s, [f"{length_s:.3f} s"] if abs(length_s - said_s) > _LENGTH_TOLERANCE_S else [])
    drums = [track for track in answer.played.tracks if track.is_drums and track.name.startswith("drums")]
    is_steady = len({round(bpm, 1) for _, bpm in answer.played.tempos}) == 1
    asked = {one["value"] for one in answer.intent["readings"] if one["field"] == "tempo_bpm" and not answer.told(one)}
    if drums and is_steady and asked and length_s >= 8 and len(drums[0].notes) > 2 * length_s:
        found_bpm = tempo_of_audio(answer.audio.mean(1), answer.rate_hz)
        fits = any(is_same_tempo(found_bpm, bpm, answer.played.metre) for bpm in asked)
        yield Finding("tempo_in_sound", sorted(asked), [] if fits else [f"{found_bpm:.1f}"])


# Score


def _exclude(answer: Answer, value: str) -> Iterator[str]:
    if value in INSTRUMENTS or value in PARTS or value == VOCALS:
        yield from plays_excluded(answer.played, value)
    elif value in ("minor", "major"):
        mode = likeliest_key(pitch_classes(answer.played)).mode
        if mode == value:
            yield f"is in {mode}"
    elif value in STYLES or value in MOODS:
        if value in (answer.choices.get("style"), answer.choices.get("mood")):
            yield "is what is played"
    elif (
        value in genres()
        and answer.choices.get("style") == genres()[value].nearest[0]
        and not any(one["field"] == "style" for one in answer.intent["readings"])
    ):
        yield "is what is played, or the nearest"


def _instruments(answer: Answer, value: str) -> Iterator[str]:
    if not is_heard(answer.played, player(value)):
        yield "has no note"


def _ensemble(answer: Answer, value: Mapping[str, Any]) -> Iterator[str]:
    beside = [one["value"] for one in answer.intent["readings"] if one["field"] == "instruments"]
    names = list(dict.fromkeys(map(player, [*value["instruments"], *beside])))
    yield from ensemble_faults(answer.played, value["kind"], names)


def _metre(answer: Answer, value: str) -> Iterator[str]:
    yield from metre_faults(answer.played, value)


def _tempo(answer: Answer, value: float) -> Iterator[str]:
    if abs(first_bpm(answer.played) / value - 1) > _TEMPO_TOLERANCE:
        yield f"{first_bpm(answer.played):.2f}"


def _tempo_end(answer: Answer, value: float) -> Iterator[str]:
    if abs(last_bpm(answer.played) / value - 1) > _TEMPO_TOLERANCE:
        yield f"{last_bpm(answer.played):.2f}"


def _key(answer: Answer, value: str) -> Iterator[str]:
    until = _turn(answer)
    if value in SCALE_STEPS:
        found = likeliest_key(pitch_classes(answer.played, 0.0, until))
        if value in ("major", "minor") and found.mode != value:
            yield str(found)
        return
    yield from key_faults(answer.played, Key.parse(value), 0.0, until)


def _key_end(answer: Answer, value: str) -> Iterator[str]:
    yield from key_faults(answer.played, Key.parse(value), _turn(answer))


def _turn(answer: Answer) -> float:
    """The quarter at which another key begins; the end, where there is none."""
    said = str(answer.choices.get("key_end", ""))
    if not said:
        return float("inf")
    at_s = float(said.split()[-2])
    played = answer.played
    quarters = np.arange(0.0, played.end + 0.25, 0.25)
    return float(min(quarters, key=lambda quarter: abs(played.seconds(quarter) - at_s)))


def _bars(answer: Answer, value: int) -> Iterator[str]:
    played = answer.played
    is_loop = any(one["field"] == "loop" for one in answer.intent["readings"])
    found = round(played.end / BAR_QUARTERS[played.metre]) if is_loop else bars(played)
    # The final chord of what is no loop may fall on the bar line after the last.
    if value not in ((found,) if is_loop else (found, found - 1)):
        yield f"{found} bars"


def _sections(answer: Answer, value: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    played = answer.played
    names, wanted = [text for _, text in played.markers], [one["name"] for one in value]
    if names != wanted:
        yield f"{', '.join(names)}"
        return
    bar = BAR_QUARTERS[played.metre]
    for number, one in enumerate(value[:-1]):
        begin, end = played.markers[number][0], played.markers[number + 1][0]
        if one.get("bars") is not None and round((end - begin) / bar) != one["bars"]:
            yield f"{one['name']} has {(end - begin) / bar:g} bars"
        if one.get("duration_s") is not None:
            length_s = played.seconds(end) - played.seconds(begin)
            if abs(length_s - one["duration_s"]) > 2 * _SECTION_BARS * played.seconds(bar):
                yield f"{one['name']} lasts {length_s:.2f} s"


def _loop(answer: Answer, value: bool) -> Iterator[str]:
    played = answer.played
    bar = BAR_QUARTERS[played.metre]
    if value and abs(played.end / bar - round(played.end / bar)) > 0.01:
        yield f"ends after {played.end / bar:.2f} bars"
    if value and answer.audio is not None:
        if (step := seam_step(answer.audio)) > 1.5:
            yield f"the seam is a step of {step:.1f}"
        if abs(played.seconds(played.end) - len(answer.audio) / answer.rate_hz) > _LENGTH_TOLERANCE_S:
            yield f"the score lasts {played.seconds(played.end):.3f} s"


def _dynamics(answer: Answer, value: str) -> Iterator[str]:
    first, last = dynamics_of(answer.played)
    is_so = {
        "soft": (first + last) / 2 < _SOFT_BELOW,
        "loud": (first + last) / 2 > _LOUD_ABOVE,
        "crescendo": last > 1.1 * first,
        "diminuendo": last < 0.9 * first,
    }
    if not is_so[value]:
        yield f"velocity {first:.0f} to {last:.0f}"


def _energy(answer: Answer, value: str) -> Iterator[str]:
    if answer.contrary is not None:
        own, other = liveliness(answer.played), liveliness(answer.contrary)
        if (own <= other) if value == "high" else (own >= other):
            yield f"is as lively ({own:.0f}) as the opposite ({other:.0f})"


def _style(answer: Answer, value: object) -> Iterator[str]:
    # Words may be read as a genre and as the style in its name: "city pop" is played as either.
    here = [one for one in answer.intent["readings"] if one["field"] == "style"]
    words = [one["words"] for one in here if one["value"] == value]
    wanted = {
        style
        for one in here
        if any(one["words"]["start"] < each["end"] and each["start"] < one["words"]["end"] for each in words)
        for style in ([one["value"]] if isinstance(one["value"], str) else one["value"]["nearest"])
    }
    if answer.choices.get("style") not in wanted:
        yield str(answer.choices.get("style"))


def _mood(answer: Answer, value: str) -> Iterator[str]:
    if answer.choices.get("mood") != value:
        yield str(answer.choices.get("mood"))


# Sound


def _duration(answer: Answer, value: float) -> Iterator[str]:
    assert answer.audio is not None
    length_s = len(answer.audio) / answer.rate_hz
    if abs(length_s - value) > _LENGTH_TOLERANCE_S:
        yield f"{length_s:.3f} s"


def _fade_in(answer: Answer, value: float) -> Iterator[str]:
    assert answer.audio is not None
    if value > 0 and not rises_in(answer.audio, answer.rate_hz, value):
        yield "does not rise"


def _fade_out(answer: Answer, value: float) -> Iterator[str]:
    assert answer.audio is not None
    if value > 0 and not rises_in(answer.audio[::-1], answer.rate_hz, value):
        yield "does not fall"


def _channels(answer: Answer, value: int) -> Iterator[str]:
    assert answer.audio is not None
    if answer.audio.shape[1] != value:
        yield f"{answer.audio.shape[1]} channels"


def _rate(answer: Answer, value: int) -> Iterator[str]:
    if answer.rate_hz != value:
        yield f"{answer.rate_hz} Hz"


def _format(answer: Answer, value: str) -> Iterator[str]:
    if answer.container != _CONTAINERS[value]:
        yield answer.container


def _loudness(answer: Answer, value: float) -> Iterator[str]:
    assert answer.audio is not None
    found = pyloudnorm.Meter(answer.rate_hz).integrated_loudness(answer.audio.astype(np.float64))
    if abs(found - value) > 1.0:
        yield f"{found:.1f} LUFS"


Check = Callable[[Answer, Any], Iterator[str]]
SCORE_CHECKS: Final[dict[str, Check]] = {
    "exclude": _exclude, "instruments": _instruments, "ensemble": _ensemble, "metre": _metre, "tempo_bpm": _tempo,
    "tempo_end_bpm": _tempo_end, "key": _key, "key_end": _key_end, "bars": _bars, "sections": _sections, "loop": _loop,
    "dynamics": _dynamics, "energy": _energy, "style": _style, "mood": _mood,
}  # fmt: skip
SOUND_CHECKS: Final[dict[str, Check]] = {
    "duration_s": _duration, "fade_in_s": _fade_in, "fade_out_s": _fade_out, "channels": _channels,
    "sample_rate_hz": _rate, "format": _format, "loudness_lufs": _loudness,
}  # fmt: skip


# Asking


def asks_length(intent: Mapping[str, Any]) -> bool:
    """Whether an intent says anything of how long the piece is: a loop has whole bars, and fades need their time."""
    return not _LENGTHS.isdisjoint(one["field"] for one in intent["readings"])


def body_of(number: int, prompt: Mapping[str, Any], intent: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for a prompt: itself, and a length where it says none."""
    length = {} if asks_length(intent) else {"duration_s": LENGTH_S}
    return {"prompt": prompt["prompt"], "seed": number} | length


def opposite_energy(intent: Mapping[str, Any]) -> str | None:
    """The energy that an intent does not say; None where it says none or both."""
    said = {one["value"] for one in intent["readings"] if one["field"] == "energy"}
    return {"low": "high", "high": "low"}[said.pop()] if len(said) == 1 else None


def compose_only(composer: Composer, number: int, prompt: Mapping[str, Any]) -> Answer | str:
    """The same without a service and without a sound: what the composer writes for one prompt; or why it is refused."""

    def performed(**changes: object) -> tuple[TrackRequest, Performance, Played]:
        intent = TrackSpec.from_json({"prompt": prompt["prompt"]}).resolve().intent.values()
        request = TrackSpec.from_json(body_of(number, prompt, intent) | changes).resolve()
        performance = composer.perform(Conditioning.of(request.composition, None, None))
        assert performance.write_midi is not None
        return request, performance, read_midi(performance.write_midi())

    try:
        request, performance, played = performed()
    except InvalidRequest as refused:
        return str(refused)
    intent = request.intent.values()
    record = {"duration_s": request.composition.duration_s, "choices": performance.choices}
    opposite = opposite_energy(intent)
    contrary = performed(energy=opposite)[2] if opposite is not None else None
    return Answer(prompt["id"], prompt["prompt"], intent, record, played, contrary=contrary)
