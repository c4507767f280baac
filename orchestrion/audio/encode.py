"""PCM to bytes in each container and back, whole or as a stream, and the same bytes every time.

libsndfile, which soundfile brings along, does the coding. Two things are done here because it does not: Ogg pages get
a constant serial number (libsndfile draws a random one, so no two files would be equal), and the headers of streams
state the length up front (libsndfile seeks back at the end to write it, and a stream cannot be taken back).

WAV and FLAC hold 16 bits: round(32767 · audio), no dither, so that both hold the same figures. 16 bits put the
rounding 80 dB and more under music mastered at −14 LUFS, at two thirds of the size of 24.
"""

from __future__ import annotations

import io
from typing import BinaryIO, Final

import numpy as np
import soundfile

from orchestrion.audio.libsndfile import open_encoder, to_s16, with_constant_serial, write_samples
from orchestrion.audio.pcm import Pcm
from orchestrion.audio.wav_header import wav_header
from orchestrion.tracks.request import AudioFormat

MEDIA_TYPES: Final[dict[AudioFormat, str]] = {
    AudioFormat.WAV: "audio/wav",
    AudioFormat.FLAC: "audio/flac",
    AudioFormat.MP3: "audio/mpeg",
    AudioFormat.OGG: "audio/ogg",
    AudioFormat.OPUS: "audio/ogg; codecs=opus",
}
FILE_SUFFIXES: Final[dict[AudioFormat, str]] = {
    AudioFormat.WAV: ".wav",
    AudioFormat.FLAC: ".flac",
    AudioFormat.MP3: ".mp3",
    AudioFormat.OGG: ".ogg",
    AudioFormat.OPUS: ".opus",
}


def encode(audio: Pcm, sample_rate_hz: int, format: AudioFormat) -> bytes:
    """`audio` ([samples, channels], full scale ±1, clipped there) as a file; the same input gives the same bytes."""
    if format is AudioFormat.WAV:
        return wav_header(sample_rate_hz, audio.shape[1], len(audio)) + to_s16(audio).tobytes()
    sink = io.BytesIO()
    with open_encoder(sink, sample_rate_hz, audio.shape[1], format) as encoder:
        write_samples(encoder, audio, format)
    if MEDIA_TYPES[format].startswith("audio/ogg"):
        return with_constant_serial(sink.getvalue())[0]
    return sink.getvalue()


def decode(data: bytes) -> tuple[Pcm, int]:
    """The audio ([samples, channels] float32) and sampling rate of a file in any container libsndfile reads.

    Raises:
        ValueError: `data` is not such a file.
    """
    try:
        audio, sample_rate_hz = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise ValueError(f"these {len(data)} bytes are not audio that can be read: {error}") from error
    return audio, int(sample_rate_hz)


class BlockDecoder:
    """Decodes a file part by part; the joined parts are what `decode` gives of it, rounding apart."""

    def __init__(self, file: BinaryIO) -> None:
        """A file that can be sought in, at its beginning.

        Raises:
            ValueError: it is not audio that can be read.
        """
        try:
            self._file = soundfile.SoundFile(file)
        except soundfile.SoundFileError as error:
            raise ValueError(f"this is not audio that can be read: {error}") from error
        self.sample_rate_hz = int(self._file.samplerate)
        self.channels = int(self._file.channels)

    def read(self, frames: int) -> Pcm:
        """The next [frames, channels], float32; fewer at the end, and then none."""
        block = np.empty((frames, self.channels), np.float32)
        # Not SoundFile.read: it seeks to where it is after each block, and MP3 is wrong for a while after a seek.
        into = soundfile._ffi.cast("float *", soundfile._ffi.from_buffer(block))
        return block[: soundfile._snd.sf_readf_float(self._file._file, into, frames)]

    def close(self) -> None:
        """Let go of what libsndfile holds."""
        self._file.close()
