"""Which tracks of a ledger are exported, and in which store each of them is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as ds

from batch_jobs.export.names import Row
from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.ledger.snapshot import Snapshot
from orchestrion.errors import InvalidRequest, NotFound
from orchestrion.tracks.identity import is_track_id
from orchestrion.tracks.request import AudioFormat

#: What every export needs of a row, beside what its names are made of.
_COLUMNS: Final = frozenset(
    {"job_id", "line", "row_id", "title", "settled_at", "requested_by", "track_id", "format", "kept"}
    | {"audio_sha256", "midi_sha256"}
)
_FORMATS: Final = frozenset(AudioFormat)


def selected_rows(
    ledger_url: str,
    storage_options: Mapping[str, Any],
    snapshot: Snapshot,
    columns: Iterable[str],
    job_id: str | None = None,
    limit: int | None = None,
) -> list[Row]:
    """The rows to export, in order of jobs and lines.

    A track that several jobs have is exported as the job has it that settled it last: another title replaces the
    earlier one.

    Args:
        ledger_url: the `--out` of render_catalog.
        storage_options: for fsspec.
        snapshot: the state of the ledger.
        columns: of rows, beside those that every export needs.
        job_id: only of this job.
        limit: only so many rows, the first.

    Raises:
        NotFound: there is no such job.
        InvalidRequest: a row's track id or format is none.
        StoreUnavailable: the bucket does not answer.
    """
    if job_id is not None and job_id not in snapshot.jobs:
        raise NotFound(
            f"there is no job {job_id!r} in {ledger_url}; it has {', '.join(sorted(snapshot.jobs)) or 'none'}"
        )
    wanted = None if job_id is None else ds.field("job_id") == job_id
    tracks = ledger_dataset(ledger_url, storage_options, "tracks", snapshot)
    rows: list[Row] = []
    try:
        for batch in tracks.scanner(columns=sorted(_COLUMNS.union(columns)), filter=wanted).to_batches():
            rows += batch.to_pylist()
    except pa.ArrowException as error:
        raise InvalidRequest.of("ledger", ledger_url, f"has a file that cannot be read: {error}") from error
    for row in rows:
        if not is_track_id(row["track_id"]) or row["format"] not in _FORMATS:
            where = f"{row['job_id']}, line {row['line']}"
            raise InvalidRequest.of("ledger", where, "has a track id or a format that is none: it is damaged")
    newest: dict[str, tuple[Any, str]] = {}
    for row in rows:
        settled = (row["settled_at"], row["job_id"])
        newest[row["track_id"]] = max(newest.get(row["track_id"], settled), settled)
    rows = [row for row in rows if newest[row["track_id"]][1] == row["job_id"]]
    rows.sort(key=lambda row: (row["job_id"], row["line"]))
    return rows[:limit]
