"""Tracks that older releases stored without putting them into the index: found by two listings, and put there.

The tracks are listed first, then the index: a release that has one lists a track there before its record is seen, so
what is missing in the index was missing for good.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from orchestrion.errors import NotFound, VerificationFailed
from orchestrion.storage.verified_tracks import VerifiedTracks
from orchestrion.trust.index_entry import IndexEntry, SignedEntry, whole_index
from orchestrion.trust.signing import Signer

_Item = TypeVar("_Item")
_Done = TypeVar("_Done")

#: Tracks given to the threads at a time: what waits for them is kept in memory.
TRACKS_AT_A_TIME: Final = 1024
#: As it stands in a record, where JSON escapes none of its characters.
BLOB_KEY: Final = re.compile(rb"blobs/[0-9a-f]{2}/[0-9a-f]{64}\.[a-z0-9]{1,8}")


@dataclass(frozen=True, slots=True)
class Unindexed:
    """A track that has records and is not in the index."""

    track_id: str
    #: By its records, as far as they verify; None: none does.
    entry: IndexEntry | None
    #: What looks like keys of blobs in those that do not: such a record may be of a key that is not trusted yet.
    suspects: tuple[str, ...]


def make_whole(tracks: VerifiedTracks, signer: Signer, pool: Executor, say: Callable[[str], None]) -> int:
    """Put every track that is missing into the index and note there that it is whole. Returns how many were read.

    Run it again after an older release has written to the store.

    Raises:
        StoreUnavailable: the store did not answer. The same call again does the rest.
    """
    index = tracks.store.index

    def add(found: Unindexed) -> None:
        index.add_blobs(found.track_id, found.suspects)
        if found.entry is not None:
            index.add(found.entry, SignedEntry.sign(found.entry, signer).to_bytes())

    count = sum(1 for _ in in_batches(pool, add, unindexed(tracks, pool, say)))
    index.note_whole(whole_index(signer))
    return count


def unindexed(tracks: VerifiedTracks, pool: Executor, say: Callable[[str], None]) -> Iterator[Unindexed]:
    """The tracks that are missing in the index. Reads their records, and those of tracks with several versions.

    An older release may have stored one version of a track, and this one another.
    """
    listings = tracks.store.listings()
    indexed = {track.track_id for track in tracks.store.index.all()}
    wanted = [
        (track_id, listing.versions)
        for track_id, listing in listings.items()
        if len(listing.versions) > 1 or (listing.versions and track_id not in indexed)
    ]
    missing = sum(track_id not in indexed for track_id, _ in wanted)
    if missing:
        say(f"{missing:,} of {len(listings):,} tracks are not in the store's index; their records are read")
    yield from in_batches(pool, partial(_read, tracks), wanted)


def in_batches(pool: Executor, work: Callable[[_Item], _Done], items: Iterable[_Item]) -> Iterator[_Done]:
    """What `work` gives for each item, in order, from the threads of `pool`; few items at a time are in memory."""
    left = iter(items)
    while some := list(islice(left, TRACKS_AT_A_TIME)):
        yield from pool.map(work, some)


def _read(tracks: VerifiedTracks, track: tuple[str, tuple[int, ...]]) -> Unindexed:
    track_id, versions = track
    entry: IndexEntry | None = None
    blobs: set[str] = set()
    suspects: set[str] = set()
    for version in versions:
        try:
            envelope = tracks.store.record(track_id, version)
        except (NotFound, VerificationFailed):
            # Gone since it was listed, or a link, or larger than a record can be.
            continue
        try:
            entry = IndexEntry.of(tracks.verified(track_id, version, envelope).record)
        except VerificationFailed:
            suspects.update(key.decode("ascii") for key in BLOB_KEY.findall(envelope))
        else:
            blobs.update(entry.blobs)
    if entry is not None:
        entry = replace(entry, blobs=tuple(sorted(blobs)))
    return Unindexed(track_id, entry, tuple(sorted(suspects)))
