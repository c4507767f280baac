"""The decoder's arithmetic as Triton kernels: each row's sums in one fixed order, whatever the number of rows.

A library's products change their method, and so their rounding, with the number of rows. Here tiles have one size, sums
over the inputs run from first to last in one program, and attention is cut by position, never by how busy the card is:
a row's bits depend on that row.

No card was at hand: all kernels compile for compute capabilities 8.0 and 9.0 and give the plain arithmetic's results
in Triton's interpreter (products in fp32 only: it has no others), but none has been run on a card yet. Tile sizes are
reasoned, not tuned: a step of few rows is bound by reading weights, which 32 outputs a program spread over the card;
64 rows are the least that Hopper's matrix instruction takes, and a tile with fewer only for small steps would use
another instruction, with other bits.
"""

# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-def, no-untyped-call, untyped-decorator"
# mypy: disable-error-code="misc, no-any-return"
# ruff: noqa: ANN001, ANN202, N803

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from orchestrion.models.musicgen.decoder import Precision
from orchestrion.models.musicgen.sampling import (
    CODES_DOMAIN,
    EXP_SERIES,
    EXPONENT_BIAS,
    HALF_STEP,
    LN_2,
    LOG2_E,
    LOG_SERIES,
    LOWEST_EXPONENT,
    MANTISSA_BITS,
    NO_CODE,
    SQRT_HALF_BITS,
    WEIGHT_UNIT,
    DeviceDraws,
)
from orchestrion.models.musicgen.torch_arithmetic import (
    CHUNK,
    FP8_MAX,
    LEAST_SCALE,
    NORM_EPSILON,
    Packed,
    activation_dtype,
)
from orchestrion.models.musicgen.weights import Norm

#: Tile of a product: rows and outputs. The depth, by bytes of a weight, fills a line of shared memory.
TILE_ROWS: Final = 64
TILE_OUTPUTS: Final = 32
TILE_BYTES: Final = 256
STAGES: Final = 4
#: Positions at a time.
TILE_PLACES: Final = 64


# Triton compiles a kernel anew for arguments that are 1 or multiples of 16; the number of rows must not be one of them.
@triton.jit(do_not_specialize=["rows"])
def _product_kernel(
    inputs,
    input_scale,
    weight,
    weight_scale,
    outputs,
    rows,
    outs,
    ins,
    SCALED: tl.constexpr,
    GELU: tl.constexpr,
    ADD: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """A tile of `outputs` [rows, outs]: `inputs` [rows, ins] times `weight` [outs, ins], or added to what is there."""
    n = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    m = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    k = tl.arange(0, DEPTH)
    sums = tl.zeros((ROWS, OUTPUTS), tl.float32)
    for begin in range(0, ins, DEPTH):
        deep = begin + k < ins
        x = tl.load(inputs + m[:, None] * ins + begin + k[None, :], mask=(m < rows)[:, None] & deep[None, :], other=0.0)
        w = tl.load(weight + n[None, :] * ins + begin + k[:, None], mask=(n < outs)[None, :] & deep[:, None], other=0.0)
        sums = tl.dot(x, w, sums, input_precision="ieee")
    if SCALED:
        sums *= tl.load(input_scale + m, mask=m < rows, other=0.0)[:, None]
        sums *= tl.load(weight_scale + n, mask=n < outs, other=0.0)[None, :]
    if GELU:
        sums = 0.5 * sums * (1.0 + tl.erf(sums * 0.7071067811865476))
    place = outputs + m[:, None] * outs + n[None, :]
    there = (m < rows)[:, None] & (n < outs)[None, :]
    if ADD:
        sums += tl.load(place, mask=there, other=0.0)
    tl.store(place, sums.to(outputs.dtype.element_ty), mask=there)


@triton.jit
def _quantise_kernel(inputs, outputs, scales, ins, MAX: tl.constexpr, LEAST: tl.constexpr, BLOCK: tl.constexpr):
    row, k = tl.program_id(0), tl.arange(0, BLOCK)
    x = tl.load(inputs + row * ins + k, mask=k < ins, other=0.0).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(x), 0) / MAX, LEAST)
    tl.store(scales + row, scale)
    tl.store(outputs + row * ins + k, (x / scale).to(outputs.dtype.element_ty), mask=k < ins)


@triton.jit
def _norm_kernel(x, weight, bias, outputs, dim, EPSILON: tl.constexpr, BLOCK: tl.constexpr):
    row, k = tl.program_id(0), tl.arange(0, BLOCK)
    inside = k < dim
    value = tl.load(x + row * dim + k, mask=inside, other=0.0)
    centred = tl.where(inside, value - tl.sum(value, 0) / dim, 0.0)
    normal = centred * tl.rsqrt(tl.sum(centred * centred, 0) / dim + EPSILON)
    normal = normal * tl.load(weight + k, mask=inside) + tl.load(bias + k, mask=inside)
    tl.store(outputs + row * dim + k, normal.to(outputs.dtype.element_ty), mask=inside)


@triton.jit
def _attend_kernel(
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
    PARTIAL: tl.constexpr,
):
    """One chunk of one head of one row.

    If there are others, `PARTIAL`, then `outputs` is [rows, heads, chunks, HEAD_DIM + 2]: the weighted values, the sum
    of their weights and the largest score. Else it is [rows, heads, HEAD_DIM], and zero where there is no place.
    """
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
        for begin in range(chunk * SPAN, end, PLACES):
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
def _combine_kernel(
    partial,
    lengths,
    outputs,
    chunks,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    SPAN: tl.constexpr,
):
    """The chunks of one head of one row, first to last."""
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


# Nor may it be compiled anew in the middle of a piece, because a table of one row stands elsewhere than one of many.
@triton.jit(do_not_specialize_on_alignment=["seeds", "columns", "temperatures", "top_ks", "top_ps"])
def _draw_kernel(
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
        x = tl.maximum(scaled, LOWEST)
        exponent = tl.floor(x * LOG2E)
        r = x - exponent * LN2
        series = tl.zeros_like(r)
        for c in tl.static_range(len(EXP)):
            series = series * r + EXP[c]
        power = ((exponent.to(tl.int64) + BIAS) << BITS).to(tl.float64, bitcast=True)
        weights = tl.where(inside, (series * power * UNIT).to(tl.int64), 0)
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
        low, high = lowest, largest
        k = tl.minimum(top_k, card)
        for _ in range(32):
            middle = (low + high + 1) >> 1
            enough = tl.sum(tl.where(keys >= middle, 1, 0), 0) >= k
            low, high = tl.where(enough, middle, low), tl.where(enough, high, middle - 1)
            high = tl.maximum(low, high)
        threshold = low
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


@dataclass(frozen=True, slots=True)
class CudaArithmetic:
    """See `torch_arithmetic.Arithmetic`."""

    precision: Precision

    @property
    def stays_on_device(self) -> bool:
        """True."""
        return True

    def linear(self, inputs: Tensor, packed: Packed, *, gelu: bool = False) -> Tensor:
        """See `Arithmetic`."""
        outputs = inputs.new_empty(len(inputs), len(packed.weight), dtype=activation_dtype(self.precision))
        self._product(inputs, packed, outputs, gelu=gelu)
        return outputs

    def add_linear(self, x: Tensor, inputs: Tensor, packed: Packed) -> None:
        """See `Arithmetic`."""
        self._product(inputs, packed, x, add=True)

    def logits(self, inputs: Tensor, packed: Packed) -> Tensor:
        """See `Arithmetic`."""
        outputs = inputs.new_empty(len(inputs), len(packed.weight), dtype=torch.float32)
        self._product(inputs, packed, outputs)
        return outputs

    def norm(self, x: Tensor, norm: Norm) -> Tensor:
        """See `Arithmetic`."""
        rows, dim = x.shape
        outputs = x.new_empty(rows, dim, dtype=activation_dtype(self.precision))
        _norm_kernel[(rows,)](
            x, norm.weight, norm.bias, outputs, dim, EPSILON=NORM_EPSILON, BLOCK=triton.next_power_of_2(dim)
        )
        return outputs

    def attend(self, queries: Tensor, cache: Tensor, streams: Tensor, lengths: Tensor) -> Tensor:
        """See `Arithmetic`."""
        rows, heads, head_dim = queries.shape
        places = cache.shape[3]
        chunks, block = triton.cdiv(places, CHUNK), triton.next_power_of_2(head_dim)
        outputs = queries.new_empty(rows, heads * head_dim)
        partial = queries.new_empty(rows, heads, chunks, head_dim + 2, dtype=torch.float32) if chunks > 1 else outputs
        _attend_kernel[rows, heads, chunks](
            queries,
            cache,
            streams,
            lengths,
            partial,
            queries.stride(0),
            cache.stride(0),
            places,
            head_dim**-0.5,
            HEADS=heads,
            HEAD_DIM=head_dim,
            BLOCK=block,
            SPAN=CHUNK,
            PLACES=TILE_PLACES,
            PARTIAL=chunks > 1,
        )
        if chunks > 1:
            _combine_kernel[rows, heads](
                partial, lengths, outputs, chunks, HEADS=heads, HEAD_DIM=head_dim, BLOCK=block, SPAN=CHUNK, num_warps=1
            )
        return outputs

    def draw(self, logits: Tensor, draws: DeviceDraws) -> Tensor:
        """See `Arithmetic`."""
        w, codebooks, card = logits.shape
        codes = torch.empty(w, codebooks, dtype=torch.int64, device=logits.device)
        if not w:
            return codes
        _draw_kernel[w, codebooks](
            logits.float().contiguous(),
            draws.seed.contiguous(),
            draws.column.contiguous(),
            draws.temperature.contiguous(),
            draws.top_k.contiguous(),
            draws.top_p.contiguous(),
            codes,
            card,
            LOG=LOG_SERIES,
            EXP=EXP_SERIES,
            SQRT_HALF=SQRT_HALF_BITS,
            BITS=MANTISSA_BITS,
            BIAS=EXPONENT_BIAS,
            LN2=LN_2,
            LOG2E=LOG2_E,
            LOWEST=LOWEST_EXPONENT,
            UNIT=WEIGHT_UNIT,
            HALF_STEP_=HALF_STEP,
            DOMAIN=CODES_DOMAIN,
            NONE=NO_CODE,
            BLOCK=triton.next_power_of_2(card),
            num_warps=8,
            # A fused multiply-add rounds once where numpy rounds twice: other codes, now and then.
            enable_fp_fusion=False,
        )
        return codes

    def _product(
        self, inputs: Tensor, packed: Packed, outputs: Tensor, *, gelu: bool = False, add: bool = False
    ) -> None:
        rows, ins = inputs.shape
        outs = len(packed.weight)
        scaled = packed.scale is not None
        inputs, scale = self._quantised(inputs) if scaled else (inputs.contiguous(), inputs)
        _product_kernel[triton.cdiv(outs, TILE_OUTPUTS), triton.cdiv(rows, TILE_ROWS)](
            inputs,
            scale,
            packed.weight,
            packed.scale if scaled else packed.weight,
            outputs,
            rows,
            outs,
            ins,
            SCALED=scaled,
            GELU=gelu,
            ADD=add,
            ROWS=TILE_ROWS,
            OUTPUTS=TILE_OUTPUTS,
            DEPTH=TILE_BYTES // packed.weight.element_size(),
            num_warps=4,
            num_stages=STAGES,
        )

    def _quantised(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        rows, ins = inputs.shape
        outputs = inputs.new_empty(rows, ins, dtype=torch.float8_e4m3fn)
        scales = inputs.new_empty(rows, dtype=torch.float32)
        _quantise_kernel[(rows,)](
            inputs.contiguous(),
            outputs,
            scales,
            ins,
            MAX=FP8_MAX,
            LEAST=LEAST_SCALE,
            BLOCK=triton.next_power_of_2(ins),
        )
        return outputs, scales
