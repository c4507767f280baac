"""Where everything lies: the one block of memory of a CPU decoder, as offsets that compiled code reads."""

from __future__ import annotations

import mmap
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.decoder.cpu.linear import (
    kind_of,
    packed_bytes,
    row_bytes,
)
from orchestrion.models.musicgen.decoder.decoder import Floats, Precision
from orchestrion.models.musicgen.geometry import LmGeometry
from orchestrion.models.musicgen.native.emitter import FP32, LANES

DEFAULT_MAX_TEXT: Final = 256
NORM_EPSILON: Final = np.float32(1e-5)
#: From here on a float32 becomes infinite in float16: half a step above the largest one, 65,504.
FP16_OVERFLOW: Final = np.float32(65_520)
POSITION_PERIOD: Final = 10_000.0
#: Streams of a slot: what it hears, and the null that guidance pushes away from.
STREAMS: Final = 2
PAGE: Final = 2 << 20
#: Parts of a product for each thread: more of them wait less for a thread that is late, and fetch less in advance.
PARTS_OF_A_PRODUCT: Final = 4


class Plan(NamedTuple):
    """Sizes of a decoder, and where in its memory each thing begins. Offsets and strides are bytes."""

    kind: int
    #: Whether the cache is float16.
    half: int
    dim: int
    heads: int
    head_dim: int
    layers: int
    ffn_dim: int
    codebooks: int
    card: int
    has_cross: int

    #: Of one layer, from its beginning.
    attention_norm: int
    qkv: int
    out: int
    cross_norm: int
    cross_query: int
    cross_key: int
    cross_value: int
    cross_out: int
    feed_forward_norm: int
    up: int
    down: int
    layer_bytes: int

    layers_at: int
    embeddings_at: int
    positions_at: int
    out_norm_at: int
    heads_at: int

    #: Caches are [layers, streams, heads] of keys, and so of values, each of `self_head` or `cross_head` bytes.
    streams: int
    self_head: int
    cross_head: int
    keys_at: int
    values_at: int
    cross_keys_at: int
    cross_values_at: int

    #: Work space of one step, a row for each column of each stream.
    x_at: int
    input_at: int
    input_stride: int
    qkv_at: int
    mixed_at: int
    hidden_at: int
    logits_at: int
    #: … and for each thread.
    scratch_at: int
    scratch_stride: int

    total: int


class _Shelf:
    """Hands out places one after another, each at the beginning of a cache line."""

    def __init__(self) -> None:
        self.used = 0

    def place(self, size: int) -> int:
        start = self.used
        self.used += -(-size // 64) * 64
        return start


def plan_of(
    geometry: LmGeometry,
    *,
    slots: int,
    max_positions: int,
    max_rows: int,
    precision: Precision,
    max_text: int = DEFAULT_MAX_TEXT,
    threads: int = 1,
) -> Plan:
    """Lays a decoder of these sizes out.

    Raises:
        InvalidRequest: the CPU lacks the precision, or its vectors do not fit the model's widths.
    """
    kind = kind_of(precision)
    if geometry.head_dim % LANES or geometry.dim % (2 * LANES) or geometry.ffn_dim % (2 * LANES):
        sizes = (geometry.dim, geometry.heads, geometry.ffn_dim)
        remedy = "the CPU decoder needs heads in steps of 16 and widths in steps of 32: use the torch decoder"
        raise InvalidRequest.of("model", sizes, remedy)
    dim, ffn, layers = geometry.dim, geometry.ffn_dim, geometry.layers
    half = kind != FP32
    element = 2 if half else 4
    streams, rows = STREAMS * slots, STREAMS * max_rows
    has_cross = not geometry.text_in_prefix
    positions, text = _whole_vectors(max_positions), _whole_vectors(max_text) * has_cross

    layer, whole = _Shelf(), _Shelf()
    places = _places_in(layer, kind, dim, ffn, has_cross)
    self_head, cross_head = positions * geometry.head_dim * element, text * geometry.head_dim * element
    input_stride = row_bytes(kind, max(dim, ffn))
    work_rows = max(rows, text)
    scratch = 4 * max(positions, text, dim, ffn)
    return Plan(
        kind=kind,
        half=int(half),
        dim=dim,
        heads=geometry.heads,
        head_dim=geometry.head_dim,
        layers=layers,
        ffn_dim=ffn,
        codebooks=geometry.codebooks,
        card=geometry.card,
        has_cross=int(has_cross),
        **places,
        layer_bytes=layer.used,
        layers_at=whole.place(layer.used * layers),
        embeddings_at=whole.place(4 * geometry.codebooks * (geometry.card + 1) * dim),
        positions_at=whole.place(4 * max_positions * dim),
        out_norm_at=whole.place(8 * dim),
        heads_at=whole.place(packed_bytes(kind, geometry.codebooks * geometry.card, dim)),
        streams=streams,
        self_head=self_head,
        cross_head=cross_head,
        keys_at=whole.place(layers * streams * geometry.heads * self_head),
        values_at=whole.place(layers * streams * geometry.heads * self_head),
        cross_keys_at=whole.place(layers * streams * geometry.heads * cross_head),
        cross_values_at=whole.place(layers * streams * geometry.heads * cross_head),
        x_at=whole.place(4 * rows * dim),
        input_at=whole.place(work_rows * input_stride),
        input_stride=input_stride,
        qkv_at=whole.place(4 * work_rows * 3 * dim),
        mixed_at=whole.place(4 * rows * dim),
        hidden_at=whole.place(4 * rows * ffn),
        logits_at=whole.place(4 * rows * geometry.codebooks * geometry.card),
        scratch_at=whole.place(threads * scratch),
        scratch_stride=scratch,
        total=whole.used,
    )


def _places_in(layer: _Shelf, kind: int, dim: int, ffn: int, has_cross: bool) -> dict[str, int]:
    """Lays one layer's weights out, in the order in which a step reads them."""
    square = packed_bytes(kind, dim, dim)
    return {
        "attention_norm": layer.place(8 * dim),
        "qkv": layer.place(packed_bytes(kind, 3 * dim, dim)),
        "out": layer.place(square),
        "cross_norm": layer.place(8 * dim * has_cross),
        "cross_query": layer.place(square * has_cross),
        "cross_out": layer.place(square * has_cross),
        "feed_forward_norm": layer.place(8 * dim),
        "up": layer.place(packed_bytes(kind, ffn, dim)),
        "down": layer.place(packed_bytes(kind, dim, ffn)),
        # Read when a slot is bound, not at each step: outside what a step streams through.
        "cross_key": layer.place(square * has_cross),
        "cross_value": layer.place(square * has_cross),
    }


def memory_bytes(
    geometry: LmGeometry,
    slots: int,
    max_positions: int,
    max_rows: int,
    precision: Precision,
    max_text: int = DEFAULT_MAX_TEXT,
    threads: int = 1,
) -> int:
    """What a decoder of these sizes allocates, all of it: weights, caches and work space."""
    plan = plan_of(
        geometry,
        slots=slots,
        max_positions=max_positions,
        max_rows=max_rows,
        precision=precision,
        max_text=max_text,
        threads=threads,
    )
    return plan.total + PAGE


def _whole_vectors(count: int) -> int:
    return -(-count // LANES) * LANES


def positions(count: int, dim: int) -> Tensor:
    """Sinusoidal positions [count, dim]: cosines in the first half, sines in the second."""
    half = dim // 2
    periods = torch.full([], POSITION_PERIOD) ** (torch.arange(half) / (half - 1))
    phases = torch.arange(count)[:, None] / periods
    return torch.cat([phases.cos(), phases.sin()], dim=1)


def length(states: Floats | None) -> int:
    """Number of states; 0 for none."""
    return 0 if states is None else len(states)


def pages(count: int) -> npt.NDArray[np.uint8]:
    """Zeros in huge pages where the system has them: 4 KiB pages cost a table walk every 64 cache lines."""
    memory = mmap.mmap(-1, count + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(memory, np.uint8)
    start = -whole.ctypes.data % PAGE
    return whole[start : start + count]
