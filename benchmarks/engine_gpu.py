"""Measure MusicGen on a GPU: how near a step comes to the card's memory bandwidth, and what a listener waits for.

    .venv/bin/python -m benchmarks.engine_gpu [--out benchmarks/results/engine_gpu.json] [--quick]

Three questions, with random weights of the published sizes. How long is a decoding step for 1 to 256 requests at once,
against the time that reading its weights, keys and values takes at the bandwidth measured in the same run? How long
does a ten-second piece take alone, against the official audiocraft on the same checkpoint? And how long does a
newcomer wait for the first audio while 63 others play?

The measurement is checked: more requests must not take less time, and an eager step must draw the graph's codes. On a
machine without CUDA it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

# The makers of random MusicGens are part of the tests; the checkout's root is not on the path of a script.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from orchestrion.clock import SystemClock
from orchestrion.models import ModelSettings, load_model
from orchestrion.models.musicgen.decoder import Condition, Draws, Precision, Rows
from orchestrion.models.musicgen.geometry import LmGeometry
from orchestrion.models.musicgen.torch_decoder import FP8_CAPABILITY, TorchDecoder, memory_bytes
from orchestrion.models.musicgen.weights import LmWeights
from orchestrion.models.protocol import Conditioning, MusicModel, Performance
from tests.musicgen_checkpoints import PUBLISHED_CODEC, SMALL, lm_geometry, random_lm, write_audiocraft

DEVICE: Final = "cuda"
GEOMETRIES: Final = {"small": SMALL, "large": lm_geometry(2048, 32, 48)}
BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
#: Half of a ten-second piece: the mean length of its cache.
CONTEXT: Final = 250
STEPS: Final = 50
#: Tokens of a prompt of some ten words.
TEXT: Final = 12
GUIDANCE: Final = 3.0
FRAME_MS: Final = 20.0
PIECE_S: Final = 10.0
STREAMS: Final = 64
NEWCOMERS: Final = 100
COPY_BYTES: Final = 1 << 31
STARTED_S: Final = time.perf_counter()


def say(text: str) -> None:
    """How far it is, with the seconds since the start, on standard error."""
    print(f"{time.perf_counter() - STARTED_S:6.1f} s  {text}", file=sys.stderr, flush=True)


def copied_bytes_per_s() -> float:
    """What the card's memory moves: the best of ten copies, bytes read and written."""
    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    times_s = []
    for _ in range(11):
        torch.cuda.synchronize()
        started_s = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize()
        times_s.append(time.perf_counter() - started_s)
    return 2 * COPY_BYTES / min(times_s[1:])


def random_weights(geometry: LmGeometry) -> LmWeights:
    """Layers that are all alike, on the card: a decoder copies each of them, and a step reads all copies."""

    def moved(part: Any) -> Any:  # noqa: ANN401 (a tensor, or dataclasses and tuples of such)
        if isinstance(part, torch.Tensor):
            return part.to(DEVICE)
        if is_dataclass(part) and not isinstance(part, type):
            return replace(part, **{field.name: moved(getattr(part, field.name)) for field in fields(part)})
        return part

    weights = random_lm(replace(geometry, layers=1))
    (layer,) = weights.layers
    return replace(moved(weights), layers=(moved(layer),) * geometry.layers)


def step_bytes(geometry: LmGeometry, precision: Precision, batch: int) -> float:
    """What a step must read: weights once, and each stream's keys and values; null streams hear no text."""
    weight_bytes = {Precision.FP32: 4, Precision.BF16: 2, Precision.FP8: 1}[precision]
    active_bytes = 4 if precision is Precision.FP32 else 2
    # Text keys and values are kept, so of the four matrices of cross-attention two are read.
    layer = (6 * geometry.dim + 2 * geometry.ffn_dim) * geometry.dim
    weights = geometry.layers * layer + geometry.codebooks * geometry.card * geometry.dim
    places = batch * (2 * CONTEXT + TEXT) * 2 * geometry.layers * geometry.dim
    return weights * weight_bytes + places * active_bytes


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


def step_ms(decoder: TorchDecoder, batch: int, steps: int) -> float:
    """Median of so many steps, each from the host's numbers to the codes on the host."""
    geometry, times_ms = decoder.geometry, []
    for n in range(steps + 3):
        # As if the columns before had been fed, which would take longer than all that is measured; they are zero.
        rows, draws = rows_of(batch, geometry, CONTEXT + n), draws_of(batch, n)
        started_s = time.perf_counter()
        codes = decoder.step(rows, draws)
        times_ms.append(1e3 * (time.perf_counter() - started_s))
    # Wanted in another order, the same columns are not a graph's business and run eagerly.
    backwards = decoder.step(
        replace(rows, wanted=rows.wanted[::-1].copy()), replace(draws, seed=draws.seed[::-1].copy())
    )
    if not np.array_equal(codes, backwards[::-1]):
        raise SystemExit("the graph's codes are not those of an eager step: nothing here can be trusted")
    return statistics.median(times_ms[3:])


def ladder(
    name: str, geometry: LmGeometry, weights: LmWeights, precision: Precision, bytes_per_s: float, quick: bool
) -> Iterator[dict[str, float]]:
    """A row for each batch that the card has room for."""
    rng = np.random.default_rng(0)
    positions = CONTEXT + STEPS + 16
    for batch in BATCHES[:3] if quick else BATCHES:
        torch.cuda.empty_cache()
        free_bytes, _ = torch.cuda.mem_get_info()
        if memory_bytes(geometry, batch, positions, 256, precision) > 0.9 * free_bytes:
            return
        decoder = TorchDecoder(
            geometry, weights, slots=batch, max_positions=positions, max_rows=256, precision=precision, device=DEVICE
        )
        heard = Condition(rng.normal(size=(TEXT, geometry.dim)).astype(np.float32), None, None, None, GUIDANCE)
        for slot in range(batch):
            decoder.bind(slot, heard)
        took_ms = step_ms(decoder, batch, 10 if quick else STEPS)
        decoder.close()
        least_ms = 1e3 * step_bytes(geometry, precision, batch) / bytes_per_s
        say(f"{name} in {precision}, {batch} at once: {took_ms:.2f} ms a step, at least {least_ms:.2f}")
        yield {
            "batch": batch,
            "ms_per_step": took_ms,
            "least_ms": least_ms,
            "roofline_fraction": least_ms / took_ms,
            "real_time_factor": batch * FRAME_MS / took_ms,
        }


def piece(seed: int, duration_s: float = PIECE_S) -> Conditioning:
    """A request in ten words."""
    words = "a slow piano over warm strings, rain on the window"
    return Conditioning(words, "", None, None, None, None, duration_s, seed, None)


def loaded(folder: Path, official: bool, slots: int) -> MusicModel:
    """The checkpoint in ours or in the official audiocraft."""
    entry = f"audiocraft:{folder}" if official else str(folder)
    return load_model(entry, ModelSettings(device=DEVICE, slots=slots, threads=4), SystemClock())


def piece_s(model: MusicModel) -> float:
    """Seconds for one piece alone, from the prompt to the audio; the second of two."""
    for seed in range(2):
        started_s = time.perf_counter()
        model.generate([piece(seed)])
        took_s = time.perf_counter() - started_s
    return took_s


def waits_ms(model: MusicModel, newcomers: int) -> list[float]:
    """What each newcomer waits for its first audio while all other slots play."""

    def playing(seed: int) -> Performance:
        performance = model.perform(piece(seed, duration_s=30.0))
        next(performance.chunks)
        return performance

    others = [playing(seed) for seed in range(STREAMS - 1)]
    times_ms = []
    for seed in range(newcomers):
        # Somebody leaves, somebody comes, so that all are at different places.
        others[seed % len(others)].chunks.close()
        started_s = time.perf_counter()
        others[seed % len(others)] = playing(1000 + seed)
        times_ms.append(1e3 * (time.perf_counter() - started_s))
    return times_ms


def measure(quick: bool) -> dict[str, Any]:
    """Everything."""
    bytes_per_s = copied_bytes_per_s()
    precisions = [Precision.BF16]
    if torch.cuda.get_device_capability() >= FP8_CAPABILITY:
        precisions.append(Precision.FP8)
    steps: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name, geometry in list(GEOMETRIES.items())[: 1 if quick else None]:
        weights = random_weights(geometry)
        steps[name] = {p: list(ladder(name, geometry, weights, p, bytes_per_s, quick)) for p in precisions}
        for rows in steps[name].values():
            times_ms = [row["ms_per_step"] for row in rows]
            if any(later < 0.9 * earlier for earlier, later in pairwise(times_ms)):
                raise SystemExit(f"{name}: more requests took less time ({times_ms}); something else was on the card")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_audiocraft(Path(folder), SMALL, PUBLISHED_CODEC)
        say("a checkpoint is written")
        ours_s = piece_s(loaded(checkpoint, official=False, slots=1))
        say(f"a piece in {ours_s:.2f} s")
        gc.collect()
        waits = waits_ms(loaded(checkpoint, official=False, slots=STREAMS), 10 if quick else NEWCOMERS)
        say(f"first audio among {STREAMS} in {statistics.median(waits):.0f} ms")
        gc.collect()
        # Last, because it takes longest: a minute on an H100.
        theirs_s = piece_s(loaded(checkpoint, official=True, slots=1))
        say(f"in audiocraft in {theirs_s:.2f} s")
    return {
        "measured": True,
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "copy_gb_per_s": bytes_per_s / 1e9,
        "steps": steps,
        "piece_of_10_s": {"ours_s": ours_s, "audiocraft_s": theirs_s, "speedup": theirs_s / ours_s},
        "first_audio_ms": {
            "streams": STREAMS,
            "median": statistics.median(waits),
            "p95": float(np.percentile(waits, 95)),
        },
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer batches and steps, the small model only")
    parser.add_argument("--out", type=Path, help="also write the JSON there")
    options = parser.parse_args()
    if torch.cuda.is_available():
        report = measure(options.quick)
    else:
        report = {"measured": False, "why": "torch sees no CUDA device on this machine"}
        print("This machine has no CUDA device: nothing was measured.", file=sys.stderr)
    document = json.dumps(report, indent=2)
    print(document)
    if options.out:
        options.out.write_text(document + "\n")


if __name__ == "__main__":
    main()
