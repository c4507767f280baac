"""`orchestrion signing`: the key that records are signed with, made or shown."""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrion.cli.arguments import own_signing_key
from orchestrion.errors import InvalidRequest
from orchestrion.trust.signature import public_key_path
from orchestrion.trust.signing import Signer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    acts = parser.add_subparsers(required=True)
    for name, run, what in (
        ("init", _init, "make a private key and its public key; overwrites nothing"),
        ("show", _show, "print the id of a key"),
    ):
        act = acts.add_parser(name, help=what)
        act.add_argument("--key", default=own_signing_key(), help="File of the private key (default: %(default)s).")
        act.set_defaults(run=run)


def _init(arguments: argparse.Namespace) -> int:
    path = Path(arguments.key).absolute()
    try:
        signer = Signer.create(path)
    except FileExistsError:
        raise InvalidRequest.of("key", str(path), "is there already; a key is never overwritten") from None
    print(f"key id       {signer.key_id}")
    print(f"private key  {path}   keep it to yourself, and keep a copy: who has it can sign in your name, and without")
    print("             it nothing new can be signed with this id")
    print(f"public key   {public_key_path(path)}   give it to all who are to verify your tracks")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    path = Path(arguments.key).absolute()
    signer = Signer.load(path)
    print(f"key id       {signer.key_id}\nprivate key  {path}\npublic key   {signer.publish_key(path)}")
    return 0
