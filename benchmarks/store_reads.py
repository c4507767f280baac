"""What it costs that everything read from the store is checked: records by signature, audio by hash.

    python -m benchmarks.store_reads [--quick]

Question: how much longer do a look-up and the first byte of a stored track take than without any check? The baseline is
the same read in the same run, unchecked: a record that is listed, read and parsed, and a file of which one MiB is read.
The ceiling of the first byte is hashing: SHA-256 over the file twice, once whole and once by blocks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry

from orchestrion.rendering.config import RenderConfig
from orchestrion.rendering.renderer import Renderer, build_renderer
from orchestrion.storage.block_digests import BLOCK_BYTES
from orchestrion.storage.track_store import TrackStore
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.tracks.outcome import Track
from orchestrion.tracks.spec import TrackSpec
from orchestrion.trust.signed_record import SignedRecord
from orchestrion.trust.signing import Signer

#: A stored WAV of 44.1 kHz stereo in 16 bits.
BYTES_PER_S = 176_400


def milliseconds(call: Callable[[], object], times: int) -> float:
    """The median of `times` calls."""
    took = []
    for _ in range(times):
        began_s = time.perf_counter()
        call()
        took.append(time.perf_counter() - began_s)
    return round(statistics.median(took) * 1000.0, 4)


def records(renderer: Renderer, times: int) -> dict[str, float]:
    """One look-up of a stored track: unchecked as before, checked as now, and what of it is the check."""
    track = renderer.render(TrackSpec(prompt="piano", duration_s=1.0).resolve())
    assert isinstance(track, Track), track
    track_id, store = track.track_id, renderer.store
    envelope = store.record(track_id, 1)

    def unchecked() -> object:
        return SignedRecord.from_bytes(store.record(track_id, store.listing(track_id).versions[-1])).record

    stored = renderer.tracks.newest(track_id)
    assert stored is not None and stored.record == unchecked()
    return {
        "look_up_unchecked_ms": milliseconds(unchecked, times),
        "look_up_checked_ms": milliseconds(lambda: renderer.tracks.newest(track_id), times),
        "parse_ms": milliseconds(lambda: SignedRecord.from_bytes(envelope), times),
        "parse_and_verify_ms": milliseconds(lambda: renderer.tracks.verified(track_id, 1, envelope), times),
    }


def audio(folder: Path, duration_s: float, times: int) -> dict[str, float]:
    """The first MiB of a stored file: unchecked, checked the first time in a process, and after that."""
    store = TrackStore.open(str(folder))
    data = os.urandom(round(duration_s * BYTES_PER_S))
    key = store.put_blob(data, "wav")
    path = folder / key

    def unchecked() -> bytes:
        with path.open("rb") as file:
            return file.read(BLOCK_BYTES)

    first = [
        milliseconds(lambda: TrackStore.open(str(folder)).read_range(key, 0, BLOCK_BYTES), 1) for _ in range(times)
    ]
    assert store.read_range(key, 0, BLOCK_BYTES) == unchecked() == data[:BLOCK_BYTES]
    return {
        "duration_s": duration_s,
        "mb": round(len(data) / 1e6, 1),
        "first_mib_unchecked_ms": milliseconds(unchecked, times),
        "first_mib_checked_first_time_ms": round(statistics.median(first), 3),
        "first_mib_checked_after_that_ms": milliseconds(lambda: store.read_range(key, 0, BLOCK_BYTES), times),
        "sha256_of_all_ms": milliseconds(lambda: hashlib.sha256(data).digest(), times),
    }


def memory(folder: Path) -> dict[str, float]:
    """What the process grows by while a file of 512 MiB is checked and read to its end, MiB by MiB."""
    store = TrackStore.open(str(folder))
    block = os.urandom(BLOCK_BYTES)
    whole = hashlib.sha256()
    for _ in range(512):
        whole.update(block)
    key = f"blobs/{whole.hexdigest()[:2]}/{whole.hexdigest()}.wav"
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for _ in range(512):
            file.write(block)
    process = psutil.Process()
    before = process.memory_info().rss
    peak = before
    size = store.check_blob(key)
    for start in range(0, size, BLOCK_BYTES):
        store.read_range(key, start, start + BLOCK_BYTES)
        peak = max(peak, process.memory_info().rss)
    return {"file_mib": size / BLOCK_BYTES, "grown_by_mib": round((peak - before) / BLOCK_BYTES, 1)}


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="store-reads-") as place:
        folder = Path(place)
        Signer.create(folder / "key.pem")
        config = RenderConfig(store_url=str(folder / "store"), signing_key_path=str(folder / "key.pem"))
        renderer = build_renderer(config, "bench", PrometheusRecorder(CollectorRegistry()))
        result = {
            "question": "what do checked reads of the store cost",
            "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "records": records(renderer, 200 if quick else 2000),
            "audio": [audio(folder / "audio", seconds, 3 if quick else 9) for seconds in (30.0, 180.0, 600.0)],
            "memory": memory(folder / "audio"),
        }
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
