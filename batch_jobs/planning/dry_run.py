"""What a catalog would take, said before anything is spent: the same reading and planning, and nothing is written.

Nothing at all: the ledger and the store are opened to be read, and where they are not there yet they are not made.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batch_jobs.catalog.rows import catalog_sha256, how_read
from batch_jobs.job_store.job_folder import JobFolder, WorkerNode
from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.ledger.snapshot import Snapshot
from batch_jobs.options import RenderOptions
from batch_jobs.planning.bad_rows import BadRows, bad_rows, collect
from batch_jobs.planning.estimate import Estimate, Workers, estimate, tracks
from batch_jobs.planning.job import (
    catalog_into,
    job_id_of,
    leave_out_what_is_done,
    lines_to_try_again,
    noted_job,
    prices_of,
)
from batch_jobs.planning.open_work import OpenWork, open_work
from batch_jobs.planning.paces import Measured, Paces, measured, shipped_paces
from batch_jobs.planning.plan import Plan
from batch_jobs.planning.run_costs import RunCosts, known_run_costs
from batch_jobs.planning.speed_table import SpeedTable
from batch_jobs.settlement.prices import PricedNode
from orchestrion.errors import NotFound
from orchestrion.models.registry import public_name
from orchestrion.storage.object_store import Objects
from orchestrion.storage.track_store import TrackStore


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a dry run has found."""

    job_id: str
    how_read: str
    rows: int
    bad: BadRows
    #: Where all bad rows are, if anywhere.
    bad_rows_file: Path | None
    standing: str
    left: OpenWork
    versions: Mapping[str, tuple[str, str]]
    estimate: Estimate

    def describe(self) -> str:
        """The lines that a person reads."""
        said = [
            f"catalog: {self.how_read}",
            f"job {self.job_id}: {self.rows:,} rows, {self.bad.count:,} of them cannot be rendered; {self.standing}",
            *self.bad.describe(self.bad_rows_file),
            *_found(self.left, self.versions),
            self.estimate.describe(),
            "nothing was rendered or written" + (f", but for {self.bad_rows_file}" if self.bad_rows_file else ""),
        ]
        return "\n".join(said)


def dry_run(options: RenderOptions, bad_rows_file: Path | None = None) -> DryRun:
    """Find out which rows are bad, what is done of the others already, and what the rest will take.

    Args:
        options: of the run.
        bad_rows_file: where to write a table of the rows that cannot be rendered; the only file that is written.

    Raises:
        InvalidRequest: options, price or catalog cannot be used, or the table cannot be written.
        NotFound: there is no such catalog.
        StoreUnavailable: the ledger or the store did not answer.
    """
    node = prices_of(options).of(WorkerNode("planned", options.node_type, options.market))
    models = list(dict.fromkeys(public_name(entry) for entry in options.models))
    objects = Objects(options.ledger_url, options.storage_options, read_only=True)
    sha256 = catalog_sha256(options.catalog, options.storage_options)
    folder = JobFolder(objects, job_id_of(options, sha256))
    noted = noted_job(folder, options)
    with Plan() as plan:
        catalog_into(plan, options, lambda data: f"sha256:{hashlib.sha256(data).hexdigest()}")
        bad = collect(bad_rows(plan, models), bad_rows_file)
        rows = plan.rows
        standing = _standing(plan, folder, noted, options)
        known = _Known.of(options, models, node)
        store = TrackStore(Objects(options.render_config().store_url, options.storage_options, read_only=True))
        left = open_work(plan, models, known.versions, store)
    workers = _workers(options, node, known.run)
    return DryRun(
        job_id=folder.job_id,
        how_read=how_read(options.catalog, options.storage_options, options.column_map, options.keep_columns),
        rows=rows,
        bad=bad,
        bad_rows_file=bad_rows_file,
        standing=standing,
        left=left,
        versions=known.versions,
        estimate=estimate(left.work, known.paces, known.run, node, workers),
    )


def _standing(plan: Plan, folder: JobFolder, noted: Mapping[str, object] | None, options: RenderOptions) -> str:
    """Leave out of the plan what is done, and say how far the job is."""
    if noted is None:
        return "not begun"
    leave_out_what_is_done(plan, folder, noted)
    to_do = plan.open_rows
    if to_do or not options.retry_failures:
        waits = "; --retry-failures tries failed rows again once it is complete" if options.retry_failures else ""
        return f"begun, {to_do:,} rows to do{waits}" if to_do else f"complete: there is nothing to do{waits}"
    lines = lines_to_try_again(folder)
    plan.begin_round(folder.newest_round() + 1, lines)
    return f"complete, {len(lines):,} rows that failed are tried again"


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of speeds and runs."""

    paces: Mapping[str, Paces]
    #: Model revision and recipe version.
    versions: Mapping[str, tuple[str, str]]
    run: RunCosts

    @classmethod
    def of(cls, options: RenderOptions, models: list[str], node: PricedNode) -> _Known:
        """From the ledger, else from `speeds.yaml`."""
        url, access, table = options.ledger_url, options.storage_options, SpeedTable.load()
        try:
            snapshot = read_snapshot(url, access)
        except NotFound:
            snapshot = Snapshot.empty()
        of_models: dict[str, Measured] = {
            model: measured(url, access, snapshot, model, node.node_type) for model in models
        }
        shipped = {
            model: shipped_paces(by_node_type[node.node_type])
            for model, by_node_type in table.models.items()
            if model in models and node.node_type in by_node_type
        }
        return cls(
            paces=shipped | {model: each.paces for model, each in of_models.items() if each.paces is not None},
            versions={model: each.versions for model, each in of_models.items() if each.versions is not None},
            run=known_run_costs(url, access, snapshot, node.node_type, _devices(options, node), table.run),
        )


def _devices(options: RenderOptions, node: PricedNode) -> float:
    """What a worker has of a machine to itself."""
    wanted = options.gpus_per_worker if node.device == "gpu" else options.cpus_per_worker
    return min(wanted, float(node.devices)) or 1.0


def _workers(options: RenderOptions, node: PricedNode, run: RunCosts) -> Workers:
    """How many workers a run will have: as many as are asked for, as there were, or as there is room for."""
    devices = _devices(options, node)
    fit = max(1, int(node.devices / devices))
    if os.environ.get("RAY_ADDRESS"):
        count = options.max_workers or run.workers or fit
        return Workers(count, math.ceil(count / (run.workers_per_machine or fit)), devices)
    # Without a cluster the run has this machine alone.
    if node.device == "cpu-core":
        fit = max(1, int((os.cpu_count() or 1) / devices))
    return Workers(min(options.max_workers or fit, fit), 1, devices)


def _found(left: OpenWork, versions: Mapping[str, tuple[str, str]]) -> list[str]:
    """What was found in the store, and what could not be asked."""
    lines = []
    for model, requests in left.requests.items():
        if model not in versions:
            lines.append(f"{model}: whether tracks are in the store already is not known; this ledger has none of it")
            continue
        revision = versions[model][0]
        withdrawn = f", {tracks(left.withdrawn[model])} were withdrawn" if left.withdrawn[model] else ""
        lines.append(
            f"{model}: of {tracks(requests)} to do, {tracks(left.stored[model])} are in the store already{withdrawn}, "
            f"if the model is still of revision {revision.removeprefix('sha256:')[:12]}"
        )
    if left.sample is not None:
        lines.append(f"kinds of tracks and what is in the store: by {left.sample:,} of them, evenly chosen")
    return lines
