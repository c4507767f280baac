"""`orchestrion catalog …`: what is done with the catalogs of a ledger.

The command's front reads this file to show what there is. It loads nothing: what a command needs comes with it.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Final

PURPOSE: Final = "get the tracks of catalog jobs as files"
#: Every command below it, what it is for, and the module that takes its arguments.
COMMANDS: Final = {"export": ("copy tracks to a folder or bucket, under names for people", "batch_jobs.export_catalog")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (purpose, module) in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
        import_module(module).add_arguments(command)
