"""The inner loops of the CPU decoder, written as LLVM vector code and compiled by numba on the user's machine.

A step of a language model at small batches is bound by reading weights, and a library's GEMM reads them at a quarter of
the machine's speed; so weights are packed in panels that a thread reads in sequence, and these loops do little else.

The surprising thing is what they do not have: a choice of method by size. Each output is one chain of fused
multiply-adds over k in ascending order, whatever the number of rows, threads or panels, so a row's bits never depend
on its company. Vectors are plain LLVM vectors of 16 lanes, which it splits for AVX2 and NEON.

Addresses are integers (`array.ctypes.data`). Strides are in bytes where rows may overlap or have padding.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
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

from orchestrion.models.musicgen.cpu_features import CpuTarget, numba_target

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
    texts = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
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


# --- LLVM by hand ----------------------------------------------------------------------------------------------------


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


# --- Arrays at addresses ---------------------------------------------------------------------------------------------


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


# --- Functions of one number: loops over them become vectors, with the same bits in a loop's rest ---------------------


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


# --- Rows ------------------------------------------------------------------------------------------------------------


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


# --- Attention over a cache ------------------------------------------------------------------------------------------
# Of one head, keys lie as [positions / LANES, head_dim, LANES] and values as [positions, head_dim], in float32 or
# float16. A score is one chain over head_dim and an output one chain over positions, both ascending.


def _cache_kind(half: bool) -> tuple[ir.Type, int, Callable[[Emitter, ir.Value], ir.Value]]:
    """Element, its bytes, and how a vector of it is loaded as float32."""
    if not half:
        return FLOAT, 4, lambda emit, address: emit.load(address, FLOATS, 4)
    halves = ir.VectorType(ir.HalfType(), LANES)
    return ir.HalfType(), 2, lambda emit, address: emit.builder.fpext(emit.load(address, halves, 2), FLOATS)


def _scores(half: bool) -> Callable[..., Any]:
    """A kernel (query, keys, head_dim, blocks, out): query · key for blocks of LANES positions, to out float32."""
    _, size, load = _cache_kind(half)

    def emit_all(emit: Emitter, *arguments: ir.Value) -> None:
        query, keys, head_dim, blocks, out = arguments
        builder = emit.builder
        block_bytes = builder.mul(head_dim, emit.number(size * LANES))

        def some(count: int, keys: ir.Value, out: ir.Value) -> list[ir.Value]:
            starts = [keys]
            for _ in range(count - 1):
                starts.append(builder.add(starts[-1], block_bytes))

            def body(carried: list[ir.Value]) -> list[ir.Value]:
                place, offset, *totals = carried
                q = emit.same(emit.load(place, FLOAT))
                columns = [load(emit, builder.add(start, offset)) for start in starts]
                following = [emit.fma(q, column, total) for column, total in zip(columns, totals, strict=True)]
                return [emit.offset(place, 4), emit.offset(offset, size * LANES), *following]

            zero = emit.constant(FLOATS, 0)
            _, _, *totals = emit.repeat(head_dim, [query, emit.number(0), *[zero] * count], body)
            for index, total in enumerate(totals):
                emit.store(total, emit.offset(out, 4 * LANES * index))
            return [builder.add(starts[-1], block_bytes), emit.offset(out, 4 * LANES * count)]

        # Four blocks at a time, for the chains of one block alone wait for each other.
        four = emit.number(4)
        place = emit.repeat(builder.sdiv(blocks, four), [keys, out], lambda carried: some(4, *carried))
        emit.repeat(builder.srem(blocks, four), place, lambda carried: some(1, *carried))

    return native(emit_all, "query keys head_dim blocks out")


def _mix(half: bool) -> Callable[..., Any]:
    """A kernel (weights, values, head_dim, positions, out): Σ weight · value over positions, to out [head_dim]."""
    _, size, load = _cache_kind(half)

    def emit_all(emit: Emitter, *arguments: ir.Value) -> None:
        weights, values, head_dim, positions, out = arguments
        builder = emit.builder
        row_bytes = builder.mul(head_dim, emit.number(size))

        def some(count: int, values: ir.Value, out: ir.Value) -> list[ir.Value]:
            def body(carried: list[ir.Value]) -> list[ir.Value]:
                weight, place, *totals = carried
                w = emit.same(emit.load(weight, FLOAT))
                columns = [load(emit, emit.offset(place, size * LANES * v)) for v in range(count)]
                following = [emit.fma(w, column, total) for column, total in zip(columns, totals, strict=True)]
                return [emit.offset(weight, 4), builder.add(place, row_bytes), *following]

            zero = emit.constant(FLOATS, 0)
            _, _, *totals = emit.repeat(positions, [weights, values, *[zero] * count], body)
            for index, total in enumerate(totals):
                emit.store(total, emit.offset(out, 4 * LANES * index))
            return [emit.offset(values, size * LANES * count), emit.offset(out, 4 * LANES * count)]

        vectors, four = builder.sdiv(head_dim, emit.number(LANES)), emit.number(4)
        place = emit.repeat(builder.sdiv(vectors, four), [values, out], lambda carried: some(4, *carried))
        emit.repeat(builder.srem(vectors, four), place, lambda carried: some(1, *carried))

    return native(emit_all, "weights values head_dim positions out")


def _keep(half: bool) -> Callable[..., Any]:
    """A kernel (row, count, to, stride): row [count] float32 into the cache, its elements `stride` bytes apart."""
    kind, _, _ = _cache_kind(half)

    def emit_all(emit: Emitter, *arguments: ir.Value) -> None:
        row, count, to, stride = arguments

        def body(carried: list[ir.Value]) -> list[ir.Value]:
            place, target = carried
            value = emit.load(place, FLOAT)
            emit.store(emit.builder.fptrunc(value, kind) if half else value, target)
            return [emit.offset(place, 4), emit.builder.add(target, stride)]

        emit.repeat(count, [row, to], body)

    return native(emit_all, "row count to stride")


scores_fp32, scores_fp16 = _scores(half=False), _scores(half=True)
mix_fp32, mix_fp16 = _mix(half=False), _mix(half=True)
keep_fp32, keep_fp16 = _keep(half=False), _keep(half=True)


# --- Threads that share a step ---------------------------------------------------------------------------------------


def _emit_claim(emit: Emitter, counter: ir.Value) -> ir.Value:
    pointer = emit.builder.inttoptr(counter, LONG.as_pointer())
    return emit.builder.atomic_rmw("add", pointer, emit.number(1), "seq_cst")


def _emit_look(emit: Emitter, counter: ir.Value) -> ir.Value:
    return emit.builder.load_atomic(emit.builder.inttoptr(counter, LONG.as_pointer()), "acquire", 8)


def _emit_pause(emit: Emitter) -> None:
    if "x86" in llvm.get_process_triple():
        emit.call("llvm.x86.sse2.pause", ir.VoidType())
    elif "aarch64" in llvm.get_process_triple() or "arm64" in llvm.get_process_triple():
        emit.call("llvm.aarch64.hint", ir.VoidType(), ir.Constant(INT, 1))


#: The int64 at an address before one is added to it, by one thread at a time.
claim: Final = native(_emit_claim, "counter", result=types.intp)
look: Final = native(_emit_look, "counter", result=types.intp)
pause: Final = native(_emit_pause, "")
give_way: Final = types.ExternalFunction("sched_yield", types.int32())

#: Looks at a counter before the core is offered to others: about 20 µs, far more than threads with a core each need.
PATIENCE: Final = 1000


@compiled
def wait_for(counter: int, value: int) -> None:
    """Returns when the int64 at `counter` has reached `value`."""
    looks = 0
    while look(counter) < value:
        looks += 1
        if looks < PATIENCE:
            pause()
        else:
            give_way()


# --- Products with packed weights ------------------------------------------------------------------------------------


def fp32_step(emit: Emitter, x: list[ir.Value], weights: ir.Value, sums: list[list[ir.Value]]) -> list[list[ir.Value]]:
    """One k: weights [PANEL] float32, x one float32 a row."""
    columns = [emit.load(emit.offset(weights, 64 * v), FLOATS, 64) for v in range(VECTORS)]
    return [
        [emit.fma(value, column, total) for column, total in zip(columns, row, strict=True)]
        for value, row in zip([emit.same(emit.load(address, FLOAT)) for address in x], sums, strict=True)
    ]


def bf16_step(emit: Emitter, x: list[ir.Value], weights: ir.Value, sums: list[list[ir.Value]]) -> list[list[ir.Value]]:
    """Two k: weights [PANEL] pairs of bfloat16, the even k in the lower half; x two float32 a row."""
    pairs = [emit.load(emit.offset(weights, 64 * v), INTS, 64) for v in range(VECTORS)]
    shift, upper = emit.constant(INTS, 16), emit.constant(INTS, -65536)
    even = [emit.builder.bitcast(emit.builder.shl(pair, shift), FLOATS) for pair in pairs]
    odd = [emit.builder.bitcast(emit.builder.and_(pair, upper), FLOATS) for pair in pairs]
    for k, columns in enumerate((even, odd)):
        values = [emit.same(emit.load(emit.offset(address, 4 * k), FLOAT)) for address in x]
        sums = [
            [emit.fma(value, column, total) for column, total in zip(columns, row, strict=True)]
            for value, row in zip(values, sums, strict=True)
        ]
    return sums


# A dot adds four products of unsigned bytes of x and signed bytes of the weights to the total, in each lane of 32 bits.
# Its result is exact, so all of them give the same integers, and each CPU has the one that it does in the least time.


def dot_vnni(emit: Emitter, total: ir.Value, x: ir.Value, weights: ir.Value) -> ir.Value:
    """In one instruction of AVX-512."""
    return emit.call("llvm.x86.avx512.vpdpbusd.512", INTS, total, x, weights)


def dot_vnni_by_halves(emit: Emitter, total: ir.Value, x: ir.Value, weights: ir.Value) -> ir.Value:
    """In the same instruction of 256 bits, which CPUs without AVX-512 may have."""
    halves = zip(emit.split(total, 2), emit.split(x, 2), emit.split(weights, 2), strict=True)
    return emit.joined([emit.call("llvm.x86.avx512.vpdpbusd.256", t.type, t, a, b) for t, a, b in halves])


def dot_usdot(emit: Emitter, total: ir.Value, x: ir.Value, weights: ir.Value) -> ir.Value:
    """In ARM's instruction for it, of 128 bits."""
    quarters = zip(emit.split(total, 4), emit.split(x, 4), emit.split(weights, 4), strict=True)
    sixteen = ir.VectorType(BYTE, 16)
    return emit.joined(
        [
            emit.call(
                "llvm.aarch64.neon.usdot.v4i32.v16i8",
                t.type,
                t,
                emit.builder.bitcast(a, sixteen),
                emit.builder.bitcast(b, sixteen),
            )
            for t, a, b in quarters
        ]
    )


def _multiply_add(name: str, parts: int) -> Dot:
    """By sums of two products of 16-bit integers: of the bytes with even numbers, and of those with odd ones."""

    def dot(emit: Emitter, total: ir.Value, x: ir.Value, weights: ir.Value) -> ir.Value:
        builder, eight = emit.builder, ir.Constant(PAIRS, [8] * (2 * LANES))
        bytes_of_x, signed = builder.bitcast(x, PAIRS), builder.bitcast(weights, PAIRS)
        even = (
            builder.and_(bytes_of_x, ir.Constant(PAIRS, [255] * (2 * LANES))),
            builder.ashr(builder.shl(signed, eight), eight),
        )
        odd = builder.lshr(bytes_of_x, eight), builder.ashr(signed, eight)
        for a, b in (even, odd):
            halves = zip(emit.split(a, parts), emit.split(b, parts), strict=True)
            kind = ir.VectorType(INT, LANES // parts)
            total = builder.add(total, emit.joined([emit.call(name, kind, *half) for half in halves]))
        return total

    return dot


dot_multiply_add: Final = _multiply_add("llvm.x86.avx2.pmadd.wd", 2)
dot_wide_multiply_add: Final = _multiply_add("llvm.x86.avx512.pmaddw.d.512", 1)


def dot_plain(emit: Emitter, total: ir.Value, x: ir.Value, weights: ir.Value) -> ir.Value:
    """Byte by byte, on any CPU."""
    builder, low = emit.builder, emit.constant(INTS, 255)
    for byte in range(4):
        right = emit.constant(INTS, 8 * byte)
        unsigned = builder.and_(builder.lshr(x, right), low)
        signed = builder.ashr(builder.shl(weights, emit.constant(INTS, 24 - 8 * byte)), emit.constant(INTS, 24))
        total = builder.add(total, builder.mul(unsigned, signed))
    return total


#: By the feature that they need, the best first.
X86_DOTS: Final[Mapping[str, Dot]] = {
    "avx512vnni": dot_vnni,
    "avxvnni": dot_vnni_by_halves,
    "avx512bw": dot_wide_multiply_add,
    "avx2": dot_multiply_add,
}
ARM_DOTS: Final[Mapping[str, Dot]] = {"i8mm": dot_usdot}


def dot_for(target: CpuTarget) -> Dot:
    """The dot that `target` does in the least time."""
    dots = X86_DOTS if target.is_x86 else ARM_DOTS if target.is_arm else {}
    return next((dot for feature, dot in dots.items() if target.has(feature)), dot_plain)


Step = Callable[[Emitter, list[ir.Value], ir.Value, list[list[ir.Value]]], list[list[ir.Value]]]


def int8_step(dot: Dot) -> Step:
    """Four k: weights [PANEL, 4] signed bytes, x four unsigned bytes a row."""

    def step(emit: Emitter, x: list[ir.Value], weights: ir.Value, sums: list[list[ir.Value]]) -> list[list[ir.Value]]:
        values = [emit.same(emit.load(address, INT)) for address in x]
        columns = [emit.load(emit.offset(weights, 64 * v), INTS, 64) for v in range(VECTORS)]
        return [
            [dot(emit, total, value, column) for column, total in zip(columns, row, strict=True)]
            for value, row in zip(values, sums, strict=True)
        ]

    return step


def int4_step(dot: Dot) -> Step:
    """GROUP k: weights [GROUP / 8, PANEL, 4] pairs of nibbles and [PANEL] scales in float16; x int32 and GROUP bytes.

    Nibbles are unsigned: the int32 that leads x's group takes the excess out, -8 · Σ x.
    """

    def step(emit: Emitter, x: list[ir.Value], weights: ir.Value, sums: list[list[ir.Value]]) -> list[list[ir.Value]]:
        builder, mask, four = emit.builder, emit.constant(INTS, 0x0F0F0F0F), emit.constant(INTS, 4)
        groups = [[emit.same(emit.load(address, INT))] * VECTORS for address in x]
        for pair in range(GROUP // 8):
            packed = [emit.load(emit.offset(weights, 256 * pair + 64 * v), INTS, 64) for v in range(VECTORS)]
            halves = (
                [builder.and_(column, mask) for column in packed],
                [builder.and_(builder.lshr(column, four), mask) for column in packed],
            )
            for half, columns in enumerate(halves):
                place = 4 + 8 * pair + 4 * half
                values = [emit.same(emit.load(emit.offset(address, place), INT)) for address in x]
                groups = [
                    [dot(emit, total, value, column) for column, total in zip(columns, group, strict=True)]
                    for value, group in zip(values, groups, strict=True)
                ]
        half_floats = ir.VectorType(ir.HalfType(), LANES)
        scales = [
            builder.fpext(emit.load(emit.offset(weights, 32 * GROUP + 32 * v), half_floats), FLOATS)
            for v in range(VECTORS)
        ]
        return [
            [emit.fma(builder.sitofp(g, FLOATS), scale, t) for g, scale, t in zip(group, scales, row, strict=True)]
            for group, row in zip(groups, sums, strict=True)
        ]

    return step


def product(step: Step, x_bytes: int, weight_bytes: int, sum_kind: ir.VectorType) -> Callable[..., Any]:
    """A kernel (x, x_stride, rows, weights, steps, ahead, out): a panel's sums for some rows, to out [rows, PANEL].

    `step` takes `x_bytes` of each row and `weight_bytes` of the panel. Rows that fit one tile wait for the memory, so
    they prefetch `ahead` bytes. With more, the first tile would wait and the others leave the memory idle: there each
    tile fetches its part of the weights that follow, and finds these in the cache. Sums of floats rest in `out`
    between parts of a panel too long for that; panels of bytes never are.
    """
    steps_of_part = CACHED_BYTES // weight_bytes if sum_kind is FLOATS else 1 << 30

    def emit_all(emit: Emitter, *arguments: ir.Value) -> None:
        x, stride, rows, weights, steps, ahead, out = arguments
        builder, number = emit.builder, emit.number
        tiles, rest = builder.sdiv(rows, number(TILE_ROWS)), builder.srem(rows, number(TILE_ROWS))
        whole_tiles = tiles
        for bit in range(3):
            tiles = builder.add(tiles, builder.and_(builder.lshr(rest, number(bit)), number(1)))
        one_tile = builder.icmp_signed("<=", tiles, number(1))
        pace = builder.sdiv(number(weight_bytes), builder.select(one_tile, number(1), tiles))

        def tile(size: int, begin: ir.Value, count: ir.Value, first: ir.Value, fetched: ir.Value) -> list[ir.Value]:
            """Steps `begin` and on of rows `first` and on; returns the row after them and what was fetched."""
            here = builder.add(weights, builder.mul(begin, number(weight_bytes)))
            start = builder.add(builder.add(x, builder.mul(begin, number(x_bytes))), builder.mul(stride, first))
            rows_at = [builder.add(start, builder.mul(stride, number(row))) for row in range(size)]

            def body(carried: list[ir.Value]) -> list[ir.Value]:
                here, fetch, offset, *totals = carried
                for line in range(0, weight_bytes, 64):
                    emit.prefetch(emit.offset(fetch, line))
                sums = [totals[VECTORS * row : VECTORS * (row + 1)] for row in range(size)]
                following = step(emit, [builder.add(row, offset) for row in rows_at], here, sums)
                place = [emit.offset(here, weight_bytes), builder.add(fetch, pace), emit.offset(offset, x_bytes)]
                return place + [total for row in following for total in row]

            target = builder.add(out, builder.mul(first, number(4 * PANEL)))
            targets = [emit.offset(target, 4 * LANES * index) for index in range(VECTORS * size)]
            sums = [emit.constant(sum_kind, 0)] * len(targets)
            if sum_kind is FLOATS:
                is_first = builder.icmp_signed("==", begin, number(0))
                sums = [builder.select(is_first, sums[0], emit.load(address, FLOATS)) for address in targets]
            _, fetched, _, *totals = emit.repeat(count, [here, fetched, number(0), *sums], body)
            for address, total in zip(targets, totals, strict=True):
                emit.store(total if sum_kind is FLOATS else builder.sitofp(total, FLOATS), address)
            return [emit.offset(first, size), fetched]

        def part(carried: list[ir.Value]) -> list[ir.Value]:
            (begin,) = carried
            end = emit.offset(begin, steps_of_part)
            end = builder.select(builder.icmp_signed("<", end, steps), end, steps)
            count = builder.sub(end, begin)
            distance = builder.select(one_tile, ahead, builder.mul(count, number(weight_bytes)))
            fetched = builder.add(builder.add(weights, builder.mul(begin, number(weight_bytes))), distance)
            place = emit.repeat(whole_tiles, [number(0), fetched], partial(_spread, tile, TILE_ROWS, begin, count))
            for size in (4, 2, 1):
                if size < TILE_ROWS:
                    fits = builder.icmp_signed(">=", builder.sub(rows, place[0]), number(size))
                    # Once or not at all.
                    place = emit.repeat(builder.zext(fits, LONG), place, partial(_spread, tile, size, begin, count))
            return [end]

        parts = builder.sdiv(emit.offset(steps, steps_of_part - 1), number(steps_of_part))
        emit.repeat(parts, [number(0)], part)

    return native(emit_all, "x x_stride rows weights steps ahead out")


def _spread(function: Callable[..., list[ir.Value]], *first: Any) -> list[ir.Value]:  # noqa: ANN401
    """`function` of the arguments before the last and of those in the last."""
    *before, last = first
    return function(*before, *last)


DOT: Final = dot_for(TARGET)
#: Whether products of bytes are quicker than those of floats: byte by byte they are not.
BYTES_ARE_FAST: Final = DOT is not dot_plain
_fp32: Final = product(fp32_step, 4, 4 * PANEL, FLOATS)
_bf16: Final = product(bf16_step, 8, 4 * PANEL, FLOATS)
_int8: Final = product(int8_step(DOT), 4, 4 * PANEL, INTS)
_int4: Final = product(int4_step(DOT), 4 + GROUP, (GROUP // 2 + 2) * PANEL, FLOATS)


@compiled_once
def product_fp32(x: int, x_stride: int, rows: int, weights: int, steps: int, ahead: int, out: int) -> None:
    """Steps of one k."""
    _fp32(x, x_stride, rows, weights, steps, ahead, out)


@compiled_once
def product_bf16(x: int, x_stride: int, rows: int, weights: int, steps: int, ahead: int, out: int) -> None:
    """Steps of two k."""
    _bf16(x, x_stride, rows, weights, steps, ahead, out)


@compiled_once
def product_int8(x: int, x_stride: int, rows: int, weights: int, steps: int, ahead: int, out: int) -> None:
    """Steps of four k."""
    _int8(x, x_stride, rows, weights, steps, ahead, out)


@compiled_once
def product_int4(x: int, x_stride: int, rows: int, weights: int, steps: int, ahead: int, out: int) -> None:
    """Steps of GROUP k."""
    _int4(x, x_stride, rows, weights, steps, ahead, out)
