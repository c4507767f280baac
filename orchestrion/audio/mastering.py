"""Mastering: trim, resample, fade, bring to the asked loudness, and keep true peaks under a ceiling.

`finish` masters a whole track, `StreamFinisher` one that is still being made. Both shape the audio (resample, cut,
fade) with the same code on the same blocks, so before the loudness gain they are equal bit for bit. They part in the
gain: `finish` knows the loudness and applies one gain; a stream cannot know it, so it starts from what the model
expects and corrects by at most `MAX_SLEW_DB_PER_S` as it hears itself. See docs/decisions/0004-streaming-loudness.md.

All gain decisions are made on frames (see `orchestrion.audio.loudness`), one gain point per frame edge, and the audio
is multiplied once by the line through those points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import soxr
from scipy.ndimage import minimum_filter1d

from orchestrion.audio.channels import MonoFold
from orchestrion.audio.loudness import (
    FRAME_SAMPLES,
    FrameAnalyser,
    Frames,
    decibels,
    gated_lufs,
)
from orchestrion.audio.pcm import Pcm
from orchestrion.errors import ModelFailed
from orchestrion.tracks.request import TrackRequest

#: Part of every track's id. Raise it whenever the same model output would finish to different audio.
RECIPE_VERSION: Final = "1"
#: Even a track with no fades starts and ends here, or a waveform cut off its zero line would click.
MIN_FADE_S: Final = 0.005
#: A source may end this much early (rounding of lengths between two sampling rates); the rest is silence.
MAX_SHORTFALL_S: Final = 0.002
#: The limiter aims this far under the ceiling: a moving gain and 16-bit rounding lift peaks by less.
CEILING_MARGIN_DB: Final = 0.1
#: Attack of the limiter, and so its look-ahead.
LOOK_AHEAD_S: Final = 0.005
#: Linear in dB: 6 dB of reduction are gone after 120 ms, slow enough not to distort a bass note.
RELEASE_DB_PER_S: Final = 50.0
#: More limiting than this for the sake of loudness would be heard; the loudness check then fails the track.
MAX_EXTRA_GAIN_DB: Final = 12.0
#: How often a limited track is measured and its gain mended before it is taken as it is.
SETTLING_ROUNDS: Final = 3
#: Source samples processed at a time, however they come in: fixed, so that the output does not depend on chunking.
_BLOCK_SAMPLES: Final = 4096
Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FinishSpec:
    """What a finished track must be."""

    duration_s: float
    sample_rate_hz: int
    loudness_lufs: float
    fade_in_s: float
    fade_out_s: float
    true_peak_ceiling_dbtp: float = -1.0
    #: 1 or 2; None: as many as its source has.
    channels: int | None = None
    #: Whether its end joins its beginning: then nothing of it is faded.
    loop: bool = False

    @classmethod
    def of(cls, request: TrackRequest) -> FinishSpec:
        """What `request` asks its finished track to be."""
        return cls(
            duration_s=request.composition.duration_s,
            sample_rate_hz=request.delivery.sample_rate_hz,
            loudness_lufs=request.delivery.loudness_lufs,
            fade_in_s=request.delivery.fade_in_s,
            fade_out_s=request.delivery.fade_out_s,
            channels=request.delivery.channels,
            loop=bool(request.composition.loop),
        )

    @property
    def samples(self) -> int:
        """Exact length of the finished audio."""
        return round(self.duration_s * self.sample_rate_hz)

    def channels_of(self, source_channels: int) -> int:
        """How many channels the finished audio has, of a source with so many."""
        return self.channels or source_channels


def finish(audio: Pcm, source_rate_hz: int, spec: FinishSpec) -> Pcm:
    """Master a whole track.

    Args:
        audio: [samples, channels] float32 at `source_rate_hz`, at least `spec.duration_s` long; not changed.
        source_rate_hz: Sampling rate of `audio`.
        spec: What the result must be.

    Returns:
        [spec.samples, the spec's channels] float32 at `spec.sample_rate_hz`, at the asked loudness (BS.1770-5) where
        `MAX_EXTRA_GAIN_DB` of limiting can reach it, true peak under the ceiling. Silence stays silence.

    Raises:
        ModelFailed: `audio` is shorter than the track.
    """
    shaped = shape(audio, source_rate_hz, spec)
    gain = _master_gain(shaped, spec)
    for start, stop in _blocks(len(shaped)):
        shaped[start:stop] *= gain_of_samples(gain, start, stop)
    return shaped


def shape(audio: Pcm, source_rate_hz: int, spec: FinishSpec) -> Pcm:
    """The finished track before loudness: resampled, cut to length, faded. What a stream has, sample for sample.

    A loop is another matter: here its ends are resampled as its other end goes on, which a stream cannot know.

    Raises:
        ModelFailed: `audio` is shorter than the track.
    """
    if spec.loop and len(audio):
        length = min(len(audio), round(spec.duration_s * source_rate_hz))
        # A second, which is a whole number of samples at any rate.
        around = np.arange(-source_rate_hz, length + source_rate_hz) % length
        longer = replace(spec, duration_s=spec.duration_s + 2.0)
        return _shaped(audio[around], source_rate_hz, longer)[spec.sample_rate_hz :][: spec.samples]
    return _shaped(audio, source_rate_hz, spec)


def _shaped(audio: Pcm, source_rate_hz: int, spec: FinishSpec) -> Pcm:
    shaped = np.empty((spec.samples, spec.channels_of(audio.shape[1])), np.float32)
    shaper = Shaper(source_rate_hz, audio.shape[1], spec)
    done = 0
    for start in range(0, len(audio), _BLOCK_SAMPLES):
        for block in shaper.push(audio[start : start + _BLOCK_SAMPLES]):
            shaped[done : done + len(block)] = block
            done += len(block)
    for block in shaper.flush():
        shaped[done : done + len(block)] = block
        done += len(block)
    return shaped


class Shaper:
    """Folds or doubles channels, resamples, cuts and fades in fixed blocks."""

    def __init__(self, source_rate_hz: int, channels: int, spec: FinishSpec) -> None:
        self._spec = spec
        self._held = np.zeros((0, channels), np.float32)
        self._channels = spec.channels_of(channels)
        self._fold = MonoFold(source_rate_hz) if self._channels < channels else None
        self._resampler = (
            None
            if source_rate_hz == spec.sample_rate_hz
            else soxr.ResampleStream(source_rate_hz, spec.sample_rate_hz, self._channels, dtype="float32", quality="HQ")
        )
        self._done = 0

    def push(self, chunk: Pcm) -> Iterator[Pcm]:
        """Take the next source samples; give the shaped blocks they complete."""
        held = np.concatenate([self._held, chunk]) if len(self._held) else chunk
        whole = len(held) // _BLOCK_SAMPLES * _BLOCK_SAMPLES
        self._held = held[whole:].copy()
        for start in range(0, whole, _BLOCK_SAMPLES):
            yield self._shape(held[start : start + _BLOCK_SAMPLES], last=False)

    def flush(self) -> Iterator[Pcm]:
        """End of the source; give the rest of the track.

        Raises:
            ModelFailed: the source was too short.
        """
        yield self._shape(self._held, last=True)
        missing = self._spec.samples - self._done
        if missing > MAX_SHORTFALL_S * self._spec.sample_rate_hz:
            raise ModelFailed(
                f"the model gave {self._done / self._spec.sample_rate_hz:.3f} s of the {self._spec.duration_s:.3f} s "
                "that were asked for; ask for a shorter track or another model"
            )
        yield np.zeros((missing, self._channels), np.float32)

    def _shape(self, source: Pcm, *, last: bool) -> Pcm:
        if self._fold is not None:
            source = self._fold.push(source, last=last)
        elif self._channels > source.shape[1]:
            source = np.repeat(source, self._channels, axis=1)
        if self._resampler is None:
            block = source.astype(np.float32)
        else:
            block = self._resampler.resample_chunk(np.ascontiguousarray(source, dtype=np.float32), last=last)
        block = block[: self._spec.samples - self._done]
        if not self._spec.loop:
            _fade(block, self._done, self._spec)
        self._done += len(block)
        return block


def _fade(block: Pcm, start: int, spec: FinishSpec) -> None:
    """Apply, in place, what falls on samples `start`… of the raised-cosine fades at both ends of the track."""
    fade_in = max(1, round(max(spec.fade_in_s, MIN_FADE_S) * spec.sample_rate_hz))
    fade_out = max(1, round(max(spec.fade_out_s, MIN_FADE_S) * spec.sample_rate_hz))
    stop = start + len(block)
    if start < fade_in:
        position = np.arange(start, min(stop, fade_in))
        block[: len(position)] *= _raised_cosine(position / fade_in)
    if stop > spec.samples - fade_out:
        position = np.arange(max(start, spec.samples - fade_out), stop)
        block[len(block) - len(position) :] *= _raised_cosine((spec.samples - 1 - position) / fade_out)


def _raised_cosine(fraction: npt.NDArray[np.float64]) -> Pcm:
    return (0.5 - 0.5 * np.cos(np.pi * fraction)).astype(np.float32)[:, None]


def _blocks(samples: int) -> Iterator[tuple[int, int]]:
    for start in range(0, samples, _BLOCK_SAMPLES):
        yield start, min(samples, start + _BLOCK_SAMPLES)


def gain_of_samples(points: Points, start: int, stop: int) -> Pcm:
    """The line through the gain points, at samples [start, stop); `start` is on a frame edge. [samples, 1]."""
    first, last = start // FRAME_SAMPLES, -(-stop // FRAME_SAMPLES)
    ramp = np.arange(FRAME_SAMPLES) / FRAME_SAMPLES
    left, right = points[first:last, None], points[first + 1 : last + 1, None]
    return (left + (right - left) * ramp).reshape(-1, 1)[: stop - start].astype(np.float32)


def _master_gain(shaped: Pcm, spec: FinishSpec) -> Points:
    """Gain points ([frames + 1], linear) that bring the track to its loudness under its ceiling."""
    frames = _analyse(shaped, None, spec)
    source_lufs = gated_lufs(frames.energy, spec.samples, spec.sample_rate_hz)
    if not np.isfinite(source_lufs):
        return _limited(frames, 0.0, spec.true_peak_ceiling_dbtp - CEILING_MARGIN_DB, spec)
    makeup_db = spec.loudness_lufs - source_lufs
    ceiling_dbtp = spec.true_peak_ceiling_dbtp - CEILING_MARGIN_DB
    if decibels(float(frames.peak.max())) + makeup_db <= ceiling_dbtp:
        return np.full(len(frames.peak) + 1, 10.0 ** (makeup_db / 20.0))

    aim_lufs = spec.loudness_lufs
    points = _limited_to_loudness(frames, aim_lufs, ceiling_dbtp, spec)
    # The frames predict loudness and peak of the limited audio to a few hundredths; measured audio settles the rest.
    highest_dbtp = spec.true_peak_ceiling_dbtp - CEILING_MARGIN_DB / 2
    for _ in range(SETTLING_ROUNDS):
        result = _analyse(shaped, points, spec)
        error_lu = gated_lufs(result.energy, spec.samples, spec.sample_rate_hz) - spec.loudness_lufs
        overshoot_db = max(0.0, decibels(float(result.peak.max())) - highest_dbtp)
        if abs(error_lu) < 0.1 and overshoot_db == 0.0:
            return points
        aim_lufs -= error_lu
        ceiling_dbtp -= overshoot_db
        points = _limited_to_loudness(frames, aim_lufs, ceiling_dbtp, spec)
    # The ceiling is a promise, so what still overshoots is turned down as a whole.
    overshoot_db = max(0.0, decibels(float(_analyse(shaped, points, spec).peak.max())) - highest_dbtp)
    points *= 10.0 ** (-overshoot_db / 20.0)
    return points


def _analyse(shaped: Pcm, gain: Points | None, spec: FinishSpec) -> Frames:
    """Frames of the track, as it is or as `gain` would make it."""
    analyser = FrameAnalyser(spec.sample_rate_hz, shaped.shape[1])
    parts = []
    for start, stop in _blocks(len(shaped)):
        block = shaped[start:stop]
        parts.append(analyser.push(block if gain is None else block * gain_of_samples(gain, start, stop)))
    parts.append(analyser.flush())
    return Frames(np.concatenate([p.energy for p in parts]), np.concatenate([p.peak for p in parts]))


def _limited_to_loudness(frames: Frames, aim_lufs: float, ceiling_dbtp: float, spec: FinishSpec) -> Points:
    """Gain points that make the track read `aim_lufs` after limiting, as the frames predict it."""
    makeup_db = aim_lufs - gated_lufs(frames.energy, spec.samples, spec.sample_rate_hz)
    most_db = makeup_db + MAX_EXTRA_GAIN_DB
    points = _limited(frames, makeup_db, ceiling_dbtp, spec)
    for _ in range(8):
        error_lu = _predicted_lufs(frames, points, spec) - aim_lufs
        if abs(error_lu) < 0.02 or makeup_db == most_db:
            break
        makeup_db = min(most_db, makeup_db - error_lu)
        points = _limited(frames, makeup_db, ceiling_dbtp, spec)
    return points


def _predicted_lufs(frames: Frames, points: Points, spec: FinishSpec) -> float:
    energy = frames.energy * (points[:-1] * points[1:])
    return gated_lufs(energy, spec.samples, spec.sample_rate_hz)


def _limited(frames: Frames, makeup_db: float, ceiling_dbtp: float, spec: FinishSpec) -> Points:
    limiter = Limiter(spec.sample_rate_hz, ceiling_dbtp)
    frame_count = len(frames.peak)
    # The gain at the end of a loop goes on at its beginning: both are limited as they will be heard.
    around = min(frame_count, spec.sample_rate_hz // FRAME_SAMPLES) if spec.loop else 0
    peak = np.concatenate([frames.peak[frame_count - around :], frames.peak, frames.peak[:around]])
    makeup = np.full(len(peak) + 1, 10.0 ** (makeup_db / 20.0))
    points = np.concatenate([limiter.push(peak, makeup), limiter.flush()])
    return points[around : around + frame_count + 1]


class Limiter:
    """A look-ahead true-peak limiter on frames: peaks and wished gain in, a smooth gain that obeys the ceiling out.

    At each gain point the reduction is the smallest (in dB) that the frames on both sides allow; the minimum over the
    look-ahead, released linearly and then averaged over the same look-ahead, can never exceed it.
    """

    def __init__(self, sample_rate_hz: int, ceiling_dbtp: float) -> None:
        frames_per_s = sample_rate_hz / FRAME_SAMPLES
        self._ahead = max(2, round(LOOK_AHEAD_S * frames_per_s))
        self._release_db = RELEASE_DB_PER_S / frames_per_s
        self._ceiling_dbtp = ceiling_dbtp
        half = self._ahead // 2
        kernel = np.convolve(np.ones(half + 1), np.ones(self._ahead - half + 1))
        self._kernel = kernel / kernel.sum()
        self._allowed_before_db = 0.0
        #: Allowed gain at the points that still wait for their look-ahead, and the wished gain there.
        self._allowed_db = np.zeros(0)
        self._wished = np.zeros(0)
        self._released_db = np.zeros(len(self._kernel) - 1)

    def push(self, peak: npt.NDArray[np.float32], wished: Points) -> Points:
        """Take frames and the wished gain at their edges ([frames] and [frames + 1]); give the points that are settled.

        The last wished point is the next push's first.
        """
        if not len(peak):
            return np.zeros(0)
        highest = np.maximum(peak * np.maximum(wished[:-1], wished[1:]), 1e-10)
        frame_allows_db = np.minimum(0.0, self._ceiling_dbtp - 20.0 * np.log10(highest))
        before_db = np.concatenate([[self._allowed_before_db], frame_allows_db[:-1]])
        self._allowed_before_db = frame_allows_db[-1]
        self._allowed_db = np.concatenate([self._allowed_db, np.minimum(before_db, frame_allows_db)])
        self._wished = np.concatenate([self._wished, wished[:-1]])
        self._last_wished = wished[-1]
        return self._settle(len(self._allowed_db) - self._ahead)

    def flush(self) -> Points:
        """End of the track: give the rest, up to and with its last edge."""
        self._wished = np.concatenate([self._wished, [self._last_wished]])
        left = len(self._wished)
        self._allowed_db = np.concatenate([self._allowed_db, [self._allowed_before_db], np.zeros(self._ahead)])
        return self._settle(left)

    def _settle(self, points: int) -> Points:
        if points <= 0:
            return np.zeros(0)
        window = self._ahead + 1
        ahead_db = minimum_filter1d(
            self._allowed_db[: points + self._ahead], window, origin=-(window // 2), mode="nearest"
        )
        climb_db = self._release_db * np.arange(1, points + 1)
        released_db = np.minimum.accumulate(ahead_db[:points] - climb_db)
        released_db = np.minimum(released_db, self._released_db[-1]) + climb_db
        smooth_db = np.convolve(np.concatenate([self._released_db, released_db]), self._kernel, mode="valid")
        self._released_db = np.concatenate([self._released_db, released_db])[-len(self._released_db) :]
        settled = self._wished[:points] * 10.0 ** (smooth_db / 20.0)
        self._allowed_db = self._allowed_db[points:]
        self._wished = self._wished[points:]
        return settled
