"""Two channels made one, and one made two.

A plain sum of two channels loses what differs between them: of a wide pad it leaves little, of two opposite waves
nothing. Here what both have stays as it is, and what differs is turned by a quarter of a wave before it is added, so
that the two cannot cancel (docs/decisions/0041-mono.md).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft

from orchestrion.audio.pcm import Pcm

#: The filter reaches this far to both sides: enough to turn 30 Hz.
REACH_S: Final = 0.046


class MonoFold:
    """Folds stereo block by block; the joined result has as many samples, and lies where its source lies.

    It holds `REACH_S` back. How the source is cut into blocks changes the result by rounding only.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        self._reach = round(REACH_S * sample_rate_hz)
        self._turn = _quarter_wave(self._reach)
        self._side = np.zeros(2 * self._reach)
        self._middle = np.zeros(self._reach)
        #: Samples that still come out before the first of the source.
        self._early = self._reach

    def push(self, audio: Pcm, *, last: bool) -> Pcm:
        """Take the next [samples, 2]; give the [samples, 1] that are ready, with the last block all that are left."""
        if last:
            audio = np.concatenate([audio, np.zeros((self._reach, 2), np.float32)])
        left, right = audio[:, 0].astype(np.float64), audio[:, 1].astype(np.float64)
        middle = np.concatenate([self._middle, (left + right) / 2])
        side = np.concatenate([self._side, (left - right) / 2])
        folded = middle[: len(audio)] + _filtered(side, self._turn)
        self._middle, self._side = middle[len(audio) :], side[len(audio) :]
        early = min(self._early, len(folded))
        self._early -= early
        return folded[early:, None].astype(np.float32)


def _quarter_wave(reach: int) -> npt.NDArray[np.float64]:
    """The filter that turns every wave by a quarter: Hilbert's, [2 · reach + 1], under a Hamming window."""
    n = np.arange(-reach, reach + 1)
    odd = n % 2 != 0
    ideal = np.zeros(len(n))
    ideal[odd] = 2.0 / (np.pi * n[odd])
    return ideal * np.hamming(len(n))


def _filtered(signal: npt.NDArray[np.float64], kernel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Their convolution where both lie over each other wholly: [len(signal) − len(kernel) + 1]."""
    size = next_fast_len(len(signal), real=True)
    whole: npt.NDArray[np.float64] = irfft(rfft(signal, size) * rfft(kernel, size), size)
    # What wraps around falls on the samples before these.
    return whole[len(kernel) - 1 : len(signal)]
