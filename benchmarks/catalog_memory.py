"""What the driver of a catalog job needs of memory for 1,000,000 rows, against what it needs for 10,000.

The same program runs the job on both catalogs, each in a driver process of its own, on a Ray that it starts outside of
them. Only the model is a stub: reading, planning, Ray Data, finishing, encoding, signing, storing, committing and
settling are real. Finishing a million tracks would take hours, so the rows of either catalog ask for at most 1,000
different ones, by other requesters, each under an id of its own: the driver sees every row all the same. And a shard is
cut after 32 rows, so that there are as many of them as if every row asked for another track. The resident size of a
process contains memory that is not its own: pages of Ray's object store in /dev/shm that it has touched, and shared
libraries. So the ratio is taken of private memory outside /dev/shm; the whole resident size stands beside it. The
ceiling: 1.2 times the peak of the baseline. Exit code 1 above it.

    .venv/bin/python -m benchmarks.catalog_memory [--quick] [--out benchmarks/results/catalog_memory.json]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

# Before anything that starts threads: a process is a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_worker_niceness", "0")
# As the command does, and before Arrow is loaded.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

import psutil
import ray

from batch_jobs import render_catalog
from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.options import RenderOptions
from batch_jobs.planning import job
from batch_jobs.rendering.malloc_tuning import share_one_arena
from batch_jobs.rendering.render_stage import Assignment, RenderStage
from benchmarks.document import machine_now, publish
from cluster.ray_internals import start_private_ray
from tests.fake_model import ToneModel

WORKERS = 2
MOST_DIFFERENT_TRACKS = 1_000
#: As of a catalog of different tracks (`job.SHARD_REQUESTS`).
SHARD_ROWS = 32
MOST_RATIO = 1.2
SAMPLE_S = 0.5
#: Samples of a driver that the document shows: the highest of each stretch of its run.
SHOWN_SAMPLES = 60
MIB = 2**20

#: What the driver does, by the name under which it is timed.
PHASES = {
    "hashing": (job, "catalog_sha256"),
    "reading and planning": (job, "catalog_into"),
    "rendering": (render_catalog, "execute"),
    "closing": (render_catalog, "settle"),
}


# The driver's own process


class StubbedStage(RenderStage):
    """A render process whose model answers at once."""

    def __init__(self, assignment: Assignment) -> None:
        with patch("orchestrion.rendering.renderer.load_models", lambda *_: {"composer": ToneModel("composer")}):
            super().__init__(assignment)


def drive(catalog: str, out: str) -> None:
    """Run the job and print, as one JSON line, when each phase was (seconds since the epoch) and how it ended."""
    spans: list[tuple[str, float, float]] = []
    with ExitStack() as patched:
        patched.enter_context(patch("batch_jobs.rendering.execution.RenderStage", StubbedStage))
        patched.enter_context(patch("batch_jobs.planning.plan.SHARD_ROWS", SHARD_ROWS))
        for name, (module, function) in PHASES.items():
            timed = _timed(name, getattr(module, function), spans)
            patched.enter_context(patch.object(module, function, timed))
        options = RenderOptions(catalog=catalog, out=out, min_workers=WORKERS, max_workers=WORKERS)
        # As the command does.
        share_one_arena()
        summary = render_catalog.render_catalog(options)
    print(json.dumps({"state": summary.state, "totals": asdict(summary.totals), "spans": spans}))


def _timed(name: str, call: Callable[..., Any], spans: list[tuple[str, float, float]]) -> Callable[..., Any]:
    @functools.wraps(call)
    def timed(*arguments: object) -> object:
        started = time.time()
        result = call(*arguments)
        if not isinstance(result, Iterator):
            spans.append((name, started, time.time()))
            return result

        def streamed() -> Iterator[Any]:
            try:
                yield from result
            finally:
                spans.append((name, started, time.time()))

        return streamed()

    return timed


# Outside of it


@dataclass(frozen=True, slots=True)
class Sample:
    """A moment of the driver's memory, in bytes."""

    at: float
    #: Private to it, and not in /dev/shm.
    own: int
    resident: int


@dataclass(frozen=True, slots=True)
class Run:
    """One catalog through one driver."""

    rows: int
    samples: list[Sample]
    #: The highest resident size, by the kernel's own book.
    most_resident: int
    wall_s: float
    spans: list[tuple[str, float, float]]

    @property
    def most_own(self) -> int:
        """The peak that the ratio is taken of."""
        return max(sample.own for sample in self.samples)

    def document(self) -> dict[str, Any]:
        """The run as the JSON shows it."""
        began = self.samples[0].at
        step = -(-len(self.samples) // SHOWN_SAMPLES)
        highest = [
            max(self.samples[i : i + step], key=lambda sample: sample.own) for i in range(0, len(self.samples), step)
        ]
        phases = {}
        for name in PHASES:
            spans = [(start, end) for span, start, end in self.spans if span == name]
            inside = [s.own for s in self.samples if any(start <= s.at <= end for start, end in spans)]
            phases[name] = {
                "seconds": round(sum(end - start for start, end in spans), 2),
                "peak_own_mib": round(max(inside) / MIB, 1) if inside else None,
            }
        return {
            "rows": self.rows,
            "peak_own_mib": round(self.most_own / MIB, 1),
            "peak_resident_mib": round(self.most_resident / MIB, 1),
            "wall_s": round(self.wall_s, 1),
            "phases": phases,
            "curve_s_own_mib": [[round(s.at - began, 1), round(s.own / MIB, 1)] for s in highest],
        }


class MemoryMeter(threading.Thread):
    """The memory of a process, looked at twice a second from outside until it has ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__(daemon=True)
        self._process = process
        self.samples: list[Sample] = []
        self.most_resident = 0

    def run(self) -> None:
        """Look until it is gone."""
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError, ProcessLookupError):
            while self._process.poll() is None:
                self._look()
                time.sleep(SAMPLE_S)

    def _look(self) -> None:
        maps = psutil.Process(self._process.pid).memory_maps(grouped=True)
        # Of the same moment as the maps: a high-water mark read before them could lie below them.
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        [highest] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
        own = sum(each.private_clean + each.private_dirty for each in maps if not each.path.startswith("/dev/shm"))
        self.most_resident = max(self.most_resident, int(highest) * 1024)
        self.samples.append(Sample(time.time(), own, sum(each.rss for each in maps)))


def write_catalog(path: Path, rows: int, different: int) -> None:
    """So many rows that ask for so many tracks, each with its own id, title and requester."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            track = number % different
            row = {
                "row_id": f"song-{number:07d}",
                "title": f"Song number {number}",
                "requester": f"label-{number // different}",
                "prompt": f"tone {track}",
                "seed": track,
                "duration_s": 1.0,
                "format": "flac",
            }
            file.write(json.dumps(row) + "\n")


def run_job(rows: int, different: int, address: str, folder: Path) -> Run:
    """One catalog of so many rows through a driver of its own; its ledger is checked row for row."""
    catalog, out = folder / "catalog.jsonl", folder / "out"
    write_catalog(catalog, rows, different)
    command = [sys.executable, "-m", "benchmarks.catalog_memory", "--drive", str(catalog), str(out)]
    started_s = time.perf_counter()
    with subprocess.Popen(
        command, env=os.environ | {"RAY_ADDRESS": address}, stdout=subprocess.PIPE, text=True
    ) as driver:
        meter = MemoryMeter(driver)
        meter.start()
        printed, _ = driver.communicate()
    meter.join()
    wall_s = time.perf_counter() - started_s
    if driver.returncode != 0:
        raise RuntimeError(f"the driver of {rows} rows ended with exit code {driver.returncode}")
    said = json.loads(printed.splitlines()[-1])
    _check(said, rows, different, out)
    return Run(rows, meter.samples, meter.most_resident, wall_s, [tuple(span) for span in said["spans"]])


def _check(said: dict[str, Any], rows: int, different: int, out: Path) -> None:
    """Every row is one track of the ledger, and all the tracks that were asked for are there."""
    tracks = ledger_dataset(str(out), {}, "tracks").to_table(columns=["line", "track_id"])
    found = (said["state"], len(tracks), len(tracks["line"].unique()), len(tracks["track_id"].unique()))
    if found != ("complete", rows, rows, different):
        raise RuntimeError(f"state, rows, lines, tracks: {found}, of {rows} rows that ask for {different}")


def report(quick: bool, baseline: Run, large: Run, different: Sequence[int]) -> dict[str, Any]:
    """The JSON document."""
    ratio = large.most_own / baseline.most_own
    millions = (large.rows - baseline.rows) / 1e6
    return {
        "benchmark": "catalog_memory",
        "question": f"peak memory of a catalog job's driver for {large.rows} rows against {baseline.rows}",
        "quick": quick,
        "machine": machine_now(),
        "ray": ray.__version__,
        "workers": WORKERS,
        "stubbed": "the model alone",
        "different_tracks": {"baseline": different[0], "large": different[1]},
        "rows_per_shard": SHARD_ROWS,
        "baseline": baseline.document(),
        "large": large.document(),
        "ratio": round(ratio, 4),
        "ratio_of_resident": round(large.most_resident / baseline.most_resident, 4),
        "ceiling": MOST_RATIO,
        "growth_mib_per_million_rows": round((large.most_own - baseline.most_own) / MIB / millions, 1),
        "holds": ratio <= MOST_RATIO,
    }


def main() -> int:
    """Run both jobs and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 rows against 20,000: shows that it works")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the large catalog")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    parser.add_argument("--drive", nargs=2, metavar=("CATALOG", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        drive(*arguments.drive)
        return 0
    # Less than `settlement.ROWS_AT_A_TIME` rows would be no baseline: settling would not have reached its peak yet.
    sizes = (10_000, 20_000) if arguments.quick else (10_000, arguments.rows)
    most_different = 200 if arguments.quick else MOST_DIFFERENT_TRACKS
    different = [min(rows // 2, most_different) for rows in sizes]

    start_private_ray(num_cpus=WORKERS)
    address = ray.get_runtime_context().gcs_address
    runs = []
    for rows, tracks in zip(sizes, different, strict=True):
        print(f"{rows} rows …", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="catalog-memory-", ignore_cleanup_errors=True) as folder:
            runs.append(run_job(rows, tracks, address, Path(folder)))
        print(json.dumps({**runs[-1].document(), "curve_s_own_mib": None}), file=sys.stderr)
    ray.shutdown()

    values = report(arguments.quick, runs[0], runs[1], different)
    publish(values, arguments.out)
    return 0 if values["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
