"""Kernels that a decoder does not have: what a card's launches and barriers cost, and products with the tile turned.

They answer what `engine_gpu.py` asks of a card before anything is built on the answer.
"""

# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: ANN001, ANN201, N803

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def nothing_kernel(EARLY: tl.constexpr):
    """A launch."""
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()


@triton.jit
def barrier_kernel(arrived, barriers, PROGRAMS: tl.constexpr):
    """So many barriers of all programs, which must run together: each waits until all have arrived as often as it."""
    for barrier in range(barriers):
        tl.debug_barrier()
        tl.atomic_add(arrived, 1, sem="release")
        while tl.atomic_add(arrived, 0, sem="acquire") < (barrier + 1) * PROGRAMS:
            pass
        tl.debug_barrier()


@triton.jit(do_not_specialize=["rows"])
def turned_product_kernel(
    inputs, weight, outputs, rows, outs, ins, ROWS: tl.constexpr, OUTPUTS: tl.constexpr, DEPTH: tl.constexpr
):
    """`inputs` [rows, ins] times `weight` [outs, ins] with the weight as the tall side: as few rows as there are."""
    n = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    m = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    k = tl.arange(0, DEPTH)
    total = tl.zeros((OUTPUTS, ROWS), tl.float32)
    for begin in range(0, ins, DEPTH):
        w = tl.load(weight + n[:, None] * ins + begin + k[None, :])
        x = tl.load(inputs + m[None, :] * ins + begin + k[:, None], mask=(m < rows)[None, :], other=0.0)
        total = tl.dot(w, x, total, input_precision="ieee")
    there = (m < rows)[None, :] & (n < outs)[:, None]
    tl.store(outputs + m[None, :] * outs + n[:, None], total, mask=there)


def turned_product(inputs: torch.Tensor, weight: torch.Tensor, tile_rows: int, depth: int) -> torch.Tensor:
    """[rows, outs] in float32."""
    (rows, ins), outs = inputs.shape, len(weight)
    outputs = inputs.new_empty(rows, outs, dtype=torch.float32)
    turned_product_kernel[triton.cdiv(outs, 64), triton.cdiv(rows, tile_rows)](
        inputs, weight, outputs, rows, outs, ins, ROWS=tile_rows, OUTPUTS=64, DEPTH=depth, num_warps=4, num_stages=4
    )
    return outputs
