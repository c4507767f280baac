"""From named tensors to weights by their place in the model. The two formats differ in names and in little else.

A codec's convolution is stored as a direction and a length (weight norm). They are multiplied here once, with torch's
own function, so the product has the bits that torch computes at every call.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from orchestrion.models.musicgen.checkpoint.files import Tensors
from orchestrion.models.musicgen.geometry import CodecGeometry, LmGeometry
from orchestrion.models.musicgen.weights import (
    CodecWeights,
    Conv,
    CrossAttentionWeights,
    LayerWeights,
    LmWeights,
    LstmLayer,
    Norm,
    Projection,
    Residual,
    Seanet,
    Stage,
)


@dataclass(frozen=True, slots=True)
class LmNames:
    """What a format calls the parts of the language model; `{}` is a number."""

    embedding: str
    head: str
    out_norm: str
    text: str
    chroma: str
    layer: str
    attention_norm: str
    attention: str
    cross_norm: str
    cross: str
    feed_forward_norm: str
    up: str
    down: str
    #: Whether query, key and value are one tensor.
    fused: bool
    #: Where everything belongs to the language model, and what of it needs no place here.
    prefixes: tuple[str, ...]
    ignored: re.Pattern[str]


AUDIOCRAFT_LM: Final = LmNames(
    embedding="emb.{}",
    head="linears.{}",
    out_norm="out_norm",
    text="condition_provider.conditioners.description.output_proj",
    chroma="condition_provider.conditioners.self_wav.output_proj",
    layer="transformer.layers.{}.",
    attention_norm="norm1",
    attention="self_attn",
    cross_norm="norm_cross",
    cross="cross_attention",
    feed_forward_norm="norm2",
    up="linear1",
    down="linear2",
    fused=True,
    prefixes=("",),
    # The window of the spectrogram that chroma is made from.
    ignored=re.compile(r"^condition_provider\.conditioners\.self_wav\.chroma\."),
)
HUGGING_FACE_LM: Final = LmNames(
    embedding="decoder.model.decoder.embed_tokens.{}",
    head="decoder.lm_heads.{}",
    out_norm="decoder.model.decoder.layer_norm",
    text="enc_to_dec_proj",
    chroma="audio_enc_to_dec_proj",
    layer="decoder.model.decoder.layers.{}.",
    attention_norm="self_attn_layer_norm",
    attention="self_attn",
    cross_norm="encoder_attn_layer_norm",
    cross="encoder_attn",
    feed_forward_norm="final_layer_norm",
    up="fc1",
    down="fc2",
    fused=False,
    prefixes=("decoder.", "enc_to_dec_proj.", "audio_enc_to_dec_proj."),
    # A table of sines, which early files have.
    ignored=re.compile(r"\.embed_positions\.weights$"),
)


def read_lm(tensors: Tensors, names: LmNames, geometry: LmGeometry) -> LmWeights:
    """The language model.

    Raises:
        InvalidRequest: tensors are missing, of a wrong shape, not finite, or belong to parts that are not supported.
    """
    dim, cards = geometry.dim, range(geometry.codebooks)
    weights = LmWeights(
        embeddings=torch.stack(
            [tensors.take(f"{names.embedding.format(q)}.weight", geometry.card + 1, dim) for q in cards]
        ),
        layers=tuple(_layer(tensors, names, names.layer.format(n), geometry) for n in range(geometry.layers)),
        out_norm=_norm(tensors, names.out_norm, dim),
        heads=torch.stack([tensors.take(f"{names.head.format(q)}.weight", geometry.card, dim) for q in cards]),
        text=_projection(tensors, names.text, dim, geometry.text_dim),
        chroma=_projection(tensors, names.chroma, dim, geometry.chroma_bins) if geometry.chroma_bins else None,
    )
    tensors.check_all_taken(names.prefixes, names.ignored)
    return weights


def _layer(tensors: Tensors, names: LmNames, at: str, geometry: LmGeometry) -> LayerWeights:
    dim, ffn_dim = geometry.dim, geometry.ffn_dim
    cross = None
    if not geometry.text_in_prefix:
        query, key, value = _qkv(tensors, at + names.cross, names, dim).chunk(3)
        norm = _norm(tensors, at + names.cross_norm, dim)
        out = tensors.take(f"{at}{names.cross}.out_proj.weight", dim, dim)
        cross = CrossAttentionWeights(norm, query, key, value, out)
    return LayerWeights(
        attention_norm=_norm(tensors, at + names.attention_norm, dim),
        qkv=_qkv(tensors, at + names.attention, names, dim),
        out=tensors.take(f"{at}{names.attention}.out_proj.weight", dim, dim),
        cross=cross,
        feed_forward_norm=_norm(tensors, at + names.feed_forward_norm, dim),
        up=tensors.take(f"{at}{names.up}.weight", ffn_dim, dim),
        down=tensors.take(f"{at}{names.down}.weight", dim, ffn_dim),
    )


def _qkv(tensors: Tensors, at: str, names: LmNames, dim: int) -> Tensor:
    """Query, key and value of one attention, [3 · dim, dim]."""
    if not names.fused:
        return torch.cat([tensors.take(f"{at}.{part}_proj.weight", dim, dim) for part in "qkv"])
    # audiocraft has two attentions of the same meaning; one keeps its tensors a level deeper.
    plain, deeper = f"{at}.in_proj_weight", f"{at}.mha.in_proj_weight"
    return tensors.take(deeper if deeper in tensors else plain, 3 * dim, dim)


def _norm(tensors: Tensors, at: str, dim: int) -> Norm:
    return Norm(tensors.take(f"{at}.weight", dim), tensors.take(f"{at}.bias", dim))


def _projection(tensors: Tensors, at: str, outputs: int, inputs: int) -> Projection:
    return Projection(tensors.take(f"{at}.weight", outputs, inputs), tensors.take(f"{at}.bias", outputs))


@dataclass(frozen=True, slots=True)
class CodecNames:
    """What a format calls the parts of the codec. Both number the modules of a half as they follow each other."""

    prefix: str
    #: The list of modules in a half.
    body: str
    conv: str
    transposed: str
    codebook: str


AUDIOCRAFT_CODEC: Final = CodecNames(
    prefix="",
    body="model",
    conv="conv.conv",
    transposed="convtr.convtr",
    codebook="quantizer.vq.layers.{}._codebook.embed",
)
ENCODEC: Final = CodecNames(
    prefix="", body="layers", conv="conv", transposed="conv", codebook="quantizer.layers.{}.codebook.embed"
)
HUGGING_FACE_CODEC: Final = CodecNames(
    prefix="audio_encoder.", body="layers", conv="conv", transposed="conv", codebook=ENCODEC.codebook
)

#: Of a codebook only its vectors are used, the rest is for training; and not every model uses all codebooks.
_CODEC_IGNORED: Final = re.compile(r"(^|\.)quantizer\.")


def read_codec(tensors: Tensors, names: CodecNames, geometry: CodecGeometry) -> CodecWeights:
    """Both halves of the codec and its codebooks.

    Raises:
        InvalidRequest: as of `read_lm`.
    """
    codebooks = [
        tensors.take(names.prefix + names.codebook.format(q), geometry.card, geometry.dim)
        for q in range(geometry.codebooks)
    ]
    reader = _CodecReader(tensors, names, geometry)
    weights = CodecWeights(torch.stack(codebooks), reader.encoder(), reader.decoder())
    tensors.check_all_taken((f"{names.prefix}encoder.", f"{names.prefix}decoder."), _CODEC_IGNORED)
    return weights


@dataclass(frozen=True, slots=True)
class _CodecReader:
    tensors: Tensors
    names: CodecNames
    geometry: CodecGeometry

    def encoder(self) -> Seanet:
        """First, then of each stage the residual blocks, an activation and the resampling; LSTM, activation, last."""
        at = f"{self.names.prefix}encoder.{self.names.body}."
        geometry, width, place = self.geometry, self.geometry.filters, 1
        stages = []
        for ratio in reversed(geometry.ratios):
            residuals = self._residuals(at, place, width)
            place += len(residuals)
            resample = self._conv(f"{at}{place + 1}.{self.names.conv}", 2 * width, width, 2 * ratio)
            stages.append(Stage(resample, residuals))
            place, width = place + 2, 2 * width
        lstm = self._lstm(f"{at}{place}", width)
        place += bool(lstm)
        return Seanet(
            first=self._conv(f"{at}0.{self.names.conv}", geometry.filters, 1, geometry.kernel),
            lstm=lstm,
            stages=tuple(stages),
            last=self._conv(f"{at}{place + 1}.{self.names.conv}", geometry.dim, width, geometry.last_kernel),
        )

    def decoder(self) -> Seanet:
        """First, LSTM, then of each stage an activation, the resampling and the residual blocks; activation, last."""
        at = f"{self.names.prefix}decoder.{self.names.body}."
        geometry = self.geometry
        widest = width = geometry.filters * 2 ** len(geometry.ratios)
        lstm = self._lstm(f"{at}1", width)
        place = 1 + bool(lstm)
        stages = []
        for ratio in geometry.ratios:
            transposed = f"{at}{place + 1}.{self.names.transposed}"
            resample = self._conv(transposed, width, width // 2, 2 * ratio, biases=width // 2)
            place, width = place + 2, width // 2
            residuals = self._residuals(at, place, width)
            place += len(residuals)
            stages.append(Stage(resample, residuals))
        return Seanet(
            first=self._conv(f"{at}0.{self.names.conv}", widest, geometry.dim, geometry.kernel),
            lstm=lstm,
            stages=tuple(stages),
            last=self._conv(f"{at}{place + 1}.{self.names.conv}", 1, geometry.filters, geometry.last_kernel),
        )

    def _residuals(self, at: str, place: int, width: int) -> tuple[Residual, ...]:
        geometry, conv = self.geometry, self.names.conv
        inner = width // geometry.compress
        return tuple(
            Residual(
                inner=self._conv(f"{at}{n}.block.1.{conv}", inner, width, geometry.residual_kernel),
                outer=self._conv(f"{at}{n}.block.3.{conv}", width, inner, 1),
                skip=None if geometry.identity_skip else self._conv(f"{at}{n}.shortcut.{conv}", width, width, 1),
            )
            for n in range(place, place + geometry.residual_layers)
        )

    def _conv(self, at: str, first: int, second: int, kernel: int, biases: int | None = None) -> Conv:
        """A convolution of weight [first, second, kernel], its weight norm multiplied out.

        The length is called weight_g or, since torch 2.0's parametrizations, original0; without norm there is none.
        """
        bias = self.tensors.take(f"{at}.bias", first if biases is None else biases)
        for length, direction in _WEIGHT_NORM:
            if f"{at}.{length}" in self.tensors:
                g = self.tensors.take(f"{at}.{length}", first, 1, 1)
                v = self.tensors.take(f"{at}.{direction}", first, second, kernel)
                return Conv(torch._weight_norm(v, g, 0), bias)
        return Conv(self.tensors.take(f"{at}.weight", first, second, kernel), bias)

    def _lstm(self, at: str, width: int) -> tuple[LstmLayer, ...]:
        take = self.tensors.take
        return tuple(
            LstmLayer(
                input_weight=take(f"{at}.lstm.weight_ih_l{n}", 4 * width, width),
                hidden_weight=take(f"{at}.lstm.weight_hh_l{n}", 4 * width, width),
                input_bias=take(f"{at}.lstm.bias_ih_l{n}", 4 * width),
                hidden_bias=take(f"{at}.lstm.bias_hh_l{n}", 4 * width),
            )
            for n in range(self.geometry.lstm_layers)
        )


_WEIGHT_NORM: Final = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)
