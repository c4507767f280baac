"""Machine code for this CPU: Python that numba compiles, vector code written in LLVM by hand, and arrays at addresses.

Addresses are integers (`array.ctypes.data`). Strides are in bytes where rows may overlap or have padding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import llvmlite.binding as llvm
import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core.caching import Cache, FunctionCache, NullCache
from numba.core.ccallback import CFunc
from numba.extending import intrinsic

from orchestrion.models.musicgen.native.cpu_features import numba_target

LANES: Final = 16
#: Outputs of one panel of packed weights: four vectors.
PANEL: Final = 64
#: Weights along k that share one scale in int4.
GROUP: Final = 32
VECTORS: Final = PANEL // LANES
#: How a product's weights and activations are kept.
FP32: Final = 0
BF16: Final = 1
INT8: Final = 2
INT4: Final = 3
TARGET: Final = numba_target()
#: Rows whose sums stay in registers together: 32 registers of 16 lanes hold 24 sums; elsewhere four sums fill them.
TILE_ROWS: Final = 6 if TARGET.has("avx512f") else 1
#: How far ahead of its use a weight is asked for, in bytes: the time of a memory access at full speed.
PREFETCH_BYTES: Final = 4096
#: Weights that many rows go through together, in bytes: these and the next must stay in a second-level cache.
CACHED_BYTES: Final = 256 << 10
BYTE: Final = ir.IntType(8)
HALF: Final = ir.IntType(16)
INT: Final = ir.IntType(32)
LONG: Final = ir.IntType(64)
FLOAT: Final = ir.FloatType()
FLOATS: Final = ir.VectorType(FLOAT, LANES)
INTS: Final = ir.VectorType(INT, LANES)
#: Two integers of 16 bits in each lane.
PAIRS: Final = ir.VectorType(HALF, 2 * LANES)
Dot = Callable[["Emitter", ir.Value, ir.Value, ir.Value], ir.Value]
Function = TypeVar("Function", bound=Callable[..., Any])


def _sources() -> str:
    """Hash of all files here that have compiled code: it calls across files, and numba looks at one file's age only."""
    texts = [path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py"))]
    return hashlib.sha256(b"".join(text for text in texts if b"@compiled" in text)).hexdigest()


SOURCES: Final = _sources()


class _Cache(FunctionCache):
    """Machine code on disk, for this CPU and these sources."""

    def _index_key(self, *of: Any) -> tuple[Any, str]:  # noqa: ANN401
        key: Any = Cache._index_key
        return key(self, *of), SOURCES


def _cache(function: Callable[..., Any]) -> Any:  # noqa: ANN401
    make: Any = _Cache
    # Numba refuses when neither the package's folder nor the user's is writable: compile anew in each process then.
    try:
        return make(function)
    except RuntimeError:
        return NullCache()


def compiled(function: Function) -> Function:
    """`function` as machine code that runs without the GIL, kept on disk between processes where it can be."""
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy")(function)
    dispatcher._cache = _cache(function)
    return cast("Function", dispatcher)


def compiled_once(function: Function) -> Function:
    """`function` of integers, to be called from compiled code, whose machine code its callers do not repeat.

    LLVM would weave a large kernel into every caller, and into their callers again: a minute instead of seconds.
    """
    parameters = (types.intp,) * len(signature(function).parameters)
    callback: Any = CFunc(function, (parameters, types.void), locals={}, options={"error_model": "numpy"})
    callback._cache = _cache(function)
    callback.compile()
    name = f"orchestrion_musicgen_{function.__name__}"
    llvm.add_symbol(name, callback.address)
    return cast("Function", types.ExternalFunction(name, types.void(*parameters)))


class Emitter:
    """Writes vector code at the builder's place: the few shapes of instruction that the loops below consist of."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def number(self, value: int) -> ir.Value:
        """A constant for addresses and counts."""
        return ir.Constant(LONG, value)

    def offset(self, address: ir.Value, step: int) -> ir.Value:
        """The address so many bytes on."""
        return self.builder.add(address, self.number(step)) if step else address

    def load(self, address: ir.Value, kind: ir.Type, align: int = 4) -> ir.Value:
        """What lies at `address`."""
        return self.builder.load(self.builder.inttoptr(address, kind.as_pointer()), align=align)

    def store(self, value: ir.Value, address: ir.Value, align: int = 4) -> None:
        """Puts `value` at `address`."""
        self.builder.store(value, self.builder.inttoptr(address, value.type.as_pointer()), align=align)

    def same(self, scalar: ir.Value) -> ir.Value:
        """A vector of `scalar` in every lane."""
        kind = ir.VectorType(scalar.type, LANES)
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(INT, 0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(INTS, [0] * LANES))

    def constant(self, kind: ir.VectorType, value: float) -> ir.Value:
        """A vector of `value` in every lane."""
        return ir.Constant(kind, [value] * LANES)

    def call(self, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
        """The result of LLVM's function `name`."""
        module = self.builder.module
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        function = module.globals[name] if name in module.globals else ir.Function(module, kind, name)
        return self.builder.call(function, arguments)

    def split(self, vector: ir.Value, parts: int) -> list[ir.Value]:
        """The `vector` in so many of equal length."""
        size = vector.type.count // parts
        undefined = ir.Constant(vector.type, ir.Undefined)
        if parts == 1:
            return [vector]
        places = [range(first, first + size) for first in range(0, vector.type.count, size)]
        return [self._shuffled(vector, undefined, lanes) for lanes in places]

    def joined(self, vectors: Sequence[ir.Value]) -> ir.Value:
        """One vector of several, a power of two of them, of equal length."""
        while len(vectors) > 1:
            lanes = range(2 * vectors[0].type.count)
            vectors = [self._shuffled(a, b, lanes) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
        return vectors[0]

    def _shuffled(self, a: ir.Value, b: ir.Value, lanes: Sequence[int]) -> ir.Value:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT, len(lanes)), list(lanes)))

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """The sum a · b + c, rounded once."""
        return self.call("llvm.fma.v16f32", FLOATS, a, b, c)

    def prefetch(self, address: ir.Value) -> None:
        """Asks for the cache line of `address`, which need not exist."""
        pointer = self.builder.inttoptr(address, BYTE.as_pointer())
        # Into the second-level cache: the first has too few lines underway at a time to keep the memory busy.
        read, keep, data = ir.Constant(INT, 0), ir.Constant(INT, 2), ir.Constant(INT, 1)
        self.call("llvm.prefetch.p0", ir.VoidType(), pointer, read, keep, data)

    def repeat(
        self, count: ir.Value, start: Sequence[ir.Value], body: Callable[[list[ir.Value]], list[ir.Value]]
    ) -> list[ir.Value]:
        """Runs `body` `count` times; it turns the carried values into the next ones. Returns the last."""
        builder = self.builder
        before = builder.block
        loop, after = builder.append_basic_block("loop"), builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed(">", count, self.number(0)), loop, after)
        builder.position_at_end(loop)
        index = builder.phi(LONG)
        index.add_incoming(self.number(0), before)
        carried = [builder.phi(value.type) for value in start]
        following = body(list(carried))
        next_index = builder.add(index, self.number(1))
        index.add_incoming(next_index, builder.block)
        for phi, first, then in zip(carried, start, following, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(then, builder.block)
        last = builder.block
        builder.cbranch(builder.icmp_signed("<", next_index, count), loop, after)
        builder.position_at_end(after)
        results = [builder.phi(value.type) for value in start]
        for phi, first, then in zip(results, start, following, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(then, last)
        return list(results)


def native(
    emit: Callable[..., ir.Value | None],
    arguments: str,
    argument: types.Type = types.intp,
    result: types.Type = types.void,
) -> Callable[..., Any]:
    """A function for compiled code, whose body `emit` writes from an `Emitter` and the named arguments."""
    names = arguments.split()
    function_type = result(*(argument,) * len(names))

    def generate(context: Any, builder: ir.IRBuilder, _signature: Any, values: Any) -> ir.Value:  # noqa: ANN401
        value = emit(Emitter(builder), *values)
        return context.get_dummy_value() if value is None else value

    def template(_typing_context: Any, *_types: Any) -> Any:  # noqa: ANN401
        return function_type, generate

    parameters = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in ["typing_context", *names]]
    function: Any = template
    function.__signature__ = Signature(parameters)  # Numba folds a call's arguments by it.
    return cast("Callable[..., Any]", intrinsic(function))


fma: Final = native(
    lambda emit, a, b, c: emit.call("llvm.fma.f32", FLOAT, a, b, c), "a b c", types.float32, types.float32
)
float_of_bits: Final = native(lambda emit, bits: emit.builder.bitcast(bits, FLOAT), "bits", types.int32, types.float32)


def _pointer_to(kind: types.Type, target: ir.Type) -> Callable[..., Any]:
    make: Any = types.CPointer
    return native(
        lambda emit, address: emit.builder.inttoptr(address, target.as_pointer()),
        "address",
        types.intp,
        make(kind),
    )


_float_pointer: Final = _pointer_to(types.float32, FLOAT)
_int_pointer: Final = _pointer_to(types.int32, INT)
_byte_pointer: Final = _pointer_to(types.uint8, BYTE)
#: Numba has addresses of arrays unsigned, and a function once more for each kind of integer it is called with.
_signed: Final = native(lambda emit, address: address, "address", result=types.intp)


@compiled
def address_of(array: npt.NDArray[Any]) -> int:
    """Where `array` begins. Keep the array: compiled code lets go of one after its last mention."""
    address: int = _signed(array.ctypes.data)
    return address


@compiled
def floats_at(address: int, count: int) -> npt.NDArray[np.float32]:
    """The float32 array [count] at `address`."""
    return numba.carray(_float_pointer(address), count)


@compiled
def ints_at(address: int, count: int) -> npt.NDArray[np.int32]:
    """The int32 array [count] at `address`."""
    return numba.carray(_int_pointer(address), count)


@compiled
def bytes_at(address: int, count: int) -> npt.NDArray[np.uint8]:
    """The bytes [count] at `address`."""
    return numba.carray(_byte_pointer(address), count)
