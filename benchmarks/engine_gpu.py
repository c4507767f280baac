"""Measure MusicGen on a GPU: everything that is to be known of a card, the most valuable first, in eight minutes.

    .venv/bin/python -m benchmarks.engine_gpu [--out benchmarks/results/engine_gpu.json] [--seconds 480] [--only NAMES]

Sections, in this order: what a launch, a copy and a barrier cost on this card; gates, whether a row's bits depend on
its company, the tile or the way of loading; whole steps of 1 to 256 requests against the time that reading their
weights and caches takes at the bandwidth of the same run; first audio among others, each request with a new prompt;
products and attention by tile, depth and stages; a long piece and the codec; a piece alone against the official
audiocraft; and the first step once more.

Each section has so much of the time and gives back what it leaves. The document is written after each part of one, so a
run that is cut off has measured something, and the same command goes on with the sections that are missing. A section
that fails says why and stops no other. Weights are random and of the published sizes.

Without CUDA every section runs all the same, on a tiny model: that proves the program and measures nothing ("dry").
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

# The makers of random MusicGens are part of the tests; the checkout's root is not on the path of a script.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.gpu import card, gates, listeners, phases, steps
from benchmarks.gpu.bench import DONE, Bench, OutOfTimeError

SECONDS: Final = 480
#: A section does not begin with less than this left: it could not end.
LEAST_S: Final = 5.0
PACKAGES: Final = ("torch", "triton", "numpy", "orchestrion")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the document: its work yields (name, result) as it goes on."""

    name: str
    #: Of the whole time.
    share: float
    work: Callable[[Bench], Iterator[tuple[str, Any]]]


SECTIONS: Final = (
    Section("card", 0.06, card.measure),
    Section("gates", 0.10, gates.measure),
    Section("steps", 0.27, steps.measure),
    Section("first_audio", 0.20, listeners.measure_first_audio),
    Section("phases", 0.20, phases.measure),
    Section("long_piece_and_codec", 0.05, listeners.measure_long_piece_and_codec),
    Section("audiocraft", 0.10, listeners.measure_audiocraft),
    Section("drift", 0.02, steps.measure_drift),
)


class Document:
    """What was found so far, on disk at any time."""

    def __init__(self, path: Path | None, machine: dict[str, Any]) -> None:
        self._path = path
        self.content: dict[str, Any] = {"machine": machine, "measured": not machine["dry"], "sections": {}}
        if path is not None and path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            # Figures of another card, or of other code, are no part of this run.
            if before.get("machine") == machine:
                self.content = before

    def is_done(self, name: str) -> bool:
        """Whether an earlier run has ended this section."""
        status: str | None = self.content["sections"].get(name, {}).get("status")
        return status == DONE

    def put(self, name: str, entry: dict[str, Any]) -> None:
        """The section as it is now; the file is whole at any moment."""
        self.content["sections"][name] = entry
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            aside = self._path.with_name(self._path.name + ".part")
            aside.write_text(json.dumps(self.content, indent=2) + "\n", encoding="utf-8")
            aside.replace(self._path)


def machine_of(bench: Bench) -> dict[str, Any]:
    """What the figures are of."""
    return {
        "dry": bench.dry,
        "card": bench.card,
        "versions": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "cuda": torch.version.cuda,
        "code": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[1]
    asked = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True)
    return asked.stdout.strip() or None


def run(bench: Bench, document: Document, sections: Sequence[Section], seconds: float) -> None:
    """Each section in its time."""
    began_s, given_s = time.perf_counter(), 0.0
    for section in sections:
        given_s += section.share * seconds
        if document.is_done(section.name):
            bench.say(f"{section.name}: done by an earlier run")
            continue
        started_s = time.perf_counter()
        bench.deadline_s = began_s + given_s
        if bench.deadline_s - started_s < LEAST_S and not bench.dry:
            document.put(section.name, {"status": "skipped", "why": "no time was left", "results": {}})
            continue
        bench.say(section.name)
        entry: dict[str, Any] = {"status": "cut", "why": "the run ended in the middle of it", "results": {}}
        try:
            for name, result in section.work(bench):
                entry["results"][name] = result
                entry["took_s"] = round(time.perf_counter() - started_s, 1)
                bench.say(f"  {name}: {json.dumps(result)[:160]}")
                document.put(section.name, entry)
                if time.perf_counter() > bench.deadline_s and not bench.dry:
                    raise OutOfTimeError
            entry |= {"status": DONE, "why": None}
        except OutOfTimeError:
            entry |= {"status": "cut", "why": "its time was over"}
        except Exception as error:  # Whatever it is, the next section may go well.
            entry |= {"status": "failed", "why": f"{type(error).__name__}: {error}"[:2000]}
        document.put(section.name, entry)
        bench.free()
        bench.say(f"{section.name}: {entry['status']}" + (f", {entry['why']}" if entry["why"] else ""))


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run it; the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the JSON there, after each part, and go on from it")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all sections together")
    parser.add_argument("--only", help="sections by name, with commas between them")
    parser.add_argument("--quick", action="store_true", help="a quarter of the time")
    parser.add_argument("--dry", action="store_true", help="on the CPU with a tiny model, also where there is a card")
    options = parser.parse_args(arguments)
    names = options.only.split(",") if options.only else [section.name for section in SECTIONS]
    unknown = set(names) - {section.name for section in SECTIONS}
    if unknown:
        parser.error(f"no section is called {', '.join(sorted(unknown))}")
    dry = options.dry or not torch.cuda.is_available()
    if dry:
        # Before anything imports Triton.
        os.environ.setdefault("TRITON_INTERPRET", "1")
        print("No card is measured: a dry run on the CPU with a tiny model.", file=sys.stderr)
    seconds = options.seconds / 4 if options.quick else options.seconds
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench.of_this_machine(dry, Path(folder))
        document = Document(options.out, machine_of(bench))
        run(bench, document, [section for section in SECTIONS if section.name in names], seconds)
    return document.content


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
