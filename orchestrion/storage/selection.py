"""Which tracks of a store came from what: a model revision, a prompt, an upload, or who had them made first.

Names of the index are listed and compared, and what they find is confirmed by records. Who asked is in no name: for
that every record that meets the other conditions is read. A record knows who had its track made first, and nobody who
was given it out of the store later; that a catalog's ledger knows (`batch_jobs.lineage`).
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Final

from pydantic import ValidationError

from orchestrion.errors import InvalidRequest, NotFound, VerificationFailed
from orchestrion.storage.reindex import in_batches, unindexed
from orchestrion.storage.track_index import IndexedTrack, revision_of, short_hash, spelt
from orchestrion.storage.verified_tracks import VerifiedTracks
from orchestrion.tracks.record import TrackRecord
from orchestrion.tracks.spec import TrackSpec
from orchestrion.trust.index_entry import IndexEntry

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_REFERENCE: Final = re.compile(r"sha256:[0-9a-f]{64}")
_PREFIX: Final = "sha256:"
#: Revisions that an unknown one may have been meant to be.
_NEAREST: Final = 3


@dataclass(frozen=True, slots=True)
class Selection:
    """Where tracks came from: conditions that must all hold, at least one of them.

    Raises:
        InvalidRequest: there is no condition, or one that no track can meet.
    """

    #: With or without its "sha256:".
    model_revision: str | None = None
    #: SHA-256 of the prompt, hex; see `prompt_sha256`.
    prompt_sha256: str | None = None
    #: Theme or continuation: "sha256:" and the hash of its file.
    reference: str | None = None
    #: Had the track made first, as it said of itself.
    requester: str | None = None

    def __post_init__(self) -> None:
        if all(getattr(self, name) is None for name in self.__slots__):
            raise InvalidRequest.of(
                "conditions", "none", "name what the tracks came from, for example --model-revision"
            )
        check_hashes(self.prompt_sha256, self.reference)


def check_hashes(prompt_sha256: str | None, reference: str | None) -> None:
    """Refuse what no prompt and no upload has as its hash.

    Raises:
        InvalidRequest: saying what they look like.
    """
    if prompt_sha256 is not None and not _SHA256.fullmatch(prompt_sha256):
        raise InvalidRequest.of("prompt_sha256", prompt_sha256, "is not 64 lower-case hex digits")
    if reference is not None and not _REFERENCE.fullmatch(reference):
        raise InvalidRequest.of("reference", reference, "is not sha256: and 64 lower-case hex digits")


def prompt_sha256(prompt: str) -> str:
    """The hash that records have of this prompt, whichever way its accents and line ends are written.

    Raises:
        InvalidRequest: no track can have this prompt.
    """
    try:
        spec = TrackSpec(prompt=prompt)
    except ValidationError as error:
        raise InvalidRequest.of("prompt", prompt, error.errors()[0]["msg"]) from None
    return hashlib.sha256(spec.prompt.encode()).hexdigest()


def revision_forms(text: str) -> tuple[str, ...]:
    """How records may have what a person calls `text`: with and without "sha256:"."""
    bare = text.removeprefix(_PREFIX)
    return (bare, _PREFIX + bare)


def revisions_meant(text: str, known: Collection[str]) -> list[str]:
    """The revisions that a person means by `text`: those of `known` that are it, with or without "sha256:".

    Raises:
        InvalidRequest: there is none; it names those that are nearest.
    """
    bare = text.removeprefix(_PREFIX)
    found = sorted(one for one in known if one.removeprefix(_PREFIX) == bare)
    if found:
        return found
    by_name = {one.removeprefix(_PREFIX): one for one in sorted(known)}
    near = [name for name in by_name if name.startswith(bare)] + difflib.get_close_matches(bare, by_name, _NEAREST, 0.4)
    shown = [by_name[name] for name in dict.fromkeys(near)][:_NEAREST]
    hint = f"the nearest are {', '.join(shown)}" if shown else f"there are {len(by_name)} others"
    raise InvalidRequest.of("model_revision", text, f"is the revision of no track; {hint}")


def select(
    tracks: VerifiedTracks, selection: Selection, pool: Executor, say: Callable[[str], None]
) -> list[tuple[str, str]]:
    """Track id and piece id of the tracks that meet every condition, withdrawn ones too. Writes nothing.

    Where the index is not whole, the records of what is missing are read.

    Raises:
        InvalidRequest: no track has this model revision.
        StoreUnavailable: the store did not answer.
    """
    listed = {track.track_id: track for track in tracks.store.index.all()}
    if not tracks.index_is_whole:
        missing = (one.entry for one in unindexed(tracks, pool, say))
        listed |= {entry.track_id: IndexedTrack.of(entry) for entry in missing if entry is not None}
    meant = None
    if selection.model_revision is not None:
        spellings = {revision_of(one.revision): one.revision for one in listed.values()}
        # One that was cut in its name is known by how the name would spell it.
        forms = {spelt(text) for text in revision_forms(selection.model_revision)}
        meant = forms.intersection(spellings.values()) or {
            spellings[one] for one in revisions_meant(selection.model_revision, spellings)
        }
    candidates = [one for one in listed.values() if _may_meet(one, selection, meant)]
    if selection.requester is not None:
        say(f"who asked is in no index: {len(candidates):,} records are read")
    confirmed = in_batches(pool, partial(_meets, tracks, selection, meant), candidates)
    return [(one.track_id, one.piece_id) for one, is_meant in zip(candidates, confirmed, strict=True) if is_meant]


def _may_meet(track: IndexedTrack, selection: Selection, revisions: set[str] | None) -> bool:
    """Whether a track meets what names can tell."""
    wanted = selection.reference and short_hash(selection.reference)
    return (
        (revisions is None or track.revision in revisions)
        and (selection.prompt_sha256 is None or track.prompt == short_hash(selection.prompt_sha256))
        and (wanted is None or wanted in (track.theme, track.continuation))
    )


def _meets(tracks: VerifiedTracks, selection: Selection, revisions: set[str] | None, track: IndexedTrack) -> bool:
    """Whether what was signed of a track meets all."""
    for version in reversed(tracks.store.listing(track.track_id).versions):
        try:
            record = tracks.version(track.track_id, version).record
        except (NotFound, VerificationFailed):
            continue
        return _is_of(IndexEntry.of(record), selection, revisions) and _is_for(record, selection.requester)
    # Not there yet: who asks for it is not known either.
    signed = tracks.entry(track)
    return signed is not None and selection.requester is None and _is_of(signed.entry, selection, revisions)


def _is_of(entry: IndexEntry, selection: Selection, revisions: set[str] | None) -> bool:
    return (
        (revisions is None or spelt(entry.model_revision) in revisions)
        and selection.prompt_sha256 in (None, entry.prompt_sha256)
        and selection.reference in (None, entry.theme, entry.continuation)
    )


def _is_for(record: TrackRecord, requester: str | None) -> bool:
    return requester is None or record.requester == requester
