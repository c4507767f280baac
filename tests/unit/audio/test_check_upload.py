"""Themes are kept only when they decode, and a small file that unpacks to hours is refused unpacked."""

import io
import struct
import tracemalloc

import mido
import numpy as np
import pytest
import soundfile

from orchestrion.audio.encode import encode
from orchestrion.audio.uploads import MAX_MIDI_BYTES, MAX_MIDI_EVENTS, check_upload, read_continuation
from orchestrion.errors import InvalidRequest
from orchestrion.tracks.request import AudioFormat

RATE_HZ = 8000


def tone(seconds):
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return np.sin(2 * np.pi * 440 * t).astype(np.float32)[:, np.newaxis]


def midi(*notes, ticks=480):
    track = mido.MidiTrack()
    for note in notes:
        track.append(mido.Message("note_on", note=note, time=0))
        track.append(mido.Message("note_off", note=note, time=ticks))
    file = mido.MidiFile(tracks=[track])
    sink = io.BytesIO()
    file.save(file=sink)
    return sink.getvalue()


def controllers(count):
    """One running-status event of three bytes each."""
    events = b"\x00\xb0\x07\x40" + b"\x00\x07\x41" * (count - 1) + b"\x00\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480) + b"MTrk" + struct.pack(">I", len(events)) + events


def check(data):
    check_upload(io.BytesIO(data), len(data))


@pytest.mark.parametrize("format", [AudioFormat.WAV, AudioFormat.FLAC, AudioFormat.MP3, AudioFormat.OGG])
def test_recordings_are_taken(format):
    check(encode(tone(2), RATE_HZ, format))


@pytest.mark.parametrize(
    "head, kind",
    [
        (b"\0\0\0\x1cftypM4A \0\0\2\0isomiso2", "an M4A"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "an MP4"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a QuickTime film"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\1", "a WebM or Matroska file"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a WMA"),
        (b"#!AMR\n<\x91\x17", "an AMR"),
        (b"\xff\xf1\x50\x80\x2b\x9f\xfc", "an AAC"),
    ],
)
def test_what_phones_and_browsers_record_is_named_with_what_to_use_instead(head, kind):
    with pytest.raises(InvalidRequest, match=f"this file is {kind}; use WAV, FLAC, MP3, OGG or MIDI \\("):
        check(head + bytes(4000))
    with pytest.raises(InvalidRequest, match=f"this file is {kind}; use WAV, FLAC, MP3 or OGG \\("):
        read_continuation(head + bytes(4000), RATE_HZ, 1)


def test_midi_is_taken():
    check(midi(60, 62, 64))


@pytest.mark.parametrize(
    "data, complaint",
    [
        (b"", "neither MIDI nor audio"),
        (b"hello", "neither MIDI nor audio"),
        (encode(tone(1), RATE_HZ, AudioFormat.FLAC)[:40], "theme"),
        (encode(np.zeros((121 * RATE_HZ, 1), np.float32), RATE_HZ, AudioFormat.FLAC), "longer than 120 s"),
        (encode(tone(0), RATE_HZ, AudioFormat.WAV), "no music"),
        (midi(), "no music"),
        (midi(60)[:-6], "MIDI"),
        (midi(60, ticks=480 * 300), "longer than 120 s"),
        (b"MThd" + bytes(MAX_MIDI_BYTES), "at most"),
        (controllers(MAX_MIDI_EVENTS + 1), "more than 50000 events"),
    ],
    ids=[
        "empty",
        "text",
        "cut FLAC",
        "silence of two minutes",
        "no samples",
        "no notes",
        "cut MIDI",
        "long MIDI",
        "large MIDI",
        "MIDI of nothing but a pedal",
    ],
)
def test_anything_else_is_refused_with_a_reason(data, complaint):
    with pytest.raises(InvalidRequest, match=complaint):
        check(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"RIFF but no wave", encode(tone(1), RATE_HZ, AudioFormat.FLAC)[:40], midi(60)[:-6], b"MThd" + b"\xff" * 100],
    ids=["empty", "text", "cut FLAC", "cut MIDI", "nonsense MIDI"],
)
def test_a_refusal_says_nothing_of_the_programs_insides(data):
    with pytest.raises(InvalidRequest) as refused:
        check(data)

    for insides in ("object at 0x", "_io.", "index out of range", "Traceback", "None"):
        assert insides not in str(refused.value)


def test_a_recording_is_read_through_in_blocks():
    # Eight channels at 48 kHz for a minute: 92 MB as float32, a few kB as FLAC.
    sink = io.BytesIO()
    soundfile.write(sink, np.zeros((48_000 * 60, 8), "int16"), 48_000, format="FLAC", subtype="PCM_16")

    tracemalloc.start()
    try:
        check(sink.getvalue())
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 4 * 2**20
