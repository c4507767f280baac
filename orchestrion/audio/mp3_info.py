"""The Info frame of an MP3: its length, and what an encoder put before and after the music (LAME's tag)."""

from __future__ import annotations

import functools
import struct
from typing import Final

import numpy as np

from orchestrion.audio.encode import encode
from orchestrion.tracks.request import AudioFormat

#: kbit/s by the bitrate index of a layer III frame header (ISO 11172-3 2.4.2.3, ISO 13818-3 2.4.2.3).
MPEG_1_KBPS: Final = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
MPEG_2_KBPS: Final = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
#: Samples of silence that LAME puts before the audio, and the fewest that it puts after it.
_MP3_DELAY: Final = 576
_MP3_LEAST_PADDING: Final = 576


def info_frame(sample_rate_hz: int, channels: int, total_samples: int) -> bytes:
    """The first frame of an MP3 of `total_samples` at a constant bitrate: Xing's Info tag with LAME's extension.

    It is what LAME would write at the end but for two fields: the seek table is exact, and the CRC of the audio,
    which is not known before it is made, is 0. Layout: gabriel.mp3-tech.org/mp3infotag.html.
    """
    frame = bytearray(info_template(sample_rate_hz, channels))
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
def info_template(sample_rate_hz: int, channels: int) -> bytes:
    """The Info frame of a file of one sample: its length and the fields that hold the encoder's name and settings."""
    data = encode(np.zeros((1, channels), np.float32), sample_rate_hz, AudioFormat.MP3)
    return data[: _mp3_frame(data, sample_rate_hz)[1] // sample_rate_hz]


def _mp3_frame(header: bytes | bytearray, sample_rate_hz: int) -> tuple[int, int]:
    """The samples in each frame, and its bytes times the sampling rate (bytes alone need not be whole)."""
    is_mpeg_1 = header[1] & 0x18 == 0x18
    samples = 1152 if is_mpeg_1 else 576
    kbps = (MPEG_1_KBPS if is_mpeg_1 else MPEG_2_KBPS)[header[2] >> 4]
    return samples, samples // 8 * kbps * 1000


def _crc_16(data: bytes | bytearray) -> int:
    """CRC-16 with polynomial 0x8005, reflected, from 0 (ARC): what the LAME tag ends in."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc
