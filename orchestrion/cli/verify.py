"""`orchestrion verify`: whether audio, record and signature belong together.

Files are verified by what every installation has. Only what is to be looked up in a store needs the store's code.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrion.cli.arguments import absolute, add_storage_options, add_store, own_signing_key, read
from orchestrion.errors import InvalidRequest, NotFound, shown
from orchestrion.trust.signature import load_trusted_keys, public_key_path
from orchestrion.trust.signed_record import SignedRecord, verify, verify_record
from orchestrion.trust.signing import Signer
from orchestrion.trust.signing_keys import trusted_keys

if TYPE_CHECKING:
    from orchestrion.storage.verified_tracks import VerifiedTracks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    signing_key = own_signing_key()
    parser.add_argument("track", nargs="?", help="Track id in --store.")
    add_store(parser)
    add_storage_options(parser)
    parser.add_argument("--audio", type=Path, help="Audio file to verify instead of the store's.")
    parser.add_argument("--record", type=Path, help="Signed record (JSON) to verify instead of the store's.")
    parser.add_argument(
        "--keys",
        type=Path,
        help=f"Public keys to trust: PEM file or folder (default: that of {signing_key}).",
    )
    parser.set_defaults(run=run, signing_key=signing_key)


def run(arguments: argparse.Namespace) -> int:
    """Verify, and say so."""
    if arguments.track is None and arguments.record is None:
        raise InvalidRequest.of("track", None, "give a track id, or --record with --audio")
    keys = _keys_to_verify_with(arguments)
    track_id = arguments.track
    if arguments.record is not None:
        signed = SignedRecord.from_bytes(read(arguments.record, "record"))
        verify_record(signed, track_id or signed.record.track_id, signed.record.version or 1, keys)
    else:
        tracks = _stored_tracks(arguments, keys)
        if tombstone := tracks.tombstone(track_id):
            withdrawal = tombstone.withdrawal
            print(f"{track_id}: {withdrawal.describe()} (key {tombstone.signature.key_id})", file=sys.stderr)
            return 1
        found = tracks.newest(track_id)
        if found is None:
            raise NotFound(f"there is no track {shown(track_id)} in {arguments.store}")
        signed = found.signed
    if arguments.audio is not None:
        audio = read(arguments.audio, "audio")
    else:
        audio = _stored_tracks(arguments, keys).store.get_blob(signed.record.audio_key)
    verify(signed, audio, keys)
    print(f"{signed.record.track_id}: audio, record and signature belong together (key {signed.signature.key_id})")
    return 0


def _stored_tracks(arguments: argparse.Namespace, keys: dict[str, Ed25519PublicKey]) -> VerifiedTracks:
    from orchestrion.storage.track_store import TrackStore
    from orchestrion.storage.verified_tracks import VerifiedTracks
    from orchestrion.telemetry.metrics import Uncounted

    store = TrackStore.open(absolute(arguments.store), arguments.storage_options)
    return VerifiedTracks(store, keys, Uncounted())


def _keys_to_verify_with(arguments: argparse.Namespace) -> dict[str, Ed25519PublicKey]:
    """The keys that were named, or this person's own; a verifier need not have the private key."""
    if arguments.keys is not None:
        return load_trusted_keys(arguments.keys)
    own = Path(arguments.signing_key)
    return trusted_keys(Signer.load(own), None) if own.exists() else load_trusted_keys(public_key_path(own))
