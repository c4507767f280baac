"""`orchestrion takedown`: tracks are withdrawn for good."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrion.cli.arguments import add_keys, add_store, read, render_config, tell
from orchestrion.clock import SystemClock
from orchestrion.errors import InvalidRequest
from orchestrion.trust.signing import Signer
from orchestrion.trust.signing_keys import trusted_keys
from orchestrion.trust.tombstone import Withdrawal

if TYPE_CHECKING:
    from orchestrion.storage.takedown import Takedown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add_keys(parser)
    parser.add_argument("tracks", nargs="*", metavar="TRACK_ID")
    parser.add_argument("--from", dest="file", metavar="FILE", help="More track ids, one a line; - reads the input.")
    parser.add_argument("--reason", required=True, help="Why, in one line; kept in the signed tombstone.")
    parser.add_argument("--actor", required=True, help="Who decided it; kept in the signed tombstone.")
    add_store(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Take tracks down, and say what became of each."""
    from orchestrion.storage.takedown import take_down
    from orchestrion.storage.track_store import TrackStore
    from orchestrion.storage.verified_tracks import VerifiedTracks
    from orchestrion.telemetry.metrics import Uncounted

    config = render_config(arguments)
    track_ids = [*arguments.tracks, *(_lines(arguments.file) if arguments.file else ())]
    if not track_ids:
        raise InvalidRequest.of("TRACK_ID", None, "give track ids, or a file of them with --from")
    signer = Signer.load(config.signing_key_path)
    keys = trusted_keys(signer, config.trusted_keys_path)
    taken_down = take_down(
        VerifiedTracks(TrackStore.open(config.store_url), keys, Uncounted()),
        signer,
        track_ids,
        reason=arguments.reason,
        actor=arguments.actor,
        clock=SystemClock(),
    )
    for takedown in taken_down:
        print(_told(takedown))
    tell(f"signed with key {signer.key_id}: every service of this store must trust it")
    return 0


def _lines(file: str) -> Iterator[str]:
    text = sys.stdin.read() if file == "-" else read(Path(file), "--from").decode("utf-8", "replace")
    return (line.strip() for line in text.splitlines() if line.strip())


def _told(takedown: Takedown) -> str:
    before = "already " if takedown.was_withdrawn_before else ""
    files = f"{len(takedown.deleted_blobs)} files deleted"
    if takedown.shared_blobs:
        files += f", {len(takedown.shared_blobs)} kept that other tracks have too"
    if not takedown.records:
        files = "there was no such track, and there will be none"
    withdrawal = Withdrawal(takedown.track_id, takedown.reason, takedown.actor, takedown.withdrawn_at)
    return f"{takedown.track_id}: {before}{withdrawal.describe()}; {files}"
