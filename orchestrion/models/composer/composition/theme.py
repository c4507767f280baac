"""A theme melody from the bytes of a MIDI or audio file: its notes in beats, its key, its tempo and its metre.

It is read here when it is uploaded, so that what no piece can be made around is refused then, and when it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from orchestrion.audio.midi import DRUM_CHANNEL, Midi, MidiNote, is_midi, read_midi
from orchestrion.audio.uploads import MAX_UPLOAD_S, Recording, folded, read_audio
from orchestrion.errors import InvalidRequest
from orchestrion.models.composer.composition.recording import tempo_of, tracked_notes
from orchestrion.models.composer.composition.theme_metre import HeardMetre, metre_of_notes, metre_of_signature
from orchestrion.models.composer.score import Note
from orchestrion.tracks.musical_key import Key

_MAX_NOTES: Final = 256
_GRID: Final = 0.25
#: Shorter recordings hold no melody.
_LEAST_S: Final = 0.3
#: A recording that nowhere comes above this has nothing in it that could be heard: −80 dBFS.
_SILENT: Final = 1e-4
#: Krumhansl and Kessler's probe-tone profiles (1982).
_MAJOR_PROFILE: Final = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR_PROFILE: Final = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


@dataclass(frozen=True, slots=True)
class Theme:
    """A melody: `notes` do not overlap, and the first bar line after its pickup is beat 0.

    A pickup is before it, at negative beats; a melody that rests first begins later.
    """

    notes: tuple[Note, ...]
    key: Key
    tempo_bpm: float
    #: As "3/4"; None: the file does not say, and the notes do not show it plainly.
    metre: str | None = None

    @property
    def pickup(self) -> float:
        """How many beats of it come before its first bar line."""
        return max(0.0, -self.notes[0].start)

    def in_beats_of(self, beat_quarters: float) -> Theme:
        """The theme counted in beats of so many quarters; files count quarters, even where three eighths are a beat."""
        if beat_quarters == 1.0:
            return self
        notes = (Note(n.start / beat_quarters, n.length / beat_quarters, n.pitch, n.velocity) for n in self.notes)
        return Theme(tuple(notes), self.key, self.tempo_bpm / beat_quarters, self.metre)

    def begun_by_a_bar(self, beats_per_bar: float) -> Theme:
        """The theme with its pickup in a bar of its own, for a piece in which no bar comes before it."""
        if not self.pickup:
            return self
        notes = (Note(n.start + beats_per_bar, n.length, n.pitch, n.velocity) for n in self.notes)
        return Theme(tuple(notes), self.key, self.tempo_bpm, self.metre)

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
    if is_midi(content):
        return theme_of_midi(read_midi(content, "theme"), content)
    return theme_of_recording(read_audio(content, "theme"), content)


def theme_of_midi(midi: Midi, content: bytes) -> Theme:
    """The melody of a MIDI file, which `content` are the bytes of.

    Raises:
        InvalidRequest: nothing but drums is played in it.
    """
    voices: dict[tuple[int, int], list[MidiNote]] = {}
    for note in midi.notes:
        if note.channel != DRUM_CHANNEL:
            voices.setdefault((note.track, note.channel), []).append(note)
    if not voices:
        played = "only drums" if midi.notes else "no notes"
        raise _refused(content, f"the MIDI file has {played}; give one with a melody")
    # The melody is the highest line among the voices that have more than a few notes.
    longest = max(len(notes) for notes in voices.values())
    melodic = [notes for notes in voices.values() if len(notes) >= min(4, longest)]
    melody = max(melodic, key=lambda notes: sum(n.pitch for n in notes) / len(notes))
    first = melody[0].start
    tempo_bpm = midi.tempo_bpm(first)
    beats = 1 / midi.ticks_per_beat
    if not midi.has_beats:
        tempo_bpm = tempo_of([midi.seconds(note.start) for note in melody])
        beats *= tempo_bpm / midi.tempo_bpm(first)
    line = _skyline([Note((n.start - first) * beats, (n.end - n.start) * beats, n.pitch, n.velocity) for n in melody])
    signature = midi.signature(first)
    if signature is None:
        return _made(line, tempo_bpm, metre_of_notes(line))
    since = round((first - signature.tick) * beats / _GRID) * _GRID
    return _made(line, tempo_bpm, metre_of_signature(signature, since))


def theme_of_recording(recording: Recording, content: bytes) -> Theme:
    """The melody of a recording, which `content` are the bytes of.

    Raises:
        InvalidRequest: it is too short, silent, or no melody is found in it.
    """
    rate_hz = recording.rate_hz
    mono = folded(recording.audio[: round(MAX_UPLOAD_S * rate_hz)])
    if len(mono) < _LEAST_S * rate_hz:
        raise _refused(content, f"the audio is shorter than {_LEAST_S:g} s; give a melody of a few seconds")
    if float(np.abs(mono).max()) < _SILENT:
        raise _refused(content, "the audio is silent; give a recording of a melody")
    notes_s = tracked_notes(mono, rate_hz)
    if len(notes_s) < 2:
        raise _refused(content, "no melody was found in the audio; give a single clear voice or a MIDI file")
    tempo_bpm = tempo_of([start for start, _, _ in notes_s])
    beats, first_s = tempo_bpm / 60, notes_s[0][0]
    line = _skyline([Note((start - first_s) * beats, length * beats, pitch, 90) for start, length, pitch in notes_s])
    return _made(line, tempo_bpm, metre_of_notes(line))


def _refused(content: bytes, reason: str) -> InvalidRequest:
    return InvalidRequest.of("theme", f"{len(content)} bytes", reason)


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


def _made(notes: Sequence[Note], tempo_bpm: float, metre: HeardMetre | None) -> Theme:
    factor, pickup = (metre.tempo_factor, metre.pickup) if metre is not None else (1.0, 0.0)
    kept = tuple(
        Note(n.start * factor - pickup, max(_GRID, n.length * factor), n.pitch, max(60, n.velocity))
        for n in notes[:_MAX_NOTES]
    )
    tempo = float(np.clip(tempo_bpm * factor, 40, 240))
    return Theme(kept, find_key(kept), tempo, metre.name if metre is not None else None)


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
