"""How loud audio is and how high it peaks: ITU-R BS.1770-5 loudness and true peak.

Two ways to the same figure. `integrated_lufs` asks pyloudnorm about a whole track and is the judge. `FrameAnalyser`
reads a track block by block and keeps, per frame of 16 samples, its K-weighted energy and its true peak: all that
mastering needs to decide a gain, in 1/16 of the audio's size and without a second pass over it.

pyloudnorm's default filter reads 0.05 LU low, so its "DeMan" filter is used, which agrees with libebur128.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import pyloudnorm
import soxr
from pyloudnorm.iirfilter import IIRfilter
from scipy.signal import sosfilt

from orchestrion.audio.pcm import Pcm

_Real = TypeVar("_Real", np.float32, np.float64)

#: One gain point per frame: 0.36 ms at 44.1 kHz, far shorter than any gain ramp.
FRAME_SAMPLES: Final = 16
OVERSAMPLING: Final = 4
#: Samples measured at a time; 4× oversampled in stereo this is 2 MiB.
_BLOCK_SAMPLES: Final = 1 << 16

#: BS.1770-5: blocks of 400 ms every 100 ms, gated at −70 LUFS and at 10 LU under the mean.
_GATE_BLOCK_S: Final = 0.4
GATE_HOP_S: Final = 0.1
_ABSOLUTE_GATE_LUFS: Final = -70.0
_RELATIVE_GATE_LU: Final = -10.0
_LUFS_OFFSET: Final = -0.691


def integrated_lufs(audio: Pcm, sample_rate_hz: int) -> float:
    """Gated programme loudness of `audio` ([samples, 1..5 channels]) in LUFS; −inf when nothing passes the gate.

    A clip shorter than one 400 ms gating block is measured as that block with silence after it.
    """
    block_samples = int(np.ceil(_GATE_BLOCK_S * sample_rate_hz))
    if len(audio) < block_samples:
        audio = np.pad(audio, ((0, block_samples - len(audio)), (0, 0)))
    meter = pyloudnorm.Meter(sample_rate_hz, filter_class="DeMan")
    return float(meter.integrated_loudness(audio))


def true_peak_dbtp(audio: Pcm, sample_rate_hz: int) -> float:
    """Highest level between and at the samples of `audio` ([samples, channels]), in dB of full scale; −inf for silence.

    BS.1770-5 annex 2 with soxr's 4× interpolation; the memory needed does not grow with the audio.
    """
    peak = float(np.abs(audio).max(initial=0.0))
    oversampler = _oversampler(sample_rate_hz, audio.shape[1])
    for start in range(0, len(audio), _BLOCK_SAMPLES):
        block = np.ascontiguousarray(audio[start : start + _BLOCK_SAMPLES], dtype=np.float32)
        between = oversampler.resample_chunk(block, last=start + _BLOCK_SAMPLES >= len(audio))
        peak = max(peak, float(np.abs(between).max(initial=0.0)))
    return decibels(peak)


def decibels(ratio: float) -> float:
    """Amplitude ratio in dB; −inf for 0."""
    return float(20.0 * np.log10(ratio)) if ratio > 0.0 else float("-inf")


def _oversampler(sample_rate_hz: int, channels: int) -> soxr.ResampleStream:
    return soxr.ResampleStream(sample_rate_hz, OVERSAMPLING * sample_rate_hz, channels, dtype="float32", quality="HQ")


@dataclass(frozen=True, slots=True)
class Frames:
    """What mastering needs to know of a stretch of audio, one value per frame of `FRAME_SAMPLES` samples."""

    #: K-weighted energy: squares summed over samples and channels, [frames] float64.
    energy: npt.NDArray[np.float64]
    #: Highest true peak of any channel, full scale at 1, [frames] float32.
    peak: npt.NDArray[np.float32]


class FrameAnalyser:
    """Reads audio block by block; gives each frame once both its energy and its true peak are known.

    The interpolator holds about 20 ms back, so frames come a little after their samples. The result does not depend
    on how the audio is cut as far as soxr's does not: cut it the same way for the same bits.
    """

    def __init__(self, sample_rate_hz: int, channels: int) -> None:
        self._filter = k_weighting(sample_rate_hz)
        self._filter_state = np.zeros((len(self._filter), 2, channels))
        self._oversampler = _oversampler(sample_rate_hz, channels)
        self._power = np.zeros(0)
        self._level = np.zeros(0, np.float32)
        self._level_between = np.zeros(0, np.float32)

    def push(self, audio: Pcm) -> Frames:
        """Take the next [samples, channels]; give the frames that are complete."""
        self._take(audio, last=False)
        ready = min(len(self._level) // FRAME_SAMPLES, len(self._level_between) // (OVERSAMPLING * FRAME_SAMPLES))
        return self._give(ready)

    def flush(self) -> Frames:
        """End of the audio: give what is left; the last frame may cover fewer samples."""
        channels = self._filter_state.shape[2]
        self._take(np.zeros((0, channels), np.float32), last=True)
        frames = -(-len(self._level) // FRAME_SAMPLES)
        self._level = _fit(self._level, frames * FRAME_SAMPLES)
        self._power = _fit(self._power, frames * FRAME_SAMPLES)
        self._level_between = _fit(self._level_between, frames * FRAME_SAMPLES * OVERSAMPLING)
        return self._give(frames)

    def _take(self, audio: Pcm, *, last: bool) -> None:
        if len(audio):
            weighted, self._filter_state = sosfilt(self._filter, audio, axis=0, zi=self._filter_state)
            self._power = np.concatenate([self._power, _channel_power(weighted)])
            self._level = np.concatenate([self._level, _loudest_channel(audio)])
        between = self._oversampler.resample_chunk(audio, last=last)
        self._level_between = np.concatenate([self._level_between, _loudest_channel(between)])

    def _give(self, frames: int) -> Frames:
        samples = frames * FRAME_SAMPLES
        at_samples = self._level[:samples].reshape(frames, FRAME_SAMPLES).max(axis=1)
        between = self._level_between[: samples * OVERSAMPLING].reshape(frames, FRAME_SAMPLES * OVERSAMPLING)
        energy = self._power[:samples].reshape(frames, FRAME_SAMPLES).sum(axis=1)
        result = Frames(energy, np.maximum(at_samples, between.max(axis=1)))
        self._power = self._power[samples:]
        self._level = self._level[samples:]
        self._level_between = self._level_between[samples * OVERSAMPLING :]
        return result


def _loudest_channel(audio: Pcm) -> npt.NDArray[np.float32]:
    # Column by column: numpy's reduction over an axis of length 2 is ten times slower.
    level: npt.NDArray[np.float32] = np.abs(audio[:, 0])
    for channel in range(1, audio.shape[1]):
        np.maximum(level, np.abs(audio[:, channel]), out=level)
    return level


def _channel_power(audio: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    power: npt.NDArray[np.float64] = np.square(audio[:, 0])
    for channel in range(1, audio.shape[1]):
        power += np.square(audio[:, channel])
    return power


def _fit(values: npt.NDArray[_Real], length: int) -> npt.NDArray[_Real]:
    return values[:length] if len(values) >= length else np.pad(values, (0, length - len(values)))


def k_weighting(sample_rate_hz: int) -> npt.NDArray[np.float64]:
    """The two biquads of BS.1770's K-weighting at this rate, [2, 6] second-order sections (pyloudnorm's "DeMan")."""
    shelf = IIRfilter(3.99984385397, 0.7071752369554193, 1681.9744509555319, sample_rate_hz, "high_shelf_DeMan")
    high_pass = IIRfilter(0.0, 0.5003270373253953, 38.13547087613982, sample_rate_hz, "high_pass_DeMan")
    return np.array([[*stage.b, *stage.a] for stage in (shelf, high_pass)], dtype=np.float64)


def gated_lufs(frame_energy: npt.NDArray[np.float64], samples: int, sample_rate_hz: int) -> float:
    """Integrated loudness of `samples` samples from their frames' K-weighted energy; −inf when nothing passes.

    Blocks are laid as pyloudnorm lays them; a block's edge inside a frame takes its share of that frame.
    """
    duration_s = samples / sample_rate_hz
    blocks = max(1, round((duration_s - _GATE_BLOCK_S) / GATE_HOP_S) + 1)
    power = block_power(frame_energy, blocks, sample_rate_hz)
    return gated_mean_lufs(power)


def block_power(frame_energy: npt.NDArray[np.float64], blocks: int, sample_rate_hz: int) -> npt.NDArray[np.float64]:
    """Mean K-weighted power, summed over channels, of each of the first `blocks` gating blocks."""
    so_far = np.concatenate([[0.0], np.cumsum(frame_energy)])
    starts = np.arange(blocks) * GATE_HOP_S * sample_rate_hz / FRAME_SAMPLES
    length = _GATE_BLOCK_S * sample_rate_hz / FRAME_SAMPLES
    at = np.arange(len(so_far))
    energy = np.interp(starts + length, at, so_far) - np.interp(starts, at, so_far)
    power: npt.NDArray[np.float64] = np.maximum(energy, 0.0) / (_GATE_BLOCK_S * sample_rate_hz)
    return power


def gated_mean_lufs(power: npt.NDArray[np.float64]) -> float:
    """Loudness of gating blocks of this power after both gates."""
    above_absolute = power[power >= lufs_to_power(_ABSOLUTE_GATE_LUFS)]
    if not len(above_absolute):
        return float("-inf")
    relative_gate = above_absolute.mean() * 10.0 ** (_RELATIVE_GATE_LU / 10.0)
    return power_to_lufs(float(above_absolute[above_absolute > relative_gate].mean()))


def lufs_to_power(lufs: float) -> float:
    """K-weighted mean power that reads as `lufs`."""
    return float(10.0 ** ((lufs - _LUFS_OFFSET) / 10.0))


def power_to_lufs(power: float) -> float:
    """The reading of this K-weighted mean power; −inf for 0."""
    return float(_LUFS_OFFSET + 10.0 * np.log10(power)) if power > 0.0 else float("-inf")
