"""The codec's arithmetic: a matrix product whose rows may overlap, with what follows a convolution in its tail.

A convolution over [time, channels] is such a product: its row t begins at sample t and runs on over `kernel` samples.
Every output is one chain of fused multiply-adds over k, in order, whatever the number of rows, so a sample's bits
depend only on its own inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from torch import Tensor

from orchestrion.models.musicgen.native.emitter import PANEL, PREFETCH_BYTES, address_of, compiled, floats_at
from orchestrion.models.musicgen.native.products import product_fp32
from orchestrion.models.musicgen.native.vector_math import F, exp

Floats = npt.NDArray[np.float32]

#: Rows whose sums wait together for what follows the product: 48 · 64 of them are 12 KB of the first cache.
TILE: Final = 48


@dataclass(frozen=True, slots=True)
class Packed:
    """A weight matrix [n, k] as panels of 64 columns, each [k, 64], the last one filled up with zeros."""

    #: Flat, at an address that is a multiple of 64 bytes.
    weight: Floats
    #: [n]
    bias: Floats
    n: int
    k: int

    @property
    def panels(self) -> int:
        """How many panels there are."""
        return -(-self.n // PANEL)

    @staticmethod
    def nbytes(n: int, k: int) -> int:
        """Memory of a packed [n, k]."""
        return 4 * (-(-n // PANEL) * PANEL * k + n)


def pack(weight: Tensor, bias: Tensor) -> Packed:
    """`weight` [n, k] and `bias` [n], packed."""
    n, k = weight.shape
    panels = -(-n // PANEL)
    padded = np.zeros((panels * PANEL, k), np.float32)
    padded[:n] = weight.detach().numpy()
    flat = aligned(panels * k * PANEL)
    flat.reshape(panels, k, PANEL)[:] = padded.reshape(panels, PANEL, k).transpose(0, 2, 1)
    return Packed(flat, np.ascontiguousarray(bias.detach().numpy(), np.float32), n, k)


def aligned(count: int) -> Floats:
    """`count` zeros at an address that is a multiple of 64 bytes."""
    whole = np.zeros(count + 16, np.float32)
    first = -whole.ctypes.data % 64 // 4
    return whole[first : first + count]


@compiled
def elu(x: np.float32) -> np.float32:
    """The exponential linear unit."""
    return x if x > F(0) else exp(x) - F(1)


@compiled
def sigmoid(x: np.float32) -> np.float32:
    """The logistic function; below -88 it is as at -88."""
    return F(1) / (F(1) + exp(-x if x > F(-88) else F(88)))


@compiled
def tanh(x: np.float32) -> np.float32:
    """The hyperbolic tangent, to 2 in 10⁷ of 1."""
    return F(2) * sigmoid(F(2) * x) - F(1)


@compiled
def product(
    x: int,
    step: int,
    weight: int,
    k: int,
    n: int,
    bias: int,
    rows: int,
    first_panel: int,
    last_panel: int,
    addend: int,
    raw: int,
    activated: int,
) -> None:
    """Multiply, add `bias` and `addend`, and put the sums to `raw` and, through ELU, to `activated`.

    All but the numbers are addresses of float32; 0 stands for "none". Row r of `rows` is the `k` values from x + r ·
    `step` (bytes) on. `weight`, `k`, `n` and `bias` are a `Packed`'s, of whose panels those from `first_panel` to
    `last_panel` are made. `addend`, `raw` and `activated` are [rows, n].
    """
    tile = np.empty((TILE, PANEL), np.float32)
    sums = address_of(tile)
    for panel in range(first_panel, last_panel):
        weights, column = weight + panel * k * PANEL * 4, panel * PANEL
        width = min(PANEL, n - column)
        biases = floats_at(bias + 4 * column, width)
        for first in range(0, rows, TILE):
            count = min(TILE, rows - first)
            product_fp32(x + first * step, step, count, weights, k, PREFETCH_BYTES, sums)
            for row in range(count):
                values = tile[row]
                place = 4 * ((first + row) * n + column)
                if addend != 0:
                    addends = floats_at(addend + place, width)
                    for i in range(width):
                        values[i] += biases[i] + addends[i]
                else:
                    for i in range(width):
                        values[i] += biases[i]
                if raw != 0:
                    out = floats_at(raw + place, width)
                    for i in range(width):
                        out[i] = values[i]
                if activated != 0:
                    out = floats_at(activated + place, width)
                    for i in range(width):
                        out[i] = elu(values[i])


@compiled
def unfold(x: int, rows: int, width: int, kernel: int, dilation: int, out: int) -> None:
    """The inputs of a dilated convolution: out [rows, kernel, width] from x [rows + (kernel - 1) · dilation, width]."""
    for row in range(rows):
        for tap in range(kernel):
            source = floats_at(x + 4 * (row + tap * dilation) * width, width)
            floats_at(out + 4 * (row * kernel + tap) * width, width)[:] = source


@compiled
def clear(address: int, count: int) -> None:
    """Zeros at `address`."""
    floats_at(address, count)[:] = 0


@compiled
def lstm_cells(
    entered: Floats, recurrent: Floats, rows: npt.NDArray[np.int64], cell: Floats, hidden: Floats, out: Floats
) -> None:
    """One frame of the first len(rows) lanes, whose `cell` and `hidden` states [lanes, width] are brought up to date.

    `entered` [all rows, 4 · width] are the gates of the input, lane i's in row rows[i], where its output goes to in
    `out` [all rows, width]; `recurrent` [lanes, 4 · width] are those of the last hidden state.
    """
    width = cell.shape[1]
    for lane in range(len(rows)):
        gates, last = entered[rows[lane]], recurrent[lane]
        memory, state, shown = cell[lane], hidden[lane], out[rows[lane]]
        for i in range(width):
            enters = sigmoid(gates[i] + last[i])
            stays = sigmoid(gates[width + i] + last[width + i])
            fresh = tanh(gates[2 * width + i] + last[2 * width + i])
            leaves = sigmoid(gates[3 * width + i] + last[3 * width + i])
            memory[i] = stays * memory[i] + enters * fresh
            state[i] = leaves * tanh(memory[i])
        for i in range(width):
            shown[i] = state[i]


@compiled
def add_elu(x: Floats, skipped: Floats, out: Floats) -> None:
    """ELU(x + skipped) into `out`, all [rows, width]."""
    for row in range(len(x)):
        for i in range(x.shape[1]):
            out[row, i] = elu(x[row, i] + skipped[row, i])
