"""The ledger of catalog jobs: Parquet files, and numbered manifests that say which of them count.

    <out>/tracks/2026-11-22/part-<moment>-<hash>.parquet   rows of one day (and model), with both as columns
    <out>/tracks/schema-5/part-<moment>-<hash>.parquet     no rows, all columns: an empty table is one, too
    <out>/failures/…  attempts/…  nodes/…
    <out>/manifests/00000007.json   the seventh state of all four tables: created once, never changed
    <out>/manifest.json             a copy of the newest, for recipes that want one name

A commit is the creation of the next manifest: one object, one winner. What lies in a folder is not the table: files
that a dead writer left, and files that newer ones replaced, lie there too for a while. Readers take the files that one
manifest names (`ledger_dataset`), and so see all of a commit, in every table, or none of it.

Others may write the folder, too. A manifest counts if it is one in every field and names nothing but what this program
writes, below the ledger's own folder; any other is skipped, and commits go around its number.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePosixPath
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from batch_jobs.ledger.dataset import by_partition, conformed, ledger_dataset
from batch_jobs.ledger.manifests import (
    COMMIT_TRIES,
    MANIFESTS_KEPT,
    MAX_MANIFEST_BYTES,
    Manifests,
    manifest_key,
    numbers,
)
from batch_jobs.ledger.snapshot import (
    LAST_NUMBER,
    TABLES,
    Change,
    LedgerFile,
    SchemaFile,
    Snapshot,
    forgetting,
    is_table_file,
)
from batch_jobs.ledger.tables import LEDGER_SCHEMA_VERSION
from batch_jobs.shared_folder import PART, SharedFolder
from orchestrion.clock import Clock
from orchestrion.errors import StoreUnavailable, VerificationFailed
from orchestrion.storage.object_store import Objects

logger = logging.getLogger(__name__)
#: A file of a track's rows is then some 20 MB: few to open, and still one that a laptop holds in memory.
MAX_ROWS_PER_FILE: Final = 50_000
#: What is read when one row of a file is wanted.
ROWS_PER_ROW_GROUP: Final = 8_192
#: A file that no manifest names belongs to the dead after this time. Files older than half of it are not committed.
ABANDONED_AFTER: Final = timedelta(hours=24)
_MOMENT_IN_NAME: Final = "%Y%m%dT%H%M%SZ"


class Ledger:
    """Writes a ledger. Any number of writers, anywhere; each commit is all there or not at all."""

    def __init__(self, objects: Objects, clock: Clock) -> None:
        #: Everything below the ledger's address.
        self.objects = objects
        self._clock = clock
        shared = SharedFolder(objects)
        self._manifests = Manifests(
            lambda: objects.keys("manifests"), lambda key: objects.read(key, MAX_MANIFEST_BYTES), shared.skip
        )

    def snapshot(self) -> Snapshot:
        """The newest state."""
        return self._manifests.newest()[0]

    def commit(self, build: Callable[[Snapshot], Change | None]) -> Snapshot:
        """Make a change to all tables at once.

        Args:
            build: makes the change from the newest state. It is asked again when another writer was faster, and it must
                then find for itself whether what it wanted is done already: None if there is nothing to do.

        Returns:
            The state after the change, or the newest state if there was none.

        Raises:
            StoreUnavailable: the folder or bucket did not take it, or others were always faster.
        """
        schemas: dict[str, SchemaFile] = {}
        for _ in range(COMMIT_TRIES):
            newest, taken = self._manifests.newest()
            change = build(newest)
            if change is None:
                if newest.number > 0:
                    # Perhaps it was this commit that won, only the answer was lost, or the copy was never made.
                    self._point_to(*self._manifests.newest())
                return newest
            now = self._clock.now()
            self._refuse_what_may_be_swept(change, now)
            wanted = tables_without_schema(newest)
            for name in wanted:
                if name not in schemas:
                    schemas[name] = self._write_schema(name)
            change = replace(change, schemas={name: schemas[name] for name in wanted})
            following = newest.after(change, now, _next_free(newest.number, taken))
            data = following.to_bytes()
            if len(data) > MAX_MANIFEST_BYTES:
                raise StoreUnavailable(f"the manifest of {self.objects.url} would be too long; compact the ledger")
            # What we would skip ourselves is not written: a number that it took would be gone.
            Snapshot.from_bytes(data)
            if not self.objects.create(manifest_key(following.number), data):
                continue
            standing, taken = self._manifests.newest()
            if not 0 <= standing.number - following.number < MANIFESTS_KEPT:
                # So many commits came meanwhile that the number may have been taken, and its manifest deleted since.
                self.objects.delete(manifest_key(following.number))
                continue
            self._point_to(standing, taken)
            for number in taken:
                if number <= following.number - MANIFESTS_KEPT:
                    self.objects.delete(manifest_key(number))
            return following
        raise StoreUnavailable(
            f"the ledger {self.objects.url} was committed to by others {COMMIT_TRIES} times while this commit waited; "
            "run the same command again"
        )

    def write(self, table: str, rows: pa.Table) -> list[LedgerFile]:
        """Write rows into files of their partitions. They count when a commit names them.

        Args:
            table: tracks, failures, attempts or nodes.
            rows: in the table's schema; a column that an older release did not have may be missing.
        """
        layout = TABLES[table]
        rows = conformed(rows, layout.schema)
        written: list[LedgerFile] = []
        for day, model, some in by_partition(rows, layout):
            ordered = some.sort_by([(name, "ascending") for name in layout.sorted_by])
            parts = (ordered.slice(at, MAX_ROWS_PER_FILE) for at in range(0, ordered.num_rows, MAX_ROWS_PER_FILE))
            written += [self._write_file(table, day, model, part) for part in parts]
        return written

    def read(self, table: str, file: LedgerFile) -> pa.Table:
        """All rows of one file, in the newest schema."""
        try:
            data = self.objects.read(file.path, file.bytes)
        except VerificationFailed as error:
            raise StoreUnavailable(f"{file.path} in {self.objects.url} is damaged: {error}") from None
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise StoreUnavailable(f"{file.path} in {self.objects.url} is damaged: its SHA-256 is not the manifest's")
        # Not `read_table`: given a path-like name, it would add the partition's columns from there.
        rows = pq.ParquetFile(io.BytesIO(data)).read()
        if file.model is not None and "model" not in rows.schema.names:
            rows = rows.append_column("model", pa.array([file.model] * rows.num_rows, pa.string()))
        return conformed(rows, TABLES[table].schema)

    def dataset(self, table: str) -> ds.Dataset:
        """The newest state of one table, without rows before the first commit; see `ledger_dataset`."""
        return ledger_dataset(self.objects.url, self.objects.storage_options, table, self.snapshot())

    def sweep(self, keep: timedelta = ABANDONED_AFTER) -> list[str]:
        """Delete files that no longer count.

        Args:
            keep: how long a replaced file stays for readers of an older manifest. What a dead writer left stays
                `ABANDONED_AFTER` in any case: a living one may be about to commit it.

        Returns:
            The deleted paths.
        """
        now = self._clock.now()
        snapshot = self.snapshot()
        named = {file.path for files in snapshot.tables.values() for file in files}
        named.update(file.path for file in snapshot.schemas.values())
        replaced = {each.path: datetime.fromisoformat(each.at) for each in snapshot.replaced}
        over = [path for path, at in replaced.items() if now - at >= keep]
        lying = {key for name in TABLES for key in self.objects.keys(name) if is_table_file(key)}
        abandoned = [
            key
            for key in lying - named - replaced.keys()
            if (moment := _moment(key)) is not None and now - moment >= ABANDONED_AFTER
        ]
        deleted = sorted((lying & {*over, *abandoned}) - named)
        for key in deleted:
            self.objects.delete(key)
        if over:
            self.commit(lambda newest: forgetting(newest, over))
        return deleted

    def _write_file(self, table: str, day: str, model: str | None, rows: pa.Table) -> LedgerFile:
        job_ids = pc.unique(rows["job_id"]).to_pylist()
        field = TABLES[table].file_schema.field("day")
        days = pa.repeat(pa.scalar(date.fromisoformat(day), field.type), rows.num_rows)
        # Not a folder named `day=…`: readers would take the values from it, or from another one above the ledger.
        path, size, sha256 = self._create(f"{table}/{day}", rows.append_column(field, days))
        job_id = job_ids[0] if len(job_ids) == 1 else None
        return LedgerFile(path, rows.num_rows, size, sha256, job_id, day, model)

    def _write_schema(self, table: str) -> SchemaFile:
        rows = TABLES[table].file_schema.empty_table()
        return SchemaFile(*self._create(f"{table}/schema-{LEDGER_SCHEMA_VERSION}", rows))

    def _create(self, folder: str, rows: pa.Table) -> tuple[str, int, str]:
        """Write a file; its path, bytes and hash."""
        buffer = pa.BufferOutputStream()
        pq.write_table(rows, buffer, compression="zstd", row_group_size=ROWS_PER_ROW_GROUP, write_statistics=True)
        data = buffer.getvalue().to_pybytes()
        sha256 = hashlib.sha256(data).hexdigest()
        path = f"{folder}/part-{self._clock.now().strftime(_MOMENT_IN_NAME)}-{sha256[:32]}.parquet"
        # A name that is taken holds these very bytes.
        self.objects.create(path, data)
        return path, len(data), sha256

    def _refuse_what_may_be_swept(self, change: Change, now: datetime) -> None:
        for files in change.added.values():
            for file in files:
                moment = _moment(file.path)
                if moment is not None and now - moment > ABANDONED_AFTER / 2:
                    raise StoreUnavailable(
                        f"{file.path} was written at {moment} and is only now committed, so it may be deleted as "
                        "abandoned; run the same command again"
                    )

    def _point_to(self, newest: Snapshot, taken: set[int]) -> None:
        """Copy the newest manifest to manifest.json; copies again if it is not the newest any more."""
        for _ in range(COMMIT_TRIES):
            self.objects.replace("manifest.json", newest.to_bytes())
            if not numbers(self.objects.keys("manifests")) - taken:
                return
            newest, taken = self._manifests.newest()


def tables_without_schema(snapshot: Snapshot) -> list[str]:
    """The tables that have no schema yet, or that of an older release. A newer one stays: it has more columns."""
    known = {name: file.schema_version for name, file in snapshot.schemas.items()}
    return [name for name in TABLES if known.get(name, 0) < LEDGER_SCHEMA_VERSION]


def _next_free(newest: int, taken: set[int]) -> int:
    """The next number that is not taken: not even by what is no manifest, which stays where it is."""
    number = newest + 1
    while number in taken:
        number += 1
    if number > LAST_NUMBER:
        raise StoreUnavailable("no number is left for another manifest; look at what lies in manifests/")
    return number


def _moment(path: str) -> datetime | None:
    """When a file of ours was written, by its name; None for a name that is not ours."""
    name = PART.fullmatch(PurePosixPath(path).name)
    return datetime.strptime(name["moment"], _MOMENT_IN_NAME).replace(tzinfo=UTC) if name else None
