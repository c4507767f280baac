"""Compares our greedy codes with audiocraft's own, code by code, at the published size.

musicgen-small's geometry (and the melody model's of that width) with random weights, float32, one thread; each piece is
made by audiocraft's own `generate`, alone, and by our engine. There is nothing to time here: audiocraft needs about
0.35 s of a core for a frame, so that the whole program takes it half an hour. `--quick` makes a second of each and no
long piece. Ends in one JSON document with the share of equal codes.

    .venv/bin/python -m benchmarks.parity [--quick] [--out benchmarks/results/parity.json]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.document import publish
from tests.musicgen_checkpoints import PUBLISHED_CODEC, SMALL, lm_geometry, write_audiocraft
from tests.parity.token_cases import Case, Ours, Theirs

GEOMETRIES = {"small": SMALL, "melody at small's width": lm_geometry(1024, 16, 24, melody=True)}
CASES = {
    "text, 10 s": ("small", Case(10.0)),
    "unconditional, 5 s": ("small", Case(5.0, prompt="")),
    "continuation, 2 s and 4 s more": ("small", Case(6.0, continuation_s=2.0)),
    "extension to 40 s": ("small", Case(40.0)),
    "melody, 4 s": ("melody at small's width", Case(4.0, theme_s=6.0)),
}
QUICK_CASES = {
    "text, 1 s": ("small", Case(1.0)),
    "unconditional, 1 s": ("small", Case(1.0, prompt="")),
    "continuation, 1 s and 1 s more": ("small", Case(2.0, continuation_s=1.0)),
    "melody, 1 s": ("melody at small's width", Case(1.0, theme_s=6.0)),
}


def main() -> None:
    """Run every case and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a second of each")
    parser.add_argument("--out", type=Path, help="also write the document to this file")
    arguments = parser.parse_args()
    cases = QUICK_CASES if arguments.quick else CASES
    torch.set_num_threads(1)
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for geometry in dict.fromkeys(name for name, _ in cases.values()):
            place = write_audiocraft(Path(folder) / geometry.replace(" ", "-"), GEOMETRIES[geometry], PUBLISHED_CODEC)
            theirs, ours = Theirs(place), Ours(place)
            for name, (wanted, case) in cases.items():
                if wanted != geometry:
                    continue
                expected, made = theirs.codes(case), ours.codes(case)
                result[name] = {
                    "codes": expected.size,
                    "different_codes": len(set(expected.ravel())),
                    "equal": float((made == expected).mean()),
                }
                print(f"{name}: {result[name]}", flush=True)
            del theirs, ours
    publish({"benchmark": "parity", "baseline": "audiocraft 1.3.0", "tokens_equal": result}, arguments.out)


if __name__ == "__main__":
    main()
