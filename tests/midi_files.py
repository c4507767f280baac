"""Standard MIDI Files byte by byte, for tests that need one no library would write."""

import struct

TICKS_PER_BEAT = 480
#: C D E F G F E D.
SCALE = (60, 62, 64, 65, 67, 65, 64, 62)
END = b"\0\xff\x2f\0"
TEMPO_120 = b"\0\xff\x51\x03\x07\xa1\x20"


def number(value: int) -> bytes:
    """A variable-length quantity."""
    out = [value & 127]
    while value := value >> 7:
        out.insert(0, value & 127 | 128)
    return bytes(out)


def header(kind: int = 0, tracks: int = 1, division: int = TICKS_PER_BEAT) -> bytes:
    return b"MThd" + struct.pack(">IHHH", 6, kind, tracks, division)


def chunk(name: bytes, body: bytes, *, longer: int = 0) -> bytes:
    """A chunk; its length says so many bytes more than it has."""
    return name + struct.pack(">I", len(body) + longer) + body


def track(events: bytes, *, longer: int = 0) -> bytes:
    return chunk(b"MTrk", events + END, longer=longer)


def notes(pitches: tuple[int, ...] = SCALE, beats: tuple[float, ...] = (), channel: int = 0) -> bytes:
    """Each as long as it is said, one beat where nothing is."""
    lengths = [*beats, *[1.0] * (len(pitches) - len(beats))]
    return b"".join(
        b"\0" + bytes([0x90 + channel, pitch, 90]) + number(round(length * TICKS_PER_BEAT))
        + bytes([0x80 + channel, pitch, 64])
        for pitch, length in zip(pitches, lengths, strict=True)
    )  # fmt: skip


def time_signature(count: int, unit_power: int) -> bytes:
    return b"\0\xff\x58\x04" + bytes([count, unit_power, 24, 8])


def midi(events: bytes | None = None) -> bytes:
    """One track of these events; the scale where none are given."""
    return header() + track(notes() if events is None else events)
