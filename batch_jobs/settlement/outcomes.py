"""How a catalog row ends: as a row of `tracks` or a row of `failures`, both of the schemas in `tables`.

A track's row is its record, field for field, after the columns that belong to this job and this catalog. `cost_usd` is
what the track cost when it was made, by any job; `charged_usd` is what this job paid for it. Sums of money are sums of
`charged_usd`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from batch_jobs.catalog.rows import RefusedRow
from batch_jobs.job_store.job_folder import AttemptRecord, WorkerJournal
from batch_jobs.ledger.record_rows import to_row
from batch_jobs.ledger.tables import SHARD_SCHEMA
from batch_jobs.settlement.prices import JobPrices
from orchestrion.errors import InvalidRequest
from orchestrion.tracks.outcome import Failure, Track
from orchestrion.tracks.request import TrackRequest

#: An error of a library may quote its whole input.
MAX_MESSAGE_CHARACTERS: Final = 4000


@dataclass(frozen=True, slots=True)
class RowContext:
    """Which row of which job an outcome belongs to."""

    job_id: str
    #: Of the command that comes to the outcome.
    run_id: str
    line: int
    row_id: str | None
    title: str | None
    #: Columns of the catalog's own.
    kept: Mapping[str, str] = field(default_factory=dict)

    def columns(self) -> dict[str, Any]:
        """As every row of `tracks` and `failures` begins."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {
            "kept": list(self.kept.items()) or None
        }


def track_row(
    at: RowContext, request: TrackRequest, track: Track, paid: bool, attempts: int, now: datetime
) -> dict[str, Any]:
    """A row of `tracks`. `paid`: it was this row that had the track rendered.

    Another caller who had it made before, in this job or elsewhere, is not told of.
    """
    is_own = track.record.is_of(request.requester, request.purpose.value)
    return (
        at.columns()
        | to_row(track.record if is_own else track.record.without_caller())
        | {
            "settled_at": now,
            "attempts": attempts,
            "requested_by": request.requester,
            "cache_hit": not paid,
            "charged_usd": track.record.cost_usd if paid else 0.0,
            # Known at settlement.
            "waste_usd": None,
            "idle_usd": None,
            "total_usd": None,
        }
    )


def failure_row(
    at: RowContext, request: TrackRequest | None, failure: Failure, attempts: int, now: datetime
) -> dict[str, Any]:
    """A row of `failures`; `request` is None when the row is no valid request."""
    return at.columns() | {
        "settled_at": now,
        "attempts": attempts,
        "requested_by": request.requester if request else None,
        "model": request.composition.model if request else None,
        "style": request.composition.style if request else None,
        "track_id": failure.track_id,
        "reason": failure.code,
        "stage": failure.stage,
        "message": _writable(failure.message),
        "transient": failure.retryable,
        "findings": [asdict(finding) for finding in failure.findings],
    }


def _writable(message: str) -> str:
    """A message as a column takes it, whatever it says: UTF-8, and of bounded length."""
    return message[:MAX_MESSAGE_CHARACTERS].encode("utf-8", "backslashreplace").decode()


def refused_row(job_id: str, run_id: str, row: RefusedRow, now: datetime) -> dict[str, Any]:
    """A row of `failures` for a catalog row that is no valid request."""
    failure = Failure(InvalidRequest.code, row.message, "catalog")
    asked = {"requested_by": row.requester, "model": row.model, "style": row.style}
    at = RowContext(job_id, run_id, row.line, row.row_id, row.title, row.kept)
    return failure_row(at, None, failure, 0, now) | asked


def attempt_row(attempt: AttemptRecord, job_id: str, worker: WorkerJournal, prices: JobPrices) -> dict[str, Any]:
    """A row of `attempts`: an attempt and the worker that made it."""
    node = prices.of(worker.node)
    return asdict(attempt) | {
        "job_id": job_id,
        "run_id": worker.run_id,
        "worker_id": worker.worker_id,
        "node_id": node.node_id,
        "node_type": node.node_type,
        "market": node.market,
        "cost_usd": attempt.device_seconds * node.usd_per_device_second,
    }


def shard_table(tracks_and_failures: list[dict[str, Any]], attempts: list[dict[str, Any]]) -> pa.Table:
    """Rows of the three kinds as one table of `SHARD_SCHEMA`."""
    wrapped = [{"failure": row} if "stage" in row else {"track": row} for row in tracks_and_failures]
    wrapped += [{"attempt": row} for row in attempts]
    return pa.Table.from_pylist(wrapped, schema=SHARD_SCHEMA)
