"""The files that a request brings along, a theme or a continuation: read the same way for every model.

Whoever uploads chooses the bytes. A small file may unpack to hours, hold NaN, or only claim to be what it is, so
nothing here reads on after `MAX_UPLOAD_S`, and everything that cannot be used is refused by the name of its field.
The surprising thing: seconds alone bound nothing. Two minutes of FLAC may have eight channels at 655 kHz, and one
number of a MIDI file may be a megabyte long.
"""

from __future__ import annotations

import io
import re
from typing import Final

import mido
import numpy as np
import soundfile
import soxr

from orchestrion.errors import InvalidRequest
from orchestrion.models.protocol import Pcm

#: Audio beyond this is not read. Continuations longer than this are refused.
MAX_UPLOAD_S: Final = 120.0
#: Channels × Hz: stereo at 192 kHz, eight channels at 48 kHz. `MAX_UPLOAD_S` of it are 184 MB of float32.
MAX_VALUES_PER_S: Final = 384_000
#: A melody of two minutes is a few kB; mido takes some 3 s and 150 MB for as many events as fit into this.
MAX_MIDI_BYTES: Final = 512 * 1024
#: 80 a second for two minutes. Models look at each of them several times.
MAX_MIDI_NOTES: Final = 10_000
#: The largest number that a Standard MIDI File may hold: four bytes of seven bits.
MAX_MIDI_TICKS: Final = 2**28 - 1
#: mido reads a number for as long as its bytes have their highest bit; the time that takes grows with the square.
_ENDLESS_NUMBER: Final = re.compile(rb"[\x80-\xff]{4096}")


def is_midi(data: bytes) -> bool:
    """Whether the bytes begin as a Standard MIDI File does."""
    return data.startswith(b"MThd")


def read_audio(data: bytes, field: str) -> tuple[Pcm, int]:
    """A file in any container libsndfile reads, as [samples, channels] and its rate in Hz.

    Of a file that is longer than `MAX_UPLOAD_S`, that much and one sample more.

    Raises:
        InvalidRequest: about `field`: the bytes are no such file, hold NaN or infinity, or have more channels and a
            higher rate than `MAX_VALUES_PER_S`.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate_hz = int(file.samplerate)
            if file.channels * rate_hz > MAX_VALUES_PER_S:
                reason = f"has {file.channels} channels at {rate_hz} Hz; give at most stereo at 192000 Hz"
                raise _refused(field, data, reason)
            audio: Pcm = file.read(frames=round(MAX_UPLOAD_S * rate_hz) + 1, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError) as error:
        raise _refused(
            field, data, f"neither MIDI nor audio that can be read ({error}); give MIDI, WAV, FLAC, MP3 or Ogg"
        ) from error
    if not np.isfinite(audio).all():
        raise _refused(field, data, "the audio holds NaN or infinity; export it again")
    return audio, rate_hz


def read_midi(data: bytes, field: str) -> mido.MidiFile:
    """A Standard MIDI File.

    Raises:
        InvalidRequest: about `field`: the bytes are no such file, count frames of a film instead of beats, or hold
            more than a theme can (`MAX_MIDI_BYTES`, `MAX_MIDI_NOTES`, `MAX_MIDI_TICKS`).
    """
    if len(data) > MAX_MIDI_BYTES:
        raise _refused(field, data, f"a MIDI file has at most {MAX_MIDI_BYTES} bytes; cut it")
    if _ENDLESS_NUMBER.search(data):
        raise _refused(field, data, "the MIDI file cannot be read (a number without an end); export it again")
    try:
        file = mido.MidiFile(file=io.BytesIO(data))
    except (OSError, EOFError, ValueError, LookupError, mido.KeySignatureError) as error:
        raise _refused(field, data, f"the MIDI file cannot be read ({error}); export it again") from error
    if file.ticks_per_beat <= 0:
        raise _refused(field, data, "the MIDI file counts frames, not beats; export it with ticks per quarter note")
    notes = 0
    for message in (message for track in file.tracks for message in track):
        notes += message.type == "note_on"
        if message.time > MAX_MIDI_TICKS:
            raise _refused(field, data, f"the MIDI file has a pause of more than {MAX_MIDI_TICKS} ticks; cut it")
        if message.type == "set_tempo" and message.tempo == 0:
            raise _refused(field, data, "the MIDI file has a tempo without end; export it again")
    if notes > MAX_MIDI_NOTES:
        raise _refused(field, data, f"the MIDI file has {notes} notes, more than {MAX_MIDI_NOTES}; cut it")
    return file


def read_continuation(data: bytes, sample_rate_hz: int, channels: int) -> Pcm:
    """The audio that a track begins with, at a model's rate and channels: [samples, channels].

    Raises:
        InvalidRequest: the bytes are no audio, hold none, or are longer than `MAX_UPLOAD_S`.
    """
    if is_midi(data):
        raise _refused("continuation", data, "a MIDI file has no sound to go on from; give a recording")
    audio, rate_hz = read_audio(data, "continuation")
    if len(audio) == 0:
        raise _refused("continuation", data, "the audio has no samples; give a few seconds")
    if len(audio) > MAX_UPLOAD_S * rate_hz:
        raise _refused("continuation", data, f"the audio is longer than {MAX_UPLOAD_S:g} s; cut it")
    return converted(audio, rate_hz, sample_rate_hz, channels)


def converted(audio: Pcm, rate_hz: int, to_rate_hz: int, to_channels: int) -> Pcm:
    """`audio` ([samples, channels]) at another rate, with one channel (their mean) or with two."""
    if to_channels == 1:
        audio = audio.mean(axis=1, keepdims=True)
    elif audio.shape[1] == 1:
        audio = np.repeat(audio, to_channels, axis=1)
    audio = audio[:, :to_channels]
    return audio if rate_hz == to_rate_hz else soxr.resample(audio, rate_hz, to_rate_hz).astype(np.float32)


def _refused(field: str, data: bytes, reason: str) -> InvalidRequest:
    return InvalidRequest.of(field, f"{len(data)} bytes", reason)
