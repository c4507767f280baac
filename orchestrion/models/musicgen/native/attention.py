"""Attention over a cache of keys and values: scores, the mix of values, and what is kept for later positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from orchestrion.models.musicgen.native.emitter import FLOAT, FLOATS, LANES, Emitter, native

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
