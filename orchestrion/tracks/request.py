"""A track as the system passes it around: fully resolved, and known to be valid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Final

from orchestrion.tracks.intent.intent import Intent, Value
from orchestrion.tracks.musical_key import Key
from orchestrion.tracks.section import Section

DEFAULT_DURATION_S: Final = 30.0
MIN_DURATION_S: Final = 1.0
MAX_DURATION_S: Final = 600.0
MAX_SECTIONS: Final = 32
MIN_SECTION_S: Final = 1.0
#: Ten minutes of 2/4 at the fastest tempo.
MAX_BARS: Final = 1500
#: Instruments that a request may name, and names that it may exclude.
MAX_NAMES: Final = 32
MIN_TEMPO_BPM: Final = 30.0
MAX_TEMPO_BPM: Final = 300.0
#: The largest integer that JSON, JavaScript and float64 all carry unchanged.
MAX_SEED: Final = 2**53 - 1
MIN_GUIDANCE: Final = 1.0
MAX_GUIDANCE: Final = 10.0
MAX_TEMPERATURE: Final = 2.0
#: Codes in a codebook of the largest vocabulary there is: more is no limit.
MAX_TOP_K: Final = 2048
MAX_FADE_S: Final = 30.0
MIN_LOUDNESS_LUFS: Final = -30.0
MAX_LOUDNESS_LUFS: Final = -9.0
DEFAULT_LOUDNESS_LUFS: Final = -14.0
DEFAULT_SAMPLE_RATE_HZ: Final = 44_100
OPUS_SAMPLE_RATE_HZ: Final = 48_000


class AudioFormat(StrEnum):
    """The containers a finished track can be had in."""

    WAV = "wav"
    FLAC = "flac"
    MP3 = "mp3"
    OGG = "ogg"
    OPUS = "opus"


#: The sampling rates each encoder takes. MP3: MPEG-1/2/2.5 layer III; Opus: RFC 6716 §2.
SAMPLE_RATES_HZ: Final[dict[AudioFormat, tuple[int, ...]]] = {
    AudioFormat.WAV: (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000),
    AudioFormat.FLAC: (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000),
    AudioFormat.MP3: (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000),
    AudioFormat.OGG: (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000),
    AudioFormat.OPUS: (8000, 12000, 16000, 24000, 48000),
}
#: Fields that only some models can follow: `ModelInfo.controls` lists a model's own. Always None when not given.
CONTROLS: Final = (
    *("theme", "continuation", "guidance", "temperature", "top_k", "top_p"),
    *("exclude", "instruments", "ensemble", "metre", "sections", "bars", "loop"),
    *("tempo_end_bpm", "key_end", "energy", "dynamics"),
)
#: Fields that came after the first stored tracks. Where they are not given they are not part of a track's identity,
#: so that what was stored before they existed is still found.
_LATER_FIELDS: Final = frozenset({*CONTROLS, "channels"}) - {"theme"}


class Purpose(StrEnum):
    """What the requester will use the track for; decides which weights' licences allow it."""

    COMMERCIAL = "commercial"
    NON_COMMERCIAL = "non-commercial"
    RESEARCH = "research"


@dataclass(frozen=True, slots=True)
class Composition:
    """What determines a piece, whatever form it is delivered in. None means: the model chooses."""

    prompt: str
    negative_prompt: str
    style: str | None
    mood: str | None
    tempo_bpm: float | None
    key: Key | None
    duration_s: float
    seed: int
    #: "sha256:<64 hex digits>" of a theme (audio or MIDI) that is in the store.
    theme: str | None
    #: The same for audio that the piece begins with and goes on from.
    continuation: str | None
    #: How strongly the words are followed.
    guidance: float | None
    #: How freely codes are drawn; 0 always takes the likeliest.
    temperature: float | None
    #: Draw among this many of the likeliest codes; 0: among all.
    top_k: int | None
    #: Draw among the likeliest codes that together have this probability, whatever `top_k` says; 0: `top_k` decides.
    top_p: float | None
    #: Names of what must not sound: instruments, `vocabulary.PARTS`, vocals, styles and moods; sorted.
    exclude: tuple[str, ...] | None
    #: Names of `instruments.INSTRUMENTS` that play, in the order in which they were named.
    instruments: tuple[str, ...] | None
    #: One of `vocabulary.ENSEMBLES`.
    ensemble: str | None
    #: One of `vocabulary.METRES`.
    metre: str | None
    #: What the piece consists of, in order.
    sections: tuple[Section, ...] | None
    #: How many bars of its metre it has.
    bars: int | None
    #: True: its end joins its beginning without a seam. Never False.
    loop: bool | None
    #: The tempo at its end; it changes evenly over the whole piece.
    tempo_end_bpm: float | None
    #: The key at its end.
    key_end: Key | None
    #: One of `vocabulary.ENERGIES`.
    energy: str | None
    #: One of `vocabulary.DYNAMICS`.
    dynamics: str | None
    model: str

    def values(self) -> dict[str, Any]:
        """Every field by its name, as JSON values: as a record has them."""
        return {name: as_json(getattr(self, name)) for name in COMPOSITION_FIELDS}

    def determinants(self) -> dict[str, Any]:
        """The fields that decide what the model makes, as JSON values."""
        return determining(self.values())


@dataclass(frozen=True, slots=True)
class Delivery:
    """The form in which a piece is delivered: its container, and what is done to its sound for that."""

    format: AudioFormat
    sample_rate_hz: int
    loudness_lufs: float
    fade_in_s: float
    fade_out_s: float
    #: 1 or 2; None: as many as the model makes.
    channels: int | None

    def values(self) -> dict[str, Any]:
        """Every field by its name, as JSON values."""
        return {name: getattr(self, name) for name in DELIVERY_FIELDS} | {"format": self.format.value}

    def determinants(self) -> dict[str, Any]:
        """The fields that decide how the audio sounds, as JSON values."""
        return determining(self.values())


@dataclass(frozen=True, slots=True)
class TrackRequest:
    """One track, fully resolved and known to be valid: what piece, in what form, for whom."""

    composition: Composition
    delivery: Delivery
    requester: str
    purpose: Purpose
    #: What the words were understood to ask for; of what they ask for and do not get, why. No part of what is rendered.
    intent: Intent
    #: Those of `CONTROLS` that only the words ask for: a model that cannot follow them is still given the rest.
    said: frozenset[str]

    def values(self) -> dict[str, Any]:
        """Every field by its name, as JSON values: as a record has them."""
        asked = self.composition.values() | self.delivery.values()
        return asked | {"requester": self.requester, "purpose": self.purpose.value}

    def determinants(self) -> dict[str, Any]:
        """The fields that decide how the audio sounds, as JSON values."""
        return self.composition.determinants() | self.delivery.determinants()


def determining(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that are part of an identity."""
    return {name: value for name, value in values.items() if value is not None or name not in _LATER_FIELDS}


def as_json(value: object) -> Value:
    """A field of a composition as a JSON value."""
    match value:
        case Key():
            return str(value)
        case Section():
            return asdict(value)
        case tuple():
            return [as_json(each) for each in value]
    return value


def as_written(given: object) -> object:
    """A field's value as its sender would write it: a list is text with commas."""
    return ", ".join(map(str, given)) if isinstance(given, tuple) else as_json(given)


COMPOSITION_FIELDS: Final = tuple(field.name for field in fields(Composition))
DELIVERY_FIELDS: Final = tuple(field.name for field in fields(Delivery))
