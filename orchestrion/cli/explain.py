"""`orchestrion explain`: what a prompt is understood to ask for, and what is not followed. Nothing is rendered."""

from __future__ import annotations

import argparse
import json

from orchestrion.tracks.intent.intent import Intent
from orchestrion.tracks.spec import TrackSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("prompt", help="What the music should be, in your own words.")
    parser.add_argument("--json", action="store_true", help="One JSON object, as a track's record has it.")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read it, and say so."""
    intent = TrackSpec.from_json({"prompt": arguments.prompt}).resolve().intent
    if arguments.json:
        print(json.dumps(intent.values(), ensure_ascii=False, indent=2))
        return 0
    for line in lines(intent):
        print(line)
    return 0


def lines(intent: Intent) -> list[str]:
    """What people read of an intent."""
    told = [f"{reading.field}: {shown(reading.value)}  ({reading.words.text!r})" for reading in intent.readings]
    told += [f"not followed: {said.words.text!r}: {said.why}" for said in intent.not_followed]
    told += [
        f"does not go together ({conflict.field}): " + " and ".join(repr(words.text) for words in conflict.words)
        for conflict in intent.conflicts
    ]
    told += [f"not understood: {words.text!r}" for words in intent.not_understood]
    return told or ["nothing is asked for: the model chooses everything"]


def shown(value: object) -> str:
    """A value as people write it."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
