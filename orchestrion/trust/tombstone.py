"""A tombstone: a track is withdrawn, by whom and why, signed like a record. `takedown` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrion.errors import VerificationFailed, shown
from orchestrion.tracks.record import exactly
from orchestrion.trust.signature import Signature, read_envelope
from orchestrion.trust.signing import Signer

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What a tombstone says. An answer to a request for the track tells neither the reason nor the actor."""

    track_id: str
    #: Why, in one line.
    reason: str
    #: Who decided it.
    actor: str
    #: ISO 8601, UTC, microseconds.
    withdrawn_at: str

    def describe(self) -> str:
        """In words: "withdrawn on 2026-11-22T… by ann: claim 17"."""
        return f"withdrawn on {self.withdrawn_at} by {self.actor}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A withdrawal and its signature, over the withdrawal as canonical JSON."""

    withdrawal: Withdrawal
    signature: Signature

    @classmethod
    def sign(cls, withdrawal: Withdrawal, signer: Signer) -> Tombstone:
        """The tombstone with this signer's signature."""
        return cls(withdrawal, signer.sign_bytes(rfc8785.dumps(_signed_values(withdrawal))))

    def to_bytes(self) -> bytes:
        """The JSON envelope in canonical form, like a record's."""
        return rfc8785.dumps({"withdrawal": _signed_values(self.withdrawal), "signature": self.signature.to_json()})

    @classmethod
    def from_bytes(cls, envelope: bytes) -> Tombstone:
        """Read a tombstone. It is not verified: that is `verify`.

        Raises:
            VerificationFailed: it is not exactly what `to_bytes` writes.
        """
        return read_envelope(envelope, "a tombstone", cls._parse)

    @classmethod
    def _parse(cls, value: object) -> Tombstone:
        envelope = exactly(value, {"withdrawal", "signature"}, "the envelope")
        names = {"schema_version", "track_id", "reason", "actor", "withdrawn_at"}
        values = dict(exactly(envelope["withdrawal"], names, "the withdrawal"))
        if (version := values.pop("schema_version")) != SCHEMA_VERSION:
            raise ValueError(f"schema_version is {shown(version)}, this release knows {SCHEMA_VERSION}")
        if wrong := sorted(name for name, text in values.items() if not isinstance(text, str)):
            raise ValueError(f"{', '.join(wrong)} is not text")
        return cls(Withdrawal(**values), Signature.from_json(envelope["signature"]))

    def verify(self, track_id: str, trusted_keys: Mapping[str, Ed25519PublicKey]) -> None:
        """Check that a trusted key signed it, and for this track; see `signature.load_trusted_keys`.

        Raises:
            VerificationFailed: saying which of track, key and signature does not fit.
        """
        if self.withdrawal.track_id != track_id:
            raise VerificationFailed(f"the tombstone of {track_id} is that of {shown(self.withdrawal.track_id)}")
        self.signature.check(rfc8785.dumps(_signed_values(self.withdrawal)), trusted_keys)


def _signed_values(withdrawal: Withdrawal) -> dict[str, Any]:
    return asdict(withdrawal) | {"schema_version": SCHEMA_VERSION}
