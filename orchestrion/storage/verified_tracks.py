"""Tracks as all code reads them: by records and tombstones that a trusted key has signed, for this track and version.

A writer of the store can put anything into it, also a genuine record of another track. What does not verify is an error
where a track is asked for by its id, and counts as absent where it would be rendered: it is made again, as the next
version.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrion.errors import NotFound, OnHold, VerificationFailed, Withdrawn
from orchestrion.storage.track_index import IndexedTrack
from orchestrion.storage.track_store import TrackStore
from orchestrion.telemetry.metrics import UNVERIFIED, Recorder
from orchestrion.tracks.identity import is_piece_id
from orchestrion.tracks.record import TrackRecord
from orchestrion.trust.index_entry import SignedEntry, verify_whole_index
from orchestrion.trust.signed_record import SignedRecord, verify_record
from orchestrion.trust.tombstone import Tombstone

logger = logging.getLogger(__name__)

#: Track id and version.
RecordId = tuple[str, int]


@dataclass(frozen=True, slots=True)
class StoredTrack:
    """A record that was verified, and which one of its track it is."""

    version: int
    signed: SignedRecord
    #: Byte for byte as it lies in the store, with its caller.
    envelope: bytes

    @property
    def public_envelope(self) -> bytes:
        """The signed record as anybody may have it: it does not say who asked first."""
        return self.signed.without_caller().to_bytes()

    @property
    def record(self) -> TrackRecord:
        """What is known of the track."""
        return self.signed.record


class VerifiedTracks:
    """The tracks of a store, as far as they verify. Safe to share between threads."""

    def __init__(self, store: TrackStore, trusted_keys: Mapping[str, Ed25519PublicKey], recorder: Recorder) -> None:
        """The tracks of `store`.

        Args:
            store: where they are.
            trusted_keys: by key id: whose records and tombstones count; see `signing_keys.trusted_keys`.
            recorder: counts what does not verify.
        """
        self.store = store
        self.trusted_keys = trusted_keys
        self._recorder = recorder

    def newest(self, track_id: str) -> StoredTrack | None:
        """The newest record of a track; None if there is none.

        Raises:
            Withdrawn: the track was taken down.
            OnHold: a person is to decide about the track first.
            VerificationFailed: the newest record is not this track's, not of this version, or not signed by a trusted
                key.
        """
        listing = self.store.listing(track_id)
        if listing.has_tombstone:
            self.refuse_withdrawn(track_id)
        if not listing.versions:
            return None
        found = self.version(track_id, listing.versions[-1])
        if found.record.is_held:
            raise OnHold.of(track_id)
        return found

    def reusable(self, track_id: str, piece_id: str) -> StoredTrack | None:
        """The newest record of a track that would be rendered otherwise; None also if it does not verify.

        Raises:
            Withdrawn: the track was taken down, or it is not there and the piece that it would be made of was.
            OnHold: it is made, and a person is to decide about it first.
        """
        found = None
        # Gone since it was listed, or not signed by a trusted key, which is in the log by now.
        with suppress(NotFound, VerificationFailed):
            found = self.newest(track_id)
        if found is None:
            # What is there of a withdrawn piece has a tombstone of its own: only here is another request made.
            self.refuse_withdrawn(piece_id)
        return found

    def version(self, track_id: str, version: int) -> StoredTrack:
        """One record of a track, also if the track was taken down or is on hold: the record is evidence.

        Raises:
            NotFound: the track has no such version.
            VerificationFailed: the record is not this track's, not of this version, or not signed by a trusted key.
        """
        with self._naming(track_id, version):
            envelope = self.store.record(track_id, version)
        return self.verified(track_id, version, envelope)

    def verified(self, track_id: str, version: int, envelope: bytes) -> StoredTrack:
        """The same of what was read from the store already."""
        with self._naming(track_id, version):
            signed = SignedRecord.from_bytes(envelope)
            verify_record(signed, track_id, version, self.trusted_keys)
        return StoredTrack(version, signed, envelope)

    @contextmanager
    def _naming(self, track_id: str, version: int) -> Iterator[None]:
        """Count and log a record that does not verify, and say which one it is."""
        try:
            yield
        except VerificationFailed as error:
            self._recorder.count(UNVERIFIED, kind="record")
            logger.warning("%s, version %d, does not count: %s", track_id, version, error)
            raise VerificationFailed(f"{track_id}, version {version}: {error}") from error

    def announce(self, signed: SignedEntry) -> None:
        """Say in the index that a track is about to be stored, unless it is withdrawn: before its blobs and its record.

        Raises:
            Withdrawn: the track or its piece was taken down.
        """
        entry = signed.entry
        self.store.announce(entry, signed.to_bytes())
        # A takedown of the piece writes its tombstone and then lists the piece's tracks. Looking here only after the
        # track can be listed, at least one of the two sees the other; and so again in `publish`, for the track's own.
        self.refuse_withdrawn(entry.track_id)
        self.refuse_withdrawn(entry.piece_id)

    def publish(self, track_id: str, record_for: Callable[[int], bytes]) -> int:
        """Make a record the newest of its track, which makes the track visible; see `TrackStore.publish`.

        The track must have been announced: one that is not in the index is out of reach of a takedown of its piece.

        Raises:
            Withdrawn: the track was taken down, maybe while this call ran. The record is kept: by it a takedown that is
                run again finds the blobs that came too late for the first.
        """
        version = self.store.publish(track_id, record_for)
        # A takedown writes its tombstone and then looks for records. Looking here only after the record is written, at
        # least one of the two sees the other.
        self.refuse_withdrawn(track_id)
        return version

    def refuse_withdrawn(self, subject: str) -> None:
        """Do nothing, unless this track, or this piece, was taken down.

        Raises:
            Withdrawn: it was.
        """
        if self.tombstone(subject) is not None:
            every_form = " in every form" if is_piece_id(subject) else ""
            raise Withdrawn(
                f"{subject} was withdrawn{every_form} and is not made again; ask for another, e.g. with another seed"
            )

    def tombstone(self, subject: str) -> Tombstone | None:
        """The tombstone of a track or piece that was taken down; None of any other, and if what lies there is none."""
        try:
            envelope = self.store.tombstone(subject)
            if envelope is None:
                return None
            tombstone = Tombstone.from_bytes(envelope)
            tombstone.verify(subject, self.trusted_keys)
        except VerificationFailed as error:
            self._recorder.count(UNVERIFIED, kind="tombstone")
            logger.warning("%s is not withdrawn by what lies in its tombstone's place: %s", subject, error)
            return None
        return tombstone

    def withdraw(self, tombstone: Tombstone) -> Tombstone:
        """Take a track or a piece down for good, there or not.

        From now on every way to the track raises Withdrawn, and so does each request that would make another of the
        piece. What tracks a piece has already, and what blobs, `takedown` knows.

        Returns:
            The tombstone that stands: the first one that verifies.
        """
        subject, data = tombstone.withdrawal.subject, tombstone.to_bytes()
        if self.store.create_tombstone(subject, data):
            return tombstone
        standing = self.tombstone(subject)
        if standing is None:
            self.store.replace_tombstone(subject, data)
        return standing or tombstone

    def entry(self, track: IndexedTrack) -> SignedEntry | None:
        """The signed entry of a track that the index lists; None if what lies there does not verify."""
        try:
            signed = SignedEntry.from_bytes(self.store.index.envelope(track))
            signed.verify(track.track_id, track.piece_id, self.trusted_keys)
        except NotFound:
            return None
        except VerificationFailed as error:
            self._recorder.count(UNVERIFIED, kind="index")
            logger.warning("the index does not count for %s of %s: %s", track.track_id, track.piece_id, error)
            return None
        return signed

    @property
    def index_is_whole(self) -> bool:
        """Whether a trusted key says that every track of the store is in its index."""
        statement = self.store.index.whole()
        if statement is None:
            return False
        try:
            verify_whole_index(statement, self.trusted_keys)
        except VerificationFailed as error:
            self._recorder.count(UNVERIFIED, kind="index")
            logger.warning("the index of %s is not taken for whole: %s", self.store.url, error)
            return False
        return True
