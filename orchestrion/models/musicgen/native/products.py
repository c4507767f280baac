"""The inner loops of the CPU decoder, written as LLVM vector code and compiled by numba on the user's machine.

A step of a language model at small batches is bound by reading weights, and a library's GEMM reads them at a quarter of
the machine's speed; so weights are packed in panels that a thread reads in sequence, and these loops do little else.

There is no choice of method by size: each output is one chain of fused multiply-adds over k in ascending order,
whatever the number of rows, threads or panels, so a row's bits never depend on its company. Vectors are plain LLVM
vectors of 16 lanes, which it splits for AVX2 and NEON.

Addresses are integers (`array.ctypes.data`). Strides are in bytes where rows may overlap or have padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from llvmlite import ir

from orchestrion.models.musicgen.native.cpu_features import CpuTarget
from orchestrion.models.musicgen.native.emitter import (
    BYTE,
    CACHED_BYTES,
    FLOAT,
    FLOATS,
    GROUP,
    INT,
    INTS,
    LANES,
    LONG,
    PAIRS,
    PANEL,
    TARGET,
    TILE_ROWS,
    VECTORS,
    Dot,
    Emitter,
    compiled_once,
    native,
)


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
