"""Standard MIDI Files, read as players read them: what is broken is mended, and what is no music is passed over.

Files come from thirty years of sequencers, keyboards and converters: with chunks of a vendor's own, wrong counts and
lengths, values above 127, key signatures that do not exist. All of them play, so all of them are read. The bytes are
not trusted either: the work grows with their number, and their number is bounded.

The format: Standard MIDI Files 1.0, RP-001 (MIDI Manufacturers Association, 1996); RMID: RP-029.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from orchestrion.errors import InvalidRequest

#: A melody of two minutes is a few kB.
MAX_MIDI_BYTES: Final = 512 * 1024
#: 80 a second for two minutes. Models look at each of them several times.
MAX_MIDI_NOTES: Final = 10_000
#: Notes and what lies between them: pedals, bends, breath.
MAX_MIDI_EVENTS: Final = 50_000
#: The channel that is drums by General MIDI.
DRUM_CHANNEL: Final = 9
#: How far into a file the MIDI may begin: MacBinary puts 128 bytes before it.
_MAX_LEAD_BYTES: Final = 256
#: What a file that says nothing about it has: 120 quarter notes a minute.
_DEFAULT_BEAT_US: Final = 500_000
#: Bytes that follow a channel message's status, by its upper four bits.
_CHANNEL_DATA: Final = {0x8: 2, 0x9: 2, 0xA: 2, 0xB: 2, 0xC: 1, 0xD: 1, 0xE: 2}
#: The same of messages that have no place in a file and are found in some.
_SYSTEM_DATA: Final = {0xF1: 1, 0xF2: 2, 0xF3: 1}
_SYSEX, _ESCAPE, _META = 0xF0, 0xF7, 0xFF
_END_OF_TRACK, _SET_TEMPO, _TIME_SIGNATURE = 0x2F, 0x51, 0x58
#: The smallest unit of a time signature that counts: a 64th, as a power of two. More is damage.
_MAX_UNIT_POWER: Final = 6
_CHUNK_NAME: Final = re.compile(rb"[A-Za-z0-9 ]{4}")


@dataclass(frozen=True, slots=True)
class MidiNote:
    """A note, in ticks. `pitch` 0–127 (60 = middle C), `velocity` 1–127, `channel` from 0, `track` from 0."""

    start: int
    end: int
    pitch: int
    velocity: int
    channel: int
    track: int


@dataclass(frozen=True, slots=True)
class TempoStep:
    """A tempo from `tick` on, which is `at_s` seconds after the beginning."""

    tick: int
    at_s: float
    beat_us: int


@dataclass(frozen=True, slots=True)
class TimeSignature:
    """From `tick` on a bar has `count` times the `unit`-th part of a whole note: 6 and 8 for 6/8."""

    tick: int
    count: int
    unit: int


@dataclass(frozen=True, slots=True)
class Midi:
    """A file's notes in order of their beginning, and the time that they are counted in."""

    ticks_per_beat: float
    #: False: the file counts frames of a film; a beat is then taken to be half a second.
    has_beats: bool
    notes: tuple[MidiNote, ...]
    #: The first is at tick 0.
    tempo: tuple[TempoStep, ...]
    signatures: tuple[TimeSignature, ...]
    #: Where its longest track ends, in ticks; there may be a rest before.
    end: int

    def seconds(self, tick: int) -> float:
        """When `tick` sounds, in seconds from the beginning."""
        step = self._step(tick)
        return step.at_s + (tick - step.tick) / self.ticks_per_beat * step.beat_us / 1e6

    def tempo_bpm(self, tick: int) -> float:
        """The tempo at `tick`, in quarter notes a minute."""
        return 60e6 / self._step(tick).beat_us

    def signature(self, tick: int) -> TimeSignature | None:
        """The time signature at `tick`; None where the file has none."""
        earlier = (one for one in reversed(self.signatures) if one.tick <= tick)
        return max(earlier, key=lambda one: one.tick, default=None)

    @property
    def duration_s(self) -> float:
        """To the end of the last note."""
        return self.seconds(max((note.end for note in self.notes), default=0))

    def _step(self, tick: int) -> TempoStep:
        return self.tempo[bisect_right(self.tempo, tick, key=lambda step: step.tick) - 1]


def is_midi(head: bytes) -> bool:
    """Whether a file that begins with these bytes (some 300 are enough) is a Standard MIDI File, or RMID around one."""
    return _is_rmid(head) or head.find(b"MThd", 0, _MAX_LEAD_BYTES) >= 0


def _is_rmid(data: bytes) -> bool:
    return data.startswith(b"RIFF") and data[8:12] == b"RMID"


def read_midi(data: bytes, field: str) -> Midi:
    """The notes of a Standard MIDI File; none is no error.

    A file that is cut off, or damaged in one track, gives what comes before.

    Raises:
        InvalidRequest: about `field`: there is no MIDI in the bytes, they do not say how long a beat is, hold several
            pieces (type 2), or more than a theme can (`MAX_MIDI_BYTES`, `MAX_MIDI_EVENTS`, `MAX_MIDI_NOTES`).
    """
    if len(data) > MAX_MIDI_BYTES:
        raise _refused(field, data, f"a MIDI file has at most {MAX_MIDI_BYTES} bytes; cut it")
    at = data.find(b"MThd") if _is_rmid(data) else data.find(b"MThd", 0, _MAX_LEAD_BYTES)
    if at < 0 or len(data) < at + 14:
        raise _refused(field, data, "the MIDI file ends before its first track; export it again")
    length, kind, _, division = struct.unpack_from(">IHHH", data, at + 4)
    ticks_per_beat, has_beats = _beat(division)
    if ticks_per_beat <= 0:
        raise _refused(field, data, "the MIDI file does not say how long a beat is; export it again")
    reader = _Reader(data, field)
    reader.read(at + 8 + length if length >= 6 and _is_boundary(data, at + 8 + length) else at + 14)
    notes = sorted(reader.notes, key=lambda note: (note.start, note.track, note.pitch))
    if kind == 2 and len({note.track for note in notes}) > 1:
        raise _refused(field, data, "the MIDI file holds several pieces (type 2); export it as type 0 or 1")
    return Midi(
        ticks_per_beat,
        has_beats,
        tuple(notes),
        _tempo_steps(reader.tempos if has_beats else (), ticks_per_beat),
        tuple(reader.signatures) if has_beats else (),
        max([reader.end, *(note.end for note in notes)]),
    )


def _beat(division: int) -> tuple[float, bool]:
    """Ticks in a beat by the header's division, and whether it counts beats at all."""
    if division < 0x8000:
        return float(division), True
    frames_per_s = 256 - (division >> 8)
    return (29.97 if frames_per_s == 29 else frames_per_s) * (division & 0xFF) * _DEFAULT_BEAT_US / 1e6, False


def _tempo_steps(tempos: Sequence[tuple[int, int]], ticks_per_beat: float) -> tuple[TempoStep, ...]:
    steps = [TempoStep(0, 0.0, _DEFAULT_BEAT_US)]
    for tick, beat_us in sorted(tempos, key=lambda tempo: tempo[0]):
        last = steps[-1]
        at_s = last.at_s + (tick - last.tick) / ticks_per_beat * last.beat_us / 1e6
        if tick == last.tick:
            steps.pop()
        steps.append(TempoStep(tick, at_s, beat_us))
    return tuple(steps)


def _is_boundary(data: bytes, at: int) -> bool:
    """Whether a chunk may begin at this place, or the file ends there."""
    return at == len(data) or (at + 8 <= len(data) and _CHUNK_NAME.match(data, at) is not None)


class _Reader:
    """All tracks of a file: notes, tempos and time signatures, as they come."""

    def __init__(self, data: bytes, field: str) -> None:
        self.notes: list[MidiNote] = []
        self.tempos: list[tuple[int, int]] = []
        self.signatures: list[TimeSignature] = []
        self.end = 0
        self._data = data
        self._field = field
        self._events = 0
        self._begun = 0
        self._tracks = 0

    def read(self, at: int) -> None:
        """Read every track from here on, whatever number the header says."""
        data = self._data
        while at + 8 <= len(data):
            end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
            if not _is_boundary(data, end):
                # The length is wrong, too short as often as too long: it ends where the next track begins.
                following = data.find(b"MTrk", at + 8)
                end = following if following >= 0 else len(data)
            if data.startswith(b"MTrk", at):
                ended = self._track(at + 8, end)
                self._tracks += 1
                # A length that takes in the tracks that follow.
                end = ended if data.startswith(b"MTrk", ended) else end
            at = end

    def _track(self, at: int, end: int) -> int:
        """Read one track up to its end or its damage; returns where that is."""
        data, now, status = self._data, 0, 0
        sounding: dict[tuple[int, int], tuple[int, int]] = {}
        while at < end:
            delta, at = self._number(at, end)
            if delta is None or at >= end:
                break
            now += delta
            self._events += 1
            if self._events > MAX_MIDI_EVENTS:
                raise _refused(self._field, data, f"the MIDI file has more than {MAX_MIDI_EVENTS} events; cut it")
            code = data[at]
            if code >= 0xF0:
                if code == _META and data[at + 1 : at + 2] == bytes([_END_OF_TRACK]):
                    at = min(end, at + 3)
                    break
                # Running status goes on after these in many files, though only channel messages should carry it.
                at = self._other(code, at + 1, end, now)
                continue
            if code >= 0x80:
                status, at = code, at + 1
            size = _CHANNEL_DATA.get(status >> 4, 0)
            # Without a status there is no telling what the byte means.
            if not size or at + size > end:
                break
            if status < 0xA0:
                self._note(sounding, now, status, data[at], data[at + 1])
            at += size
        self.end = max(self.end, now)
        for (channel, pitch), (start, velocity) in sounding.items():
            self._end(start, now, pitch, velocity, channel)
        return at

    def _note(
        self, sounding: dict[tuple[int, int], tuple[int, int]], now: int, status: int, pitch: int, v: int
    ) -> None:
        channel = status & 0x0F
        if pitch > 127:
            return
        begun = sounding.pop((channel, pitch), None)
        if begun is not None:
            self._end(begun[0], now, pitch, begun[1], channel)
        if status >= 0x90 and v > 0:
            self._begun += 1
            if self._begun > MAX_MIDI_NOTES:
                raise _refused(self._field, self._data, f"the MIDI file has more than {MAX_MIDI_NOTES} notes; cut it")
            sounding[channel, pitch] = (now, min(v, 127))

    def _end(self, start: int, end: int, pitch: int, velocity: int, channel: int) -> None:
        # A note without length is a stroke, and heard as one.
        self.notes.append(MidiNote(start, max(end, start + 1), pitch, velocity, channel, self._tracks))

    def _other(self, code: int, at: int, end: int, now: int) -> int:
        """Take from a message that is of no channel what is of use; returns where it ends."""
        if code not in (_META, _SYSEX, _ESCAPE):
            return at + _SYSTEM_DATA.get(code, 0)
        kind = 0
        if code == _META:
            kind, at = self._data[at] if at < end else 0, at + 1
        length, at = self._number(at, end)
        if length is None:
            return end
        body = self._data[at : min(at + length, end)]
        if kind == _SET_TEMPO and len(body) >= 3 and (beat_us := int.from_bytes(body[:3], "big")):
            self.tempos.append((now, beat_us))
        elif kind == _TIME_SIGNATURE and len(body) >= 2 and body[0] and body[1] <= _MAX_UNIT_POWER:
            self.signatures.append(TimeSignature(now, body[0], 2 ** body[1]))
        return min(at + length, end)

    def _number(self, at: int, end: int) -> tuple[int | None, int]:
        """A number of at most four bytes of seven bits, and where it ends; None: there is no end to it."""
        value = 0
        for place in range(at, min(at + 4, end)):
            byte = self._data[place]
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value, place + 1
        return None, end


def _refused(field: str, data: bytes, reason: str) -> InvalidRequest:
    return InvalidRequest.of(field, f"{len(data)} bytes", reason)
