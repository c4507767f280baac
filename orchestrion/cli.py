"""The `orchestrion` command: render a track without a cluster, verify any against its record, take tracks down."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from orchestrion.clock import SystemClock
from orchestrion.config import RenderConfig
from orchestrion.errors import InvalidRequest, NotFound, OrchestrionError, shown
from orchestrion.metrics import PrometheusRecorder
from orchestrion.models import absolute_entry, public_name
from orchestrion.outcome import Failure
from orchestrion.provenance import SignedRecord, Signer, load_trusted_keys, verify
from orchestrion.render import build_renderer
from orchestrion.request import TrackSpec
from orchestrion.store import TrackStore
from orchestrion.takedown import Takedown, Tombstone, Withdrawal, take_down
from orchestrion.vocabulary import MOODS, STYLES

DEFAULT_STORE = "out/store"
#: Fields of a request that are given as files here.
_FILES: Final = {
    "theme": "Audio or MIDI file with the theme melody.",
    "continuation": "Audio file that the track begins with and goes on from.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 1 when a track failed or does not verify, 2 for bad input."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except InvalidRequest as error:
        for problem in error.problems:
            print(f"{problem.field}: {problem.message} (got {problem.value})", file=sys.stderr)
        return 2
    except OrchestrionError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="orchestrion", description=__doc__)
    commands = parser.add_subparsers(required=True)

    render = commands.add_parser("render", help="render one track into the store and copy it to --output")
    render.add_argument("prompt")
    for name, field in TrackSpec.model_fields.items():
        if name not in ("prompt", *_FILES):
            render.add_argument("--" + name.replace("_", "-"), metavar="VALUE", help=field.description)
    for name, what in _FILES.items():
        render.add_argument("--" + name, type=Path, metavar="FILE", help=what)
    render.add_argument("--store", default=DEFAULT_STORE, help="Folder or s3:// URL (default: %(default)s).")
    render.add_argument("--output", type=Path, help="Where to copy the audio; its folder must exist.")
    render.set_defaults(run=_render)

    check = commands.add_parser("verify", help="verify a stored track, or files, against the signed record")
    check.add_argument("track", nargs="?", help="Track id in --store.")
    check.add_argument("--store", default=DEFAULT_STORE, help="Folder or s3:// URL (default: %(default)s).")
    check.add_argument("--audio", type=Path, help="Audio file to verify instead of the store's.")
    check.add_argument("--record", type=Path, help="Signed record (JSON) to verify instead of the store's.")
    check.add_argument(
        "--keys",
        type=Path,
        help="Public key (PEM) or folder of them (default: the one that renders with --store made).",
    )
    check.set_defaults(run=_verify)

    takedown = commands.add_parser("takedown", help="withdraw tracks for good and delete their audio and MIDI")
    takedown.add_argument("tracks", nargs="*", metavar="TRACK_ID")
    takedown.add_argument("--from", dest="file", metavar="FILE", help="More track ids, one a line; - reads the input.")
    takedown.add_argument("--reason", required=True, help="Why, in one line; kept in the signed tombstone.")
    takedown.add_argument("--actor", required=True, help="Who decided it; kept in the signed tombstone.")
    takedown.add_argument("--store", default=DEFAULT_STORE, help="Folder or s3:// URL (default: %(default)s).")
    takedown.add_argument(
        "--signing-key", help="Private key (PEM) to sign with (default: the one that renders with --store made)."
    )
    takedown.set_defaults(run=_takedown)

    styles = commands.add_parser("styles", help="list the styles and moods a request may name")
    styles.set_defaults(run=_styles)
    return parser


def _render(arguments: argparse.Namespace) -> int:
    cells = {name: getattr(arguments, name) or "" for name in TrackSpec.model_fields if name not in _FILES}
    model = absolute_entry(arguments.model or "composer")
    cells["model"] = public_name(model)
    config = local_config(arguments.store, model)
    renderer = build_renderer(config, "local", PrometheusRecorder(CollectorRegistry()))
    for name in _FILES:
        if (path := getattr(arguments, name)) is not None:
            cells[name] = renderer.store.put_theme(_read(path, name))
    outcome = renderer.render([TrackSpec.from_text(cells).resolve()])[0]
    if isinstance(outcome, Failure):
        print(f"{outcome.reason} at {outcome.stage}: {outcome.message}", file=sys.stderr)
        return 1
    if arguments.output is not None:
        arguments.output.write_bytes(renderer.store.get_blob(outcome.record.audio_key))
    record = outcome.record
    print(
        json.dumps(
            {
                "track_id": outcome.track_id,
                "cache_hit": outcome.cache_hit,
                "audio": str(arguments.output or f"{arguments.store}/{record.audio_key}"),
                "loudness_lufs": record.measured_loudness_lufs,
                "cost_usd": record.cost_usd,
                "choices": dict(record.choices),
            },
            indent=2,
        )
    )
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    store = TrackStore.open(_absolute(arguments.store))
    keys = arguments.keys or Path(local_config(arguments.store).signing_key_path).with_suffix(".pub.pem")
    if arguments.track and not arguments.record and (envelope := store.tombstone(arguments.track)):
        tombstone = Tombstone.from_bytes(envelope)
        tombstone.verify(arguments.track, load_trusted_keys(keys))
        why = f"{_when_and_why(tombstone.withdrawal)} (key {tombstone.signature.key_id})"
        print(f"{arguments.track}: withdrawn {why}", file=sys.stderr)
        return 1
    signed = SignedRecord.from_bytes(_envelope(arguments, store))
    audio = _read(arguments.audio, "audio") if arguments.audio else store.get_blob(signed.record.audio_key)
    verify(signed, audio, load_trusted_keys(keys))
    print(f"{signed.record.track_id}: audio, record and signature belong together (key {signed.signature.key_id})")
    return 0


def _envelope(arguments: argparse.Namespace, store: TrackStore) -> bytes:
    if arguments.record is not None:
        return _read(arguments.record, "record")
    if arguments.track is None:
        raise InvalidRequest.of("track", None, "give a track id, or --record with --audio")
    envelope = store.latest(arguments.track)
    if envelope is None:
        raise NotFound(f"there is no track {shown(arguments.track)} in {arguments.store}")
    return envelope


def _takedown(arguments: argparse.Namespace) -> int:
    config = local_config(arguments.store)
    track_ids = [*arguments.tracks, *(_lines(arguments.file) if arguments.file else ())]
    if not track_ids:
        raise InvalidRequest.of("TRACK_ID", None, "give track ids, or a file of them with --from")
    key_path = arguments.signing_key or config.signing_key_path
    signer = Signer.load_or_create(key_path)
    signer.publish_key(key_path)
    taken_down = take_down(
        TrackStore.open(config.store_url),
        signer,
        track_ids,
        reason=arguments.reason,
        actor=arguments.actor,
        clock=SystemClock(),
    )
    for takedown in taken_down:
        print(_told(takedown))
    return 0


def _lines(file: str) -> Iterator[str]:
    text = sys.stdin.read() if file == "-" else _read(Path(file), "--from").decode("utf-8", "replace")
    return (line.strip() for line in text.splitlines() if line.strip())


def _told(takedown: Takedown) -> str:
    before = "already " if takedown.was_withdrawn_before else ""
    files = f"{len(takedown.deleted_blobs)} files deleted"
    if takedown.shared_blobs:
        files += f", {len(takedown.shared_blobs)} kept that other tracks have too"
    if not takedown.records:
        files = "there was no such track, and there will be none"
    return f"{takedown.track_id}: {before}withdrawn {_when_and_why(takedown)}; {files}"


def _when_and_why(withdrawn: Takedown | Withdrawal) -> str:
    return f"on {withdrawn.withdrawn_at} by {withdrawn.actor}: {withdrawn.reason}"


def _styles(_: argparse.Namespace) -> int:
    print("styles: " + ", ".join(STYLES))
    print("moods: " + ", ".join(MOODS))
    return 0


def local_config(store: str, model: str = "composer") -> RenderConfig:
    """The configuration of a render on this machine: the store, its signing key in the folder beside it, a model."""
    keys = Path.home() / ".orchestrion" if "://" in store else Path(store).absolute().parent
    return RenderConfig(store_url=_absolute(store), signing_key_path=str(keys / "signing-key.pem"), models=(model,))


def _absolute(store: str) -> str:
    return store if "://" in store else str(Path(store).absolute())


def _read(path: Path, field: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest.of(field, str(path), f"cannot be read: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
