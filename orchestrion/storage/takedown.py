"""Takedown: tracks are withdrawn everywhere and for good, with a signed reason; their audio and MIDI are deleted.

Tombstones first, then blobs. Once its tombstone is there, `verified_tracks` refuses a track by every way to it, so
whatever happens next, nothing comes back, and the same takedown again completes it. Tracks share bytes: the MIDI of a
piece is the same file whether its audio is WAV or MP3. So a blob is deleted only if no track that stands names it. To
know that, every record in the store is read: once for all tracks of a call, not once for each.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from orchestrion.clock import Clock
from orchestrion.errors import InvalidRequest, NotFound, Problem, VerificationFailed, shown
from orchestrion.storage.track_store import is_track_id
from orchestrion.storage.verified_tracks import RecordId, VerifiedTracks
from orchestrion.tracks.record import utc_timestamp
from orchestrion.trust.signing import Signer
from orchestrion.trust.tombstone import Tombstone, Withdrawal

MAX_CHARACTERS: Final = 500
#: They wait for the store, not for each other.
THREADS: Final = 16
#: Records given to the threads at a time: what waits for them is kept in memory.
RECORDS_AT_A_TIME: Final = 1024

#: As it stands in a record, where JSON escapes none of its characters.
_BLOB_KEY = re.compile(rb"blobs/[0-9a-f]{2}/[0-9a-f]{64}\.[a-z0-9]{1,8}")


@dataclass(frozen=True, slots=True)
class Takedown:
    """What became of one track. Reason, actor and time are those of its tombstone, which is the first one's."""

    track_id: str
    reason: str
    actor: str
    withdrawn_at: str
    was_withdrawn_before: bool
    #: Versions whose records stay as evidence; 0: there was no such track, and there will be none.
    records: int
    #: Keys of the blobs that this takedown deleted.
    deleted_blobs: tuple[str, ...]
    #: Keys of its blobs that are still there, because a track that stands has the same bytes.
    shared_blobs: tuple[str, ...]


def take_down(
    tracks: VerifiedTracks, signer: Signer, track_ids: Iterable[str], *, reason: str, actor: str, clock: Clock
) -> list[Takedown]:
    """Withdraw tracks for good and delete their audio and MIDI. Uploads are left alone.

    A track that was withdrawn before keeps its tombstone, and what is left of its blobs is deleted. An id without a
    track is withdrawn as well: its render may be under way.

    Reads every record in the store, once, if any of the tracks was ever published.

    Args:
        tracks: of the store that they are in.
        signer: signs the tombstones; `tracks` trusts its key, and so must all that read the store.
        track_ids: in any order; the outcomes come in the same one, each id once.
        reason: why, in one line.
        actor: who decided it, in one line.
        clock: tells the time of the withdrawal.

    Raises:
        InvalidRequest: an id that is none, or an empty reason or actor; nothing was done.
        VerificationFailed: a record of one of these tracks does not verify, or one that has a key of their blobs in it;
            the tracks are withdrawn, and no blob was deleted.
        StoreUnavailable: the store did not answer. What was withdrawn stays withdrawn; the same call again does the
            rest.
    """
    ids = tuple(dict.fromkeys(track_ids))
    _check(ids, {"reason": reason, "actor": actor})
    if signer.key_id not in tracks.trusted_keys:
        raise InvalidRequest.of(
            "signing_key_path", signer.key_id, "is not among the trusted keys; no reader would heed it"
        )
    now = utc_timestamp(clock.now())
    tombstones = [Tombstone.sign(Withdrawal(track_id, reason, actor, now), signer) for track_id in ids]
    with ThreadPoolExecutor(THREADS) as pool:
        standing = list(pool.map(tracks.withdraw, ids, tombstones))
        histories = [listing.versions for listing in pool.map(tracks.store.listing, ids)]
        named: dict[str, set[str]] = {track_id: set() for track_id in ids}
        records = [(i, version) for i, versions in zip(ids, histories, strict=True) for version in versions]
        for (track_id, _), blobs in _read_all(partial(_blobs_of, tracks), records, pool):
            named[track_id] |= blobs
        deleted, shared = _delete_unless_shared(tracks, set().union(*named.values()), pool)
    return [
        Takedown(
            track_id=track_id,
            reason=stands.withdrawal.reason,
            actor=stands.withdrawal.actor,
            withdrawn_at=stands.withdrawal.withdrawn_at,
            was_withdrawn_before=stands != tombstone,
            records=len(versions),
            deleted_blobs=tuple(sorted(named[track_id] & deleted)),
            shared_blobs=tuple(sorted(named[track_id] & shared)),
        )
        for track_id, tombstone, stands, versions in zip(ids, tombstones, standing, histories, strict=True)
    ]


def _check(ids: Sequence[str], words: Mapping[str, str]) -> None:
    problems = [
        Problem("track_id", shown(track_id), "is not a track id: 'trk_' and 32 of the characters a-z and 2-7")
        for track_id in ids
        if not is_track_id(track_id)
    ]
    problems += [
        Problem(name, shown(text), f"must be one line of 1 to {MAX_CHARACTERS} printable characters")
        for name, text in words.items()
        if not (text.strip() and text.isprintable() and len(text) <= MAX_CHARACTERS)
    ]
    if problems:
        raise InvalidRequest(problems)


def _delete_unless_shared(tracks: VerifiedTracks, blobs: set[str], pool: Executor) -> tuple[set[str], set[str]]:
    """Delete those of `blobs` that no standing track names; returns those that were deleted and those that are shared.

    A track with the same bytes may be published meanwhile: its render finds the blob there and does not write it. So
    the records are looked through, then the ones that came meanwhile, then there is deletion, then one look more. A
    track that slipped in between the last two and has lost its blob is forgotten, and rendered again when it is asked
    for.
    """
    if not blobs:
        return set(), set()
    store = tracks.store
    seen: set[RecordId] = set()
    keepers: defaultdict[str, set[RecordId]] = defaultdict(set)

    def look() -> None:
        new = [record for record in tracks.standing(pool) if record not in seen]
        seen.update(new)
        for record, named in _read_all(partial(_named_among, tracks, blobs), new, pool):
            for key in named:
                keepers[key].add(record)

    look()
    look()
    unshared = sorted(blobs - keepers.keys())
    were_there = pool.map(store.delete_blob, unshared)
    deleted = {key for key, was_there in zip(unshared, were_there, strict=True) if was_there}
    look()
    shared = {key for key in keepers if store.has_blob(key)}
    if lost := keepers.keys() - shared:
        # Asked after the blobs: one that another takedown deleted was named by tracks that stand no more.
        standing = set(tracks.standing(pool))
        for track_id, version in set().union(*(keepers[key] for key in lost)) & standing:
            store.forget(track_id, version)
    return deleted, shared


def _read_all(
    read: Callable[[RecordId], set[str]], records: Sequence[RecordId], pool: Executor
) -> Iterator[tuple[RecordId, set[str]]]:
    """Each record and what `read` says of it."""
    for start in range(0, len(records), RECORDS_AT_A_TIME):
        some = records[start : start + RECORDS_AT_A_TIME]
        yield from zip(some, pool.map(read, some), strict=True)


def _blobs_of(tracks: VerifiedTracks, record_id: RecordId) -> set[str]:
    """The blobs that a record names."""
    return _blobs_in(tracks, record_id, tracks.store.record(*record_id))


def _named_among(tracks: VerifiedTracks, blobs: set[str], record_id: RecordId) -> set[str]:
    """Those of `blobs` that a record names."""
    try:
        envelope = tracks.store.record(*record_id)
    except (NotFound, VerificationFailed):
        # Forgotten since it was listed, or a link, or larger than a record can be.
        return set()
    # Nearly all records have none of these keys in them, and looking for keys is a hundred times as fast as parsing.
    if blobs.isdisjoint(key.decode("ascii") for key in _BLOB_KEY.findall(envelope)):
        return set()
    return _blobs_in(tracks, record_id, envelope) & blobs


def _blobs_in(tracks: VerifiedTracks, record_id: RecordId, envelope: bytes) -> set[str]:
    try:
        record = tracks.verified(*record_id, envelope).record
    except VerificationFailed as error:
        # It may be damaged, of a newer release, or signed with a key that is trusted no more: no reason to guess.
        raise VerificationFailed(
            f"{error}; no blob was deleted. If it was not put there by you, delete it; if you have, trust its key"
        ) from error
    return {record.audio_key} | ({record.midi_key} if record.midi_key else set())
