"""Uploaded themes: accepted only when they really decode, and short enough that decoding them is harmless."""

from __future__ import annotations

from typing import Final

from orchestrion.errors import InvalidRequest
from orchestrion.uploads import MAX_UPLOAD_S, is_midi, read_audio, read_midi

MAX_THEME_BYTES: Final = 20 * 1024 * 1024


def check_theme(data: bytes) -> None:
    """Decode a theme.

    Raises:
        InvalidRequest: it is neither audio nor MIDI, is empty, or is longer than `MAX_UPLOAD_S`.
    """
    duration_s = _midi_duration_s(data) if is_midi(data) else _audio_duration_s(data)
    if duration_s == 0:
        raise InvalidRequest.of("theme", f"{len(data)} bytes", "holds no music; send a recording or MIDI of a melody")
    if duration_s > MAX_UPLOAD_S:
        raise InvalidRequest.of("theme", f"{len(data)} bytes", f"is longer than {MAX_UPLOAD_S:.0f} s; cut it")


def _midi_duration_s(data: bytes) -> float:
    file = read_midi(data, "theme")
    if file.type == 2:
        raise InvalidRequest.of("theme", f"{len(data)} bytes", "the MIDI file is of type 2; export it as type 0 or 1")
    if not any(message.type == "note_on" for track in file.tracks for message in track):
        return 0.0
    return float(file.length)


def _audio_duration_s(data: bytes) -> float:
    audio, rate_hz = read_audio(data, "theme")
    return len(audio) / rate_hz
