"""The notes of a recorded melody, and its tempo.

Audio is read as one voice (swift-f0); what a pitch tracker does to a melody is mended here: tones without overtones
are believed, notes are split at onsets, octave blips are put back, and times are fitted to a grid whose tempo is
estimated from the onsets.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import soxr
import swift_f0
from scipy.ndimage import maximum_filter1d

from orchestrion.audio.pcm import Pcm

_TRACKER_RATE_HZ: Final = 16_000
#: (start s, length s, pitch) of a tracked note.
TrackedNote = tuple[float, float, int]
#: [frames, bins]
Spectrum = npt.NDArray[np.float32]
_HOP_S: Final = 0.008
#: Samples that one column of the spectrum looks at: 32 ms, and 31 Hz from bin to bin.
_WINDOW: Final = 512
_BIN_HZ: Final = _TRACKER_RATE_HZ / _WINDOW
#: Notes shorter than this are slips of the tracker.
_SHORTEST_S: Final = 0.06
#: An attack inside a note is a new note when it has this share of the strength of the usual attack.
_ATTACK_SHARE: Final = 0.4
#: What is newly there (see `_attacks`) in an attack at least. A tone that goes on has up to 0.1, the lowest and a
#: swelling one, and a note that is sung softly again 0.5.
_LEAST_ATTACK: Final = 0.1
#: How far partials move with a vibrato in 24 ms, as a share of their frequency.
_VIBRATO: Final = 0.03
#: Bins from octave to octave.
_OCTAVES: Final = (0, 16, 32, 64, 128, _WINDOW // 2 + 1)
#: A tone is pure where this share of the energy is at its pitch. The tracker, which listens for overtones, gives such
#: tones 0.5 and less, to chords as much, and to noise less than 0.1.
_PURE_SHARE: Final = 0.9
_DOUBTED: Final = 0.3
_SURE: Final = 0.9
#: Magnitude of odd partials, in shares of that of even ones, that shows a pitch to be meant and not its octave.
_LOWER_SHARE: Final = 0.1


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
    spectrum = _spectrum(mono)
    found: list[TrackedNote] = [
        (float(s.start), float(s.end - s.start), round(69 + 12 * float(np.log2(s.pitch_hz / 440))))
        for s in swift_f0.segment_notes(_with_pure_tones(result, spectrum))
    ]
    notes = _without_octave_blips([note for note in found if note[1] >= _SHORTEST_S], spectrum)
    return _split_at_attacks(notes, _attacks(spectrum)) if notes else []


def _spectrum(mono: npt.NDArray[np.float32]) -> Spectrum:
    """Magnitudes, [frames, bins], with a frame every 8 ms."""
    padded = np.pad(mono, (_WINDOW // 2, _WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[:: round(_HOP_S * _TRACKER_RATE_HZ)]
    window = np.hanning(_WINDOW).astype(np.float32)
    # Block by block: two minutes of complex doubles are 60 MB.
    blocks = (np.abs(np.fft.rfft(frames[at : at + 1024] * window, axis=1)) for at in range(0, len(frames), 1024))
    return np.concatenate([block.astype(np.float32) for block in blocks])


def _with_pure_tones(result: swift_f0.PitchResult, spectrum: Spectrum) -> swift_f0.PitchResult:
    """What was tracked, sure of tones that have no overtones: whistles, ocarinas, sines."""
    frames = np.minimum(np.round(result.timestamps / _HOP_S).astype(int), len(spectrum) - 1)
    energy = np.cumsum(np.square(np.pad(spectrum[frames], ((0, 0), (1, 0))), dtype=np.float64), axis=1)
    # The window spreads a tone over two bins to each side; within 32 ms its pitch may move by a semitone.
    spread = 2 + 0.06 * result.pitch_hz / _BIN_HZ
    lowest = np.clip(np.floor(result.pitch_hz / _BIN_HZ - spread), 0, _WINDOW // 2).astype(int)
    highest = np.clip(np.ceil(result.pitch_hz / _BIN_HZ + spread) + 1, 0, _WINDOW // 2 + 1).astype(int)
    row = np.arange(len(frames))
    share = (energy[row, highest] - energy[row, lowest]) / np.maximum(energy[:, -1], 1e-12)
    # Below four bins its overtones are not told from it.
    is_pure = (share >= _PURE_SHARE) & (result.confidence >= _DOUBTED) & (result.pitch_hz >= 4 * _BIN_HZ)
    return replace(result, confidence=np.where(is_pure, np.maximum(result.confidence, _SURE), result.confidence))


def _attacks(spectrum: Spectrum) -> npt.NDArray[np.float64]:
    """Spectral flux, one value every 8 ms: how much of the sound around it is newly there, 0 … 1 or so.

    New is what was not at a frequency near by before; else each swing of a vibrato would be an attack (Böck and Widmer,
    "Maximum filter vibrato suppression for onset detection", 2013).
    """
    level = spectrum.sum(1, dtype=np.float64)
    around = np.maximum(level[3:], 0.05 * level.max() + 1e-9)
    rise = np.zeros(len(around))
    # A window has so few periods of a low tone that it rises and falls with them: the louder of two moments.
    earlier = np.maximum(spectrum[:-3], np.pad(spectrum[:-4], ((1, 0), (0, 0))))
    for lowest, end in pairwise(_OCTAVES):
        # Partials swing the wider the higher they are.
        reach = max(1, round(_VIBRATO * end))
        before = maximum_filter1d(earlier, 2 * reach + 1, axis=1)[:, lowest:end]
        rise += np.maximum(0, spectrum[3:, lowest:end] - before).sum(1)
    flux: npt.NDArray[np.float64] = np.concatenate([np.zeros(2), rise / around, np.zeros(1)])
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
    least = max(_ATTACK_SHARE * usual, _LEAST_ATTACK)
    split: list[TrackedNote] = []
    for start, length, pitch in notes:
        struck = strongest(start - 0.05, start + 0.06)[0] >= least
        if split and not struck:
            before_start, before_length, before_pitch = split[-1]
            if before_pitch == pitch and start - before_start - before_length < 0.05:
                split[-1] = (before_start, start + length - before_start, pitch)
                continue
        while length > 0.24:
            strength, at = strongest(start + 0.12, start + length - 0.08)
            if strength < least:
                break
            split.append((start, at - start, pitch))
            start, length = at, start + length - at
        split.append((start, length, pitch))
    return sorted(split)


def _without_octave_blips(notes: list[TrackedNote], spectrum: Spectrum) -> list[TrackedNote]:
    """Put back notes that stand about an octave off the notes around them, where their sound does not deny it."""
    mended = []
    for i, (start, length, pitch) in enumerate(notes):
        around = [note[2] for j, note in enumerate(notes) if 0 < abs(j - i) <= 8]
        # Blips go up, to a strong partial, far more often than down: a low percentile is not moved by them.
        middle = float(np.percentile(around, 40)) if around else float(pitch)
        octaves = round((pitch - middle) / 12)
        moved = pitch - 12 * octaves
        nearer = abs(moved - middle) <= 5
        if octaves and nearer and _sounds_lower(spectrum, start, length, min(pitch, moved)) == (moved < pitch):
            pitch = moved
        mended.append((start, length, pitch))
    return mended


def _sounds_lower(spectrum: Spectrum, start_s: float, length_s: float, pitch: int) -> bool:
    """Whether a tone has the pitch, and not that an octave above: odd partials are its own."""
    heard = spectrum[round(start_s / _HOP_S) : round((start_s + length_s) / _HOP_S)].mean(axis=0)

    def at(partial: int) -> float:
        place = round(partial * 440 * 2 ** ((pitch - 69) / 12) / _BIN_HZ)
        return float(heard[max(0, place - 1) : place + 2].max(initial=0.0))

    return at(1) + at(3) >= _LOWER_SHARE * (at(2) + at(4))


def tempo_of(onsets_s: Sequence[float]) -> float:
    """The tempo (70–140 bpm) on whose sixteenth grid the onsets lie best; faster grids fit anything, so they pay."""
    onsets = np.asarray(onsets_s) - onsets_s[0]
    best = (np.inf, 100.0)
    for bpm in np.arange(70.0, 140.0, 0.5):
        beats = onsets * bpm / 60
        error = np.abs(beats * 2 - np.round(beats * 2)).mean()
        best = min(best, (float(error), float(bpm)))
    return best[1]
