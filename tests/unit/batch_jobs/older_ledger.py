"""A ledger as releases with manifests of version 2 left it: day and model in the names of folders, and in no file."""

import hashlib
import json
import shutil
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq

from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.ledger.snapshot import TABLES

#: The columns that came with the layout.
LATER = {"tracks": ["day", "model", "run_id"], "failures": ["day", "run_id"], "attempts": ["day"], "nodes": ["day"]}


def make_older(root: Path) -> None:
    """Rewrite the ledger in `root` as an older release would have written it."""
    manifest = json.loads(read_snapshot(str(root), {}).to_bytes())
    files = {name: [_older(root, name, file) for file in manifest["tables"][name] if file["rows"]] for name in TABLES}
    manifest |= {"manifest_version": 2, "ledger_schema_version": 3, "number": 1, "tables": files}
    data = json.dumps(manifest).encode()
    shutil.rmtree(root / "manifests")
    (root / "manifests").mkdir()
    (root / "manifests" / "00000001.json").write_bytes(data)
    (root / "manifest.json").write_bytes(data)


def _older(root: Path, table: str, file: dict) -> dict:
    path = root / file["path"]
    rows = pq.ParquetFile(path).read().drop_columns(LATER[table])
    path.unlink()
    folder = f"{table}/day={file['day']}"
    if file["model"] is not None:
        folder += f"/model={quote(file['model'], safe='')}"
    older = root / folder / path.name
    older.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, older, compression="zstd")
    data = older.read_bytes()
    return file | {
        "path": f"{folder}/{path.name}", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip
