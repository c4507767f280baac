"""The driver's own machine in the bill, where it has started Ray on it: from the command's start to its end."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from batch_jobs.job_store.job_folder import BEAT_S, DRIVER_PREFIX, JobFolder, WorkerJournal, WorkerNode
from batch_jobs.rendering.journal import Journal
from batch_jobs.rendering.preemption import node_of_this_process
from orchestrion.clock import Clock
from orchestrion.resilience.store_retry import NOTE, StoreRetry

logger = logging.getLogger(__name__)


@contextmanager
def driver_journal(
    folder: JobFolder, run_id: str, node_type: str, market: str, up_from: datetime, clock: Clock, ledger: StoreRetry
) -> Iterator[None]:
    """While entered, note every few seconds that this machine is up for the run. It has no device to itself.

    Args:
        folder: of the job.
        run_id: the run.
        node_type: row of the price table of this machine.
        market: how it was bought.
        up_from: since when it is up for this run.
        clock: the time.
        ledger: is told whether the ledger takes the notes.
    """
    identity = WorkerJournal(
        worker_id=f"{DRIVER_PREFIX}{uuid.uuid4().hex[:12]}",
        run_id=run_id,
        node=WorkerNode(node_of_this_process().node_id, node_type, market),
        reserved_devices=0.0,
        up_from=up_from,
        seen_at=clock.now(),
    )
    journal = Journal(folder, identity, clock)
    over = threading.Event()

    def write(left: bool = False) -> None:
        try:
            ledger.try_once("the driver's journal", lambda: journal.write(left), size=NOTE)
        except Exception:
            # A beat that is missed shortens the bill by seconds, and ends no run.
            logger.warning("the driver's journal could not be written", exc_info=True)

    def beat() -> None:
        while not over.wait(BEAT_S):
            write()

    write()
    thread = threading.Thread(target=beat, name="driver journal", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        write(left=True)
