"""Audiocraft's own tokens and audio: greedy, one request at a time, as the engine's must be."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from orchestrion.models.audiocraft.loading import find_checkpoint, load_generator


@dataclass(frozen=True)
class Piece:
    #: [codebooks, frames]
    codes: np.ndarray
    #: [samples, channels], the codes decoded in one go.
    audio: np.ndarray


class Reference:
    """Audiocraft with the checkpoint in `folder`; loading takes seconds, so keep it for a module."""

    def __init__(self, folder: Path) -> None:
        self._generator = load_generator(find_checkpoint(str(folder)), "cpu")

    def piece(
        self,
        prompt: str | None,
        duration_s: float,
        *,
        melody: np.ndarray | None = None,
        continuation: np.ndarray | None = None,
        guidance: float = 3.0,
    ) -> Piece:
        """`prompt` None is unconditional; `melody` and `continuation` are [samples, channels] at the model's rate."""
        generator = self._generator
        generator.set_generation_params(use_sampling=False, duration=duration_s, cfg_coef=guidance)
        rate_hz, options = generator.sample_rate, {"return_tokens": True}
        if melody is not None:
            made = generator.generate_with_chroma([prompt], _wave(melody), rate_hz, **options)
        elif continuation is not None:
            made = generator.generate_continuation(_wave(continuation), rate_hz, [prompt], **options)
        elif prompt is None:
            made = generator.generate_unconditional(1, **options)
        else:
            made = generator.generate([prompt], **options)
        audio, codes = made
        assert codes.shape[-1] == int(duration_s * generator.frame_rate)
        return Piece(codes[0].numpy(), audio[0].T.numpy())


def audiocraft_tokens(folder: Path, prompt: str | None, duration_s: float, **conditions: np.ndarray) -> np.ndarray:
    """[codebooks, frames] of one piece; see `Reference.piece`."""
    return Reference(folder).piece(prompt, duration_s, **conditions).codes


def _wave(audio: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(audio.T, np.float32))[None]
