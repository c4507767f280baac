"""Measure each way of multiplying bytes that this CPU has, and bf16 beside them, to see whether `auto` is right.

    .venv/bin/python -m benchmarks.byte_products [--out benchmarks/results/byte_products.json] [--quick]

One thread multiplies 1, 2 and 16 rows of 1,024 inputs with panels of packed weights, once with more of them than any
cache holds and once with a few that stay in the second-level cache: what memory allows, and what arithmetic allows. All
ways take turns; a speed-up is the median of the ratios within each round, to one byte at a time and to bf16.

The measurement is checked: all ways must give the same bits.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt

from benchmarks.document import publish
from orchestrion.models.musicgen.decoder.cpu.linear import aligned_bytes, fastest_precision, panel_bytes, row_bytes
from orchestrion.models.musicgen.native import emitter, products

INPUTS: Final = 1024
ROWS: Final = (1, 2, 16)
WEIGHTS: Final = {"beyond the caches": 48 << 20, "in the second-level cache": 192 << 10}
#: Multiplied in one turn, so that a turn is long enough to be timed.
WORK: Final = 48 << 20
PLAIN, FLOATS = "int8, one byte at a time", "bf16"


@dataclass(frozen=True, slots=True)
class Way:
    """A kind of packed weights, and the kernel that multiplies with them."""

    kind: int
    inputs_of_a_step: int
    product: Callable[..., Any]


def ways() -> dict[str, Way]:
    """All that this CPU can run, by name."""
    dots: dict[str, emitter.Dot] = {"one byte at a time": products.dot_plain}
    if emitter.TARGET.is_x86:
        dots |= {name: dot for name, dot in products.X86_DOTS.items() if emitter.TARGET.has(name)}
    if emitter.TARGET.is_arm:
        dots |= {name: dot for name, dot in products.ARM_DOTS.items() if emitter.TARGET.has(name)}
    panel, group = emitter.PANEL, emitter.GROUP
    found = {FLOATS: Way(emitter.BF16, 2, products.product(products.bf16_step, 8, 4 * panel, emitter.FLOATS))}
    for name, dot in dots.items():
        int8 = products.product(products.int8_step(dot), 4, 4 * panel, emitter.INTS)
        int4 = products.product(products.int4_step(dot), 4 + group, (group // 2 + 2) * panel, emitter.FLOATS)
        found[f"int8, {name}"] = Way(emitter.INT8, 4, int8)
        found[f"int4, {name}"] = Way(emitter.INT4, group, int4)
    return found


class Turn:
    """One way with one set of weights."""

    def __init__(self, way: Way, weights_bytes: int) -> None:
        product, steps = way.product, INPUTS // way.inputs_of_a_step
        self._panel = panel_bytes(way.kind, INPUTS)
        self._panels = max(1, weights_bytes // self._panel)
        self._repeats = max(1, WORK // (self._panels * emitter.PANEL * INPUTS))
        self._weights = aligned_bytes(self._panels * self._panel)
        generator = np.random.default_rng(0)
        # Of bf16 as of bytes: small exponents, no infinities.
        self._weights[:] = generator.integers(0, 60, len(self._weights), dtype=np.uint8)
        self._rows = np.zeros((max(ROWS), row_bytes(way.kind, INPUTS)), np.uint8)
        if way.kind != emitter.BF16:
            self._rows[:] = generator.integers(0, 60, self._rows.shape, dtype=np.uint8)
        self.out = np.zeros((max(ROWS), emitter.PANEL), np.float32)

        @numba.njit(nogil=True)
        def run(x: int, stride: int, rows: int, weights: int, panel: int, panels: int, repeats: int, out: int) -> None:
            for _ in range(repeats):
                for index in range(panels):
                    product(x, stride, rows, weights + index * panel, steps, emitter.PREFETCH_BYTES, out)

        self._run = run

    def ms(self, rows: int) -> float:
        """CPU milliseconds for a million weights."""
        x, weights, out = self._rows.ctypes.data, self._weights.ctypes.data, self.out.ctypes.data
        started_s = time.thread_time()
        self._run(x, self._rows.strides[0], rows, weights, self._panel, self._panels, self._repeats, out)
        took_s = time.thread_time() - started_s
        return 1e9 * took_s / (self._repeats * self._panels * emitter.PANEL * INPUTS)


def measure(rounds: int) -> dict[str, Any]:
    """Every way by turns."""
    found: dict[str, Any] = {}
    for place, weights_bytes in WEIGHTS.items():
        turns = {name: Turn(way, weights_bytes) for name, way in ways().items()}
        found[place] = {}
        for rows in ROWS:
            times_ms: dict[str, list[float]] = {name: [] for name in turns}
            for number in range(rounds + 1):
                for name, turn in turns.items():
                    took_ms = turn.ms(rows)
                    if number:  # The first compiles.
                        times_ms[name].append(took_ms)
            check_bits({name: turn.out[:rows].copy() for name, turn in turns.items()})
            found[place][f"{rows} rows"] = {
                name: {
                    "ms_per_million_weights": round(statistics.median(times), 4),
                    "vs_one_byte_at_a_time": ratio(times_ms[baseline(name)], times),
                    "vs_bf16": ratio(times_ms[FLOATS], times),
                }
                for name, times in times_ms.items()
            }
    return found


def baseline(name: str) -> str:
    """One byte at a time in the same precision; of bf16, in int8."""
    return PLAIN if name == FLOATS else f"{name.split(',')[0]}, one byte at a time"


def ratio(slow_ms: list[float], quick_ms: list[float]) -> float:
    """How many times quicker, within each round."""
    return round(statistics.median(slow / quick for slow, quick in zip(slow_ms, quick_ms, strict=True)), 2)


def check_bits(outs: dict[str, npt.NDArray[np.float32]]) -> None:
    """All ways of a precision must end with the same numbers."""
    for name, out in outs.items():
        if name != FLOATS and not (out.any() and np.array_equal(out, outs[baseline(name)])):
            raise SystemExit(f"{name} makes other numbers than one byte at a time: nothing here can be trusted")


def main() -> None:
    """Measure, end in one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the JSON document here")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    options = parser.parse_args()
    document = {
        "cpu": {"name": emitter.TARGET.cpu, "machine": platform.machine()},
        "auto": fastest_precision(),
        "kernel": next(name for name, way in {**products.X86_DOTS, **products.ARM_DOTS}.items() if way is products.DOT)
        if products.BYTES_ARE_FAST
        else "one byte at a time",
        "products": measure(3 if options.quick else 15),
    }
    publish(document, options.out)


if __name__ == "__main__":
    main()
