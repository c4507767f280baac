"""How a catalog row ends: as a row of `tracks` or a row of `failures`. The two schemas of the ledger are declared here.

A track's row is its record, field for field, after the columns that belong to this job and this catalog. The
surprising thing: `cost_usd` is what the track cost whenever it was made, `charged_usd` what this job paid for it, so
sums of money are sums of `charged_usd`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from batch_jobs.catalog import RefusedRow
from orchestrion.errors import REASONS, InvalidRequest
from orchestrion.provenance import RECORD_SCHEMA, to_row
from orchestrion.render import Failure, Track
from orchestrion.request import TrackRequest


def _field(name: str, kind: pa.DataType, description: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable, {"description": description})


_ROW_FIELDS: Final = (
    _field("job_id", pa.string(), "The job that this row is from."),
    _field("line", pa.int64(), "Line of the catalog, from 1 (in Parquet: row)."),
    _field("row_id", pa.string(), "The catalog's own id of the row, as given.", nullable=True),
    _field("title", pa.string(), "The catalog's own title of the row, as given.", nullable=True),
    _field("settled_at", pa.timestamp("us", tz="UTC"), "When this job knew the row's outcome; its day is `day`."),
    _field("attempts", pa.int64(), "Tries that this job made; 0 for a row that could not be read."),
)
TRACKS_SCHEMA: Final = pa.schema(
    [
        *_ROW_FIELDS,
        _field("requested_by", pa.string(), "Requester of this row (`requester` is who first had the track made)."),
        _field("cache_hit", pa.bool_(), "The track was there already, or another row of this job rendered it."),
        _field("charged_usd", pa.float64(), "What this job paid: `cost_usd` if it rendered the track, else 0."),
        *RECORD_SCHEMA,
    ]
)
FAILURES_SCHEMA: Final = pa.schema(
    [
        *_ROW_FIELDS,
        _field("requested_by", pa.string(), "Requester of this row; null if it could not be read.", nullable=True),
        _field("model", pa.string(), "Model asked for; null if the row could not be read.", nullable=True),
        _field("style", pa.string(), "Style asked for or read from the prompt.", nullable=True),
        _field("track_id", pa.string(), "The id that the track would have had, where it was known.", nullable=True),
        _field("reason", pa.string(), "One of " + ", ".join(REASONS.values()) + "."),
        _field(
            "stage", pa.string(), "Where it failed: catalog, request, generate, finish, check, encode, store, worker."
        ),
        _field("message", pa.string(), "What is wrong and how to mend it."),
        _field("transient", pa.bool_(), "The same row may succeed when the job is run again."),
        pa.field("findings", RECORD_SCHEMA.field("findings").type, nullable=False),
    ]
)
#: What a render process hands back, one row per catalog row: exactly one of the two columns is not null.
OUTCOMES_SCHEMA: Final = pa.schema(
    [
        ("track", pa.struct([field.with_nullable(True) for field in TRACKS_SCHEMA])),
        ("failure", pa.struct([field.with_nullable(True) for field in FAILURES_SCHEMA])),
    ]
)


@dataclass(frozen=True, slots=True)
class RowContext:
    """Which row of which job an outcome belongs to."""

    job_id: str
    line: int
    row_id: str | None
    title: str | None


def track_row(
    at: RowContext, request: TrackRequest, track: Track, paid: bool, attempts: int, now: datetime
) -> dict[str, Any]:
    """A row of `tracks`. `paid`: it was this row that had the track rendered."""
    return (
        asdict(at)
        | to_row(track.record)
        | {
            "settled_at": now,
            "attempts": attempts,
            "requested_by": request.requester,
            "cache_hit": not paid,
            "charged_usd": track.record.cost_usd if paid else 0.0,
        }
    )


def failure_row(
    at: RowContext, request: TrackRequest | None, failure: Failure, attempts: int, now: datetime
) -> dict[str, Any]:
    """A row of `failures`; `request` is None when the row is no valid request."""
    return asdict(at) | {
        "settled_at": now,
        "attempts": attempts,
        "requested_by": request.requester if request else None,
        "model": request.model if request else None,
        "style": request.style if request else None,
        "track_id": failure.track_id,
        "reason": failure.reason,
        "stage": failure.stage,
        "message": failure.message,
        "transient": failure.transient,
        "findings": [asdict(finding) for finding in failure.findings],
    }


def refused_row(job_id: str, row: RefusedRow, now: datetime) -> dict[str, Any]:
    """A row of `failures` for a catalog row that is no valid request."""
    failure = Failure(None, REASONS[InvalidRequest], "catalog", row.message, transient=False)
    return failure_row(RowContext(job_id, row.line, row.row_id, row.title), None, failure, 0, now)


def outcomes_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows of both kinds as one table."""
    wrapped = [{"failure": row} if "reason" in row else {"track": row} for row in rows]
    return pa.Table.from_pylist(wrapped, schema=OUTCOMES_SCHEMA)


def split(outcomes: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows of `tracks` and the rows of `failures` in a table of outcomes."""
    return _column(outcomes, "track", TRACKS_SCHEMA), _column(outcomes, "failure", FAILURES_SCHEMA)


def _column(outcomes: pa.Table, name: str, schema: pa.Schema) -> pa.Table:
    present = outcomes.column(name).drop_null().combine_chunks()
    if len(present) == 0:
        return schema.empty_table()
    structs = present if isinstance(present, pa.StructArray) else present.chunk(0)
    return pa.Table.from_arrays(structs.flatten(), schema=schema)
