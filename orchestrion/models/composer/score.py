"""The score: what is played, by which part and when, in beats; and its form as a Standard MIDI File.

A note's start already carries swing and human timing, so the MIDI file and the audio are the same performance.
"""

from __future__ import annotations

import io
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import mido

from orchestrion.models.composer.metre import Metre
from orchestrion.tracks.musical_key import TONIC_NAMES, Key

TICKS_PER_BEAT: Final = 480
#: MIDI key-signature names for the major key on each pitch class (mido writes flats and sharps from them).
_MAJOR_SIGNATURES: Final = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
#: Semitones from a mode's tonic up to the tonic of the major key with the same notes.
_TO_RELATIVE_MAJOR: Final = {
    "major": 0, "dorian": 10, "phrygian": 8, "lydian": 7, "mixolydian": 5, "locrian": 1, "pentatonic": 0,
}  # fmt: skip
#: Modes that are written with the signature of their minor key.
_MINOR_MODES: Final = frozenset({"minor", "harmonic minor", "melodic minor", "blues"})
_DRUM_CHANNEL: Final = 9


@dataclass(frozen=True, slots=True)
class Instrument:
    """A preset of the sound font (bank 0 melodic, 128 drum kits) or, with bank −1, one of `electronic.VOICES`."""

    bank: int
    program: int
    name: str
    #: What stands for it in a MIDI file.
    midi_program: int

    @property
    def is_drums(self) -> bool:
        """Whether its pitches are percussion keys."""
        return self.bank == 128


@dataclass(frozen=True, slots=True)
class Note:
    """One note. `start` and `length` in beats, `pitch` 0–127 (60 = middle C), `velocity` 1–127."""

    start: float
    length: float
    pitch: int
    velocity: int


def as_velocity(value: float, low: int = 1, high: int = 127) -> int:
    """`value` as a MIDI velocity between `low` and `high`."""
    return int(min(high, max(low, value)))


@dataclass(frozen=True, slots=True)
class Part:
    """Everything one instrument plays, in order of time."""

    role: str
    instrument: Instrument
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class TempoMap:
    """Tempo over time: (beat, bpm) steps, the first at beat 0, in order of beat."""

    steps: tuple[tuple[float, float], ...]
    #: When each step begins, in seconds.
    _starts_s: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        starts_s = [0.0]
        for (start, bpm), (following, _) in pairwise(self.steps):
            starts_s.append(starts_s[-1] + (following - start) * 60.0 / bpm)
        object.__setattr__(self, "_starts_s", tuple(starts_s))

    @property
    def bpm(self) -> float:
        """The tempo of the piece, before any slowing at its end."""
        return self.steps[0][1]

    def bpm_at(self, beat: float) -> float:
        """The tempo that leads up to `beat`."""
        return self.steps[self._step(beat)][1]

    def seconds(self, beat: float) -> float:
        """When `beat` sounds, in seconds from the start."""
        step = self._step(beat)
        start, bpm = self.steps[step]
        return self._starts_s[step] + (beat - start) * 60.0 / bpm

    def beat(self, seconds: float) -> float:
        """What sounds `seconds` after the start, in beats."""
        step = max(0, bisect_left(self._starts_s, seconds) - 1)
        start, bpm = self.steps[step]
        return start + (seconds - self._starts_s[step]) * bpm / 60.0

    def _step(self, beat: float) -> int:
        return max(0, bisect_left(self.steps, beat, key=lambda step: step[0]) - 1)


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of the form. `level` is how much is going on: 1 (bare) … 4 (everything)."""

    label: str
    first_bar: int
    bars: int
    level: int
    #: Whose chords and motifs it has, "A", "B", "C", "intro" or "outro", where that is not its label.
    material: str = ""
    #: How much louder its last bar is than its first, as a share.
    growth: float = 0.06

    @property
    def motifs(self) -> str:
        """The label of the sections that share its chords and motifs."""
        return self.material or self.label


@dataclass(frozen=True, slots=True)
class Score:
    """A whole piece. `end_beat` is where the final chord falls; it rings until the track ends.

    A loop has no final chord: `end_beat` is where it begins again.
    """

    tempo: TempoMap
    key: Key
    metre: Metre
    sections: tuple[Section, ...]
    end_beat: float
    parts: tuple[Part, ...]
    #: Where another key begins: (bar, key).
    modulation: tuple[int, Key] | None = None
    is_loop: bool = False

    @property
    def form(self) -> str:
        """The order of sections, e.g. "intro A B A C B outro"."""
        return " ".join(section.label for section in self.sections)

    def part(self, role: str) -> Part | None:
        """The part that plays `role`, or None when no part does."""
        return next((part for part in self.parts if part.role == role), None)


def midi_bytes(score: Score) -> bytes:
    """`score` as a type-1 Standard MIDI File: a conductor track, then one named track for each part."""
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT, charset="utf-8")
    file.tracks.append(_conductor_track(score))
    melodic_channels = [channel for channel in range(16) if channel != _DRUM_CHANNEL]
    for part in score.parts:
        is_drums = part.instrument.is_drums
        channel = _DRUM_CHANNEL if is_drums else melodic_channels.pop(0)
        file.tracks.append(_part_track(score, part, channel))
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def _conductor_track(score: Score) -> mido.MidiTrack:
    metre = score.metre
    # The click falls on the beat: 24 MIDI clocks make a quarter.
    clocks = round(24 * metre.beat_quarters)
    signature = mido.MetaMessage(
        "time_signature", numerator=metre.numerator, denominator=metre.denominator, clocks_per_click=clocks
    )
    events: list[_Event] = [
        (0, 0, mido.MetaMessage("track_name", name=f"Orchestrion in {score.key}")),
        (0, 0, signature),
        (0, 0, mido.MetaMessage("key_signature", key=key_signature(score.key))),
    ]
    if score.modulation is not None:
        bar, key = score.modulation
        events.append((_ticks(score, bar * metre.beats), 0, mido.MetaMessage("key_signature", key=key_signature(key))))
    events.extend(
        (_ticks(score, beat), 0, mido.MetaMessage("set_tempo", tempo=round(60_000_000 / (bpm * metre.beat_quarters))))
        for beat, bpm in score.tempo.steps
    )
    events.extend(
        (_ticks(score, section.first_bar * metre.beats), 0, mido.MetaMessage("marker", text=section.label))
        for section in score.sections
    )
    return _track(score, events)


def _part_track(score: Score, part: Part, channel: int) -> mido.MidiTrack:
    events: list[_Event] = [
        (0, 0, mido.MetaMessage("track_name", name=f"{part.role}: {part.instrument.name}")),
        (0, 0, mido.Message("program_change", channel=channel, program=part.instrument.midi_program)),
    ]
    following: dict[int, int] = {}
    for note in reversed(part.notes):
        on, off = _ticks(score, note.start), _ticks(score, note.start + note.length)
        # The end of a note that is struck again while it sounds would end the new one, for a channel has it once.
        again = following.get(note.pitch)
        if again is not None:
            off = min(off, again)
        if on == again:
            continue
        following[note.pitch] = on
        events.append((on, 2, _message("note_on", channel, note.pitch, note.velocity)))
        events.append((max(off, on + 1), 1, _message("note_off", channel, note.pitch, 64)))
    return _track(score, events)


def _message(kind: str, channel: int, pitch: int, velocity: int) -> mido.Message:
    # In range by construction; mido's checks would take half the time of the file.
    return mido.Message(kind, skip_checks=True, channel=channel, note=pitch, velocity=velocity)


#: Absolute tick, rank among the events of one tick (note-offs before note-ons), message.
_Event = tuple[int, int, mido.Message]


def _track(score: Score, events: list[_Event]) -> mido.MidiTrack:
    track = mido.MidiTrack()
    if score.is_loop:
        # A player that repeats the file begins again on the bar line, so nothing lasts longer.
        end = _ticks(score, score.end_beat)
        events = [(min(tick, end), rank, message) for tick, rank, message in events]
        events.append((end, 3, mido.MetaMessage("end_of_track")))
    now = 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        message.time = tick - now
        track.append(message)
        now = tick
    return track


def _ticks(score: Score, beat: float) -> int:
    return max(0, round(beat * score.metre.beat_quarters * TICKS_PER_BEAT))


def key_signature(key: Key) -> str:
    """The name that MIDI gives the signature of `key`: minor keys as "Dm", the other modes by their notes."""
    if key.mode in _MINOR_MODES:
        return {"Ab": "G#"}.get(TONIC_NAMES[key.tonic], TONIC_NAMES[key.tonic]) + "m"
    return _MAJOR_SIGNATURES[(key.tonic + _TO_RELATIVE_MAJOR[key.mode]) % 12]
