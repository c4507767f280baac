"""Catalogs written by tests, and the rows that are read of them."""

import hashlib

from batch_jobs.catalog.rows import RefusedRow, read_catalog


def put_theme(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def rows_of(path, put=put_theme, column_map=None):
    seen = {}
    return list(read_catalog(str(path), {}, put, "composer", seen.setdefault, column_map or {}))


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def kinds(rows):
    """R for a refused row, a dot for a good one."""
    return "".join("R" if isinstance(row, RefusedRow) else "." for row in rows)


def prompts(rows):
    return [row.spec.prompt for row in rows]
