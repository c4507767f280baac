"""The kernels for CUDA in Triton's interpreter, which runs them with numpy, one program after the other.

Its products of tiles are numpy's, and so some BLAS's: that makes other bits of a row at another place of the tile, on
AVX2 for half of the places. A card's matrix instruction does not, so here a product of tiles adds up in the order of
the depth, every row alike. `tests/conftest.py` turns the interpreter on.
"""

from functools import cache

import numpy as np

from orchestrion.models.musicgen.decoder.decoder import Precision


@cache
def interpreted(precision: Precision):
    """The arithmetic of `cuda_arithmetic` for tensors on the CPU."""
    import triton
    from triton.runtime import interpreter

    from orchestrion.models.musicgen.decoder.pytorch.cuda_arithmetic import CudaArithmetic

    if not triton.knobs.runtime.interpret:
        raise RuntimeError("these kernels are to be interpreted: set TRITON_INTERPRET=1 before Triton is imported")
    interpreter.InterpreterBuilder.create_dot = dot_in_order
    return CudaArithmetic(precision)


def dot_in_order(_builder, a, b, total, _input_precision, _max_num_imprecise_acc):
    """`total` + a · b, products added up from the first to the last, in rows that are not all zero."""
    from triton.runtime.interpreter import TensorHandle

    sums, left, right = total.data.copy(), _floats(a), _floats(b)
    for row in np.flatnonzero(left.any(axis=1)):
        # Along an axis that is not the innermost, numpy adds one line after the other.
        sums[row] += np.add.reduce(left[row, :, None] * right, axis=0)
    return TensorHandle(sums, total.dtype.scalar)


def _floats(handle):
    """Its numbers as float32; the interpreter keeps bfloat16 as bits."""
    if handle.dtype.scalar.name == "bf16":
        return (handle.data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return handle.data
