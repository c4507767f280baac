"""The sizes of a MusicGen: everything about a checkpoint that is not a weight.

Read from a checkpoint's own configuration by `checkpoint/geometry.py`; nothing here is a default of the published
models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LmGeometry:
    """The language model over codes: a pre-norm transformer decoder with sinusoidal positions and no biases."""

    dim: int
    heads: int
    layers: int
    ffn_dim: int
    #: Parallel streams of codes: 4, or 8 for stereo (left and right of each codebook side by side).
    codebooks: int
    #: Codes per codebook; `card` itself is the special token that stands where there is no code.
    card: int
    #: By how many columns each codebook lags, e.g. (0, 1, 2, 3).
    delays: tuple[int, ...]
    #: Width of the text encoder's states.
    text_dim: int
    #: Where the text goes: into cross-attention, or (melody models) as a prefix before the codes.
    text_in_prefix: bool
    #: Chroma bins of the melody prefix; 0 for models without one.
    chroma_bins: int
    #: Columns of that prefix.
    chroma_frames: int
    #: Longest window the model was trained on, in seconds; longer pieces are made of several.
    window_s: float

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.heads

    @property
    def special_token(self) -> int:
        """The token of a place without a code."""
        return self.card

    @property
    def max_delay(self) -> int:
        """Columns between the first and the last code of one frame."""
        return max(self.delays)


@dataclass(frozen=True, slots=True)
class CodecGeometry:
    """The EnCodec that turns audio into codes and back. Always mono inside: stereo is two of it side by side."""

    sample_rate_hz: int
    #: Channels of the audio that the model makes: 1 or 2.
    channels: int
    #: Codebooks of one mono codec.
    codebooks: int
    card: int
    #: Width of the quantised frames.
    dim: int
    filters: int
    #: Up-sampling factors of the decoder, first to last, e.g. (8, 5, 4, 4).
    ratios: tuple[int, ...]
    kernel: int
    last_kernel: int
    residual_kernel: int
    residual_layers: int
    dilation_base: int
    #: Inner width of a residual block is its width divided by this.
    compress: int
    lstm_layers: int
    #: Whether residual blocks add their input as it is, instead of through a 1x1 convolution.
    identity_skip: bool
    #: How the audio's two ends are padded: "constant" or "reflect".
    pad_mode: str

    @property
    def hop(self) -> int:
        """Samples per frame."""
        hop = 1
        for ratio in self.ratios:
            hop *= ratio
        return hop

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""
        return self.sample_rate_hz / self.hop

    def frames_in(self, seconds: float) -> int:
        """Whole frames that hold so many seconds; what floating point adds to a whole number does not count."""
        return max(1, math.ceil(seconds * self.frame_rate_hz - 1e-6))
