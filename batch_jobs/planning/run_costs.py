"""What a run costs besides its tracks, as earlier runs of a ledger tell: start, end, waiting, attempts without a track.

    up  =  start (Ray, models)  +  rendering (workers have tracks to render)  +  end (the last commit, Ray)
    workers × rendering  =  held × device-seconds of all attempts

A machine is paid for while it is up, whatever it does, so the bill follows from workers, machines and these times.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow.dataset as ds

from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.ledger.snapshot import Snapshot
from batch_jobs.ledger.tables import TRACK
from batch_jobs.planning.spans import Span, around
from batch_jobs.planning.speed_table import ShippedRun

#: Older runs are not looked at.
RUNS_READ: Final = 20
#: How far one run is from another, where there are too few to tell: standard deviation of the logarithm.
START_TO_START: Final = 0.25
HELD_TO_HELD: Final = 0.10


@dataclass(frozen=True, slots=True)
class RunCosts:
    """What a run takes besides the device-seconds of its tracks."""

    #: From the start of the first machine to the first attempt; from the end of the last attempt to that of the last
    #: machine.
    start_s: Span
    end_s: Span
    #: Of both together, seconds in which a worker has no device yet, or no more.
    without_worker_s: float
    #: Seconds of a worker for each device-second of attempts, while there are some.
    held: Span
    #: Device-seconds of all attempts for each one of those that gave a track.
    attempts: float
    #: Render processes of the newest run; None where no run is known.
    workers: int | None
    #: Of a machine, in runs on several; None where there was none.
    workers_per_machine: float | None
    source: str


@dataclass(frozen=True, slots=True)
class _Run:
    """One run on machines of one type, as the ledger has it."""

    start_s: float
    end_s: float
    rendering_s: float
    without_worker_s: float
    #: Most that were at work at the same time.
    workers: int
    machines: int
    device_seconds: float
    of_tracks: float


def known_run_costs(
    url: str,
    storage_options: Mapping[str, Any],
    snapshot: Snapshot,
    node_type: str,
    devices_per_worker: float,
    shipped: ShippedRun,
) -> RunCosts:
    """What the newest runs of a ledger on this node type took besides their tracks; else what `speeds.yaml` says.

    Args:
        url: of the ledger.
        storage_options: for fsspec.
        snapshot: the state to read.
        node_type: row of the price table.
        devices_per_worker: what one worker has of a machine.
        shipped: for a ledger without such runs.
    """
    runs = _runs(url, storage_options, snapshot, node_type, devices_per_worker)
    if not runs:
        spans = [Span(each.low, each.middle, each.high) for each in (shipped.start_s, shipped.end_s, shipped.held)]
        return RunCosts(spans[0], spans[1], 0.0, spans[2], 1.0, None, None, shipped.dated_source)
    count = len(runs)
    held_s = [run.rendering_s * run.workers for run in runs]
    device_seconds = [run.device_seconds for run in runs]
    held = math.fsum(held_s) / math.fsum(device_seconds)
    ratios = [of_run / (seconds * held) for of_run, seconds in zip(held_s, device_seconds, strict=True)]
    return RunCosts(
        start_s=_mean([run.start_s for run in runs]),
        end_s=_mean([run.end_s for run in runs]),
        without_worker_s=math.fsum(run.without_worker_s for run in runs) / count,
        held=around(held, ratios, device_seconds, HELD_TO_HELD),
        attempts=math.fsum(device_seconds) / math.fsum(run.of_tracks for run in runs),
        workers=runs[0].workers,
        workers_per_machine=_packed([run for run in runs if run.machines > 1]),
        source=f"as in {'the last run' if count == 1 else f'the last {count} runs'} of this ledger on {node_type}",
    )


def _packed(runs: Sequence[_Run]) -> float | None:
    return max(1.0, sum(run.workers for run in runs) / sum(run.machines for run in runs)) if runs else None


def _mean(values: Sequence[float]) -> Span:
    mean = math.fsum(values) / len(values)
    if mean <= 0:
        return Span(0.0, 0.0, 0.0)
    return around(mean, [value / mean for value in values], [1.0] * len(values), START_TO_START)


def _runs(
    url: str, storage_options: Mapping[str, Any], snapshot: Snapshot, node_type: str, devices_per_worker: float
) -> list[_Run]:
    """The newest runs that rendered something on machines of this type alone, the newest first."""
    nodes: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    columns = ["job_id", "run_id", "node_id", "node_type", "up_from", "up_to", "workers", "reserved_device_seconds"]
    for row in ledger_dataset(url, storage_options, "nodes", snapshot).to_table(columns=columns).to_pylist():
        nodes[row["job_id"], row["run_id"]].append(row)
    of_type = {key: rows for key, rows in nodes.items() if all(row["node_type"] == node_type for row in rows)}
    newest = sorted(of_type, key=lambda key: max(row["up_to"] for row in of_type[key]), reverse=True)[:RUNS_READ]
    attempts: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    wanted = ds.field("job_id").isin([job_id for job_id, _ in newest]) & ds.field("run_id").isin(
        [run_id for _, run_id in newest]
    )
    columns = ["job_id", "run_id", "worker_id", "started_at", "ended_at", "device_seconds", "ended"]
    if newest:
        tries = ledger_dataset(url, storage_options, "attempts", snapshot).to_table(columns=columns, filter=wanted)
        for row in tries.to_pylist():
            attempts[row["job_id"], row["run_id"]].append(row)
    found = (_run(of_type[key], attempts[key], devices_per_worker) for key in newest)
    return [run for run in found if run is not None]


def _run(
    nodes: Sequence[Mapping[str, Any]], attempts: Sequence[Mapping[str, Any]], devices_per_worker: float
) -> _Run | None:
    of_tracks = math.fsum(row["device_seconds"] for row in attempts if row["ended"] == TRACK)
    if of_tracks <= 0:
        return None
    up_from, up_to = min(row["up_from"] for row in nodes), max(row["up_to"] for row in nodes)
    first, last = min(row["started_at"] for row in attempts), max(row["ended_at"] for row in attempts)
    machines = {row["node_id"] for row in nodes if row["workers"]}
    workers = most_at_once((row["worker_id"], row["started_at"], row["ended_at"]) for row in attempts)
    start_s, end_s = max(0.0, (first - up_from).total_seconds()), max(0.0, (up_to - last).total_seconds())
    worker_s = math.fsum(row["reserved_device_seconds"] for row in nodes) / (workers * devices_per_worker)
    without_worker_s = (up_to - up_from).total_seconds() - worker_s
    return _Run(
        start_s=start_s,
        end_s=end_s,
        rendering_s=(last - first).total_seconds(),
        without_worker_s=min(max(0.0, without_worker_s), start_s + end_s),
        workers=workers,
        machines=max(1, len(machines)),
        device_seconds=math.fsum(row["device_seconds"] for row in attempts),
        of_tracks=of_tracks,
    )


def most_at_once(attempts: Iterable[tuple[str, datetime, datetime]]) -> int:
    """How many workers were at work at the same time, at most: one that took the place of a dead one counts once.

    Args:
        attempts: for each, its worker, its start and its end.
    """
    at_work: dict[str, tuple[datetime, datetime]] = {}
    for worker_id, started_at, ended_at in attempts:
        first, last = at_work.get(worker_id, (started_at, ended_at))
        at_work[worker_id] = (min(first, started_at), max(last, ended_at))
    # Of moments that are the same, ends come first: the one that left is not there together with the one that came.
    changes = sorted((moment, by) for span in at_work.values() for moment, by in zip(span, (1, -1), strict=True))
    most = now = 0
    for _, by in changes:
        now += by
        most = max(most, now)
    return most
