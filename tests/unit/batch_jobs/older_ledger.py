"""Ledgers as older releases left them."""

import hashlib
import json
import shutil
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq

from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.ledger.snapshot import TABLES
from orchestrion.tracks.record import RECORD_FIELDS

#: The columns that came with ledger schema 4, and after it.
OF_SCHEMA_4 = {
    "tracks": ["day", "model", "run_id"],
    "failures": ["day", "run_id"],
    "attempts": ["day"],
    "nodes": ["day"],
}
LATER = {
    "tracks": [
        *("kept", "withdrawn_at", "withdrawn_reason"),
        *(field.name for field in RECORD_FIELDS if field.since == 5),
    ],
    "failures": ["kept"],
    "attempts": [],
    "nodes": ["machine_id"],
}


def make_older(root: Path) -> None:
    """Rewrite the ledger in `root` as releases with manifests of version 2 would have written it.

    Day and model are in the names of folders, and in no file; no table has a schema file.
    """
    manifest = json.loads(read_snapshot(str(root), {}).to_bytes())
    files = {name: [_older(root, name, file) for file in manifest["tables"][name] if file["rows"]] for name in TABLES}
    _publish(root, manifest | {"manifest_version": 2, "ledger_schema_version": 3, "number": 1, "tables": files})


def make_schema_4(root: Path) -> None:
    """Rewrite the ledger in `root` as the releases before kept columns would have written it."""
    manifest = json.loads(read_snapshot(str(root), {}).to_bytes())
    files = {
        name: [
            _without(root, file, LATER[name], "/".join([name, file["day"] or "schema-4"]))
            for file in manifest["tables"][name]
        ]
        for name in TABLES
    }
    _publish(root, manifest | {"ledger_schema_version": 4, "number": 1, "tables": files})


def _older(root: Path, table: str, file: dict) -> dict:
    folder = f"{table}/day={file['day']}"
    if file["model"] is not None:
        folder += f"/model={quote(file['model'], safe='')}"
    return _without(root, file, OF_SCHEMA_4[table] + LATER[table], folder)


def _without(root: Path, file: dict, columns: list[str], folder: str) -> dict:
    """The file without these columns, in this folder below the ledger's."""
    path = root / file["path"]
    rows = pq.ParquetFile(path).read().drop_columns(columns)
    path.unlink()
    (root / folder).mkdir(parents=True, exist_ok=True)
    older = root / folder / path.name
    pq.write_table(rows, older, compression="zstd")
    data = older.read_bytes()
    return file | {
        "path": f"{folder}/{path.name}", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip


def _publish(root: Path, manifest: dict) -> None:
    data = json.dumps(manifest).encode()
    shutil.rmtree(root / "manifests")
    (root / "manifests").mkdir()
    (root / "manifests" / "00000001.json").write_bytes(data)
    (root / "manifest.json").write_bytes(data)
