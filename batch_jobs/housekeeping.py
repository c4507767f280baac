"""What nobody needs any more goes: unfinished files of writers that died, and what rendering a settled job took.

Only names that this project gives are deleted, and only what is old by the clock of the place it lies in: neither what
a living run writes, nor what others put there.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from batch_jobs.job_store.job_folder import JobFolder
from batch_jobs.job_store.tidying import tidy
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.settlement.settlement import settled_workers
from orchestrion.errors import StoreUnavailable
from orchestrion.storage.object_store import Objects
from orchestrion.trust.signing_keys import private_keys_in

logger = logging.getLogger(__name__)

#: A file takes seconds to write: one that is unfinished after so long will stay so.
UNFINISHED_KEPT: Final = timedelta(days=1)
#: How long all that rendering a job took stays, once the job is complete: for questions about how it went.
JOBS_KEPT: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Swept:
    """What is gone."""

    unfinished: int
    #: Objects of complete jobs: claims, journals that are in one object now, parts of pieces.
    of_jobs: int


def sweep_unfinished(*places: Objects) -> int:
    """Delete the unfinished files of dead writers in each of these places, each once; returns how many.

    Raises:
        StoreUnavailable: a folder or bucket did not answer.
    """
    by_url = {each.url: each for each in places}
    return sum(len(each.sweep_unfinished(UNFINISHED_KEPT)) for each in by_url.values())


def sweep_after_a_job(ledger: Ledger, store: Objects) -> None:
    """What a run sweeps whose job is complete: files of the ledger that do not count, and unfinished ones."""
    try:
        ledger.sweep()
        sweep_unfinished(ledger.objects, store)
    except StoreUnavailable as error:
        # The job is done and settled; the next one sweeps.
        logger.warning("what is old could not be swept: %s", error)


def sweep(ledger: Ledger) -> Swept:
    """Sweep a ledger's folder, the stores in it, and the folders of its complete jobs; warn of keys that lie there.

    Raises:
        InvalidRequest: the record of a settlement is damaged.
        StoreUnavailable: the folder or bucket did not answer.
    """
    objects, jobs = ledger.objects, ledger.snapshot().jobs
    for path in private_keys_in(objects.url):
        logger.warning("%s is a private key, and a ledger is handed on to others: move it", path)
    unfinished = len(objects.sweep_unfinished(UNFINISHED_KEPT))
    # Of a store that is elsewhere, its own runs take care.
    for store in {job.store for job in jobs.values() if not job.store.startswith("/") and "://" not in job.store}:
        unfinished += len(objects.sweep_unfinished(UNFINISHED_KEPT, below=store))
    gone = 0
    for job_id, job in jobs.items():
        if job.state == "complete":
            gone += tidy(JobFolder(objects, job_id), settled_workers(objects, job.closings), JOBS_KEPT)
    return Swept(unfinished, gone)
