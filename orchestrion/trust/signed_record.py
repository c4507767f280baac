"""A record with its signature, and what it takes to believe it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrion.errors import VerificationFailed, shown
from orchestrion.tracks.record import (
    TrackRecord,
    caller_values,
    canonical_bytes,
    exactly,
    from_signed_values,
    signed_values,
)
from orchestrion.trust.signature import Signature, read_envelope


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A record and its signature, over `canonical_bytes(record)`.

    The store keeps it with its caller; others than this one are given it `without_caller`.
    """

    record: TrackRecord
    signature: Signature

    def to_bytes(self) -> bytes:
        """The JSON envelope, itself in canonical form: there is one spelling of each signed record."""
        caller = caller_values(self.record)
        apart = {} if caller is None else {"caller": caller}
        return rfc8785.dumps({"record": signed_values(self.record), "signature": self.signature.to_json()} | apart)

    def without_caller(self) -> SignedRecord:
        """The same, and it does not say who asked and what for: what anybody may be given."""
        return SignedRecord(self.record.without_caller(), self.signature)

    @classmethod
    def from_bytes(cls, envelope: bytes) -> SignedRecord:
        """Read an envelope. It is not verified: that is `verify`.

        Raises:
            VerificationFailed: it is not exactly what `to_bytes` writes.
        """
        return read_envelope(envelope, "a signed record", cls._parse)

    @classmethod
    def _parse(cls, value: object) -> SignedRecord:
        apart = {"caller"} if isinstance(value, dict) and "caller" in value else set()
        envelope = exactly(value, {"record", "signature"} | apart, "the envelope")
        signature = Signature.from_json(envelope["signature"])
        return cls(from_signed_values(envelope["record"], envelope.get("caller")), signature)


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
    verify_audio_hash(signed.record, len(audio), hashlib.sha256(audio).hexdigest())


def verify_audio_hash(record: TrackRecord, audio_bytes: int, audio_sha256: str) -> None:
    """Check that a record is that of an audio file which somebody has measured; its signature is not looked at.

    Args:
        record: of the audio.
        audio_bytes: size of the file.
        audio_sha256: its hash, hex.

    Raises:
        VerificationFailed: saying which of size and hash does not fit.
    """
    if audio_bytes != record.audio_bytes:
        raise VerificationFailed(f"the audio has {audio_bytes} bytes, the record says {record.audio_bytes}")
    if audio_sha256 != record.audio_sha256:
        raise VerificationFailed(f"the audio's SHA-256 is {audio_sha256}, the record says {record.audio_sha256}")


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
