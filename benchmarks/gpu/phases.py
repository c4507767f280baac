"""How long each product and each attention of a step takes, by tile, depth and stages: microseconds of one launch.

Each product runs with as many weights as the model has layers, so that the card's cache does not hold what a step would
read from memory. Today's constants come first, then one of them at a time is another.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.gates import TILE_ROWS, Attention, random, setting
from orchestrion.models.musicgen.decoder.pytorch.torch_arithmetic import Packed, pack

#: Rows of a step: of one request with guidance, of 16 and of 64.
ROWS: Final = (2, 32, 128)
CONTEXTS: Final = (250, 1000)
VARIANTS: Final = ({"TILE_BYTES": 128}, {"TILE_BYTES": 512}, {"STAGES": 3}, {"STAGES": 5}, {"STAGES": 6})
PARTS: Final = (1, 2, 8)


def measure(bench: Bench) -> Iterator[tuple[str, Any]]:
    """See `engine_gpu.Section`."""
    if sys.platform != "linux":
        return
    from benchmarks.gpu.probes import turned_product

    do, dim, ffn = bench.arithmetic(), bench.small.dim, bench.small.ffn_dim
    heads = bench.small.codebooks * bench.small.card
    products: dict[str, tuple[int, int, Callable[[torch.Tensor, Packed], Any]]] = {
        "qkv": (3 * dim, dim, do.linear),
        "out in parts": (dim, dim, do.parts),
        "cross query": (dim, dim, do.linear),
        "up": (ffn, dim, lambda x, packed: do.linear(x, packed, gelu=True)),
        "down in parts": (dim, ffn, do.parts),
        "heads": (heads, dim, do.logits),
    }
    layers, rows_of = bench.sized(bench.small.layers, 1), ROWS[: bench.sized(len(ROWS), 1)]
    variants = VARIANTS[: bench.sized(len(VARIANTS), 1)]
    for name, (outs, ins, product) in list(products.items())[: bench.sized(len(products), 2)]:
        weight = random(bench, outs, ins)
        copies = layers if name != "heads" else max(1, layers // 8)
        packed = [pack(weight.clone(), bench.precision, torch.device(bench.device)) for _ in range(copies)]
        for rows in rows_of:
            x = random(bench, rows, ins)

            def all_layers(work: Callable[[torch.Tensor, Packed], Any] = product, x: torch.Tensor = x) -> None:
                for one in packed:  # noqa: B023 (called before the next product)
                    work(x, one)

            def turned(tile: int, x: torch.Tensor = x) -> Callable[[], object]:
                return lambda: [turned_product(x, one.weight, tile, bench.sized(128, 32)) for one in packed]  # noqa: B023

            took: dict[str, float | str] = {"today": bench.graph_us(all_layers, copies)}
            changes = [*variants, *({"PARTS": parts} for parts in PARTS if "parts" in name and not bench.dry)]
            for change in changes:
                with setting(**change):
                    took[" ".join(f"{key}={value}" for key, value in change.items())] = _or_why(
                        bench, all_layers, copies
                    )
            tile = next((t for t in TILE_ROWS if t >= rows), TILE_ROWS[-1])
            took[f"turned, tile of {tile} rows"] = _or_why(bench, turned(tile), copies)
            megabytes = weight.numel() * weight.element_size() / 1e6
            yield (
                f"{name}, {rows} rows",
                {"weight_mb": megabytes, "us": {key: _rounded(us) for key, us in took.items()}},
            )
            if not bench.time_left():
                return
    for context in CONTEXTS[: bench.sized(len(CONTEXTS), 1)]:
        for rows in rows_of:
            attentions = [Attention(bench, rows, bench.sized(context, 70)) for _ in range(min(layers, 8))]
            took = {}
            for loads in (1, 2, 3):
                with setting(ATTEND_LOADS=loads):
                    work = lambda: [one.of(do, rows) for one in attentions]  # noqa: E731, B023
                    took[f"{loads} loads underway"] = _or_why(bench, work, len(attentions))
            megabytes = attentions[0].cache.numel() * attentions[0].cache.element_size() / 1e6
            yield (
                f"attention over {context}, {rows} rows",
                {"cache_mb": megabytes, "us": {key: _rounded(us) for key, us in took.items()}},
            )
            if not bench.time_left():
                return


def _or_why(bench: Bench, work: Callable[[], Any], launches: int) -> float | str:
    """A variant that does not fit the card costs only its own figure."""
    try:
        return bench.graph_us(work, launches)
    except Exception as error:
        return f"none: {type(error).__name__}: {error}"[:200]


def _rounded(us: float | str) -> float | str:
    return us if isinstance(us, str) else round(us, 2)
