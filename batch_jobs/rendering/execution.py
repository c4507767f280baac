"""Shards through Ray Data: a pool of render processes that grows, loses members, and gets every shard done.

Ray Data places, feeds and replaces the processes; what is done is decided by commits alone. So nothing here relies on
an answer: a shard whose answer was lost is found committed, and one that Ray gave up is offered again.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext
from ray.util.annotations import RayDeprecationWarning

from batch_jobs.job_store.job_folder import JobFolder
from batch_jobs.ledger.snapshot import Totals
from batch_jobs.options import RenderOptions
from batch_jobs.planning.plan import Plan, Shard
from batch_jobs.rendering.malloc_tuning import release_free_memory
from batch_jobs.rendering.preemption import node_of_this_process
from batch_jobs.rendering.render_stage import SHARDS_IN_HAND, Assignment, RenderStage
from batch_jobs.rendering.worker import COMMITTED, ELSEWHERE
from batch_jobs.run.standing import Standing
from cluster.guardian import Guardian
from cluster.ray_internals import start_private_ray
from orchestrion.clock import Clock
from orchestrion.errors import InvalidRequest, StoreUnavailable
from orchestrion.resilience.store_retry import Retry

logger = logging.getLogger(__name__)

#: The pool grows by a third whenever every worker has as many shards as it takes. By Ray Data's own 1.75 it would only
#: while shards wait at a worker, and those that wait at one worker are missing at another in the end.
GROW_AT: Final = 0.75
#: Rows that one Ray Data execution takes on: bounds what the driver holds, whatever the length of the catalog. At one
#: track a second that is hours, so that starting the processes anew costs nothing.
ROWS_PER_EXECUTION: Final = 20_000
#: A shard comes back so often after the process that worked on it died. Workers count deaths themselves and give up the
#: row that causes them long before; this bounds what they cannot see.
SHARD_RETRIES: Final = 12
#: Passes over the open shards that may bring nothing before the job is given up.
FRUITLESS_PASSES: Final = 2
#: How often shards that another run works on are looked at.
OTHERS_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What the driver learns of a shard that a worker was given."""

    shard: str
    state: str
    #: Of a shard that was given up.
    reason: str | None
    totals: Totals


def execute(
    plan: Plan,
    folder: JobFolder,
    assignment: Assignment,
    options: RenderOptions,
    clock: Clock,
    is_stopping: Callable[[], bool],
    retrying: Retry,
    standing: Standing,
) -> Generator[ShardReport]:
    """Have every open shard of the plan rendered; a report for each that was committed, as they come.

    Ends early when `is_stopping`, when what is in progress is finished or kept. Asks the ledger by `retrying`.

    Raises:
        StoreUnavailable: nothing gets done any more.
        ray.exceptions.RayError: the cluster failed.
    """
    fruitless = 0
    while fruitless < FRUITLESS_PASSES:
        elsewhere: list[str] = []
        commits = 0
        is_open = False
        shards = plan.open_shards()
        while not is_stopping() and (some := _some(shards)):
            is_open = True
            reason = None
            for report in _stream(some, assignment, options):
                if report.state == COMMITTED:
                    plan.note_committed([report.shard])
                    commits += 1
                    if report.totals.tracks > report.totals.cache_hits:
                        # What somebody has given up takes audio again.
                        reason = None
                    yield report
                elif report.state == ELSEWHERE:
                    elsewhere.append(report.shard)
                reason = report.reason or reason
            release_free_memory()
            if reason is not None:
                # The workers have waited; others would only wait again, and render what cannot be kept.
                raise StoreUnavailable(reason)
        if is_stopping() or not is_open:
            return
        if elsewhere:
            _wait_for_others(elsewhere, folder, assignment.run_id, clock, is_stopping, retrying, standing)
        plan.note_committed(retrying(folder.committed))
        fruitless = 0 if commits or elsewhere else fruitless + 1
    if next(plan.open_shards(), None) is not None:
        raise StoreUnavailable("some shards could not be rendered and Ray gave no reason; its worker logs may")


def _some(shards: Iterator[Shard]) -> list[Shard]:
    taken: list[Shard] = []
    rows = 0
    for shard in shards:
        taken.append(shard)
        rows += len(shard.rows)
        if rows >= ROWS_PER_EXECUTION:
            break
    return taken


def _stream(shards: list[Shard], assignment: Assignment, options: RenderOptions) -> Iterator[ShardReport]:
    """Stream some shards through a pool of render processes; reports come in the order in which they are ready."""
    workers = min(options.max_workers or workers_that_fit(options), len(shards))
    with warnings.catch_warnings():
        # Ray 2.60 deprecates every way to bound a block's retries and has no other yet.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = ray.data.from_blocks([shard.block() for shard in shards]).map_batches(
            RenderStage,
            fn_constructor_args=(assignment,),
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                min_size=min(options.min_workers, workers),
                max_size=workers,
                max_tasks_in_flight_per_actor=SHARDS_IN_HAND,
            ),
            num_cpus=options.cpus_per_worker,
            num_gpus=options.gpus_per_worker,
            resources=options.custom_resources,
            max_concurrency=SHARDS_IN_HAND,
            # Ray Data's own default retries a block for ever, also one that kills every process it comes to.
            max_restarts=-1,
            max_task_retries=SHARD_RETRIES,
        )
    shards.clear()
    # With nothing fetched ahead Ray 2.60 leaves a thread behind, waiting for ever.
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        for row in batch.to_pylist():
            yield ShardReport(row.pop("shard"), row.pop("state"), row.pop("reason"), Totals(**row))


def _wait_for_others(
    shards: list[str],
    folder: JobFolder,
    run_id: str,
    clock: Clock,
    is_stopping: Callable[[], bool],
    retrying: Retry,
    standing: Standing,
) -> None:
    """Wait until no run that is alive works on any of these shards."""
    logger.info("another run works on %d shards; waiting for it", len(shards))
    waiting = set(shards)

    def still_waiting() -> set[str]:
        now = clock.now()
        others = (one for one in folder.journals() if one.run_id != run_id)
        alive = {one.worker_id for one in others if folder.is_at_work(one, now)}
        return {shard for shard in waiting - set(folder.committed()) if alive & folder.claims(shard).keys()}

    standing.elsewhere_since = clock.now()
    while waiting and not is_stopping():
        standing.shards_elsewhere = len(waiting)
        time.sleep(OTHERS_S)
        waiting = retrying(still_waiting)
    standing.shards_elsewhere = 0


def workers_that_fit(options: RenderOptions) -> int:
    """How many workers the cluster has room for now."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    wanted = {"CPU": options.cpus_per_worker, "GPU": options.gpus_per_worker, **options.custom_resources}
    return max(1, min((int(resources.get(name, 0.0) / one) for name, one in wanted.items() if one > 0), default=1))


def refuse_spot_driver() -> None:
    """The driver settles the run: it must not stand on a node that may vanish.

    Raises:
        InvalidRequest: it does.
    """
    here = node_of_this_process()
    if here.market == "spot":
        raise InvalidRequest.of(
            "market", here.node_id, "the driver is on a spot node; submit the job so that it runs on the head node"
        )


def needs_own_ray() -> bool:
    """Whether Ray is to be started on this machine, for this job alone.

    RAY_ADDRESS names the cluster, as under `ray job submit`. Without it we start our own; Ray would join the one that a
    file in /tmp names, which every user of this machine may write.
    """
    return not ray.is_initialized() and not os.environ.get("RAY_ADDRESS")


@contextmanager
def ray_running(guardian: Guardian | None) -> Iterator[None]:
    """Ray as this job wants it: errors of a block cost that block, and nothing but ours is printed.

    Args:
        guardian: of a Ray that is started here; None to take the one that there is.
    """
    started_here = not ray.is_initialized()
    if guardian is not None:
        start_private_ray(guardian)
    elif started_here:
        ray.init(logging_level=logging.ERROR, log_to_driver=False)
    context: Any = DataContext.get_current()
    before = (context.max_errored_blocks, context.enable_progress_bars, context.print_on_execution_start)
    context.max_errored_blocks, context.enable_progress_bars, context.print_on_execution_start = -1, False, False
    grow_at_before = context.autoscaling_config.actor_pool_util_upscaling_threshold
    context.autoscaling_config.actor_pool_util_upscaling_threshold = GROW_AT
    data_logger = logging.getLogger("ray.data")
    level_before = data_logger.level
    data_logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        data_logger.setLevel(level_before)
        context.max_errored_blocks, context.enable_progress_bars, context.print_on_execution_start = before
        context.autoscaling_config.actor_pool_util_upscaling_threshold = grow_at_before
        if started_here:
            ray.shutdown()
