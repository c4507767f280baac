"""The weights of a MusicGen by their places in the model, whatever file format they came in.

All are float32 torch tensors on the CPU, possibly mapped from a file: a decoder packs its own copy and lets these go.
Names follow the transformer's own terms; a linear weight is [out, in] as everywhere in torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Norm:
    """Layer norm: [dim] each."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class CrossAttentionWeights:
    """Attention over the text states, each [dim, dim]."""

    norm: Norm
    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One transformer layer: self-attention, cross-attention (unless the text is a prefix), feed-forward with GELU."""

    attention_norm: Norm
    #: [3 · dim, dim]: query, key, value.
    qkv: Tensor
    #: [dim, dim]
    out: Tensor
    cross: CrossAttentionWeights | None
    feed_forward_norm: Norm
    #: [ffn_dim, dim]
    up: Tensor
    #: [dim, ffn_dim]
    down: Tensor


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear layer with bias: weight [out, in], bias [out]."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class LmWeights:
    """The language model."""

    #: [codebooks, card + 1, dim]; the last row of each is the special token.
    embeddings: Tensor
    layers: tuple[LayerWeights, ...]
    out_norm: Norm
    #: [codebooks, card, dim]
    heads: Tensor
    #: Text states to the model's width.
    text: Projection
    #: Chroma to the model's width; None without a melody prefix.
    chroma: Projection | None


@dataclass(frozen=True, slots=True)
class Conv:
    """Weight norm folded in: weight [out, in, kernel], or [in, out, kernel] when transposed; bias [out]."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Residual:
    """ELU → conv → ELU → 1x1 conv, added to the input (through `skip`, unless that is the identity)."""

    inner: Conv
    outer: Conv
    skip: Conv | None


@dataclass(frozen=True, slots=True)
class Stage:
    """One change of rate: decoder ELU → transposed conv → residuals, encoder residuals → ELU → strided conv."""

    resample: Conv
    residuals: tuple[Residual, ...]


@dataclass(frozen=True, slots=True)
class LstmLayer:
    """Gates in torch's order (input, forget, cell, output): [4 · width, width] twice, [4 · width] twice."""

    input_weight: Tensor
    hidden_weight: Tensor
    input_bias: Tensor
    hidden_bias: Tensor


@dataclass(frozen=True, slots=True)
class Seanet:
    """Half a codec: first → LSTM (plus its input) → stages → ELU → last; encoders have the LSTM after the stages."""

    first: Conv
    lstm: tuple[LstmLayer, ...]
    stages: tuple[Stage, ...]
    last: Conv


@dataclass(frozen=True, slots=True)
class CodecWeights:
    """The EnCodec."""

    #: [codebooks, card, dim]
    codebooks: Tensor
    encoder: Seanet
    decoder: Seanet
