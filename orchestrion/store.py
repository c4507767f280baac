"""Where tracks are kept: content-addressed blobs and numbered, signed records, in a folder or an S3 bucket.

    blobs/<2 hex>/<sha256>.<suffix>                audio, MIDI and uploads, named by what is in them
    tracks/<2 characters>/<track id>/<version>.json  a track exists once its record does
    tracks/<2 characters>/<track id>/withdrawn.json  and is gone once its tombstone is there; the records stay
    tmp/                                             (folders only) files being written; old ones may be deleted

Nothing half-written is ever seen: a name appears only after all of its bytes are safe (`objects`), and a record is
published only after the blobs it names. The surprising thing: nobody locks anything. Two writers of one version both
try to create its name, and only one can.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable, Withdrawn, shown
from orchestrion.objects import Objects

_BLOB_KEY = re.compile(r"blobs/(?P<shard>[0-9a-f]{2})/(?P<sha256>(?P=shard)[0-9a-f]{62})\.[a-z0-9]{1,8}")
_SUFFIX = re.compile(r"\.?([a-z0-9]{1,8})")
_TRACK_ID = re.compile(r"trk_[a-z2-7]{32}")
_TRACK_FILE = re.compile(
    r"tracks/[a-z2-7]{2}/(?P<track_id>trk_[a-z2-7]{32})/((?P<version>[0-9]{6})|(?P<tombstone>withdrawn))\.json"
)
_THEME_REF = re.compile(r"sha256:(?P<sha256>[0-9a-f]{64})")


class TrackStore:
    """Tracks in one place. Safe to share between threads, and to pickle: a copy opens its own connections."""

    def __init__(self, objects: Objects) -> None:
        self.url = objects.url
        self._objects = objects

    @classmethod
    def open(cls, url: str, storage_options: Mapping[str, Any] | None = None) -> TrackStore:
        """The store at `url`: a folder (made if absent), file:///folder or s3://bucket[/prefix].

        Args:
            url: where the tracks are.
            storage_options: arguments of s3fs's `S3FileSystem`, e.g. {"endpoint_url": …, "key": …, "secret": …}.

        Raises:
            InvalidRequest: the URL is of another kind.
            StoreUnavailable: the folder cannot be made. A bucket is contacted only when it is first used.
        """
        return cls(Objects(url, storage_options))

    def __reduce__(self) -> tuple[Callable[..., TrackStore], tuple[Objects]]:
        return (TrackStore, (self._objects,))

    def put_blob(self, data: bytes, suffix: str) -> str:
        """Keep `data` and return its key. Putting the same bytes again is a no-op with the same key.

        Args:
            data: the whole content.
            suffix: of the file name, "flac" or ".flac": 1 to 8 lower-case letters and digits.
        """
        match = _SUFFIX.fullmatch(suffix)
        if match is None:
            raise InvalidRequest.of("suffix", suffix, "must be 1 to 8 lower-case letters or digits, e.g. 'flac'")
        return self._put(data, match[1])

    def get_blob(self, key: str) -> bytes:
        """The bytes under `key`, checked against the hash in it.

        Raises:
            NotFound: there is no such blob.
            StoreUnavailable: what was read is not what was written.
        """
        sha256 = _blob_sha256(key)
        data = self._objects.read(key)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreUnavailable(
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

    def delete_blob(self, key: str) -> bool:
        """Remove a blob, whatever names it: `takedown` is where that is looked at. Returns whether it was there."""
        was_there = self.has_blob(key)
        self._objects.delete(key)
        return was_there

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start` up to, not including, `end` of a blob; what lies beyond its end is left out.

        The hash cannot be checked on a part: a reader who needs that takes `get_blob`.
        """
        _blob_sha256(key)
        if not 0 <= start <= end:
            raise InvalidRequest.of("range", f"{start}-{end}", "a range needs 0 <= start <= end")
        if start == end:
            return b""
        return self._objects.read_range(key, start, end)

    def put_theme(self, data: bytes) -> str:
        """Keep a theme or a continuation; returns the reference that a request names it by, "sha256:<hex>"."""
        return "sha256:" + _blob_sha256(self._put(data, "theme"))

    def theme(self, ref: str) -> bytes:
        """The bytes of a theme or a continuation.

        Raises:
            NotFound: nobody has uploaded it here.
        """
        match = _THEME_REF.fullmatch(ref)
        if match is None:
            raise NotFound(
                f"the upload {shown(ref)} is not 'sha256:' and 64 hex digits; upload it and use the reference given"
            )
        try:
            return self.get_blob(_blob_key(match["sha256"], "theme"))
        except NotFound:
            raise NotFound(f"the upload {ref} is not in the store {self.url}; upload it first") from None

    def publish(self, track_id: str, record: bytes) -> int:
        """Make `record` the newest version of a track, which makes the track visible. Its blobs must be in the store.

        Publishing the newest version again is a no-op. Of two writers at the same moment one wins; the other's record
        is dropped and it gets the winner's version.

        Returns:
            The version, 1 for the first.

        Raises:
            Withdrawn: the track was taken down, maybe while this call ran. The record is kept: by it a takedown that is
                run again finds the blobs that came too late for the first.
        """
        versions = self.history(track_id)
        version = versions[-1] if versions else 0
        if not version or self.record(track_id, version) != record:
            version += 1
            self._objects.create(_record_key(track_id, version), record)
        # A takedown writes its tombstone and then looks for records. Looking here only after the record is written, at
        # least one of the two sees the other.
        self.refuse_withdrawn(track_id)
        return version

    def latest(self, track_id: str) -> bytes | None:
        """The newest record of a track, None if it was never published.

        Raises:
            Withdrawn: the track was taken down.
        """
        versions = self.versions(track_id)
        return self.record(track_id, versions[-1]) if versions else None

    def versions(self, track_id: str) -> list[int]:
        """Published versions of a track, oldest first; empty if there is none.

        Raises:
            Withdrawn: the track was taken down.
        """
        versions, is_withdrawn = self._listed(track_id)
        if is_withdrawn:
            raise _withdrawn(track_id)
        return versions

    def history(self, track_id: str) -> list[int]:
        """Versions of a track, oldest first, also if it was taken down."""
        return self._listed(track_id)[0]

    def _listed(self, track_id: str) -> tuple[list[int], bool]:
        """The versions of a track and whether it was taken down, by one listing."""
        found = list(_track_files(self._objects.keys(_track_folder(track_id))))
        return sorted(int(file["version"]) for file in found if file["version"]), any(f["tombstone"] for f in found)

    def refuse_withdrawn(self, track_id: str) -> None:
        """Do nothing, unless the track was taken down.

        Raises:
            Withdrawn: it was.
        """
        if self._objects.exists(_tombstone_key(track_id)):
            raise _withdrawn(track_id)

    def withdraw(self, track_id: str, tombstone: bytes) -> bytes:
        """Take a track down for good, there or not: from now on every way to it raises Withdrawn. Its blobs stay.

        Returns:
            The tombstone that stands: the first one, whoever wrote it.
        """
        key = _tombstone_key(track_id)
        return tombstone if self._objects.create(key, tombstone) else self._objects.read(key)

    def tombstone(self, track_id: str) -> bytes | None:
        """The tombstone of a track that was taken down, None of any other."""
        key = _tombstone_key(track_id)
        try:
            return self._objects.read(key)
        except NotFound:
            return None

    def forget(self, track_id: str, version: int) -> None:
        """Remove one record, so that the track is rendered again: only for a record whose audio is lost."""
        self._objects.delete(_record_key(track_id, version))

    def track_ids(self) -> Iterator[str]:
        """Every published track that was not taken down, in order of id."""
        yield from sorted({track_id for track_id, _ in self.records()})

    def records(self) -> list[tuple[str, int]]:
        """Track id and version of every published record of every track that was not taken down, by one listing."""
        found = list(_track_files(self._objects.keys("tracks")))
        withdrawn = {file["track_id"] for file in found if file["tombstone"]}
        return [
            (file["track_id"], int(file["version"]))
            for file in found
            if file["version"] and file["track_id"] not in withdrawn
        ]

    def record(self, track_id: str, version: int) -> bytes:
        """One published record of a track, also if it was taken down: the record stays as evidence.

        Raises:
            NotFound: the track has no such version.
        """
        return self._objects.read(_record_key(track_id, version))

    def _put(self, data: bytes, suffix: str) -> str:
        key = _blob_key(hashlib.sha256(data).hexdigest(), suffix)
        try:
            size = self._objects.size(key)
        except NotFound:
            self._objects.create(key, data)
            return key
        if size != len(data):
            raise StoreUnavailable(
                f"{self.url}: {key} has {size} bytes instead of {len(data)}; delete it and try again"
            )
        return key


def is_track_id(text: str) -> bool:
    """Whether a track could have this id."""
    return _TRACK_ID.fullmatch(text) is not None


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


def _tombstone_key(track_id: str) -> str:
    return f"{_track_folder(track_id)}/withdrawn.json"


def _track_files(keys: list[str]) -> Iterator[re.Match[str]]:
    """Records and tombstones."""
    return (match for match in map(_TRACK_FILE.fullmatch, keys) if match)


def _withdrawn(track_id: str) -> Withdrawn:
    return Withdrawn(f"{track_id} was withdrawn and is not made again; ask for another, e.g. with another seed")
