"""Measures what mastering costs, and whether a stream ends as loud as it should.

One run answers, on one core: the real-time factor of `finish`, of the stream and of each encoder; peak memory of
`finish` in multiples of the audio; and the loudness error of the stream over real tracks and synthetic pieces with
large dynamics. The baseline in the same run is what most people do: pyloudnorm's normalise, then clip.

    .venv/bin/python -m benchmarks.finish [--out benchmarks/results/finish.json]
"""

from __future__ import annotations

import argparse
import platform
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import immich_memories_music
import numpy as np
import pyloudnorm
import soundfile

from benchmarks.document import publish
from orchestrion.audio.encode import encode
from orchestrion.audio.loudness import integrated_lufs, true_peak_dbtp
from orchestrion.audio.mastering import FinishSpec, finish, shape
from orchestrion.audio.pcm import Pcm
from orchestrion.audio.streaming import StreamFinisher
from orchestrion.tracks.request import AudioFormat

RATE_HZ = 44_100
TARGET_LUFS = -14.0
CHUNK_SAMPLES = 11_025


def main() -> None:
    """Run all parts and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write the document to this file")
    out = parser.parse_args().out
    document = {
        "hardware": {"machine": platform.machine(), "python": platform.python_version(), "cores_used": 1},
        "speed": speed(),
        "memory": memory(),
        "loudness": loudness(),
    }
    publish(document, out)


def speed() -> dict[str, object]:
    """Seconds of audio per second of work, best of three, on 20 s of 44.1 kHz stereo."""
    audio, duration_s = crescendo(20.0, 6.0), 20.0
    plain = FinishSpec(duration_s, RATE_HZ, -30.0, 0.0, 0.0)
    limited = FinishSpec(duration_s, RATE_HZ, -9.0, 0.0, 0.0)
    resampled = FinishSpec(duration_s, 48_000, -9.0, 0.0, 0.0)
    finished = finish(audio, RATE_HZ, limited)
    work: dict[str, Callable[[], object]] = {
        "baseline_pyloudnorm_and_clip": lambda: baseline(audio),
        "finish_no_limiting": lambda: finish(audio, RATE_HZ, plain),
        "finish_limiting": lambda: finish(audio, RATE_HZ, limited),
        "finish_limiting_to_48_khz": lambda: finish(audio, RATE_HZ, resampled),
        "stream_limiting": lambda: stream(audio, RATE_HZ, limited, None),
    }
    for format in AudioFormat:
        rate_hz = 48_000 if format is AudioFormat.OPUS else RATE_HZ
        work[f"encode_{format.value}"] = partial(encode, finished, rate_hz, format)
    return {name: round(duration_s / best_s(job), 1) for name, job in work.items()}


def best_s(job: Callable[[], object]) -> float:
    """Least wall time of three runs after a warm-up."""
    job()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return min(times)


def memory() -> dict[str, float]:
    """Peak of what `finish` allocates for 120 s of stereo, its result included, in multiples of the audio's size."""
    audio = crescendo(120.0, 6.0)
    spec = FinishSpec(120.0, 48_000, -9.0, 0.0, 0.0)
    tracemalloc.start()
    # The meter is checked on an allocation whose size is known.
    copy = audio.copy()
    known = tracemalloc.get_traced_memory()[1] / audio.nbytes
    del copy
    tracemalloc.reset_peak()
    result = finish(audio, RATE_HZ, spec)
    peak = tracemalloc.get_traced_memory()[1] / result.nbytes
    tracemalloc.stop()
    return {"one_copy_reads_as": round(known, 3), "finish_peak_copies": round(peak, 2)}


def loudness() -> dict[str, object]:
    """Error of stream and offline finish against the target, by piece and by what the model expected."""
    rows = []
    for name, audio, rate_hz in pieces():
        spec = FinishSpec(len(audio) / rate_hz, rate_hz, TARGET_LUFS, 0.0, 0.0)
        source_lufs = integrated_lufs(shape(audio, rate_hz, spec), rate_hz)
        offline = finish(audio, rate_hz, spec)
        simple = baseline(audio, rate_hz)
        row: dict[str, object] = {
            "piece": name,
            "source_lufs": round(source_lufs, 2),
            "offline_error_lu": round(integrated_lufs(offline, rate_hz) - TARGET_LUFS, 3),
            "offline_true_peak_dbtp": round(true_peak_dbtp(offline, rate_hz), 3),
            "baseline_error_lu": round(integrated_lufs(simple, rate_hz) - TARGET_LUFS, 3),
            "baseline_true_peak_dbtp": round(true_peak_dbtp(simple, rate_hz), 3),
        }
        for label, expected in (("exact", source_lufs), ("2_lu_off", source_lufs + 2.0), ("unknown", None)):
            result = stream(audio, rate_hz, spec, expected)
            row[f"stream_error_lu_expectation_{label}"] = round(integrated_lufs(result, rate_hz) - TARGET_LUFS, 3)
            row[f"stream_true_peak_dbtp_expectation_{label}"] = round(true_peak_dbtp(result, rate_hz), 3)
        rows.append(row)
    worst = {
        key.replace("error", "max_abs_error") if "error" in key else key.replace("true_peak", "max_true_peak"): max(
            abs(float(str(row[key]))) if "error" in key else float(str(row[key])) for row in rows
        )
        for key in rows[0]
        if "error" in key or "true_peak" in key
    }
    return {"target_lufs": TARGET_LUFS, "true_peak_ceiling_dbtp": -1.0, "worst": worst, "pieces": rows}


def pieces() -> Iterator[tuple[str, Pcm, int]]:
    """Real tracks, as they are, and synthetic ones that grow, fade and step."""
    for path in sorted((Path(immich_memories_music.__file__).parent / "tracks").rglob("*.opus")):
        audio, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        yield path.stem, audio, rate_hz
    for duration_s, rise_db in ((30.0, 10.0), (30.0, 20.0), (60.0, 20.0), (60.0, 30.0), (60.0, -10.0)):
        yield f"synthetic {rise_db:+g} dB in {duration_s:g} s", crescendo(duration_s, rise_db), RATE_HZ


def crescendo(duration_s: float, rise_db: float) -> Pcm:
    """Noise bursts at 120 bpm with sharp attacks, whose level moves by `rise_db` over the piece."""
    rng = np.random.default_rng(7)
    samples = round(duration_s * RATE_HZ)
    beat = np.exp(-(np.arange(samples) % (RATE_HZ // 2)) / (RATE_HZ / 12)) + 0.2
    level_db = rise_db * np.arange(samples) / samples - max(rise_db, 0.0)
    envelope = 0.25 * beat * 10.0 ** (level_db / 20.0)
    return (rng.standard_normal((samples, 2)) * envelope[:, None]).astype(np.float32)


def stream(audio: Pcm, rate_hz: int, spec: FinishSpec, expected_lufs: float | None) -> Pcm:
    """The joined output of a stream."""
    finisher = StreamFinisher(rate_hz, audio.shape[1], spec, expected_lufs)
    starts = range(0, len(audio), CHUNK_SAMPLES)
    return np.concatenate([*(finisher.push(audio[s : s + CHUNK_SAMPLES]) for s in starts), finisher.flush()])


def baseline(audio: Pcm, rate_hz: int = RATE_HZ) -> Pcm:
    """Pyloudnorm as its README shows it, and a clip so that the samples fit."""
    measured = pyloudnorm.Meter(rate_hz).integrated_loudness(audio)
    gain = 10.0 ** ((TARGET_LUFS - measured) / 20.0)
    clipped: Pcm = np.clip(audio * np.float32(gain), -1.0, 1.0)
    return clipped


if __name__ == "__main__":
    main()
