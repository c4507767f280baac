"""Takedown: pieces are withdrawn everywhere and for good, with a signed reason; their audio and MIDI are deleted.

Tombstones first, then blobs. A track is withdrawn with its piece: every other track that was made of it, in whatever
form, and every request that would make one more. Once the tombstones are there, `verified_tracks` refuses all of it by
every way, so whatever happens next, nothing comes back, and the same takedown again completes it. Tracks share bytes:
the MIDI of a piece is the same file whether its audio is WAV or MP3. So a blob is deleted only if no track that stands
names it. Which tracks a piece has, and which name a blob, the store's index tells.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Final

from orchestrion.clock import Clock
from orchestrion.errors import InvalidRequest, NotFound, Problem, VerificationFailed, shown
from orchestrion.storage.reindex import BLOB_KEY, make_whole, unindexed
from orchestrion.storage.track_index import IndexedTrack
from orchestrion.storage.verified_tracks import RecordId, VerifiedTracks
from orchestrion.tracks.identity import is_piece_id, is_track_id
from orchestrion.tracks.record import utc_timestamp
from orchestrion.trust.index_entry import IndexEntry
from orchestrion.trust.signing import Signer
from orchestrion.trust.tombstone import Tombstone, Withdrawal

logger = logging.getLogger(__name__)

MAX_CHARACTERS: Final = 500
#: They wait for the store, not for each other.
THREADS: Final = 16


@dataclass(frozen=True, slots=True)
class Takedown:
    """What became of one track."""

    #: What its tombstone says: that of the first takedown.
    withdrawal: Withdrawal
    #: What it is made of; None where nothing in the store says so, and then the track alone is withdrawn.
    piece_id: str | None
    was_withdrawn_before: bool
    #: Versions whose records stay as evidence; 0: there was no such track, and there will be none.
    records: int
    #: Whether it was being stored: if its render has not died, it leaves blobs that the same takedown again deletes.
    was_under_way: bool
    #: Keys of the blobs that this takedown deleted.
    deleted_blobs: tuple[str, ...]
    #: Keys of its blobs that are still there, because a track that stands has the same bytes.
    shared_blobs: tuple[str, ...]

    @property
    def track_id(self) -> str:
        """Which track it was."""
        return self.withdrawal.subject


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a takedown did."""

    #: Those that were asked for in their order, then the others of their pieces.
    tracks: tuple[Takedown, ...]
    #: By the ids of the withdrawn pieces: what stands in their tombstones.
    pieces: Mapping[str, Withdrawal]
    #: What can still be read of deleted blobs: versions that a bucket keeps, and why they are there.
    left_versions: tuple[str, ...]


def take_down(
    tracks: VerifiedTracks,
    signer: Signer,
    subjects: Iterable[str],
    *,
    reason: str,
    actor: str,
    clock: Clock,
    whole_pieces: bool = True,
    say: Callable[[str], None] = logger.info,
) -> Outcome:
    """Withdraw pieces for good and delete the audio and MIDI of all their tracks. Uploads are left alone.

    A track that was withdrawn before keeps its tombstone, and what is left of its blobs is deleted. An id without a
    track is withdrawn as well: its render may be under way.

    Where the index of the store is not whole, what is missing is read, and put there.

    Args:
        tracks: of the store that they are in.
        signer: signs the tombstones; `tracks` trusts its key, and so must all that read the store.
        subjects: ids of tracks and pieces; of each track its piece is withdrawn.
        reason: why, in one line.
        actor: who decided it, in one line.
        clock: tells the time of the withdrawal.
        whole_pieces: False: of a track, that track alone.
        say: told what takes long.

    Raises:
        InvalidRequest: an id that is none, or an empty reason or actor; nothing was done.
        VerificationFailed: a record of one of these tracks does not verify, or one that has a key of their blobs in it;
            the tracks are withdrawn, and no blob was deleted.
        StoreUnavailable: the store did not answer. What was withdrawn stays withdrawn; the same call again does the
            rest.
    """
    given = tuple(dict.fromkeys(subjects))
    _check(given, {"reason": reason, "actor": actor})
    if signer.key_id not in tracks.trusted_keys:
        raise InvalidRequest.of(
            "signing_key_path", signer.key_id, "is not among the trusted keys; no reader would heed it"
        )
    now = utc_timestamp(clock.now())
    with ThreadPoolExecutor(THREADS) as pool:

        def withdraw(ids: Iterable[str]) -> dict[str, _Standing]:
            signed = [Tombstone.sign(Withdrawal(one, reason, actor, now), signer) for one in ids]
            standing = zip(signed, pool.map(tracks.withdraw, signed), strict=True)
            return {ours.withdrawal.subject: _Standing(one.withdrawal, one != ours) for ours, one in standing}

        named = tuple(one for one in given if is_track_id(one))
        withdrawn = withdraw(named)
        histories = list(pool.map(partial(history, tracks), named))
        of_tracks = {one.piece_id for one in histories if one.piece_id is not None} if whole_pieces else set()
        pieces = withdraw(sorted({one for one in given if is_piece_id(one)} | of_tracks))
        if not tracks.index_is_whole:
            make_whole(tracks, signer, pool, say)
        others = tracks_of(tracks, pieces, pool, known=withdrawn)
        withdrawn |= withdraw(one.track_id for one in others)
        histories += pool.map(partial(_up_to_date, tracks), others)
        for one in histories:
            if one.error is not None:
                raise VerificationFailed(f"{one.error}; {_NO_BLOB}") from one.error
        removal = _remove_unless_shared(tracks, {key for one in histories for key in one.blobs}, set(withdrawn), pool)
    taken = tuple(
        Takedown(
            piece_id=one.piece_id,
            withdrawal=withdrawn[one.track_id].withdrawal,
            was_withdrawn_before=withdrawn[one.track_id].is_earlier,
            records=len(one.versions),
            was_under_way=not one.versions and one.piece_id is not None,
            deleted_blobs=tuple(sorted(one.blobs & removal.deleted)),
            shared_blobs=tuple(sorted(one.blobs & removal.shared)),
        )
        for one in histories
    )
    standing = {piece: one.withdrawal for piece, one in pieces.items()}
    return Outcome(taken, standing, tuple(removal.left_versions))


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a tombstone says, and whether it was there before."""

    withdrawal: Withdrawal
    is_earlier: bool


_NO_BLOB: Final = (
    "no blob was deleted. If it was not put there by you, delete it; if you have, trust its key and run this again"
)


def _check(ids: Sequence[str], words: Mapping[str, str]) -> None:
    problems = [
        Problem("track_id", shown(one), "is no id of a track or piece: 'trk_' or 'pce_' and 32 of a-z and 2-7")
        for one in ids
        if not (is_track_id(one) or is_piece_id(one))
    ]
    problems += [
        Problem(name, shown(text), f"must be one line of 1 to {MAX_CHARACTERS} printable characters")
        for name, text in words.items()
        if not (text.strip() and text.isprintable() and len(text) <= MAX_CHARACTERS)
    ]
    if problems:
        raise InvalidRequest(problems)


# ---- what there is of a track and of a piece ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class History:
    """What the store has of a track, withdrawn or not."""

    track_id: str
    versions: tuple[int, ...]
    #: What was signed of it: by its records, or by its entry in the index where it has none yet.
    entries: tuple[IndexEntry, ...]
    #: Of a record that does not verify.
    error: VerificationFailed | None = None

    @property
    def piece_id(self) -> str | None:
        """What it is made of; None if nothing says so."""
        return self.entries[0].piece_id if self.entries else None

    @property
    def blobs(self) -> set[str]:
        """The keys of all blobs that it has, in all its versions."""
        return set(chain.from_iterable(entry.blobs for entry in self.entries))


def history(tracks: VerifiedTracks, track_id: str, indexed: IndexedTrack | None = None) -> History:
    """What the store has of a track.

    Args:
        tracks: of the store.
        track_id: of the track.
        indexed: what the index lists of it, where that is known: what counts while it has no record.
    """
    versions = tracks.store.listing(track_id).versions
    entries: list[IndexEntry] = []
    error = None
    for version in versions:
        try:
            entries.append(IndexEntry.of(tracks.version(track_id, version).record))
        except NotFound:
            continue
        except VerificationFailed as reason:
            error = reason
    if not entries and indexed is not None and (signed := tracks.entry(indexed)) is not None:
        entries.append(signed.entry)
    return History(track_id, versions, tuple(entries), error)


def reached(
    tracks: VerifiedTracks,
    subjects: Iterable[str],
    pool: Executor,
    say: Callable[[str], None],
    *,
    whole_pieces: bool = True,
) -> list[History]:
    """What a takedown of these ids would withdraw. Writes nothing; where the index is not whole, records are read.

    Raises:
        InvalidRequest: an id that is none.
    """
    given = tuple(dict.fromkeys(subjects))
    _check(given, {})
    histories = list(pool.map(partial(history, tracks), filter(is_track_id, given)))
    of_tracks = {one.piece_id for one in histories if one.piece_id is not None} if whole_pieces else set()
    pieces = {one for one in given if is_piece_id(one)} | of_tracks
    found = {one.track_id: one for one in histories}
    found |= {one.track_id: one for one in tracks_of(tracks, pieces, pool, known=found)}
    if not tracks.index_is_whole:
        missing = (one.entry for one in unindexed(tracks, pool, say))
        ids = [entry.track_id for entry in missing if entry is not None and entry.piece_id in pieces]
        found |= {one.track_id: one for one in pool.map(partial(history, tracks), ids)}
    return list(found.values())


def tracks_of(
    tracks: VerifiedTracks, pieces: Iterable[str], pool: Executor, known: Container[str] = ()
) -> list[History]:
    """The tracks of these pieces, by the index and as far as their records, or their entries, say so too.

    Those that are `known` are left out.
    """
    listed = {
        track.track_id: track
        for track in chain.from_iterable(pool.map(tracks.store.tracks_of_piece, sorted(pieces)))
        if track.track_id not in known
    }
    found = []
    for track_id, one in zip(listed, pool.map(partial(_history_of, tracks), listed.values()), strict=True):
        if one.piece_id == listed[track_id].piece_id:
            found.append(one)
        else:
            logger.warning("%s is listed in %s, and nothing signed says so", track_id, listed[track_id].piece_id)
    return found


def _history_of(tracks: VerifiedTracks, track: IndexedTrack) -> History:
    return history(tracks, track.track_id, track)


def _up_to_date(tracks: VerifiedTracks, before: History) -> History:
    """The history of a track that was withdrawn after it was read: a record may have come between."""
    if tracks.store.listing(before.track_id).versions == before.versions:
        return before
    now = history(tracks, before.track_id)
    return replace(now, entries=(*now.entries, *before.entries))


# ---- blobs -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Removal:
    deleted: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)
    left_versions: list[str] = field(default_factory=list)


def _remove_unless_shared(tracks: VerifiedTracks, blobs: set[str], withdrawn: set[str], pool: Executor) -> _Removal:
    """Delete those of `blobs` that no standing track names.

    A track with the same bytes may be published meanwhile: its render finds the blob there and does not write it. It is
    in the index by then. So there is a look before a blob is deleted, and one after. A track that slipped in between
    and has lost its blob is forgotten, and rendered again when it is asked for.
    """
    keepers = _Keepers(tracks, blobs, withdrawn)
    keys = sorted(blobs)
    # All are looked for before the first is deleted: where a record cannot be read, nothing is.
    kept = {key for key, found in zip(keys, pool.map(keepers.of, keys), strict=True) if found}
    done = _Removal()

    def remove(key: str) -> bool:
        if keepers.of(key):
            return True
        purged = tracks.store.delete_blob(key)
        if purged.was_there:
            done.deleted.add(key)
        done.left_versions += purged.left
        if purged.unknown:
            done.left_versions.append(f"{key}: perhaps; {purged.unknown}")
        return bool(keepers.of(key))

    unshared = [key for key in keys if key not in kept]
    kept.update(key for key, is_kept in zip(unshared, pool.map(remove, unshared), strict=True) if is_kept)
    for key in sorted(kept):
        if tracks.store.has_blob(key):
            done.shared.add(key)
            continue
        # Asked after the blob: one that another takedown deleted was named by tracks that stand no more.
        for track_id, version in keepers.of(key):
            tracks.store.forget(track_id, version)
    done.left_versions.sort()
    return done


class _Keepers:
    """Which records of standing tracks name a blob."""

    def __init__(self, tracks: VerifiedTracks, blobs: set[str], withdrawn: set[str]) -> None:
        self._tracks = tracks
        self._blobs = blobs
        self._withdrawn = withdrawn
        #: A record never changes: each is read once.
        self._named: dict[RecordId, set[str]] = {}

    def of(self, key: str) -> set[RecordId]:
        """The records that name it now."""
        store = self._tracks.store
        found: set[RecordId] = set()
        for track_id in store.tracks_with_blob(key) - self._withdrawn:
            listing = store.listing(track_id)
            if listing.has_tombstone and self._tracks.tombstone(track_id) is not None:
                continue
            records = ((track_id, version) for version in listing.versions)
            found.update(record for record in records if key in self._named_by(record))
        return found

    def _named_by(self, record_id: RecordId) -> set[str]:
        """Those of the blobs that a record names."""
        if record_id not in self._named:
            try:
                envelope = self._tracks.store.record(*record_id)
            except (NotFound, VerificationFailed):
                # Forgotten since it was listed, or a link, or larger than a record can be.
                return set()
            self._named[record_id] = self._named_in(record_id, envelope)
        return self._named[record_id]

    def _named_in(self, record_id: RecordId, envelope: bytes) -> set[str]:
        # The index is a hint that anybody may plant: a record without any of the keys stops nothing.
        if self._blobs.isdisjoint(key.decode("ascii") for key in BLOB_KEY.findall(envelope)):
            return set()
        try:
            record = self._tracks.verified(*record_id, envelope).record
        except VerificationFailed as error:
            # It may be damaged, of a newer release, or signed with a key that is trusted no more: no reason to guess.
            raise VerificationFailed(f"{error}; {_NO_BLOB}") from error
        return self._blobs.intersection(IndexEntry.of(record).blobs)
