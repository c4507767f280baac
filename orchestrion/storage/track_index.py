"""The index of a store: which tracks a piece has, and which tracks name a blob, by listing names.

    index/piece/<2>/<piece id>/<track id>.<prompt>.<theme>.<continuation>.<revision>   a signed entry, one a track
    index/blob/<2>/<sha256>.<suffix>/<track id>                                        empty, one for each of its blobs
    index/whole.json                                                                   signed: no track is missing

A track is in the index before its record is there, so whatever stands is found. Names are hints: who goes by one reads
the record or the signed entry. Hashes in them are their first 32 hex digits, and a revision is spelt so that it can be
a name; what is not given is a `-`. The names alone tell what tracks a model revision, a prompt or an upload led to.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from orchestrion.errors import NotFound
from orchestrion.storage.object_store import Objects
from orchestrion.trust.index_entry import IndexEntry
from orchestrion.trust.signature import MAX_ENVELOPE_BYTES

_HASH_DIGITS: Final = 32
_PIECE_ENTRY: Final = re.compile(
    r"index/piece/[a-z2-7]{2}/(?P<piece_id>pce_[a-z2-7]{32})/"
    r"(?P<track_id>trk_[a-z2-7]{32})\.(?P<prompt>[0-9a-f]{32})\.(?P<theme>[0-9a-f]{32}|-)"
    r"\.(?P<continuation>[0-9a-f]{32}|-)\.(?P<revision>[A-Za-z0-9_~=-]{1,110})"
)
_BLOB_ENTRY: Final = re.compile(r"index/blob/[0-9a-f]{2}/[0-9a-f]{64}\.[a-z0-9]{1,8}/(?P<track_id>trk_[a-z2-7]{32})")
_WHOLE: Final = "index/whole.json"
#: A longer revision is cut and ends in a hash; file systems end at 255 bytes for the whole name.
_MAX_REVISION: Final = 110
_UNSPELT: Final = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class IndexedTrack:
    """What the name of an entry says."""

    track_id: str
    piece_id: str
    #: Their first digits; None: not given.
    prompt: str
    theme: str | None
    continuation: str | None
    #: As a name spells it.
    revision: str

    @property
    def key(self) -> str:
        """Where the entry lies."""
        parts = (self.track_id, self.prompt, self.theme or "-", self.continuation or "-", self.revision)
        return f"{_piece_folder(self.piece_id)}/{'.'.join(parts)}"

    @classmethod
    def of(cls, entry: IndexEntry) -> IndexedTrack:
        """The name of an entry."""
        return cls(
            entry.track_id,
            entry.piece_id,
            short_hash(entry.prompt_sha256),
            None if entry.theme is None else short_hash(entry.theme),
            None if entry.continuation is None else short_hash(entry.continuation),
            spelt(entry.model_revision),
        )


class TrackIndex:
    """The index below one address."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def add(self, entry: IndexEntry, envelope: bytes) -> None:
        """Put a track into the index; one that is there stays as it is.

        Args:
            entry: of the track.
            envelope: the same, signed.
        """
        # The entry comes last: where it is, the blobs' are.
        self.add_blobs(entry.track_id, entry.blobs)
        self._objects.create(IndexedTrack.of(entry).key, envelope)

    def add_blobs(self, track_id: str, blobs: tuple[str, ...]) -> None:
        """Note that a track names these blobs."""
        for key in blobs:
            self._objects.create(f"{_blob_folder(key)}/{track_id}", b"")

    def of_piece(self, piece_id: str) -> list[IndexedTrack]:
        """The tracks that are listed as made of a piece."""
        return _indexed(self._objects.keys(_piece_folder(piece_id)))

    def all(self) -> list[IndexedTrack]:
        """Every track that is listed."""
        return _indexed(self._objects.keys("index/piece"))

    def with_blob(self, key: str) -> set[str]:
        """Ids of the tracks that are listed as naming a blob."""
        found = map(_BLOB_ENTRY.fullmatch, self._objects.keys(_blob_folder(key)))
        return {match["track_id"] for match in found if match}

    def envelope(self, track: IndexedTrack) -> bytes:
        """The signed entry of a track, as it lies there.

        Raises:
            NotFound: it is there no more.
            VerificationFailed: it is larger than an entry can be, or no plain file.
        """
        return self._objects.read(track.key, at_most=MAX_ENVELOPE_BYTES)

    def whole(self) -> bytes | None:
        """What lies in the place of the statement that no track is missing; None if nothing does."""
        try:
            return self._objects.read(_WHOLE, at_most=MAX_ENVELOPE_BYTES)
        except NotFound:
            return None

    def note_whole(self, statement: bytes) -> None:
        """Note that no track is missing."""
        self._objects.replace(_WHOLE, statement)


def short_hash(sha256: str) -> str:
    """The first digits of a hash, or of the hash in a reference, as names have them."""
    return sha256.removeprefix("sha256:")[:_HASH_DIGITS]


def spelt(revision: str) -> str:
    """A revision as a name spells it: "sha256=3a…" for "sha256:…"."""
    text = _UNSPELT.sub(lambda match: "".join(f"={byte:02x}" for byte in match[0].encode()), revision)
    if len(text) <= _MAX_REVISION:
        return text or "="
    digest = hashlib.sha256(revision.encode()).hexdigest()[:_HASH_DIGITS]
    return f"{text[: _MAX_REVISION - 1 - _HASH_DIGITS]}~{digest}"


def revision_of(spelling: str) -> str:
    """The revision that a name spells; one that was cut ends in "…"."""
    text, is_cut, _ = spelling.partition("~")
    decoded = re.sub("(?:=[0-9a-f]{2})+", lambda match: _decoded(match[0]), text)
    return f"{decoded}…" if is_cut else decoded.removesuffix("=")


def _decoded(escaped: str) -> str:
    return bytes.fromhex(escaped.replace("=", "")).decode("utf-8", "replace")


def _piece_folder(piece_id: str) -> str:
    return f"index/piece/{piece_id[4:6]}/{piece_id}"


def _blob_folder(key: str) -> str:
    return f"index/{key.replace('blobs/', 'blob/', 1)}"


def _indexed(keys: list[str]) -> list[IndexedTrack]:
    return [
        IndexedTrack(
            match["track_id"],
            match["piece_id"],
            match["prompt"],
            None if match["theme"] == "-" else match["theme"],
            None if match["continuation"] == "-" else match["continuation"],
            match["revision"],
        )
        for match in map(_PIECE_ENTRY.fullmatch, keys)
        if match
    ]
