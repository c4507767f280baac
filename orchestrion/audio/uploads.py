"""The files that a request brings along, a theme or a continuation: read the same way for every model, and at upload.

The bytes are not trusted. A small file may unpack to hours, hold NaN, or only claim to be what it is, so nothing here
reads on after `MAX_UPLOAD_S`, and everything that cannot be used is refused by the name of its field, in words for the
person who sent it. Seconds alone bound nothing: two minutes of FLAC may have eight channels at 655 kHz.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
import soundfile
import soxr

from orchestrion.audio.ffmpeg import decoding as ffmpeg
from orchestrion.audio.mending import mended, mp3_from_its_first_frame
from orchestrion.audio.midi import is_midi
from orchestrion.audio.pcm import Pcm
from orchestrion.errors import InvalidRequest

#: Audio beyond this is not read. Continuations longer than this are refused.
MAX_UPLOAD_S: Final = 120.0
#: Channels × Hz: stereo at 192 kHz, eight channels at 48 kHz. `MAX_UPLOAD_S` of it are 184 MB of float32.
MAX_VALUES_PER_S: Final = 384_000
#: Frames that are decoded at a time: what comes before damage is kept.
_BLOCK_FRAMES: Final = 16_384
#: A mean of the channels that is weaker than this share of the strongest one (in energy) has lost what is in it. One
#: side of a stereo file has a quarter in its mean.
_LOST_SHARE: Final = 0.2
#: What soundfile raises against a file.
_UNREADABLE: Final = (soundfile.SoundFileError, RuntimeError, ValueError, TypeError)
#: What is read without PyAV, and with it.
_FORMATS: Final = "WAV, FLAC, MP3 or OGG"
_MORE_FORMATS: Final = "WAV, FLAC, MP3, OGG, M4A or WebM"


@dataclass(frozen=True, slots=True)
class Recording:
    """A sound file, decoded. `audio` is [samples, channels], `kind` what its sender would call it: "WAV", "M4A"."""

    audio: Pcm
    rate_hz: int
    kind: str


def read_audio(data: bytes, field: str) -> Recording:
    """A file in a container that libsndfile reads or phones and browsers record.

    Of a file that is longer than `MAX_UPLOAD_S`, that much and one sample more; of a damaged one, what comes before.

    Raises:
        InvalidRequest: about `field`: the bytes are no such file, hold NaN or infinity, or have more channels and a
            higher rate than `MAX_VALUES_PER_S`.
    """
    try:
        found = _read(data, field)
    except _UNREADABLE as error:
        raise _refused(field, data, _unreadable(data, field)) from error
    if not np.isfinite(found.audio).all():
        raise _refused(field, data, "the audio holds NaN or infinity; export it again")
    return found


def read_continuation(data: bytes, sample_rate_hz: int, channels: int) -> Pcm:
    """The audio that a track begins with, at a model's rate and channels: [samples, channels].

    Raises:
        InvalidRequest: the bytes are no audio, hold none, or are longer than `MAX_UPLOAD_S`.
    """
    found = check_continuation(data)
    return converted(found.audio, found.rate_hz, sample_rate_hz, channels)


def check_continuation(data: bytes) -> Recording:
    """Audio that a track can begin with, as it is.

    Raises:
        InvalidRequest: the bytes are no audio, hold none, or are longer than `MAX_UPLOAD_S`.
    """
    if is_midi(data):
        raise _refused("continuation", data, "a MIDI file has no sound to go on from; give a recording")
    found = read_audio(data, "continuation")
    if len(found.audio) == 0:
        raise _refused("continuation", data, "the audio has no samples; give a few seconds")
    refuse_longer(data, len(found.audio) / found.rate_hz, "continuation")
    return found


def refuse_longer(data: bytes, duration_s: float, field: str) -> None:
    """Do nothing, unless a file is longer than an upload may be.

    Raises:
        InvalidRequest: it is.
    """
    if duration_s > MAX_UPLOAD_S:
        raise _refused(field, data, f"it is longer than {MAX_UPLOAD_S:.0f} s; cut it")


def converted(audio: Pcm, rate_hz: int, to_rate_hz: int, to_channels: int) -> Pcm:
    """`audio` ([samples, channels]) at another rate, with one channel (see `folded`) or with two."""
    if to_channels == 1:
        audio = folded(audio)[:, np.newaxis]
    elif audio.shape[1] == 1 or (audio.shape[1] > to_channels and _is_lost(audio[:, :to_channels], audio)):
        audio = np.repeat(folded(audio)[:, np.newaxis], to_channels, axis=1)
    audio = audio[:, :to_channels]
    return audio if rate_hz == to_rate_hz else soxr.resample(audio, rate_hz, to_rate_hz).astype(np.float32)


def folded(audio: Pcm) -> Pcm:
    """One channel of several, [samples]: their mean; the strongest where they cancel each other out."""
    if folds(audio):
        mean: Pcm = audio.mean(axis=1)
        return mean
    strongest: Pcm = audio[:, int(_energy(audio).argmax())]
    return strongest


def folds(audio: Pcm) -> bool:
    """Whether the mean of its channels holds what is in them."""
    return audio.shape[1] == 1 or not _is_lost(audio.mean(axis=1, keepdims=True), audio)


def _is_lost(fold: Pcm, audio: Pcm) -> bool:
    return bool(_energy(fold).max() < _LOST_SHARE * _energy(audio).max())


def _energy(audio: Pcm) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Of each channel. Block by block, so that no squares of all of it are held."""
    energy = np.zeros(audio.shape[1])
    for start in range(0, len(audio), _BLOCK_FRAMES):
        energy += np.square(audio[start : start + _BLOCK_FRAMES], dtype=np.float64).sum(axis=0)
    return energy


def _read(data: bytes, field: str) -> Recording:
    whole = mended(data)
    try:
        return _by_libsndfile(whole, field)
    except _UNREADABLE:
        if (mp3 := mp3_from_its_first_frame(data)) is not None:
            return _by_libsndfile(mp3, field)
        kind = _recorded_kind(data)
        if kind is None or not ffmpeg.can_decode():
            raise
        try:
            audio, rate_hz = ffmpeg.decode(whole, max_s=MAX_UPLOAD_S, max_values_per_s=MAX_VALUES_PER_S)
        except ffmpeg.UndecodedError as error:
            raise _refused(field, data, f"this file is {_a(kind)}, but {error}; give another") from error
        return Recording(audio, rate_hz, kind)


def _by_libsndfile(data: bytes, field: str) -> Recording:
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        channels, rate_hz = int(file.channels), int(file.samplerate)
        if channels * rate_hz > MAX_VALUES_PER_S:
            reason = f"it has {channels} channels at {rate_hz} Hz; give at most stereo at 192000 Hz"
            raise _refused(field, data, reason)
        # One more than may be used, so that what is too long is seen to be.
        limit = max(0, min(round(MAX_UPLOAD_S * rate_hz) + 1, int(file.frames)))
        audio = np.empty((limit, channels), np.float32)
        frames = 0
        try:
            while frames < limit:
                block = file.read(out=audio[frames : frames + _BLOCK_FRAMES])
                frames += len(block)
                if len(block) == 0:
                    break
        except _UNREADABLE:
            if frames == 0:
                raise
        kind = "WAV" if file.format in ("WAVEX", "RF64", "W64") else str(file.format)
    return Recording(audio[:frames], rate_hz, kind)


def _recorded_kind(data: bytes) -> str | None:
    """What a file is that libsndfile does not read and FFmpeg may, by how it begins."""
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        return "M4A" if brand.startswith(b"M4") else "QuickTime" if brand == b"qt  " else "MP4"
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:
        return "AAC"
    kinds = {b"\x1aE\xdf\xa3": "WebM", b"#!AMR": "AMR", b"ADIF": "AAC", b"OggS": "OGG"}
    return next((kind for mark, kind in kinds.items() if data.startswith(mark)), None)


#: How base64 of MIDI, RIFF, ID3, FLAC and Ogg begins, and a data URL.
_IN_BASE64: Final = (b"TVRoZ", b"UklGR", b"SUQz", b"ZkxhQ", b"T2dnU", b"data:")
#: How files begin that are sent by mistake, and what is to be done instead.
_MISTAKES: Final = (
    (b"--", "this is a form, not a file; send the file itself as the body (curl: --data-binary @file)"),
    (b"\x1f\x8b", "this file is packed with gzip; send it unpacked, or say so with Content-Encoding: gzip"),
    (b"PK\x03\x04", "this file is a ZIP; send the recording that is in it"),
    (b"0&\xb2u", "this file is a WMA"),
    (b"%PDF", "this file is a PDF: a score cannot be read; export it as MIDI"),
    (b"{", "this is JSON; send the file itself as the body"),
    *((mark, "this is base64; send the bytes themselves as the body") for mark in _IN_BASE64),
    (b"<", "this is a page or XML; export the music as MIDI"),
)


def _unreadable(data: bytes, field: str) -> str:
    """Why nothing can be read, and what to give instead."""
    formats = _MORE_FORMATS if ffmpeg.can_decode() else _FORMATS
    usable = f"give {formats}" if field == "continuation" else f"give MIDI, {formats}"
    if not data:
        return f"the file is empty; {usable}"
    for mark, words in _MISTAKES:
        if data.startswith(mark):
            return words if ";" in words or ":" in words else f"{words}; {usable}"
    if (kind := _recorded_kind(data)) is not None and kind != "OGG":
        return f"this file is {_a(kind)}; {usable}"
    if data.startswith((b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b"ID3")):
        return f"the file is damaged: its beginning makes no sense; export it again, or {usable}"
    return f"this is neither MIDI nor a sound file that can be read; {usable}"


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'AMO' else 'a'} {kind} file"


def _refused(field: str, data: bytes, reason: str) -> InvalidRequest:
    return InvalidRequest.of(field, f"{len(data)} bytes", reason)
