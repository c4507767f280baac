"""A theme melody from the bytes of a MIDI or audio file: its notes in beats, its key, its tempo.

Audio is read as one voice (swift-f0); what a pitch tracker does to a melody is mended here: notes are split at
onsets, octave blips are put back, and times are fitted to a grid whose tempo is estimated from the onsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final

import mido
import numpy as np
import numpy.typing as npt
import soxr
import swift_f0

from orchestrion.audio.uploads import MAX_UPLOAD_S, is_midi, read_audio, read_midi
from orchestrion.errors import InvalidRequest
from orchestrion.models.composer.score import Note
from orchestrion.tracks.musical_key import Key

_MAX_NOTES: Final = 256
_GRID: Final = 0.25
_TRACKER_RATE_HZ: Final = 16_000
#: Krumhansl and Kessler's probe-tone profiles (1982).
_MAJOR_PROFILE: Final = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR_PROFILE: Final = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


@dataclass(frozen=True, slots=True)
class Theme:
    """A melody: `notes` start at beat 0 and do not overlap."""

    notes: tuple[Note, ...]
    key: Key
    tempo_bpm: float

    def bars(self, beats_per_bar: float) -> int:
        """How many bars it fills, rounded up to an even number where it is longer than one."""
        count = max(1, int(np.ceil((self.notes[-1].start + min(1.0, self.notes[-1].length)) / beats_per_bar - 1e-6)))
        return count if count == 1 else count + count % 2

    def in_key(self, key: Key) -> tuple[Note, ...]:
        """The notes moved to `key` the short way; where the modes differ, degree by degree."""
        shift = (key.tonic - self.key.tonic + 6) % 12 - 6
        moved = []
        for note in self.notes:
            degree = (note.pitch - self.key.tonic) % 12
            bend = 0
            if degree in self.key.steps and self.key.is_minor != key.is_minor:
                bend = key.steps[self.key.steps.index(degree)] - degree
            moved.append(Note(note.start, note.length, note.pitch + shift + bend, note.velocity))
        return tuple(moved)


def read_theme(content: bytes) -> Theme:
    """Read a theme.

    Raises:
        InvalidRequest: the bytes are neither a MIDI file with notes nor audio with a melody.
    """
    return _from_midi(content) if is_midi(content) else _from_audio(content)


def _refused(content: bytes, reason: str) -> InvalidRequest:
    return InvalidRequest.of("theme", f"{len(content)} bytes", reason)


def _from_midi(content: bytes) -> Theme:
    file = read_midi(content, "theme")
    tempo_bpm = next((60e6 / m.tempo for track in file.tracks for m in track if m.type == "set_tempo"), 120.0)
    candidates = [_track_notes(track, file.ticks_per_beat) for track in file.tracks]
    candidates = [notes for notes in candidates if notes]
    if not candidates:
        raise _refused(content, "the MIDI file has no notes; give a file with a melody")
    # The melody is the highest line among the tracks that have more than a few notes.
    longest = max(len(notes) for notes in candidates)
    melodic = [notes for notes in candidates if len(notes) >= min(4, longest)]
    best = max(melodic, key=lambda notes: sum(n.pitch for n in notes) / len(notes))
    return _made(_skyline(best), tempo_bpm, content)


def _track_notes(track: mido.MidiTrack, ticks_per_beat: int) -> list[Note]:
    notes: list[Note] = []
    sounding: dict[int, tuple[int, int]] = {}
    now = 0
    for message in track:
        now += message.time
        if message.type not in ("note_on", "note_off") or message.channel == 9:
            continue
        begun = sounding.pop(message.note, None)
        if begun is not None and now > begun[0]:
            notes.append(Note(begun[0] / ticks_per_beat, (now - begun[0]) / ticks_per_beat, message.note, begun[1]))
        if message.type == "note_on" and message.velocity > 0:
            sounding[message.note] = (now, message.velocity)
    return notes


def _skyline(notes: Sequence[Note]) -> list[Note]:
    """One voice: of notes that start together the highest, each cut where the next begins."""
    by_start: dict[float, Note] = {}
    for note in notes:
        start = round(note.start / _GRID) * _GRID
        held = by_start.get(start)
        if held is None or note.pitch > held.pitch:
            by_start[start] = Note(start, note.length, note.pitch, note.velocity)
    ordered = [by_start[start] for start in sorted(by_start)]
    line = [Note(a.start, min(a.length, b.start - a.start), a.pitch, a.velocity) for a, b in pairwise(ordered)]
    return [*line, ordered[-1]]


def _made(notes: Sequence[Note], tempo_bpm: float, content: bytes) -> Theme:
    if not notes:
        raise _refused(content, "no melody was found; give a single clear voice or a MIDI file")
    first = notes[0].start
    kept = [Note(n.start - first, max(_GRID, n.length), n.pitch, max(60, n.velocity)) for n in notes[:_MAX_NOTES]]
    return Theme(tuple(kept), find_key(kept), float(np.clip(tempo_bpm, 40, 240)))


def find_key(notes: Sequence[Note]) -> Key:
    """The major or minor key that fits best: by the profile of note lengths, by notes outside it, by its close."""
    lengths = np.zeros(12)
    for note, following in zip(notes, (*notes[1:], None), strict=True):
        # To the next note, so that plucked notes count as much as sung ones.
        length = note.length if following is None else following.start - note.start
        lengths[note.pitch % 12] += min(length, 2.0)
    lengths /= lengths.sum()
    fits = {}
    for key in (Key(tonic, mode) for mode in ("major", "minor") for tonic in range(12)):
        profile = _MAJOR_PROFILE if key.mode == "major" else _MINOR_PROFILE
        fit = float(np.corrcoef(np.roll(profile, key.tonic), lengths)[0, 1])
        scale = {(key.tonic + step) % 12 for step in key.steps}
        # Minor melodies borrow the raised sixth and seventh.
        scale |= {(key.tonic + step) % 12 for step in (9, 11)} if key.is_minor else set()
        outside = sum(lengths[pitch] for pitch in range(12) if pitch not in scale)
        closes = notes[-1].pitch % 12 == key.tonic
        opens = (notes[0].pitch - key.tonic) % 12 in (0, 7, 3 if key.is_minor else 4)
        fits[key] = fit - 1.5 * float(outside) + (_CLOSE if closes else 0.0) + (_OPEN if opens else 0.0)
    return max(fits, key=lambda key: (fits[key], -key.tonic))


#: What ending on the tonic and beginning on a note of its triad are worth, in correlation.
_CLOSE: Final = 0.05
_OPEN: Final = 0.04


@cache
def _tracker() -> swift_f0.SwiftF0:
    # One thread: the same bits on every machine, and the replica's other work keeps its cores.
    return swift_f0.SwiftF0(threads=1, spin=False)


def _from_audio(content: bytes) -> Theme:
    audio, rate_hz = read_audio(content, "theme")
    mono = audio.mean(1)[: round(MAX_UPLOAD_S * rate_hz)]
    if len(mono) < 0.3 * rate_hz:
        raise _refused(content, "the audio is shorter than 0.3 s; give a melody of a few seconds")
    mono = soxr.resample(mono, rate_hz, _TRACKER_RATE_HZ).astype(np.float32)
    notes_s = _tracked_notes(mono)
    if len(notes_s) < 2:
        raise _refused(content, "no melody was found in the audio; give a single clear voice or a MIDI file")
    tempo_bpm = _tempo_of([start for start, _, _ in notes_s])
    beats = tempo_bpm / 60
    notes = [Note(round(start * beats / _GRID) * _GRID, length * beats, pitch, 90) for start, length, pitch in notes_s]
    return _made(_skyline(notes), tempo_bpm, content)


#: (start s, length s, pitch) of a tracked note.
_Tracked = tuple[float, float, int]
_HOP_S: Final = 0.008
#: Notes shorter than this are slips of the tracker.
_SHORTEST_S: Final = 0.06
#: An attack inside a note is a new note when it has this share of the strength of the usual attack.
_ATTACK_SHARE: Final = 0.5


def _tracked_notes(mono: npt.NDArray[np.float32]) -> list[_Tracked]:
    """The notes of a one-voice recording at 16 kHz."""
    result = _tracker().detect(mono, _TRACKER_RATE_HZ)
    found: list[_Tracked] = [
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


def _split_at_attacks(notes: Sequence[_Tracked], flux: npt.NDArray[np.float64]) -> list[_Tracked]:
    """Notes cut where one is struck again, and joined where the tracker broke one that was not."""

    def strongest(start_s: float, end_s: float) -> tuple[float, float]:
        first, last = max(0, round(start_s / _HOP_S)), max(1, round(end_s / _HOP_S))
        window = flux[first:last]
        if not len(window):
            return 0.0, start_s
        return float(window.max()), (first + int(window.argmax())) * _HOP_S

    usual = float(np.median([strongest(start - 0.05, start + 0.06)[0] for start, _, _ in notes]))
    split: list[_Tracked] = []
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


def _without_octave_blips(notes: list[_Tracked]) -> list[_Tracked]:
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


def _tempo_of(onsets_s: Sequence[float]) -> float:
    """The tempo (70–140 bpm) on whose sixteenth grid the onsets lie best; faster grids fit anything, so they pay."""
    onsets = np.asarray(onsets_s) - onsets_s[0]
    best = (np.inf, 100.0)
    for bpm in np.arange(70.0, 140.0, 0.5):
        beats = onsets * bpm / 60
        error = np.abs(beats * 2 - np.round(beats * 2)).mean()
        best = min(best, (float(error), float(bpm)))
    return best[1]
