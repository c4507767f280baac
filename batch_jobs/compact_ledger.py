"""Make a ledger's many small files few: `python -m batch_jobs.compact_ledger --ledger out/catalog`.

Each settlement of a job adds files to each day and model that it touched. This joins those of one day and model, in one
commit, gives files of older releases the columns and the place that files have today, and deletes what no longer
counts. Jobs may go on committing meanwhile, and a reader of an older manifest finds the old files for a day.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa

from batch_jobs.housekeeping import sweep
from batch_jobs.ledger.ledger import ABANDONED_AFTER, MAX_ROWS_PER_FILE, Ledger, tables_without_schema
from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.ledger.snapshot import TABLES, Change, LedgerFile, Snapshot
from orchestrion.cli.arguments import add_storage_options
from orchestrion.clock import Clock, SystemClock
from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable
from orchestrion.storage.object_store import Objects

EXIT_UNUSABLE = 2
EXIT_INFRASTRUCTURE = 3


@dataclass(frozen=True, slots=True)
class Compaction:
    """What was done."""

    files_before: int
    files_after: int
    #: Replaced and abandoned files that are gone now.
    deleted: int


def files_to_join(snapshot: Snapshot) -> dict[tuple[str, str, str | None], tuple[LedgerFile, ...]]:
    """The files to write anew, by table, day and model: several that are not full, and all of older layouts."""
    found: dict[tuple[str, str, str | None], list[LedgerFile]] = defaultdict(list)
    for table, files in snapshot.tables.items():
        for file in files:
            if file.rows < MAX_ROWS_PER_FILE or file.is_of_hive:
                found[table, file.day, file.model].append(file)
    return {
        partition: tuple(files)
        for partition, files in found.items()
        if len(files) > 1 or any(file.is_of_hive for file in files)
    }


def compact(ledger: Ledger, keep: timedelta = ABANDONED_AFTER) -> Compaction:
    """Join the small files of each day and model, in one commit, and sweep. Files of older layouts get today's.

    Args:
        ledger: which.
        keep: how long replaced files stay for readers of an older manifest.

    Raises:
        StoreUnavailable: the folder or bucket did not answer, or a file is damaged.
    """
    #: What is written already, by the files that it replaces: a commit that came between may have left most as it was.
    joined: dict[tuple[LedgerFile, ...], list[LedgerFile]] = {}

    def build(newest: Snapshot) -> Change | None:
        added: dict[str, list[LedgerFile]] = defaultdict(list)
        removed: list[str] = []
        for (table, _, _), files in files_to_join(newest).items():
            if files not in joined:
                joined[files] = _join(ledger, table, files)
            added[table] += joined[files]
            removed += [file.path for file in files]
        # A commit brings each table the schema of this release, also where no file is to be joined.
        return Change(added=added, removed=removed) if removed or tables_without_schema(newest) else None

    before = _count(ledger.snapshot().tables)
    after = _count(ledger.commit(build).tables)
    return Compaction(before, after, len(ledger.sweep(keep)))


def _join(ledger: Ledger, table: str, files: Sequence[LedgerFile]) -> list[LedgerFile]:
    return [written for rows in _full_tables(ledger, table, files) for written in ledger.write(table, rows)]


def _full_tables(ledger: Ledger, table: str, files: Sequence[LedgerFile]) -> Iterator[pa.Table]:
    """The rows of the files, a full file's worth at a time, whatever their number."""
    waiting = TABLES[table].schema.empty_table()
    for file in files:
        waiting = pa.concat_tables([waiting, ledger.read(table, file)])
        if waiting.num_rows >= MAX_ROWS_PER_FILE:
            yield waiting.slice(0, MAX_ROWS_PER_FILE)
            waiting = waiting.slice(MAX_ROWS_PER_FILE)
    if waiting.num_rows:
        yield waiting


def _count(tables: Mapping[str, Sequence[LedgerFile]]) -> int:
    return sum(map(len, tables.values()))


def main(argv: Sequence[str] | None = None, clock: Clock | None = None) -> int:
    """Run the command: 0 when the ledger is compact, 2 when there is none, 3 when it does not answer."""
    parser = argparse.ArgumentParser(
        prog="python -m batch_jobs.compact_ledger", description="Join a ledger's small files and delete old ones."
    )
    parser.add_argument("--ledger", required=True, help="the --out of render_catalog; a folder or fsspec URL")
    parser.add_argument(
        "--keep-hours",
        type=_hours,
        default=ABANDONED_AFTER,
        help="how long replaced files stay for those that still read them (default: 24)",
    )
    add_storage_options(parser)
    arguments = parser.parse_args(argv)
    try:
        # Not to make a folder where the name is mistyped.
        read_snapshot(arguments.ledger, arguments.storage_options)
        ledger = Ledger(Objects(arguments.ledger, arguments.storage_options), clock or SystemClock())
        done = compact(ledger, arguments.keep_hours)
        swept = sweep(ledger)
    except (NotFound, InvalidRequest) as error:
        sys.stderr.write(f"compact_ledger: {error}\n")
        return EXIT_UNUSABLE
    except StoreUnavailable as error:
        sys.stderr.write(f"compact_ledger: {error}\nRun the same command again.\n")
        return EXIT_INFRASTRUCTURE
    deleted = done.deleted + swept.unfinished + swept.of_jobs
    sys.stdout.write(f"{done.files_before} files → {done.files_after}; {deleted} old files deleted\n")
    return 0


def _hours(text: str) -> timedelta:
    if not float(text) >= 0.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours of 0 or more")
    return timedelta(hours=float(text))


if __name__ == "__main__":
    sys.exit(main())
