"""`orchestrion render`: one track, made in this process or by a service."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from orchestrion.cli.arguments import add_keys, add_storage_options, add_store, read, render_config, tell
from orchestrion.tracks.spec import TrackSpec

if TYPE_CHECKING:
    from orchestrion.tracks.record import TrackRecord

#: Fields of a request that are given as files here.
_FILES: Final[dict[Literal["theme", "continuation"], str]] = {
    "theme": "Audio or MIDI file with the theme melody.",
    "continuation": "Audio file that the track begins with and goes on from.",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes: every field of a request, and where it is rendered."""
    add_keys(parser)
    parser.add_argument("prompt")
    for name, field in TrackSpec.model_fields.items():
        if name not in ("prompt", *_FILES):
            parser.add_argument("--" + name.replace("_", "-"), metavar="VALUE", help=field.description)
    for name, what in _FILES.items():
        parser.add_argument("--" + name, type=Path, metavar="FILE", help=what)
    place = parser.add_mutually_exclusive_group()
    add_store(place)
    add_storage_options(parser)
    place.add_argument(
        "--server",
        metavar="URL",
        help="Have a service render it, e.g. http://127.0.0.1:8000. With --trusted-keys what comes is verified.",
    )
    parser.add_argument("--output", type=Path, help="Where to copy the audio; its folder must exist.")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Render, and print what came of it as JSON."""
    cells = {name: getattr(arguments, name) or "" for name in TrackSpec.model_fields if name not in _FILES}
    return _at_a_service(arguments, cells) if arguments.server else _here(arguments, cells)


def _here(arguments: argparse.Namespace, cells: dict[str, str]) -> int:
    from orchestrion.models.registry import absolute_entry, public_name
    from orchestrion.rendering.renderer import build_renderer
    from orchestrion.tracks.outcome import Failure
    from orchestrion.trust.signing_keys import have_signing_key

    model = absolute_entry(arguments.model or "composer")
    cells["model"] = public_name(model)
    config = render_config(arguments, model)
    have_signing_key(config.signing_key_path, tell)
    renderer = build_renderer(config)
    for name in _FILES:
        if (path := getattr(arguments, name)) is not None:
            cells[name] = renderer.store.put_theme(read(path, name))
    outcome = renderer.render(TrackSpec.from_text(cells).resolve())
    if isinstance(outcome, Failure):
        print(f"{outcome.code} at {outcome.stage}: {outcome.message}", file=sys.stderr)
        return 1
    if arguments.output is not None:
        arguments.output.write_bytes(renderer.store.get_blob(outcome.record.audio_key))
    audio = str(arguments.output or f"{arguments.store}/{outcome.record.audio_key}")
    _print(outcome.record, outcome.cache_hit, audio, renderer.signer.key_id)
    return 0


def _at_a_service(arguments: argparse.Namespace, cells: dict[str, str]) -> int:
    from orchestrion.client import Client
    from orchestrion.trust.signature import load_trusted_keys

    keys = None if arguments.trusted_keys is None else load_trusted_keys(arguments.trusted_keys)
    with Client(arguments.server, trusted_keys=keys) as client:
        # What is wrong with the words is said before anything is uploaded.
        TrackSpec.from_text(cells).resolve()
        for name in _FILES:
            if (path := getattr(arguments, name)) is not None:
                cells[name] = client.upload(read(path, name), name).reference
        made = client.create(TrackSpec.from_text(cells))
        signed = client.provenance(made.track_id)
        if arguments.output is not None:
            client.save_audio(made.track_id, arguments.output)
    if keys is None:
        tell("nothing was verified; give the service's public key with --trusted-keys")
    audio = str(arguments.output or arguments.server.rstrip("/") + f"/v1/tracks/{made.track_id}/audio")
    _print(signed.record, made.cache_hit, audio, signed.signature.key_id)
    return 0


def _print(record: TrackRecord, cache_hit: bool, audio: str, key_id: str) -> None:
    told = {
        "track_id": record.track_id,
        "cache_hit": cache_hit,
        "audio": audio,
        "loudness_lufs": record.measured_loudness_lufs,
        "cost_usd": record.cost_usd,
        "signed_by": key_id,
        "choices": dict(record.choices),
    }
    print(json.dumps(told, indent=2))
