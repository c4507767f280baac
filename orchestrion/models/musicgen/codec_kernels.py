"""The codec's arithmetic: a matrix product whose rows may overlap, with what follows a convolution in its tail.

A convolution over [time, channels] is such a product: its row t begins at sample t and runs on over `kernel` samples.
The surprising thing: every output is one chain of fused multiply-adds over k, in order, whatever the number of rows,
so that a sample's bits depend on nothing but its own inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import numba
import numpy as np
import numpy.typing as npt
from torch import Tensor

from orchestrion.models.musicgen.kernels import PANEL, PREFETCH_BYTES, Function, compiled, product_fp32

Floats = npt.NDArray[np.float32]

#: Rows whose sums wait together for what follows the product: 48 · 64 of them are 12 KB of the first cache.
TILE: Final = 48

_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
_EXP_LOW, _EXP_HIGH = np.float32(-87), np.float32(88)
_LOG2_E = np.float32(1.4426950408889634)
#: ln 2 in two parts, the first with few enough bits that its multiples are exact.
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
#: Adding and subtracting it rounds to an integer.
_ROUND = np.float32(1.5 * 2**23)
_EXPONENT_BIAS, _MANTISSA_BITS = np.int32(127), np.int32(23)
_C6, _C5, _C4, _C3, _C2 = (np.float32(1 / f) for f in (720.0, 120.0, 24.0, 6.0, 2.0))


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


def inlined(function: Function) -> Function:
    """`function` written into its callers, so that LLVM makes vectors of their loops."""
    return cast("Function", numba.njit(inline="always")(function))


@inlined
def _exp(x: np.float32) -> np.float32:
    """e^x within 2 ulp for -87 ≤ x ≤ 88, clamped outside."""
    x = max(min(x, _EXP_HIGH), _EXP_LOW)
    n = (x * _LOG2_E + _ROUND) - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    y = ((((_C6 * r + _C5) * r + _C4) * r + _C3) * r + _C2) * (r * r) + r + _ONE
    return y * np.int32((np.int32(n) + _EXPONENT_BIAS) << _MANTISSA_BITS).view(np.float32)


@inlined
def _elu(x: np.float32) -> np.float32:
    return x if x > _ZERO else _exp(x) - _ONE


@inlined
def _sigmoid(x: np.float32) -> np.float32:
    return np.float32(_ONE / (_ONE + _exp(-x)))


@inlined
def _tanh(x: np.float32) -> np.float32:
    return np.float32(_TWO / (_ONE + _exp(-_TWO * x)) - _ONE)


@compiled
def product(
    x: Floats,
    step: int,
    weight: Floats,
    k: int,
    n: int,
    bias: Floats,
    rows: int,
    first_panel: int,
    last_panel: int,
    addend: Floats,
    raw: Floats,
    elu: Floats,
) -> None:
    """Multiply, add `bias` and `addend`, and put the sums into `raw` and, through ELU, into `elu`.

    `x` is flat: row r of `rows` is the `k` values from r · `step` on. `weight`, `k`, `n` and `bias` are a `Packed`'s,
    of whose panels those from `first_panel` to `last_panel` are made. `addend`, `raw` and `elu` are flat, [rows, n]; an
    empty one stands for "none".
    """
    tile = np.empty(TILE * PANEL, np.float32)
    for panel in range(first_panel, last_panel):
        weights = weight.ctypes.data + panel * k * PANEL * 4
        column = panel * PANEL
        width = min(PANEL, n - column)
        biases = bias[column : column + width]
        for row in range(0, rows, TILE):
            height = min(TILE, rows - row)
            product_fp32(x.ctypes.data + row * step * 4, step * 4, height, weights, k, PREFETCH_BYTES, tile.ctypes.data)
            for r in range(height):
                values = tile[r * PANEL : r * PANEL + width]
                to = (row + r) * n + column
                for c in range(width):
                    values[c] += biases[c]
                if len(addend) > 0:
                    added = addend[to : to + width]
                    for c in range(width):
                        values[c] += added[c]
                if len(raw) > 0:
                    raws = raw[to : to + width]
                    for c in range(width):
                        raws[c] = values[c]
                if len(elu) > 0:
                    elus = elu[to : to + width]
                    for c in range(width):
                        elus[c] = _elu(values[c])


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
        x, h, c, y, shown = entered[rows[lane]], recurrent[lane], cell[lane], out[rows[lane]], hidden[lane]
        for i in range(width):
            enters = _sigmoid(x[i] + h[i])
            stays = _sigmoid(x[width + i] + h[width + i])
            fresh = _tanh(x[2 * width + i] + h[2 * width + i])
            leaves = _sigmoid(x[3 * width + i] + h[3 * width + i])
            c[i] = stays * c[i] + enters * fresh
            shown[i] = leaves * _tanh(c[i])
            y[i] = shown[i]


@compiled
def add_elu(x: Floats, skipped: Floats, out: Floats) -> None:
    """ELU(x + skipped) into `out`, all flat."""
    for i in range(len(out)):
        out[i] = _elu(x[i] + skipped[i])
