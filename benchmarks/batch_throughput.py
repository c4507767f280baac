"""What a Ray Data catalog job costs in tracks a second against a plain loop, and what it costs when workers are killed.

All sides render the same requests with the same Renderer into a fresh store each run. The plain loop is
`multiprocessing` (spawn) with one Renderer a process and nothing else: no Ray, no shards, no ledger, no retries, no
progress. It runs once more with an idle Ray beside it, as on a node of a cluster that waits for its next job. Runs come
in rounds, the order turned each time, so that a drifting machine hits all alike. The rate is taken where the tracks are
made (`created_at` of their records), after each worker's first tracks; what came before is start-up. On a machine that
others use, trust `cpu_s_per_track`, not the rates.

Twice: with a core left over, on which Ray's head and the driver run as they do on a cluster's head node, and with a
worker on every core, where the renderers must give them what they need. `cores_beside` says how much that is; a ratio
cannot be above its `ceiling`, which is what it leaves.

Then jobs of many small shards, in which 0, 1 and 5 render processes per 100 shards are killed (SIGKILL, no notice) at
evenly spread moments: rates against the job without kills, and the device time that was spent for nothing.

    .venv/bin/python -m benchmarks.batch_throughput [--quick] [--out benchmarks/results/batch_throughput.json]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

# Before anything that starts threads: a process is a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray gives its workers a niceness of 15. Where anything else runs, that would be measured instead of Ray.
os.environ.setdefault("RAY_worker_niceness", "0")

import numpy as np
import psutil
import pyarrow.dataset as ds
import ray
from prometheus_client import CollectorRegistry

from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.ledger.tables import TRACK
from batch_jobs.options import RenderOptions
from batch_jobs.render_catalog import render_catalog
from batch_jobs.run.progress import JobProgress
from benchmarks.document import machine_now, publish
from cluster.ray_internals import start_private_ray
from orchestrion.rendering.config import RenderConfig
from orchestrion.rendering.renderer import Renderer, build_renderer
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.tracks.outcome import Track
from orchestrion.tracks.spec import TrackSpec
from orchestrion.tracks.vocabulary import STYLES
from orchestrion.trust.signing_keys import have_signing_key

#: Tracks that the plain loop takes at once. The composer makes one after the other, so it is only a matter of hand-out.
BATCH_SIZE = 2
#: As long as the tracks that people ask for when they do not say.
DURATION_S = 30.0
#: Each worker's first tracks, which are not counted.
WARM_UP = 2
#: Of the jobs with kills: short tracks, so that there are many shards.
KILL_DURATION_S = 4.0
KILLS_PER_100_SHARDS = (0, 1, 5)

Identity = tuple[str, str]


@dataclass(frozen=True)
class Run:
    """One run of one side. `identities`: (track id, hash of the audio) of each track."""

    wall_s: float
    #: The part of `wall_s` that the tracks at the steady rate do not explain.
    startup_s: float
    tracks_per_s: float
    #: CPU time of every process of that side for one more track, at the steady rate. Robust where the rate is not: on a
    #: machine that others use too.
    cpu_s_per_track: float
    #: Cores that processes keep busy that do not render: Ray's own, this program, and in a job the driver in it.
    cores_beside: float
    identities: frozenset[Identity]


class CpuMeter(threading.Thread):
    """The CPU time that this process and its children have used, looked at once a second while it is entered."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._stopped = threading.Event()
        #: Moment, CPU seconds of all, and of those that render.
        self._samples: list[tuple[float, float, float]] = []
        #: Of each process, and whether it renders. What ended keeps what it has used.
        self._used: dict[int, tuple[float, bool]] = {}

    def run(self) -> None:
        """Look until it is stopped. Once a second: more often, and what it takes itself (3 to 6 ms) would show."""
        while not self._stopped.wait(1.0):
            self._look()

    def _look(self) -> None:
        for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                self._used[process.pid] = (times.user + times.system, _renders(process))
        of_all = sum(cpu_s for cpu_s, _ in self._used.values())
        self._samples.append((time.time(), of_all, sum(cpu_s for cpu_s, renders in self._used.values() if renders)))

    def __enter__(self) -> CpuMeter:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.join()
        self._look()

    def used_s(self, start: float, end: float) -> tuple[float, float]:
        """CPU seconds between two moments (seconds since the epoch): of all, and of those that do not render."""
        at, used, rendering = (np.array(column) for column in zip(*self._samples, strict=True))
        of_all, of_others = (float(np.subtract(*np.interp([end, start], at, y))) for y in (used, used - rendering))
        return of_all, of_others


def _renders(process: psutil.Process) -> bool:
    command = " ".join(process.cmdline())
    return command.startswith("ray::MapWorker") or "spawn_main" in command


def specs(count: int, duration_s: float = DURATION_S) -> list[dict[str, object]]:
    """Requests of equal length in every style, so that no side is lucky with its order."""
    styles = list(STYLES)
    return [
        {"prompt": f"{styles[i % len(styles)]} sketch", "seed": i, "duration_s": duration_s, "format": "flac"}
        for i in range(count)
    ]


def measured(finished: list[float], started: float, workers: int, meter: CpuMeter, found: Iterable[Identity]) -> Run:
    """A run whose tracks were finished, in their workers, at these moments (seconds since the epoch)."""
    finished = sorted(finished)
    before = WARM_UP * workers
    warm, end, steady = finished[before - 1], finished[-1], len(finished) - before
    rate = steady / (end - warm)
    startup_s = end - started - len(finished) / rate
    of_all_s, of_others_s = meter.used_s(warm, end)
    return Run(end - started, startup_s, rate, of_all_s / steady, of_others_s / (end - warm), frozenset(found))


# The plain loop

_renderer: Renderer


def _start_worker(config: RenderConfig) -> None:
    global _renderer
    _renderer = build_renderer(config, "batch", PrometheusRecorder(CollectorRegistry()))


def _render(batch: list[dict[str, object]]) -> list[tuple[Identity, str]]:
    outcomes = [_renderer.render(TrackSpec.from_json(spec).resolve()) for spec in batch]
    assert all(isinstance(outcome, Track) for outcome in outcomes), outcomes
    tracks = [outcome for outcome in outcomes if isinstance(outcome, Track)]
    return [((track.track_id, track.record.audio_sha256), track.record.created_at) for track in tracks]


def plain_run(rows: list[dict[str, object]], folder: Path, workers: int) -> Run:
    """Spawned processes that take batch after batch."""
    config = RenderOptions(catalog="", out=str(folder)).render_config()
    have_signing_key(config.signing_key_path, print)
    batches = [rows[i : i + BATCH_SIZE] for i in range(0, len(rows), BATCH_SIZE)]
    found: list[Identity] = []
    finished: list[float] = []
    started = time.time()
    with multiprocessing.get_context("spawn").Pool(workers, _start_worker, (config,)) as pool, CpuMeter() as meter:
        for rendered in pool.imap_unordered(_render, batches):
            found += [identity for identity, _ in rendered]
            finished += [datetime.fromisoformat(moment).timestamp() for _, moment in rendered]
    return measured(finished, started, workers, meter, found)


# The Ray Data job


def job(rows: list[dict[str, object]], folder: Path, workers: int) -> RenderOptions:
    """The job on these rows, with its catalog in the folder."""
    catalog = folder / "catalog.jsonl"
    catalog.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return RenderOptions(
        catalog=str(catalog), out=str(folder), min_workers=workers, max_workers=workers, batch_size=BATCH_SIZE
    )


@contextmanager
def running_ray() -> Iterator[None]:
    """A Ray of this machine's cores while it is entered."""
    start_private_ray(num_cpus=os.cpu_count())
    try:
        yield
    finally:
        ray.shutdown()


def plain_run_beside_ray(rows: list[dict[str, object]], folder: Path, workers: int) -> Run:
    """The plain loop on a machine whose Ray has nothing to do."""
    with running_ray():
        return plain_run(rows, folder, workers)


def ray_run(rows: list[dict[str, object]], folder: Path, workers: int) -> Run:
    """The job as `batch_jobs.render_catalog` runs it, ledger and all, on a Ray of its own."""
    options = job(rows, folder, workers)
    with running_ray(), CpuMeter() as meter:
        started = time.time()
        summary = render_catalog(options)
    assert summary.totals.tracks == len(rows), summary.describe()
    table = ledger_dataset(str(folder), {}, "tracks").to_table(columns=["track_id", "audio_sha256", "created_at"])
    finished = [moment.timestamp() for moment in table["created_at"].to_pylist()]
    found = zip(table["track_id"].to_pylist(), table["audio_sha256"].to_pylist(), strict=True)
    return measured(finished, started, workers, meter, found)


# Kills


@dataclass(frozen=True)
class KilledRun:
    """A job in which render processes were killed."""

    kills_per_100_shards: int
    kills: int
    shards: int
    wall_s: float
    #: From the first track to the last.
    tracks_per_s: float
    #: Attempts that gave no track, and the share of all device time that they took.
    lost_tries: int
    wasted_share: float


def killed_run(per_100: int, tracks: int, workers: int) -> KilledRun:
    """A job of small shards; a kill each time that so many more shards are done."""
    with tempfile.TemporaryDirectory(prefix="batch-throughput-") as name:
        folder = Path(name)
        options = job(specs(tracks, KILL_DURATION_S), folder, workers)
        shards = tracks // BATCH_SIZE
        due = [round(shards * (k + 0.5) / (per_100 * shards / 100)) for k in range(round(per_100 * shards / 100))]
        kills = 0

        def kill(progress: JobProgress) -> None:
            nonlocal kills
            if kills < len(due) and progress.done // BATCH_SIZE >= due[kills]:
                victims = [p for p in psutil.Process().children(recursive=True) if _renders(p)]
                victims[kills % len(victims)].kill()
                kills += 1

        started = time.time()
        summary = render_catalog(options, kill)
        wall_s = time.time() - started
        assert summary.totals.tracks == tracks, summary.describe()
        attempts = ledger_dataset(name, {}, "attempts").to_table(columns=["ended", "device_seconds"])
        lost = attempts.filter(ds.field("ended") != TRACK)
        moments = ledger_dataset(name, {}, "tracks").to_table(columns=["created_at"])["created_at"].to_pylist()
        return KilledRun(
            kills_per_100_shards=per_100,
            kills=kills,
            shards=shards,
            wall_s=round(wall_s, 2),
            tracks_per_s=round((tracks - 1) / (max(moments) - min(moments)).total_seconds(), 3),
            lost_tries=lost.num_rows,
            wasted_share=round(
                sum(lost["device_seconds"].to_pylist()) / sum(attempts["device_seconds"].to_pylist()), 4
            ),
        )


#: What is compared, by its name in the JSON. The first is the baseline.
SIDES: dict[str, Callable[[list[dict[str, object]], Path, int], Run]] = {
    "plain_loop": plain_run,
    "plain_loop_beside_idle_ray": plain_run_beside_ray,
    "ray_data": ray_run,
}


def fresh(run: Callable[[list[dict[str, object]], Path, int], Run], rows: list[dict[str, object]], workers: int) -> Run:
    """A run in a folder of its own: nothing is in the store yet."""
    with tempfile.TemporaryDirectory(prefix="batch-throughput-") as folder:
        return run(rows, Path(folder), workers)


def main() -> int:
    """Run the pairs and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it works, not how fast")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    parser.add_argument("--rounds", type=int, default=4, help="for each number of workers (default: %(default)s)")
    parser.add_argument("--tracks", type=int, default=24, help="of a run, for each worker (default: %(default)s)")
    arguments = parser.parse_args()
    cores = os.cpu_count() or 1
    rounds, tracks, duration_s = (1, 6, 5.0) if arguments.quick else (arguments.rounds, arguments.tracks, DURATION_S)

    print("warming up …", file=sys.stderr)
    for run in SIDES.values():
        fresh(run, specs(8, 5.0), 1)
    compared = []
    for workers in sorted({max(1, cores - 1), cores}):
        runs = rounds_of_runs(rounds, specs(tracks * workers, duration_s), workers)
        compared.append(comparison(runs, workers, cores))
    killed = []
    with running_ray():
        for per_100 in (0, 5) if arguments.quick else KILLS_PER_100_SHARDS:
            killed.append(killed_run(per_100, 40 if arguments.quick else 200, cores))
            print(killed[-1], file=sys.stderr)
    document = {
        "benchmark": "batch_throughput",
        "question": "tracks/s of a Ray Data catalog job against a plain loop over as many processes",
        "quick": arguments.quick,
        "machine": machine_now(),
        "ray": ray.__version__,
        "batch_size": BATCH_SIZE,
        "track_seconds": duration_s,
        "a_core_left_over": compared[0],
        "a_worker_on_every_core": compared[-1],
        "kills": [
            asdict(run) | {"rate_against_no_kills": round(run.tracks_per_s / killed[0].tracks_per_s, 3)}
            for run in killed
        ],
    }
    publish(document, arguments.out)
    return 0


def rounds_of_runs(rounds: int, rows: list[dict[str, object]], workers: int) -> dict[str, list[Run]]:
    """So many runs of each side, one after the other in turn."""
    runs: dict[str, list[Run]] = {name: [] for name in SIDES}
    order = list(SIDES)
    for number in range(rounds):
        for name in order:
            runs[name].append(fresh(SIDES[name], rows, workers))
        order = order[1:] + order[:1]
        assert len({side[-1].identities for side in runs.values()}) == 1, "the sides did not render the same bytes"
        rates = ", ".join(f"{name} {side[-1].tracks_per_s:.3f}" for name, side in runs.items())
        print(f"{workers} workers, round {number + 1}/{rounds}: {rates} tracks/s", file=sys.stderr)
    return runs


def comparison(runs: dict[str, list[Run]], workers: int, cores: int) -> dict[str, object]:
    """Medians over the rounds; the job against each of the loops."""

    def side(runs: list[Run]) -> dict[str, object]:
        return {
            "tracks_per_s": round(statistics.median(run.tracks_per_s for run in runs), 3),
            "startup_s": round(statistics.median(run.startup_s for run in runs), 2),
            "wall_s": round(statistics.median(run.wall_s for run in runs), 2),
            "cpu_s_per_track": round(statistics.median(run.cpu_s_per_track for run in runs), 4),
            "cores_beside": round(statistics.median(run.cores_beside for run in runs), 3),
        }

    def against(plain: list[Run]) -> dict[str, object]:
        pairs = list(zip(plain, on_ray, strict=True))

        def median_of(difference: Callable[[Run, Run], float], digits: int) -> float:
            return round(statistics.median(difference(p, r) for p, r in pairs), digits)

        ratios = [r.tracks_per_s / p.tracks_per_s for p, r in pairs]
        return {
            "ratio": round(statistics.median(ratios), 4),
            "ratios": [round(ratio, 4) for ratio in ratios],
            "ceiling": median_of(
                lambda p, r: min(1.0, (cores - r.cores_beside) / min(workers, cores - p.cores_beside)), 4
            ),
            "job_startup_s": median_of(lambda p, r: r.startup_s - p.startup_s, 2),
            "cpu_per_track_ms": median_of(lambda p, r: 1000 * (r.cpu_s_per_track - p.cpu_s_per_track), 1),
            "per_track_ms": median_of(lambda p, r: 1000 * workers * (1 / r.tracks_per_s - 1 / p.tracks_per_s), 1),
        }

    on_ray = runs["ray_data"]
    return {
        "workers": workers,
        "tracks_per_run": len(on_ray[0].identities),
        "rounds": len(on_ray),
        **{name: side(of_side) for name, of_side in runs.items()},
        **{f"against_{name}": against(of_side) for name, of_side in runs.items() if name != "ray_data"},
        "runs": [
            {"side": name} | {k: v for k, v in asdict(run).items() if k != "identities"}
            for name, of_side in runs.items()
            for run in of_side
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
