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

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import triton
from torch import Tensor

from orchestrion.models.musicgen.decoder.decoder import Precision
from orchestrion.models.musicgen.decoder.pytorch.cuda_kernels import (
    attend_kernel,
    combine_kernel,
    draw_kernel,
    norm_kernel,
    product_kernel,
    quantise_kernel,
    remember_kernel,
)
from orchestrion.models.musicgen.decoder.pytorch.torch_arithmetic import (
    CHUNK,
    FP8_MAX,
    LEAST_SCALE,
    NORM_EPSILON,
    Packed,
    activation_dtype,
)
from orchestrion.models.musicgen.decoder.sampling import (
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
        norm_kernel[(rows,)](
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
        remember_kernel[rows, 2](
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
        attend_kernel[rows, heads, chunks](
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
            combine_kernel[rows, heads](
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
        draw_kernel[w, codebooks](
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
        product_kernel[triton.cdiv(outs, TILE_OUTPUTS), triton.cdiv(rows, TILE_ROWS), programs](
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
        quantise_kernel[(rows,)](
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
