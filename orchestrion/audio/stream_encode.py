"""PCM to bytes while it is made: headers state the length up front, because a stream cannot be taken back."""

from __future__ import annotations

import struct
from typing import Literal, Protocol

from orchestrion.audio.libsndfile import (
    OGG_PAGE_LATENCY_MS,
    Tap,
    open_encoder,
    set_ogg_page_latency,
    to_s16,
    with_constant_serial,
    write_samples,
)
from orchestrion.audio.mp3_info import info_frame, info_template
from orchestrion.audio.pcm import Pcm
from orchestrion.audio.wav_header import wav_header
from orchestrion.tracks.request import AudioFormat

StreamFormat = AudioFormat | Literal["pcm"]


class StreamEncoder:
    """Encodes audio as it comes; the joined bytes are one file. Bytes come as early as the codec can give them."""

    def __init__(self, format: StreamFormat, sample_rate_hz: int, channels: int, total_samples: int | None) -> None:
        self._encoder: _Encoder
        if format == "pcm":
            self._encoder = _RawEncoder(b"")
        elif format is AudioFormat.WAV:
            self._encoder = _RawEncoder(wav_header(sample_rate_hz, channels, total_samples))
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
        return header + to_s16(pcm).tobytes()

    def flush(self) -> bytes:
        header, self._header = self._header, b""
        return header


class _FlacEncoder:
    #: "fLaC", block header, STREAMINFO; its bytes 10..17 hold rate, channels, depth and 36 bits of total samples.
    _LENGTH_AT = 21

    def __init__(self, sample_rate_hz: int, channels: int, total_samples: int | None) -> None:
        self._tap = Tap()
        self._encoder = open_encoder(self._tap, sample_rate_hz, channels, AudioFormat.FLAC)
        self._total_samples = total_samples

    def push(self, pcm: Pcm) -> bytes:
        write_samples(self._encoder, pcm, AudioFormat.FLAC)
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
        self._tap = Tap()
        self._encoder = open_encoder(self._tap, sample_rate_hz, channels, AudioFormat.MP3)
        self._empty_frame_bytes = len(info_template(sample_rate_hz, channels))
        self._info = b"" if total_samples is None else info_frame(sample_rate_hz, channels, total_samples)

    def push(self, pcm: Pcm) -> bytes:
        write_samples(self._encoder, pcm, AudioFormat.MP3)
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
        self._tap = Tap()
        self._format = format
        self._encoder = open_encoder(self._tap, sample_rate_hz, channels, format)
        set_ogg_page_latency(self._encoder, OGG_PAGE_LATENCY_MS)
        self._rest = b""

    def push(self, pcm: Pcm) -> bytes:
        write_samples(self._encoder, pcm, self._format)
        return self._pages()

    def flush(self) -> bytes:
        self._encoder.close()
        return self._pages()

    def _pages(self) -> bytes:
        pages, self._rest = with_constant_serial(self._rest + self._tap.take())
        return pages
