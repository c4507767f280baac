"""A file that FFmpeg is to read, from the side of the process that asks for it."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from typing import Final

import numpy as np

from orchestrion.audio.pcm import Pcm
from orchestrion.isolation.process import IsolatedProcess, ProcessLostError

COMMAND: Final = (sys.executable, "-m", "orchestrion.audio.ffmpeg.worker")
#: Seconds from start to end; two minutes of AAC take one.
TIMEOUT_S: Final = 15.0
_MAX_LINE_BYTES: Final = 4096


class UndecodedError(Exception):
    """FFmpeg gives no audio; the message says why, of the file: "it is damaged"."""


def can_decode() -> bool:
    """Whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def decode(
    data: bytes, *, max_s: float, max_values_per_s: int, command: Sequence[str] = COMMAND, timeout_s: float = TIMEOUT_S
) -> tuple[Pcm, int]:
    """The audio of a file, [samples, channels], and its rate in Hz; of a long one `max_s` and a sample more.

    Raises:
        UndecodedError: there is none, it has more channels × Hz than `max_values_per_s`, or takes too much to read.
    """
    process = IsolatedProcess(command)
    try:
        asked = {"bytes": len(data), "max_s": max_s, "max_values_per_s": max_values_per_s}
        process.write(json.dumps(asked).encode() + b"\n", timeout_s)
        process.write(data, timeout_s)
        rate_hz, channels, frames = _announced(process.read_line(timeout_s, _MAX_LINE_BYTES))
        if channels * rate_hz > max_values_per_s or frames > max_s * rate_hz + 1:
            raise UndecodedError("it is longer than it says")
        audio = process.read_bytes(frames * channels * 4, timeout_s)
    except ProcessLostError as error:
        raise UndecodedError(f"reading it {error}") from error
    finally:
        process.kill()
    return np.frombuffer(audio, np.float32).reshape(frames, channels), rate_hz


def _announced(line: bytes) -> tuple[int, int, int]:
    """Rate, channels and frames, as the process says them. It has read the file, and is believed nothing."""
    try:
        answer = json.loads(line)
        if "unusable" in answer:
            raise UndecodedError(str(answer["unusable"]))
        rate_hz, channels, frames = (int(answer[name]) for name in ("rate_hz", "channels", "frames"))
    except (ValueError, TypeError, KeyError) as error:
        raise UndecodedError("what reads it gives nonsense") from error
    if min(rate_hz, channels) < 1 or frames < 0:
        raise UndecodedError("what reads it gives nonsense")
    return rate_hz, channels, frames
