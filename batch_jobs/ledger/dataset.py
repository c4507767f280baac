"""A ledger's tables as Arrow data: which files, which day and model each has, what of them is read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
from fsspec.implementations.local import LocalFileSystem

from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.ledger.snapshot import TABLES, Layout, LedgerFile, Snapshot
from orchestrion.errors import InvalidRequest


def ledger_dataset(
    url: str, storage_options: Mapping[str, Any], table: str, snapshot: Snapshot | None = None
) -> ds.Dataset:
    """One table as a pyarrow dataset over exactly the files of one manifest.

    Its columns are those of the newest schema, null where a file of an older release has none, and `day` (a date).
    Filters on `day` and `model` open only the files they ask for.

    Args:
        url: the `--out` of render_catalog.
        storage_options: for fsspec.
        table: tracks, failures, attempts or nodes.
        snapshot: the state to read; the newest if None. Give one to all tables that are to agree with each other.

    Raises:
        NotFound: there is no ledger at `url`.
    """
    snapshot = snapshot or read_snapshot(url, storage_options)
    fs, root = fsspec.url_to_fs(url, **storage_options)
    schema = pa.schema([each.with_nullable(True) for each in TABLES[table].file_schema])
    files = snapshot.tables[table]
    if not files:
        return ds.dataset(schema.empty_table())
    if type(fs) is LocalFileSystem:
        _refuse_links(root, files)
    # Arrow's own reads a folder without Python's lock.
    filesystem = pafs.LocalFileSystem() if type(fs) is LocalFileSystem else pafs.PyFileSystem(pafs.FSSpecHandler(fs))
    return ds.FileSystemDataset.from_paths(
        [f"{root}/{file.path}" for file in files],
        schema=schema,
        format=ds.ParquetFileFormat(),
        filesystem=filesystem,
        partitions=[_partition(file) for file in files],
    )


def conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """`rows` with exactly the columns of `schema`, null where they have none."""
    if rows.schema.names == schema.names and rows.schema.types == schema.types:
        return pa.Table.from_arrays(rows.columns, schema=schema)
    columns = [
        rows[each.name].cast(each.type) if each.name in rows.schema.names else pa.nulls(rows.num_rows, each.type)
        for each in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _partition(file: LedgerFile) -> ds.Expression:
    wanted = ds.field("day") == pa.scalar(date.fromisoformat(file.day))
    return wanted if file.model is None else wanted & (ds.field("model") == file.model)


def by_partition(rows: pa.Table, layout: Layout) -> list[tuple[str, str | None, pa.Table]]:
    """The rows of each day (and model)."""
    days = pc.strftime(rows[layout.day_of], "%Y-%m-%d")
    keys = pa.table({"day": days, "model": rows["model"] if layout.by_model else pa.nulls(rows.num_rows, pa.string())})
    found = []
    for key in sorted(keys.group_by(["day", "model"]).aggregate([]).to_pylist(), key=str):
        wanted = pc.equal(days, key["day"])
        if layout.by_model:
            wanted = pc.and_(wanted, pc.equal(rows["model"], key["model"]))
        found.append((key["day"], key["model"], rows.filter(wanted)))
    return found


def _refuse_links(root: str, files: Iterable[LedgerFile]) -> None:
    """Refuse files below the ledger's folder that are, or lie behind, links: Arrow would follow them."""
    real = os.path.realpath(root)
    for file in files:
        if os.path.realpath(f"{root}/{file.path}") != f"{real}/{file.path}":
            raise InvalidRequest.of("ledger", file.path, "is a link; a ledger has none. Find out who put it there")
