"""Which of a catalog job's promises Ray Data's own checkpointing keeps, each tried in a small run.

Every run is Ray Data on a real local Ray. The render is a stub: a pause, and a file named for the row, so that rows
rendered twice can be counted. The baseline in the same run is the job's own way: an actor keeps each rendered row
under its name (`Objects.create`), commits the outcomes of a block (a shard) as one object, and a later run leaves out
committed shards and kept rows. "Kept" is computed from the counts, never written down beforehand.

Storage is a local folder. Where a run slows it down on purpose, its `tried` says so: a local write is over too fast
for two drivers to meet in the middle of it, and one to an object store is not.

    .venv/bin/python -m benchmarks.ray_data_checkpoint [--quick] [--out benchmarks/results/ray_data_checkpoint.json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_worker_niceness", "0")

import fsspec
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from pyarrow.fs import FileInfo, FileSelector, FSSpecHandler, PyFileSystem
from ray.data.checkpoint import CheckpointConfig

from benchmarks.document import publish
from cluster.ray_internals import start_private_ray
from orchestrion.storage.object_store import Objects

#: Rows of a shard, which is a block, a checkpoint file and an output file.
SHARD_ROWS = 8
#: What may happen to a row, and the end of the ids to which it does: the block raises, or the row is a failure row.
FAULTS = {"raise": "13", "failure row": "3"}
#: What two drivers may meet in: a data file that takes this long, and a listing that takes this long.
SLOW_WRITE_S = 0.8
SLOW_LISTING_S = 2.0
#: Ray Data reserves 1 GiB a filter actor unless told otherwise.
FILTER_MEMORY_BYTES = 150 * 2**20
RUN_TIMEOUT_S = 240
#: What Ray is told that it has, however many there are: a resumed job, or two jobs at once, must not wait for a CPU.
LOGICAL_CPUS = 4


@dataclass(frozen=True)
class Job:
    """One run of one driver over the catalog in `folder`."""

    folder: str
    #: "checkpoint": Ray Data's. "checkpoint, rows kept": the same, and actors keep rows. "shards": the job's own way.
    way: str = "checkpoint"
    render_s: float = 0.05
    #: Storage as described at the top.
    slow: bool = False
    #: Ray Data's default is to delete the checkpoint after a run that succeeds.
    delete_on_success: bool = False
    max_errored_blocks: int = 0
    #: "" or what some rows do at their first try: one of FAULTS.
    fault: str = ""
    #: The output's partition column, if any.
    partition: str | None = None
    #: Start from blocks in memory instead of from files.
    from_blocks: bool = False
    actors: int = 1
    #: Of each actor.
    cpus: float = 0.25


# What runs in actors


class Render:
    """The stub: says in a file that it was called, pauses, and answers with the row's outcome."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._calls = Path(job.folder, "calls")
        self._objects = Objects(f"{job.folder}/store")

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The outcomes of some rows."""
        ids = batch["row_id"].to_pylist()
        outcomes = [self._outcome(row_id) for row_id in ids]
        if self._job.way == "shards":
            self._objects.create(shard_key(ids), json.dumps([ids, outcomes]).encode())
        return pa.table({"row_id": ids, "outcome": outcomes})

    def _outcome(self, row_id: str) -> str:
        if self._job.way == "checkpoint":
            return self._render(row_id)
        key = f"audio/{row_id}"
        if not self._objects.exists(key):
            self._objects.create(key, self._render(row_id).encode())
        return self._objects.read(key).decode()

    def _render(self, row_id: str) -> str:
        first = not any(self._calls.glob(f"{row_id}~*"))
        Path(self._calls, f"{row_id}~{uuid.uuid4().hex}").touch()
        time.sleep(self._job.render_s)
        if first and self._job.fault and row_id.endswith(FAULTS[self._job.fault]):
            if self._job.fault == "raise":
                raise RuntimeError(f"{row_id} broke its block")
            return "failure"
        return "track"


class SlowListing(FSSpecHandler):  # type: ignore[misc]
    """A local file system whose listings take as long as those of a bucket with many objects."""

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        """What is there, late."""
        time.sleep(SLOW_LISTING_S)
        found: list[FileInfo] = super().get_file_info_selector(selector)
        return found


def shard_key(ids: list[str]) -> str:
    """The name of a shard follows from its rows."""
    return f"shards/{hashlib.sha256(' '.join(ids).encode()).hexdigest()[:16]}.json"


# Drivers


def run_job(job: Job) -> None:
    """One driver's work, on the Ray that is connected."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.max_errored_blocks = job.max_errored_blocks
    catalog = f"{job.folder}/catalog.parquet"
    if job.way == "shards":
        context.checkpoint_config = None
        objects = Objects(f"{job.folder}/store")
        committed = set(objects.keys("shards"))
        blocks = [block for block in shards_of(catalog) if shard_key(block["row_id"].to_pylist()) not in committed]
        if blocks:
            for _ in rendered(ray.data.from_blocks(blocks), job).iter_batches(batch_size=None):
                pass
        return
    context.checkpoint_config = checkpoint_config(job)
    source = (
        ray.data.from_blocks(shards_of(catalog))
        if job.from_blocks
        else ray.data.read_parquet(catalog).repartition(target_num_rows_per_block=SHARD_ROWS)
    )
    write(rendered(source, job), job, f"{job.folder}/output")


def checkpoint_config(job: Job) -> CheckpointConfig:
    """Ray Data's checkpoint of this job's folder."""
    config = CheckpointConfig(
        id_column="row_id",
        checkpoint_path=f"{job.folder}/checkpoint",
        delete_checkpoint_on_success=job.delete_on_success,
    )
    config.checkpoint_actor_memory_bytes = FILTER_MEMORY_BYTES
    return config


def shards_of(catalog: str) -> list[pa.Table]:
    """The catalog in blocks of a shard each."""
    table = pq.read_table(catalog)
    return [table.slice(start, SHARD_ROWS).combine_chunks() for start in range(0, table.num_rows, SHARD_ROWS)]


def rendered(source: ray.data.Dataset, job: Job) -> ray.data.Dataset:
    """The catalog's rows with their outcomes, from actors with two blocks each on the way."""
    return source.map_batches(
        Render,
        fn_constructor_args=(job,),
        batch_size=SHARD_ROWS,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=job.actors, max_tasks_in_flight_per_actor=2),
        num_cpus=job.cpus,
    )


def write(dataset: ray.data.Dataset, job: Job, folder: str) -> None:
    """Write with `write_parquet`, on slow storage if the job says so."""

    def slow_write() -> dict[str, object]:
        time.sleep(SLOW_WRITE_S)
        return {}

    dataset.write_parquet(
        folder,
        partition_cols=[job.partition] if job.partition else None,
        filesystem=PyFileSystem(SlowListing(fsspec.filesystem("file"))) if job.slow else None,
        arrow_parquet_args_fn=slow_write if job.slow else None,
    )


class Driver:
    """A process of its own that runs a job on this program's Ray."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._log = Path(job.folder, f"driver-{uuid.uuid4().hex[:6]}.log")
        command = [sys.executable, "-m", "benchmarks.ray_data_checkpoint", "--driver", json.dumps(asdict(job))]
        environment = os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def wait(self) -> str:
        """Its end: "succeeded", or the last line that it said."""
        code = self.process.wait(RUN_TIMEOUT_S)
        last_line = self._log.read_text().strip().rsplit("\n", 1)[-1]
        return "succeeded" if code == 0 else last_line.replace(str(self.job.folder), "…")

    def kill_at(self, rendered_rows: int) -> None:
        """SIGKILL as soon as so many rows were rendered."""
        self.until(rendered_rows)
        self.process.kill()
        self.process.wait()

    def until(self, rendered_rows: int) -> None:
        """Wait until so many rows were rendered."""
        calls, deadline = Path(self.job.folder, "calls"), time.monotonic() + RUN_TIMEOUT_S
        while sum(1 for _ in calls.iterdir()) < rendered_rows:
            assert self.process.poll() is None, self.wait()
            assert time.monotonic() < deadline, "no rows are rendered"
            time.sleep(0.02)


def end_of(job: Job) -> str:
    """Run a job here: "succeeded", or what stopped it."""
    try:
        run_job(job)
    except Exception as error:
        # Ray's own message is a page of remote traceback; its last line is the cause.
        return next(line.strip() for line in reversed(str(error).splitlines()) if line.strip())[:300]
    return "succeeded"


def drive(job: Job) -> int:
    """What a driver's process does."""
    start_ray(os.environ["RAY_ADDRESS"])
    end = end_of(job)
    print(end)
    return 0 if end == "succeeded" else 1


def start_ray(address: str) -> None:
    """Ray of our own on the loopback, or the one at `address`."""
    if address == "local":
        start_private_ray(num_cpus=LOGICAL_CPUS)
    else:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # That a catalog of some rows is too small for a cluster.
    warnings.simplefilter("ignore")


# What is there afterwards


@contextmanager
def catalog_of(rows: int) -> Iterator[str]:
    """A folder with a catalog of so many rows."""
    with tempfile.TemporaryDirectory(prefix="ray-data-checkpoint-") as folder:
        Path(folder, "calls").mkdir()
        pq.write_table(pa.table({"row_id": row_ids(rows)}), f"{folder}/catalog.parquet")
        yield folder


def row_ids(rows: int) -> list[str]:
    """Ids as long as those of tracks."""
    return [f"trk_{hashlib.sha256(str(i).encode()).hexdigest()[:23]}{i:09d}" for i in range(rows)]


def output(folder: str) -> Counter[tuple[str, str]]:
    """How often each (row, outcome) is in the output: Parquet, or the committed shards."""
    if Path(folder, "output").is_dir():
        found: Counter[tuple[str, str]] = Counter()
        for path in Path(folder, "output").rglob("*.parquet"):
            table = pq.ParquetFile(path).read().to_pydict()
            in_path = [path.parent.name.split("=")[-1]] * len(table["row_id"])
            found.update(zip(table["row_id"], table.get("outcome", in_path), strict=True))
        return found
    shards = [json.loads(path.read_bytes()) for path in Path(folder, "store", "shards").glob("*.json")]
    return Counter((row_id, outcome) for ids, outcomes in shards for row_id, outcome in zip(ids, outcomes, strict=True))


def checkpointed(folder: str) -> set[str]:
    """The ids that Ray Data holds for done."""
    paths = [path for path in Path(folder, "checkpoint").glob("*.parquet") if ".pending" not in path.name]
    return {row_id for path in paths for row_id in pq.ParquetFile(path).read()["row_id"].to_pylist()}


def audit(folder: str, rows: int) -> dict[str, Any]:
    """Counts over the output and the calls of the render."""
    calls = sum(1 for _ in Path(folder, "calls").iterdir())
    rendered_rows = len({path.name.split("~")[0] for path in Path(folder, "calls").iterdir()})
    copies: Counter[str] = Counter()
    for (row_id, _), count in output(folder).items():
        copies[row_id] += count
    return {
        "rows": rows,
        "rows_lost": rows - len(copies),
        "rows_duplicated": sum(1 for count in copies.values() if count > 1),
        "rendered_again": calls - rendered_rows,
        "rendered_again_share": round((calls - rendered_rows) / rows, 3),
    }


def whole(counts: dict[str, Any]) -> bool:
    """Whether each row is in the output once."""
    return bool(counts["rows_lost"] == 0 and counts["rows_duplicated"] == 0)


# The promises


def driver_killed(quick: bool) -> dict[str, Any]:
    """SIGKILL of the driver half-way, then the same command again."""
    rows = 96 if quick else 160
    ways = ("checkpoint", "shards") if quick else ("checkpoint", "checkpoint, rows kept", "shards")
    found: dict[str, dict[str, Any]] = {}
    for way in ways:
        with catalog_of(rows) as folder:
            job = Job(folder, way, actors=2)
            Driver(job).kill_at(rows // 2)
            committed = len(output(folder)) if way == "shards" else len(checkpointed(folder))
            run_job(job)
            found[way] = {"committed_at_kill": committed} | audit(folder, rows)
    return {
        "promise": "kill the driver at any moment and run the same command again: each row is once in the output",
        "tried": f"SIGKILL once {rows // 2} of {rows} rows were rendered, {SHARD_ROWS} rows a block, two actors",
        "kept": {way: whole(counts) for way, counts in found.items()},
        "and_rendered_again_at_most_a_shard_per_actor": {
            way: counts["rendered_again"] <= 2 * SHARD_ROWS for way, counts in found.items()
        },
        "found": found,
    }


def resume_with_little_room(quick: bool) -> dict[str, Any]:
    """The same with actors that leave less than two CPUs free, enough for the first run."""
    rows, patience_s = 96, 45.0
    found: dict[str, Any] = {}
    for way in ("checkpoint", "shards"):
        with catalog_of(rows) as folder:
            job = Job(folder, way, actors=2, cpus=1.25)
            first = Driver(job)
            first.kill_at(rows // 2)
            # The killed driver's actors may still end what they had begun.
            time.sleep(3)
            before = len(list(Path(folder, "calls").iterdir()))
            second = Driver(job)
            with suppress(subprocess.TimeoutExpired):
                second.process.wait(patience_s)
            ended = second.process.poll() is not None
            found[way] = {"ended": ended, "rows_rendered": len(list(Path(folder, "calls").iterdir())) - before}
            second.process.kill()
            second.process.wait()
    return {
        "promise": "a job that could start can be resumed on the same machines",
        "tried": (
            f"{LOGICAL_CPUS} CPUs, of which two actors reserve 1.25 each; SIGKILL half-way; the second run watched for "
            f"{patience_s:.0f} s"
        ),
        "kept": {way: counts["ended"] for way, counts in found.items()},
        "found": found,
    }


def run_again(quick: bool) -> dict[str, Any]:
    """The same command once more after it succeeded, by how the checkpoint is set up."""
    rows = 24
    found: dict[str, dict[str, Any]] = {}
    for name, options in (
        ("delete_checkpoint_on_success=False", {}),
        ("the default, which deletes it", {"delete_on_success": True}),
        ("from blocks in memory instead of files", {"from_blocks": True}),
    ):
        with catalog_of(rows) as folder:
            job = replace(Job(folder, render_s=0), **options)  # type: ignore[arg-type]
            run_job(job)
            run_job(job)
            found[name] = audit(folder, rows)
    return {
        "promise": "the same command again after success changes nothing",
        "tried": "two runs, one after the other, by set-up",
        "kept": {name: whole(counts) and counts["rendered_again"] == 0 for name, counts in found.items()},
        "found": found,
    }


def two_drivers(quick: bool) -> dict[str, Any]:
    """Two drivers with one catalog, one checkpoint and one output."""
    rows = 160
    found: dict[str, dict[str, Any]] = {}
    for name, way, slow in (
        ("checkpoint", "checkpoint", False),
        ("checkpoint, slow storage", "checkpoint", True),
        ("shards", "shards", False),
    ):
        with catalog_of(rows) as folder:
            job = Job(folder, way, render_s=0.1, slow=slow)
            first = Driver(job)
            first.until(rows // 8)
            second = end_of(job)
            ends = {"first": first.wait(), "second": second}
            at_once = audit(folder, rows)
            # A row that is marked as done and in no file is one that no later run will make.
            lost = checkpointed(folder) - {row_id for row_id, _ in output(folder)}
            ends["third"] = end_of(replace(job, slow=False))
            found[name] = {
                "ends": ends,
                "marked_as_done_and_in_no_file": len(lost),
                "after_both": at_once,
                "after_the_third": audit(folder, rows),
            }
    return {
        "promise": "two drivers at once do not corrupt a catalog's output",
        "tried": (
            f"{rows} rows; a second driver once {rows // 8} were rendered; then a third run alone. Slow storage (for "
            f"the first two): a data file takes {SLOW_WRITE_S} s more, a listing of the output {SLOW_LISTING_S} s more"
        ),
        "kept": {name: whole(counts["after_the_third"]) for name, counts in found.items()},
        "found": found,
    }


def restore_memory(quick: bool) -> dict[str, Any]:
    """Restoring a checkpoint of many ids, of which the files are made by hand, eight rows to go."""
    found = {}
    cases = [
        ("10k ids in 10 files", 10_000, 10),
        ("1M ids in 100 files", 1_000_000, 100),
    ]
    for name, ids, files in cases:
        with catalog_of(ids + SHARD_ROWS) as folder:
            job = Job(folder, render_s=0)
            done = pq.read_table(f"{folder}/catalog.parquet").slice(0, ids)
            Path(folder, "checkpoint").mkdir()
            per_file = ids // files
            for number in range(files):
                part = done.slice(number * per_file, per_file)
                pq.write_table(part, f"{folder}/checkpoint/{uuid.uuid4().hex}_{number:06d}_000000.parquet")
            started_s = time.perf_counter()
            with PeakMemory() as peak:
                driver = Driver(job)
                driver.until(1)
                first_row_s = time.perf_counter() - started_s
                end = driver.wait()
            assert end == "succeeded", end
            rendered_rows = sum(1 for _ in Path(folder, "calls").iterdir())
            assert rendered_rows == SHARD_ROWS, f"{rendered_rows} rows were rendered"
            found[name] = {
                "until_the_first_row_s": round(first_row_s, 1),
                "peak_rss_mb": peak.by_role(driver.process.pid),
            }
    return {
        "promise": "the driver's memory is bounded for 1,000,000 rows",
        "tried": (
            "checkpoint files made by hand; one input file of all ids (36 characters) and eight more; RSS, looked at "
            "ten times a second, shared memory (the object store) included"
        ),
        "found": found,
    }


class PeakMemory(threading.Thread):
    """The most RSS of each process below this one, while it is entered."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._stopped = threading.Event()
        self._peaks: dict[tuple[int, str], int] = {}

    def run(self) -> None:
        """Look until it is stopped."""
        while not self._stopped.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    key = (process.pid, " ".join(process.cmdline()).strip()[:80])
                    self._peaks[key] = max(self._peaks.get(key, 0), process.memory_info().rss)

    def __enter__(self) -> PeakMemory:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.join()

    def by_role(self, driver_pid: int) -> dict[str, object]:
        """MB of the driver, of each actor that filters, and of the biggest of the other workers (by its name)."""

        def peak_mb(wanted: Callable[[int, str], bool]) -> list[int]:
            return sorted((round(rss / 1e6) for (pid, name), rss in self._peaks.items() if wanted(pid, name)))[::-1]

        tasks = {name for _, name in self._peaks if name.startswith("ray::") and "Filter" not in name}
        by_task = {name: peak_mb(lambda _, other, name=name: other == name)[0] for name in tasks}  # type: ignore[misc]
        biggest = max(by_task, key=lambda name: by_task[name])
        return {
            "driver": peak_mb(lambda pid, _: pid == driver_pid)[0],
            "filter_actors": peak_mb(lambda _, name: "Filter" in name),
            "biggest_other_worker": {biggest: by_task[biggest]},
        }


def errored_block(quick: bool) -> dict[str, Any]:
    """A block that raises while `max_errored_blocks` allows it."""
    rows = 24
    found: dict[str, dict[str, Any]] = {}
    ways = (("delete_checkpoint_on_success=False", False), ("the default, which deletes it", True))
    for name, delete in ways[:1] if quick else ways:
        with catalog_of(rows) as folder:
            job = Job(folder, render_s=0, fault="raise", max_errored_blocks=1, delete_on_success=delete)
            run_job(job)
            marked = checkpointed(folder)
            missing = set(row_ids(rows)) - {row_id for row_id, _ in output(folder)}
            run_job(replace(job, max_errored_blocks=0, fault=""))
            found[name] = {
                "dropped_by_first_run_which_ended_as_success": len(missing),
                "of_these_marked_as_done": len(missing & marked),
                "after_the_second_run": audit(folder, rows),
            }
    return {
        "promise": "a bad block is not lost silently",
        "tried": f"{rows} rows in 3 blocks, one of which raises at its first try; then a run in which none does",
        "kept": {name: whole(counts["after_the_second_run"]) for name, counts in found.items()},
        "found": found,
    }


def two_tables(quick: bool) -> dict[str, Any]:
    """Tracks and failures: each row in one of two tables, failures counted as done and retried when asked."""
    rows, found = 32, {}
    with catalog_of(rows) as folder:
        job = Job(folder, render_s=0, fault="failure row", partition="outcome")
        run_job(job)
        # What is on disk when a driver dies between writing the data and committing.
        torn = sorted(Path(folder, "checkpoint").glob("*.parquet"))[0]
        torn.rename(torn.with_suffix(".pending.parquet"))
        readable = len(output(folder)) - len(checkpointed(folder))
        run_job(replace(job, fault=""))
        found["one write with partition_cols, torn commit"] = {"uncommitted_rows_readers_saw": readable} | split(folder)
        found["one write with partition_cols, torn commit"] |= audit(folder, rows)
    with catalog_of(rows) as folder:
        job = Job(folder, render_s=0, fault="failure row", partition="outcome")
        run_job(job)
        failed = [row_id for row_id, outcome in output(folder) if outcome == "failure"]
        for path in Path(folder, "checkpoint").glob("*.parquet"):
            table = pq.ParquetFile(path).read()
            pq.write_table(table.filter([row_id not in failed for row_id in table["row_id"].to_pylist()]), path)
        run_job(job)
        found["failures taken out of the checkpoint by hand, run again"] = {"failures": len(failed)} | split(folder)
    with catalog_of(rows) as folder:
        job = Job(folder, render_s=0, fault="failure row")
        ray.data.DataContext.get_current().checkpoint_config = checkpoint_config(job)
        source = ray.data.read_parquet(f"{folder}/catalog.parquet").repartition(target_num_rows_per_block=SHARD_ROWS)
        outcomes = rendered(source, job)
        for outcome in ("track", "failure"):
            write(outcomes.filter(expr=f"outcome == '{outcome}'"), job, f"{folder}/output/{outcome}")
        found["two writes, one checkpoint"] = split(folder) | audit(folder, rows)
    return {
        "promise": "a row's outcome is in one of two tables; failures count as done and can be retried",
        "tried": f"{rows} rows, those that end in 3 fail at their first try; three ways to write both tables",
        "kept": {name: counts["rows_in_both"] == counts["rows_in_neither"] == 0 for name, counts in found.items()},
        "found": found,
    }


def split(folder: str) -> dict[str, int]:
    """How many rows are where."""
    tables = {
        outcome: {row_id for row_id, kind in output(folder) if kind == outcome} for outcome in ("track", "failure")
    }
    every = set(pq.read_table(f"{folder}/catalog.parquet")["row_id"].to_pylist())
    return {
        "rows_in_both": len(tables["track"] & tables["failure"]),
        "rows_in_neither": len(every - tables["track"] - tables["failure"]),
    }


def main() -> int:
    """Try the promises one by one and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two of the promises, on fewer rows")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    parser.add_argument(
        "--only", help="try one promise, by the name of its function, and put it among those that --out has"
    )
    parser.add_argument("--driver", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.driver:
        return drive(Job(**arguments.driver))
    document = {
        "benchmark": "ray_data_checkpoint",
        "question": "which of a catalog job's promises does Ray Data's checkpointing keep?",
        "quick": arguments.quick,
        "machine": {"cpu": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "ray": ray.__version__,
        "storage": "local folder",
    }
    tries = [driver_killed, errored_block]
    if not arguments.quick:
        tries += [run_again, two_tables, two_drivers, resume_with_little_room, restore_memory]
    promises: dict[str, dict[str, Any]] = {}
    if arguments.only and arguments.out and arguments.out.exists():
        promises = json.loads(arguments.out.read_text(encoding="utf-8"))["promises"]
    start_ray("local")
    for promise in tries:
        name = promise.__name__
        if arguments.only in (None, name):
            started_s = time.perf_counter()
            promises[name] = promise(arguments.quick)
            promises[name] |= {"took_s": round(time.perf_counter() - started_s, 1), "load_average": os.getloadavg()}
            print(f"{name}: {promises[name]['took_s']} s", file=sys.stderr)
    ray.shutdown()
    publish(document | {"promises": promises}, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
