"""Whole steps, from the host's numbers to the codes on the host, against the time that reading takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.card import bandwidth
from orchestrion.models.musicgen.decoder.decoder import Condition, Draws, Precision, Rows
from orchestrion.models.musicgen.decoder.pytorch.torch_decoder import FP8_CAPABILITY, TorchDecoder, memory_bytes
from orchestrion.models.musicgen.geometry import LmGeometry
from orchestrion.models.musicgen.weights import LmWeights

#: Half of a ten-second piece, and two thirds of a window.
CONTEXTS: Final = (250, 1000)
STEPS: Final = 50
#: Tokens of a prompt of some ten words.
TEXT: Final = 12
GUIDANCE: Final = 3.0
FRAME_MS: Final = 20.0
WEIGHT_BYTES: Final = {Precision.FP32: 4, Precision.BF16: 2, Precision.FP8: 1}


def step_bytes(geometry: LmGeometry, precision: Precision, batch: int, context: int) -> float:
    """What a step must read: weights once, and each stream's keys and values; null streams hear no text."""
    active_bytes = 4 if precision is Precision.FP32 else 2
    # Text keys and values are kept, so of the four matrices of cross-attention two are read.
    layer = (6 * geometry.dim + 2 * geometry.ffn_dim) * geometry.dim
    weights = geometry.layers * layer + geometry.codebooks * geometry.card * geometry.dim
    places = batch * (2 * context + TEXT) * 2 * geometry.layers * geometry.dim
    return weights * WEIGHT_BYTES[precision] + places * active_bytes


def rows_of(batch: int, geometry: LmGeometry, position: int) -> Rows:
    """One column of each slot."""
    slots = np.arange(batch)
    return Rows(slots, np.full(batch, position), np.full((batch, geometry.codebooks), geometry.card), slots)


def draws_of(batch: int, column: int) -> Draws:
    """Drawn as MusicGen is published: among the 250 likeliest."""
    return Draws(
        seed=np.arange(batch, dtype=np.uint64),
        column=np.full(batch, column),
        temperature=np.ones(batch, np.float32),
        top_k=np.full(batch, 250),
        top_p=np.zeros(batch, np.float32),
    )


def step_ms(decoder: TorchDecoder, batch: int, context: int, steps: int) -> tuple[float, bool]:
    """Median of so many steps; and whether the last one's codes are those of an eager step."""
    geometry, times_ms = decoder.geometry, []
    for n in range(steps + 3):
        # As if the columns before had been fed, which would take longer than all that is measured; they are zero.
        rows, draws = rows_of(batch, geometry, context + n), draws_of(batch, n)
        started_s = time.perf_counter()
        codes = decoder.step(rows, draws)
        times_ms.append(1e3 * (time.perf_counter() - started_s))
    # Wanted in another order, the same columns are not a graph's business and run eagerly.
    backwards = decoder.step(
        replace(rows, wanted=rows.wanted[::-1].copy()), replace(draws, seed=draws.seed[::-1].copy())
    )
    return statistics.median(times_ms[3:]), np.array_equal(codes, backwards[::-1])


def step_row(
    bench: Bench,
    geometry: LmGeometry,
    weights: LmWeights,
    precision: Precision,
    batch: int,
    context: int,
    bytes_per_s: float,
) -> dict[str, Any] | None:
    """Of so many requests at once; None if the card has no room for them."""
    steps = bench.sized(STEPS, 2)
    positions = context + steps + 16
    bench.free()
    if not bench.dry and memory_bytes(geometry, batch, positions, 256, precision) > 0.9 * torch.cuda.mem_get_info()[0]:
        return None
    decoder = TorchDecoder(
        geometry, weights, slots=batch, max_positions=positions, max_rows=256, precision=precision, device=bench.device
    )
    states = np.random.default_rng(0).normal(size=(TEXT, geometry.dim)).astype(np.float32)
    for slot in range(batch):
        decoder.bind(slot, Condition(states, None, None, None, GUIDANCE))
    took_ms, same = step_ms(decoder, batch, context, steps)
    decoder.close()
    least_ms = 1e3 * step_bytes(geometry, precision, batch, context) / bytes_per_s
    return {
        "ms_per_step": round(took_ms, 4),
        "least_ms": round(least_ms, 4),
        "roofline_fraction": round(least_ms / took_ms, 3),
        "real_time_factor": round(batch * FRAME_MS / took_ms, 1),
        "graph_draws_the_eager_step_s_codes": same,
    }


def plan(bench: Bench) -> list[tuple[str, Precision, int, tuple[int, ...]]]:
    """(model, precision, context, batches), the most wanted first."""
    if bench.dry:
        return [("small", Precision.FP32, 20, (1, 2)), ("large", Precision.FP32, 20, (1,))]
    has_fp8 = torch.cuda.get_device_capability() >= FP8_CAPABILITY
    near, far = CONTEXTS
    rows = [
        ("small", Precision.BF16, near, (1, 16, 64, 4, 2, 8, 32, 128, 256)),
        ("small", Precision.BF16, far, (1, 16, 64)),
        ("large", Precision.BF16, near, (1, 16, 64)),
    ]
    return rows + [("small", Precision.FP8, near, (1, 16, 64))] * has_fp8


def measure(bench: Bench) -> Iterator[tuple[str, Any]]:
    """See `engine_gpu.Section`."""
    bytes_per_s = 1e9 * bandwidth(bench)["copy"]
    loaded: tuple[str, LmWeights] | None = None
    for model, precision, context, batches in plan(bench):
        geometry = bench.small if model == "small" else bench.large
        if loaded is None or loaded[0] != model:
            loaded = model, bench.weights(geometry)
        took: dict[int, float] = {}
        for batch in batches:
            row = step_row(bench, geometry, loaded[1], precision, batch, context, bytes_per_s)
            if row is not None:
                took[batch] = row["ms_per_step"]
            yield f"{model} in {precision} after {context}, {batch} at once", row or "the card has no room for these"
            if not bench.time_left():
                return
        ordered = [took[batch] for batch in sorted(took)]
        yield (
            f"{model} in {precision} after {context}: more requests take no less time",
            all(later > 0.9 * earlier for earlier, later in pairwise(ordered)),
        )


def measure_drift(bench: Bench) -> Iterator[tuple[str, Any]]:
    """The first step of all once more: how far the card's clock has moved since."""
    bytes_per_s = 1e9 * bandwidth(bench)["copy"]
    weights = bench.weights(bench.small)
    context = bench.sized(CONTEXTS[0], 20)
    row = step_row(bench, bench.small, weights, bench.precision, 1, context, bytes_per_s)
    yield f"small in {bench.precision} after {context}, 1 at once", row
