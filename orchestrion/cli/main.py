"""The `orchestrion` command: render a track without a cluster, verify it, take tracks down, make the key that signs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from orchestrion.clock import SystemClock
from orchestrion.errors import InvalidRequest, NotFound, OrchestrionError, shown
from orchestrion.models.registry import absolute_entry, public_name
from orchestrion.rendering.config import RenderConfig
from orchestrion.rendering.renderer import build_renderer
from orchestrion.storage.takedown import Takedown, take_down
from orchestrion.storage.track_store import TrackStore
from orchestrion.storage.verified_tracks import VerifiedTracks
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.tracks.outcome import Failure
from orchestrion.tracks.spec import TrackSpec
from orchestrion.tracks.vocabulary import MOODS, STYLES
from orchestrion.trust.signature import load_trusted_keys, public_key_path
from orchestrion.trust.signed_record import SignedRecord, verify, verify_record
from orchestrion.trust.signing import Signer
from orchestrion.trust.signing_keys import default_signing_key, have_signing_key, trusted_keys
from orchestrion.trust.tombstone import Withdrawal

DEFAULT_STORE = "out/store"
#: Fields of a request that are given as files here.
_FILES: Final = {
    "theme": "Audio or MIDI file with the theme melody.",
    "continuation": "Audio file that the track begins with and goes on from.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 1 when a track failed or does not verify, 2 for bad input."""
    arguments = _parser(str(default_signing_key(os.environ))).parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except InvalidRequest as error:
        for problem in error.problems:
            print(f"{problem.field}: {problem.message} (got {problem.value})", file=sys.stderr)
        return 2
    except OrchestrionError as error:
        print(error, file=sys.stderr)
        return 1


def _parser(signing_key: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="orchestrion", description=__doc__)
    commands = parser.add_subparsers(required=True)
    key = argparse.ArgumentParser(add_help=False)
    key.add_argument(
        "--signing-key", default=signing_key, help="Private key (PEM) to sign with (default: %(default)s)."
    )
    key.add_argument(
        "--trusted-keys", type=Path, metavar="PATH", help="More public keys (PEM file or folder) whose records count."
    )

    render = commands.add_parser(
        "render", parents=[key], help="render one track into the store and copy it to --output"
    )
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
        help=f"Public keys to trust: PEM file or folder (default: that of {signing_key}).",
    )
    check.set_defaults(run=_verify, signing_key=signing_key)

    takedown = commands.add_parser(
        "takedown", parents=[key], help="withdraw tracks for good and delete their audio and MIDI"
    )
    takedown.add_argument("tracks", nargs="*", metavar="TRACK_ID")
    takedown.add_argument("--from", dest="file", metavar="FILE", help="More track ids, one a line; - reads the input.")
    takedown.add_argument("--reason", required=True, help="Why, in one line; kept in the signed tombstone.")
    takedown.add_argument("--actor", required=True, help="Who decided it; kept in the signed tombstone.")
    takedown.add_argument("--store", default=DEFAULT_STORE, help="Folder or s3:// URL (default: %(default)s).")
    takedown.set_defaults(run=_takedown)

    signing = commands.add_parser("signing", help="make the key that records are signed with, or show its id")
    acts = signing.add_subparsers(required=True)
    for name, run, what in (
        ("init", _init_signing, "make a private key and its public key; overwrites nothing"),
        ("show", _show_signing, "print the id of a key"),
    ):
        act = acts.add_parser(name, help=what)
        act.add_argument("--key", default=signing_key, help="File of the private key (default: %(default)s).")
        act.set_defaults(run=run)

    styles = commands.add_parser("styles", help="list the styles and moods a request may name")
    styles.set_defaults(run=_styles)
    return parser


def _render(arguments: argparse.Namespace) -> int:
    cells = {name: getattr(arguments, name) or "" for name in TrackSpec.model_fields if name not in _FILES}
    model = absolute_entry(arguments.model or "composer")
    cells["model"] = public_name(model)
    config = _config(arguments, model)
    have_signing_key(config.signing_key_path, _tell)
    renderer = build_renderer(config, "local", PrometheusRecorder(CollectorRegistry()))
    for name in _FILES:
        if (path := getattr(arguments, name)) is not None:
            cells[name] = renderer.store.put_theme(_read(path, name))
    outcome = renderer.render(TrackSpec.from_text(cells).resolve())
    if isinstance(outcome, Failure):
        print(f"{outcome.code} at {outcome.stage}: {outcome.message}", file=sys.stderr)
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
                "signed_by": renderer.signer.key_id,
                "choices": dict(record.choices),
            },
            indent=2,
        )
    )
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    if arguments.track is None and arguments.record is None:
        raise InvalidRequest.of("track", None, "give a track id, or --record with --audio")
    keys = _keys_to_verify_with(arguments)
    tracks = VerifiedTracks(TrackStore.open(_absolute(arguments.store)), keys, _uncounted())
    track_id = arguments.track
    if arguments.record is not None:
        signed = SignedRecord.from_bytes(_read(arguments.record, "record"))
        verify_record(signed, track_id or signed.record.track_id, signed.record.version or 1, keys)
    else:
        if tombstone := tracks.tombstone(track_id):
            why = f"{_when_and_why(tombstone.withdrawal)} (key {tombstone.signature.key_id})"
            print(f"{track_id}: withdrawn {why}", file=sys.stderr)
            return 1
        found = tracks.newest(track_id)
        if found is None:
            raise NotFound(f"there is no track {shown(track_id)} in {arguments.store}")
        signed = found.signed
    audio = _read(arguments.audio, "audio") if arguments.audio else tracks.store.get_blob(signed.record.audio_key)
    verify(signed, audio, keys)
    print(f"{signed.record.track_id}: audio, record and signature belong together (key {signed.signature.key_id})")
    return 0


def _keys_to_verify_with(arguments: argparse.Namespace) -> dict[str, Ed25519PublicKey]:
    """The keys that were named, or this person's own; a verifier need not have the private key."""
    if arguments.keys is not None:
        return load_trusted_keys(arguments.keys)
    own = Path(arguments.signing_key)
    return trusted_keys(Signer.load(own), None) if own.exists() else load_trusted_keys(public_key_path(own))


def _takedown(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    track_ids = [*arguments.tracks, *(_lines(arguments.file) if arguments.file else ())]
    if not track_ids:
        raise InvalidRequest.of("TRACK_ID", None, "give track ids, or a file of them with --from")
    signer = Signer.load(config.signing_key_path)
    keys = trusted_keys(signer, config.trusted_keys_path)
    taken_down = take_down(
        VerifiedTracks(TrackStore.open(config.store_url), keys, _uncounted()),
        signer,
        track_ids,
        reason=arguments.reason,
        actor=arguments.actor,
        clock=SystemClock(),
    )
    for takedown in taken_down:
        print(_told(takedown))
    _tell(f"signed with key {signer.key_id}: whoever serves this store must trust it")
    return 0


def _init_signing(arguments: argparse.Namespace) -> int:
    path = Path(arguments.key).absolute()
    try:
        signer = Signer.create(path)
    except FileExistsError:
        raise InvalidRequest.of("key", str(path), "is there already; a key is never overwritten") from None
    print(f"key id       {signer.key_id}")
    print(f"private key  {path}   keep it to yourself, and keep a copy: who has it can sign in your name, and without")
    print("             it nothing new can be signed with this id")
    print(f"public key   {public_key_path(path)}   give it to whoever is to verify your tracks")
    return 0


def _show_signing(arguments: argparse.Namespace) -> int:
    path = Path(arguments.key).absolute()
    signer = Signer.load(path)
    print(f"key id       {signer.key_id}\nprivate key  {path}\npublic key   {signer.publish_key(path)}")
    return 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _uncounted() -> PrometheusRecorder:
    """For a process that ends before anybody could read its metrics."""
    return PrometheusRecorder(CollectorRegistry())


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


def _config(arguments: argparse.Namespace, model: str = "composer") -> RenderConfig:
    trusted: Path | None = arguments.trusted_keys
    try:
        return RenderConfig(
            store_url=_absolute(arguments.store),
            signing_key_path=_absolute(arguments.signing_key),
            trusted_keys_path=str(trusted.absolute()) if trusted else None,
            models=(model,),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest.of(
            str((*first["loc"], "signing_key_path")[0]), arguments.signing_key, first["msg"]
        ) from None


def _absolute(store: str) -> str:
    return store if "://" in store else str(Path(store).absolute())


def _read(path: Path, field: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest.of(field, str(path), f"cannot be read: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
