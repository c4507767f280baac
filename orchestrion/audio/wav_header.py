"""The 44 bytes before the samples of a WAV file."""

from __future__ import annotations

import struct
from typing import Final

#: A WAV whose length is not known says the longest that fits, which players read as "until it ends".
_WAV_UNKNOWN: Final = 0xFFFFFFFF


def wav_header(sample_rate_hz: int, channels: int, total_samples: int | None) -> bytes:
    """The header of 16-bit samples; one whose length is not known says the longest that fits."""
    frame_bytes = 2 * channels
    data_bytes = _WAV_UNKNOWN if total_samples is None else total_samples * frame_bytes
    riff_bytes = min(_WAV_UNKNOWN, 36 + data_bytes)
    pcm = struct.pack("<HHIIHH", 1, channels, sample_rate_hz, sample_rate_hz * frame_bytes, frame_bytes, 16)
    return (
        struct.pack("<4sI4s4sI", b"RIFF", riff_bytes, b"WAVE", b"fmt ", len(pcm))
        + pcm
        + struct.pack("<4sI", b"data", data_bytes)
    )
