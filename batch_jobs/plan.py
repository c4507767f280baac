"""What a job has to render: the catalog's good rows in a scratch file, grouped so that equal requests meet.

Rows that ask for the same audio go into one block, and so to one process, which renders the first and answers the
others from it. A scratch SQLite file, not a dict: a catalog of a million rows must not live in the driver's memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import groupby
from types import TracebackType
from typing import Final, Self

import pyarrow as pa

from batch_jobs.catalog import CatalogRow
from orchestrion.request import track_id

#: One row of work. `spec` is the wire form, as JSON: what a process needs to render it wherever it runs.
WORK_SCHEMA: Final = pa.schema(
    [("line", pa.int64()), ("row_id", pa.string()), ("title", pa.string()), ("spec", pa.string())]
)

_TABLE = """
CREATE TABLE work (
    line INTEGER PRIMARY KEY, row_id TEXT, title TEXT, spec TEXT NOT NULL,
    content TEXT NOT NULL, first_line INTEGER NOT NULL, settled INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX by_content ON work (content);
CREATE INDEX by_group ON work (first_line, line);
"""


class Plan:
    """The rows still to do. Close it to delete the scratch file."""

    def __init__(self) -> None:
        # The name '' is SQLite's own: a temporary file that is gone when the connection is closed, however it ends.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript("PRAGMA journal_mode = OFF;" + _TABLE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    def add(self, row: CatalogRow) -> None:
        """Put a row into the plan."""
        # The model's revision is not known here, but it is the same for every row of a model in one job.
        content = track_id(row.request, model_revision="", recipe_version="")
        found = self._database.execute("SELECT first_line FROM work WHERE content = ? LIMIT 1", (content,)).fetchone()
        spec = row.spec.model_dump_json(exclude_defaults=True)
        self._database.execute(
            "INSERT INTO work (line, row_id, title, spec, content, first_line) VALUES (?, ?, ?, ?, ?, ?)",
            (row.line, row.row_id, row.title, spec, content, found[0] if found else row.line),
        )

    def open_rows(self) -> int:
        """Rows that have no outcome yet."""
        count: int = self._database.execute("SELECT count(*) FROM work WHERE NOT settled").fetchone()[0]
        return count

    def blocks(self, requests_per_block: int) -> Iterator[pa.Table]:
        """The rows that have no outcome yet, in the catalog's order, all rows of one request in the same block."""
        rows = self._database.execute(
            "SELECT first_line, line, row_id, title, spec FROM work WHERE NOT settled ORDER BY first_line, line"
        )
        block: list[tuple[object, ...]] = []
        requests = 0
        for _, same in groupby(rows, key=lambda row: row[0]):
            block += [row[1:] for row in same]
            requests += 1
            if requests == requests_per_block:
                yield _work_table(block)
                block, requests = [], 0
        if block:
            yield _work_table(block)

    def settle(self, lines: Iterable[int]) -> list[int]:
        """Note that these lines have their outcome. Returns those that did not have one before."""
        # Ray may run a block twice (a node that was lost answers late); only the first answer counts.
        return [
            line
            for line in lines
            if self._database.execute("UPDATE work SET settled = 1 WHERE line = ? AND NOT settled", (line,)).rowcount
        ]


def _work_table(rows: list[tuple[object, ...]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(WORK_SCHEMA.names, row, strict=True)) for row in rows], schema=WORK_SCHEMA)
