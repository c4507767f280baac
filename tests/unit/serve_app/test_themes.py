"""Themes are kept only when they decode, and a small file that unpacks to hours is refused unpacked."""

import io

import mido
import numpy as np
import pytest

from orchestrion.encode import encode
from orchestrion.errors import InvalidRequest
from orchestrion.request import AudioFormat
from orchestrion.uploads import MAX_MIDI_BYTES
from serve_app.themes import check_theme

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


@pytest.mark.parametrize("format", [AudioFormat.WAV, AudioFormat.FLAC, AudioFormat.MP3, AudioFormat.OGG])
def test_recordings_are_taken(format):
    check_theme(encode(tone(2), RATE_HZ, format))


def test_midi_is_taken():
    check_theme(midi(60, 62, 64))


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
    ],
)
def test_anything_else_is_refused_with_a_reason(data, complaint):
    with pytest.raises(InvalidRequest, match=complaint):
        check_theme(data)
