"""The arithmetic of the torch decoder, and its plain form: whatever torch has, in calls whose shape never varies.

A library picks its method by the shape of a product, and another method rounds differently: a row's bits would then
depend on how many neighbours it has. So the plain form multiplies eight rows at a time, the last ones padded, and
attends row by row over what that row may see: each call looks the same, whichever rows share the step.
`cuda_arithmetic.py` has the fast form for cards that Triton knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.decoder.decoder import Precision
from orchestrion.models.musicgen.decoder.sampling import DeviceDraws, draw_torch
from orchestrion.models.musicgen.weights import Norm

#: Rows of each product. Measured on a Xeon: a call of 8 costs about half more than a call of 4.
TILE_ROWS: Final = 8
NORM_EPSILON: Final = 1e-5
#: Places that one program of a card attends to; longer sequences take several, put together in order.
CHUNK: Final = 256
#: The largest number of float8_e4m3fn.
FP8_MAX: Final = 448.0
#: Below this a row is zero and its scale would be, too.
LEAST_SCALE: Final = 1e-12

#: How weights are kept, by precision. Keys and values are kept likewise, those of fp8 in bf16.
WEIGHT_DTYPES: Final = {
    Precision.FP32: torch.float32,
    Precision.BF16: torch.bfloat16,
    Precision.FP8: torch.float8_e4m3fn,
}


@dataclass(frozen=True, slots=True)
class Packed:
    """A weight as it is multiplied."""

    #: [out, in], in the dtype of its precision.
    weight: Tensor
    #: [out], float32: what an fp8 row is to be multiplied with; None for the other precisions.
    scale: Tensor | None


class Arithmetic(Protocol):
    """What a layer is made of. The residual stream `x` is float32 and changed in place; [rows, dim] each.

    What a layer adds to it comes in parts, [parts, rows, dim], that the next norm adds up in order: a narrow product
    is then the work of several programs, and their sum costs no step of its own.
    """

    @property
    def stays_on_device(self) -> bool:
        """Whether nothing here waits for the device, so that a graph can be recorded."""
        ...

    def linear(self, inputs: Tensor, packed: Packed, *, gelu: bool = False) -> Tensor:
        """`inputs` times the weight: [rows, out], through GELU if asked, in the dtype of activations."""
        ...

    def parts(self, inputs: Tensor, packed: Packed) -> Tensor:
        """`inputs` times the weight in parts, which `norm` adds to `x`: [parts, rows, out]."""
        ...

    def logits(self, inputs: Tensor, packed: Packed) -> Tensor:
        """`inputs` times the weight, in float32."""
        ...

    def norm(self, x: Tensor, parts: Tensor | None, norm: Norm) -> Tensor:
        """Add `parts` to the first rows of `x`, as many as they have; layer norm of all, in activations' dtype."""
        ...

    def remember(self, cache: Tensor, qkv: Tensor, streams: Tensor, places: Tensor) -> None:
        """Put keys and values of `qkv` [rows, 3, heads, head_dim] into their places of the cache; see `attend`."""
        ...

    def attend(self, queries: Tensor, cache: Tensor, streams: Tensor, lengths: Tensor) -> Tensor:
        """Attention of single queries over the first `lengths` places of their streams: [rows, heads · head_dim].

        `queries` is [rows, heads, head_dim], `cache` [2, streams, heads, places, head_dim] with keys before values,
        `streams` and `lengths` [rows], int64. Over no places the result is zero.
        """
        ...

    def draw(self, logits: Tensor, draws: DeviceDraws) -> Tensor:
        """As `sampling.draw_torch`."""
        ...


def activation_dtype(precision: Precision) -> torch.dtype:
    """What activations, keys and values are kept in."""
    return torch.float32 if precision is Precision.FP32 else torch.bfloat16


def pack(weight: Tensor, precision: Precision, device: torch.device) -> Packed:
    """`weight` [out, in] as `precision` keeps it, on `device`.

    Raises:
        InvalidRequest: this decoder does not have that precision.
    """
    if precision not in WEIGHT_DTYPES:
        raise InvalidRequest.of("precision", precision.value, f"the torch decoder has {', '.join(WEIGHT_DTYPES)}")
    weight = weight.to(device)
    if precision is not Precision.FP8:
        return Packed(weight.to(WEIGHT_DTYPES[precision]).contiguous(), None)
    quantised, scale = quantise(weight)
    return Packed(quantised, scale)


def quantise(rows: Tensor) -> tuple[Tensor, Tensor]:
    """`rows` [n, k] as float8_e4m3fn with a scale each, [n]: the row is what is kept times its scale."""
    rows = rows.float()
    scale = (rows.abs().amax(-1) / FP8_MAX).clamp(min=LEAST_SCALE)
    return (rows / scale[:, None]).to(torch.float8_e4m3fn), scale


@dataclass(frozen=True, slots=True)
class PlainArithmetic:
    """On any device that torch has."""

    precision: Precision

    @property
    def stays_on_device(self) -> bool:
        """False: the loop over rows of `attend` reads their lengths."""
        return False

    def linear(self, inputs: Tensor, packed: Packed, *, gelu: bool = False) -> Tensor:
        """See `Arithmetic`."""
        products = self._product(inputs, packed)
        return (F.gelu(products) if gelu else products).to(activation_dtype(self.precision))

    def parts(self, inputs: Tensor, packed: Packed) -> Tensor:
        """See `Arithmetic`; one part."""
        return self._product(inputs, packed)[None]

    def logits(self, inputs: Tensor, packed: Packed) -> Tensor:
        """See `Arithmetic`."""
        return self._product(inputs, packed).float()

    def norm(self, x: Tensor, parts: Tensor | None, norm: Norm) -> Tensor:
        """See `Arithmetic`."""
        if parts is not None:
            x[: parts.shape[1]] += parts[0]
        normal = F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, NORM_EPSILON)
        return normal.to(activation_dtype(self.precision))

    def remember(self, cache: Tensor, qkv: Tensor, streams: Tensor, places: Tensor) -> None:
        """See `Arithmetic`."""
        cache[:, streams, :, places] = qkv[:, 1:]

    def attend(self, queries: Tensor, cache: Tensor, streams: Tensor, lengths: Tensor) -> Tensor:
        """See `Arithmetic`."""
        attended = torch.zeros_like(queries)
        for row, (stream, length) in enumerate(zip(streams.tolist(), lengths.tolist(), strict=True)):
            if length:
                keys, values = cache[:, stream : stream + 1, :, :length]
                query = queries[row][None, :, None]  # [1, heads, 1, head_dim]
                attended[row] = F.scaled_dot_product_attention(query, keys, values)[0, :, 0]
        return attended.flatten(1)

    def draw(self, logits: Tensor, draws: DeviceDraws) -> Tensor:
        """See `Arithmetic`."""
        return draw_torch(logits, draws)

    def _product(self, inputs: Tensor, packed: Packed) -> Tensor:
        rows = len(inputs)
        tiles = F.pad(inputs, (0, 0, 0, -rows % TILE_ROWS)).view(-1, TILE_ROWS, inputs.shape[1])
        return torch.cat([self._tile(tile, packed) for tile in tiles])[:rows]

    def _tile(self, tile: Tensor, packed: Packed) -> Tensor:
        if packed.scale is None:
            return F.linear(tile, packed.weight)
        # Products of two fp8 numbers are exact in float32, so this is what a card with fp8 computes, only slower.
        quantised, scale = quantise(tile)
        return F.linear(quantised.float(), packed.weight.float()) * scale[:, None] * packed.scale
