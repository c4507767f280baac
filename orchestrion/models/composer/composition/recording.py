"""The notes of a recorded melody, and its tempo.

Audio is read as one voice (swift-f0); what a pitch tracker does to a melody is mended here: notes are split at
onsets, octave blips are put back, and times are fitted to a grid whose tempo is estimated from the onsets.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
import soxr
import swift_f0

from orchestrion.audio.pcm import Pcm

_TRACKER_RATE_HZ: Final = 16_000
#: (start s, length s, pitch) of a tracked note.
TrackedNote = tuple[float, float, int]
_HOP_S: Final = 0.008
#: Notes shorter than this are slips of the tracker.
_SHORTEST_S: Final = 0.06
#: An attack inside a note is a new note when it has this share of the strength of the usual attack.
_ATTACK_SHARE: Final = 0.5


@cache
def _tracker() -> swift_f0.SwiftF0:
    # One thread: the same bits on every machine, and the replica's other work keeps its cores.
    return swift_f0.SwiftF0(threads=1, spin=False)


#: Themes are prepared by several threads, and swift-f0 does not say that they may use it at once.
_TRACKING: Final = threading.Lock()


def tracked_notes(mono: Pcm, rate_hz: int) -> list[TrackedNote]:
    """The notes of a one-voice recording, [samples]; none where there is no pitch."""
    mono = soxr.resample(mono, rate_hz, _TRACKER_RATE_HZ).astype(np.float32)
    with _TRACKING:
        result = _tracker().detect(mono, _TRACKER_RATE_HZ)
    found: list[TrackedNote] = [
        (float(s.start), float(s.end - s.start), round(69 + 12 * float(np.log2(s.pitch_hz / 440))))
        for s in swift_f0.segment_notes(result)
    ]
    notes = _without_octave_blips([note for note in found if note[1] >= _SHORTEST_S])
    return _split_at_attacks(notes, _attacks(mono)) if notes else []


def _attacks(mono: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Spectral flux, one value every 8 ms: how much of the sound around it is newly there, 0 … 1 or so."""
    hop, size = round(_HOP_S * _TRACKER_RATE_HZ), 512
    padded = np.pad(mono, (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * np.hanning(size)
    magnitude = np.abs(np.fft.rfft(frames, axis=1))
    level = magnitude.sum(1)
    around = np.maximum(level[3:], 0.05 * level.max() + 1e-9)
    rise = np.maximum(0, magnitude[3:] - magnitude[:-3]).sum(1) / around
    flux: npt.NDArray[np.float64] = np.concatenate([np.zeros(2), rise, np.zeros(1)])
    return flux


def _split_at_attacks(notes: Sequence[TrackedNote], flux: npt.NDArray[np.float64]) -> list[TrackedNote]:
    """Notes cut where one is struck again, and joined where the tracker broke one that was not."""

    def strongest(start_s: float, end_s: float) -> tuple[float, float]:
        first, last = max(0, round(start_s / _HOP_S)), max(1, round(end_s / _HOP_S))
        window = flux[first:last]
        if not len(window):
            return 0.0, start_s
        return float(window.max()), (first + int(window.argmax())) * _HOP_S

    usual = float(np.median([strongest(start - 0.05, start + 0.06)[0] for start, _, _ in notes]))
    split: list[TrackedNote] = []
    for start, length, pitch in notes:
        struck = strongest(start - 0.05, start + 0.06)[0] >= _ATTACK_SHARE * usual
        if split and not struck:
            before_start, before_length, before_pitch = split[-1]
            if before_pitch == pitch and start - before_start - before_length < 0.05:
                split[-1] = (before_start, start + length - before_start, pitch)
                continue
        while length > 0.24:
            strength, at = strongest(start + 0.12, start + length - 0.08)
            if strength < _ATTACK_SHARE * usual:
                break
            split.append((start, at - start, pitch))
            start, length = at, start + length - at
        split.append((start, length, pitch))
    return sorted(split)


def _without_octave_blips(notes: list[TrackedNote]) -> list[TrackedNote]:
    """Put back notes that stand about an octave off the notes around them."""
    mended = []
    for i, (start, length, pitch) in enumerate(notes):
        around = [note[2] for j, note in enumerate(notes) if 0 < abs(j - i) <= 8]
        # Blips go up, to a strong partial, far more often than down: a low percentile is not moved by them.
        middle = float(np.percentile(around, 40)) if around else float(pitch)
        octaves = round((pitch - middle) / 12)
        nearer = abs(pitch - 12 * octaves - middle) <= 5
        mended.append((start, length, pitch - 12 * octaves if nearer else pitch))
    return mended


def tempo_of(onsets_s: Sequence[float]) -> float:
    """The tempo (70–140 bpm) on whose sixteenth grid the onsets lie best; faster grids fit anything, so they pay."""
    onsets = np.asarray(onsets_s) - onsets_s[0]
    best = (np.inf, 100.0)
    for bpm in np.arange(70.0, 140.0, 0.5):
        beats = onsets * bpm / 60
        error = np.abs(beats * 2 - np.round(beats * 2)).mean()
        best = min(best, (float(error), float(bpm)))
    return best[1]
