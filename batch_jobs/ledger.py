"""The ledger of catalog jobs: Parquet files that are whole or not there, and a manifest that is written last.

    <out>/tracks/day=2026-11-22/model=composer/part-<hash>.parquet
    <out>/failures/day=2026-11-22/part-<hash>.parquet
    <out>/jobs/<job id>.json        the manifest of each job
    <out>/manifest.json             the manifest of the last job

Jobs only ever add files, named by what is in them; nobody rewrites a file that a reader may have open. The surprising
thing: rows become visible while the job runs, a part at a time, so a job that is killed has still said what it spent.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from batch_jobs.outcomes import split
from orchestrion.clock import Clock
from orchestrion.errors import StoreUnavailable

MANIFEST_VERSION: Final = 1
#: A part is written when so many rows wait, or the oldest has waited so long: what a killed job can lose.
ROWS_PER_PART: Final = 1000
SECONDS_PER_PART: Final = 30.0


@dataclass(frozen=True, slots=True)
class LedgerFile:
    """One committed Parquet file, by its path below the ledger's folder."""

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(slots=True)
class Totals:
    """Sums over the rows of one job."""

    tracks: int = 0
    failures: int = 0
    cache_hits: int = 0
    #: What this job paid: the sum of `charged_usd`.
    cost_usd: float = 0.0
    #: What the cache hits would have cost: the sum of their records' `cost_usd`.
    saved_usd: float = 0.0
    audio_s: float = 0.0

    def add(self, tracks: pa.Table, failures: pa.Table) -> None:
        """Count rows in."""
        hits = tracks.filter(tracks["cache_hit"])
        self.tracks += tracks.num_rows
        self.failures += failures.num_rows
        self.cache_hits += hits.num_rows
        self.cost_usd += pc.sum(tracks["charged_usd"]).as_py() or 0.0
        self.saved_usd += pc.sum(hits["cost_usd"]).as_py() or 0.0
        self.audio_s += pc.sum(tracks["duration_s"]).as_py() or 0.0


class Ledger:
    """Takes the outcomes of one job and commits them in parts. One writer per job; jobs may share a folder."""

    def __init__(self, url: str, storage_options: Mapping[str, Any], clock: Clock) -> None:
        self._fs, self._root = fsspec.url_to_fs(url, **storage_options)
        self._clock = clock
        self._waiting: list[pa.Table] = []
        self._waiting_since_s = 0.0
        self.files: list[LedgerFile] = []
        self.totals = Totals()

    def add(self, outcomes: pa.Table) -> None:
        """Take rows of `OUTCOMES_SCHEMA`; commits a part when it is time."""
        if not self._waiting:
            self._waiting_since_s = self._clock.monotonic_s()
        self._waiting.append(outcomes)
        self.totals.add(*split(outcomes))
        rows = sum(table.num_rows for table in self._waiting)
        if rows >= ROWS_PER_PART or self._clock.monotonic_s() - self._waiting_since_s >= SECONDS_PER_PART:
            self.commit()

    def commit(self) -> None:
        """Make every row taken so far visible.

        Raises:
            StoreUnavailable: the folder or bucket did not take a part.
        """
        if not self._waiting:
            return
        tracks, failures = split(pa.concat_tables(self._waiting))
        for partition, rows in _by_partition(tracks, ("day", "model")):
            # Hive's way: what the folder's name says is not in the file; pyarrow refuses a column that is in both.
            self._write(f"tracks/{partition}", rows.drop_columns(["model"]))
        for partition, rows in _by_partition(failures, ("day",)):
            self._write(f"failures/{partition}", rows)
        self._waiting.clear()

    def close(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Commit what waits and write the manifest: `job`'s fields, the totals and the files."""
        self.commit()
        manifest = {
            "manifest_version": MANIFEST_VERSION,
            **job,
            "totals": asdict(self.totals),
            "files": [asdict(file) for file in self.files],
        }
        data = json.dumps(manifest, indent=2, allow_nan=False).encode()
        self._put(f"jobs/{job['job_id']}.json", data)
        self._put("manifest.json", data)
        return manifest

    def _write(self, folder: str, rows: pa.Table) -> None:
        buffer = pa.BufferOutputStream()
        pq.write_table(rows, buffer, compression="zstd")
        data = buffer.getvalue().to_pybytes()
        sha256 = hashlib.sha256(data).hexdigest()
        path = f"{folder}/part-{sha256[:32]}.parquet"
        self._put(path, data)
        self.files.append(LedgerFile(path, rows.num_rows, len(data), sha256))

    def _put(self, path: str, data: bytes) -> None:
        """Write a whole file under its name, or nothing."""
        target = f"{self._root}/{path}"
        try:
            if isinstance(self._fs, LocalFileSystem):
                _write_aside(Path(target), data)
            else:
                # Object stores show an object only when all of it has arrived.
                self._fs.pipe_file(target, data)
        except OSError as error:
            raise StoreUnavailable(f"the ledger {self._root} did not take {path}: {error}") from error


def _write_aside(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Readers of Parquet folders pass over names that begin with a dot.
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def _by_partition(rows: pa.Table, names: tuple[str, ...]) -> list[tuple[str, pa.Table]]:
    """The rows of each partition, with its Hive path, e.g. "day=2026-11-22/model=composer"."""
    columns = {"day": pc.strftime(rows["settled_at"], "%Y-%m-%d"), "model": rows["model"]}
    keys = pa.table({name: columns[name] for name in names})
    found = []
    for values in keys.group_by(list(names)).aggregate([]).to_pylist():
        wanted = pa.scalar(True)
        for name in names:
            wanted = pc.and_(wanted, pc.equal(keys[name], values[name]))
        folder = "/".join(f"{name}={quote(values[name], safe='')}" for name in names)
        found.append((folder, rows.filter(wanted)))
    return sorted(found, key=lambda item: item[0])
