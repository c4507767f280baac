"""What a store's index says of a track before the track is there: signed, so that a takedown can go by it.

A record is found by its entry. An entry whose record is not there yet is all that is known of a track that is being
stored, and a takedown withdraws that track by it: so it is signed like a record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrion.errors import VerificationFailed, shown
from orchestrion.tracks.identity import piece_id_of
from orchestrion.tracks.record import TrackRecord, exactly, read_list, read_str
from orchestrion.trust.signature import Signature, read_envelope
from orchestrion.trust.signing import Signer

SCHEMA_VERSION: Final = 1
#: What the key of a takedown signs when the index has every track of the store.
_WHOLE: Final = rfc8785.dumps({"index": "whole", "schema_version": SCHEMA_VERSION})


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One track, by what a takedown selects by. Who asked for it is not in it: the index is listed by many."""

    track_id: str
    piece_id: str
    prompt_sha256: str
    model_revision: str
    #: "sha256:" and the hash of the upload.
    theme: str | None
    continuation: str | None
    #: Keys of the blobs that its record names, or will name.
    blobs: tuple[str, ...]

    @classmethod
    def of(cls, record: TrackRecord) -> IndexEntry:
        """The entry of a track that has a record."""
        return cls(
            track_id=record.track_id,
            piece_id=piece_id_of(record),
            prompt_sha256=record.prompt_sha256,
            model_revision=record.model_revision,
            theme=record.theme,
            continuation=record.continuation,
            blobs=(record.audio_key, record.midi_key) if record.midi_key else (record.audio_key,),
        )


@dataclass(frozen=True, slots=True)
class SignedEntry:
    """An entry and its signature, over the entry as canonical JSON."""

    entry: IndexEntry
    signature: Signature

    @classmethod
    def sign(cls, entry: IndexEntry, signer: Signer) -> SignedEntry:
        """The entry with this signer's signature."""
        return cls(entry, signer.sign_bytes(rfc8785.dumps(_signed_values(entry))))

    def to_bytes(self) -> bytes:
        """The JSON envelope in canonical form, like a record's."""
        return rfc8785.dumps({"entry": _signed_values(self.entry), "signature": self.signature.to_json()})

    @classmethod
    def from_bytes(cls, envelope: bytes) -> SignedEntry:
        """Read an entry. It is not verified: that is `verify`.

        Raises:
            VerificationFailed: it is not exactly what `to_bytes` writes.
        """
        return read_envelope(envelope, "an entry of the index", cls._parse)

    @classmethod
    def _parse(cls, value: object) -> SignedEntry:
        envelope = exactly(value, {"entry", "signature"}, "the envelope")
        names = set(IndexEntry.__slots__) | {"schema_version"}
        values = dict(exactly(envelope["entry"], names, "the entry"))
        if (version := values.pop("schema_version")) != SCHEMA_VERSION:
            raise ValueError(f"schema_version is {shown(version)}, this release knows {SCHEMA_VERSION}")
        blobs = read_list(read_str)(values.pop("blobs"), "blobs")
        for name, text in values.items():
            if text is not None or name not in ("theme", "continuation"):
                read_str(text, name)
        return cls(IndexEntry(**values, blobs=blobs), Signature.from_json(envelope["signature"]))

    def verify(self, track_id: str, piece_id: str, trusted_keys: Mapping[str, Ed25519PublicKey]) -> None:
        """Check that a trusted key signed it, and for this track of this piece.

        Raises:
            VerificationFailed: saying which of track, piece, key and signature does not fit.
        """
        if (self.entry.track_id, self.entry.piece_id) != (track_id, piece_id):
            raise VerificationFailed(f"the entry of {track_id} in {piece_id} is that of {shown(self.entry.track_id)}")
        self.signature.check(rfc8785.dumps(_signed_values(self.entry)), trusted_keys)


def whole_index(signer: Signer) -> bytes:
    """The statement that a store's index has every track of it."""
    return rfc8785.dumps(signer.sign_bytes(_WHOLE).to_json())


def verify_whole_index(statement: bytes, trusted_keys: Mapping[str, Ed25519PublicKey]) -> None:
    """Check that a trusted key signed that statement.

    Raises:
        VerificationFailed: none did.
    """
    try:
        signature = Signature.from_json(json.loads(statement))
    except (ValueError, TypeError, RecursionError) as error:
        raise VerificationFailed(f"this is no statement about an index: {shown(str(error))}") from error
    signature.check(_WHOLE, trusted_keys)


def _signed_values(entry: IndexEntry) -> dict[str, Any]:
    return asdict(entry) | {"blobs": list(entry.blobs), "schema_version": SCHEMA_VERSION}
