"""The files that a request brings along, a theme or a continuation: read the same way for every model.

Whoever uploads chooses the bytes. A small file may unpack to hours, hold NaN, or only claim to be what it is, so
nothing here reads on after `MAX_UPLOAD_S`, and everything that cannot be used is refused by the name of its field.
"""

from __future__ import annotations

import io
from typing import Final

import mido
import numpy as np
import soundfile
import soxr

from orchestrion.errors import InvalidRequest
from orchestrion.models.protocol import Pcm

#: Audio beyond this is not read. Continuations longer than this are refused.
MAX_UPLOAD_S: Final = 120.0


def is_midi(data: bytes) -> bool:
    """Whether the bytes begin as a Standard MIDI File does."""
    return data.startswith(b"MThd")


def read_audio(data: bytes, field: str) -> tuple[Pcm, int]:
    """A file in any container libsndfile reads, as [samples, channels] and its rate in Hz.

    Of a file that is longer than `MAX_UPLOAD_S`, that much and one sample more.

    Raises:
        InvalidRequest: about `field`: the bytes are no such file, or hold NaN or infinity.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate_hz = int(file.samplerate)
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
        InvalidRequest: about `field`: the bytes are no such file, or count frames of a film instead of beats.
    """
    try:
        file = mido.MidiFile(file=io.BytesIO(data))
    except (OSError, EOFError, ValueError, KeyError, IndexError) as error:
        raise _refused(field, data, f"the MIDI file cannot be read ({error}); export it again") from error
    if file.ticks_per_beat <= 0:
        raise _refused(field, data, "the MIDI file counts frames, not beats; export it with ticks per quarter note")
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
