"""libsndfile as an encoder, with what it does not do by itself: the same bytes each time, and short Ogg pages."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Final

import numpy as np
import numpy.typing as npt
import soundfile

from orchestrion.audio.pcm import Pcm
from orchestrion.tracks.request import AudioFormat

#: libsndfile's name of each container and codec, and its compression level: MP3 192 kbit/s (constant at 44.1 kHz
#: stereo), Vorbis quality 6 (about 192 kbit/s), Opus 128 kbit/s.
_CODECS: Final[dict[AudioFormat, tuple[str, str, dict[str, float | str]]]] = {
    AudioFormat.WAV: ("WAV", "PCM_16", {}),
    AudioFormat.FLAC: ("FLAC", "PCM_16", {}),
    AudioFormat.MP3: ("MP3", "MPEG_LAYER_III", {"bitrate_mode": "CONSTANT", "compression_level": 0.4}),
    AudioFormat.OGG: ("OGG", "VORBIS", {"compression_level": 0.4}),
    AudioFormat.OPUS: ("OGG", "OPUS", {"compression_level": 0.77}),
}
#: Samples given to libsndfile at a time; its Vorbis encoder puts a whole write on the C stack.
_WRITE_SAMPLES: Final = 4096
#: sndfile.h: SFC_SET_OGG_PAGE_LATENCY_MS. soundfile does not name it. Default 1 s: a listener would wait for it.
_SET_OGG_PAGE_LATENCY_MS: Final = 0x1302
OGG_PAGE_LATENCY_MS: Final = 100.0
#: "orch"; any constant will do, since no two of our streams are ever multiplexed.
_OGG_SERIAL: Final = 0x6F726368


class Tap:
    """What libsndfile writes to. What was taken is gone: later writes into it are dropped."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._taken = 0
        self._position = 0

    def write(self, data: bytes) -> int:
        """Take what libsndfile writes at its present place."""
        start = self._position - self._taken
        if start >= 0:
            self._kept[start : start + len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the place, as a file's."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._taken + len(self._kept)}[whence]
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        """The present place."""
        return self._position

    def take(self, count: int | None = None) -> bytes:
        """The first `count` bytes that are kept, or all; they are forgotten."""
        count = len(self._kept) if count is None else count
        data = bytes(self._kept[:count])
        del self._kept[:count]
        self._taken += len(data)
        return data


def open_encoder(
    sink: io.BytesIO | Tap, sample_rate_hz: int, channels: int, format: AudioFormat
) -> soundfile.SoundFile:
    """An encoder that writes to `sink`, closed by its user."""
    container, codec, options = _CODECS[format]
    return soundfile.SoundFile(
        sink, "w", samplerate=sample_rate_hz, channels=channels, format=container, subtype=codec, **options
    )


def write_samples(encoder: soundfile.SoundFile, audio: Pcm, format: AudioFormat) -> None:
    """Hand `audio`, [samples, channels], to an encoder in parts that its stack has room for."""
    samples = to_s16(audio) if format is AudioFormat.FLAC else np.clip(audio, -1.0, 1.0)
    for start in range(0, len(samples), _WRITE_SAMPLES):
        encoder.write(samples[start : start + _WRITE_SAMPLES])


def to_s16(audio: Pcm) -> npt.NDArray[np.int16]:
    """16-bit samples: round(32767 · audio), clipped."""
    levels: npt.NDArray[np.int16] = np.rint(np.clip(audio, -1.0, 1.0) * np.float32(32767.0)).astype("<i2")
    return levels


def set_ogg_page_latency(encoder: soundfile.SoundFile, latency_ms: float) -> None:
    """Have an Ogg page end after so many milliseconds; libsndfile's own is a second."""
    value = soundfile._ffi.new("double *", latency_ms)
    soundfile._snd.sf_command(encoder._file, _SET_OGG_PAGE_LATENCY_MS, value, soundfile._ffi.sizeof("double"))


def with_constant_serial(data: bytes) -> tuple[bytes, bytes]:
    """The whole Ogg pages at the start of `data` (RFC 3533 §6) with our serial number, and what follows them."""
    pages = []
    start = 0
    while len(data) >= start + 27:
        segments = data[start + 26]
        end = start + 27 + segments + sum(data[start + 27 : start + 27 + segments])
        if len(data) < end or len(data) < start + 27 + segments:
            break
        page = bytearray(data[start:end])
        page[14:18] = struct.pack("<I", _OGG_SERIAL)
        page[22:26] = bytes(4)
        page[22:26] = struct.pack("<I", ogg_crc(bytes(page)))
        pages.append(bytes(page))
        start = end
    return b"".join(pages), data[start:]


_REVERSED_BITS: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def ogg_crc(page: bytes) -> int:
    """CRC-32 with polynomial 0x04c11db7, not reflected, from 0: zlib's, with the bits of each byte turned round."""
    reflected = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED_BITS), "big")
