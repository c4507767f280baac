"""The files that a request brings along, a theme or a continuation: read the same way for every model.

The bytes are not trusted. A small file may unpack to hours, hold NaN, or only claim to be what it is, so nothing here
reads on after `MAX_UPLOAD_S`, and everything that cannot be used is refused by the name of its field. Seconds alone
bound nothing: two minutes of FLAC may have eight channels at 655 kHz, and one number of a MIDI file may be a megabyte
long.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

import mido
import numpy as np
import soundfile
import soxr

from orchestrion.audio.pcm import Pcm
from orchestrion.errors import InvalidRequest

#: Audio beyond this is not read. Continuations longer than this are refused.
MAX_UPLOAD_S: Final = 120.0
#: Channels × Hz: stereo at 192 kHz, eight channels at 48 kHz. `MAX_UPLOAD_S` of it are 184 MB of float32.
MAX_VALUES_PER_S: Final = 384_000
#: A melody of two minutes is a few kB; mido takes some 3 s and 150 MB for as many events as fit into this.
MAX_MIDI_BYTES: Final = 512 * 1024
#: 80 a second for two minutes. Models look at each of them several times.
MAX_MIDI_NOTES: Final = 10_000
#: Notes and what lies between them: pedals, bends, breath. mido reads some 90,000 in a second, and who plays waits.
MAX_MIDI_EVENTS: Final = 50_000
#: Frames that a check decodes at a time.
_BLOCK_FRAMES: Final = 16_384
#: The largest number that a Standard MIDI File may hold: four bytes of seven bits.
MAX_MIDI_TICKS: Final = 2**28 - 1
#: mido reads a number for as long as its bytes have their highest bit; the time that takes grows with the square.
_ENDLESS_NUMBER: Final = re.compile(rb"[\x80-\xff]{4096}")


def is_midi(data: bytes) -> bool:
    """Whether the bytes begin as a Standard MIDI File does."""
    return data.startswith(b"MThd")


def check_upload(file: BinaryIO, size_bytes: int) -> None:
    """Read a theme or a continuation through, without ever holding all that it decodes to.

    Args:
        file: at its beginning.
        size_bytes: all of it.

    Raises:
        InvalidRequest: it is neither audio nor MIDI, holds no music, or is longer than `MAX_UPLOAD_S`.
    """
    head = file.read(4)
    file.seek(0)
    duration_s = (
        _midi_duration_s(file.read(MAX_MIDI_BYTES + 1)) if is_midi(head) else _audio_duration_s(file, size_bytes)
    )
    if duration_s == 0:
        raise _refused("theme", size_bytes, "holds no music; send a recording or MIDI of a melody")
    if duration_s > MAX_UPLOAD_S:
        raise _refused("theme", size_bytes, f"is longer than {MAX_UPLOAD_S:.0f} s; cut it")


def _midi_duration_s(data: bytes) -> float:
    file = read_midi(data, "theme")
    if file.type == 2:
        raise _refused("theme", len(data), "the MIDI file is of type 2; export it as type 0 or 1")
    if not any(message.type == "note_on" for track in file.tracks for message in track):
        return 0.0
    return float(file.length)


def _audio_duration_s(file: BinaryIO, size_bytes: int) -> float:
    frames = 0
    with _opened(file, "theme", size_bytes) as audio:
        limit = _frame_limit(audio)
        while frames < limit:
            block = audio.read(min(_BLOCK_FRAMES, limit - frames), dtype="float32")
            if len(block) == 0:
                break
            if not np.isfinite(block).all():
                raise _not_finite("theme", size_bytes)
            frames += len(block)
        return frames / float(audio.samplerate)


def read_audio(data: bytes, field: str) -> tuple[Pcm, int]:
    """A file in any container libsndfile reads, as [samples, channels] and its rate in Hz.

    Of a file that is longer than `MAX_UPLOAD_S`, that much and one sample more.

    Raises:
        InvalidRequest: about `field`: the bytes are no such file, hold NaN or infinity, or have more channels and a
            higher rate than `MAX_VALUES_PER_S`.
    """
    with _opened(io.BytesIO(data), field, len(data)) as file:
        audio: Pcm = file.read(frames=_frame_limit(file), dtype="float32", always_2d=True)
        rate_hz = int(file.samplerate)
    if not np.isfinite(audio).all():
        raise _not_finite(field, len(data))
    return audio, rate_hz


@contextmanager
def _opened(file: BinaryIO, field: str, size_bytes: int) -> Iterator[soundfile.SoundFile]:
    """The file as audio; what libsndfile says against it, now or while it is read, in words for its sender."""
    head = file.read(12)
    file.seek(0)
    try:
        with soundfile.SoundFile(file) as audio:
            if audio.channels * audio.samplerate > MAX_VALUES_PER_S:
                reason = f"has {audio.channels} channels at {audio.samplerate} Hz; give at most stereo at 192000 Hz"
                raise _refused(field, size_bytes, reason)
            yield audio
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError) as error:
        if (kind := _foreign_kind(head)) is not None:
            readable = "WAV, FLAC, MP3, OGG or MIDI" if field == "theme" else "WAV, FLAC, MP3 or OGG"
            raise _refused(field, size_bytes, f"this file is {kind}; use {readable}") from error
        # Its message would name our own file object; its error string says what is wrong with the sender's.
        said = error.error_string.rstrip(". ") if isinstance(error, soundfile.LibsndfileError) else "it is damaged"
        raise _refused(
            field, size_bytes, f"neither MIDI nor audio that can be read ({said}); give MIDI, WAV, FLAC, MP3 or Ogg"
        ) from error


def _foreign_kind(head: bytes) -> str | None:
    """What a file is that phones, browsers and players make and libsndfile does not read, by its first 12 bytes."""
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return "an M4A" if brand.startswith(b"M4") else "a QuickTime film" if brand == b"qt  " else "an MP4"
    kinds = {b"\x1aE\xdf\xa3": "a WebM or Matroska file", b"0&\xb2u": "a WMA", b"#!AMR": "an AMR", b"ADIF": "an AAC"}
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "an AAC"
    return next((kind for mark, kind in kinds.items() if head.startswith(mark)), None)


def _frame_limit(audio: soundfile.SoundFile) -> int:
    """One more than may be used, so that what is too long is seen to be."""
    return round(MAX_UPLOAD_S * int(audio.samplerate)) + 1


def read_midi(data: bytes, field: str) -> mido.MidiFile:
    """A Standard MIDI File.

    Raises:
        InvalidRequest: about `field`: the bytes are no such file, count frames of a film instead of beats, or hold
            more than a theme can (`MAX_MIDI_BYTES`, `MAX_MIDI_EVENTS`, `MAX_MIDI_NOTES`, `MAX_MIDI_TICKS`).
    """
    if len(data) > MAX_MIDI_BYTES:
        raise _refused(field, len(data), f"a MIDI file has at most {MAX_MIDI_BYTES} bytes; cut it")
    if _ENDLESS_NUMBER.search(data):
        raise _refused(field, len(data), "the MIDI file cannot be read (a number without an end); export it again")
    try:
        file = mido.MidiFile(file=io.BytesIO(data))
    except (OSError, EOFError, ValueError, LookupError, mido.KeySignatureError) as error:
        # mido's own words are Python's ("list index out of range"), and do not help a user of a sequencer.
        raise _refused(
            field, len(data), "the MIDI file cannot be read: it is damaged or cut off; export it again"
        ) from error
    if file.ticks_per_beat <= 0:
        raise _refused(
            field, len(data), "the MIDI file counts frames, not beats; export it with ticks per quarter note"
        )
    if sum(map(len, file.tracks)) > MAX_MIDI_EVENTS:
        raise _refused(field, len(data), f"the MIDI file has more than {MAX_MIDI_EVENTS} events; cut it")
    notes = 0
    for message in (message for track in file.tracks for message in track):
        notes += message.type == "note_on"
        if message.time > MAX_MIDI_TICKS:
            raise _refused(field, len(data), f"the MIDI file has a pause of more than {MAX_MIDI_TICKS} ticks; cut it")
        if message.type == "set_tempo" and message.tempo == 0:
            raise _refused(field, len(data), "the MIDI file has a tempo without end; export it again")
    if notes > MAX_MIDI_NOTES:
        raise _refused(field, len(data), f"the MIDI file has {notes} notes, more than {MAX_MIDI_NOTES}; cut it")
    return file


def read_continuation(data: bytes, sample_rate_hz: int, channels: int) -> Pcm:
    """The audio that a track begins with, at a model's rate and channels: [samples, channels].

    Raises:
        InvalidRequest: the bytes are no audio, hold none, or are longer than `MAX_UPLOAD_S`.
    """
    if is_midi(data):
        raise _refused("continuation", len(data), "a MIDI file has no sound to go on from; give a recording")
    audio, rate_hz = read_audio(data, "continuation")
    if len(audio) == 0:
        raise _refused("continuation", len(data), "the audio has no samples; give a few seconds")
    if len(audio) > MAX_UPLOAD_S * rate_hz:
        raise _refused("continuation", len(data), f"the audio is longer than {MAX_UPLOAD_S:g} s; cut it")
    return converted(audio, rate_hz, sample_rate_hz, channels)


def converted(audio: Pcm, rate_hz: int, to_rate_hz: int, to_channels: int) -> Pcm:
    """`audio` ([samples, channels]) at another rate, with one channel (their mean) or with two."""
    if to_channels == 1:
        audio = audio.mean(axis=1, keepdims=True)
    elif audio.shape[1] == 1:
        audio = np.repeat(audio, to_channels, axis=1)
    audio = audio[:, :to_channels]
    return audio if rate_hz == to_rate_hz else soxr.resample(audio, rate_hz, to_rate_hz).astype(np.float32)


def _not_finite(field: str, size_bytes: int) -> InvalidRequest:
    return _refused(field, size_bytes, "the audio holds NaN or infinity; export it again")


def _refused(field: str, size_bytes: int, reason: str) -> InvalidRequest:
    return InvalidRequest.of(field, f"{size_bytes} bytes", reason)
