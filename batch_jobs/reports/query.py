"""A ledger's tables in DuckDB, and queries over them as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb

from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.ledger.snapshot import Snapshot


def open_ledger(
    url: str, storage_options: Mapping[str, Any], snapshot: Snapshot | None = None
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the views `tracks`, `failures`, `attempts` and `nodes` over a ledger's Parquet.

    Args:
        url: the `out` of catalog jobs.
        storage_options: for fsspec.
        snapshot: the state to read; the newest if None.

    Raises:
        NotFound: there is no ledger at `url`.
    """
    snapshot = snapshot or read_snapshot(url, storage_options)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for name in snapshot.tables:
        connection.register(name, ledger_dataset(url, storage_options, name, snapshot))
    return connection


def fetch(connection: duckdb.DuckDBPyConnection, query: str, **parameters: object) -> list[dict[str, Any]]:
    """The answer to a query, a dictionary for each row."""
    result = connection.execute(query, parameters)
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
