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
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa

from batch_jobs.catalog.rows import CatalogRow, RefusedRow
from batch_jobs.planning.estimate import Work
from orchestrion.tracks.identity import track_id

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

_TABLES = """
CREATE TABLE work (
    line INTEGER PRIMARY KEY, row_id TEXT, title TEXT, spec TEXT NOT NULL, model TEXT NOT NULL,
    duration_s REAL NOT NULL, length INTEGER NOT NULL, content BLOB NOT NULL, first_line INTEGER NOT NULL, kept TEXT
);
CREATE INDEX by_content ON work (content);
CREATE INDEX by_shard ON work (model, length DESC, first_line, line);
CREATE TABLE refused (
    line INTEGER PRIMARY KEY, row_id TEXT, title TEXT, message TEXT NOT NULL, requester TEXT, model TEXT, style TEXT,
    kept TEXT
);
CREATE TABLE row_ids (row_id TEXT PRIMARY KEY, line INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE again (line INTEGER PRIMARY KEY);
CREATE TABLE committed (shard TEXT PRIMARY KEY) WITHOUT ROWID;
"""


def kept_of(column: str | None) -> dict[str, str]:
    """What the column `kept` says."""
    return json.loads(column) if column else {}


def _as_json(kept: Mapping[str, str]) -> str | None:
    return json.dumps(dict(kept), separators=(",", ":")) if kept else None


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows that one process renders and commits together. `rows` are of `WORK_SCHEMA`'s columns without `shard`."""

    name: str
    model: str
    #: Different tracks, and the audio in them.
    requests: int
    audio_s: float
    rows: tuple[dict[str, Any], ...]

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
        # Two megabytes of page cache: the file is read in order.
        self._database.executescript("PRAGMA journal_mode = OFF; PRAGMA cache_size = -2000;" + _TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    # Rows come in

    def add(self, row: CatalogRow) -> None:
        """Put a row into the plan."""
        # The model's revision is not known here, but it is the same for every row of a model in one job.
        content = hashlib.sha256(track_id(row.request, model_revision="", recipe_version="").encode()).digest()[:16]
        found = self._database.execute("SELECT first_line FROM work WHERE content = ? LIMIT 1", (content,)).fetchone()
        self._database.execute(
            "INSERT INTO work VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.line,
                row.row_id,
                row.title,
                row.spec.model_dump_json(exclude_defaults=True),
                row.request.composition.model,
                row.request.composition.duration_s,
                bisect_left(LENGTHS_S, row.request.composition.duration_s),
                content,
                found[0] if found else row.line,
                _as_json(row.kept),
            ),
        )

    def refuse(self, row: RefusedRow) -> None:
        """Put a row into the plan that can only fail."""
        asked = (row.requester, row.model, row.style, _as_json(row.kept))
        values = (row.line, row.row_id, row.title, row.message, *asked)
        self._database.execute("INSERT INTO refused VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def first_line_of(self, row_id: str, line: int) -> int:
        """The line that this id was seen in first, which is `line` if it is new."""
        self._database.execute("INSERT OR IGNORE INTO row_ids VALUES (?, ?)", (row_id, line))
        first: int = self._database.execute("SELECT line FROM row_ids WHERE row_id = ?", (row_id,)).fetchone()[0]
        return first

    def begin_round(self, number: int, lines: Iterable[int]) -> None:
        """From now on the plan is about these lines only, in shards of round `number`."""
        self.round_number = number
        self._database.execute("DELETE FROM again")
        self._database.executemany("INSERT OR IGNORE INTO again VALUES (?)", ((line,) for line in lines))
        for table in ("work", "refused"):
            self._database.execute(f"DELETE FROM {table} WHERE line NOT IN (SELECT line FROM again)")  # noqa: S608
        self._database.execute(
            "UPDATE work SET first_line = (SELECT min(line) FROM work AS same WHERE same.content = work.content)"
        )

    def note_committed(self, shards: Iterable[str]) -> None:
        """These shards are done, now or in an earlier run."""
        self._database.executemany("INSERT OR IGNORE INTO committed VALUES (?)", ((shard,) for shard in shards))

    # What is known of them

    @property
    def rows(self) -> int:
        """All rows, good and bad."""
        return self.refused + int(self._database.execute("SELECT count(*) FROM work").fetchone()[0])

    @property
    def refused(self) -> int:
        """Rows that can only fail."""
        return int(self._database.execute("SELECT count(*) FROM refused").fetchone()[0])

    @property
    def requests(self) -> int:
        """Different tracks among the rows."""
        return int(self._database.execute("SELECT count(*) FROM work WHERE line = first_line").fetchone()[0])

    def open_work(self) -> list[Work]:
        """What there is to render in the shards that are not done, by model."""
        tracks: Counter[str] = Counter()
        audio_s: dict[str, float] = {}
        for shard in self.open_shards():
            tracks[shard.model] += shard.requests
            audio_s[shard.model] = audio_s.get(shard.model, 0.0) + shard.audio_s
        return [Work(model, tracks[model], audio_s[model]) for model in sorted(tracks)]

    # Shards go out

    def open_shards(self) -> Iterator[Shard]:
        """The shards that are not done, in order. They may be noted as done meanwhile."""
        return (shard for shard in self._shards() if not self._is_committed(shard.name))

    def open_refused(self) -> Iterator[RefusedShard]:
        """The same, of rows that can only fail."""
        read = self._database.execute("SELECT * FROM refused ORDER BY line")
        while rows := tuple(RefusedRow(*(*row[:-1], kept_of(row[-1]))) for row in read.fetchmany(SHARD_ROWS)):
            name = self._name([[row.line, row.row_id, row.title, row.message] for row in rows])
            if not self._is_committed(name):
                yield RefusedShard(name, rows)

    def _shards(self) -> Iterator[Shard]:
        read = self._database.execute(
            "SELECT model, first_line, line, row_id, title, spec, kept, duration_s FROM work "
            "ORDER BY model, length DESC, first_line, line"
        )
        left = dict(self._database.execute("SELECT model, count(*) FROM work WHERE line = first_line GROUP BY model"))
        for model, of_model in groupby(read, key=lambda row: row[0]):
            rows: list[dict[str, Any]] = []
            requests, audio_s = 0, 0.0
            most = self._most_requests(left[model])
            for _, same in groupby(of_model, key=lambda row: row[1]):
                for number, (*_, line, row_id, title, spec, kept, duration_s) in enumerate(same):
                    is_new = number == 0
                    is_full = requests == most or audio_s + duration_s > SHARD_AUDIO_S
                    if rows and ((is_new and is_full) or len(rows) == SHARD_ROWS):
                        yield self._shard(model, requests, audio_s, rows)
                        left[model] -= requests
                        most = self._most_requests(left[model])
                        rows, requests, audio_s = [], 0, 0.0
                    rows.append({"line": line, "row_id": row_id, "title": title, "spec": spec, "kept": kept})
                    requests += is_new
                    audio_s += duration_s * is_new
            yield self._shard(model, requests, audio_s, rows)

    def _most_requests(self, left: int) -> int:
        """Different tracks in the next shard, when so many are left of its model."""
        return max(self.requests_in_the_last, min(self.requests_per_shard, left // TAIL_SHARDS))

    def _shard(self, model: str, requests: int, audio_s: float, rows: list[dict[str, Any]]) -> Shard:
        # What is kept is no part of the name: the job's own name says which columns, and the catalog's hash the rest.
        content = [[row["line"], row["row_id"], row["title"], row["spec"]] for row in rows]
        return Shard(self._name(content), model, requests, audio_s, tuple(rows))

    def _name(self, content: list[list[Any]]) -> str:
        """The round and a hash of what is in the rows: the same catalog gives the same names, on any machine."""
        digest = hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
        return f"{self.round_number:02d}-{digest[:24]}"

    def _is_committed(self, shard: str) -> bool:
        found = self._database.execute("SELECT 1 FROM committed WHERE shard = ?", (shard,)).fetchone()
        return found is not None
