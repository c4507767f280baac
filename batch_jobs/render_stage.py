"""The actor of a catalog job: it owns a Renderer and turns a block of rows into as many outcomes.

It knows nothing of catalog files or of Parquet: rows in, rows out. Audio goes to the store, never through Ray.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import cast

import pyarrow as pa
import ray.util.metrics

from batch_jobs.outcomes import RowContext, failure_row, outcomes_table, track_row
from batch_jobs.retry import RetryBudget, pause_s
from orchestrion.admission import Pool
from orchestrion.clock import Clock, SystemClock
from orchestrion.config import RenderConfig
from orchestrion.metrics import RayMetrics, RayRecorder
from orchestrion.render import Failure, Renderer, Track, build_renderer
from orchestrion.request import TrackRequest, TrackSpec


class RenderStage:
    """One process of the pool. Ray Data makes it once and calls it with block after block of `WORK_SCHEMA`."""

    def __init__(self, config: RenderConfig, job_id: str) -> None:
        self._renderer = build_renderer(config, Pool.BATCH, RayRecorder(cast("RayMetrics", ray.util.metrics)))
        self._job_id = job_id
        self._budget = RetryBudget()

    def __call__(self, block: pa.Table) -> pa.Table:
        """Rows of `OUTCOMES_SCHEMA`, one for each row of the block, in order."""
        return render_block(block, self._renderer, self._job_id, self._budget, SystemClock(), time.sleep)


def render_block(
    block: pa.Table,
    renderer: Renderer,
    job_id: str,
    budget: RetryBudget,
    clock: Clock,
    sleep: Callable[[float], None],
) -> pa.Table:
    """Render a block of work, transient failures again as far as the budget goes."""
    rows = block.to_pylist()
    requests = [TrackSpec.from_json(json.loads(row["spec"])).resolve() for row in rows]
    outcomes = renderer.render(requests)
    attempts = [1] * len(rows)
    budget.earn(len(rows))
    tries = 1
    while (failed := _transient(outcomes)) and budget.can_retry(tries, len(failed)):
        budget.spend(len(failed))
        sleep(pause_s(tries))
        tries += 1
        for index, outcome in zip(failed, renderer.render([requests[index] for index in failed]), strict=True):
            outcomes[index] = outcome
            attempts[index] = tries
    settled = []
    paid: set[str] = set()
    for row, request, outcome, attempt in zip(rows, requests, outcomes, attempts, strict=True):
        at = RowContext(job_id, row["line"], row["row_id"], row["title"])
        settled.append(_settled(at, request, outcome, attempt, paid, clock))
    return outcomes_table(settled)


def _settled(
    at: RowContext, request: TrackRequest, outcome: Track | Failure, attempts: int, paid: set[str], clock: Clock
) -> dict[str, object]:
    if isinstance(outcome, Failure):
        return failure_row(at, request, outcome, attempts, clock.now())
    # Rows of one block that ask for the same audio are rendered once, so only the first of them pays.
    pays = not outcome.cache_hit and outcome.track_id not in paid
    paid.add(outcome.track_id)
    return track_row(at, request, outcome, pays, attempts, clock.now())


def _transient(outcomes: list[Track | Failure]) -> list[int]:
    return [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Failure) and outcome.transient]
