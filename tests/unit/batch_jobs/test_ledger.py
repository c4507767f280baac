"""The ledger as its readers find it: whole files, a manifest that agrees with them, partitions that tools can read."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import duckdb
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from batch_jobs.catalog import RefusedRow
from batch_jobs.ledger import ROWS_PER_PART, Ledger
from batch_jobs.outcomes import TRACKS_SCHEMA, outcomes_table, refused_row
from batch_jobs.render_stage import render_block
from batch_jobs.retry import RetryBudget
from orchestrion.errors import StoreUnavailable
from tests.unit.batch_jobs.conftest import SteppingClock


@pytest.fixture
def outcomes(plan_of, renderer, clock):
    """Three tracks, one of them a duplicate, and a failure."""
    [block] = plan_of({}, {"seed": 2}, {"requester": "b"}, {"prompt": "fail"}).blocks(10)
    return render_block(block, renderer, "job-1", RetryBudget(), clock, lambda _: None)


def parquet(root: Path) -> list[Path]:
    return sorted(root.rglob("*.parquet"))


def test_the_manifest_names_every_file_with_its_rows_and_hash(tmp_path, outcomes, clock):
    ledger = Ledger(str(tmp_path / "out"), {}, clock)
    ledger.add(outcomes)
    ledger.close({"job_id": "job-1", "state": "complete"})

    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest == json.loads((tmp_path / "out" / "jobs" / "job-1.json").read_text())
    assert [tmp_path / "out" / file["path"] for file in manifest["files"]] == sorted(
        parquet(tmp_path / "out"), key=lambda path: "failures" in path.parts
    )
    for file in manifest["files"]:
        data = (tmp_path / "out" / file["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
        assert pq.ParquetFile(tmp_path / "out" / file["path"]).metadata.num_rows == file["rows"]
        assert file["sha256"].startswith(Path(file["path"]).stem.removeprefix("part-"))
    totals = manifest["totals"]
    assert (totals["tracks"], totals["failures"], totals["cache_hits"], totals["audio_s"]) == (3, 1, 1, 6.0)


def test_rows_lie_under_the_day_on_which_they_were_settled(tmp_path, plan_of, renderer):
    night = SteppingClock(datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC))
    ledger = Ledger(str(tmp_path / "out"), {}, night)
    for block in plan_of({}, {"seed": 2}).blocks(1):
        ledger.add(render_block(block, renderer, "job-1", RetryBudget(), night, lambda _: None))
        night.reading_s += 2
    ledger.commit()

    folders = {str(path.parent.relative_to(tmp_path / "out")) for path in parquet(tmp_path / "out")}
    assert folders == {"tracks/day=2026-02-28/model=tone", "tracks/day=2026-03-01/model=tone"}


def test_pyarrow_pandas_and_duckdb_read_the_folder_as_it_is(tmp_path, outcomes, clock):
    ledger = Ledger(str(tmp_path), {}, clock)
    ledger.add(outcomes)
    ledger.commit()

    table = pq.read_table(tmp_path / "tracks")
    frame = pd.read_parquet(tmp_path / "tracks")
    query = f"SELECT model, day, line FROM read_parquet('{tmp_path}/tracks/**/*.parquet', hive_partitioning = true)"
    assert set(table["model"].to_pylist()) == set(frame["model"]) == {"tone"}
    assert sorted(duckdb.sql(query).fetchall())[0][0] == "tone"
    assert set(TRACKS_SCHEMA.names) | {"day"} == set(table.schema.names)


def test_a_model_with_slashes_is_one_folder_that_readers_decode(tmp_path, outcomes, clock):
    name = "lab/large:v1 %é"
    row = outcomes.to_pylist()[0]["track"] | {"model": name}
    ledger = Ledger(str(tmp_path), {}, clock)
    ledger.add(outcomes_table([row]))
    ledger.commit()

    [path] = parquet(tmp_path)
    assert unquote(path.parent.name) == f"model={name}"
    assert ds.dataset(tmp_path / "tracks", partitioning="hive").to_table()["model"].to_pylist() == [name]
    query = f"SELECT model FROM read_parquet('{tmp_path}/tracks/**/*.parquet', hive_partitioning = true)"
    assert duckdb.sql(query).fetchall() == [(name,)]


def test_a_part_is_written_when_enough_rows_wait(tmp_path, clock):
    ledger = Ledger(str(tmp_path), {}, clock)
    refused = [refused_row("job-1", RefusedRow(n, None, None, "bad"), clock.now()) for n in range(ROWS_PER_PART)]

    ledger.add(outcomes_table(refused[:1]))
    assert parquet(tmp_path) == []
    ledger.add(outcomes_table(refused[1:]))
    assert len(parquet(tmp_path)) == 1


def test_a_part_is_written_when_a_row_has_waited_long_enough(tmp_path, clock):
    ledger = Ledger(str(tmp_path), {}, clock)
    refused = refused_row("job-1", RefusedRow(1, None, None, "bad"), clock.now())
    ledger.add(outcomes_table([refused]))
    clock.reading_s += 31

    ledger.add(outcomes_table([refused | {"line": 2}]))

    assert pq.read_table(tmp_path / "failures")["line"].to_pylist() == [1, 2]


def test_a_ledger_that_cannot_be_written_says_so_and_leaves_nothing_half(tmp_path, outcomes, clock):
    (tmp_path / "out").write_text("a file is in the way")
    ledger = Ledger(str(tmp_path / "out"), {}, clock)
    ledger.add(outcomes)

    with pytest.raises(StoreUnavailable, match="did not take"):
        ledger.commit()
    assert parquet(tmp_path) == []
