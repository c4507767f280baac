"""What is left of a job that has been complete for days: less than it took to render it.

Shards stay, for their names are what makes the same command find nothing to do. Rounds, limits and what the workers
said of themselves stay as well: a later run counts by them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import timedelta
from typing import Final

from batch_jobs.job_store.job_folder import JobFolder
from batch_jobs.shared_folder import LINE, RUN_ID, SHARD, TRACK_ID, WORKER_ID


def _path(*words: re.Pattern[str], suffix: str = "") -> re.Pattern[str]:
    return re.compile("/".join(word.pattern for word in words) + re.escape(suffix), re.ASCII)


_WORKERS: Final = "workers"
#: What is deleted, by the folder that it lies in; what has another name there is somebody else's.
_NOT_NEEDED: Final = {
    _WORKERS: _path(WORKER_ID, suffix=".json"),
    "claims": _path(SHARD, WORKER_ID, suffix=".json"),
    "alone": _path(SHARD, LINE, WORKER_ID),
    "partials": _path(TRACK_ID),
    "ended": _path(RUN_ID),
}


def tidy(folder: JobFolder, settled: Collection[str], kept: timedelta) -> int:
    """Delete what only those needed who rendered a complete job, and put the journals of its workers in one object.

    Nothing is done where anything of it is younger than `kept`, or a worker is not settled: somebody may be at work.

    Args:
        folder: of a job that is complete.
        settled: the workers that its settlements have counted.
        kept: how long everything stays, by the store's clock.

    Returns:
        How many objects are gone.

    Raises:
        StoreUnavailable: the folder or bucket did not answer.
    """
    root = f"jobs/{folder.job_id}"
    ages = {key: age for name in _NOT_NEEDED for key, age in folder.objects.ages(f"{root}/{name}").items()}
    if not ages or min(ages.values()) < kept.total_seconds():
        return 0
    journals = folder.journals()
    ids = {each.worker_id for each in journals}
    if ids - set(settled) or not folder.put_journals_in_one(journals):
        return 0
    gone = 0
    for key in ages:
        kind, _, name = key.removeprefix(f"{root}/").partition("/")
        is_kept = kind == _WORKERS and name.removesuffix(".json") not in ids
        if _NOT_NEEDED[kind].fullmatch(name) and not is_kept:
            folder.objects.delete(key)
            gone += 1
    return gone
