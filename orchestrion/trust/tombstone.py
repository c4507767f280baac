"""A tombstone: a track or a piece is withdrawn, by whom and why, signed like a record. `takedown` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrion.errors import VerificationFailed, shown
from orchestrion.tracks.identity import is_piece_id
from orchestrion.tracks.record import exactly
from orchestrion.trust.signature import Signature, read_envelope
from orchestrion.trust.signing import Signer

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What a tombstone says. An answer to a request for the track tells neither the reason nor the actor."""

    #: Of a track; or of a piece, and so of every track that is made of it or would be.
    subject: str
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
        of_a_piece = isinstance(envelope["withdrawal"], dict) and "piece_id" in envelope["withdrawal"]
        kind = "piece_id" if of_a_piece else "track_id"
        names = {"schema_version", kind, "reason", "actor", "withdrawn_at"}
        values = dict(exactly(envelope["withdrawal"], names, "the withdrawal"))
        if (version := values.pop("schema_version")) != SCHEMA_VERSION:
            raise ValueError(f"schema_version is {shown(version)}, this release knows {SCHEMA_VERSION}")
        if wrong := sorted(name for name, text in values.items() if not isinstance(text, str)):
            raise ValueError(f"{', '.join(wrong)} is not text")
        return cls(Withdrawal(subject=values.pop(kind), **values), Signature.from_json(envelope["signature"]))

    def verify(self, subject: str, trusted_keys: Mapping[str, Ed25519PublicKey]) -> None:
        """Check that a trusted key signed it, and for this track or piece; see `signature.load_trusted_keys`.

        Raises:
            VerificationFailed: saying which of subject, key and signature does not fit.
        """
        if self.withdrawal.subject != subject:
            raise VerificationFailed(f"the tombstone of {subject} is that of {shown(self.withdrawal.subject)}")
        self.signature.check(rfc8785.dumps(_signed_values(self.withdrawal)), trusted_keys)


def _signed_values(withdrawal: Withdrawal) -> dict[str, Any]:
    values = asdict(withdrawal) | {"schema_version": SCHEMA_VERSION}
    # The name tells the kinds apart. What is signed of a track is what earlier releases sign.
    values["piece_id" if is_piece_id(withdrawal.subject) else "track_id"] = values.pop("subject")
    return values
