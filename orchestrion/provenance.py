"""The record of a track: what was asked, what made it, what it cost, what was measured; signed, to be held to it.

`TrackRecord` is the one place where a field of the record is declared: the Arrow schema (Parquet), the JSON of the
signed envelope and `docs/records.md` all follow from it. What is signed is the record as RFC 8785 canonical JSON, with
Ed25519 (RFC 8032), so any language can verify it. The public key inside an envelope proves nothing and is never
trusted; a verifier brings the keys that it trusts.

The list of fields grows: a field that came later names the version it came with, and a record of an older version is
read, signed and verified without it.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import json
import math
import os
import re
import types
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
import rfc8785
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orchestrion.errors import InvalidRequest, VerificationFailed, shown
from orchestrion.finding import Finding

SCHEMA_VERSION: Final = 3
#: Records are a few kB; a longer envelope is refused before it is parsed.
MAX_ENVELOPE_BYTES: Final = 1 << 20
AnyEnvelope = TypeVar("AnyEnvelope", bound="Envelope")
_UTC_MICROSECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")


def utc_timestamp(moment: datetime) -> str:
    """`moment` as records write it: ISO 8601, UTC, microseconds, "2026-11-22T15:50:00.123456+00:00"."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


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

    schema_version: Annotated[int, "Version of this list of fields; 3."]
    track_id: Annotated[str, "Hash of what determines the audio: request, model revision, recipe version."]
    version: Annotated[int | None, "Which of the track's records this is, from 1, as in its file's name.", Since(3)]
    created_at: Annotated[str, "When the render ended: ISO 8601, UTC, microseconds. A timestamp column in Parquet."]
    prompt: Annotated[str, "What was asked for, in words, as given."]
    negative_prompt: Annotated[str, "What should not be in the music; empty if nothing was said."]
    style: Annotated[str | None, "Style asked for or read from the prompt; null: the model chose."]
    mood: Annotated[str | None, "Mood asked for or read from the prompt; null: the model chose."]
    tempo_bpm: Annotated[float | None, "Beats per minute asked for or read from the prompt; null: the model chose."]
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
    model: Annotated[str, "Model asked for."]
    format: Annotated[str, "Container and codec of the audio: wav, flac, mp3, ogg or opus."]
    sample_rate_hz: Annotated[int, "Sampling rate of the audio, in Hz."]
    loudness_lufs: Annotated[float, "Integrated loudness asked for, in LUFS (ITU-R BS.1770)."]
    fade_in_s: Annotated[float, "Fade-in asked for, in seconds."]
    fade_out_s: Annotated[float, "Fade-out asked for, in seconds."]
    requester: Annotated[str, "Who asked, as the client said. Not part of the track's identity."]
    purpose: Annotated[str, "What for: commercial, non-commercial or research. Not part of the track's identity."]
    prompt_sha256: Annotated[str, "SHA-256 of the prompt's UTF-8 bytes, hex: finds a prompt without showing it."]
    model_revision: Annotated[str, "Hash of the model's code, weights and sound font."]
    weights_licence: Annotated[str, "Licence of the model's weights or sound font."]
    commercial_use: Annotated[bool, "Whether that licence allows commercial use."]
    recipe_version: Annotated[str, "Version of the finishing recipe (trim, fades, loudness, limiter, encoders)."]
    code_version: Annotated[str, "Version of this software."]
    choices: Annotated[Mapping[str, str], "What the model chose or found, by name: tempo, key, style, form."]
    node_id: Annotated[str, "The machine that rendered, as its scheduler calls it."]
    node_type: Annotated[str, "Kind of machine: a row of the price table."]
    device: Annotated[str, "What was paid for by the second: cpu-core or gpu."]
    market: Annotated[str, "How the machine was bought: on-demand or spot."]
    pool: Annotated[str, "The pool that rendered: low-latency, batch, or another name."]
    batch_size: Annotated[int, "Tracks in the batch that this one was generated in."]
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

    def __post_init__(self) -> None:
        values = _json_values(self)
        for field in RECORD_FIELDS:
            _read_field(field, values[field.name])
        newer = set(values) - {field.name for field in fields_of_version(self.schema_version)}
        if wrong := sorted(name for name in newer if values[name] is not None):
            raise ValueError(f"version {self.schema_version} has no field {', '.join(wrong)}")
        if self.schema_version >= 3 and (self.version is None or self.version < 1):
            raise ValueError(f"version is {self.version}; records of a track are counted from 1")
        if _UTC_MICROSECONDS.fullmatch(self.created_at) is None:
            raise ValueError(f"created_at is {shown(self.created_at)}; make it with utc_timestamp()")


_ARROW_TYPES: Final[dict[object, pa.DataType]] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    Mapping[str, str]: pa.map_(pa.string(), pa.string()),
    tuple[Finding, ...]: pa.list_(
        pa.struct(
            [
                pa.field("name", pa.string(), nullable=False),
                pa.field("measured", pa.float64(), nullable=False),
                pa.field("lowest", pa.float64()),
                pa.field("highest", pa.float64(), nullable=False),
                pa.field("unit", pa.string(), nullable=False),
                pa.field("passed", pa.bool_(), nullable=False),
            ]
        )
    ),
}


@dataclass(frozen=True, slots=True)
class RecordField:
    """One field of `TrackRecord`: its Python type without None, whether it may be null, what it means."""

    name: str
    type: object
    nullable: bool
    description: str
    #: Version of the record that it came with.
    since: int


_FINDING_FIELDS: Final = tuple(field.name for field in fields(Finding))


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


def arrow_type(field: RecordField) -> pa.DataType:
    """The type of a field's column in Parquet."""
    return pa.timestamp("us", tz="UTC") if field.name == "created_at" else _ARROW_TYPES[field.type]


#: One row per track. The metadata key "description" of each field says what it is.
RECORD_SCHEMA: Final = pa.schema(
    [
        pa.field(field.name, arrow_type(field), field.nullable, {"description": field.description})
        for field in RECORD_FIELDS
    ]
)


def fields_of_version(version: int) -> tuple[RecordField, ...]:
    """The fields that a record of this version has.

    Raises:
        ValueError: there is no such version, or it is of a later release.
    """
    if version not in _FIELDS_BY_VERSION:
        raise ValueError(f"schema_version is {version}, this release knows 1 to {SCHEMA_VERSION}; use a newer release")
    return _FIELDS_BY_VERSION[version]


def to_row(record: TrackRecord) -> dict[str, Any]:
    """The record as a row that `pa.Table.from_pylist(rows, schema=RECORD_SCHEMA)` takes."""
    return _json_values(record) | {
        "created_at": datetime.fromisoformat(record.created_at),
        "choices": list(record.choices.items()),
    }


def from_row(row: Mapping[str, Any]) -> TrackRecord:
    """The record of a row that `Table.to_pylist()` gave; `from_row(to_row(record)) == record`, also through Parquet.

    Rows of older versions may lack the columns that came later.
    """
    values = {field.name: row[field.name] for field in fields_of_version(row["schema_version"])}
    values["created_at"] = utc_timestamp(row["created_at"])
    values["choices"] = dict(row["choices"])
    return _from_json_values(values)


def canonical_bytes(record: TrackRecord) -> bytes:
    """The record as RFC 8785 canonical JSON: the bytes that are signed.

    Raises:
        ValueError: a number in it is not finite, or an integer is beyond ±(2^53 - 1).
    """
    return rfc8785.dumps(_signed_values(record))


@dataclass(frozen=True, slots=True)
class Signature:
    """An Ed25519 signature, and the key that it says it was made with."""

    #: First 16 hex digits of the SHA-256 of the raw public key.
    key_id: str
    #: 32 bytes, raw.
    public_key: bytes
    #: 64 bytes.
    value: bytes

    def to_json(self) -> dict[str, str]:
        """As it stands in an envelope."""
        return {
            "algorithm": "ed25519",
            "key_id": self.key_id,
            "public_key": base64.b64encode(self.public_key).decode("ascii"),
            "value": base64.b64encode(self.value).decode("ascii"),
        }

    @classmethod
    def from_json(cls, value: object) -> Signature:
        """What `to_json` gave.

        Raises:
            ValueError: it is anything else.
        """
        signature = exactly(value, {"algorithm", "key_id", "public_key", "value"}, "the signature")
        if signature["algorithm"] != "ed25519":
            raise ValueError(f"the algorithm is {shown(signature['algorithm'])}, only ed25519 is known")
        return cls(
            key_id=_read_str(signature["key_id"], "key_id"),
            public_key=_read_base64(signature["public_key"], "public_key", 32),
            value=_read_base64(signature["value"], "value", 64),
        )

    def check(self, signed: bytes, trusted_keys: Mapping[str, Ed25519PublicKey]) -> None:
        """Check that a trusted key signed these bytes.

        Raises:
            VerificationFailed: saying which of key and signature does not fit.
        """
        key = trusted_keys.get(self.key_id)
        if key is None:
            known = ", ".join(sorted(trusted_keys)) or "none"
            raise VerificationFailed(
                f"signed with key {shown(self.key_id)}, which is not trusted here (trusted: {known})"
            )
        raw = key.public_bytes_raw()
        if self.key_id != key_id_of(raw) or self.public_key != raw:
            raise VerificationFailed(f"the public key in the record is not the trusted key {key_id_of(raw)}")
        try:
            key.verify(self.value, signed)
        except InvalidSignature:
            raise VerificationFailed("the signature does not fit the record: the record was changed") from None


class Envelope(Protocol):
    """Something signed that is kept as canonical JSON."""

    def to_bytes(self) -> bytes:
        """The one spelling that it has."""
        ...


def read_envelope(envelope: bytes, what: str, parse: Callable[[object], AnyEnvelope]) -> AnyEnvelope:
    """Read an envelope of the kind that `parse` knows; it is not verified.

    Args:
        envelope: what the kind's `to_bytes` wrote.
        what: the kind, in words, e.g. "a signed record".
        parse: from parsed JSON; raises ValueError.

    Raises:
        VerificationFailed: it is not exactly what `to_bytes` writes: unknown, missing or doubled fields, wrong types,
            other spacing, trailing data.
    """
    if len(envelope) > MAX_ENVELOPE_BYTES:
        raise VerificationFailed(f"{what} of {len(envelope)} bytes is more than {MAX_ENVELOPE_BYTES}")
    try:
        signed = parse(json.loads(envelope))
        is_canonical = signed.to_bytes() == envelope
    except (ValueError, TypeError, RecursionError) as error:
        raise VerificationFailed(f"this is not {what}: {shown(str(error))}") from error
    if not is_canonical:
        raise VerificationFailed(f"{what} is not in canonical form; use the bytes as they came from the store")
    return signed


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A record and its signature, over `canonical_bytes(record)`: what the store keeps and what a client is given."""

    record: TrackRecord
    signature: Signature

    def to_bytes(self) -> bytes:
        """The JSON envelope, itself in canonical form: there is one spelling of each signed record."""
        return rfc8785.dumps({"record": _signed_values(self.record), "signature": self.signature.to_json()})

    @classmethod
    def from_bytes(cls, envelope: bytes) -> SignedRecord:
        """Read an envelope. It is not verified: that is `verify`.

        Raises:
            VerificationFailed: it is not exactly what `to_bytes` writes.
        """
        return read_envelope(envelope, "a signed record", cls._parse)

    @classmethod
    def _parse(cls, value: object) -> SignedRecord:
        envelope = exactly(value, {"record", "signature"}, "the envelope")
        signature = Signature.from_json(envelope["signature"])
        return cls(_from_json_values(envelope["record"]), signature)


def verify(signed: SignedRecord, audio: bytes, trusted_keys: Mapping[str, Ed25519PublicKey]) -> None:
    """Check that a trusted key signed this record and that it is the record of this audio.

    Args:
        signed: the record.
        audio: the audio file, all of it.
        trusted_keys: by key id; see `load_trusted_keys`.

    Raises:
        VerificationFailed: saying which of key, signature and audio does not fit.
    """
    signed.signature.check(canonical_bytes(signed.record), trusted_keys)
    record = signed.record
    if len(audio) != record.audio_bytes:
        raise VerificationFailed(f"the audio has {len(audio)} bytes, the record says {record.audio_bytes}")
    sha256 = hashlib.sha256(audio).hexdigest()
    if sha256 != record.audio_sha256:
        raise VerificationFailed(f"the audio's SHA-256 is {sha256}, the record says {record.audio_sha256}")


def verify_record(
    signed: SignedRecord, track_id: str, version: int, trusted_keys: Mapping[str, Ed25519PublicKey]
) -> None:
    """Check that a trusted key signed this record, and for this track and version of it.

    Records from before their version was in them (`schema_version` 1 and 2) are taken for any version of their track.

    Raises:
        VerificationFailed: saying which of key, signature, track and version does not fit.
    """
    signed.signature.check(canonical_bytes(signed.record), trusted_keys)
    record = signed.record
    if record.track_id != track_id:
        raise VerificationFailed(f"this is the record of another track, {shown(record.track_id)}")
    if record.version not in (None, version):
        raise VerificationFailed(f"this is version {record.version} of the track under another number")


class Signer:
    """Signs records with one Ed25519 key. Make one per process: the key does not travel."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self._public_raw = private_key.public_key().public_bytes_raw()

    @classmethod
    def load(cls, path: str | Path) -> Signer:
        """The key in a PEM file (PKCS #8, not encrypted). A public key that lies beside it must be its own.

        Raises:
            InvalidRequest: there is no such file, it is not such a key, or the public key beside it is another's.
        """
        path = Path(path)
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except FileNotFoundError:
            raise InvalidRequest.of(
                "signing_key_path", str(path), f"is not there; make a key with: orchestrion signing init --key {path}"
            ) from None
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InvalidRequest.of(
                "signing_key_path", str(path), f"is not a usable private key ({shown(str(error))}); give an Ed25519 "
                "key in PEM, as orchestrion signing init makes it"
            ) from error  # fmt: skip
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidRequest.of("signing_key_path", str(path), "is a key of another kind; it must be Ed25519")
        signer = cls(key)
        public = public_key_path(path)
        try:
            signer._refuse_another(public)
        except FileNotFoundError:
            # A secret that is mounted into a container has the private key alone.
            pass
        except OSError as error:
            raise InvalidRequest.of("signing_key_path", str(public), f"cannot be read: {error.strerror}") from error
        return signer

    @classmethod
    def create(cls, path: str | Path) -> Signer:
        """A new key, in a PEM file with mode 0600, and its public key beside it; nothing is ever overwritten.

        Of processes that do this at the same moment one makes the key, and the others are refused.

        Raises:
            FileExistsError: there is a file at `path`.
            InvalidRequest: the files cannot be made, or another public key lies there.
        """
        path = Path(path)
        signer = cls(Ed25519PrivateKey.generate())
        pem = signer._private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                # While there is no private key: a public one that is planted there must not become the published one.
                with suppress(FileNotFoundError):
                    signer._refuse_another(public_key_path(path))
            _create_file(path, pem, mode=0o600)
        except FileExistsError:
            raise
        except InvalidRequest:
            if path.exists():
                raise FileExistsError(errno.EEXIST, "another process has made it", str(path)) from None
            raise
        except OSError as error:
            raise InvalidRequest.of("signing_key_path", str(path), f"cannot be made: {error.strerror}") from error
        signer.publish_key(path)
        return signer

    def publish_key(self, path: str | Path) -> Path:
        """Put the public key beside the private key at `path`: "signing-key.pem" gets "signing-key.pub.pem".

        This is the file that `load_trusted_keys` takes; hand it to whoever is to verify tracks.

        Raises:
            InvalidRequest: the folder cannot be written to, or another public key lies there.
        """
        public = public_key_path(path)
        try:
            with suppress(FileExistsError):
                _create_file(public, self.public_pem, mode=0o644)
            self._refuse_another(public)
        except OSError as error:
            raise InvalidRequest.of("signing_key_path", str(public), f"cannot be written: {error.strerror}") from error
        return public

    def _refuse_another(self, public: Path) -> None:
        """Refuse a public key that is not this one's: whoever verifies with it would trust somebody else."""
        if public.read_bytes() != self.public_pem:
            raise InvalidRequest.of(
                "signing_key_path", str(public), f"is not the public key of the private key beside it ({self.key_id}); "
                "find out who put it there, and delete it"
            )  # fmt: skip

    @property
    def public_key(self) -> Ed25519PublicKey:
        """What a verifier needs."""
        return self._private_key.public_key()

    @property
    def key_id(self) -> str:
        """First 16 hex digits of the SHA-256 of the raw public key."""
        return key_id_of(self._public_raw)

    @property
    def public_pem(self) -> bytes:
        """The public key as PEM: what a verifier is given, over a channel that it trusts."""
        return self._private_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, record: TrackRecord) -> SignedRecord:
        """`record` with this key's signature."""
        return SignedRecord(record, self.sign_bytes(canonical_bytes(record)))

    def derived_key(self, purpose: str) -> bytes:
        """32 secret bytes for one purpose, the same wherever this key is (HKDF with SHA-256, RFC 5869)."""
        return HKDF(hashes.SHA256(), length=32, salt=None, info=purpose.encode()).derive(
            self._private_key.private_bytes_raw()
        )

    def sign_bytes(self, message: bytes) -> Signature:
        """The signature of this key over `message`."""
        return Signature(self.key_id, self._public_raw, self._private_key.sign(message))


def key_id_of(public_raw: bytes) -> str:
    """The short name of a public key: first 16 hex digits of the SHA-256 of its 32 raw bytes."""
    return hashlib.sha256(public_raw).hexdigest()[:16]


def load_trusted_keys(path: str | Path) -> dict[str, Ed25519PublicKey]:
    """The public keys, by key id, in one PEM file or in all *.pem files of a folder.

    Raises:
        InvalidRequest: there are none, or a file holds something else.
    """
    path = Path(path)
    found = {}
    for file in sorted(path.glob("*.pem")) if path.is_dir() else [path]:
        try:
            key = serialization.load_pem_public_key(file.read_bytes())
        except OSError as error:
            raise InvalidRequest.of("trusted keys", str(file), f"cannot be read: {error.strerror}") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InvalidRequest.of("trusted keys", str(file), f"is not a public key: {shown(str(error))}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise InvalidRequest.of("trusted keys", str(file), "is a key of another kind; it must be Ed25519")
        found[key_id_of(key.public_bytes_raw())] = key
    if not found:
        raise InvalidRequest.of("trusted keys", str(path), "has no *.pem file; put the signer's public key there")
    return found


def public_key_path(path: str | Path) -> Path:
    """Where the public key of a private key's file lies: "signing-key.pub.pem" beside "signing-key.pem"."""
    return Path(path).with_suffix(".pub.pem")


def _create_file(path: Path, content: bytes, mode: int) -> None:
    """Make a file that is not there yet. Never seen half-written.

    Raises:
        FileExistsError: it is there.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _json_values(record: TrackRecord) -> dict[str, Any]:
    """The record's fields as JSON values. Not `asdict`: it deep-copies."""
    values = {field.name: getattr(record, field.name) for field in RECORD_FIELDS}
    values["choices"] = dict(record.choices)
    values["findings"] = [{field: getattr(finding, field) for field in _FINDING_FIELDS} for finding in record.findings]
    return values


def _signed_values(record: TrackRecord) -> dict[str, Any]:
    """The values that a record of its version has."""
    values = _json_values(record)
    return {field.name: values[field.name] for field in fields_of_version(record.schema_version)}


def _from_json_values(values: object) -> TrackRecord:
    if not isinstance(values, dict):
        raise ValueError("the record is not an object")
    of_version = fields_of_version(_read_int(values.get("schema_version"), "schema_version"))
    exactly(values, {field.name for field in of_version}, "the record")
    absent: dict[str, Any] = {field.name: None for field in RECORD_FIELDS}
    return TrackRecord(**absent | {field.name: _read_field(field, values[field.name]) for field in of_version})


def _read_field(field: RecordField, value: object) -> object:
    if value is None and field.nullable:
        return None
    return _READERS[field.type](value, field.name)


def _read_str(value: object, name: str) -> str:
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
    return {_read_str(k, name): _read_str(v, name) for k, v in value.items()}


def _read_findings(value: object, name: str) -> tuple[Finding, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list")
    return tuple(_read_finding(item, name) for item in value)


def _read_finding(value: object, name: str) -> Finding:
    finding = exactly(value, set(_FINDING_FIELDS), name)
    return Finding(
        name=_read_str(finding["name"], name),
        measured=_read_float(finding["measured"], name),
        lowest=None if finding["lowest"] is None else _read_float(finding["lowest"], name),
        highest=_read_float(finding["highest"], name),
        unit=_read_str(finding["unit"], name),
        passed=_read_bool(finding["passed"], name),
    )


_READERS: Final[dict[object, Callable[[object, str], object]]] = {
    str: _read_str,
    int: _read_int,
    float: _read_float,
    bool: _read_bool,
    Mapping[str, str]: _read_choices,
    tuple[Finding, ...]: _read_findings,
}


def _read_base64(value: object, name: str, length: int) -> bytes:
    try:
        data = base64.b64decode(_read_str(value, name), validate=True)
    except binascii.Error as error:
        raise ValueError(f"{name} is not base64: {error}") from error
    if len(data) != length:
        raise ValueError(f"{name} has {len(data)} bytes instead of {length}")
    return data


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
