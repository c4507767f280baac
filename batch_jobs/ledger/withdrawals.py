"""Which tracks of a ledger are withdrawn, marked in its rows.

Rows are never edited: files that have withdrawn tracks are written anew with the mark, and replace the others in one
commit, as when a ledger is compacted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa
import pyarrow.dataset as ds

from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.snapshot import Change, LedgerFile, Snapshot

#: A track of a job: job id and track id. Jobs may have different stores.
JobTrack = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a tombstone says of a track."""

    withdrawn_at: datetime
    reason: str


def mark_withdrawn(ledger: Ledger, marks_of: Callable[[Snapshot, set[JobTrack]], Mapping[JobTrack, Mark]]) -> int:
    """Write into the rows of withdrawn tracks when and why they were.

    Args:
        ledger: which.
        marks_of: of these tracks of this state, those that are withdrawn.

    Returns:
        How many rows were marked; those that are marked already stay as they are.

    Raises:
        StoreUnavailable: the folder or bucket did not answer, or a file is damaged.
    """
    #: What is written already, by the file that it replaces: a commit that came between leaves most files as they were.
    written: dict[LedgerFile, list[LedgerFile]] = {}
    marked: dict[LedgerFile, int] = {}

    def build(newest: Snapshot) -> Change | None:
        unmarked = {file: _unmarked(ledger, newest, file) for file in newest.tables["tracks"]}
        marks = marks_of(newest, set().union(*unmarked.values()))
        wanted = [file for file, tracks in unmarked.items() if not tracks.isdisjoint(marks)]
        for file in wanted:
            if file not in written:
                rows, marked[file] = _with_marks(ledger.read("tracks", file), marks)
                written[file] = ledger.write("tracks", rows)
        for file in marked.keys() - wanted:
            del marked[file]
        added = {"tracks": [new for file in wanted for new in written[file]]}
        return Change(added=added, removed=[file.path for file in wanted]) if wanted else None

    ledger.commit(build)
    return sum(marked.values())


def _unmarked(ledger: Ledger, snapshot: Snapshot, file: LedgerFile) -> set[JobTrack]:
    """The tracks of a file that are not marked."""
    one = replace(snapshot, tables={**snapshot.tables, "tracks": (file,)})
    objects = ledger.objects
    rows = ledger_dataset(objects.url, objects.storage_options, "tracks", one).to_table(
        columns=["job_id", "track_id"], filter=ds.field("withdrawn_at").is_null()
    )
    return set(zip(rows["job_id"].to_pylist(), rows["track_id"].to_pylist(), strict=True))


def _with_marks(rows: pa.Table, marks: Mapping[JobTrack, Mark]) -> tuple[pa.Table, int]:
    """The rows with their marks, and how many are new."""
    tracks = list(zip(rows["job_id"].to_pylist(), rows["track_id"].to_pylist(), strict=True))
    before = list(zip(rows["withdrawn_at"].to_pylist(), rows["withdrawn_reason"].to_pylist(), strict=True))
    new = [marks.get(track) if at is None else None for track, (at, _) in zip(tracks, before, strict=True)]
    after = [was if mark is None else (mark.withdrawn_at, mark.reason) for was, mark in zip(before, new, strict=True)]
    for name, values in zip(("withdrawn_at", "withdrawn_reason"), zip(*after, strict=True), strict=True):
        at = rows.schema.get_field_index(name)
        column = rows.schema.field(at)
        rows = rows.set_column(at, column, pa.array(values, column.type))
    return rows, sum(mark is not None for mark in new)
