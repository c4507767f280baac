"""The master of a piece that is still being made: what mastering does to the whole, done to each part as it comes."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from orchestrion.audio.loudness import (
    FRAME_SAMPLES,
    GATE_HOP_S,
    FrameAnalyser,
    Frames,
    gated_mean_lufs,
    lufs_to_power,
    power_to_lufs,
)
from orchestrion.audio.mastering import CEILING_MARGIN_DB, FinishSpec, Limiter, Points, Shaper, gain_of_samples
from orchestrion.audio.pcm import Pcm

#: What a model's raw output measures when it cannot say.
DEFAULT_EXPECTED_LUFS: Final = -18.0
#: How fast a stream's gain may move: a fader moved this slowly is not noticed under music.
MAX_SLEW_DB_PER_S: Final = 1.0
#: In the first seconds a listener has nothing to compare with yet, and a wrong guess is mended sooner.
OPENING_S: Final = 4.0
OPENING_SLEW_DB_PER_S: Final = 2.0
#: How far a stream's gain may leave the plain difference of target and source.
MAX_CORRECTION_DB: Final = 6.0
#: After this long, what was heard counts as much as what was expected; a default guess is believed less.
TRUST_IN_MODEL_S: Final = 6.0
TRUST_IN_DEFAULT_S: Final = 3.0


class _Fader:
    """Rides the gain of a stream: once per gating hop, from what has been heard, towards the asked loudness."""

    def __init__(self, spec: FinishSpec, expected_lufs: float | None) -> None:
        self._spec = spec
        self._expected_lufs = DEFAULT_EXPECTED_LUFS if expected_lufs is None else expected_lufs
        self._trust_s = TRUST_IN_DEFAULT_S if expected_lufs is None else TRUST_IN_MODEL_S
        self._frames_per_s = spec.sample_rate_hz / FRAME_SAMPLES
        self._hop_frames = max(1, round(GATE_HOP_S * self._frames_per_s))
        self._gain_db = spec.loudness_lufs - self._expected_lufs
        self._wanted_db = self._gain_db
        self._frames_done = 0
        #: K-weighted energy of frames whose applied gain is not settled yet, and of whole hops before and after gain.
        self._waiting = np.zeros(0)
        self._heard = np.zeros((0, 2))
        self._hop_energy: list[npt.NDArray[np.float64]] = []

    def push(self, energy: npt.NDArray[np.float64]) -> Points:
        """The wished gain at the edges of frames of this energy, [frames + 1], linear."""
        self._waiting = np.concatenate([self._waiting, energy])
        edges_db = [np.array([self._gain_db])]
        left = len(energy)
        while left:
            count = min(self._hop_frames - self._frames_done % self._hop_frames, left)
            most_db = self._slew_db_per_s() * count / self._frames_per_s
            step_db = min(max(self._wanted_db - self._gain_db, -most_db), most_db)
            edges_db.append(self._gain_db + step_db * np.arange(1, count + 1) / count)
            self._gain_db += step_db
            self._frames_done += count
            left -= count
            if self._frames_done % self._hop_frames == 0:
                self._wanted_db = self._decide()
        return 10.0 ** (np.concatenate(edges_db) / 20.0)

    def heard(self, points: Points) -> None:
        """Learn what gain was applied in the end, after the limiter: the next settled points, one per frame."""
        count = min(len(points), len(self._waiting))
        source = self._waiting[:count]
        self._waiting = self._waiting[count:]
        self._heard = np.concatenate([self._heard, np.stack([source, source * points[:count] ** 2], axis=1)])
        while len(self._heard) >= self._hop_frames:
            self._hop_energy.append(self._heard[: self._hop_frames].sum(axis=0))
            self._heard = self._heard[self._hop_frames :]

    def _slew_db_per_s(self) -> float:
        started = self._frames_done < OPENING_S * self._frames_per_s
        return OPENING_SLEW_DB_PER_S if started else MAX_SLEW_DB_PER_S

    def _decide(self) -> float:
        if len(self._hop_energy) < 4:
            return self._wanted_db
        hops = np.array(self._hop_energy)
        # A gating block is four hops; [blocks, 2]: power before and after mastering.
        blocks = (hops[:-3] + hops[1:-2] + hops[2:-1] + hops[3:]) / (4 * self._hop_frames * FRAME_SAMPLES)
        source_lufs, result_lufs = gated_mean_lufs(blocks[:, 0]), gated_mean_lufs(blocks[:, 1])
        if not (np.isfinite(source_lufs) and np.isfinite(result_lufs)):
            return self._wanted_db
        return wanted_gain_db(
            target_lufs=self._spec.loudness_lufs,
            expected_lufs=self._expected_lufs,
            source_lufs=source_lufs,
            result_lufs=result_lufs,
            heard_s=len(hops) * GATE_HOP_S,
            whole_s=self._spec.duration_s,
            trust_s=self._trust_s,
        )


def wanted_gain_db(
    *,
    target_lufs: float,
    expected_lufs: float,
    source_lufs: float,
    result_lufs: float,
    heard_s: float,
    whole_s: float,
    trust_s: float,
) -> float:
    """The gain for the rest of a stream that would bring all of it to `target_lufs`.

    The whole source is taken to be as loud as a mean of `expected_lufs` and `source_lufs` (what was heard so far),
    which goes over to the latter with time, all of it at the end. What that leaves for the rest of the source, and
    what the target leaves for the rest of the result, differ by the gain. Kept within `MAX_CORRECTION_DB` of the plain
    difference, so that a quiet ending is not pumped up to mend a loud beginning.
    """
    left_s = max(GATE_HOP_S, whole_s - heard_s)
    whole_s = heard_s + left_s
    trust_in_heard = heard_s / (heard_s + trust_s * left_s / whole_s)
    whole_source_lufs = expected_lufs + (source_lufs - expected_lufs) * trust_in_heard
    plain_db = target_lufs - whole_source_lufs
    gain_db = _rest_lufs(target_lufs, result_lufs, heard_s, left_s) - _rest_lufs(
        whole_source_lufs, source_lufs, heard_s, left_s
    )
    return min(max(gain_db, plain_db - MAX_CORRECTION_DB), plain_db + MAX_CORRECTION_DB)


def _rest_lufs(whole_lufs: float, heard_lufs: float, heard_s: float, left_s: float) -> float:
    """How loud the rest must be for the whole to be `whole_lufs`; within −10 and +6 LU of that."""
    whole = lufs_to_power(whole_lufs)
    rest = ((heard_s + left_s) * whole - heard_s * lufs_to_power(heard_lufs)) / left_s
    return power_to_lufs(min(max(rest, whole / 10.0), whole * 4.0))


class StreamFinisher:
    """Masters a track while it is being made; the joined output has exactly `spec.samples` samples.

    The output does not depend on how the source is cut into chunks. It lags the source by about 0.15 s.
    """

    def __init__(self, source_rate_hz: int, channels: int, spec: FinishSpec, expected_lufs: float | None) -> None:
        self._shaper = Shaper(source_rate_hz, channels, spec)
        source_channels, channels = channels, spec.channels_of(channels)
        if expected_lufs is not None:
            # Loudness is of all channels together, and each of them keeps its power.
            expected_lufs += 10.0 * math.log10(channels / source_channels)
        self._analyser = FrameAnalyser(spec.sample_rate_hz, channels)
        self._fader = _Fader(spec, expected_lufs)
        self._limiter = Limiter(spec.sample_rate_hz, spec.true_peak_ceiling_dbtp - CEILING_MARGIN_DB)
        self._shaped = np.zeros((0, channels), np.float32)
        self._points = np.zeros(0)

    def push(self, chunk: Pcm) -> Pcm:
        """Take the next [samples, channels] of the source; give the finished samples that are ready (maybe none)."""
        return self._join([self._master(block) for block in self._shaper.push(chunk)])

    def flush(self) -> Pcm:
        """End of the source; give the rest of the track.

        Raises:
            ModelFailed: the source was shorter than the track.
        """
        parts = [self._master(block) for block in self._shaper.flush()]
        self._take(self._analyser.flush())
        self._points = np.concatenate([self._points, self._limiter.flush()])
        return self._join([*parts, self._give(len(self._shaped))])

    def _join(self, parts: list[Pcm]) -> Pcm:
        return np.concatenate(parts) if parts else self._shaped[:0].copy()

    def _master(self, block: Pcm) -> Pcm:
        self._shaped = np.concatenate([self._shaped, block])
        self._take(self._analyser.push(block))
        return self._give(max(0, len(self._points) - 1) * FRAME_SAMPLES)

    def _take(self, frames: Frames) -> None:
        settled = self._limiter.push(frames.peak, self._fader.push(frames.energy))
        self._fader.heard(settled)
        self._points = np.concatenate([self._points, settled])

    def _give(self, samples: int) -> Pcm:
        finished = self._shaped[:samples] * gain_of_samples(self._points, 0, samples)
        self._shaped = self._shaped[samples:]
        self._points = self._points[samples // FRAME_SAMPLES :]
        return finished
