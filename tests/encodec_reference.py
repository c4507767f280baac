"""EnCodec as one plain pass of torch over a whole piece: what the streaming codec must sound like."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from orchestrion.models.musicgen.geometry import CodecGeometry
from orchestrion.models.musicgen.weights import CodecWeights, Conv, LstmLayer, Residual


def pad(x: Tensor, left: int, right: int, mode: str) -> Tensor:
    if mode == "constant":
        return functional.pad(x, (left, right))
    zeros = max(0, max(left, right) + 1 - x.shape[-1])
    x = functional.pad(functional.pad(x, (0, zeros)), (left, right), "reflect")
    return x[..., : x.shape[-1] - zeros]


def conv(geometry: CodecGeometry, x: Tensor, weights: Conv, stride: int = 1, dilation: int = 1) -> Tensor:
    total = (weights.weight.shape[-1] - 1) * dilation + 1 - stride
    right = total // 2 + (-x.shape[-1]) % stride
    x = pad(x, total - total // 2, right, geometry.pad_mode)
    return functional.conv1d(x, weights.weight, weights.bias, stride, dilation=dilation)


def transposed(x: Tensor, weights: Conv) -> Tensor:
    stride = weights.weight.shape[-1] // 2
    x = functional.conv_transpose1d(x, weights.weight, weights.bias, stride)
    return x[..., stride - stride // 2 : x.shape[-1] - stride // 2]


def lstm(x: Tensor, layers: tuple[LstmLayer, ...]) -> Tensor:
    states = x[0].T
    for layer in layers:
        hidden = cell = torch.zeros(states.shape[1])
        outputs = []
        for state in states:
            gates = layer.input_weight @ state + layer.input_bias + layer.hidden_weight @ hidden + layer.hidden_bias
            enters, stays, fresh, leaves = gates.chunk(4)
            cell = stays.sigmoid() * cell + enters.sigmoid() * fresh.tanh()
            hidden = leaves.sigmoid() * cell.tanh()
            outputs.append(hidden)
        states = torch.stack(outputs)
    return states.T[None] + x


def residuals(geometry: CodecGeometry, x: Tensor, blocks: tuple[Residual, ...]) -> Tensor:
    for layer, block in enumerate(blocks):
        inner = conv(geometry, functional.elu(x), block.inner, dilation=geometry.dilation_base**layer)
        skipped = x if block.skip is None else conv(geometry, x, block.skip)
        x = conv(geometry, functional.elu(inner), block.outer) + skipped
    return x


@torch.inference_mode()
def decode(geometry: CodecGeometry, weights: CodecWeights, codes: np.ndarray) -> np.ndarray:
    """[samples, channels] of codes [codebooks, frames], left and right of each codebook side by side."""
    sides, seanet = [], weights.decoder
    for side in range(geometry.channels):
        x = sum(
            book[torch.from_numpy(row)]
            for book, row in zip(weights.codebooks, codes[side :: geometry.channels], strict=True)
        )
        x = lstm(conv(geometry, x.T[None], seanet.first), seanet.lstm)
        for stage in seanet.stages:
            x = residuals(geometry, transposed(functional.elu(x), stage.resample), stage.residuals)
        sides.append(conv(geometry, functional.elu(x), seanet.last)[0, 0])
    return torch.stack(sides, dim=1).numpy()


@torch.inference_mode()
def encode(geometry: CodecGeometry, weights: CodecWeights, audio: np.ndarray) -> np.ndarray:
    """The inverse."""
    sides, seanet = [], weights.encoder
    for side in torch.from_numpy(audio).T:
        x = conv(geometry, side[None, None], seanet.first)
        for stage, ratio in zip(seanet.stages, reversed(geometry.ratios), strict=True):
            x = conv(geometry, functional.elu(residuals(geometry, x, stage.residuals)), stage.resample, ratio)
        rest = conv(geometry, functional.elu(lstm(x, seanet.lstm)), seanet.last)[0].T
        rows = []
        for book in weights.codebooks:
            nearest = torch.cdist(rest, book, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
            rest = rest - book[nearest]
            rows.append(nearest)
        sides.append(torch.stack(rows))
    return torch.stack(sides, dim=1).flatten(0, 1).numpy()
