"""The `orchestrion` command: tracks are rendered, verified and taken down from a terminal.

Each command is a module beside this one and is imported when it is the one that is called: `--help` answers at once,
and a command works wherever what it needs is installed, whatever the others need. Other packages bring more of them:
modules that the entry points of `PLUG_INS` name. This package imports none of theirs by itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from orchestrion.cli.reader_gone import ending_quietly
from orchestrion.errors import InvalidRequest, OrchestrionError

#: Every command, a module of this folder, and what it is for. Its `add_arguments(parser)` says what it takes, and that
#: sets `run` to what does it.
COMMANDS: Final = {
    "render": "render one track, here or at a service, and copy it to --output",
    "verify": "verify a stored track, or files, against the signed record",
    "takedown": "withdraw tracks for good and delete their audio and MIDI",
    "signing": "make the key that records are signed with, or show its id",
    "explain": "say what a prompt is understood to ask for, and what is not followed",
    "styles": "list the styles and moods a request may name",
}
#: The group of entry points that add commands. Each names a module with `PURPOSE`, what the command is for, and
#: `add_arguments(parser)`, as above. All of them are imported to show what there is, so they import nothing heavy.
PLUG_INS: Final = "orchestrion.commands"
#: Modules that an extra of the package brings, by the extra; what is not listed comes with `render`.
_BROUGHT_BY: Final = {
    "duckdb": "batch",
    "fsspec": "batch",
    "httpx": "client",
    "huggingface_hub": "musicgen",
    "llvmlite": "musicgen",
    "numba": "musicgen",
    "omegaconf": "musicgen",
    "pyarrow": "batch",
    "rich": "batch",
    "s3fs": "batch",
    "safetensors": "musicgen",
    "torch": "musicgen",
    "transformers": "musicgen",
}
#: Modules that pip does not bring with any extra: docs/decisions/0002-lock-and-nodeps.md.
_APART: Final = ("audiocraft", "tinysoundfont")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when it did what was asked; 1 when a track failed or does not verify; 2 for bad input, or where something
        that the command needs is not installed; 141 where nobody reads on.
    """
    return ending_quietly(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: Sequence[str]) -> int:
    try:
        arguments = _parser(argv[0] if argv else "").parse_args(argv)
        return int(arguments.run(arguments))
    except InvalidRequest as error:
        for problem in error.problems:
            print(f"{problem.field}: {problem.message} (got {problem.value})", file=sys.stderr)
        return 2
    except OrchestrionError as error:
        print(error, file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in ("", "orchestrion"):
            raise
        print(f"orchestrion {argv[0]}: {_how_to_get(missing, argv[0])}", file=sys.stderr)
        return 2


def _parser(called: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="orchestrion", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
        if name == called:
            import_module(f"orchestrion.cli.{name}").add_arguments(command)
    if called not in COMMANDS:
        _add_plug_ins(commands, called)
    return parser


def _add_plug_ins(commands: argparse._SubParsersAction[argparse.ArgumentParser], called: str) -> None:
    """The commands that other packages bring. One that cannot be loaded says so, and stops no other."""
    # Looked for only where no command of our own is called: reading what is installed takes time.
    from importlib.metadata import entry_points

    # Of two installations of one package the first on the path counts.
    found = {entry.name: entry for entry in reversed(tuple(entry_points(group=PLUG_INS))) if entry.name not in COMMANDS}
    for name, entry in sorted(found.items()):
        try:
            module = entry.load()
            purpose = str(module.PURPOSE)
        except Exception as error:
            if name == called:
                raise
            purpose = f"cannot be loaded: {type(error).__name__}"
            module = None
        purpose = purpose.replace("%", "%%")
        command = commands.add_parser(name, help=purpose, description=purpose[:1].upper() + purpose[1:] + ".")
        if name == called and module is not None:
            module.add_arguments(command)


def _how_to_get(module: str, command: str) -> str:
    if module in _APART:
        return f"needs {module}; pip install --no-deps {module}, at the version in requirements-nodeps.txt"
    if module not in _BROUGHT_BY and command not in COMMANDS:
        return f"needs {module}, which is not installed"
    extra = _BROUGHT_BY.get(module, "render")
    return f"needs orchestrion[{extra}] ({module} is not installed); pip install 'orchestrion[{extra}]'"


if __name__ == "__main__":
    sys.exit(main())
