"""Linear layers whose weights are packed for `native/products.py`, in any precision of the CPU.

Weights go in panels of 64 outputs, zeros after the last. An 8- or 4-bit product needs its inputs as bytes: each row is
mapped to 0…255 between its own least and largest value, so x = low + scale · byte, and

    Σ w · x = scale · Σ w · byte + low · Σ w

where the first sum is exact in integers and the second is known from packing. Nothing there looks at another row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.decoder.decoder import Floats, Ints, Precision
from orchestrion.models.musicgen.native.emitter import (
    BF16,
    FP32,
    GROUP,
    INT4,
    INT8,
    LANES,
    PANEL,
    PREFETCH_BYTES,
    address_of,
    bytes_at,
    compiled,
    compiled_once,
    floats_at,
    ints_at,
)
from orchestrion.models.musicgen.native.products import (
    BYTES_ARE_FAST,
    product_bf16,
    product_fp32,
    product_int4,
    product_int8,
)
from orchestrion.models.musicgen.native.vector_math import gelu, row_largest, row_least

Bytes = npt.NDArray[np.uint8]

KINDS: Final = {Precision.FP32: FP32, Precision.BF16: BF16, Precision.INT8: INT8, Precision.INT4: INT4}
#: Rows whose sums of one panel are finished while they are in the first-level cache: 12 KiB.
BLOCK: Final = 48
#: What becomes of a product: it is put at its place, added to what is there, or put there after GELU.
STORE: Final = 0
ADD: Final = 1
STORE_GELU: Final = 2
#: Before a row of bytes stand its scale and its low, float32, and padding to a vector.
HEADER: Final = 16


def kind_of(precision: Precision) -> int:
    """The kernel's number of `precision`.

    Raises:
        InvalidRequest: the CPU has no such precision.
    """
    if precision not in KINDS:
        known = ", ".join(KINDS)
        raise InvalidRequest.of("precision", precision.value, f"needs a CUDA device; on a CPU choose one of {known}")
    return KINDS[precision]


def fastest_precision() -> Precision:
    """The precision whose steps take the least time on this CPU without being audibly coarser: "auto".

    8-bit weights are half of 16-bit ones to read, but a CPU without an instruction for products of bytes or of 16-bit
    integers spends more on them than it saves.
    """
    return Precision.INT8 if BYTES_ARE_FAST else Precision.BF16


@compiled
def weight_bytes(kind: int, inputs: int) -> int:
    """Weights of one packed panel, in bytes."""
    if kind == FP32:
        return 4 * PANEL * inputs
    if kind == BF16:
        return 2 * PANEL * (inputs + inputs % 2)
    if kind == INT8:
        return PANEL * (-(-inputs // 4) * 4)
    return PANEL * (GROUP // 2 + 2) * -(-inputs // GROUP)


@compiled
def panel_bytes(kind: int, inputs: int) -> int:
    """One packed panel, in bytes: its weights, then scale, sum of weights and bias of each output, float32."""
    return weight_bytes(kind, inputs) + 12 * PANEL


@compiled
def row_bytes(kind: int, inputs: int) -> int:
    """A row of inputs as the kernel reads it, in bytes."""
    if kind in (FP32, BF16):
        size = 4 * (inputs + inputs % 2)
    elif kind == INT8:
        size = HEADER + -(-inputs // 4) * 4
    else:
        size = HEADER + -(-inputs // GROUP) * (4 + GROUP)
    return -(-size // 64) * 64


def packed_bytes(kind: int, outputs: int, inputs: int) -> int:
    """A packed matrix, in bytes."""
    return -(-outputs // PANEL) * panel_bytes(kind, inputs)


# --- Packing ---------------------------------------------------------------------------------------------------------


def pack(kind: int, weight: Tensor, bias: Tensor | None, packed: Bytes) -> None:
    """Lays `weight` [outputs, inputs] and `bias` [outputs] out in `packed`, `packed_bytes` long and aligned to 64."""
    inputs = weight.shape[1]
    panels = packed.reshape(-1, panel_bytes(kind, inputs))
    for index, panel in enumerate(panels):
        rows = weight[index * PANEL : (index + 1) * PANEL].to(torch.float32)
        values = np.zeros((PANEL, inputs), np.float32)
        values[: len(rows)] = rows.numpy(force=True)
        columns = panel[-12 * PANEL :].view(np.float32).reshape(3, PANEL)
        columns[0], columns[1:] = 1, 0
        PACKERS[kind](values, panel[: -12 * PANEL], columns)
        if bias is not None:
            part = bias[index * PANEL : (index + 1) * PANEL].to(torch.float32)
            columns[2, : len(part)] = part.numpy(force=True)


def _pack_fp32(values: Floats, panel: Bytes, _columns: Floats) -> None:
    panel.view(np.float32).reshape(-1, PANEL)[:] = values.T


def _pack_bf16(values: Floats, panel: Bytes, _columns: Floats) -> None:
    rounded = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    pairs = panel.view(np.uint16).reshape(-1, PANEL, 2)
    pairs[:] = 0
    pairs[:, :, 0] = rounded[:, 0::2].T
    pairs[: values.shape[1] // 2, :, 1] = rounded[:, 1::2].T


def _pack_int8(values: Floats, panel: Bytes, columns: Floats) -> None:
    columns[0] = np.maximum(np.abs(values).max(axis=1), np.finfo(np.float32).tiny) / 127
    integers = np.rint(values / columns[0][:, None]).astype(np.int8)
    columns[1] = columns[0] * integers.sum(axis=1, dtype=np.int32)
    steps = panel.view(np.int8).reshape(-1, PANEL, 4)
    steps[:] = _in_steps(integers, 4)


def _pack_int4(values: Floats, panel: Bytes, columns: Floats) -> None:
    blocks = panel.reshape(-1, PANEL * (GROUP // 2 + 2))
    groups = np.zeros((PANEL, len(blocks), GROUP), np.float32)
    groups.reshape(PANEL, -1)[:, : values.shape[1]] = values
    scales, integers = _nearest_nibbles(groups)
    columns[1] = (scales.astype(np.float32) * integers.sum(axis=2, dtype=np.int32)).sum(axis=1)
    nibbles = (integers + 8).astype(np.uint8).reshape(PANEL, len(blocks), GROUP // 8, 2, 4)
    low, high = nibbles[:, :, :, 0], nibbles[:, :, :, 1]
    blocks[:, : 16 * GROUP * 2] = (low | high << 4).transpose(1, 2, 0, 3).reshape(len(blocks), -1)
    blocks[:, 16 * GROUP * 2 :].view(np.float16)[:] = scales.T


def _in_steps(integers: npt.NDArray[np.int8], k: int) -> npt.NDArray[np.int8]:
    """[PANEL, inputs] → [steps, PANEL, k], with zeros after the last input."""
    steps = -(-integers.shape[1] // k)
    whole = np.zeros((PANEL, steps * k), np.int8)
    whole[:, : integers.shape[1]] = integers
    return whole.reshape(PANEL, steps, k).transpose(1, 0, 2)


def _nearest_nibbles(groups: Floats) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.int8]]:
    """Scales [PANEL, groups] and integers in [-8, 7] that give `groups` with the least squared error.

    The scale's sign decides which end has the -8, so that the largest weight of a group may be it.
    """
    peak = np.take_along_axis(groups, np.abs(groups).argmax(axis=2)[:, :, None], axis=2)[:, :, 0]
    candidates = np.stack([(peak / reach).astype(np.float16) for reach in NIBBLE_REACHES])
    integers, chosen = np.zeros(groups.shape, np.int8), np.zeros(peak.shape, np.int64)
    _choose_scales(groups, candidates.astype(np.float32), integers, chosen)
    return np.take_along_axis(candidates, chosen[None], axis=0)[0], integers


@compiled
def _choose_scales(groups: Floats, scales: Floats, integers: npt.NDArray[np.int8], chosen: Ints) -> None:
    """For each group the one of its `scales` [candidates, PANEL, groups] that errs least, and the integers it gives."""
    outputs, count, _ = groups.shape
    for output in range(outputs):
        for group in range(count):
            values, least = groups[output, group], np.float32(np.inf)
            for candidate in range(len(scales)):
                error = _error(values, scales[candidate, output, group])
                if error < least:
                    least, chosen[output, group] = error, candidate
            per_scale = _inverse(scales[chosen[output, group], output, group])
            for i in range(GROUP):
                integers[output, group, i] = np.int8(_nibble(values[i], per_scale))


@compiled
def _error(values: Floats, scale: np.float32) -> np.float32:
    per_scale, total = _inverse(scale), np.float32(0)
    for value in values:
        error = _nibble(value, per_scale) * scale - value
        total += error * error
    return total


@compiled
def _inverse(scale: np.float32) -> np.float32:
    return np.float32(0) if scale == np.float32(0) else np.float32(1) / scale


@compiled
def _nibble(value: np.float32, per_scale: np.float32) -> np.float32:
    nearest: np.float32 = min(max(np.rint(value * per_scale), np.float32(-8)), np.float32(7))
    return nearest


NIBBLE_REACHES: Final = (-8.0, -8.5, -7.5, 7.0, 7.5, 6.5)
PACKERS: Final = {FP32: _pack_fp32, BF16: _pack_bf16, INT8: _pack_int8, INT4: _pack_int4}


# --- Products --------------------------------------------------------------------------------------------------------


@compiled
def least_and_largest(row: Floats) -> tuple[np.float32, np.float32]:
    """The two ends of `row`'s values."""
    vectors = row.size // LANES
    address = address_of(row)
    low, high = row_least(address, vectors), row_largest(address, vectors)
    for value in row[vectors * LANES :]:
        low, high = min(low, value), max(high, value)
    return low, high


@compiled
def write_row(kind: int, row: Floats, to: int) -> None:
    """`row` [inputs] as a kernel reads it, `row_bytes` at the address `to`, where the padding is zero already."""
    inputs = row.size
    if kind in (FP32, BF16):
        copy = floats_at(to, inputs)
        for i in range(inputs):
            copy[i] = row[i]
        return
    low, high = least_and_largest(row)
    scale = (high - low) / np.float32(255)
    per_unit = np.float32(1) / scale if scale > 0 else np.float32(0)
    header = floats_at(to, 2)
    header[0], header[1] = scale, low
    if kind == INT8:
        quantise(row, 0, inputs, low, per_unit, bytes_at(to + HEADER, inputs))
        return
    for group in range(-(-inputs // GROUP)):
        place = to + HEADER + group * (4 + GROUP)
        first = group * GROUP
        total = quantise(row, first, min(first + GROUP, inputs), low, per_unit, bytes_at(place + 4, GROUP))
        ints_at(place, 1)[0] = -8 * total


@compiled
def quantise(row: Floats, first: int, last: int, low: np.float32, per_unit: np.float32, out: Bytes) -> np.int32:
    """row[first:last] as bytes; returns their sum."""
    total = np.int32(0)
    for i in range(last - first):
        level = np.int32((row[first + i] - low) * per_unit + np.float32(0.5))
        level = min(level, np.int32(255))
        total += level
        out[i] = level
    return total


@compiled
def multiply(kind: int, x: int, x_stride: int, rows: int, weights: int, inputs: int, tile: Floats) -> None:
    """One panel's sums for `rows` rows, before they are rescaled, to `tile` [BLOCK, PANEL]."""
    sums = address_of(tile)
    if kind == FP32:
        product_fp32(x, x_stride, rows, weights, inputs, PREFETCH_BYTES, sums)
    elif kind == BF16:
        product_bf16(x, x_stride, rows, weights, (inputs + 1) // 2, PREFETCH_BYTES, sums)
    elif kind == INT8:
        product_int8(x + HEADER, x_stride, rows, weights, (inputs + 3) // 4, PREFETCH_BYTES, sums)
    else:
        product_int4(x + HEADER, x_stride, rows, weights, (inputs + GROUP - 1) // GROUP, PREFETCH_BYTES, sums)


@compiled
def rescale(values: Floats, scale: float, low: float, columns: Floats) -> None:
    """Sums over bytes to what they stand for."""
    for i in range(PANEL):
        values[i] = values[i] * (columns[i] * scale) + low * columns[PANEL + i]


@compiled
def put(finish: int, values: Floats, columns: Floats, target: Floats) -> None:
    """`values` + bias, brought to `target` in the manner of `finish`."""
    if finish == STORE:
        for i in range(target.size):
            target[i] = values[i] + columns[2 * PANEL + i]
    elif finish == ADD:
        for i in range(target.size):
            target[i] += values[i] + columns[2 * PANEL + i]
    else:
        for i in range(target.size):
            target[i] = gelu(values[i] + columns[2 * PANEL + i])


@compiled_once
def linear(
    kind: int,
    finish: int,
    x: int,
    x_stride: int,
    rows: int,
    packed: int,
    inputs: int,
    outputs: int,
    first_panel: int,
    last_panel: int,
    out: int,
    out_stride: int,
) -> None:
    """Some panels of x · weightᵀ + bias for all rows: [rows, outputs] float32 at `out`.

    `x`, `packed` and `out` are addresses, strides are bytes. Float rows may overlap (`x_stride` below a row's size),
    which makes a convolution over [time, channels] a product. The panels split the outputs between threads.
    """
    tile = np.empty((BLOCK, PANEL), np.float32)
    weights_size, panel_size = weight_bytes(kind, inputs), panel_bytes(kind, inputs)
    for panel in range(first_panel, last_panel):
        weights = packed + panel * panel_size
        columns = floats_at(weights + weights_size, 3 * PANEL)
        width = min(PANEL, outputs - panel * PANEL)
        for first in range(0, rows, BLOCK):
            count = min(BLOCK, rows - first)
            block = x + first * x_stride
            multiply(kind, block, x_stride, count, weights, inputs, tile)
            for row in range(count):
                values = tile[row]
                if kind in (INT8, INT4):
                    header = floats_at(block + row * x_stride, 2)
                    rescale(values, header[0], header[1], columns)
                target = floats_at(out + (first + row) * out_stride + 4 * PANEL * panel, width)
                put(finish, values, columns, target)


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """A linear layer of its own, with its packed weights."""

    kind: int
    outputs: int
    inputs: int
    packed: Bytes

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, precision: Precision = Precision.FP32) -> PackedLinear:
        """Packs `weight` [outputs, inputs] and `bias` [outputs]."""
        kind = kind_of(precision)
        outputs, inputs = weight.shape
        packed = aligned_bytes(packed_bytes(kind, outputs, inputs))
        pack(kind, weight, bias, packed)
        return cls(kind, outputs, inputs, packed)

    @property
    def panels(self) -> int:
        """How many parts the outputs come in."""
        return -(-self.outputs // PANEL)

    @property
    def address(self) -> int:
        """Where the packed weights are, for `linear`; valid as long as this object."""
        return self.packed.ctypes.data

    def __call__(self, x: Floats) -> Floats:
        """`x` [rows, inputs] → [rows, outputs]; float rows may overlap, as those of a sliding window do."""
        if x.shape[1] != self.inputs:
            raise ValueError(f"rows of {x.shape[1]} numbers for a layer of {self.inputs} inputs")
        out = np.empty((len(x), self.outputs), np.float32)
        if self.kind == FP32 and x.strides[1] == x.itemsize:
            _apply(self.kind, x, x.strides[0], self.packed, self.inputs, out)
            return out
        rows = np.zeros((len(x), row_bytes(self.kind, self.inputs)), np.uint8)
        _write_rows(self.kind, x, rows)
        _apply(self.kind, rows, rows.strides[0], self.packed, self.inputs, out)
        return out


@compiled
def _write_rows(kind: int, x: Floats, rows: Bytes) -> None:
    for row in range(len(x)):
        write_row(kind, x[row], address_of(rows) + row * rows.strides[0])


@compiled
def _apply(kind: int, rows: Floats | Bytes, stride: int, packed: Bytes, inputs: int, out: Floats) -> None:
    count, outputs = out.shape
    panels = -(-outputs // PANEL)
    start, weights, to = address_of(rows), address_of(packed), address_of(out)
    linear(kind, STORE, start, stride, count, weights, inputs, outputs, 0, panels, to, 4 * outputs)


def aligned_bytes(count: int) -> Bytes:
    """Zeros that begin where a cache line does."""
    whole = np.zeros(count + 64, np.uint8)
    start = -whole.ctypes.data % 64
    return whole[start : start + count]
