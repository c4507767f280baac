"""The decoder's arithmetic as Triton kernels: each row's sums in one fixed order, whatever the number of rows.

A library's products change their method, and so their rounding, with the number of rows. Here tiles have one size, sums
over the inputs run from first to last, in one program or in a number of parts that the weight's shape decides, and
attention is cut by position, never by how busy the card is: a row's bits depend on that row.

On an H100 a step of few rows is bound by neither bandwidth nor arithmetic but by some 300 kernels that wait for each
other, 4 µs each. So a narrow product is cut into parts, which the norm after it adds up, and a kernel is launched
before the one before has ended. 32 outputs a program spread the weights over the card; 64 rows are the least that
Hopper's matrix instruction takes, and a tile with fewer only for small steps would use another instruction, with other
bits. Without a card the kernels run in Triton's interpreter, in fp32 only, and are compiled for one.
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
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

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
#: A narrow product is cut into so many sums over as many inputs each, multiples of what a load must be aligned to.
PARTS: Final = 4
LEAST_SPAN: Final = 16
#: With more rows these sums need no programs of their own.
SHARED_ROWS: Final = 2 * TILE_ROWS
#: Positions at a time.
TILE_PLACES: Final = 64
#: … whose keys and values are fetched while those before them are used. Not asked to, Triton does so for products only.
ATTEND_LOADS: Final = 2


# Triton compiles a kernel anew for arguments that are 1 or multiples of 16; the number of rows must not be one of them.
@triton.jit(do_not_specialize=["rows", "parts"])
def _product_kernel(
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
def _quantise_kernel(
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
def _norm_kernel(
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
def _remember_kernel(
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
def _combine_kernel(
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
    #: Whether each kernel is brought to the card while the one before it still runs, and waits there for its results.
    early: bool = False

    @property
    def stays_on_device(self) -> bool:
        """True."""
        return True

    def linear(self, inputs: Tensor, packed: Packed, *, gelu: bool = False) -> Tensor:
        """See `Arithmetic`."""
        return self._product(inputs, packed, activation_dtype(self.precision), gelu=gelu)[0]

    def parts(self, inputs: Tensor, packed: Packed) -> Tensor:
        """See `Arithmetic`."""
        whole = inputs.shape[1] % (PARTS * LEAST_SPAN) > 0
        return self._product(inputs, packed, torch.float32, parts=1 if whole else PARTS)

    def logits(self, inputs: Tensor, packed: Packed) -> Tensor:
        """See `Arithmetic`."""
        return self._product(inputs, packed, torch.float32)[0]

    def norm(self, x: Tensor, parts: Tensor | None, norm: Norm) -> Tensor:
        """See `Arithmetic`."""
        rows, dim = x.shape
        outputs = x.new_empty(rows, dim, dtype=activation_dtype(self.precision))
        _norm_kernel[(rows,)](
            x,
            x if parts is None else parts,
            norm.weight,
            norm.bias,
            outputs,
            dim,
            0 if parts is None else parts.shape[0],
            0 if parts is None else parts.shape[1],
            EPSILON=NORM_EPSILON,
            BLOCK=triton.next_power_of_2(dim),
            **self._launch,
        )
        return outputs

    def remember(self, cache: Tensor, qkv: Tensor, streams: Tensor, places: Tensor) -> None:
        """See `Arithmetic`."""
        rows, _, heads, head_dim = qkv.shape
        _remember_kernel[rows, 2](
            qkv,
            cache,
            streams,
            places,
            cache.stride(0),
            cache.shape[3],
            HEADS=heads,
            HEAD_DIM=head_dim,
            BLOCK=triton.next_power_of_2(heads * head_dim),
            **self._launch,
        )

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
            LOADS=ATTEND_LOADS,
            PARTIAL=chunks > 1,
            **self._launch,
        )
        if chunks > 1:
            _combine_kernel[rows, heads](
                partial,
                lengths,
                outputs,
                chunks,
                HEADS=heads,
                HEAD_DIM=head_dim,
                BLOCK=block,
                SPAN=CHUNK,
                num_warps=1,
                **self._launch,
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

    @property
    def _launch(self) -> dict[str, bool]:
        # Fusing is said out loud: Triton's default for it changes with 3.10, and the sums' bits with it.
        return {"EARLY": self.early, "launch_pdl": self.early, "enable_fp_fusion": True}

    def _product(
        self, inputs: Tensor, packed: Packed, dtype: torch.dtype, *, gelu: bool = False, parts: int = 1
    ) -> Tensor:
        """[parts, rows, out], or [1, rows, out] and the same sum where there are rows enough to keep the card busy."""
        rows, ins = inputs.shape
        outs = len(packed.weight)
        scaled = packed.scale is not None
        inputs, scale = self._quantised(inputs) if scaled else (inputs.contiguous(), inputs)
        programs = parts if rows <= SHARED_ROWS else 1
        outputs = inputs.new_empty(programs, rows, outs, dtype=dtype)
        _product_kernel[triton.cdiv(outs, TILE_OUTPUTS), triton.cdiv(rows, TILE_ROWS), programs](
            inputs,
            scale,
            packed.weight,
            packed.scale if scaled else packed.weight,
            outputs,
            rows,
            outs,
            ins,
            ins // parts,
            parts // programs,
            SCALED=scaled,
            GELU=gelu,
            ROWS=TILE_ROWS,
            OUTPUTS=TILE_OUTPUTS,
            DEPTH=TILE_BYTES // packed.weight.element_size(),
            num_warps=4,
            num_stages=STAGES,
            # A scaled sum is rounded before it is added to the others, whether or not that is in the same program.
            **self._launch | {"enable_fp_fusion": not scaled},
        )
        return outputs

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
            **self._launch,
        )
        return outputs, scales
