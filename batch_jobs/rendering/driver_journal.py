"""The driver's own machine in the bill, where it starts Ray on it: from the command's first moment to its last.

The journal is begun before Ray is started, and kept while the run is settled. A driver that is killed is outlived by
its guardian, which writes down when the last process of the run was gone (this file, as a command).
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from batch_jobs.job_store.job_folder import BEAT_S, DRIVER_PREFIX, JobFolder, WorkerJournal, WorkerNode
from batch_jobs.rendering.journal import Journal
from batch_jobs.rendering.machine import machine_id
from cluster.guardian import Guardian, Will
from orchestrion.clock import Clock
from orchestrion.resilience.store_retry import NOTE, StoreRetry
from orchestrion.storage.object_store import Objects

logger = logging.getLogger(__name__)


@contextmanager
def driver_journal(
    folder: JobFolder, run_id: str, node_type: str, market: str, up_from: datetime, clock: Clock, ledger: StoreRetry
) -> Iterator[Guardian]:
    """While entered, note every few seconds that this machine is up for the run. It has no device to itself.

    Args:
        folder: of the job.
        run_id: the run.
        node_type: row of the price table of this machine.
        market: how it was bought.
        up_from: since when it is up for this run.
        clock: the time.
        ledger: is told whether the ledger takes the notes.

    Yields:
        The guardian of the Ray that is started meanwhile. It ends the journal if this process cannot.
    """
    machine = machine_id()
    identity = WorkerJournal(
        worker_id=f"{DRIVER_PREFIX}{uuid.uuid4().hex[:12]}",
        run_id=run_id,
        # Ray has no name for the machine yet.
        node=WorkerNode(machine, node_type, market, machine),
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
    guardian = Guardian(_will(folder, identity))
    thread = threading.Thread(target=beat, name="driver journal", daemon=True)
    thread.start()
    try:
        yield guardian
    finally:
        over.set()
        thread.join()
        write(left=True)
        guardian.dismiss()


def _will(folder: JobFolder, journal: WorkerJournal) -> Will:
    secret = {
        "url": folder.objects.url,
        "storage_options": dict(folder.objects.storage_options),
        "job_id": folder.job_id,
        "run_id": journal.run_id,
        "worker_id": journal.worker_id,
    }
    return Will(["-m", "batch_jobs.rendering.driver_journal"], json.dumps(secret, default=str))


def end_journal(of: dict[str, Any], moment: datetime) -> None:
    """End the journal of a driver that was killed, and say that no worker of its run is left.

    Args:
        of: url, storage_options, job_id, run_id and worker_id.
        moment: when its last process was gone.
    """
    folder = JobFolder(Objects(of["url"], of["storage_options"]), of["job_id"])
    journal = folder.journal(of["worker_id"])
    if journal is not None and not journal.left:
        folder.write_journal(replace(journal, seen_at=max(journal.seen_at, moment), left=True))
    folder.end_run(of["run_id"])


if __name__ == "__main__":
    end_journal(json.load(sys.stdin), datetime.fromisoformat(sys.argv[1]))
