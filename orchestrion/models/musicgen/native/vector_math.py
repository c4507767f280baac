"""Functions of one number, and sums over a row: loops over them become vectors, with the same bits in a loop's rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types

from orchestrion.models.musicgen.native.emitter import (
    FLOAT,
    FLOATS,
    LANES,
    Emitter,
    compiled,
    float_of_bits,
    fma,
    native,
)

F = np.float32
LOG2_E, LN2_HIGH, LN2_LOW = F(1.4426950408889634), F(0.693145751953125), F(1.42860682030941723212e-6)


@compiled
def exp(x: np.float32) -> np.float32:
    """The exponential e^x to 1 in 10⁷; 0 below -87, where float32 runs out of normal numbers. Not for x above 88."""
    x = x if x > F(-100) else F(-100)
    n = np.floor(x * LOG2_E + F(0.5))
    r = fma(-n, LN2_LOW, fma(-n, LN2_HIGH, x))
    # Least-maximum fit of e^r - 1 - r over |r| ≤ ln 2 / 2, relative error 3e-9.
    p = fma(F(0.0013814542908221483), r, F(0.00836870726197958))
    p = fma(p, r, F(0.04166838899254799))
    p = fma(p, r, F(0.1666652113199234))
    p = fma(p, r, F(0.4999999403953552))
    p = fma(p * r, r, r) + F(1)
    exponent = max(np.int32(n) + np.int32(127), np.int32(0))
    scale: np.float32 = float_of_bits(exponent << np.int32(23))
    result: np.float32 = p * scale
    return result


@compiled
def gelu(x: np.float32) -> np.float32:
    """The product x · Φ(x), with the Gaussian's own Φ (not the tanh approximation), to 4 in 10⁷ of it."""
    a = abs(x) if abs(x) < F(13) else F(13)
    t = F(1) / fma(F(0.3), a, F(1))
    # Φ(-a) = e^(-a²/2) · q(t): a least-maximum fit of q over a in [0, 14], relative error 3e-8.
    q = fma(F(-0.004510838538408279), t, F(0.0618227981030941))
    q = fma(q, t, F(-0.22168812155723572))
    q = fma(q, t, F(0.29506129026412964))
    q = fma(q, t, F(-0.12858329713344574))
    q = fma(q, t, F(0.16874593496322632))
    q = fma(q, t, F(0.08623668551445007))
    q = fma(q, t, F(0.12359807640314102))
    q = fma(q, t, F(0.11930154263973236))
    q = fma(q, t, F(1.5955118215060793e-05))
    below: np.float32 = q * exp(F(-0.5) * a * a)
    return x * (F(1) - below if x > F(0) else below)


def _reduction(
    start: float, combine: Callable[[Emitter, ir.Value, ir.Value], ir.Value], join: str
) -> Callable[..., Any]:
    """A kernel (row, vectors) → float32 over rows of whole vectors: lane by lane, and then the lanes in order."""

    def emit_all(emit: Emitter, row: ir.Value, vectors: ir.Value) -> ir.Value:
        def body(carried: list[ir.Value]) -> list[ir.Value]:
            place, total = carried
            return [emit.offset(place, 4 * LANES), combine(emit, total, emit.load(place, FLOATS))]

        _, total = emit.repeat(vectors, [row, emit.constant(FLOATS, start)], body)
        if join == "fadd":
            return emit.call("llvm.vector.reduce.fadd.v16f32", FLOAT, ir.Constant(FLOAT, 0), total)
        return emit.call(f"llvm.vector.reduce.{join}.v16f32", FLOAT, total)

    return native(emit_all, "row vectors", result=types.float32)


def _larger(emit: Emitter, a: ir.Value, b: ir.Value) -> ir.Value:
    return emit.builder.select(emit.builder.fcmp_ordered(">", a, b), a, b)


def _smaller(emit: Emitter, a: ir.Value, b: ir.Value) -> ir.Value:
    return emit.builder.select(emit.builder.fcmp_ordered("<", a, b), a, b)


row_sum: Final = _reduction(0, lambda emit, total, x: emit.builder.fadd(total, x), "fadd")
row_square_sum: Final = _reduction(0, lambda emit, total, x: emit.fma(x, x, total), "fadd")
row_largest: Final = _reduction(-math.inf, _larger, "fmax")
row_least: Final = _reduction(math.inf, _smaller, "fmin")
