"""`orchestrion styles`: the words that requests may use."""

from __future__ import annotations

import argparse

from orchestrion.tracks.instruments import INSTRUMENTS
from orchestrion.tracks.vocabulary import MOODS, STYLES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing is taken."""
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Print them."""
    print("styles: " + ", ".join(STYLES))
    print("moods: " + ", ".join(MOODS))
    print("instruments: " + ", ".join(INSTRUMENTS))
    return 0
