"""What a caller asks for, checked once and resolved: the only way text becomes a `TrackRequest`.

`TrackSpec` is the wire form (HTTP bodies and catalog rows are both read by it); `TrackRequest` is what the rest of the
system passes around. Requester and purpose do not change the audio, so they are not part of a track's id.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

from orchestrion.errors import InvalidRequest, Problem, shown
from orchestrion.tracks.instruments import EXCLUDABLE, INSTRUMENTS, excludable_name, instrument_name
from orchestrion.tracks.musical_key import Key
from orchestrion.tracks.request import (
    DEFAULT_DURATION_S,
    DEFAULT_LOUDNESS_LUFS,
    DEFAULT_SAMPLE_RATE_HZ,
    MAX_BARS,
    MAX_DURATION_S,
    MAX_FADE_S,
    MAX_GUIDANCE,
    MAX_LOUDNESS_LUFS,
    MAX_NAMES,
    MAX_SECTIONS,
    MAX_SEED,
    MAX_TEMPERATURE,
    MAX_TEMPO_BPM,
    MAX_TOP_K,
    MIN_DURATION_S,
    MIN_GUIDANCE,
    MIN_LOUDNESS_LUFS,
    MIN_SECTION_S,
    MIN_TEMPO_BPM,
    OPUS_SAMPLE_RATE_HZ,
    SAMPLE_RATES_HZ,
    AudioFormat,
    Purpose,
    TrackRequest,
)
from orchestrion.tracks.resolution import resolve
from orchestrion.tracks.section import Section, sections_of_text
from orchestrion.tracks.strict_json import parse_json_list
from orchestrion.tracks.vocabulary import (
    DYNAMICS,
    ENERGIES,
    ENSEMBLES,
    METRES,
    MOODS,
    PARTS,
    SECTION_NAMES,
    STYLES,
    canonical_name,
)

_T = TypeVar("_T")

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


def _one_of(names: Iterable[str], what: str) -> AfterValidator:
    """One of these names, in any case and with hyphens or spaces."""
    known = {_plain(name): name for name in names}

    def named(text: str) -> str:
        name = known.get(_plain(text))
        if name is None:
            raise ValueError(f"is not {what}; use one of " + ", ".join(known.values()))
        return name

    return AfterValidator(named)


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _instrument(text: str) -> str:
    return _known(instrument_name(text), text, INSTRUMENTS, "an instrument that is known here")


def _excluded(text: str) -> str:
    what = "an instrument, a part (" + ", ".join(PARTS) + "), vocals, a style or a mood"
    return _known(excludable_name(text), text, EXCLUDABLE, what)


def _known(name: str | None, text: str, names: Iterable[str], what: str) -> str:
    """The name; where there is none, a refusal with those that are spelt like it."""
    if name is None:
        like = get_close_matches(text.casefold(), names, n=4, cutoff=0.6)
        hint = f"; did you mean {' or '.join(like)}?" if like else "; `orchestrion styles` and GET /v1/styles list them"
        raise ValueError(f"is not {what}{hint}")
    return name


def names_of_text(text: str) -> list[Any]:
    """The names in a cell of text, "drums, bass", or in one that holds them as JSON.

    Raises:
        ValueError: it is JSON, and no list.
    """
    return _json_list(text) if text.startswith("[") else [name.strip() for name in text.split(",")]


def section_cells(text: str) -> list[Any]:
    """The sections in a cell of text, "intro 8 s, verse 16 bars", or in one that holds them as JSON.

    Raises:
        ValueError: it is neither.
    """
    return _json_list(text) if text.startswith("[") else sections_of_text(text)


def _json_list(text: str) -> list[Any]:
    try:
        return parse_json_list(text, "cell")
    except InvalidRequest as error:
        raise ValueError(error.problems[0].message) from None


#: Fields that are lists, and what reads one from text.
LISTS: Final[Mapping[str, Callable[[str], list[Any]]]] = {
    "exclude": names_of_text,
    "instruments": names_of_text,
    "sections": section_cells,
}


def _listed(value: object, info: ValidationInfo) -> object:
    """What a cell of text lists; a value that is not of a cell stays itself."""
    if info.context is not _CELLS or not isinstance(value, str) or info.field_name is None:
        return value
    return LISTS[info.field_name](value)


#: Marks that all values are cells of text.
_CELLS: Final = object()
_Text = Annotated[str, AfterValidator(_printable)]
_Name = Annotated[_Text, Field(max_length=64)]
_Names = Annotated[
    # Not strictly a tuple: JSON has lists.
    tuple[_T, ...],
    Field(strict=False, max_length=MAX_NAMES),
    BeforeValidator(_listed),
]
_KeyText = Annotated[_Text, Field(max_length=32), AfterValidator(_key_text)]
_UPLOAD: Final = r"^sha256:[0-9a-f]{64}$"


class SectionSpec(BaseModel):
    """A section, with a length in seconds or in bars; with neither it takes its share of what the others leave."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Annotated[_Name, _one_of(SECTION_NAMES, "a kind of section")]
    duration_s: float | None = Field(default=None, ge=MIN_SECTION_S, le=MAX_DURATION_S, allow_inf_nan=False)
    bars: int | None = Field(default=None, ge=1, le=MAX_BARS)

    @field_validator("bars")
    @classmethod
    def _has_one_length(cls, bars: int | None, info: ValidationInfo) -> int | None:
        if bars is not None and info.data.get("duration_s") is not None:
            raise ValueError("is a second length beside duration_s; give one of them")
        return bars

    def section(self) -> Section:
        """The same as the system passes it around."""
        return Section(self.name, None if self.duration_s is None else float(self.duration_s), self.bars)


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
        default=None,
        ge=MIN_TEMPO_BPM,
        le=MAX_TEMPO_BPM,
        allow_inf_nan=False,
        description="Beats per minute; a beat is a quarter, in 6/8 and 12/8 a dotted quarter.",
    )
    key: _KeyText | None = Field(
        default=None, description="Tonic and mode, e.g. 'D minor', 'Eb major', 'F# dorian', 'A harmonic minor'."
    )
    duration_s: float | None = Field(
        default=None,
        ge=MIN_DURATION_S,
        le=MAX_DURATION_S,
        allow_inf_nan=False,
        description="Length in seconds. Where it is not given it follows from bars or sections, or from the prompt; "
        f"{DEFAULT_DURATION_S:g} when nothing says.",
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
    exclude: _Names[Annotated[_Name, AfterValidator(_excluded)]] | None = Field(
        default=None,
        description="What must not sound: instruments, parts (" + ", ".join(PARTS) + "), vocals, styles and moods.",
        examples=[["drums", "electric guitar"]],
    )
    instruments: _Names[Annotated[_Name, AfterValidator(_instrument)]] | None = Field(
        default=None,
        description="Instruments that play, the first one in front. What General MIDI lacks is played on what is near.",
        examples=[["cello", "piano"]],
    )
    ensemble: Annotated[_Name, _one_of(ENSEMBLES, "an ensemble")] | None = Field(
        default=None, description="Who plays, one of " + ", ".join(ENSEMBLES) + "; only: nothing but `instruments`."
    )
    metre: Annotated[_Name, _one_of(METRES, "a metre that can be had")] | None = Field(
        default=None, description="One of " + ", ".join(METRES) + "."
    )
    sections: (
        Annotated[
            tuple[SectionSpec, ...],
            Field(strict=False, max_length=MAX_SECTIONS),
            BeforeValidator(_listed),
        ]
        | None
    ) = Field(
        default=None,
        description="What the track consists of, in order; names are "
        + ", ".join(SECTION_NAMES)
        + ". Sections without "
        "a length share what the others leave.",
        examples=[[{"name": "intro", "bars": 4}, {"name": "verse", "bars": 8}]],
    )
    bars: int | None = Field(
        default=None, ge=1, le=MAX_BARS, description="How many bars it has; with tempo and metre that is its length."
    )
    loop: bool | None = Field(default=None, description="Whether its end joins its beginning without a seam.")
    tempo_end_bpm: float | None = Field(
        default=None,
        ge=MIN_TEMPO_BPM,
        le=MAX_TEMPO_BPM,
        allow_inf_nan=False,
        description="Beats per minute at its end; the tempo changes evenly from beginning to end.",
    )
    key_end: _KeyText | None = Field(default=None, description="The key that it changes to.")
    energy: Annotated[_Name, _one_of(ENERGIES, "an energy")] | None = Field(
        default=None, description="How much goes on, " + " or ".join(ENERGIES) + "."
    )
    dynamics: Annotated[_Name, _one_of(DYNAMICS, "a dynamic")] | None = Field(
        default=None, description="How loud it is played, or how that changes: " + ", ".join(DYNAMICS) + "."
    )
    #: Each part between separators starts with a letter or digit, so that no name can climb out of a folder.
    model: str = Field(
        default="composer",
        max_length=200,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*([/:@][A-Za-z0-9][A-Za-z0-9._+-]*)*$",
        description="A model's name as the models list gives it.",
    )
    format: Annotated[AudioFormat, Field(strict=False)] | None = Field(
        default=None, description="Container and codec; WAV where neither this nor the prompt says."
    )
    sample_rate_hz: int | None = Field(
        default=None,
        description=f"{DEFAULT_SAMPLE_RATE_HZ} when not given, {OPUS_SAMPLE_RATE_HZ} for Opus.",
    )
    loudness_lufs: float | None = Field(
        default=None,
        ge=MIN_LOUDNESS_LUFS,
        le=MAX_LOUDNESS_LUFS,
        allow_inf_nan=False,
        description=f"Integrated loudness, ITU-R BS.1770-5; {DEFAULT_LOUDNESS_LUFS:g} when nothing says.",
    )
    fade_in_s: float | None = Field(
        default=None, ge=0.0, le=MAX_FADE_S, allow_inf_nan=False, description="0 when nothing says."
    )
    fade_out_s: float | None = Field(
        default=None, ge=0.0, le=MAX_FADE_S, allow_inf_nan=False, description="0 when nothing says."
    )
    channels: int | None = Field(
        default=None, ge=1, le=2, description="1: mono, 2: stereo; as many as the model makes when not given."
    )
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

    @field_validator("exclude")
    @classmethod
    def _sorted(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        # In any order it is the same request, and a list of nothing is none.
        return tuple(sorted(set(names))) if names else None

    @field_validator("instruments")
    @classmethod
    def _once(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return tuple(dict.fromkeys(names)) if names else None

    @field_validator("sections")
    @classmethod
    def _some(cls, sections: tuple[SectionSpec, ...] | None) -> tuple[SectionSpec, ...] | None:
        return sections or None

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
            return cls.model_validate_strings({name: cell for name, cell in given.items() if cell}, context=_CELLS)
        except ValidationError as error:
            raise invalid_request(error) from None

    def resolve(self) -> TrackRequest:
        """Fill what was not given from the prompt's words and the defaults.

        Raises:
            InvalidRequest: the prompt's own figures are out of range, or fields contradict each other.
        """
        sections = tuple(section.section() for section in self.sections) if self.sections else None
        keys = {name: Key.parse(text) for name in ("key", "key_end") if (text := getattr(self, name))}
        return resolve(vars(self) | keys | {"sections": sections}, self.requester, self.purpose)


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
    problems: list[Problem] = []
    for detail in details[:MAX_PROBLEMS]:
        problem = _problem(detail)
        # All fields are listed once, however many are unknown.
        is_told = any(problem.message == earlier.message for earlier in problems)
        if is_told and detail["type"] == "extra_forbidden":
            problem = replace(problem, message="is not a field either")
        problems.append(problem)
    if len(details) > MAX_PROBLEMS:
        problems.append(Problem("request", f"{len(details)} problems", "has more that is wrong; mend these first"))
    return InvalidRequest(problems)


def _problem(detail: ErrorDetails) -> Problem:
    field = ".".join(str(part) for part in detail["loc"]) or "request"
    message = detail["msg"].removeprefix("Value error, ")
    match detail["type"]:
        case "extra_forbidden":
            of = SectionSpec if detail["loc"][0] == "sections" else TrackSpec
            what = "section" if of is SectionSpec else "request"
            message = f"is not a field of a {what}; known fields are " + ", ".join(of.model_fields)
        case "string_pattern_mismatch":
            message = _PATTERN_REMEDIES[field]
        case "too_long" if field in LISTS:
            message = f"lists too many; give at most {MAX_SECTIONS if field == 'sections' else MAX_NAMES}"
        case "tuple_type" if detail["loc"] == ("sections",):
            message = 'is not a list of sections; write for example [{"name": "intro", "bars": 4}, {"name": "verse"}]'
        case "tuple_type":
            message = 'is not a list of names; write for example ["piano", "drums"]'
        case "string_unicode":
            message = "contains half a surrogate pair; use valid Unicode text"
        case "model_type":
            fields = "name, duration_s or bars" if detail["loc"] else "the fields of a request"
            message = f"is not a JSON object with {fields}"
    return Problem(shown(field).strip("'"), shown(detail["input"]), message)
