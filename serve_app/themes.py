"""Uploaded themes: accepted only when they really decode, and short enough that decoding them is harmless."""

from __future__ import annotations

import io
from typing import Final

import mido
import soundfile

from orchestrion.errors import InvalidRequest
from orchestrion.uploads import MAX_UPLOAD_S, is_midi

MAX_THEME_BYTES: Final = 20 * 1024 * 1024
#: A melody of two minutes is a few kB; reading a MIDI file takes about a second per MB.
MAX_MIDI_BYTES: Final = 512 * 1024


def check_theme(data: bytes) -> None:
    """Decode a theme.

    Raises:
        InvalidRequest: it is neither audio nor MIDI, is empty, or is longer than `MAX_UPLOAD_S`.
    """
    duration_s = _midi_duration_s(data) if is_midi(data) else _audio_duration_s(data)
    if duration_s == 0:
        raise InvalidRequest.of("theme", f"{len(data)} bytes", "holds no music; send a recording or MIDI of a melody")
    _check_length(duration_s)


def _check_length(duration_s: float) -> None:
    if duration_s > MAX_UPLOAD_S:
        raise InvalidRequest.of("theme", f"{duration_s:.0f} s", f"is longer than {MAX_UPLOAD_S:.0f} s; cut it")


def _midi_duration_s(data: bytes) -> float:
    if len(data) > MAX_MIDI_BYTES:
        raise InvalidRequest.of("theme", f"{len(data)} bytes", f"a MIDI theme has at most {MAX_MIDI_BYTES} bytes")
    try:
        file = mido.MidiFile(file=io.BytesIO(data))
        if not any(message.type == "note_on" for track in file.tracks for message in track):
            return 0.0
        return float(file.length)
    except (OSError, EOFError, ValueError, KeyError, IndexError, LookupError) as error:
        raise InvalidRequest.of("theme", f"{len(data)} bytes", f"cannot be read as MIDI: {error}") from None


def _audio_duration_s(data: bytes) -> float:
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            # The header is asked first: a small file may unpack to hours of silence.
            _check_length(file.frames / file.samplerate)
            frames = len(file.read(frames=int(MAX_UPLOAD_S * file.samplerate) + 1, dtype="float32", always_2d=True))
            return frames / float(file.samplerate)
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError) as error:
        detail = "is neither audio (WAV, FLAC, MP3, Ogg, AIFF …) nor MIDI that can be read"
        raise InvalidRequest.of("theme", f"{len(data)} bytes", f"{detail}: {error}") from None
