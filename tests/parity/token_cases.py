"""The same pieces made by audiocraft and by us, greedily, code by code: what `test_tokens.py` and the benchmark run."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from orchestrion.clock import SystemClock
from orchestrion.models.audiocraft.loading import find_checkpoint, load_generator
from orchestrion.models.musicgen.model import MusicGen
from orchestrion.models.protocol import Conditioning
from orchestrion.models.settings import ModelSettings

RATE_HZ = 32_000
PROMPT = "happy rock song with electric guitar"


@dataclass(frozen=True)
class Case:
    """One piece. `given_s` of music come first, or are heard as a theme."""

    duration_s: float
    prompt: str = PROMPT
    continuation_s: float = 0.0
    theme_s: float = 0.0


def tune(seconds: float, channels: int) -> np.ndarray:
    """A melody with a bass: [samples, channels], float32."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    step = (time_s / 0.4).astype(int)
    pitch = np.random.default_rng(2).integers(55, 79, step[-1] + 1)[step]
    wave = np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time_s) + 0.5 * np.sin(2 * np.pi * 110 * time_s)
    return np.repeat(0.2 * wave[:, None], channels, axis=1).astype(np.float32)


def wav(pcm: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, pcm, RATE_HZ, format="WAV", subtype="FLOAT")
    return file.getvalue()


class Theirs:
    """audiocraft's own `generate`, each piece alone."""

    def __init__(self, folder: Path) -> None:
        self.generator = load_generator(find_checkpoint(str(folder)), "cpu")

    def codes(self, case: Case) -> np.ndarray:
        generator = self.generator
        # Its own default, or three fifths of windows that are too short for that.
        stride_s = 18 if generator.max_duration > 18 else 0.6 * generator.max_duration
        generator.set_generation_params(duration=case.duration_s, use_sampling=False, extend_stride=stride_s)
        texts, channels = [case.prompt or None], generator.audio_channels
        with torch.inference_mode():
            if case.continuation_s:
                prompt = torch.from_numpy(tune(case.continuation_s, channels).T)[None]
                _, codes = generator.generate_continuation(prompt, RATE_HZ, texts, return_tokens=True)
            elif case.theme_s:
                melody = torch.from_numpy(tune(case.theme_s, 1).T)[None]
                _, codes = generator.generate_with_chroma(texts, melody, RATE_HZ, return_tokens=True)
            elif case.prompt:
                _, codes = generator.generate(texts, return_tokens=True)
            else:
                _, codes = generator.generate_unconditional(1, return_tokens=True)
        return codes[0].numpy()


class Ours:
    """Our engine on the same checkpoint."""

    def __init__(self, folder: Path, precision: str = "fp32", threads: int = 1) -> None:
        settings = ModelSettings(precision=precision, device="cpu", slots=1, threads=threads, raw_prompts=True)
        self.model = MusicGen.load("ours", str(folder), settings, SystemClock())

    def codes(self, case: Case) -> np.ndarray:
        channels = self.model.info.channels
        conditioning = Conditioning(
            prompt=case.prompt,
            negative_prompt="",
            style=None,
            mood=None,
            tempo_bpm=None,
            key=None,
            duration_s=case.duration_s,
            seed=0,
            theme=wav(tune(case.theme_s, 1)) if case.theme_s else None,
            continuation=wav(tune(case.continuation_s, channels)) if case.continuation_s else None,
            temperature=0.0,
        )
        chunks = self.model.perform(conditioning).chunks
        for _ in chunks:
            pass
        # What the public interface gives is audio; codes are compared here.
        return chunks._piece.sequence.codes
