"""Where tracks are kept: content-addressed blobs and numbered, signed records, in a folder or an S3 bucket.

    blobs/<2 hex>/<sha256>.<suffix>                audio, MIDI and uploads, named by what is in them
    tracks/<2 characters>/<track id>/<version>.json  a track exists once its record does
    tracks/<2 characters>/<track id>/withdrawn.json  and is gone once its tombstone is there; the records stay
    pieces/<2 characters>/<piece id>/withdrawn.json  no track is made of a piece whose tombstone is there
    index/…                                        which tracks a piece has and a blob is of (`track_index`)
    uploads/<day>/<sha256>-<bytes>                   marks of uploads that expire (`upload_retention`)
    tmp/                                             (folders only) files being written; old ones may be deleted

Nothing half-written is ever seen: a name appears only after all of its bytes are safe (`object_store`), and a record is
published only after the blobs it names. There are no locks: two writers of one version both try to create its name, and
only one can.

Blobs are checked here, against the hash in their names, whichever part of one is read. Records and tombstones are bytes
here: their signatures are checked in `verified_tracks`, by which all other code reads them.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from orchestrion.errors import InvalidRequest, NotFound, VerificationFailed, shown
from orchestrion.storage.block_digests import BlockDigests
from orchestrion.storage.object_store import Objects
from orchestrion.storage.purged import Purged
from orchestrion.storage.track_index import IndexedTrack, TrackIndex
from orchestrion.tracks.identity import is_piece_id, is_track_id
from orchestrion.trust.index_entry import IndexEntry
from orchestrion.trust.signature import MAX_ENVELOPE_BYTES

logger = logging.getLogger(__name__)

#: As many as the six digits of a record's name can count.
MAX_VERSION: Final = 999_999

_BLOB_KEY = re.compile(r"blobs/(?P<shard>[0-9a-f]{2})/(?P<sha256>(?P=shard)[0-9a-f]{62})\.[a-z0-9]{1,8}")
_SUFFIX = re.compile(r"\.?([a-z0-9]{1,8})")
_TRACK_FILE = re.compile(
    r"tracks/[a-z2-7]{2}/(?P<track_id>trk_[a-z2-7]{32})/((?P<version>[0-9]{6})|(?P<tombstone>withdrawn))\.json"
)
_THEME_REF = re.compile(r"sha256:(?P<sha256>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies in a track's folder, by name; nothing of it is verified."""

    #: Of its records, oldest first.
    versions: tuple[int, ...]
    has_tombstone: bool


class TrackStore:
    """Tracks in one place. Safe to share between threads, and to pickle: a copy opens its own connections."""

    def __init__(self, objects: Objects) -> None:
        self.url = objects.url
        self._objects = objects
        self._digests = BlockDigests(objects)
        self.index = TrackIndex(objects)

    @classmethod
    def open(cls, url: str, storage_options: Mapping[str, Any] | None = None) -> TrackStore:
        """The store at `url`: a folder (made if absent), file:///folder or s3://bucket[/prefix].

        Args:
            url: where the tracks are.
            storage_options: as for `Objects`, e.g. {"endpoint_url": …, "key": …, "secret": …}.

        Raises:
            InvalidRequest: the URL is of another kind.
            StoreUnavailable: the folder cannot be made. A bucket is contacted only when it is first used.
        """
        return cls(Objects(url, storage_options))

    def __reduce__(self) -> tuple[Callable[..., TrackStore], tuple[Objects]]:
        return (TrackStore, (self._objects,))

    def put_blob(self, data: bytes, suffix: str) -> str:
        """Keep `data` and return its key. Putting the same bytes again is a no-op with the same key.

        A blob that is there and was damaged is written anew.

        Args:
            data: the whole content.
            suffix: of the file name, "flac" or ".flac": 1 to 8 lower-case letters and digits.
        """
        return self._put(data, self.key_of(data, suffix))

    @staticmethod
    def key_of(data: bytes, suffix: str) -> str:
        """The key that `put_blob` would give."""
        match = _SUFFIX.fullmatch(suffix)
        if match is None:
            raise InvalidRequest.of("suffix", suffix, "must be 1 to 8 lower-case letters or digits, e.g. 'flac'")
        return _blob_key(hashlib.sha256(data).hexdigest(), match[1])

    def get_blob(self, key: str) -> bytes:
        """The bytes under `key`, checked against the hash in it.

        Raises:
            NotFound: there is no such blob.
            VerificationFailed: what is there is not what was written.
        """
        sha256 = _blob_sha256(key)
        data = self._objects.read(key)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise VerificationFailed(
                f"{self.url}: {key} is damaged ({len(data)} bytes, wrong SHA-256); delete it and render the track again"
            )
        return data

    def blob_size(self, key: str) -> int:
        """Bytes under `key`.

        Raises:
            NotFound: there is no such blob.
        """
        _blob_sha256(key)
        return self._objects.size(key)

    def has_blob(self, key: str) -> bool:
        """Whether there is such a blob."""
        _blob_sha256(key)
        return self._objects.exists(key)

    def delete_blob(self, key: str) -> Purged:
        """Remove a blob with all its versions, whatever names it: `takedown` is where that is looked at."""
        _blob_sha256(key)
        return self._objects.purge(key)

    def check_blob(self, key: str) -> int:
        """The size of a blob in bytes, once all of it is known to be what was written.

        The first time in this process the blob is read from end to end, a few MB at a time. After that it costs
        nothing, and each part that is read is checked by itself.

        Raises:
            NotFound: there is no such blob.
            VerificationFailed: what is there is not what was written.
        """
        return self._digests.of(key, _blob_sha256(key)).size

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start` up to, not including, `end` of a blob, checked; what lies beyond its end is left out.

        Raises:
            NotFound: there is no such blob.
            VerificationFailed: it is not what was written, or was changed since `check_blob`.
        """
        sha256 = _blob_sha256(key)
        if not 0 <= start <= end:
            raise InvalidRequest.of("range", f"{start}-{end}", "a range needs 0 <= start <= end")
        return self._digests.read_range(key, sha256, start, end)

    def probe(self, size: int) -> None:
        """Write so many bytes and remove them: raises StoreUnavailable where that is refused."""
        self._objects.probe(size)

    def put_theme(self, data: bytes) -> str:
        """Keep a theme or a continuation; returns the reference that a request names it by, "sha256:<hex>"."""
        return "sha256:" + _blob_sha256(self._put(data, self.key_of(data, "theme")))

    def theme(self, ref: str) -> bytes:
        """The bytes of a theme or a continuation.

        Raises:
            NotFound: it was not uploaded here.
        """
        match = _THEME_REF.fullmatch(ref)
        if match is None:
            raise NotFound(
                f"the upload {shown(ref)} is not 'sha256:' and 64 hex digits; upload it and use the reference given"
            )
        try:
            return self.get_blob(_blob_key(match["sha256"], "theme"))
        except NotFound:
            raise NotFound(f"the upload {ref} is not here, or no longer; upload it first") from None

    def delete_theme(self, ref: str) -> bool:
        """Remove a theme or a continuation. Returns whether it was there."""
        match = _THEME_REF.fullmatch(ref)
        if match is None:
            return False
        key = _blob_key(match["sha256"], "theme")
        was_there = self.has_blob(key)
        self._objects.delete(key)
        return was_there

    def announce(self, entry: IndexEntry, envelope: bytes) -> None:
        """Put a track into the index, which comes before its record; one that is there stays as it is."""
        self.index.add(entry, envelope)

    def tracks_of_piece(self, piece_id: str) -> list[IndexedTrack]:
        """The tracks that the index has of a piece."""
        return self.index.of_piece(piece_id)

    def tracks_with_blob(self, key: str) -> set[str]:
        """Ids of the tracks that the index has of a blob."""
        _blob_sha256(key)
        return self.index.with_blob(key)

    def publish(self, track_id: str, record_for: Callable[[int], bytes]) -> int:
        """Add a record to a track. Its blobs must be in the store.

        The newest record again is a no-op, so that a call whose answer was lost can be made again.

        Args:
            track_id: of the track.
            record_for: the record as this version of its track: the same bytes each time.

        Returns:
            The version, 1 for the first. Of writers at the same moment each gets one of its own.
        """
        while True:
            versions = self.listing(track_id).versions
            newest = versions[-1] if versions else 0
            if newest and self._is_record(track_id, newest, record_for(newest)):
                return newest
            if newest == MAX_VERSION:
                raise VerificationFailed(
                    f"{self.url}: {track_id} has a version {MAX_VERSION}, and none can come after it; delete it if it "
                    "is not yours"
                )
            if self._objects.create(_record_key(track_id, newest + 1), record_for(newest + 1)):
                return newest + 1

    def _is_record(self, track_id: str, version: int, data: bytes) -> bool:
        try:
            return self.record(track_id, version) == data
        except (NotFound, VerificationFailed):
            return False

    def listing(self, track_id: str) -> Listing:
        """What there is of a track."""
        found = list(_track_files(self._objects.keys(_track_folder(track_id))))
        versions = sorted(int(file["version"]) for file in found if file["version"])
        return Listing(tuple(versions), any(file["tombstone"] for file in found))

    def listings(self) -> dict[str, Listing]:
        """What there is of every track."""
        versions: dict[str, list[int]] = {}
        tombstones: set[str] = set()
        for file in _track_files(self._objects.keys("tracks")):
            of_track = versions.setdefault(file["track_id"], [])
            if file["version"]:
                of_track.append(int(file["version"]))
            else:
                tombstones.add(file["track_id"])
        return {
            track_id: Listing(tuple(sorted(versions[track_id])), track_id in tombstones)
            for track_id in sorted(versions)
        }

    def record(self, track_id: str, version: int) -> bytes:
        """One record of a track, as it lies there.

        Raises:
            NotFound: the track has no such version.
            VerificationFailed: it is larger than a record can be, or no plain file.
        """
        return self._objects.read(_record_key(track_id, version), at_most=MAX_ENVELOPE_BYTES)

    def forget(self, track_id: str, version: int) -> None:
        """Remove one record, so that the track is rendered again: only for a record whose audio is lost."""
        self._objects.delete(_record_key(track_id, version))

    def tombstone(self, subject: str) -> bytes | None:
        """What lies in the place of the tombstone of a track or of a piece; None if nothing does.

        Raises:
            VerificationFailed: it is larger than a tombstone can be, or no plain file.
        """
        key = _tombstone_key(subject)
        try:
            return self._objects.read(key, at_most=MAX_ENVELOPE_BYTES)
        except NotFound:
            return None

    def create_tombstone(self, subject: str, tombstone: bytes) -> bool:
        """Put a tombstone there unless something is; returns whether it was put there."""
        return self._objects.create(_tombstone_key(subject), tombstone)

    def replace_tombstone(self, subject: str, tombstone: bytes) -> None:
        """Put a tombstone in the place of something that is none."""
        self._objects.replace(_tombstone_key(subject), tombstone)

    def _put(self, data: bytes, key: str) -> str:
        if self._objects.exists(key) or not self._objects.create(key, data):
            try:
                is_whole = self._objects.read(key, at_most=len(data)) == data
            except (NotFound, VerificationFailed):
                is_whole = False
            if not is_whole:
                logger.warning("%s: %s was not what its name says; it is written anew", self.url, key)
                self._objects.replace(key, data)
        return key


def _blob_key(sha256: str, suffix: str) -> str:
    return f"blobs/{sha256[:2]}/{sha256}.{suffix}"


def _blob_sha256(key: str) -> str:
    """The hash in a blob's key. A key of any other shape names nothing, so that no key is a path out of the store."""
    match = _BLOB_KEY.fullmatch(key)
    if match is None:
        raise NotFound(f"{shown(key)} is not the key of a blob; use one that put_blob or a record gave")
    return match["sha256"]


def _track_folder(track_id: str) -> str:
    if not is_track_id(track_id):
        raise NotFound(f"{shown(track_id)} is not a track id; ids are 'trk_' and 32 of the characters a-z and 2-7")
    return f"tracks/{track_id[4:6]}/{track_id}"


def _record_key(track_id: str, version: int) -> str:
    return f"{_track_folder(track_id)}/{version:06d}.json"


def _tombstone_key(subject: str) -> str:
    folder = f"pieces/{subject[4:6]}/{subject}" if is_piece_id(subject) else _track_folder(subject)
    return f"{folder}/withdrawn.json"


def _track_files(keys: list[str]) -> Iterator[re.Match[str]]:
    """Records and tombstones."""
    return (match for match in map(_TRACK_FILE.fullmatch, keys) if match)
