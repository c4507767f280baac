"""The record of a track: what was asked, what made it, what it cost, what was measured; signed, to be held to it.

`TrackRecord` is the one place where a field of the record is declared: the Arrow schema (Parquet), the JSON of the
signed envelope and `docs/records.md` all follow from it. What is signed is the record as RFC 8785 canonical JSON, with
Ed25519 (RFC 8032), so any language can verify it. The public key inside an envelope proves nothing and is never
trusted; a verifier brings the keys that it trusts.

The same request is the same track, whoever sends it, so a record is shown to more than its first caller. What that one
said of itself (`CALLER_FIELDS`) is signed as a salted hash: a record proves it to whom the fields are shown, and tells
nothing to others.

The list of fields grows: a field that came later names the version it came with, and a record of an older version is
read, signed and verified without it.
"""

from __future__ import annotations

import hashlib
import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

import rfc8785

from orchestrion.errors import shown
from orchestrion.finding import Finding
from orchestrion.tracks.attestation import Attestation, Verdict
from orchestrion.tracks.section import Section

_Item = TypeVar("_Item")

SCHEMA_VERSION: Final = 5
#: The version since which `CALLER_FIELDS` are apart from what everybody may read.
_CALLER_APART: Final = 4
_UTC_MICROSECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")


def utc_timestamp(moment: datetime) -> str:
    """`moment` as records write it: ISO 8601, UTC, microseconds, "2026-11-22T15:50:00.123456+00:00"."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


#: What the first caller said of itself, and what keeps its hash from being guessed.
CALLER_FIELDS: Final = frozenset({"requester", "purpose", "caller_salt"})


def caller_sha256(requester: str, purpose: str, caller_salt: str) -> str:
    """The hash under which a record is signed with its caller, hex."""
    said = {"requester": requester, "purpose": purpose, "caller_salt": caller_salt}
    return hashlib.sha256(rfc8785.dumps(said)).hexdigest()


@dataclass(frozen=True, slots=True)
class Since:
    """The version of the record that a field came with; records of older versions hold null there."""

    version: int


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """Everything there is to know about one track. Each field's annotation is its documentation.

    Raises:
        ValueError: a value is of another type than declared (NumPy's bool is no bool), a number is not finite, or the
            record's version has no such field or is unknown.
    """

    schema_version: Annotated[int, "Version of this list of fields; 5."]
    track_id: Annotated[str, "Hash of what determines the audio: request, model revision, recipe version."]
    version: Annotated[int | None, "Which of the track's records this is, from 1, as in its file's name.", Since(3)]
    piece_id: Annotated[
        str | None, "Hash of what determines the piece, in whatever form: composition, model revision.", Since(4)
    ]
    created_at: Annotated[str, "When the render ended: ISO 8601, UTC, microseconds. A timestamp column in Parquet."]
    prompt: Annotated[str, "What was asked for, in words, as given."]
    negative_prompt: Annotated[str, "What should not be in the music; empty if nothing was said."]
    style: Annotated[str | None, "Style asked for or read from the prompt; null: the model chose."]
    mood: Annotated[str | None, "Mood asked for or read from the prompt; null: the model chose."]
    tempo_bpm: Annotated[
        float | None,
        "Beats per minute asked for, read from the prompt, or given by bars and length; null: the model chose.",
    ]
    key: Annotated[str | None, "Key asked for or read from the prompt, e.g. 'D minor'; null: the model chose."]
    duration_s: Annotated[float, "Length asked for, in seconds."]
    seed: Annotated[int, "Seed of the take, 0 to 2^53 - 1."]
    theme: Annotated[str | None, "Theme melody, 'sha256:' and the hash of its file; null: none."]
    continuation: Annotated[
        str | None, "Audio that the track begins with, 'sha256:' and the hash of its file; null: none.", Since(2)
    ]
    guidance: Annotated[float | None, "Strength of guidance asked for; null: the model's own.", Since(2)]
    temperature: Annotated[float | None, "Temperature of the draws asked for; null: the model's own.", Since(2)]
    top_k: Annotated[int | None, "How many of the likeliest codes to draw among; null: the model's own.", Since(2)]
    top_p: Annotated[float | None, "Probability of the likeliest codes to draw among; null: the model's own.", Since(2)]
    exclude: Annotated[tuple[str, ...] | None, "Names of what must not sound; null: nothing was said.", Since(5)]
    instruments: Annotated[
        tuple[str, ...] | None,
        "Instruments asked for, in the order in which they were named; null: the model chose.",
        Since(5),
    ]
    ensemble: Annotated[
        str | None, "Who plays: solo, duo, trio, quartet, only (nothing but `instruments`) or a cappella.", Since(5)
    ]
    metre: Annotated[str | None, "Metre asked for, e.g. '6/8'; null: the model chose.", Since(5)]
    sections: Annotated[
        tuple[Section, ...] | None,
        "Sections asked for, in order: name, and duration_s or bars; null: the model chose.",
        Since(5),
    ]
    bars: Annotated[int | None, "Bars asked for; null: nothing was said.", Since(5)]
    loop: Annotated[bool | None, "True: its end joins its beginning without a seam; null: not asked.", Since(5)]
    tempo_end_bpm: Annotated[float | None, "Tempo at its end asked for; null: it does not change.", Since(5)]
    key_end: Annotated[str | None, "Key at its end asked for; null: it does not change.", Since(5)]
    energy: Annotated[str | None, "How much goes on: low or high; null: the model chose.", Since(5)]
    dynamics: Annotated[str | None, "Soft, loud, crescendo or diminuendo; null: the model chose.", Since(5)]
    model: Annotated[str, "Model asked for."]
    format: Annotated[str, "Container and codec of the audio: wav, flac, mp3, ogg or opus."]
    sample_rate_hz: Annotated[int, "Sampling rate of the audio, in Hz."]
    loudness_lufs: Annotated[float, "Integrated loudness asked for, in LUFS (ITU-R BS.1770)."]
    fade_in_s: Annotated[float, "Fade-in asked for, in seconds."]
    fade_out_s: Annotated[float, "Fade-out asked for, in seconds."]
    channels: Annotated[int | None, "Channels asked for, 1 or 2; null: as many as the model makes.", Since(5)]
    requester: Annotated[str | None, "Who asked first, as the client said; null: not disclosed. Not part of the id."]
    purpose: Annotated[
        str | None, "What for: commercial, non-commercial or research; null: not disclosed. Not part of the id."
    ]
    caller_salt: Annotated[str | None, "32 hex digits that keep `caller_sha256` from being guessed.", Since(4)]
    caller_sha256: Annotated[
        str | None, "SHA-256 of the canonical JSON of `requester`, `purpose` and `caller_salt`, hex.", Since(4)
    ]
    prompt_sha256: Annotated[str, "SHA-256 of the prompt's UTF-8 bytes, hex: finds a prompt without showing it."]
    model_revision: Annotated[str, "Hash of the model's code, weights and sound font."]
    weights_licence: Annotated[str, "Licence of the model's weights or sound font."]
    commercial_use: Annotated[bool, "Whether that licence allows commercial use."]
    recipe_version: Annotated[str, "Version of the finishing recipe (trim, fades, loudness, limiter, encoders)."]
    code_version: Annotated[str, "Version of this software."]
    intent: Annotated[
        str | None,
        "What the prompt was understood to ask for, and what of it is not followed and why: JSON as POST /v1/intent "
        "answers it.",
        Since(5),
    ]
    choices: Annotated[Mapping[str, str], "What the model chose or found, by name: tempo, key, style, form."]
    node_id: Annotated[str, "The machine that rendered, as its scheduler calls it."]
    node_type: Annotated[str, "Kind of machine: a row of the price table."]
    device: Annotated[str, "What was paid for by the second: cpu-core or gpu."]
    market: Annotated[str, "How the machine was bought: on-demand or spot."]
    pool: Annotated[str, "The pool that rendered: low-latency, batch, or another name."]
    batch_size: Annotated[int, "Tracks in the batch that this one was generated in."]
    piece_reused: Annotated[
        bool | None, "Whether another track had the piece made: `generate_s` is then what taking it took.", Since(4)
    ]
    generate_s: Annotated[float, "Seconds to generate; the batch's time divided by its tracks."]
    finish_s: Annotated[float, "Seconds to trim, fade, resample, bring to loudness and limit."]
    check_s: Annotated[float, "Seconds to measure and check the audio."]
    encode_s: Annotated[float, "Seconds to encode."]
    store_s: Annotated[float, "Seconds to write audio and MIDI to the store."]
    device_seconds: Annotated[
        float, "Seconds that this track held a device: of a GPU while it generates, of a core its CPU time."
    ]
    price_usd_per_device_hour: Annotated[float, "USD per hour of one device on that machine."]
    price_source: Annotated[str, "Where the price comes from and as of when."]
    cost_usd: Annotated[float, "device_seconds times the price, in USD."]
    audio_key: Annotated[str, "Where the audio lies in the store."]
    audio_sha256: Annotated[str, "SHA-256 of the audio file, hex."]
    audio_bytes: Annotated[int, "Size of the audio file."]
    midi_key: Annotated[str | None, "Where the MIDI file lies in the store; null: the model has no score."]
    midi_sha256: Annotated[str | None, "SHA-256 of the MIDI file, hex; null: the model has no score."]
    measured_loudness_lufs: Annotated[float, "Integrated loudness of the finished audio, in LUFS."]
    measured_true_peak_dbtp: Annotated[float, "True peak of the finished audio, in dBTP."]
    findings: Annotated[
        tuple[Finding, ...], "Every check of the audio: name, measured, lowest and highest allowed, unit, passed."
    ]
    attestations: Annotated[
        tuple[Attestation, ...] | None, "What each stage decided: stage, verdict, figure, limit, reference.", Since(4)
    ]

    @property
    def is_held(self) -> bool:
        """Whether a stage wants a person to decide before anybody is given the track."""
        return any(attestation.verdict is Verdict.HOLD for attestation in self.attestations or ())

    def is_of(self, requester: str, purpose: str) -> bool:
        """Whether this caller, or one that says the same of itself, had the track made."""
        return (self.requester, self.purpose) == (requester, purpose)

    def without_caller(self) -> TrackRecord:
        """The same record as anybody may read it: it does not say who asked, and its signature still holds.

        One of an older version, in which the caller is signed in the clear, is itself.
        """
        if self.schema_version < _CALLER_APART:
            return self
        return replace(self, requester=None, purpose=None, caller_salt=None)

    def __post_init__(self) -> None:
        values = json_values(self)
        for field in RECORD_FIELDS:
            _read_field(field, values[field.name])
        of_version = fields_of_version(self.schema_version)
        newer = set(values) - {field.name for field in of_version}
        if wrong := sorted(name for name in newer if values[name] is not None):
            raise ValueError(f"version {self.schema_version} has no field {', '.join(wrong)}")
        always = {field.name for field in of_version if field.since == 4} - CALLER_FIELDS
        if missing := sorted(name for name in always if values[name] is None):
            raise ValueError(f"version {self.schema_version} is never without {', '.join(missing)}")
        self._check_caller()
        if self.schema_version >= 3 and (self.version is None or self.version < 1):
            raise ValueError(f"version is {self.version}; records of a track are counted from 1")
        if _UTC_MICROSECONDS.fullmatch(self.created_at) is None:
            raise ValueError(f"created_at is {shown(self.created_at)}; make it with utc_timestamp()")

    def _check_caller(self) -> None:
        told = {name: value for name in CALLER_FIELDS if (value := getattr(self, name)) is not None}
        if self.schema_version < _CALLER_APART:
            if self.requester is None or self.purpose is None:
                raise ValueError(f"a record of version {self.schema_version} says who asked, and what for")
        elif told and (told.keys() != CALLER_FIELDS or caller_sha256(**told) != self.caller_sha256):
            raise ValueError("requester, purpose and caller_salt are not those of caller_sha256")


@dataclass(frozen=True, slots=True)
class RecordField:
    """One field of `TrackRecord`: its Python type without None, whether it may be null, what it means."""

    name: str
    type: object
    nullable: bool
    description: str
    #: Version of the record that it came with.
    since: int


_SECTION_FIELDS: Final = {field.name for field in fields(Section)}
_FINDING_FIELDS: Final = tuple(field.name for field in fields(Finding))
_ATTESTATION_FIELDS: Final = tuple(field.name for field in fields(Attestation))


def _record_fields() -> tuple[RecordField, ...]:
    hints = get_type_hints(TrackRecord, include_extras=True)
    found = []
    for declared in fields(TrackRecord):
        hint, description, *since = get_args(hints[declared.name])
        nullable = get_origin(hint) in (Union, types.UnionType)
        kind = get_args(hint)[0] if nullable else hint
        found.append(RecordField(declared.name, kind, nullable, description, since[0].version if since else 1))
    return tuple(found)


RECORD_FIELDS: Final = _record_fields()
_FIELDS_BY_VERSION: Final = {
    version: tuple(field for field in RECORD_FIELDS if field.since <= version)
    for version in range(1, SCHEMA_VERSION + 1)
}


def fields_of_version(version: int) -> tuple[RecordField, ...]:
    """The fields that a record of this version has.

    Raises:
        ValueError: there is no such version, or it is of a later release.
    """
    if version not in _FIELDS_BY_VERSION:
        raise ValueError(f"schema_version is {version}, this release knows 1 to {SCHEMA_VERSION}; use a newer release")
    return _FIELDS_BY_VERSION[version]


def canonical_bytes(record: TrackRecord) -> bytes:
    """The record as RFC 8785 canonical JSON: the bytes that are signed.

    Raises:
        ValueError: a number in it is not finite, or an integer is beyond ±(2^53 - 1).
    """
    return rfc8785.dumps(signed_values(record))


def json_values(record: TrackRecord) -> dict[str, Any]:
    """The record's fields as JSON values. Not `asdict`: it deep-copies."""
    values = {field.name: getattr(record, field.name) for field in RECORD_FIELDS}
    values["choices"] = dict(record.choices)
    for name in ("exclude", "instruments"):
        values[name] = None if values[name] is None else list(values[name])
    if record.sections is not None:
        values["sections"] = [asdict(section) for section in record.sections]
    values["findings"] = [{field: getattr(finding, field) for field in _FINDING_FIELDS} for finding in record.findings]
    if record.attestations is not None:
        values["attestations"] = [
            {field: getattr(attestation, field) for field in _ATTESTATION_FIELDS}
            | {"verdict": str(attestation.verdict)}
            for attestation in record.attestations
        ]
    return values


def signed_values(record: TrackRecord) -> dict[str, Any]:
    """The values that a record of its version has, as they are signed."""
    values = json_values(record)
    return {field.name: values[field.name] for field in _signed_fields(record.schema_version)}


def caller_values(record: TrackRecord) -> dict[str, str] | None:
    """What the record says of its caller beside what is signed; None if it does not, or says it in the clear."""
    if record.schema_version < _CALLER_APART or record.caller_salt is None:
        return None
    return {name: getattr(record, name) for name in sorted(CALLER_FIELDS)}


def from_signed_values(values: object, caller: object) -> TrackRecord:
    """The record of what was signed, and of what its envelope says of the caller; None if that says nothing.

    Raises:
        ValueError: it is anything else than what `signed_values` and `caller_values` gave.
    """
    version = _version_of(values)
    signed = exactly(values, {field.name for field in _signed_fields(version)}, "the record")
    apart: Mapping[str, Any] = {} if version < _CALLER_APART else dict.fromkeys(CALLER_FIELDS)
    if caller is not None:
        apart = exactly(caller, set(apart), "the caller")
    return from_json_values({**signed, **apart})


def from_json_values(values: object) -> TrackRecord:
    """The record of what `json_values` gave, as far as its version has these fields.

    Raises:
        ValueError: it is anything else than a record's fields.
    """
    of_version = fields_of_version(_version_of(values))
    given = exactly(values, {field.name for field in of_version}, "the record")
    absent: dict[str, Any] = {field.name: None for field in RECORD_FIELDS}
    return TrackRecord(**absent | {field.name: _read_field(field, given[field.name]) for field in of_version})


def _version_of(values: object) -> int:
    if not isinstance(values, dict):
        raise ValueError("the record is not an object")
    return _read_int(values.get("schema_version"), "schema_version")


def _signed_fields(version: int) -> tuple[RecordField, ...]:
    apart = CALLER_FIELDS if version >= _CALLER_APART else frozenset()
    return tuple(field for field in fields_of_version(version) if field.name not in apart)


def _read_field(field: RecordField, value: object) -> object:
    if value is None and field.nullable:
        return None
    return _READERS[field.type](value, field.name)


def read_str(value: object, name: str) -> str:
    """`value` if it is text; ValueError if not."""
    if not isinstance(value, str):
        raise ValueError(f"{name} is not text")
    return value


def _read_int(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} is not a whole number")
    return value


def _read_float(value: object, name: str) -> float:
    # Canonical JSON writes 30.0 as 30.
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{name} is not a number")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}, not a finite number")
    return float(value)


def _read_bool(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} is not true or false")
    return value


def _read_choices(value: object, name: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not an object")
    return {read_str(k, name): read_str(v, name) for k, v in value.items()}


def _read_optional_float(value: object, name: str) -> float | None:
    return None if value is None else _read_float(value, name)


def read_list(read: Callable[[object, str], _Item]) -> Callable[[object, str], tuple[_Item, ...]]:
    """The reader of a list each of whose items `read` reads."""

    def read_all(value: object, name: str) -> tuple[_Item, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{name} is not a list")
        return tuple(read(item, name) for item in value)

    return read_all


def _read_section(value: object, name: str) -> Section:
    section = exactly(value, _SECTION_FIELDS, name)
    duration_s, bars = _read_optional_float(section["duration_s"], name), section["bars"]
    return Section(read_str(section["name"], name), duration_s, None if bars is None else _read_int(bars, name))


def _read_finding(value: object, name: str) -> Finding:
    finding = exactly(value, set(_FINDING_FIELDS), name)
    return Finding(
        name=read_str(finding["name"], name),
        measured=_read_float(finding["measured"], name),
        lowest=_read_optional_float(finding["lowest"], name),
        highest=_read_float(finding["highest"], name),
        unit=read_str(finding["unit"], name),
        passed=_read_bool(finding["passed"], name),
    )


def _read_attestation(value: object, name: str) -> Attestation:
    attestation = exactly(value, set(_ATTESTATION_FIELDS), name)
    return Attestation(
        stage=read_str(attestation["stage"], name),
        verdict=Verdict(read_str(attestation["verdict"], name)),
        figure=_read_optional_float(attestation["figure"], name),
        limit=_read_optional_float(attestation["limit"], name),
        reference=read_str(attestation["reference"], name),
    )


_READERS: Final[dict[object, Callable[[object, str], object]]] = {
    str: read_str,
    int: _read_int,
    float: _read_float,
    bool: _read_bool,
    Mapping[str, str]: _read_choices,
    tuple[str, ...]: read_list(read_str),
    tuple[Section, ...]: read_list(_read_section),
    tuple[Finding, ...]: read_list(_read_finding),
    tuple[Attestation, ...]: read_list(_read_attestation),
}


def exactly(value: object, names: set[str], what: str) -> Mapping[str, Any]:
    """`value` as an object with these fields and no other.

    Raises:
        ValueError: it is anything else; the message begins with `what`.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not an object")
    if wrong := sorted(names ^ value.keys()):
        raise ValueError(f"{what} has unknown or missing fields: {', '.join(wrong)}")
    return value
