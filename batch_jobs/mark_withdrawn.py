"""Mark withdrawn tracks in a ledger: `python -m batch_jobs.mark_withdrawn --ledger out/catalog`.

A takedown changes a store, and knows of no ledger. This asks the stores of a ledger's jobs which of its tracks are
withdrawn, and commits files whose rows say when and why. Run it after a takedown, as often as you like.

Exit codes: 0 done · 2 arguments or ledger cannot be used · 3 ledger or store did not answer; run it again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Final

from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.ledger.snapshot import Snapshot
from batch_jobs.ledger.stores import stores_of, verifying_keys
from batch_jobs.ledger.withdrawals import JobTrack, Mark, mark_withdrawn
from orchestrion.cli.arguments import add_storage_options
from orchestrion.clock import Clock, SystemClock
from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable
from orchestrion.storage.object_store import Objects
from orchestrion.storage.takedown import THREADS
from orchestrion.storage.track_store import TrackStore
from orchestrion.storage.verified_tracks import VerifiedTracks
from orchestrion.telemetry.metrics import Uncounted
from orchestrion.trust.signing_keys import default_signing_key

EXIT_UNUSABLE: Final = 2
EXIT_INFRASTRUCTURE: Final = 3


def withdrawn_of(tracks: VerifiedTracks, track_ids: set[str]) -> dict[str, Mark]:
    """Those of these tracks that are withdrawn in their store, by one listing and the tombstones that it shows."""
    suspects = sorted(track_id for track_id, listing in tracks.store.listings().items() if listing.has_tombstone)
    suspects = [track_id for track_id in suspects if track_id in track_ids]
    with ThreadPoolExecutor(THREADS) as pool:
        tombstones = list(pool.map(tracks.tombstone, suspects))
    return {
        track_id: Mark(datetime.fromisoformat(found.withdrawal.withdrawn_at), found.withdrawal.reason)
        for track_id, found in zip(suspects, tombstones, strict=True)
        if found is not None
    }


def main(argv: Sequence[str] | None = None, clock: Clock | None = None) -> int:
    """Run the command; see the module's docstring for the exit codes."""
    arguments = _parser().parse_args(argv)
    options = arguments.storage_options
    url = arguments.ledger if "://" in arguments.ledger else str(Path(arguments.ledger).absolute())
    try:
        # Not to make a folder where the name is mistyped.
        read_snapshot(url, options)
        keys = verifying_keys(Path(arguments.signing_key).absolute(), arguments.trusted_keys)

        def marks_of(newest: Snapshot, tracks: set[JobTrack]) -> Mapping[JobTrack, Mark]:
            stores = stores_of({job_id for job_id, _ in tracks}, newest, url, arguments.store)
            by_store: defaultdict[str, set[str]] = defaultdict(set)
            for job_id, track_id in tracks:
                by_store[stores[job_id]].add(track_id)
            marks = {
                store: withdrawn_of(VerifiedTracks(TrackStore.open(store, options), keys, Uncounted()), track_ids)
                for store, track_ids in by_store.items()
            }
            return {
                (job_id, track_id): marks[stores[job_id]][track_id]
                for job_id, track_id in tracks
                if track_id in marks[stores[job_id]]
            }

        marked = mark_withdrawn(Ledger(Objects(url, options), clock or SystemClock()), marks_of)
    except (NotFound, InvalidRequest) as error:
        sys.stderr.write(f"mark_withdrawn: {error}\n")
        return EXIT_UNUSABLE
    except StoreUnavailable as error:
        sys.stderr.write(f"mark_withdrawn: {error}\nRun the same command again.\n")
        return EXIT_INFRASTRUCTURE
    sys.stdout.write(f"{marked:,} rows marked as withdrawn\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m batch_jobs.mark_withdrawn", description="Mark withdrawn tracks in a ledger."
    )
    parser.add_argument("--ledger", required=True, help="the --out of render_catalog; a folder or fsspec URL")
    parser.add_argument("--store", help="folder or s3:// URL of the audio (default: the one that the ledger names)")
    parser.add_argument(
        "--signing-key",
        default=str(default_signing_key(os.environ)),
        help="its public key verifies tombstones (default: $ORCHESTRION_SIGNING_KEY or ~/.orchestrion/…)",
    )
    parser.add_argument("--trusted-keys", help="more public keys (PEM file or folder) whose tombstones count")
    add_storage_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
