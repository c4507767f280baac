"""A process that decodes one file with FFmpeg (PyAV) and ends, so that a harmful file ends this process only.

    python -m orchestrion.audio.ffmpeg.worker

On standard input a line of JSON (the file's length, and how much of it may be used) and the file. On standard output a
line of JSON, and after one that says `frames` so many frames of float32, channels interleaved. It opens no file and no
connection, knows the containers and codecs that are listed here and no others, and has its memory and its time.
"""

from __future__ import annotations

import importlib
import io
import json
import pkgutil
import sys
from typing import IO, Any, Final

from orchestrion.isolation.limits import forbid_files, leave_nothing, limit_cpu_time, limit_memory

#: What phones, browsers and players record, and what stands in it. FFmpeg has a hundred more of each.
CONTAINERS: Final = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "aac", "amr", "ogg")
CODECS: Final = (
    "aac", "aac_latm", "alac", "opus", "libopus", "vorbis", "flac", "mp3", "mp3float", "amrnb", "amrwb",
    "libopencore_amrnb", "libopencore_amrwb", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_f32le",
)  # fmt: skip
#: Addresses beyond those of the libraries: the audio twice, and what a decoder holds.
MAX_MEMORY_BYTES: Final = 768 << 20
MAX_CPU_S: Final = 20
#: More packets that are damaged are no recording that somebody made.
_MAX_DAMAGED: Final = 100


def main() -> None:
    """Decode the one file that comes."""
    import av

    _warm_up(av)
    leave_nothing()
    limit_memory(MAX_MEMORY_BYTES)
    limit_cpu_time(MAX_CPU_S)
    forbid_files()
    asked = json.loads(sys.stdin.buffer.readline())
    data = sys.stdin.buffer.read(asked["bytes"])
    try:
        rate_hz, channels, blocks = _decoded(av, data, asked["max_s"], asked["max_values_per_s"])
    except _UnusableError as error:
        _say(sys.stdout.buffer, {"unusable": str(error)})
    except (av.FFmpegError, ValueError, RuntimeError, IndexError, TypeError):
        _say(sys.stdout.buffer, {"unusable": "it is damaged, or no recording"})
    except MemoryError:
        _say(sys.stdout.buffer, {"unusable": "it needs more memory to be read than a recording has"})
    else:
        frames = sum(map(len, blocks)) // (4 * channels)
        _say(sys.stdout.buffer, {"rate_hz": rate_hz, "channels": channels, "frames": frames}, *blocks)


class _UnusableError(Exception):
    """Nothing of the file can be used."""


def _decoded(av: Any, data: bytes, max_s: float, max_values_per_s: int) -> tuple[int, int, list[bytes]]:  # noqa: ANN401
    """Rate, channels and interleaved float32 of the first audio stream; of a long one `max_s` and a frame more."""
    options = {"format_whitelist": ",".join(CONTAINERS), "codec_whitelist": ",".join(CODECS)}
    with av.open(io.BytesIO(data), options=options) as container:
        if not container.streams.audio:
            raise _UnusableError("there is no sound in it")
        stream = container.streams.audio[0]
        # FFmpeg keeps to the list where it opens decoders itself, to look into a file; this one is opened by PyAV.
        if stream.codec_context is None or stream.codec_context.name not in CODECS:
            raise _UnusableError("there is no sound in it of a kind that is read here")
        stream.codec_context.thread_count = 1
        rate_hz, channels, left, damaged = 0, 0, 0, 0
        blocks: list[bytes] = []
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                damaged += 1
                if damaged > _MAX_DAMAGED:
                    break
                continue
            for frame in frames:
                if not rate_hz:
                    rate_hz, channels = frame.sample_rate, frame.layout.nb_channels
                    if channels * rate_hz > max_values_per_s:
                        raise _UnusableError(f"it has {channels} channels at {rate_hz} Hz")
                    left = round(max_s * rate_hz) + 1
                    resampler = av.AudioResampler(format="flt", layout=frame.layout, rate=rate_hz)
                for even in resampler.resample(frame):
                    blocks.append(even.to_ndarray().tobytes()[: left * channels * 4])
                    left -= len(blocks[-1]) // (4 * channels)
            if rate_hz and left <= 0:
                break
    if not blocks:
        raise _UnusableError("there is no sound in it")
    return rate_hz, channels, blocks


def _warm_up(av: Any) -> None:  # noqa: ANN401
    """Have all that is loaded when it is needed first loaded while files can be opened."""
    import numpy as np

    # A stream's class is imported when a file has such a stream.
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    frame = av.AudioFrame.from_ndarray(np.zeros((2, 64), np.float32), format="fltp", layout="stereo")
    frame.sample_rate = 48_000
    for even in av.AudioResampler(format="flt", layout="stereo", rate=48_000).resample(frame):
        even.to_ndarray()


def _say(out: IO[bytes], answer: dict[str, object], *blocks: bytes) -> None:
    out.write(json.dumps(answer).encode() + b"\n")
    for block in blocks:
        out.write(block)
    out.flush()


if __name__ == "__main__":
    main()
