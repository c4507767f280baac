"""A tune as a recording, in the forms that recorders, streams, phones and browsers give it, right and wrong."""

import io
import struct
from functools import cache

import numpy as np

from tests.midi_files import SCALE

RATE_HZ = 16_000


@cache
def tune(
    rate_hz: int = RATE_HZ, pitches: tuple[int, ...] = SCALE, note_s: float | tuple[float, ...] = 0.4
) -> np.ndarray:
    """Notes with four partials, struck and damped, all of one length or each of its own: [samples] within ±0.7."""
    lengths_s = note_s if isinstance(note_s, tuple) else (note_s,) * len(pitches)
    waves = []
    for pitch, length_s in zip(pitches, lengths_s, strict=True):
        seconds = np.arange(round(length_s * rate_hz)) / rate_hz
        frequency_hz = 440 * 2 ** ((pitch - 69) / 12)
        partials = (np.exp(-(1 + k) * seconds) * np.sin(2 * np.pi * k * frequency_hz * seconds) for k in range(1, 5))
        edges = np.minimum(1, seconds / 0.01) * np.minimum(1, (length_s - seconds) / 0.02)
        waves.append(0.3 * edges * sum(partials))
    return np.concatenate(waves).astype(np.float32)


def pcm(audio: np.ndarray) -> bytes:
    return np.rint(32767 * audio).astype("<i2").tobytes()


def wav(
    audio: np.ndarray | None = None, rate_hz: int = RATE_HZ, *, size: int | None = None, riff_size: int | None = None,
    before: bytes = b"", name: bytes = b"RIFF",
) -> bytes:  # fmt: skip
    """A WAV file of [samples] or [samples, channels]; its sizes may be made up, and chunks stand before its audio."""
    audio = tune() if audio is None else audio
    channels = 1 if audio.ndim == 1 else audio.shape[1]
    body = pcm(audio)
    form = struct.pack("<HHIIHH", 1, channels, rate_hz, 2 * channels * rate_hz, 2 * channels, 16)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + before
    chunks += b"data" + struct.pack("<I", len(body) if size is None else size) + body
    return name + struct.pack("<I", 4 + len(chunks) if riff_size is None else riff_size) + b"WAVE" + chunks


def recorded(container: str, codec: str, audio: np.ndarray | None = None, rate_hz: int = 48_000) -> bytes:
    """[samples] or [samples, channels], by FFmpeg's encoders: "mp4" and "aac", "webm" and "libopus", …"""
    import av

    audio = tune(rate_hz) if audio is None else audio
    channels = np.atleast_2d(audio.T)
    layout = "mono" if len(channels) == 1 else "stereo"
    sink = io.BytesIO()
    with av.open(sink, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate_hz, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels, np.float32), format="fltp", layout=layout)
        frame.sample_rate = rate_hz
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            # FLAC ends in one that holds nothing but its final header.
            if packet.size:
                file.mux(packet)
    return sink.getvalue()
