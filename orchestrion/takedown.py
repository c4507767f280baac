"""Takedown: tracks are withdrawn everywhere and for good, with a signed reason; their audio and MIDI are deleted.

Tombstones first, then blobs. Once its tombstone is there, `store` refuses a track by every way to it, so whatever
happens next, nothing comes back, and the same takedown again completes it. The surprising thing: tracks share bytes.
The MIDI of a piece is the same file whether its audio is WAV or MP3, so a blob is deleted only if no track that stands
names it. To know that, every record in the store is read: once for all tracks of a call, not once for each.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrion.clock import Clock
from orchestrion.errors import InvalidRequest, Problem, VerificationFailed, shown
from orchestrion.provenance import Signature, SignedRecord, Signer, exactly, read_envelope, utc_timestamp
from orchestrion.store import TrackStore, is_track_id

SCHEMA_VERSION: Final = 1
MAX_CHARACTERS: Final = 500
#: They wait for the store, not for each other.
THREADS: Final = 16
#: Records given to the threads at a time: what waits for them is kept in memory.
RECORDS_AT_A_TIME: Final = 1024

#: As it stands in a record, where JSON escapes none of its characters.
_BLOB_KEY = re.compile(rb"blobs/[0-9a-f]{2}/[0-9a-f]{64}\.[a-z0-9]{1,8}")

#: Track id and version.
RecordId = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What a tombstone says. It is for those who may read the store: whoever asks for the track is told neither."""

    track_id: str
    #: Why, in one line.
    reason: str
    #: Who decided it.
    actor: str
    #: ISO 8601, UTC, microseconds.
    withdrawn_at: str


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
        """Check that a trusted key signed it, and for this track; see `provenance.load_trusted_keys`.

        Raises:
            VerificationFailed: saying which of track, key and signature does not fit.
        """
        if self.withdrawal.track_id != track_id:
            raise VerificationFailed(f"the tombstone of {track_id} is that of {shown(self.withdrawal.track_id)}")
        self.signature.check(rfc8785.dumps(_signed_values(self.withdrawal)), trusted_keys)


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
    store: TrackStore, signer: Signer, track_ids: Iterable[str], *, reason: str, actor: str, clock: Clock
) -> list[Takedown]:
    """Withdraw tracks for good and delete their audio and MIDI. Uploads are left alone.

    A track that was withdrawn before keeps its tombstone, and what is left of its blobs is deleted. An id without a
    track is withdrawn as well: its render may be under way.

    Reads every record in the store, once, if any of the tracks was ever published.

    Args:
        store: where the tracks are.
        signer: signs the tombstones.
        track_ids: in any order; the outcomes come in the same one, each id once.
        reason: why, in one line.
        actor: who decided it, in one line.
        clock: tells the time of the withdrawal.

    Raises:
        InvalidRequest: an id that is none, or an empty reason or actor; nothing was done.
        VerificationFailed: a record of one of these tracks cannot be read, or one that has a key of their blobs in it;
            no blob was deleted.
        StoreUnavailable: the store did not answer. What was withdrawn stays withdrawn; the same call again does the
            rest.
    """
    ids = tuple(dict.fromkeys(track_ids))
    _check(ids, {"reason": reason, "actor": actor})
    now = utc_timestamp(clock.now())
    tombstones = [Tombstone.sign(Withdrawal(track_id, reason, actor, now), signer).to_bytes() for track_id in ids]
    with ThreadPoolExecutor(THREADS) as pool:
        standing = list(pool.map(store.withdraw, ids, tombstones))
        histories = list(pool.map(store.history, ids))
        named: dict[str, set[str]] = {track_id: set() for track_id in ids}
        records = [(i, version) for i, versions in zip(ids, histories, strict=True) for version in versions]
        for (track_id, _), blobs in _read_all(partial(_blobs_of, store), records, pool):
            named[track_id] |= blobs
        deleted, shared = _delete_unless_shared(store, set().union(*named.values()), pool)
    return [
        Takedown(
            track_id=track_id,
            reason=(withdrawal := Tombstone.from_bytes(stands).withdrawal).reason,
            actor=withdrawal.actor,
            withdrawn_at=withdrawal.withdrawn_at,
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


def _delete_unless_shared(store: TrackStore, blobs: set[str], pool: Executor) -> tuple[set[str], set[str]]:
    """Delete those of `blobs` that no standing track names; returns those that were deleted and those that are shared.

    A track with the same bytes may be published meanwhile: its render finds the blob there and does not write it. So
    the records are looked through, then the ones that came meanwhile, then there is deletion, then one look more. A
    track that slipped in between the last two and has lost its blob is forgotten, and rendered again when it is asked
    for.
    """
    if not blobs:
        return set(), set()
    seen: set[RecordId] = set()
    keepers: defaultdict[str, set[RecordId]] = defaultdict(set)

    def look() -> None:
        new = [record for record in store.records() if record not in seen]
        seen.update(new)
        for record, named in _read_all(partial(_named_among, store, blobs), new, pool):
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
        standing = set(store.records())
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


def _blobs_of(store: TrackStore, record_id: RecordId) -> set[str]:
    """The blobs that a record names."""
    return _blobs_in(store.record(*record_id), record_id)


def _named_among(store: TrackStore, blobs: set[str], record_id: RecordId) -> set[str]:
    """Those of `blobs` that a record names."""
    envelope = store.record(*record_id)
    # Nearly all records have none of these keys in them, and looking for keys is a hundred times as fast as parsing.
    if blobs.isdisjoint(key.decode("ascii") for key in _BLOB_KEY.findall(envelope)):
        return set()
    return _blobs_in(envelope, record_id) & blobs


def _blobs_in(envelope: bytes, record_id: RecordId) -> set[str]:
    try:
        record = SignedRecord.from_bytes(envelope).record
    except VerificationFailed as error:
        track_id, version = record_id
        raise VerificationFailed(f"{track_id}, version {version}: {error}; no blob was deleted") from error
    return {record.audio_key} | ({record.midi_key} if record.midi_key else set())


def _signed_values(withdrawal: Withdrawal) -> dict[str, Any]:
    return asdict(withdrawal) | {"schema_version": SCHEMA_VERSION}
