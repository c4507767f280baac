"""Whether a row's bits depend on its company, its tile or the way its numbers are loaded.

What fails here must not be built on, however fast it is. A gate is true or false; nothing else stops for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch

from benchmarks.gpu.bench import Bench
from orchestrion.models.musicgen.decoder.pytorch import cuda_arithmetic
from orchestrion.models.musicgen.decoder.pytorch.torch_arithmetic import Arithmetic, pack
from orchestrion.models.musicgen.weights import Norm

COMPANY: Final = (1, 2, 3, 8, 64)
MOST: Final = 128
TILE_ROWS: Final = (16, 32, 64, 128)


@contextmanager
def setting(**constants: int) -> Iterator[None]:
    """The kernels' constants of these names are other ones for a while."""
    before = {name: getattr(cuda_arithmetic, name) for name in constants}
    try:
        for name, value in constants.items():
            setattr(cuda_arithmetic, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(cuda_arithmetic, name, value)


def random(bench: Bench, *shape: int) -> torch.Tensor:
    """Normal numbers as activations are kept; the same in every run."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator).to(bench.device, bench.dtype)


class Attention:
    """One step's attention: rows at places of their own in a cache of random keys and values."""

    def __init__(self, bench: Bench, rows: int, places: int) -> None:
        heads, head_dim = bench.small.heads, bench.small.head_dim
        self.queries = random(bench, rows, heads, head_dim)
        self.cache = random(bench, 2, rows, heads, places, head_dim)
        self.streams = torch.arange(rows, device=bench.device)
        self.lengths = places - self.streams % 5

    def of(self, do: Arithmetic, rows: int) -> torch.Tensor:
        """What the first rows attend to."""
        return do.attend(self.queries[:rows], self.cache, self.streams[:rows], self.lengths[:rows])


def measure(bench: Bench) -> Iterator[tuple[str, Any]]:
    """See `engine_gpu.Section`."""
    do, dim, ffn = bench.arithmetic(), bench.small.dim, bench.small.ffn_dim
    most = bench.sized(MOST, 5)
    company = [n for n in COMPANY if n <= most]
    places = bench.sized(600, 70)
    x, hidden = random(bench, most, dim), random(bench, most, ffn)
    wide, narrow = (
        pack(random(bench, *s), bench.precision, torch.device(bench.device)) for s in ((ffn, dim), (dim, ffn))
    )
    ones = torch.ones(dim, device=bench.device)

    def normal(n: int) -> torch.Tensor:
        # A norm writes what it adds up into its input.
        return do.norm(x[:n].float().clone(), do.parts(hidden[:n], narrow), Norm(ones, ones))

    attention = Attention(bench, most, places)
    for name, work in (
        ("product", lambda n: do.linear(x[:n], wide, gelu=True)),
        ("parts and norm", normal),
        ("attention", lambda n: attention.of(do, n)),
    ):
        together = work(most)
        yield (
            f"a row is the same alone and in company: {name}",
            all(torch.equal(work(n), together[:n]) for n in company),
        )
    if sys.platform != "linux":
        return
    with setting(ATTEND_LOADS=1):
        plainly = attention.of(do, most)
    for loads in (2, 3):
        with setting(ATTEND_LOADS=loads):
            yield f"attention is the same with {loads} loads underway", torch.equal(attention.of(do, most), plainly)
    from benchmarks.gpu.probes import turned_product

    depth = bench.sized(128, 32)
    rows = {tile: turned_product(x[:1], wide.weight, tile, depth)[0] for tile in TILE_ROWS}
    first = rows[TILE_ROWS[0]]
    yield (
        "a turned product is the same with tiles of 16 to 128 rows",
        all(torch.equal(row, first) for row in rows.values()),
    )
    yield "a turned product is today's", torch.equal(first, do.logits(x[:1], wide)[0])
