"""Ed25519 signatures (RFC 8032) over canonical JSON (RFC 8785) and the keys that are trusted."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrion.errors import InvalidRequest, VerificationFailed, shown
from orchestrion.tracks.record import exactly, read_str

#: Records are a few kB; a longer envelope is refused before it is parsed.
MAX_ENVELOPE_BYTES: Final = 1 << 20
AnyEnvelope = TypeVar("AnyEnvelope", bound="Envelope")


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
            key_id=read_str(signature["key_id"], "key_id"),
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


def _read_base64(value: object, name: str, length: int) -> bytes:
    try:
        data = base64.b64decode(read_str(value, name), validate=True)
    except binascii.Error as error:
        raise ValueError(f"{name} is not base64: {error}") from error
    if len(data) != length:
        raise ValueError(f"{name} has {len(data)} bytes instead of {length}")
    return data
