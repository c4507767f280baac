"""Compaction: fewer files with the same rows, while jobs go on and readers read."""

import shutil
from dataclasses import replace
from datetime import timedelta

import duckdb
import pyarrow as pa
import pytest

from batch_jobs.compact_ledger import compact, main
from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.ledger.snapshot import TABLES, Change
from tests.unit.batch_jobs.committed_job import CommittedJob, assert_readable, node, track, worker
from tests.unit.batch_jobs.settlement.test_settlement import BusyObjects, DyingObjects, Killed


@pytest.fixture
def job(tmp_path, clock):
    """A job that was settled four times on one day, and one that was settled once."""
    clock.reading_s = 100_000.0
    one = CommittedJob(tmp_path / "out", clock)
    for number in range(4):
        one.commit(f"01-{number}", (2 * number + 1, 1.0), (2 * number + 2, 2.0))
        one.folder.write_journal(worker(f"w{number}", f"run-{number}", node(f"n{number}")))
        one.close(f"run-{number}", rows=8)
    other = CommittedJob(one.objects.url, clock, "job-2")
    other.commit("01-a", (1, 4.0))
    other.close("run-9", rows=1)
    return one


def everything(url):
    return {name: sorted(map(repr, ledger_dataset(url, {}, name).to_table().to_pylist())) for name in TABLES}


def counts(url):
    return {name: len(files) for name, files in read_snapshot(url, {}).tables.items()}


def test_the_rows_are_the_same_in_one_file_a_folder(job):
    url = job.objects.url
    before, jobs = everything(url), read_snapshot(url, {}).jobs
    assert counts(url) == {"tracks": 5, "failures": 0, "attempts": 5, "nodes": 4}

    done = compact(job.ledger)

    assert counts(url) == {"tracks": 1, "failures": 0, "attempts": 1, "nodes": 1}
    assert (done.files_before, done.files_after, done.deleted) == (14, 3, 0)
    assert everything(url) == before
    assert read_snapshot(url, {}).jobs == jobs
    job.assert_reconciled()


def test_a_second_time_there_is_nothing_to_do(job):
    compact(job.ledger)
    before = job.ledger.snapshot()

    done = compact(job.ledger)

    assert (done.files_before, done.files_after) == (3, 3)
    assert job.ledger.snapshot() == before


def test_full_files_are_left_alone_and_others_filled_up(job):
    def add(rows):
        some = job.ledger.read("nodes", job.ledger.snapshot().tables["nodes"][0]).take([0] * rows)
        added = job.ledger.write("nodes", some)
        job.ledger.commit(lambda _: Change(added={"nodes": added}))

    add(30_000)
    add(20_000)
    compact(job.ledger)
    first = {file.path: file.rows for file in job.ledger.snapshot().tables["nodes"]}
    assert sorted(first.values()) == [4, 50_000]

    add(7)
    compact(job.ledger)
    second = {file.path: file.rows for file in job.ledger.snapshot().tables["nodes"]}
    assert sorted(second.values()) == [11, 50_000]
    assert [path for path in second if path in first] == [path for path, rows in first.items() if rows == 50_000]


def test_readers_of_an_older_manifest_are_undisturbed_until_the_files_are_old(job):
    url = job.objects.url
    then = read_snapshot(url, {})
    compact(job.ledger)
    assert ledger_dataset(url, {}, "tracks", then).count_rows() == 9

    job.clock.reading_s += timedelta(hours=25).total_seconds()
    done = compact(job.ledger)

    assert done.deleted == 14
    assert everything(url)["tracks"]
    lying = [key for name in TABLES for key in job.objects.keys(name)]
    newest = job.ledger.snapshot()
    counted = [*newest.schemas.values(), *(file for files in newest.tables.values() for file in files)]
    assert sorted(lying) == sorted(file.path for file in counted)


def test_a_job_that_closes_its_books_meanwhile_loses_nothing(job):
    def close_another():
        job.commit("01-z", (20, 1.0))
        job.close("run-z", state="interrupted", rows=10)

    busy = CommittedJob("", job.clock, objects=BusyObjects(job.objects.url, close_another))
    compact(busy.ledger)

    url = job.objects.url
    assert sorted(ledger_dataset(url, {}, "tracks").to_table()["line"].to_pylist()) == [1, 1, 2, 3, 4, 5, 6, 7, 8, 20]
    assert counts(url)["tracks"] == 1
    assert read_snapshot(url, {}).jobs["job-1"].state == "interrupted"
    job.assert_reconciled()


def test_a_compaction_that_is_killed_between_any_two_writes_loses_and_doubles_nothing(tmp_path, clock):
    job = CommittedJob(tmp_path / "out", clock)
    for number in (1, 2):
        job.commit(f"01-{number}", (number, 1.0))
        job.close(rows=2)

    for writes in range(100):
        place = shutil.copytree(tmp_path / "out", tmp_path / f"killed after {writes}")
        again = CommittedJob(place, clock)
        dying = Ledger(DyingObjects(str(place), writes), clock)
        try:
            compact(dying, timedelta(0))
        except Killed:
            assert_readable(place)
            assert again.rows("tracks", "line") == again.rows("attempts", "line") == [(1,), (2,)]
            compact(again.ledger, timedelta(0))
            assert again.rows("tracks", "line") == again.rows("attempts", "line") == [(1,), (2,)]
        else:
            break
    assert writes > 8


def test_files_of_an_older_release_become_files_of_this_one(job, tmp_path, monkeypatch):
    later = {"waste_usd", "idle_usd", "total_usd", "continuation"}
    schema = pa.schema([field for field in TABLES["tracks"].schema if field.name not in later])
    with monkeypatch.context() as older:
        older.setitem(TABLES, "tracks", replace(TABLES["tracks"], schema=schema))
        added = job.ledger.write("tracks", pa.Table.from_pylist([track(30, 1.0)], schema=schema))
        job.ledger.commit(lambda _: Change(added={"tracks": added}))
    before = everything(job.objects.url)

    compact(job.ledger)

    assert everything(job.objects.url) == before
    [one] = job.ledger.snapshot().tables["tracks"]
    query = f"SELECT line, total_usd IS NULL FROM '{tmp_path}/out/{one.path}' WHERE line >= 8 ORDER BY line"
    assert duckdb.sql(query).fetchall() == [(8, False), (30, True)]


# The command


def test_the_command_says_what_it_did(job, capsys):
    assert main(["--ledger", job.objects.url], job.clock) == 0
    assert capsys.readouterr().out == "14 files → 3; 0 old files deleted\n"

    assert main(["--ledger", job.objects.url, "--keep-hours", "0"], job.clock) == 0
    assert capsys.readouterr().out == "3 files → 3; 14 old files deleted\n"


def test_the_command_makes_no_ledger_where_there_is_none(tmp_path, capsys):
    assert main(["--ledger", str(tmp_path / "typo")]) == 2
    assert "there is no ledger in" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("hours", ["-1", "nan", "soon"])
def test_the_command_refuses_hours_that_are_none(job, hours):
    with pytest.raises(SystemExit) as ended:
        main(["--ledger", job.objects.url, f"--keep-hours={hours}"], job.clock)
    assert ended.value.code == 2
