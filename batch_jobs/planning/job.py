"""Which job a command means, and what is still to do of it.

A job is named by what it renders: the catalog's bytes and the settings that decide which rows and which music. So the
same command means the same job, on any machine and after any death. Where it is rendered, by how many workers and at
what price is no part of the name and may change from run to run.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, Final

import pyarrow.compute as pc
import pyarrow.dataset as ds

from batch_jobs.catalog.rows import CatalogFolder, ReadRow, catalog_reads, catalog_sha256
from batch_jobs.job_store.job_folder import JobFolder
from batch_jobs.job_store.plan_parts import PlanParts
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.options import RenderOptions
from batch_jobs.planning.parts import planned_parts
from batch_jobs.planning.plan import Plan
from batch_jobs.planning.planned_rows import RowSettings, reader_version, with_uploads
from batch_jobs.settlement.prices import JobPrices
from batch_jobs.settlement.settlement import rows_of
from orchestrion.accounting.cost import PriceTable
from orchestrion.clock import Clock
from orchestrion.errors import InvalidRequest
from orchestrion.models.registry import public_name
from orchestrion.rendering.config import RenderConfig
from orchestrion.storage.object_store import Objects
from orchestrion.storage.track_store import TrackStore
from orchestrion.tracks.record import utc_timestamp
from orchestrion.trust.signing import Signer

#: Different tracks in a shard, at most: so many outcomes are committed together, and so many rows wait for the slowest.
SHARD_REQUESTS: Final = 32
#: A small catalog is cut finer, so that each of the workers has several shards.
SHARDS_PER_WORKER: Final = 8
#: Workers that a small catalog is cut for, if it is not said how many there will be.
ASSUMED_WORKERS: Final = 8


@dataclass(frozen=True, slots=True)
class Job:
    """One job: its folder, what is noted there, and the rows of its catalog."""

    folder: JobFolder
    #: job_id, catalog, catalog_sha256, settings, store, requests_per_shard, requests_in_the_last, begun_at.
    description: Mapping[str, Any]
    plan: Plan
    rows: int

    def open_rows(self) -> int:
        """Rows that have no outcome yet, or are to be tried again."""
        return self.plan.open_rows


def job_id_of(options: RenderOptions, sha256: str) -> str:
    """The name of the job that these options mean: the catalog's name and a hash, e.g. "songs-3fa9c01b"."""
    settings = [sha256, *_settings(options).items()]
    digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
    stem = re.sub(r"[^a-z0-9]+", "-", PurePosixPath(options.catalog).stem.lower()).strip("-")[:32] or "catalog"
    return f"{stem}-{digest[:8]}"


def _settings(options: RenderOptions) -> dict[str, Any]:
    # A map says which column is the prompt, so it decides what is rendered; in which order it was given does not.
    mapped = {"map": dict(sorted(options.column_map.items()))} if options.column_map else {}
    # Without it a row with a column that is none of ours is refused, so it decides which rows are rendered.
    kept = {"keep": sorted(options.keep_columns)} if options.keep_columns else {}
    return (
        {
            "models": [public_name(entry) for entry in options.models],
            "precision": options.precision,
            "limit": options.limit,
            "sample": options.sample,
            "job_name": options.job_name,
        }
        | mapped
        | kept
    )


def prices_of(options: RenderOptions) -> JobPrices:
    """The prices of a job: found wrong here, and not in each of a hundred actors.

    Raises:
        InvalidRequest: the price table does not know the machine, or workers have no share of the device that is paid.
    """
    table = PriceTable.load(options.prices_path)
    prices = JobPrices(table, options.node_type, options.market)
    if table.node_types[options.node_type].device == "gpu" and options.gpus_per_worker <= 0:
        raise InvalidRequest.of(
            "gpus_per_worker",
            options.gpus_per_worker,
            f"{options.node_type} is paid by the GPU; say what a worker has of one",
        )
    return prices


def read_job(
    options: RenderOptions, config: RenderConfig, signer: Signer, objects: Objects, plan: Plan, clock: Clock
) -> Job:
    """Find the job that the options mean, or begin it, and read its catalog into the plan.

    What an earlier run has planned of it is taken where it carries the signer's seal.

    Raises:
        InvalidRequest: the catalog cannot be used, or the job was begun with another store, or is to be resumed and
            was never begun.
        NotFound: there is no such catalog.
        StoreUnavailable: the ledger or the store did not answer.
    """
    sha256 = catalog_sha256(options.catalog, options.storage_options)
    folder = JobFolder(objects, job_id_of(options, sha256))
    noted_job(folder, options)
    kept = PlanParts(objects, folder.job_id, plan_sha256(options, sha256), signer)
    catalog_into(plan, options, TrackStore.open(config.store_url, config.storage_options).put_theme, kept)
    store = _from_ledger(config.store_url, options.ledger_url)
    description = folder.begin(
        {
            "job_id": folder.job_id,
            "catalog": options.catalog,
            "catalog_sha256": sha256,
            "settings": _settings(options),
            "store": store,
            "requests_per_shard": plan.requests_per_shard,
            "requests_in_the_last": plan.requests_in_the_last,
            "begun_at": utc_timestamp(clock.now()),
        }
    )
    # Older releases noted the whole address.
    if description["store"] not in (store, config.store_url):
        begun_with = _at_ledger(description["store"], options.ledger_url)
        raise InvalidRequest.of(
            "store", config.store_url, f"this job was begun with the store {begun_with}; use that one"
        )
    job = Job(folder, description, plan, plan.rows)
    leave_out_what_is_done(plan, folder, description)
    return job


def _from_ledger(store_url: str, ledger_url: str) -> str:
    """A store's address; of one in the ledger's folder, the path from there, so that both can be moved together."""
    return store_url.removeprefix(f"{ledger_url.rstrip('/')}/")


def _at_ledger(noted: str, ledger_url: str) -> str:
    """The address of a store that was noted by `_from_ledger`."""
    return noted if noted.startswith("/") or "://" in noted else f"{ledger_url.rstrip('/')}/{noted}"


def noted_job(folder: JobFolder, options: RenderOptions) -> Mapping[str, Any] | None:
    """What is noted of the job; None if it was never begun.

    Raises:
        InvalidRequest: it was never begun, and the options say that it was.
    """
    noted = folder.description()
    if options.resume and noted is None:
        raise InvalidRequest.of(
            "resume", folder.job_id, f"was never begun in {options.ledger_url}; has the catalog or a setting changed?"
        )
    return noted


def begin_next_round(job: Job, ledger: Ledger) -> None:
    """Have the rows that failed tried again; those that are no valid requests stay as they are."""
    failures = ledger.dataset("failures")
    wanted = (ds.field("job_id") == job.folder.job_id) & (ds.field("stage") != "catalog")
    lines = sorted(failures.to_table(columns=["line"], filter=wanted)["line"].to_pylist())
    if lines:
        number = job.folder.newest_round() + 1
        job.plan.begin_round(number, job.folder.begin_round(number, lines))


def catalog_into(
    plan: Plan, options: RenderOptions, put_theme: Callable[[bytes], str], kept: PlanParts | None = None
) -> None:
    """The catalog's rows into the plan, as far as the job is about them.

    Args:
        plan: an empty one.
        options: which catalog, and what of it.
        put_theme: stores an upload and returns its reference.
        kept: what earlier runs have planned of the same job, and where to keep what this one does.

    Raises:
        InvalidRequest: the catalog as a whole cannot be used.
        NotFound: there is no such catalog.
    """

    def read() -> Iterator[ReadRow]:
        names = (options.column_map, options.keep_columns)
        return islice(catalog_reads(options.catalog, options.storage_options, *names), options.limit)

    settings = RowSettings(public_name(options.models[0]), options.sample)
    for part in planned_parts(read, settings, kept):
        plan.add(part)
    plan.refuse_repeated_ids(options.sample)
    # Last, so that only rows that will be rendered put anything into the store.
    folder = CatalogFolder(options.catalog, options.storage_options, put_theme)
    for row in plan.rows_with_files():
        plan.replace(with_uploads(row, folder.reference, options.sample))
    plan.requests_per_shard = _requests_per_shard(plan, options)
    # Two shards at a time fill every slot of a worker, also at the end.
    plan.requests_in_the_last = options.batch_size


def plan_sha256(options: RenderOptions, sha256: str) -> str:
    """A hash of all that decides what is planned of a row."""
    return hashlib.sha256(json.dumps([sha256, _settings(options), reader_version()]).encode()).hexdigest()


def leave_out_what_is_done(plan: Plan, folder: JobFolder, description: Mapping[str, Any]) -> None:
    """Cut the plan into the shards that the job was begun with, and leave out what is committed in its newest round.

    A release that reads a row otherwise also cuts otherwise. Rows that cannot be rendered are therefore left out by
    their lines, where a shard of them is not known by its name.
    """
    plan.requests_per_shard = description["requests_per_shard"]
    plan.requests_in_the_last = description["requests_in_the_last"]
    if (number := folder.newest_round()) > 1 and (lines := folder.round_lines(number)) is not None:
        plan.begin_round(number, lines)
    committed = folder.committed()
    plan.note_committed(committed)
    if committed and next(plan.open_refused(), None) is not None:
        for name in committed:
            if name.startswith(f"{plan.round_number:02d}-"):
                plan.note_settled(_lines_of(folder, name, "failure") + _lines_of(folder, name, "track"))


def lines_to_try_again(folder: JobFolder) -> list[int]:
    """The rows that failed in a job's newest round and may do better in the next one, in order."""
    of_newest = f"{folder.newest_round():02d}-"
    shards = [name for name in folder.committed() if name.startswith(of_newest)]
    return sorted(line for name in shards for line in _lines_of(folder, name, "failure", but_of_stage="catalog"))


def _lines_of(folder: JobFolder, shard: str, kind: str, but_of_stage: str | None = None) -> list[int]:
    columns = [f"{kind}.line"] + ([f"{kind}.stage"] if but_of_stage else [])
    table = folder.shard(shard, columns)
    if table is None:
        return []
    rows = rows_of(table, kind)
    if but_of_stage:
        rows = rows.filter(pc.not_equal(rows["stage"], but_of_stage))
    lines: list[int] = rows["line"].to_pylist()
    return lines


def _requests_per_shard(plan: Plan, options: RenderOptions) -> int:
    shards = SHARDS_PER_WORKER * (options.max_workers or ASSUMED_WORKERS)
    # Two shards at a time must be able to fill every slot of a worker.
    return max(options.batch_size, min(max(SHARD_REQUESTS, options.batch_size), math.ceil(plan.requests / shards)))
