"""`orchestrion takedown`: pieces are withdrawn for good, by their ids or by what they came from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrion.cli.arguments import add_keys, add_storage_options, add_store, read, render_config, tell
from orchestrion.clock import SystemClock
from orchestrion.errors import InvalidRequest
from orchestrion.trust.signing import Signer
from orchestrion.trust.signing_keys import trusted_keys

if TYPE_CHECKING:
    from orchestrion.storage.selection import Selection
    from orchestrion.storage.takedown import History, Takedown
    from orchestrion.storage.verified_tracks import VerifiedTracks

EPILOG: Final = (
    "A piece is what a model made for one prompt, seed and conditioning: with it every track goes that was made of it, "
    "whatever its format, loudness and fades, and no other is made. Exit codes: 0 done, 1 bytes of withdrawn tracks "
    "can still be read, or something failed on the way: the same command again does the rest, 2 bad input."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.epilog = EPILOG
    add_keys(parser)
    parser.add_argument("ids", nargs="*", metavar="ID", help="Track or piece. Of a track its piece is withdrawn.")
    parser.add_argument("--from", dest="file", metavar="FILE", help="More ids, one a line; - reads the input.")
    parser.add_argument("--reason", help="Why, in one line; kept in the signed tombstone.")
    parser.add_argument("--actor", help="Who decided it; kept in the signed tombstone.")
    parser.add_argument(
        "--track-only", action="store_true", help="Withdraw tracks, and not the others of their pieces."
    )
    acts = parser.add_mutually_exclusive_group()
    acts.add_argument("--dry-run", action="store_true", help="List what would be withdrawn, and do nothing.")
    acts.add_argument(
        "--reindex",
        action="store_true",
        help="Withdraw nothing: put tracks that an older release stored into the store's index.",
    )
    origin = parser.add_argument_group("instead of ids, what tracks came from; all conditions must hold")
    origin.add_argument("--piece", action="append", default=[], metavar="ID", help="A piece; may be repeated.")
    origin.add_argument("--model-revision", metavar="R", help="As records have it, with or without sha256:.")
    prompt = origin.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", metavar="TEXT", help="The whole prompt.")
    prompt.add_argument("--prompt-sha256", metavar="H", help="Its hash, for those who may not read it.")
    origin.add_argument("--reference", metavar="sha256:…", help="Theme or continuation.")
    origin.add_argument(
        "--requester", metavar="NAME", help="Had the track made first, as it said of itself. Reads every record."
    )
    add_store(parser)
    add_storage_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Take pieces down, and say what became of each track; or list them, or complete the index."""
    from orchestrion.storage.reindex import make_whole
    from orchestrion.storage.takedown import THREADS
    from orchestrion.storage.track_store import TrackStore
    from orchestrion.storage.verified_tracks import VerifiedTracks
    from orchestrion.telemetry.metrics import Uncounted

    config = render_config(arguments)
    ids = [*arguments.ids, *arguments.piece, *(_lines(arguments.file) if arguments.file else ())]
    selection = None if arguments.reindex else _selection(arguments, ids)
    if not (arguments.dry_run or arguments.reindex):
        _refuse_missing(arguments)
    signer = Signer.load(config.signing_key_path)
    keys = trusted_keys(signer, config.trusted_keys_path)
    tracks = VerifiedTracks(TrackStore.open(config.store_url, config.storage_options), keys, Uncounted())
    if arguments.reindex:
        if ids:
            raise InvalidRequest.of("--reindex", ids[0], "withdraws nothing; give it no ids")
        with ThreadPoolExecutor(THREADS) as pool:
            count = make_whole(tracks, signer, pool, tell)
        print(f"the index of {tracks.store.url} is whole; the records of {count:,} tracks were read for it")
        return 0
    if selection is not None:
        ids = _selected(tracks, selection, arguments.track_only)
        if not ids:
            tell("no track of the store came from that; nothing to withdraw")
            return 0
    if arguments.dry_run:
        return _list(tracks, ids, arguments.track_only)
    return _take_down(arguments, tracks, signer, ids)


def _selection(arguments: argparse.Namespace, ids: Sequence[str]) -> Selection | None:
    """The conditions that were given; None where ids were."""
    from orchestrion.storage.selection import Selection, prompt_sha256

    conditions = ("model_revision", "prompt", "prompt_sha256", "reference", "requester")
    given = [name for name in conditions if getattr(arguments, name) is not None]
    if not (given or ids):
        raise InvalidRequest.of("ID", None, "give ids, a file of them with --from, or what tracks came from")
    if given and ids:
        option = "--" + given[0].replace("_", "-")
        raise InvalidRequest.of(option, ids[0], "give ids or conditions: it would not be plain which is meant")
    if not given:
        return None
    return Selection(
        model_revision=arguments.model_revision,
        prompt_sha256=arguments.prompt_sha256 if arguments.prompt is None else prompt_sha256(arguments.prompt),
        reference=arguments.reference,
        requester=arguments.requester,
    )


def _refuse_missing(arguments: argparse.Namespace) -> None:
    for name in ("reason", "actor"):
        if getattr(arguments, name) is None:
            raise InvalidRequest.of(f"--{name}", None, "is needed: it stands in the signed tombstone")


def _selected(tracks: VerifiedTracks, selection: Selection, track_only: bool) -> list[str]:
    from orchestrion.storage.selection import select
    from orchestrion.storage.takedown import THREADS

    with ThreadPoolExecutor(THREADS) as pool:
        found = select(tracks, selection, pool, tell)
    tell(f"{len(found):,} tracks came from that, of {len({piece for _, piece in found}):,} pieces")
    return sorted({track_id if track_only else piece_id for track_id, piece_id in found})


def _list(tracks: VerifiedTracks, ids: Sequence[str], track_only: bool) -> int:
    """Print what a takedown of these would withdraw."""
    from orchestrion.storage.takedown import THREADS, reached

    with ThreadPoolExecutor(THREADS) as pool:
        found = reached(tracks, ids, pool, tell, whole_pieces=not track_only)
    for one in found:
        print(_listed(tracks, one))
    pieces = {one.piece_id for one in found} - {None}
    tell(f"{len(found):,} tracks of {len(pieces):,} pieces would be withdrawn; nothing was done")
    return 0


def _listed(tracks: VerifiedTracks, one: History) -> str:
    """A track, and from what it came: nothing of who asked for it."""
    before = ", already withdrawn" if tracks.tombstone(one.track_id) is not None else ""
    if not one.entries:
        return f"{one.track_id}: nothing verifies of it; its id alone would be withdrawn{before}"
    entry = one.entries[-1]
    files = f"{len(one.blobs)} files" if one.versions else "being stored"
    return (
        f"{one.track_id}: {entry.piece_id}, model {entry.model_revision}, prompt {entry.prompt_sha256}, {files}{before}"
    )


def _take_down(arguments: argparse.Namespace, tracks: VerifiedTracks, signer: Signer, ids: Sequence[str]) -> int:
    from orchestrion.storage.takedown import take_down

    outcome = take_down(
        tracks,
        signer,
        ids,
        reason=arguments.reason,
        actor=arguments.actor,
        clock=SystemClock(),
        whole_pieces=not arguments.track_only,
        say=tell,
    )
    for takedown in outcome.tracks:
        print(_told(takedown))
    for piece_id, withdrawal in outcome.pieces.items():
        count = sum(takedown.piece_id == piece_id for takedown in outcome.tracks)
        tracks_of_it = "1 track" if count == 1 else f"{count} tracks"
        print(f"{piece_id}: {withdrawal.describe()}; with {tracks_of_it}, and no other is made of it")
    if any(takedown.was_under_way for takedown in outcome.tracks):
        tell("some were being stored: run this again in some minutes, to delete what they leave")
    tell(f"signed with key {signer.key_id}: every service of this store must trust it")
    if outcome.left_versions:
        tell(f"STILL READABLE by who knows the version: {len(outcome.left_versions)} versions in {tracks.store.url}")
        for left in outcome.left_versions:
            tell(f"  {left}")
        tell("allow this command to list and delete versions and run it again, or let the bucket's lifecycle end them")
        return 1
    return 0


def _lines(file: str) -> Iterator[str]:
    text = sys.stdin.read() if file == "-" else read(Path(file), "--from").decode("utf-8", "replace")
    return (line.strip() for line in text.splitlines() if line.strip())


def _told(takedown: Takedown) -> str:
    before = "already " if takedown.was_withdrawn_before else ""
    files = f"{len(takedown.deleted_blobs)} files deleted"
    if takedown.shared_blobs:
        files += f", {len(takedown.shared_blobs)} kept that other tracks have too"
    if takedown.was_under_way:
        files += ", it was being stored"
    elif not takedown.records:
        files = "there was no such track, and there will be none"
    elif takedown.piece_id is None:
        files += "; nothing says what piece it is of, so it alone is withdrawn"
    return f"{takedown.track_id}: {before}{takedown.withdrawal.describe()}; {files}"
