"""Tracks from their store to a destination: read as all code reads them, verified, and written whole.

Each track's record is read and verified in every run, its audio only where the destination has other bytes. What is
withdrawn, on hold, or does not verify stays where it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from batch_jobs.export.destination import Destination
from batch_jobs.export.manifest import OF_ALL
from batch_jobs.export.names import PLAYLIST, TRACKS_CSV, Row, Template
from batch_jobs.export.plan import Plan, Wanted, plan_export
from batch_jobs.export.progress import Counts
from batch_jobs.export.sidecars import Delivered, playlist, sidecar, tracks_csv
from batch_jobs.in_order import in_order
from batch_jobs.ledger.record_rows import to_row
from orchestrion.errors import NotFound, OnHold, OrchestrionError, StoreUnavailable, VerificationFailed, Withdrawn
from orchestrion.storage.verified_tracks import VerifiedTracks
from orchestrion.tracks.record import CALLER_FIELDS, TrackRecord
from orchestrion.trust.signed_record import verify_audio_hash

#: Tracks after which the manifest is written anew: at least so many, and at most so often in one export.
TRACKS_PER_CHECKPOINT: Final = 500
CHECKPOINTS: Final = 20
#: Nothing larger is compared with a score; the longest are some 100 kB.
MAX_MIDI_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Refusal:
    """A track that did not go out, and why."""

    name: str
    track_id: str
    error: OrchestrionError

    @property
    def is_withheld(self) -> bool:
        """Whether nobody is given the track, or only this export failed at it."""
        return isinstance(self.error, Withdrawn | OnHold)


@dataclass(slots=True)
class Summary:
    """How an export ended."""

    counts: Counts = field(default_factory=Counts)
    refusals: list[Refusal] = field(default_factory=list)
    #: Files that are still there: of tracks that nobody is given any more, and of tracks that are not in this export.
    withheld_files: list[str] = field(default_factory=list)
    gone_files: list[str] = field(default_factory=list)
    removed_files: list[str] = field(default_factory=list)


def export(
    named: Mapping[str, Row],
    template: Template,
    tracks_of: Callable[[Row], VerifiedTracks],
    destination: Destination,
    *,
    with_midi: bool,
    with_sidecars: bool,
    delete: bool,
    workers: int,
    on_progress: Callable[[Counts], None] = lambda _: None,
) -> Summary:
    """Bring a destination to what is wanted.

    Args:
        named: the row of each audio file, by its name.
        template: by which they were named.
        tracks_of: the store that a row's track is in.
        destination: where to.
        with_midi: write scores.
        with_sidecars: write each track's record.
        delete: remove what earlier exports wrote of tracks that are withdrawn, on hold or not wanted.
        workers: tracks that are copied at the same time; each is in memory while it is.
        on_progress: told after each track and every few seconds, in this thread.

    Raises:
        NameTaken: the destination has a playlist or a table that no export wrote; nothing was written.
        StoreUnavailable: a store or the destination did not answer. What was written is whole, and the same export
            again goes on.
    """
    plan = plan_export(named, destination.before, with_midi=with_midi, with_sidecars=with_sidecars)
    summary = Summary(Counts(tracks=len(plan.tracks)))
    destination.refuse_if_taken((TRACKS_CSV, PLAYLIST))
    pool = ThreadPoolExecutor(workers)
    try:
        for name in plan.in_the_way:
            destination.remove(name)
        on_progress(summary.counts)
        waiting = partial(on_progress, summary.counts)
        destination.claim(_unwritten(plan, destination), pool, waiting)
        delivered: list[Delivered] = []
        copy = partial(_copy, template, tracks_of, destination)
        checkpoint = max(TRACKS_PER_CHECKPOINT, len(plan.tracks) // CHECKPOINTS)
        for number, outcome in enumerate(in_order(pool, copy, plan.tracks, waiting), start=1):
            _count(outcome, summary, delivered)
            on_progress(summary.counts)
            if number % checkpoint == 0:
                destination.save()
        for name, data in ((TRACKS_CSV, tracks_csv(delivered)), (PLAYLIST, playlist(delivered))):
            _put(destination, name, OF_ALL, data)
        _clear_up(plan, destination, summary, delete)
    finally:
        pool.shutdown(cancel_futures=True)
        # Also of an export that ends here: what it wrote is then not compared again.
        destination.save()
    return summary


def _unwritten(plan: Plan, destination: Destination) -> Iterable[tuple[str, str]]:
    """The files that may have to be written, as far as that is known before records are read."""
    before = destination.before
    for wanted in plan.tracks:
        for name in wanted.names:
            is_of_this_track = name in before and before[name].track_id == wanted.track_id
            if not is_of_this_track or (name == wanted.name and wanted.need == "changed"):
                yield name, wanted.track_id
    yield from ((name, OF_ALL) for name in (TRACKS_CSV, PLAYLIST) if name not in before)


@dataclass(frozen=True, slots=True)
class _Outcome:
    wanted: Wanted
    delivered: Delivered | None
    written_bytes: int
    error: OrchestrionError | None


def _copy(
    template: Template, tracks_of: Callable[[Row], VerifiedTracks], destination: Destination, wanted: Wanted
) -> _Outcome:
    """Bring one track to the destination, if anybody may have it."""
    try:
        return _copied(template, tracks_of(wanted.row), destination, wanted)
    except StoreUnavailable:
        raise
    except OrchestrionError as error:
        return _Outcome(wanted, None, 0, error)


def _copied(template: Template, tracks: VerifiedTracks, destination: Destination, wanted: Wanted) -> _Outcome:
    track_id = wanted.track_id
    stored = tracks.newest(track_id)
    if stored is None:
        raise NotFound(f"{track_id} is not in the store {tracks.store.url}")
    record = stored.record
    _check_row(wanted.row, record, template)
    audio = partial(_audio, tracks, record)
    written = destination.put(wanted.name, track_id, record.audio_sha256, record.audio_bytes, audio)
    if wanted.midi_name and record.midi_key and record.midi_sha256:
        midi = partial(_midi, tracks, record.midi_key, record.midi_sha256)
        written += destination.put(wanted.midi_name, track_id, record.midi_sha256, MAX_MIDI_BYTES, midi)
    if wanted.sidecar_name:
        written += _put(destination, wanted.sidecar_name, track_id, sidecar(wanted.name, wanted.row, stored.signed))
    return _Outcome(wanted, Delivered(wanted.name, wanted.row, record), written, None)


def _audio(tracks: VerifiedTracks, record: TrackRecord) -> bytes:
    """The audio of a record, whose hash its key, its record and its bytes agree on."""
    audio = tracks.store.get_blob(record.audio_key)
    verify_audio_hash(record, len(audio), hashlib.sha256(audio).hexdigest())
    return audio


def _midi(tracks: VerifiedTracks, key: str, sha256: str) -> bytes:
    """A score, whose hash its key, its record and its bytes agree on."""
    midi = tracks.store.get_blob(key)
    if hashlib.sha256(midi).hexdigest() != sha256:
        raise VerificationFailed(f"{key} is not the MIDI file that the record is of")
    return midi


def _put(destination: Destination, name: str, track_id: str, data: bytes) -> int:
    return destination.put(name, track_id, hashlib.sha256(data).hexdigest(), len(data), lambda: data)


def _check_row(row: Row, record: TrackRecord, template: Template) -> None:
    """A ledger is not signed: what a name is made of has to be what the record says."""
    signed = to_row(record)
    for name in sorted(template.columns & signed.keys() - CALLER_FIELDS):
        if row[name] != signed[name]:
            raise VerificationFailed(
                f"{record.track_id}: the ledger's {name} is not that of the signed record; its file would be misnamed"
            )


def _count(outcome: _Outcome, summary: Summary, delivered: list[Delivered]) -> None:
    counts = summary.counts
    counts.bytes += outcome.written_bytes
    if outcome.error is None:
        if outcome.delivered is not None:
            delivered.append(outcome.delivered)
        if outcome.written_bytes:
            counts.copied += 1
        else:
            counts.there += 1
        return
    refusal = Refusal(outcome.wanted.name, outcome.wanted.track_id, outcome.error)
    summary.refusals.append(refusal)
    if refusal.is_withheld:
        counts.withheld += 1
    else:
        counts.failed += 1


def _clear_up(plan: Plan, destination: Destination, summary: Summary, delete: bool) -> None:
    """Remove former names, and what is not to be there; say what is left."""
    refused = {refusal.track_id for refusal in summary.refusals}
    withheld = {refusal.track_id for refusal in summary.refusals if refusal.is_withheld}
    delivered = {wanted.track_id for wanted in plan.tracks} - refused
    for wanted in plan.tracks:
        destination.give_up(wanted.names, wanted.track_id, delivered)
    for track_id, names in plan.former.items():
        if track_id not in refused:
            _remove(destination, destination.still_there(names), summary)
    summary.withheld_files = destination.names_of(withheld)
    summary.gone_files = destination.still_there(plan.gone)
    if delete:
        _remove(destination, [*summary.withheld_files, *summary.gone_files], summary)
        summary.withheld_files, summary.gone_files = [], []


def _remove(destination: Destination, names: Iterable[str], summary: Summary) -> None:
    for name in names:
        destination.remove(name)
        summary.removed_files.append(name)
