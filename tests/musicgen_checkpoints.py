"""Random MusicGens, tiny and of the published sizes, for where no real checkpoint can be had."""

from __future__ import annotations

import torch

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

MONO_DELAYS = (0, 1, 2, 3)
STEREO_DELAYS = (0, 0, 1, 1, 2, 2, 3, 3)


def lm_geometry(dim: int, heads: int, layers: int, *, text_dim: int = 768, stereo: bool = False, melody: bool = False):
    return LmGeometry(
        dim=dim,
        heads=heads,
        layers=layers,
        ffn_dim=4 * dim,
        codebooks=8 if stereo else 4,
        card=2048,
        delays=STEREO_DELAYS if stereo else MONO_DELAYS,
        text_dim=text_dim,
        text_in_prefix=melody,
        chroma_bins=12 if melody else 0,
        chroma_frames=235 if melody else 0,
        window_s=30.0,
    )


TINY = lm_geometry(64, 4, 2, text_dim=512)
TINY_STEREO = lm_geometry(64, 4, 2, text_dim=512, stereo=True)
TINY_MELODY = lm_geometry(64, 4, 2, text_dim=512, melody=True)
SMALL = lm_geometry(1024, 16, 24)


def codec_geometry(filters: int, channels: int = 1) -> CodecGeometry:
    return CodecGeometry(
        sample_rate_hz=32_000,
        channels=channels,
        codebooks=4,
        card=2048,
        dim=128,
        filters=filters,
        ratios=(8, 5, 4, 4),
        kernel=7,
        last_kernel=7,
        residual_kernel=3,
        residual_layers=1,
        dilation_base=2,
        compress=2,
        lstm_layers=2,
        identity_skip=True,
        pad_mode="constant",
    )


TINY_CODEC = codec_geometry(8)
PUBLISHED_CODEC = codec_geometry(64)


class Draw:
    """Reproducible weights, scaled so that signals neither die nor explode on their way through the layers."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, scale: float) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator) * scale

    def linear(self, outputs: int, inputs: int) -> torch.Tensor:
        return self.normal(outputs, inputs, scale=inputs**-0.5)

    def norm(self, dim: int) -> Norm:
        return Norm(1 + self.normal(dim, scale=0.1), self.normal(dim, scale=0.1))

    def projection(self, outputs: int, inputs: int) -> Projection:
        return Projection(self.linear(outputs, inputs), self.normal(outputs, scale=0.02))

    def conv(self, outputs: int, inputs: int, kernel: int) -> Conv:
        return Conv(
            self.normal(outputs, inputs, kernel, scale=(inputs * kernel) ** -0.5), self.normal(outputs, scale=0.02)
        )


def random_lm(geometry: LmGeometry, seed: int = 7) -> LmWeights:
    """Weights whose greedy tokens vary from step to step, as a trained model's do."""
    draw, dim = Draw(seed), geometry.dim

    def cross() -> CrossAttentionWeights:
        return CrossAttentionWeights(draw.norm(dim), *(draw.linear(dim, dim) for _ in range(4)))

    layers = tuple(
        LayerWeights(
            attention_norm=draw.norm(dim),
            qkv=draw.linear(3 * dim, dim),
            out=draw.linear(dim, dim),
            cross=None if geometry.text_in_prefix else cross(),
            feed_forward_norm=draw.norm(dim),
            up=draw.linear(geometry.ffn_dim, dim),
            down=draw.linear(dim, geometry.ffn_dim),
        )
        for _ in range(geometry.layers)
    )
    return LmWeights(
        embeddings=draw.normal(geometry.codebooks, geometry.card + 1, dim, scale=0.5),
        layers=layers,
        out_norm=draw.norm(dim),
        heads=draw.normal(geometry.codebooks, geometry.card, dim, scale=0.2),
        text=draw.projection(dim, geometry.text_dim),
        chroma=draw.projection(dim, geometry.chroma_bins) if geometry.chroma_bins else None,
    )


def random_codec(geometry: CodecGeometry, seed: int = 11) -> CodecWeights:
    draw = Draw(seed)

    def residual(width: int) -> Residual:
        inner = width // geometry.compress
        return Residual(draw.conv(inner, width, geometry.residual_kernel), draw.conv(width, inner, 1), None)

    def lstm(width: int) -> tuple[LstmLayer, ...]:
        return tuple(
            LstmLayer(
                draw.linear(4 * width, width),
                draw.linear(4 * width, width),
                draw.normal(4 * width, scale=0.02),
                draw.normal(4 * width, scale=0.02),
            )
            for _ in range(geometry.lstm_layers)
        )

    widest = geometry.filters * 2 ** len(geometry.ratios)
    down, up, width = [], [], geometry.filters
    for ratio in reversed(geometry.ratios):
        residuals = tuple(residual(width) for _ in range(geometry.residual_layers))
        down.append(Stage(draw.conv(2 * width, width, 2 * ratio), residuals))
        width *= 2
    for ratio in geometry.ratios:
        width //= 2
        # A transposed convolution sums two taps per output, whatever its kernel.
        transposed = Conv(
            draw.normal(2 * width, width, 2 * ratio, scale=(4 * width) ** -0.5), draw.normal(width, scale=0.02)
        )
        up.append(Stage(transposed, tuple(residual(width) for _ in range(geometry.residual_layers))))
    return CodecWeights(
        codebooks=draw.normal(geometry.codebooks, geometry.card, geometry.dim, scale=1.0),
        encoder=Seanet(
            draw.conv(geometry.filters, 1, geometry.kernel),
            lstm(widest),
            tuple(down),
            draw.conv(geometry.dim, widest, geometry.last_kernel),
        ),
        decoder=Seanet(
            draw.conv(widest, geometry.dim, geometry.kernel),
            lstm(widest),
            tuple(up),
            draw.conv(1, geometry.filters, geometry.last_kernel),
        ),
    )
