"""Get a ledger's tracks as files: `orchestrion catalog export --ledger out/catalog --to out/files`.

Reads which tracks there are from the ledger and the tracks from their store, as far as they verify, and brings a folder
or a bucket to that: audio under names that people give, a playlist, a table, and each track's signed record. Run again,
it copies only what changed.

Exit codes: 0 every track is there · 2 arguments, ledger or destination cannot be used; nothing was written · 3 ledger,
store or destination did not answer; the same command goes on · 5 the rest is there, and tracks could not be exported,
or files of tracks that are withdrawn or on hold still lie there · 130 or 143 stopped by Ctrl-C or SIGTERM; the same
command goes on.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, get_args

from batch_jobs.export.copying import Summary, export
from batch_jobs.export.destination import Destination
from batch_jobs.export.names import DEFAULT_TEMPLATE, Template, name_tracks
from batch_jobs.export.progress import Counts, ExportProgress, ProgressForm
from batch_jobs.export.selection import selected_rows
from batch_jobs.in_order import AHEAD
from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.ledger.stores import stores_of, verifying_keys
from batch_jobs.options import at_least_one
from orchestrion.cli.arguments import add_storage_options
from orchestrion.clock import Clock, SystemClock
from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable, VerificationFailed
from orchestrion.rendering.config import lies_in
from orchestrion.storage.object_store import Objects
from orchestrion.storage.track_store import TrackStore
from orchestrion.storage.verified_tracks import VerifiedTracks
from orchestrion.telemetry.metrics import Uncounted
from orchestrion.trust.signing_keys import default_signing_key

EXIT_OK: Final = 0
EXIT_UNUSABLE: Final = 2
EXIT_INFRASTRUCTURE: Final = 3
EXIT_SOME_MISSING: Final = 5
#: Names of files that are shown of one kind; the manifest has all.
SHOWN: Final = 20
EPILOG: Final = (
    "Exit codes: 0 every track is there, 2 unusable arguments, ledger or destination, 3 ledger, store or destination "
    "did not answer, 5 some tracks could not be exported or files of withdrawn tracks still lie there, 130 and 143 "
    "stopped by a signal. After 3, 130 and 143 the same command goes on."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.epilog = EPILOG
    parser.add_argument("--ledger", required=True, help="the --out of render_catalog; a folder or s3:// URL")
    parser.add_argument("--to", required=True, help="folder or s3:// URL to write to")
    parser.add_argument(
        "--name",
        type=_template,
        default=DEFAULT_TEMPLATE,
        metavar="TEMPLATE",
        help="how files are named: words and columns of a track; of {a|b} the first that is not empty, / makes folders "
        "(default: %(default)s)",
    )
    parser.add_argument("--job", metavar="ID", help="only the tracks of this job (default: every job in the ledger)")
    parser.add_argument("--limit", type=at_least_one, metavar="N", help="only the first N rows")
    parser.add_argument("--midi", action="store_true", help="also write scores, of tracks that have one")
    parser.add_argument(
        "--sidecars", choices=("none", "json"), default="json", help="each track's signed record (default: %(default)s)"
    )
    parser.add_argument(
        "--delete",
        action="store_true",
        help="remove what earlier exports wrote of tracks that are withdrawn, on hold or not in this export; "
        "otherwise it is listed",
    )
    parser.add_argument("--store", help="folder or s3:// URL of the audio (default: the one that the ledger names)")
    parser.add_argument(
        "--signing-key",
        help="its public key verifies records (default: $ORCHESTRION_SIGNING_KEY or ~/.orchestrion/…)",
    )
    parser.add_argument("--trusted-keys", help="more public keys (PEM file or folder) whose records count")
    add_storage_options(parser)
    parser.add_argument(
        "--workers",
        type=int,
        choices=range(1, AHEAD + 1),
        default=8,
        metavar="N",
        help=f"tracks copied at the same time, at most {AHEAD} (default: %(default)s)",
    )
    parser.add_argument(
        "--progress", choices=get_args(ProgressForm), default="lines", help="on standard error (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, clock: Clock | None = None) -> int:
    """Run the command; see the module's docstring for the exit codes."""
    progress = ExportProgress(arguments.progress, (clock or SystemClock()).monotonic_s)
    counts = Counts()

    def tick(now: Counts) -> None:
        nonlocal counts
        counts = now
        progress.tick(now)

    try:
        with _sigterm_raises(), _log_as_notes(progress):
            summary = _export(arguments, tick)
    except (InvalidRequest, NotFound, VerificationFailed) as error:
        return _ended(progress, "unusable", counts, EXIT_UNUSABLE, str(error))
    except (StoreUnavailable, OSError) as error:
        again = f"{error}\nRun the same command again to go on."
        return _ended(progress, "broken off", counts, EXIT_INFRASTRUCTURE, again)
    except KeyboardInterrupt:
        return _ended(progress, "stopped", counts, 128 + signal.SIGINT, _STOPPED)
    except _TerminatedError:
        return _ended(progress, "stopped", counts, 128 + signal.SIGTERM, _STOPPED)
    for refusal in summary.refusals:
        why = "withheld" if refusal.is_withheld else "failed"
        progress.note(f"{why}: {refusal.name}: {refusal.error.code}: {refusal.error}")
    sys.stdout.write(_told(summary, arguments.to))
    is_all_well = not (summary.counts.failed or summary.withheld_files)
    return _ended(progress, "complete", summary.counts, EXIT_OK if is_all_well else EXIT_SOME_MISSING)


_STOPPED: Final = "stopped; what is written is whole. Run the same command again to go on."


def _export(arguments: argparse.Namespace, on_progress: Callable[[Counts], None]) -> Summary:
    options = arguments.storage_options
    template: Template = arguments.name
    signing_key = Path(arguments.signing_key or default_signing_key(os.environ)).absolute()
    ledger_url, to = _absolute(arguments.ledger), _absolute(arguments.to)
    snapshot = read_snapshot(ledger_url, options)
    keys = verifying_keys(signing_key, arguments.trusted_keys)
    rows = selected_rows(ledger_url, options, snapshot, template.columns, arguments.job, arguments.limit)
    stores = stores_of({row["job_id"] for row in rows}, snapshot, ledger_url, arguments.store)
    _refuse_places(to, ledger_url, stores.values(), str(signing_key))
    opened = {
        url: VerifiedTracks(TrackStore.open(url, options), keys, Uncounted()) for url in sorted(set(stores.values()))
    }
    return export(
        name_tracks(template, rows),
        template,
        lambda row: opened[stores[row["job_id"]]],
        Destination(Objects(to, options, readable_names=True)),
        with_midi=arguments.midi,
        with_sidecars=arguments.sidecars == "json",
        delete=arguments.delete,
        workers=arguments.workers,
        on_progress=on_progress,
    )


def _refuse_places(to: str, ledger_url: str, stores: Iterable[str], signing_key: str) -> None:
    """Refuse a destination that others write to, or that has the key in it."""
    if to.rstrip("/") == ledger_url.rstrip("/"):
        raise InvalidRequest.of("to", to, "is the ledger; name another folder")
    for store in stores:
        if lies_in(to, store) or f"{to}/".startswith(f"{store.rstrip('/')}/"):
            raise InvalidRequest.of("to", to, f"is the store {store}, or in it; name another folder")
    if lies_in(signing_key, to):
        raise InvalidRequest.of("to", to, f"has the signing key {signing_key} in it, and an export is given away")


def _absolute(location: str) -> str:
    return location if "://" in location else os.path.normpath(Path(location).absolute())


class _TerminatedError(BaseException):
    """SIGTERM came."""


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM ends the export as Ctrl-C does: with what it has written in the manifest."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise _TerminatedError

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Notes(logging.Handler):
    """What is logged, as notes of the progress: a stream of JSON has nothing else in it."""

    def __init__(self, progress: ExportProgress) -> None:
        super().__init__(logging.WARNING)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """Note it."""
        self._progress.note(record.getMessage())


@contextmanager
def _log_as_notes(progress: ExportProgress) -> Iterator[None]:
    handler = _Notes(progress)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def _ended(progress: ExportProgress, state: str, counts: Counts, exit_code: int, why: str = "") -> int:
    if why:
        progress.note(why)
    progress.say(state, counts, exit_code)
    return exit_code


def _told(summary: Summary, to: str) -> str:
    counts = summary.counts
    lines = [
        f"{counts.copied + counts.there} of {counts.tracks} tracks are in {to}: {counts.copied} copied "
        f"({counts.bytes / 1e6:.1f} MB), {counts.there} there already"
    ]
    if counts.withheld:
        lines.append(f"{counts.withheld} are withdrawn or on hold, and not exported")
    if counts.failed:
        lines.append(f"{counts.failed} could not be exported, as said above")
    for names, what in (
        (summary.removed_files, "removed"),
        (summary.withheld_files, "of tracks that are withdrawn or on hold, still there (--delete removes them)"),
        (summary.gone_files, "of tracks that are not in this export, still there (--delete removes them)"),
    ):
        if names:
            more = [f"  … and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
            lines += [f"{len(names)} files {what}:", *(f"  {name}" for name in names[:SHOWN]), *more]
    return "\n".join(lines) + "\n"


def _template(text: str) -> Template:
    try:
        return Template.parse(text)
    except InvalidRequest as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command from a command line of its own."""
    parser = argparse.ArgumentParser(
        prog="python -m batch_jobs.export_catalog", description=(__doc__ or "").partition("\n")[0]
    )
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
