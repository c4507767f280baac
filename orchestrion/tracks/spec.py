"""What a caller asks for, checked once and resolved: the only way text becomes a `TrackRequest`.

`TrackSpec` is the wire form (HTTP bodies and catalog rows are both read by it); `TrackRequest` is what the rest of the
system passes around. Requester and purpose do not change the audio, so they are not part of a track's id.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from operator import itemgetter
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from orchestrion.errors import InvalidRequest, Problem, shown
from orchestrion.tracks.musical_key import Key
from orchestrion.tracks.prompt import canonical_name, read_prompt
from orchestrion.tracks.request import (
    COMPOSITION_FIELDS,
    DEFAULT_DURATION_S,
    DEFAULT_SAMPLE_RATE_HZ,
    DELIVERY_FIELDS,
    MAX_DURATION_S,
    MAX_GUIDANCE,
    MAX_SEED,
    MAX_TEMPERATURE,
    MAX_TEMPO_BPM,
    MAX_TOP_K,
    MIN_DURATION_S,
    MIN_GUIDANCE,
    MIN_TEMPO_BPM,
    OPUS_SAMPLE_RATE_HZ,
    SAMPLE_RATES_HZ,
    AudioFormat,
    Composition,
    Delivery,
    Purpose,
    TrackRequest,
)
from orchestrion.tracks.vocabulary import MOODS, STYLES

#: Invisible characters that Persian, Hindi, Arabic, Hebrew and emoji need: joiners and direction marks.
_WRITING_MARKS: Final = "\u200c\u200d\u200e\u200f\u061c"


def _printable(text: str) -> str:
    """One form of the same text (NFC, line feeds), refusing what no reader can see or what reverses what they see.

    Unassigned characters pass: next year's emoji are unknown to this year's Python.
    """
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    if text.isprintable():  # Stricter than what follows, and fifty times as fast.
        return text
    for character in text:
        hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co") or _is_noncharacter(ord(character))
        if hidden and character not in "\n\t" + _WRITING_MARKS:
            name = unicodedata.name(character, "no printable character")
            raise ValueError(f"contains U+{ord(character):04X} ({name}); use printable text")
    return text


def _is_noncharacter(code_point: int) -> bool:
    return 0xFDD0 <= code_point <= 0xFDEF or code_point & 0xFFFE == 0xFFFE


def _not_empty(text: str) -> str:
    if not text.strip(_WRITING_MARKS):
        raise ValueError("is empty; describe the music, for example 'calm solo piano in D minor'")
    return text


def _style(text: str) -> str:
    name = canonical_name(text, STYLES)
    if name is None:
        raise ValueError("is not a known style; use one of " + ", ".join(STYLES))
    return name


def _mood(text: str) -> str:
    name = canonical_name(text, {mood: m.words for mood, m in MOODS.items()})
    if name is None:
        raise ValueError("is not a known mood; use one of " + ", ".join(MOODS))
    return name


def _key_text(text: str) -> str:
    try:
        return str(Key.parse(text))
    except InvalidRequest as error:
        raise ValueError(error.problems[0].message) from None


_Text = Annotated[str, AfterValidator(_printable)]
_UPLOAD: Final = r"^sha256:[0-9a-f]{64}$"


class TrackSpec(BaseModel):
    """A request as it comes in: JSON body or catalog row. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prompt: Annotated[_Text, Field(max_length=2000), AfterValidator(_not_empty)] = Field(
        description="What the music should be; its words are read for tempo, key, length, style and mood.",
        examples=["slow sad piano in D minor, 70 bpm, 20 seconds"],
    )
    negative_prompt: Annotated[_Text, Field(max_length=1000)] = Field(
        default="", description="What should not be in it, e.g. 'drums, vocals'."
    )
    style: Annotated[_Text, Field(max_length=64), AfterValidator(_style)] | None = Field(
        default=None, description="One of the named styles; read from the prompt when not given."
    )
    mood: Annotated[_Text, Field(max_length=64), AfterValidator(_mood)] | None = Field(
        default=None, description="One of the named moods; read from the prompt when not given."
    )
    tempo_bpm: float | None = Field(
        default=None, ge=MIN_TEMPO_BPM, le=MAX_TEMPO_BPM, allow_inf_nan=False, description="Beats per minute."
    )
    key: Annotated[_Text, Field(max_length=32), AfterValidator(_key_text)] | None = Field(
        default=None, description="Tonic and mode, e.g. 'D minor', 'Eb major', 'F# dorian'."
    )
    duration_s: float | None = Field(
        default=None,
        ge=MIN_DURATION_S,
        le=MAX_DURATION_S,
        allow_inf_nan=False,
        description=f"Length in seconds; {DEFAULT_DURATION_S:g} when neither this nor the prompt says.",
    )
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="Another seed gives another take.")
    theme: str | None = Field(
        default=None, pattern=_UPLOAD, description="Reference of an uploaded theme melody (audio or MIDI)."
    )
    continuation: str | None = Field(
        default=None,
        pattern=_UPLOAD,
        description="Reference of uploaded audio that the track begins with and goes on from; part of `duration_s`.",
    )
    guidance: float | None = Field(
        default=None,
        ge=MIN_GUIDANCE,
        le=MAX_GUIDANCE,
        allow_inf_nan=False,
        description="How strongly the words are followed (classifier-free guidance); 1 is not at all strengthened.",
    )
    temperature: float | None = Field(
        default=None,
        ge=0.0,
        le=MAX_TEMPERATURE,
        allow_inf_nan=False,
        description="How freely codes are drawn; 0 always takes the likeliest.",
    )
    top_k: int | None = Field(
        default=None, ge=0, le=MAX_TOP_K, description="Draw among this many of the likeliest codes; 0: among all."
    )
    top_p: float | None = Field(
        default=None,
        ge=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="Draw among the likeliest codes that together have this probability, not top_k; 0: top_k decides.",
    )
    #: Each part between separators starts with a letter or digit, so that no name can climb out of a folder.
    model: str = Field(
        default="composer",
        max_length=200,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*([/:@][A-Za-z0-9][A-Za-z0-9._+-]*)*$",
        description="A model's name as the models list gives it.",
    )
    format: Annotated[AudioFormat, Field(strict=False)] = Field(default=AudioFormat.WAV)
    sample_rate_hz: int | None = Field(
        default=None,
        description=f"{DEFAULT_SAMPLE_RATE_HZ} when not given, {OPUS_SAMPLE_RATE_HZ} for Opus.",
    )
    loudness_lufs: float = Field(
        default=-14.0, ge=-30.0, le=-9.0, allow_inf_nan=False, description="Integrated loudness, ITU-R BS.1770-5."
    )
    fade_in_s: float = Field(default=0.0, ge=0.0, le=30.0, allow_inf_nan=False)
    fade_out_s: float = Field(default=0.0, ge=0.0, le=30.0, allow_inf_nan=False)
    requester: str = Field(default="anonymous", pattern=r"^[A-Za-z0-9][A-Za-z0-9._@:+-]{0,127}$")
    purpose: Annotated[Purpose, Field(strict=False)] = Field(
        default=Purpose.COMMERCIAL,
        description="What the track is for. The default is the strictest: it is refused by non-commercial weights.",
    )

    @field_validator("sample_rate_hz")
    @classmethod
    def _rate_fits_the_format(cls, rate_hz: int | None, info: ValidationInfo) -> int | None:
        audio_format: AudioFormat | None = info.data.get("format")  # Missing when it was refused itself.
        if rate_hz is not None and audio_format is not None and rate_hz not in SAMPLE_RATES_HZ[audio_format]:
            rates = ", ".join(map(str, SAMPLE_RATES_HZ[audio_format]))
            raise ValueError(f"does not go with format {audio_format.value}; use one of {rates}")
        return rate_hz

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read a JSON object (already parsed) or a typed catalog row, types taken strictly.

        Raises:
            InvalidRequest: naming each wrong field, its value and the remedy.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise invalid_request(error) from None

    @classmethod
    def from_text(cls, cells: Mapping[str, str]) -> Self:
        """Read a row whose cells are all text (CSV); an empty cell is a field that is not given.

        Raises:
            InvalidRequest: naming each wrong field, its value and the remedy.
        """
        try:
            given = {name: cell.strip() for name, cell in cells.items()}
            return cls.model_validate_strings({name: cell for name, cell in given.items() if cell})
        except ValidationError as error:
            raise invalid_request(error) from None

    def resolve(self) -> TrackRequest:
        """Fill what was not given from the prompt's words and the defaults.

        Raises:
            InvalidRequest: the prompt's own figures are out of range, or the fades are longer than the track.
        """
        said = read_prompt(self.prompt)
        tempo_bpm = self.tempo_bpm if self.tempo_bpm is not None else said.tempo_bpm
        duration_s = self.duration_s if self.duration_s is not None else said.duration_s
        if duration_s is None:
            duration_s = DEFAULT_DURATION_S
        _in_range("tempo_bpm", tempo_bpm, MIN_TEMPO_BPM, MAX_TEMPO_BPM)
        _in_range("duration_s", duration_s, MIN_DURATION_S, MAX_DURATION_S)
        fades_s = self.fade_in_s + self.fade_out_s
        if fades_s > duration_s and not math.isclose(fades_s, duration_s):
            raise InvalidRequest.of(
                "fade_out_s",
                self.fade_out_s,
                f"the fades ({self.fade_in_s:g} + {self.fade_out_s:g} s) are longer than the track ({duration_s:g} s)",
            )
        default_rate_hz = OPUS_SAMPLE_RATE_HZ if self.format is AudioFormat.OPUS else DEFAULT_SAMPLE_RATE_HZ
        values = (
            dict.fromkeys(COMPOSITION_FIELDS + DELIVERY_FIELDS)
            | vars(self)
            | {
                "style": self.style or said.style,
                "mood": self.mood or said.mood,
                "tempo_bpm": tempo_bpm,
                "key": Key.parse(self.key) if self.key else said.key,
                "duration_s": duration_s,
                "sample_rate_hz": self.sample_rate_hz or default_rate_hz,
            }
        )
        # 14 and 14.0 are the same request: JSON does not tell them apart, and ids must not either.
        for name in _FLOATS:
            if values[name] is not None:
                values[name] = float(values[name])
        return TrackRequest(
            composition=Composition(*_COMPOSITION(values)),
            delivery=Delivery(*_DELIVERY(values)),
            requester=self.requester,
            purpose=self.purpose,
        )


_FLOATS: Final = (
    *("tempo_bpm", "duration_s", "guidance", "temperature", "top_p"),
    *("loudness_lufs", "fade_in_s", "fade_out_s"),
)


_COMPOSITION: Final = itemgetter(*COMPOSITION_FIELDS)
_DELIVERY: Final = itemgetter(*DELIVERY_FIELDS)


def _in_range(field: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise InvalidRequest.of(
            field, value, f"the prompt asks for {value:g}; give {field} between {low:g} and {high:g}"
        )


#: A row of a thousand unknown columns has one fault, not a thousand; the message stays readable.
MAX_PROBLEMS: Final = 5
#: What to write instead, where pydantic would only quote a regular expression.
_PATTERN_REMEDIES: Final = {
    "theme": "is not a theme; upload the melody and give its reference, 'sha256:' and 64 lower-case hex digits",
    "continuation": "is no upload; upload the audio and give its reference, 'sha256:' and 64 lower-case hex digits",
    "model": "is not a model's name; use letters, digits and . _ + - in parts joined by / : or @",
    "requester": "is not a requester; use up to 128 letters, digits and . _ @ : + -, a letter or digit first",
}


def invalid_request(error: ValidationError) -> InvalidRequest:
    """Pydantic's complaint in this project's terms: where, what was given, what would do."""
    details = error.errors(include_url=False, include_context=False)
    problems = [_problem(detail) for detail in details[:MAX_PROBLEMS]]
    if len(details) > MAX_PROBLEMS:
        problems.append(Problem("request", f"{len(details)} problems", "has more that is wrong; mend these first"))
    return InvalidRequest(problems)


def _problem(detail: ErrorDetails) -> Problem:
    field = ".".join(str(part) for part in detail["loc"]) or "request"
    message = detail["msg"].removeprefix("Value error, ")
    match detail["type"]:
        case "extra_forbidden":
            message = "is not a field of a request; known fields are " + ", ".join(TrackSpec.model_fields)
        case "string_pattern_mismatch":
            message = _PATTERN_REMEDIES[field]
        case "string_unicode":
            message = "contains half a surrogate pair; use valid Unicode text"
        case "model_type":
            message = "is not a JSON object with the fields of a request"
    return Problem(shown(field).strip("'"), shown(detail["input"]), message)
