"""PCM to bytes in each container and back, whole or as a stream, and the same bytes every time.

libsndfile, which soundfile brings along, does the coding. Two things are done here because it does not: Ogg pages get
a constant serial number (libsndfile draws a random one, so no two files would be equal), and the headers of streams
state the length up front (libsndfile seeks back at the end to write it, and a stream cannot be taken back).

WAV and FLAC hold 16 bits: round(32767 · audio), no dither, so that both hold the same figures. 16 bits put the
rounding 80 dB and more under music mastered at −14 LUFS, at two thirds of the size of 24.
"""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import BinaryIO, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt
import soundfile

from orchestrion.models.protocol import Pcm
from orchestrion.request import AudioFormat

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
_OGG_PAGE_LATENCY_MS: Final = 100.0
#: "orch"; any constant will do, since no two of our streams are ever multiplexed.
_OGG_SERIAL: Final = 0x6F726368
#: A WAV whose length is not known says the longest that fits, which players read as "until it ends".
_WAV_UNKNOWN: Final = 0xFFFFFFFF

StreamFormat = AudioFormat | Literal["pcm"]


def encode(audio: Pcm, sample_rate_hz: int, format: AudioFormat) -> bytes:
    """`audio` ([samples, channels], full scale ±1, clipped there) as a file; the same input gives the same bytes."""
    if format is AudioFormat.WAV:
        return _wav_header(sample_rate_hz, audio.shape[1], len(audio)) + _s16(audio).tobytes()
    sink = io.BytesIO()
    with _open(sink, sample_rate_hz, audio.shape[1], format) as encoder:
        _write(encoder, audio, format)
    if MEDIA_TYPES[format].startswith("audio/ogg"):
        return _with_constant_serial(sink.getvalue())[0]
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


class StreamEncoder:
    """Encodes audio as it comes; the joined bytes are one file. Bytes come as early as the codec can give them."""

    def __init__(self, format: StreamFormat, sample_rate_hz: int, channels: int, total_samples: int | None) -> None:
        self._encoder: _Encoder
        if format == "pcm":
            self._encoder = _RawEncoder(b"")
        elif format is AudioFormat.WAV:
            self._encoder = _RawEncoder(_wav_header(sample_rate_hz, channels, total_samples))
        elif format is AudioFormat.FLAC:
            self._encoder = _FlacEncoder(sample_rate_hz, channels, total_samples)
        elif format is AudioFormat.MP3:
            self._encoder = _Mp3Encoder(sample_rate_hz, channels, total_samples)
        else:
            self._encoder = _OggEncoder(sample_rate_hz, channels, format)

    def push(self, pcm: Pcm) -> bytes:
        """Take the next [samples, channels]; give the bytes that are ready (maybe none)."""
        return self._encoder.push(pcm)

    def flush(self) -> bytes:
        """End of the audio: give the rest of the file."""
        return self._encoder.flush()


class _Encoder(Protocol):
    def push(self, pcm: Pcm) -> bytes: ...
    def flush(self) -> bytes: ...


class _RawEncoder:
    """A header, then 16-bit little-endian samples."""

    def __init__(self, header: bytes) -> None:
        self._header = header

    def push(self, pcm: Pcm) -> bytes:
        header, self._header = self._header, b""
        return header + _s16(pcm).tobytes()

    def flush(self) -> bytes:
        header, self._header = self._header, b""
        return header


class _Tap:
    """What libsndfile writes to. What was taken is gone: later writes into it are dropped."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._taken = 0
        self._position = 0

    def write(self, data: bytes) -> int:
        start = self._position - self._taken
        if start >= 0:
            self._kept[start : start + len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._taken + len(self._kept)}[whence]
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def take(self, count: int | None = None) -> bytes:
        count = len(self._kept) if count is None else count
        data = bytes(self._kept[:count])
        del self._kept[:count]
        self._taken += len(data)
        return data


class _FlacEncoder:
    #: "fLaC", block header, STREAMINFO; its bytes 10..17 hold rate, channels, depth and 36 bits of total samples.
    _LENGTH_AT = 21

    def __init__(self, sample_rate_hz: int, channels: int, total_samples: int | None) -> None:
        self._tap = _Tap()
        self._encoder = _open(self._tap, sample_rate_hz, channels, AudioFormat.FLAC)
        self._total_samples = total_samples

    def push(self, pcm: Pcm) -> bytes:
        _write(self._encoder, pcm, AudioFormat.FLAC)
        return self._with_length(self._tap.take())

    def flush(self) -> bytes:
        self._encoder.close()
        return self._with_length(self._tap.take())

    def _with_length(self, data: bytes) -> bytes:
        if self._total_samples is None or not data:
            return data
        depth_and_length = bytearray(data[self._LENGTH_AT : self._LENGTH_AT + 5])
        depth_and_length[0] = depth_and_length[0] & 0xF0 | self._total_samples >> 32
        depth_and_length[1:] = struct.pack(">I", self._total_samples & 0xFFFFFFFF)
        self._total_samples = None
        return data[: self._LENGTH_AT] + bytes(depth_and_length) + data[self._LENGTH_AT + 5 :]


class _Mp3Encoder:
    """LAME begins with an empty frame and puts the Info tag into it at the end; here the tag comes first."""

    def __init__(self, sample_rate_hz: int, channels: int, total_samples: int | None) -> None:
        self._tap = _Tap()
        self._encoder = _open(self._tap, sample_rate_hz, channels, AudioFormat.MP3)
        self._empty_frame_bytes = len(_info_template(sample_rate_hz, channels))
        self._info = b"" if total_samples is None else _info_frame(sample_rate_hz, channels, total_samples)

    def push(self, pcm: Pcm) -> bytes:
        _write(self._encoder, pcm, AudioFormat.MP3)
        return self._frames()

    def flush(self) -> bytes:
        self._encoder.close()
        return self._frames()

    def _frames(self) -> bytes:
        self._empty_frame_bytes -= len(self._tap.take(self._empty_frame_bytes))
        info, self._info = self._info, b""
        return info + self._tap.take()


class _OggEncoder:
    def __init__(self, sample_rate_hz: int, channels: int, format: AudioFormat) -> None:
        self._tap = _Tap()
        self._format = format
        self._encoder = _open(self._tap, sample_rate_hz, channels, format)
        _set_ogg_page_latency(self._encoder, _OGG_PAGE_LATENCY_MS)
        self._rest = b""

    def push(self, pcm: Pcm) -> bytes:
        _write(self._encoder, pcm, self._format)
        return self._pages()

    def flush(self) -> bytes:
        self._encoder.close()
        return self._pages()

    def _pages(self) -> bytes:
        pages, self._rest = _with_constant_serial(self._rest + self._tap.take())
        return pages


def _open(sink: io.BytesIO | _Tap, sample_rate_hz: int, channels: int, format: AudioFormat) -> soundfile.SoundFile:
    container, codec, options = _CODECS[format]
    return soundfile.SoundFile(
        sink, "w", samplerate=sample_rate_hz, channels=channels, format=container, subtype=codec, **options
    )


def _write(encoder: soundfile.SoundFile, audio: Pcm, format: AudioFormat) -> None:
    samples = _s16(audio) if format is AudioFormat.FLAC else np.clip(audio, -1.0, 1.0)
    for start in range(0, len(samples), _WRITE_SAMPLES):
        encoder.write(samples[start : start + _WRITE_SAMPLES])


def _s16(audio: Pcm) -> npt.NDArray[np.int16]:
    levels: npt.NDArray[np.int16] = np.rint(np.clip(audio, -1.0, 1.0) * np.float32(32767.0)).astype("<i2")
    return levels


def _wav_header(sample_rate_hz: int, channels: int, total_samples: int | None) -> bytes:
    frame_bytes = 2 * channels
    data_bytes = _WAV_UNKNOWN if total_samples is None else total_samples * frame_bytes
    riff_bytes = min(_WAV_UNKNOWN, 36 + data_bytes)
    pcm = struct.pack("<HHIIHH", 1, channels, sample_rate_hz, sample_rate_hz * frame_bytes, frame_bytes, 16)
    return (
        struct.pack("<4sI4s4sI", b"RIFF", riff_bytes, b"WAVE", b"fmt ", len(pcm))
        + pcm
        + struct.pack("<4sI", b"data", data_bytes)
    )


#: kbit/s by the bitrate index of a layer III frame header (ISO 11172-3 2.4.2.3, ISO 13818-3 2.4.2.3).
_MPEG_1_KBPS: Final = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG_2_KBPS: Final = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
#: Samples of silence that LAME puts before the audio, and the fewest that it puts after it.
_MP3_DELAY: Final = 576
_MP3_LEAST_PADDING: Final = 576


def _info_frame(sample_rate_hz: int, channels: int, total_samples: int) -> bytes:
    """The first frame of an MP3 of `total_samples` at a constant bitrate: Xing's Info tag with LAME's extension.

    It is what LAME would write at the end but for two fields: the seek table is exact, and the CRC of the audio,
    which nobody can know before it is made, is 0. Layout: gabriel.mp3-tech.org/mp3infotag.html.
    """
    frame = bytearray(_info_template(sample_rate_hz, channels))
    frame_samples, slots = _mp3_frame(frame, sample_rate_hz)
    frames = -(-(_MP3_DELAY + total_samples + _MP3_LEAST_PADDING) // frame_samples)
    padding = frames * frame_samples - _MP3_DELAY - total_samples
    # A frame is a byte longer wherever the bytes that were due so far make one more; LAME counts from the second on.
    longer = -(-(frames - 1) * (slots % sample_rate_hz) // sample_rate_hz)
    file_bytes = (1 + frames) * (slots // sample_rate_hz) + longer
    tag = frame.index(b"Info")
    struct.pack_into(">II", frame, tag + 8, frames, file_bytes)
    frame[tag + 16 : tag + 116] = bytes(256 * percent // 100 for percent in range(100))
    frame[tag + 141 : tag + 144] = (_MP3_DELAY << 12 | padding).to_bytes(3, "big")
    struct.pack_into(">IH", frame, tag + 148, file_bytes, 0)
    struct.pack_into(">H", frame, tag + 154, _crc_16(frame[: tag + 154]))
    return bytes(frame)


@functools.cache
def _info_template(sample_rate_hz: int, channels: int) -> bytes:
    """The Info frame of a file of one sample: its length and the fields that hold the encoder's name and settings."""
    data = encode(np.zeros((1, channels), np.float32), sample_rate_hz, AudioFormat.MP3)
    return data[: _mp3_frame(data, sample_rate_hz)[1] // sample_rate_hz]


def _mp3_frame(header: bytes | bytearray, sample_rate_hz: int) -> tuple[int, int]:
    """The samples in each frame, and its bytes times the sampling rate (bytes alone need not be whole)."""
    is_mpeg_1 = header[1] & 0x18 == 0x18
    samples = 1152 if is_mpeg_1 else 576
    kbps = (_MPEG_1_KBPS if is_mpeg_1 else _MPEG_2_KBPS)[header[2] >> 4]
    return samples, samples // 8 * kbps * 1000


def _crc_16(data: bytes | bytearray) -> int:
    """CRC-16 with polynomial 0x8005, reflected, from 0 (ARC): what the LAME tag ends in."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def _set_ogg_page_latency(encoder: soundfile.SoundFile, latency_ms: float) -> None:
    value = soundfile._ffi.new("double *", latency_ms)
    soundfile._snd.sf_command(encoder._file, _SET_OGG_PAGE_LATENCY_MS, value, soundfile._ffi.sizeof("double"))


def _with_constant_serial(data: bytes) -> tuple[bytes, bytes]:
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
        page[22:26] = struct.pack("<I", _ogg_crc(bytes(page)))
        pages.append(bytes(page))
        start = end
    return b"".join(pages), data[start:]


_REVERSED_BITS: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_crc(page: bytes) -> int:
    """CRC-32 with polynomial 0x04c11db7, not reflected, from 0: zlib's, with the bits of each byte turned round."""
    reflected = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED_BITS), "big")
