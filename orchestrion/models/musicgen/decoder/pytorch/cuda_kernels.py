"""The decoder's Triton kernels. What Triton compiles has no types, and its constants are written large."""

# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-def, no-untyped-call, untyped-decorator"
# mypy: disable-error-code="misc, no-any-return"
# ruff: noqa: ANN001, ANN201, ANN202, D103, N803

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


# Triton compiles a kernel anew for arguments that are 1 or multiples of 16; the number of rows must not be one of them.
@triton.jit(do_not_specialize=["rows", "parts"])
def product_kernel(
    inputs,
    input_scale,
    weight,
    weight_scale,
    outputs,
    rows,
    outs,
    ins,
    span,
    parts,
    SCALED: tl.constexpr,
    GELU: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    DEPTH: tl.constexpr,
    EARLY: tl.constexpr,
):
    """A tile of `inputs` [rows, ins] times `weight` [outs, ins]: [rows, outs], or of a part of it.

    The inputs are taken `span` at a time, and what each span comes to is added up; `parts` of these are the work of
    this program, all others' stand in a further dimension of `outputs`, before the rows.
    """
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    n = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    m = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    k = tl.arange(0, DEPTH)
    x_at, w_at = inputs + m[:, None] * ins + k[None, :], weight + n[None, :] * ins + k[:, None]
    total = tl.zeros((ROWS, OUTPUTS), tl.float32)
    for part in range(parts):
        first = (tl.program_id(2) * parts + part) * span
        sums = tl.zeros((ROWS, OUTPUTS), tl.float32)
        for begin in range(0, span, DEPTH):
            deep = begin + k < span
            x = tl.load(x_at + first + begin, mask=(m < rows)[:, None] & deep[None, :], other=0.0)
            w = tl.load(w_at + first + begin, mask=(n < outs)[None, :] & deep[:, None], other=0.0)
            sums = tl.dot(x, w, sums, input_precision="ieee")
        if SCALED:
            # Before the parts are added up: where programs share them, each has its own scaled before that, too.
            sums *= tl.load(input_scale + m, mask=m < rows, other=0.0)[:, None]
            sums *= tl.load(weight_scale + n, mask=n < outs, other=0.0)[None, :]
        total += sums
    if GELU:
        total = 0.5 * total * (1.0 + tl.erf(total * 0.7071067811865476))
    row = tl.program_id(2) * rows + m
    there = (m < rows)[:, None] & (n < outs)[None, :]
    tl.store(outputs + row[:, None] * outs + n[None, :], total.to(outputs.dtype.element_ty), mask=there)


@triton.jit
def quantise_kernel(
    inputs,
    outputs,
    scales,
    ins,
    MAX: tl.constexpr,
    LEAST: tl.constexpr,
    BLOCK: tl.constexpr,
    EARLY: tl.constexpr,
):
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    row, k = tl.program_id(0), tl.arange(0, BLOCK)
    x = tl.load(inputs + row * ins + k, mask=k < ins, other=0.0).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(x), 0) / MAX, LEAST)
    tl.store(scales + row, scale)
    tl.store(outputs + row * ins + k, (x / scale).to(outputs.dtype.element_ty), mask=k < ins)


@triton.jit(do_not_specialize=["parts", "part_rows"])
def norm_kernel(
    x,
    added,
    weight,
    bias,
    outputs,
    dim,
    parts,
    part_rows,
    EPSILON: tl.constexpr,
    BLOCK: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Add `added` [parts, part_rows, dim] to the first `part_rows` of `x`, and give the norm of each."""
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    row, k = tl.program_id(0), tl.arange(0, BLOCK)
    inside = k < dim
    value = tl.load(x + row * dim + k, mask=inside, other=0.0)
    if row < part_rows:
        total = tl.zeros((BLOCK,), tl.float32)
        for part in range(parts):
            total += tl.load(added + (part * part_rows + row) * dim + k, mask=inside, other=0.0)
        value += total
        tl.store(x + row * dim + k, value, mask=inside)
    centred = tl.where(inside, value - tl.sum(value, 0) / dim, 0.0)
    normal = centred * tl.rsqrt(tl.sum(centred * centred, 0) / dim + EPSILON)
    normal = normal * tl.load(weight + k, mask=inside) + tl.load(bias + k, mask=inside)
    tl.store(outputs + row * dim + k, normal.to(outputs.dtype.element_ty), mask=inside)


@triton.jit
def remember_kernel(
    qkv,
    cache,
    streams,
    at,
    kind_stride,
    places,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    EARLY: tl.constexpr,
):
    """The keys of one row, or its values, into place `at` of its stream."""
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    row, kind, i = tl.program_id(0), tl.program_id(1), tl.arange(0, BLOCK)
    inside = i < HEADS * HEAD_DIM
    value = tl.load(qkv + (row * 3 + 1 + kind) * HEADS * HEAD_DIM + i, mask=inside, other=0.0)
    place = (tl.load(streams + row) * HEADS + i // HEAD_DIM) * places + tl.load(at + row)
    tl.store(cache + kind * kind_stride + place * HEAD_DIM + i % HEAD_DIM, value, mask=inside)


@triton.jit
def attend_kernel(
    queries,
    cache,
    streams,
    lengths,
    outputs,
    query_stride,
    kind_stride,
    places,
    scale,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    SPAN: tl.constexpr,
    PLACES: tl.constexpr,
    LOADS: tl.constexpr,
    PARTIAL: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One chunk of one head of one row.

    If there are others, `PARTIAL`, then `outputs` is [rows, heads, chunks, HEAD_DIM + 2]: the weighted values, the sum
    of their weights and the largest score. Else it is [rows, heads, HEAD_DIM], and zero where there is no place.
    """
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    row, head, chunk = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    d = tl.arange(0, BLOCK)
    length = tl.load(lengths + row)
    end = tl.minimum(length, (chunk + 1) * SPAN)
    if chunk * SPAN < end:
        query = tl.load(queries + row * query_stride + head * HEAD_DIM + d, mask=d < HEAD_DIM, other=0.0)
        query = query.to(tl.float32) * scale
        base = cache + (tl.load(streams + row) * HEADS + head) * places * HEAD_DIM
        largest, total = -float("inf"), 0.0
        mixed = tl.zeros((BLOCK,), tl.float32)
        for begin in tl.range(chunk * SPAN, end, PLACES, num_stages=LOADS):
            place = begin + tl.arange(0, PLACES)
            here = (place < end)[:, None] & (d < HEAD_DIM)[None, :]
            at = base + place[:, None] * HEAD_DIM + d[None, :]
            keys = tl.load(at, mask=here, other=0.0).to(tl.float32)
            values = tl.load(at + kind_stride, mask=here, other=0.0).to(tl.float32)
            scores = tl.where(place < end, tl.sum(keys * query[None, :], 1), -float("inf"))
            peak = tl.maximum(largest, tl.max(scores, 0))
            fade = tl.exp(largest - peak)
            weights = tl.exp(scores - peak)
            mixed = mixed * fade + tl.sum(values * weights[:, None], 0)
            total = total * fade + tl.sum(weights, 0)
            largest = peak
        if PARTIAL:
            out = outputs + ((row * HEADS + head) * tl.num_programs(2) + chunk) * (HEAD_DIM + 2)
            tl.store(out + d, mixed, mask=d < HEAD_DIM)
            tl.store(out + HEAD_DIM, total)
            tl.store(out + HEAD_DIM + 1, largest)
        else:
            out = outputs + (row * HEADS + head) * HEAD_DIM
            tl.store(out + d, (mixed / total).to(outputs.dtype.element_ty), mask=d < HEAD_DIM)
    elif not PARTIAL:
        nothing = tl.zeros((BLOCK,), outputs.dtype.element_ty)
        tl.store(outputs + (row * HEADS + head) * HEAD_DIM + d, nothing, mask=d < HEAD_DIM)


@triton.jit
def combine_kernel(
    partial,
    lengths,
    outputs,
    chunks,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    SPAN: tl.constexpr,
    EARLY: tl.constexpr,
):
    """The chunks of one head of one row, first to last."""
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    row, head = tl.program_id(0), tl.program_id(1)
    d = tl.arange(0, BLOCK)
    used = (tl.load(lengths + row) + SPAN - 1) // SPAN
    largest, total = -float("inf"), 0.0
    mixed = tl.zeros((BLOCK,), tl.float32)
    for chunk in range(used):
        at = partial + ((row * HEADS + head) * chunks + chunk) * (HEAD_DIM + 2)
        theirs = tl.load(at + HEAD_DIM + 1)
        peak = tl.maximum(largest, theirs)
        fade, weight = tl.exp(largest - peak), tl.exp(theirs - peak)
        mixed = mixed * fade + tl.load(at + d, mask=d < HEAD_DIM, other=0.0) * weight
        total = total * fade + tl.load(at + HEAD_DIM) * weight
        largest = peak
    mixed = tl.where(used > 0, mixed / tl.where(used > 0, total, 1.0), 0.0)
    tl.store(outputs + (row * HEADS + head) * HEAD_DIM + d, mixed.to(outputs.dtype.element_ty), mask=d < HEAD_DIM)


@triton.jit
def _log(x, SERIES: tl.constexpr, SQRT_HALF: tl.constexpr, BITS: tl.constexpr, LN2: tl.constexpr):
    bits = x.to(tl.int64, bitcast=True)
    exponent = (bits - SQRT_HALF) >> BITS
    mantissa = (bits - (exponent << BITS)).to(tl.float64, bitcast=True)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    series = tl.zeros_like(z)
    for i in tl.static_range(len(SERIES)):
        series = series * z + SERIES[i]
    return exponent.to(tl.float64) * LN2 + (s + s) * series


@triton.jit
def _exp(x, SERIES: tl.constexpr, BITS: tl.constexpr, BIAS: tl.constexpr, LN2: tl.constexpr, LOG2E: tl.constexpr):
    exponent = tl.floor(x * LOG2E)
    r = x - exponent * LN2
    series = tl.zeros_like(r)
    for i in tl.static_range(len(SERIES)):
        series = series * r + SERIES[i]
    return series * ((exponent.to(tl.int64) + BIAS) << BITS).to(tl.float64, bitcast=True)


@triton.jit
def _kth_largest(keys, k, low, high):
    for _ in range(32):
        middle = (low + high + 1) >> 1
        enough = tl.sum(tl.where(keys >= middle, 1, 0), 0) >= k
        low, high = tl.where(enough, middle, low), tl.where(enough, high, middle - 1)
        high = tl.maximum(low, high)
    return low


# Nor may it be compiled anew in the middle of a piece, because a table of one row stands elsewhere than one of many.
@triton.jit(do_not_specialize_on_alignment=["seeds", "columns", "temperatures", "top_ks", "top_ps"])
def draw_kernel(
    logits,
    seeds,
    columns,
    temperatures,
    top_ks,
    top_ps,
    codes,
    card,
    LOG: tl.constexpr,
    EXP: tl.constexpr,
    SQRT_HALF: tl.constexpr,
    BITS: tl.constexpr,
    BIAS: tl.constexpr,
    LN2: tl.constexpr,
    LOG2E: tl.constexpr,
    LOWEST: tl.constexpr,
    UNIT: tl.constexpr,
    HALF_STEP_: tl.constexpr,
    DOMAIN: tl.constexpr,
    NONE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One draw, as `sampling.draw` makes it: `logits` [w, codebooks, card] float32, `codes` [w, codebooks]."""
    row, codebook = tl.program_id(0), tl.program_id(1)
    at = row * tl.num_programs(1) + codebook
    i = tl.arange(0, BLOCK)
    inside = i < card
    value = tl.load(logits + at.to(tl.int64) * card + i, mask=inside, other=0.0) + 0.0
    bits = value.to(tl.int32, bitcast=True)
    broken = tl.sum(tl.where(inside & ((bits & 0x7F800000) == 0x7F800000), 1, 0), 0)
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)
    lowest = tl.min(tl.where(inside, keys, 0x7FFFFFFF), 0)
    keys = tl.where(inside, keys, -0x80000000)
    largest = tl.max(keys, 0)
    temperature = tl.load(temperatures + row)
    top_k, top_p = tl.load(top_ks + row), tl.load(top_ps + row)

    wide = value.to(tl.float64)
    peak = tl.max(tl.where(inside, wide, -float("inf")), 0)
    scaled = (wide - peak) / tl.where(temperature > 0.0, temperature, 1.0)
    threshold, equals = lowest, card.to(tl.int64)
    if temperature <= 0.0:
        threshold, equals = largest, tl.full((), 1, tl.int64)
    elif top_p > 0.0:
        exponential = _exp(tl.maximum(scaled, LOWEST), EXP, BITS, BIAS, LN2, LOG2E)
        weights = tl.where(inside, (exponential * UNIT).to(tl.int64), 0)
        budget = top_p * tl.sum(weights, 0).to(tl.float64)
        low, high = lowest, largest
        for _ in range(32):
            middle = (low + high) >> 1
            above = tl.sum(tl.where(keys > middle, weights, 0), 0).to(tl.float64)
            low, high = tl.where(above <= budget, low, middle + 1), tl.where(above <= budget, middle, high)
            low = tl.minimum(low, high)
        threshold = low
        above = tl.sum(tl.where(keys > low, weights, 0), 0).to(tl.float64)
        equal = tl.max(tl.where(keys == low, weights, 0), 0)
        room = tl.floor((budget - above) / tl.maximum(equal, 1).to(tl.float64)).to(tl.int64) + 1
        equals = tl.where(equal > 0, room, card)
    elif top_k > 0:
        threshold = _kth_largest(keys, tl.minimum(top_k, card), lowest, largest)
    at_threshold = inside & (keys == threshold)
    rank = tl.cumsum(tl.where(at_threshold, 1, 0), 0)
    kept = (keys > threshold) | (at_threshold & (rank <= equals))

    zero = tl.zeros_like(i)
    column = tl.load(columns + row).to(tl.int32)
    word, _1, _2, _3 = tl.philox(tl.load(seeds + row), zero + column, zero + codebook, i, zero + DOMAIN, 10)
    uniform = (2 * word.to(tl.int64) + 1).to(tl.float64) * HALF_STEP_
    noise = _log(-_log(uniform, LOG, SQRT_HALF, BITS, LN2), LOG, SQRT_HALF, BITS, LN2)
    scores = tl.where(kept, scaled - noise, -float("inf"))
    best = tl.min(tl.where(scores == tl.max(scores, 0), i, card), 0)
    tl.store(codes + at, tl.where(broken > 0, NONE, best).to(tl.int64))
