"""Files that need no path to be understood: of every day and model, of empty tables, of older releases, anywhere."""

import json
import shutil
from dataclasses import replace
from datetime import date, timedelta

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from batch_jobs.compact_ledger import compact
from batch_jobs.ledger import ledger as ledger_module
from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.ledger.snapshot import TABLES, Change, Snapshot
from batch_jobs.ledger.tables import LEDGER_SCHEMA_VERSION, TRACKS_SCHEMA
from batch_jobs.lineage import main as lineage
from batch_jobs.reports.costs import cost_report
from batch_jobs.settlement.outcomes import shard_table
from orchestrion.errors import InvalidRequest
from orchestrion.storage.object_store import Objects
from tests.unit.batch_jobs.committed_job import (
    START,
    CommittedJob,
    assert_readable,
    failure,
    node,
    noted,
    track,
    worker,
)
from tests.unit.batch_jobs.older_ledger import make_older
from tests.unit.batch_jobs.sample_ledger import WITHDRAWN, sample_ledger
from tests.unit.batch_jobs.settlement.test_settlement import DyingObjects, Killed, first_round, retried

#: Names of folders that Hive's readers take for a day and a model.
HIVE_LIKE = "day=2020-01-01/model=other"


def add(url, clock, *rows) -> Snapshot:
    """Commit tracks."""
    ledger = Ledger(Objects(str(url)), clock)
    added = ledger.write("tracks", pa.Table.from_pylist(list(rows), schema=TRACKS_SCHEMA))
    return ledger.commit(lambda _: Change(added={"tracks": added}))


def paths_of(root, table="tracks") -> list[str]:
    manifest = json.loads((root / "manifest.json").read_bytes())
    return [f"{root}/{file['path']}" for file in manifest["tables"][table]]


def everything(url):
    return {name: sorted(map(repr, ledger_dataset(str(url), {}, name).to_table().to_pylist())) for name in TABLES}


def with_duckdb(files):
    rows = duckdb.read_parquet(files, hive_partitioning=False, union_by_name=True)
    return rows.select("line, day, model").fetchall()


def with_pyarrow(files):
    rows = ds.dataset(files).to_table(["line", "day", "model"])
    return list(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def with_pandas(files):
    frame = pd.read_parquet(files, partitioning=None)[["line", "day", "model"]]
    return [tuple(row) for row in frame.itertuples(index=False)]


def with_polars(files):
    polars = pytest.importorskip("polars")
    rows = polars.scan_parquet(files, hive_partitioning=False, missing_columns="insert", extra_columns="ignore")
    return rows.select("line", "day", "model").collect().rows()


READERS = pytest.mark.parametrize("read", [with_duckdb, with_pyarrow, with_pandas, with_polars])
PLACES = pytest.mark.parametrize("place", ["plain", HIVE_LIKE, "a=b/day=2020-01-01/model=other/x=y"])


# Whoever reads it, and wherever it lies


@PLACES
@READERS
def test_day_and_model_are_those_of_the_rows_whatever_the_folders_above_are_called(tmp_path, clock, place, read):
    late = START + timedelta(days=40)
    add(tmp_path / place, clock, track(1), track(2, model="lab/large:v1 %é"), track(3, settled_at=late))

    assert sorted(read(paths_of(tmp_path / place))) == [
        (1, date(2026, 1, 1), "composer"),
        (2, date(2026, 1, 1), "lab/large:v1 %é"),
        (3, date(2026, 2, 10), "composer"),
    ]


@PLACES
@READERS
def test_a_table_without_rows_has_its_columns_all_the_same(tmp_path, clock, place, read):
    job = CommittedJob(tmp_path / place, clock)
    job.folder.commit("01-a", shard_table([failure(1)], []))
    job.close(rows=1)

    assert read(paths_of(tmp_path / place)) == []
    for name, layout in TABLES.items():
        [schema, *files] = paths_of(tmp_path / place, name)
        assert pq.ParquetFile(schema).metadata.num_rows == 0
        assert pq.ParquetFile(schema).schema_arrow.equals(layout.file_schema)
        assert len(files) == (name == "failures")


@pytest.mark.parametrize("how", ["moved", "copied", "linked"])
def test_a_ledger_is_the_same_wherever_it_is_moved_copied_or_linked_to(tmp_path, clock, how):
    before = sample_ledger(tmp_path / "before", rows_per_job=30)
    expected, figures = everything(before.url), cost_report(before.url)
    after = tmp_path / HIVE_LIKE / "after"
    after.parent.mkdir(parents=True)
    {"moved": shutil.move, "copied": shutil.copytree, "linked": lambda old, new: new.symlink_to(old)}[how](
        tmp_path / "before", after
    )

    assert everything(after) == expected
    assert replace(cost_report(str(after)), ledger="") == replace(figures, ledger="")
    assert sorted(with_pyarrow(paths_of(after))) == sorted(
        (row["line"], row["settled_at"].date(), row["model"]) for row in before.tracks
    )
    add(after, clock, track(1000, 1.0))
    compact(Ledger(Objects(str(after)), clock), timedelta(0))
    assert ledger_dataset(str(after), {}, "tracks").count_rows() == len(before.tracks) + 1
    assert str(tmp_path) not in (after / "manifest.json").read_text()


# Older releases


@pytest.fixture
def older(tmp_path):
    sample = sample_ledger(tmp_path / "out", rows_per_job=40)
    make_older(tmp_path / "out")
    return sample


def test_a_ledger_of_an_older_release_is_read_by_everything_of_ours(older, tmp_path, capsys):
    newer = sample_ledger(tmp_path / "new", rows_per_job=40, withdrawn=False)

    def without_later(url):
        return {
            name: sorted(
                repr(row | dict.fromkeys(("run_id", "kept", *WITHDRAWN)))
                for row in ledger_dataset(url, {}, name).to_table().to_pylist()
            )
            for name in TABLES
        }

    def figures(url):
        report = cost_report(url)
        by = [row for row in report.breakdown if row["dimension"] != "run"]
        return replace(report, ledger="", runs=[], breakdown=by)

    assert without_later(older.url) == without_later(newer.url)
    assert figures(older.url) == figures(newer.url)
    found = []
    for url in (older.url, newer.url):
        assert lineage(["--ledger", url, "--job", "job-1", "--since", "2026-01-02", "--format", "ids"]) == 0
        found.append(capsys.readouterr().out)
    assert found[0] == found[1] != ""


def test_files_of_both_layouts_are_one_table_and_compaction_gives_all_of_them_todays(older, tmp_path, clock):
    out, url = tmp_path / "out", older.url
    add(out, clock, track(1000, 2.0))
    mixed, figures = everything(url), cost_report(url)
    assert {file.is_of_hive for file in read_snapshot(url, {}).tables["tracks"]} == {True, False}
    assert len(mixed["tracks"]) == len(older.tracks) + 1

    done = compact(Ledger(Objects(url), clock))

    newest = read_snapshot(url, {})
    assert done.files_after <= done.files_before
    assert not any(file.is_of_hive for files in newest.tables.values() for file in files)
    assert everything(url) == mixed
    # Sums of the same rows in another order.
    assert cost_report(url).totals == pytest.approx(figures.totals, rel=1e-12)
    for read in (with_duckdb, with_pyarrow, with_pandas):
        assert sorted(read(paths_of(out))) == sorted(
            [(row["line"], row["settled_at"].date(), row["model"]) for row in older.tracks]
            + [(1000, date(2026, 1, 1), "composer")]
        )
    assert compact(Ledger(Objects(url), clock)).files_before == done.files_after


def test_one_file_of_an_older_layout_is_written_anew_even_where_there_is_nothing_to_join(tmp_path, clock):
    add(tmp_path / "out", clock, track(1))
    make_older(tmp_path / "out")

    compact(Ledger(Objects(str(tmp_path / "out")), clock))

    assert with_duckdb(paths_of(tmp_path / "out")) == [(1, date(2026, 1, 1), "composer")]


def test_rows_that_are_tried_again_leave_the_failures_of_an_older_release(tmp_path, clock):
    clock.reading_s = 100_000.0
    job = CommittedJob(tmp_path / "out", clock)
    first_round(job)
    job.close(rows=4)
    make_older(tmp_path / "out")

    retried(job, (1, 3.0), (3, 5.0), still_failed=[2])
    totals = job.close(run_id="run-2", rows=4)

    assert (totals.tracks, totals.failures) == (3, 1)
    assert job.rows("tracks", "line") == [(1,), (3,), (4,)]
    assert job.rows("failures", "line") == [(2,)]
    assert_readable(tmp_path / "out")


def test_a_release_that_knows_only_the_older_layout_is_told_so(tmp_path, clock):
    # It holds `manifest_version` to its own before anything else: a manifest that it took for junk would be forked.
    add(tmp_path / "out", clock, track(1))
    assert json.loads((tmp_path / "out" / "manifest.json").read_bytes())["manifest_version"] == 3

    for version in (1, 4):
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_bytes()) | {"manifest_version": version}
        with pytest.raises(InvalidRequest, match="another release"):
            Snapshot.from_bytes(json.dumps(manifest).encode())


# The schemas in the manifest


def test_the_schemas_are_written_once_and_by_a_newer_release_again(tmp_path, clock, monkeypatch):
    first = add(tmp_path / "out", clock, track(1))
    assert add(tmp_path / "out", clock, track(2)).schemas == first.schemas

    monkeypatch.setattr(ledger_module, "LEDGER_SCHEMA_VERSION", LEDGER_SCHEMA_VERSION + 1)
    third = add(tmp_path / "out", clock, track(3))
    assert {file.schema_version for file in third.schemas.values()} == {LEDGER_SCHEMA_VERSION + 1}
    assert {each.path for each in third.replaced} == {file.path for file in first.schemas.values()}

    # One of the older releases commits again: the newer columns stay.
    monkeypatch.undo()
    assert add(tmp_path / "out", clock, track(4)).schemas == third.schemas
    clock.reading_s += timedelta(days=2).total_seconds()
    deleted = Ledger(Objects(str(tmp_path / "out")), clock).sweep()
    assert sorted(deleted) == sorted(file.path for file in first.schemas.values())
    assert sorted(with_pyarrow(paths_of(tmp_path / "out"))) == [
        (line, date(2026, 1, 1), "composer") for line in (1, 2, 3, 4)
    ]


def test_a_schema_that_stands_where_it_does_not_belong_makes_no_manifest(tmp_path, clock):
    add(tmp_path / "out", clock, track(1))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    schema, rows = manifest["tables"]["tracks"]
    nothing = {"rows": 0, "job_id": None, "day": None, "model": None}
    for files in (
        [rows, schema],
        [schema, schema, rows],
        [manifest["tables"]["nodes"][0], rows],
        [rows | nothing],
        [schema | {"path": "../" + schema["path"]}],
        [schema | {"sha256": "x"}],
        [schema | {"rows": 1}],
        [schema | {"day": "2026-01-01", "model": "composer"}],
        [rows | {"model": None}],
        [rows | {"day": "2026-01-02"}],
    ):
        forged = manifest | {"tables": manifest["tables"] | {"tracks": files}}
        with pytest.raises(ValueError):
            Snapshot.from_bytes(json.dumps(forged).encode())
    assert Snapshot.from_bytes(json.dumps(manifest).encode()).tables["tracks"][0].path == rows["path"]


@pytest.mark.parametrize("was", ["nothing", "older"])
def test_a_first_commit_that_is_killed_between_any_two_writes_leaves_a_ledger_that_reads(tmp_path, clock, was):
    before = tmp_path / "before"
    CommittedJob(before, clock)
    if was == "older":
        add(before, clock, track(1, 1.0))
        make_older(before)
    old = [1] if was == "older" else []
    for writes in range(100):
        place = shutil.copytree(before, tmp_path / f"killed after {writes}")
        dying = Ledger(DyingObjects(str(place), writes), clock)
        was_killed = False
        try:
            added = dying.write("tracks", pa.Table.from_pylist([track(2, 2.0)], schema=TRACKS_SCHEMA))
            dying.commit(lambda _, added=added: Change(added={"tracks": added}))
        except Killed:
            was_killed = True
        if was == "nothing":
            assert_readable(place)
        snapshot = Ledger(Objects(str(place)), clock).snapshot()
        lines = [line for file in snapshot.tables["tracks"] for line in read_lines(place, file)]
        assert sorted(lines) in (old, [*old, 2])
        assert snapshot.number == 0 or len(snapshot.schemas) == (len(TABLES) if 2 in lines else 0)
        for file in snapshot.schemas.values():
            assert (place / file.path).exists()

        add(place, clock, track(3, 3.0))
        assert sorted(line for line, _, _ in with_duckdb(paths_of(place))) == [*lines, 3]
        if not was_killed:
            break
    assert writes > len(TABLES) + 2


def read_lines(place, file) -> list[int]:
    return pq.ParquetFile(place / file.path).read(["line"])["line"].to_pylist()


# Runs


def test_rows_say_in_which_run_they_were_settled(tmp_path, clock):
    clock.reading_s = 100_000.0
    job = CommittedJob(tmp_path / "out", clock)
    job.folder.commit("01-a", shard_table([track(1, 1.0, run_id="run-1"), failure(2, run_id="run-1")], []))
    job.folder.write_journal(worker("w1", "run-1", node("n1"), attempts=[noted("w1-3", "01-b", 3, 8.0)]))

    # The run was killed; the next one publishes what it left.
    job.close(run_id="run-2", rows=3)

    assert job.rows("tracks", "line", "run_id") == [(1, "run-1")]
    assert job.rows("failures", "line", "run_id") == [(2, "run-1")]
    assert {row["run_id"] for name in ("attempts", "nodes") for row in job.rows(name)} == {"run-1"}


def test_a_shard_of_a_release_that_knew_no_runs_is_settled_without(tmp_path, clock):
    clock.reading_s = 100_000.0
    job = CommittedJob(tmp_path / "out", clock)
    rows = shard_table([track(1, 1.0), failure(2)], [])
    kinds = {name: rows[name].combine_chunks() for name in rows.schema.names}
    older = {}
    for kind, column in kinds.items():
        kept = [each for each in column.type if each.name != "run_id" or kind == "attempt"]
        older[kind] = pa.StructArray.from_arrays(
            [column.field(each.name) for each in kept], fields=kept, mask=column.is_null()
        )
    job.folder.commit("01-a", pa.table(older))

    job.close(run_id="run-2", rows=2)

    assert job.rows("tracks", "line", "run_id") == [(1, None)]
    assert job.rows("failures", "line", "run_id") == [(2, None)]
