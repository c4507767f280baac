"""What a catalog would take, said before anything is spent: the same reading and planning, and nothing is written."""

from __future__ import annotations

import hashlib

from batch_jobs.catalog.rows import catalog_sha256, how_read
from batch_jobs.job_store.job_folder import JobFolder
from batch_jobs.options import RenderOptions
from batch_jobs.planning.estimate import estimate, known_overhead, known_speeds
from batch_jobs.planning.job import ASSUMED_WORKERS, catalog_into, cut_as_noted, job_id_of, noted_job, prices_of
from batch_jobs.planning.plan import Plan
from orchestrion.accounting.cost import describe_node
from orchestrion.storage.object_store import Objects


def dry_run(options: RenderOptions) -> str:
    """Say how many rows are good, what is done of them already, and what the rest will take.

    Tracks that the store has from other jobs are counted as if they were to be rendered: only a process with the model
    loaded knows their ids.

    Raises:
        InvalidRequest: options, price or catalog cannot be used.
        NotFound: there is no such catalog.
        StoreUnavailable: the ledger did not answer.
    """
    node = describe_node(options.node_type, options.market, prices_of(options).table)
    workers = options.max_workers or ASSUMED_WORKERS
    folder = JobFolder(
        Objects(options.ledger_url, options.storage_options),
        job_id_of(options, catalog_sha256(options.catalog, options.storage_options)),
    )
    known = noted_job(folder, options)
    with Plan() as plan:
        catalog_into(plan, options, lambda data: f"sha256:{hashlib.sha256(data).hexdigest()}")
        if known is not None:
            cut_as_noted(plan, known)
            plan.note_committed(folder.committed())
        to_do = sum(len(shard.rows) for shard in plan.open_shards())
        work = plan.open_work()
        rows, bad = plan.rows, plan.refused
    models = [each.model for each in work]
    said = estimate(
        work,
        known_speeds(options.ledger_url, options.storage_options, models, options.node_type),
        known_overhead(options.ledger_url, options.storage_options),
        node,
        workers,
    )
    begun = "begun" if known else "not begun"
    return (
        f"catalog: {how_read(options.catalog, options.storage_options, options.column_map, options.keep_columns)}\n"
        f"job {folder.job_id} ({begun}): {rows} rows, {bad} of them cannot be rendered, {to_do} to do\n"
        f"{said.describe()}\n"
        "nothing was rendered or written"
    )
