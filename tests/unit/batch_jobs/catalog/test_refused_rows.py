"""A refused row says who asked for what, as far as that can be read, down to the ledger's table of failures."""

import csv
import io
import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.ledger.tables import FAILURES_SCHEMA
from batch_jobs.settlement.outcomes import refused_row
from tests.unit.batch_jobs.catalog.catalogs import rows_of, write

WHO = {"prompt": "slow piano", "requester": "ann", "model": "lab/large", "style": "jazz"}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    "change, known",
    [
        ({"seed": "-1"}, ("ann", "lab/large", "jazz")),
        ({"prompt": ""}, ("ann", "lab/large", "jazz")),
        ({"prompt": "x" * 2001}, ("ann", "lab/large", "jazz")),
        ({"requester": "=cmd"}, (None, "lab/large", "jazz")),
        ({"model": "a/../../b"}, ("ann", None, "jazz")),
        ({"style": "polka-core"}, ("ann", "lab/large", None)),
        ({"tempo_bpm": "fast", "requester": "", "model": " ", "style": ""}, ("anonymous", "composer", "piano")),
        ({"seed": "-1", "prompt": "fast funk", "style": ""}, ("ann", "lab/large", "funk")),
        ({"seed": "-1", "prompt": "funk, 900 bpm", "style": ""}, ("ann", "lab/large", "funk")),
        ({"row_id": "a\nb"}, ("ann", "lab/large", "jazz")),
        ({"theme": "../secret.mid"}, ("ann", "lab/large", "jazz")),
    ],
)
def test_a_refused_row_keeps_who_asked_for_what(tmp_path, suffix, change, known):
    row = WHO | change
    path = tmp_path / f"c.{suffix}"
    match suffix:
        case "csv":
            text = io.StringIO(newline="")
            csv.writer(text).writerows([row, row.values()])
            write(path, text.getvalue())
        case "jsonl":
            write(path, json.dumps(row))
        case "parquet":
            pq.write_table(pa.Table.from_pylist([row]), path)

    [refused] = rows_of(path)
    failure = refused_row("job-1", "run-1", refused, datetime(2026, 1, 1, tzinfo=UTC))

    assert (refused.requester, refused.model, refused.style) == known
    assert (failure["requested_by"], failure["model"], failure["style"]) == known
    assert pa.Table.from_pylist([failure], schema=FAILURES_SCHEMA).num_rows == 1


def test_of_a_row_that_is_no_row_nothing_is_known(tmp_path):
    [refused] = rows_of(write(tmp_path / "c.jsonl", '{"prompt": "calm", "requester": "ann"'))

    assert (refused.requester, refused.model, refused.style) == (None, None, None)


def test_of_a_cell_that_could_not_be_read_nothing_is_known(tmp_path):
    table = pa.table({"prompt": ["calm"], "requester": [b"\xff"], "style": pa.array([["jazz"]])})
    pq.write_table(table, tmp_path / "c.parquet")

    [refused] = rows_of(tmp_path / "c.parquet")

    assert (refused.requester, refused.model, refused.style) == (None, "composer", None)
