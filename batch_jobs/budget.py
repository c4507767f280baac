"""What makes a run stop before its catalog is done: a signal, or a job that has cost what it may.

The cost is read from the workers' journals, not from what they have rendered: a worker that waits, loads or dies costs
as much as one that renders.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from batch_jobs.job_store.job_folder import JobFolder

logger = logging.getLogger(__name__)

STOPPED_AT_MAX_COST: Final = "max-cost"
#: How often the journals are read for what the job has cost.
LOOK_S: Final = 5.0


@dataclass(slots=True)
class Stop:
    """Whether a run is to end before its work does, and why. Any thread may ask or say."""

    #: None: go on.
    reason: str | None = None
    signal_number: int | None = None

    def by_signal(self, number: int) -> None:
        """A signal came."""
        self.signal_number = number
        self.reason = signal.Signals(number).name

    def at_max_cost(self) -> None:
        """The job has cost what it may."""
        self.reason = self.reason or STOPPED_AT_MAX_COST


@contextmanager
def watch(
    stop: Stop, folder: JobFolder, run_id: str, max_cost_usd: float | None, spent_usd: Callable[[], float]
) -> Iterator[None]:
    """While entered, tell the run's workers when it is to stop, and stop it when the job has cost too much.

    Args:
        stop: what the workers are told of, and what is told that the money is spent.
        folder: of the job.
        run_id: the run.
        max_cost_usd: what the job may cost; None for any sum.
        spent_usd: what it has cost so far.
    """
    over = threading.Event()

    def look() -> None:
        looked = 0
        while not over.wait(1.0):
            looked += 1
            try:
                if max_cost_usd is not None and looked % round(LOOK_S) == 0:
                    spent = spent_usd()
                    if spent >= max_cost_usd:
                        logger.warning("the job has cost %.6f of %.6f USD; it stops", spent, max_cost_usd)
                        stop.at_max_cost()
                if stop.reason is not None:
                    folder.stop(run_id, stop.reason)
                    return
            except Exception:
                # Also an unforeseen error: a run that is not watched is not stopped.
                logger.warning("the run cannot be watched just now; trying again", exc_info=True)

    thread = threading.Thread(target=look, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
