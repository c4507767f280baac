"""A tiny deterministic model for tests of everything around a model: a plucked tone per second, pitched by the seed.

Words in the prompt steer it, unless it is not `steered`: "break" raises, "silence" plays nothing, "fail" fails.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from orchestrion.audio.pcm import Pcm
from orchestrion.errors import ModelFailed
from orchestrion.models.protocol import Conditioning, ModelInfo, Performance, Prepared

MIDI = b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x01\xe0MTrk\x00\x00\x00\x04\x00\xff\x2f\x00"


class ToneModel:
    """Stands in for a model where its music does not matter."""

    def __init__(
        self, name: str = "tone", *, commercial_use: bool = True, sample_rate_hz: int = 8000, steered: bool = True
    ) -> None:
        self.info = ModelInfo(
            name=name,
            revision="tone-1",
            weights_licence="MIT" if commercial_use else "CC-BY-NC-4.0",
            commercial_use=commercial_use,
            sample_rate_hz=sample_rate_hz,
            channels=2,
            max_duration_s=60.0,
            controls=("theme", "continuation", "guidance"),
        )
        self._steered = steered
        self.performed = 0
        self.batch_sizes: list[int] = []
        self.open_performances = 0

    def prepare(self, conditioning: Conditioning) -> None:
        """Nothing."""

    def perform(
        self,
        conditioning: Conditioning,
        *,
        interactive: bool = True,
        resume: bytes | None = None,
        prepared: Prepared | None = None,
    ) -> Performance:
        """A plucked tone every second; chunks of half a second."""
        if self._is_told("fail", conditioning):
            raise ModelFailed("the tone model was asked to fail")
        self.performed += 1
        return Performance(self._chunks(conditioning), lambda: MIDI, expected_lufs=-18.0, choices={"tempo_bpm": 60.0})

    def _is_told(self, word: str, conditioning: Conditioning) -> bool:
        return self._steered and word in conditioning.prompt

    def _chunks(self, conditioning: Conditioning) -> Iterator[Pcm]:
        rate_hz = self.info.sample_rate_hz
        total = round(conditioning.duration_s * rate_hz)
        time_s = np.arange(total) / rate_hz
        audio = np.sin(2 * np.pi * (220 + conditioning.seed % 440) * time_s) * np.exp(-2 * (time_s % 1.0))
        audio *= not self._is_told("silence", conditioning)
        self.open_performances += 1
        try:
            for start in range(0, total, rate_hz // 2):
                if start > 0 and self._is_told("break", conditioning):
                    raise RuntimeError("a string snapped")
                mono = audio[start : start + rate_hz // 2]
                yield np.repeat(mono[:, None], 2, axis=1).astype(np.float32) * 0.5
        finally:
            self.open_performances -= 1
