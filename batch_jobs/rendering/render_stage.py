"""The actor of a catalog job: Ray Data gives it shards, it gives back one row about each. It may be killed at any time.

Audio, records and outcomes go to the store and to the job's folder, never through Ray. On a node that is being taken
away it ends its own process: Ray moves no actor, but gives the shards of a process that died to another one on another
node.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, NoReturn, cast

import pyarrow as pa
import ray.util.metrics

from batch_jobs.job_store.job_folder import BEAT_S, JobFolder, WorkerJournal, WorkerNode
from batch_jobs.job_store.partial_pieces import PartialPieces
from batch_jobs.rendering.journal import Journal
from batch_jobs.rendering.machine import machine_id, process_began_at
from batch_jobs.rendering.preemption import NodeDrain, node_of_this_process
from batch_jobs.rendering.worker import LEFT, ShardWorker
from batch_jobs.run.standing import is_away
from batch_jobs.settlement.prices import JobPrices
from orchestrion.accounting.cost import Node, describe_node
from orchestrion.clock import Clock, SystemClock
from orchestrion.rendering.admission import Pool
from orchestrion.rendering.config import RenderConfig
from orchestrion.resilience.store_retry import NOTE, STORE_RETRY_S, StoreCalls
from orchestrion.telemetry.metrics import RayMetrics, RayRecorder

if TYPE_CHECKING:
    from orchestrion.rendering.executor import Executor

logger = logging.getLogger(__name__)

#: Shards that one process works on at the same time: the end of one is filled up with the beginning of the next.
SHARDS_IN_HAND: Final = 2
#: How often a process looks whether its node is being taken away, and whether its run is to stop.
LOOK_S: Final = 1.0
#: Of the time that a node has left, what is kept back for writing down where things stand.
RESERVE_S: Final = 2.0
#: A node that is drained without a deadline is left after so long.
LEAVE_WITHIN_S: Final = 120.0
#: Of the time of a process, the most that goes into writing down which attempts have begun: one that begins alone is
#: written at once, many that begin one after the other are written together, on a slow store more of them.
NOTING_SHARE: Final = 0.05
#: A stopped run gives what is in progress so long.
STOP_WITHIN_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a render process is told: what to render with, for which run of which job, and what it has to itself."""

    config: RenderConfig
    folder: JobFolder
    prices: JobPrices
    run_id: str
    #: When the run began, by the driver's clock.
    begun_at: datetime
    reserved_cpus: float
    reserved_gpus: float
    #: How long a store or a ledger that is away is waited for.
    patience_s: float = STORE_RETRY_S


class RenderStage:
    """One process of the pool. Ray Data makes it once and calls it, from several threads, with shard after shard."""

    def __init__(self, assignment: Assignment) -> None:
        clock = SystemClock()
        here = node_of_this_process()
        config = assignment.config.model_copy(
            update={
                "node_type": here.node_type or assignment.config.node_type,
                "market": here.market or assignment.config.market,
            }
        )
        node = describe_node(config.node_type, config.market, assignment.prices.table, here.node_id)
        identity = WorkerJournal(
            worker_id=f"w-{uuid.uuid4().hex[:12]}",
            run_id=assignment.run_id,
            node=WorkerNode(node.node_id, node.node_type, node.market, here.machine or machine_id()),
            reserved_devices=assignment.reserved_gpus if node.device == "gpu" else assignment.reserved_cpus,
            up_from=_up_from(clock.now(), assignment.begun_at),
            seen_at=clock.now(),
        )
        self._folder = assignment.folder
        self._run_id = assignment.run_id
        self._clock: Clock = clock
        self._journal = Journal(assignment.folder, identity, clock)
        self._drain = NodeDrain.of_this_process()
        self._leaving = False
        self._changed = threading.Condition()
        self._in_hand = 0
        self._executor: Executor | None = None
        self._ledger = StoreCalls(
            clock, time.sleep, lambda: self._executor is not None and self._executor.is_over, assignment.patience_s
        )
        # Before models and signal processing are loaded: that time is paid for too, also where it ends in a kill.
        self._write_journal()
        threading.Thread(target=self._beat, name="beat", daemon=True).start()
        # Not above: the driver imports this file and renders nothing.
        from orchestrion.rendering.executor import Executor
        from orchestrion.rendering.policy import catalog_policy
        from orchestrion.rendering.renderer import build_renderer

        renderer = build_renderer(
            config,
            Pool.BATCH,
            RayRecorder(cast("RayMetrics", ray.util.metrics)),
            node_id=here.node_id,
            prices=assignment.prices.table,
        )
        executor = Executor(
            renderer,
            catalog_policy(config.slots, _mastering_threads(node, config.threads)),
            clock,
            checkpoints=PartialPieces(assignment.folder.objects, assignment.folder.job_id, renderer.signer),
            sleep=time.sleep,
            patience_s=assignment.patience_s,
            probe=renderer.store.probe,
            refused_elsewhere=lambda: self._ledger.refused,
        )
        executor.start()
        self._worker = ShardWorker(
            assignment.folder, assignment.prices, renderer, executor, self._journal, self._ledger, clock, time.sleep
        )
        self._executor = executor
        threading.Thread(target=self._note_attempts, name="noting", daemon=True).start()

    def __call__(self, block: pa.Table) -> pa.Table:
        """One row of `worker.SUMMARY_SCHEMA` about the shard in this block."""
        self._wait_for_the_end_if_leaving()
        with self._counted():
            summary = self._worker.take(block)
        self._write_journal()
        if summary["state"][0].as_py() == LEFT:
            self._wait_for_the_end_if_leaving()
        return summary

    # ---- the beat ----------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        written_s = self._clock.monotonic_s()
        while True:
            time.sleep(LOOK_S)
            deadline = self._drain.deadline()
            if deadline is not None:
                left_s = (deadline - self._clock.now()).total_seconds()
                self._leave(min(max(0.0, left_s - RESERVE_S), LEAVE_WITHIN_S))
            if self._executor is not None and self._executor.is_stuck:
                self._give_up(self._executor.policy.stall_s)
            if self._clock.monotonic_s() - written_s >= BEAT_S:
                self._write_journal()
                self._stop_if_asked()
                written_s = self._clock.monotonic_s()

    def _note_attempts(self) -> None:
        """Write the journal whenever an attempt begins: what dies before the next beat leaves a trace."""
        while True:
            self._journal.wait_for_news()
            began_s = self._clock.monotonic_s()
            self._write_journal()
            time.sleep((self._clock.monotonic_s() - began_s) * (1.0 / NOTING_SHARE - 1.0))

    def _write_journal(self, left: bool = False) -> None:
        try:
            self._ledger.writing.try_once(
                "journal",
                lambda: self._journal.write(left, is_ready=self._executor is not None, waiting=self._waiting()),
                size=NOTE,
            )
        except Exception:
            # Also an unforeseen error: without its beat a process counts as dead.
            logger.warning("the journal could not be written", exc_info=True)

    def _waiting(self) -> str | None:
        store = None if self._executor is None else self._executor.store_away
        if store is not None:
            return is_away("store", self._clock.now(), store)
        ledger = self._ledger.away
        return None if ledger is None else is_away("ledger", self._clock.now(), ledger)

    def _stop_if_asked(self) -> None:
        try:
            if self._executor is not None and self._folder.is_stopped(self._run_id):
                self._executor.stop(STOP_WITHIN_S)
        except Exception:
            logger.warning("whether the run is to stop could not be read", exc_info=True)

    # ---- going away --------------------------------------------------------------------------------------------

    def _leave(self, within_s: float) -> NoReturn:
        """Finish or keep what is in progress, write the journal, and end before the node does."""
        logger.warning("the node is being taken away; %.1f s to finish what is in progress", within_s)
        ends_s = self._clock.monotonic_s() + within_s
        self._leaving = True
        if self._executor is not None:
            self._executor.stop(within_s)
        with self._changed:
            self._changed.wait_for(lambda: not self._in_hand, max(0.0, ends_s - self._clock.monotonic_s()) + RESERVE_S)
        self._write_journal(left=True)
        os._exit(0)

    def _give_up(self, stall_s: float) -> NoReturn:
        """End a process whose model hangs: Ray starts another one and gives it the shards of this one."""
        logger.error("nothing has moved for %.0f s; this process ends itself", stall_s)
        self._write_journal()
        os._exit(1)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._changed:
            self._in_hand += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_hand -= 1
                self._changed.notify_all()

    def _wait_for_the_end_if_leaving(self) -> None:
        if self._leaving:
            threading.Event().wait()


def _up_from(now: datetime, run_began_at: datetime) -> datetime:
    """Since when this process is there for the run: since it was created, unless Ray had it ready before the run."""
    created_at = process_began_at(now)
    return created_at if created_at >= run_began_at else now


def _mastering_threads(node: Node, threads: int) -> int:
    """None where the model needs the one core that the process has; beside a GPU, or with more cores, one for each."""
    return threads if node.device == "gpu" or threads > 1 else 0
