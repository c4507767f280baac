"""What a job has to render: the catalog's rows in a scratch file, cut into shards that are named by their content.

Rows of one model and of about one length stand together, the longest first: neighbours in a batch end at about the same
time, and no long row is left for the end. Rows that ask for the same audio go into one shard, and so to one process,
which renders the first and answers the others from it. A scratch SQLite file, not a dict: a catalog of a million rows
must not live in the driver's memory.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa

from batch_jobs.catalog.rows import RefusedRow, placed, repeated_id
from batch_jobs.planning.planned_rows import PlannedRow, texts_of

#: One row of work. `spec` is the wire form, as JSON: what a process needs to render it wherever it runs.
WORK_SCHEMA: Final = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("row_id", pa.string()),
        pa.field("title", pa.string()),
        pa.field("spec", pa.string(), nullable=False),
        #: A JSON object of the columns that are kept; null where there is none.
        pa.field("kept", pa.string()),
    ]
)
#: Upper bounds of the lengths that stand together, in seconds; each about twice the one before.
LENGTHS_S: Final = (4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 240.0, 600.0)
#: A shard of long pieces is closed sooner, so that no shard takes hours.
SHARD_AUDIO_S: Final = 1200.0
#: Towards the end of a model's rows shards become smaller: so many are left when they begin to, and no worker is left
#: with a whole one while the others have none (guided self-scheduling: Polychronopoulos and Kuck, 1987).
TAIL_SHARDS: Final = 16
#: Rows that ask for the same audio cost next to nothing, but their outcomes are held together in memory.
SHARD_ROWS: Final = 1000

#: `planned` has the fields of a `PlannedRow`. What is sorted is written down once, and what is asked of shards is asked
#: of `shards`: a million rows are gone through once for each way of cutting them.
_TABLES: Final = """
CREATE TABLE planned (
    line INTEGER PRIMARY KEY, place TEXT, row_id TEXT, title TEXT, takes_id INTEGER NOT NULL, message TEXT,
    requester TEXT, model TEXT, style TEXT, spec TEXT, duration_s REAL, content BLOB, files TEXT,
    kept TEXT
);
CREATE INDEX refused ON planned (line) WHERE message IS NOT NULL;
CREATE INDEX with_files ON planned (line) WHERE files IS NOT NULL;
CREATE TABLE repeated (line INTEGER PRIMARY KEY, first_line INTEGER NOT NULL);
CREATE TABLE again (line INTEGER PRIMARY KEY);
CREATE TABLE in_order (
    position INTEGER PRIMARY KEY, model TEXT NOT NULL, line INTEGER NOT NULL, first_line INTEGER NOT NULL
);
CREATE TABLE shards (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, rows INTEGER NOT NULL, start INTEGER NOT NULL,
    model TEXT, requests INTEGER, audio_s REAL -- null in shards of rows that can only fail
);
CREATE TABLE committed (shard TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE settled (line INTEGER PRIMARY KEY);
CREATE VIEW open_shards AS SELECT * FROM shards WHERE NOT EXISTS (SELECT 1 FROM committed WHERE shard = name);
"""
_ADD: Final = "INSERT OR REPLACE INTO planned VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_REPEATED: Final = """
INSERT INTO repeated
SELECT line, first_line
FROM (SELECT line, min(line) OVER (PARTITION BY row_id) AS first_line FROM planned WHERE takes_id)
WHERE line > first_line
"""
#: How many of `LENGTHS_S` a row is longer than.
_LENGTH: Final = " + ".join(f"(duration_s > {length_s})" for length_s in LENGTHS_S)
_IN_ORDER: Final = f"""
INSERT INTO in_order (model, line, first_line)
SELECT model, line, first_line
FROM (
    SELECT model, line, min(line) OVER (PARTITION BY content) AS first_line, {_LENGTH} AS length
    FROM planned WHERE spec IS NOT NULL
)
ORDER BY model, length DESC, first_line, line
"""  # noqa: S608  (of constants)
#: In the order of `in_order`; CROSS JOIN has SQLite look each line up instead of sorting again.
_WORK: Final = """
SELECT {columns} FROM in_order CROSS JOIN planned ON planned.line = in_order.line {where} ORDER BY position
"""
_REFUSED: Final = """
SELECT line, row_id, title, message, requester, model, style, kept FROM planned INDEXED BY refused
WHERE message IS NOT NULL AND line >= ? ORDER BY line LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows that one process renders and commits together. `rows` are of `WORK_SCHEMA`'s columns without `shard`."""

    name: str
    model: str
    #: Different tracks, and the audio in them.
    requests: int
    audio_s: float
    rows: tuple[dict[str, Any], ...]
    #: The first row of each track.
    to_render: tuple[dict[str, Any], ...]

    def block(self) -> pa.Table:
        """The shard as it travels: one table of `WORK_SCHEMA`."""
        return pa.Table.from_pylist([{"shard": self.name, **row} for row in self.rows], schema=WORK_SCHEMA)


@dataclass(frozen=True, slots=True)
class RefusedShard:
    """Rows that cannot be rendered, to be committed as failures."""

    name: str
    rows: tuple[RefusedRow, ...]


class Plan:
    """The rows of a job. Close it to delete the scratch file."""

    def __init__(self) -> None:
        #: Different tracks in a shard, at most. With another number, other shards.
        self.requests_per_shard = 1
        #: The same of the last ones.
        self.requests_in_the_last = 1
        #: Each round after the first repeats what failed, in shards of other names.
        self.round_number = 1
        # The name '' is SQLite's own: a temporary file that is gone when the connection is closed, however it ends.
        self._database = sqlite3.connect("", isolation_level=None)
        # SQLite's own two megabytes of page cache do: the file is read in order, and a larger one is no faster.
        self._database.executescript("PRAGMA journal_mode = OFF;" + _TABLES)
        self._is_in_order = True
        #: Round and sizes that `shards` is of; None if rows have changed since.
        self._cut_for: tuple[int, int, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    # Rows come in

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Put rows into the plan, each the values of a `PlannedRow`."""
        with self._changing_rows():
            self._database.executemany(_ADD, rows)

    def refuse_repeated_ids(self, sample: float) -> None:
        """When all rows are there: a row whose id another one had before can only fail; of a sample it is no part."""
        with self._changing_rows():
            self._database.execute(_REPEATED)
            read = self._database.execute(
                "SELECT row_id, place, line, first_line FROM repeated CROSS JOIN planned USING (line) ORDER BY line"
            )
            wrong = ((placed(str(repeated_id(row_id, first)), place), line) for row_id, place, line, first in read)
            self._database.executemany(
                "UPDATE planned SET message = ?, spec = NULL, files = NULL WHERE line = ?",
                ((message if sample == 1.0 else None, line) for message, line in wrong),
            )

    def rows_with_files(self) -> Iterator[PlannedRow]:
        """The rows that name files, in order. They may be replaced meanwhile."""
        line = 0
        while found := self._database.execute(
            "SELECT * FROM planned INDEXED BY with_files WHERE files IS NOT NULL AND line > ? ORDER BY line LIMIT ?",
            (line, SHARD_ROWS),
        ).fetchall():
            yield from map(PlannedRow._make, found)
            line = found[-1][0]

    def replace(self, row: PlannedRow) -> None:
        """Put a row in the place of what there is of its line."""
        with self._changing_rows():
            self._database.execute(_ADD, row)

    def begin_round(self, number: int, lines: Iterable[int]) -> None:
        """From now on the plan is about these lines only, in shards of round `number`."""
        self.round_number = number
        with self._changing_rows():
            self._database.execute("DELETE FROM again")
            self._database.execute("DELETE FROM settled")
            self._database.executemany("INSERT OR IGNORE INTO again VALUES (?)", ((line,) for line in lines))
            self._database.execute("DELETE FROM planned WHERE line NOT IN (SELECT line FROM again)")

    def note_committed(self, shards: Iterable[str]) -> None:
        """These shards are done, now or in an earlier run."""
        with self._transaction():
            self._database.executemany("INSERT OR IGNORE INTO committed VALUES (?)", ((shard,) for shard in shards))

    def note_settled(self, lines: Iterable[int]) -> None:
        """These lines have an outcome in this round, whatever the shard that it is in is called."""
        with self._transaction():
            self._database.executemany("INSERT OR IGNORE INTO settled VALUES (?)", ((line,) for line in lines))

    @contextmanager
    def _changing_rows(self) -> Iterator[None]:
        self._is_in_order, self._cut_for = False, None
        with self._transaction():
            yield

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN")
        try:
            yield
        finally:
            self._database.execute("COMMIT")

    # What is known of them

    @property
    def rows(self) -> int:
        """All rows, good and bad."""
        return int(self._figure("SELECT count(*) FROM planned WHERE spec IS NOT NULL OR message IS NOT NULL"))

    @property
    def refused(self) -> int:
        """Rows that can only fail."""
        return int(self._figure("SELECT count(*) FROM planned INDEXED BY refused WHERE message IS NOT NULL"))

    @property
    def requests(self) -> int:
        """Different tracks among the rows."""
        self._put_in_order()
        return int(self._figure("SELECT count(*) FROM in_order WHERE line = first_line"))

    @property
    def open_rows(self) -> int:
        """Rows that have no outcome yet, good and bad."""
        self._cut()
        good = int(self._figure("SELECT total(rows) FROM open_shards WHERE model IS NOT NULL"))
        return good + sum(len(shard.rows) for shard in self.open_refused())

    def refused_rows(self) -> Iterator[RefusedRow]:
        """The rows that can only fail, in order."""
        line = 0
        while found := self._database.execute(_REFUSED, (line, SHARD_ROWS)).fetchall():
            yield from map(_refused_row, found)
            line = found[-1][0] + 1

    def rows_of_other_models(self, models: Collection[str]) -> Iterator[tuple[int, str | None, str | None, str]]:
        """The rows of all models but these: line, id, title and spec (as JSON), in order."""
        read = self._database.execute(
            "SELECT line, row_id, title, spec FROM planned "
            "WHERE spec IS NOT NULL AND model NOT IN (SELECT value FROM json_each(?)) ORDER BY line",
            (json.dumps(list(models)),),
        )
        return iter(read)

    def _figure(self, query: str) -> float:
        value: float = self._database.execute(query).fetchone()[0]
        return value

    # Shards go out

    def open_shards(self) -> Iterator[Shard]:
        """The shards that are not done, in order. They may be noted as done meanwhile."""
        columns = ("line", "row_id", "title", "spec", "kept")
        query = _WORK.format(
            columns="first_line, " + ", ".join(f"planned.{name}" for name in columns),
            where="WHERE position BETWEEN ? AND ?",
        )
        for name, rows, start, model, requests, audio_s in self._open(is_refused=False):
            found = self._database.execute(query, (start, start + rows - 1)).fetchall()
            shard = tuple(dict(zip(columns, row, strict=True)) for _, *row in found)
            to_render = tuple(
                row for (first_line, *_), row in zip(found, shard, strict=True) if row["line"] == first_line
            )
            yield Shard(name, model, requests, audio_s, shard, to_render)

    def open_refused(self) -> Iterator[RefusedShard]:
        """The same, of rows that can only fail."""
        for name, rows, start, *_ in self._open(is_refused=True):
            found = [_refused_row(row) for row in self._database.execute(_REFUSED, (start, rows)).fetchall()]
            if open_rows := self._not_settled(found):
                yield RefusedShard(name, open_rows)

    def _not_settled(self, rows: Sequence[RefusedRow]) -> tuple[RefusedRow, ...]:
        query = "SELECT line FROM settled WHERE line BETWEEN ? AND ?"
        settled = {line for (line,) in self._database.execute(query, (rows[0].line, rows[-1].line))}
        return tuple(row for row in rows if row.line not in settled)

    def _open(self, is_refused: bool) -> Iterator[tuple[Any, ...]]:
        """The shards of a kind that are not done at the moment at which each is looked for."""
        self._cut()
        query = (
            "SELECT number, name, rows, start, model, requests, audio_s FROM open_shards "
            "WHERE number > ? AND (model IS NULL) = ? ORDER BY number LIMIT 1"
        )
        number = 0
        while found := self._database.execute(query, (number, is_refused)).fetchone():
            number, *shard = found
            yield tuple(shard)

    def _put_in_order(self) -> None:
        if not self._is_in_order:
            with self._transaction():
                self._database.execute("DELETE FROM in_order")
                self._database.execute(_IN_ORDER)
            self._is_in_order = True

    def _cut(self) -> None:
        """Have `shards` hold the shards of the rows as they are, in the sizes that are wanted."""
        wanted = (self.round_number, self.requests_per_shard, self.requests_in_the_last)
        if self._cut_for == wanted:
            return
        self._put_in_order()
        add = "INSERT INTO shards (name, rows, start, model, requests, audio_s) VALUES (?, ?, ?, ?, ?, ?)"
        with self._transaction():
            self._database.execute("DELETE FROM shards")
            self._database.executemany(add, self._shards())
            self._database.executemany(add, self._refused_shards())
        self._cut_for = wanted

    def _shards(self) -> Iterator[tuple[str, int, int, str, int, float]]:
        # What is kept is no part of a name: the job's own name says which columns, and the catalog's hash the rest.
        columns = "in_order.model, first_line, duration_s, planned.line, row_id, title, spec"
        read = self._database.execute(_WORK.format(columns=columns, where=""))
        left = dict(self._database.execute("SELECT model, count(*) FROM in_order WHERE line = first_line GROUP BY 1"))
        start = 1
        for model, of_model in groupby(read, key=itemgetter(0)):
            rows: list[Sequence[Any]] = []
            requests, audio_s, same = 0, 0.0, None
            most = self._most_requests(left[model])
            for _, first_line, duration_s, *row in of_model:
                is_new, same = first_line != same, first_line
                is_full = requests == most or audio_s + duration_s > SHARD_AUDIO_S
                if rows and ((is_new and is_full) or len(rows) == SHARD_ROWS):
                    yield self._name(rows), len(rows), start, model, requests, audio_s
                    start += len(rows)
                    left[model] -= requests
                    most = self._most_requests(left[model])
                    rows, requests, audio_s = [], 0, 0.0
                rows.append(row)
                requests += is_new
                audio_s += duration_s * is_new
            yield self._name(rows), len(rows), start, model, requests, audio_s
            start += len(rows)

    def _refused_shards(self) -> Iterator[tuple[str, int, int, None, None, None]]:
        start = 0
        while rows := self._database.execute(_REFUSED, (start, SHARD_ROWS)).fetchall():
            # By their lines: what is said of a row may differ from release to release.
            yield self._name([row[0] for row in rows]), len(rows), rows[0][0], None, None, None
            start = rows[-1][0] + 1

    def _most_requests(self, left: int) -> int:
        """Different tracks in the next shard, when so many are left of its model."""
        return max(self.requests_in_the_last, min(self.requests_per_shard, left // TAIL_SHARDS))

    def _name(self, content: Sequence[Any]) -> str:
        """The round and a hash of what is in the rows: the same catalog gives the same names, on any machine."""
        digest = hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
        return f"{self.round_number:02d}-{digest[:24]}"


def _refused_row(row: Sequence[Any]) -> RefusedRow:
    """Of the columns that `_REFUSED` asks for."""
    return RefusedRow(*(*row[:-1], texts_of(row[-1])))
