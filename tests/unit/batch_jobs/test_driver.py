"""The driver of a job that has nothing to render, and so needs no Ray: what it does while its ledger is away."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from batch_jobs.job_store.job_folder import JobFolder
from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.ledger.snapshot import Snapshot
from batch_jobs.options import RenderOptions
from batch_jobs.planning.plan import Plan
from batch_jobs.render_catalog import main, render_catalog
from orchestrion.errors import StoreUnavailable
from orchestrion.storage.object_store import Objects


@pytest.fixture
def options(tmp_path):
    catalog = tmp_path / "catalog.jsonl"
    catalog.write_text("".join(json.dumps({"prompt": " ", "row_id": str(line)}) + "\n" for line in range(3)))
    return RenderOptions(catalog=str(catalog), out=str(tmp_path / "out"))


def away_in_calls(monkeypatch, name, numbers):
    """Have the calls of `Objects.name` with these numbers (from 1) get no answer."""
    real, calls = getattr(Objects, name), []

    def call(self, key, *arguments):
        calls.append(key)
        if len(calls) in numbers:
            raise StoreUnavailable("the ledger is away")
        return real(self, key, *arguments)

    monkeypatch.setattr(Objects, name, call)
    return calls


@pytest.mark.parametrize("name, first", [("create", 2), ("create", 3), ("create", 4), ("create", 5), ("replace", 1)])
def test_a_ledger_that_goes_away_during_the_run_is_waited_for_and_counts_everything_once(
    options, clock, monkeypatch, name, first
):
    pauses = []
    calls = away_in_calls(monkeypatch, name, range(first, first + 3))

    summary = render_catalog(options, clock=clock, sleep=pauses.append)

    assert len(calls) >= first + 3 and pauses == [1.0, 2.0, 4.0], calls
    assert (summary.state, summary.totals.failures, summary.exit_code) == ("complete", 3, 5)
    newest = read_snapshot(options.out, {})
    [job] = newest.jobs.values()
    assert (job.rows, job.totals.failures) == (3, 3)
    assert [sum(file.rows for file in files) for files in newest.tables.values()] == [0, 3, 0, 0]
    assert Snapshot.from_bytes(Path(summary.manifest_path).read_bytes()) == newest


def test_a_ledger_that_is_away_from_the_beginning_is_told_at_once(options, clock, monkeypatch):
    pauses = []
    away_in_calls(monkeypatch, "create", range(1, 10**6))

    with pytest.raises(StoreUnavailable):
        render_catalog(options, clock=clock, sleep=pauses.append)

    assert pauses == []


def test_the_process_of_whoever_calls_it_as_a_library_keeps_its_allocator(options, clock):
    before = pa.default_memory_pool()
    other = pa.mimalloc_memory_pool()
    pa.set_memory_pool(other)
    try:
        render_catalog(options, clock=clock)
        assert pa.default_memory_pool().backend_name == other.backend_name

        assert main(["--catalog", options.catalog, "--out", options.out]) == 5
        assert pa.default_memory_pool().backend_name == "system"
    finally:
        pa.set_memory_pool(before)


def test_a_ledger_that_leads_elsewhere_is_told_in_words(options, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "jobs").symlink_to(tmp_path / "elsewhere")

    assert main(["--catalog", options.catalog, "--out", options.out]) == 2
    assert "lies behind a link; it is not read" in capsys.readouterr().err
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_key_that_was_named_and_is_not_there_ends_the_run_before_anything_is_written(options, tmp_path, capsys):
    key = tmp_path / ".keys" / "key.pem"

    assert main(["--catalog", options.catalog, "--out", options.out, "--signing-key", str(key)]) == 2
    assert "orchestrion signing init" in capsys.readouterr().err
    assert not key.exists() and not (tmp_path / "out").exists()


def named_as_before(monkeypatch):
    """Name shards of refused rows as releases before this one did: by what was said of the rows, too."""
    real = Plan.open_refused

    def named_by_message(plan):
        for shard in real(plan):
            told = [[row.line, row.row_id, row.title, row.message] for row in shard.rows]
            yield replace(shard, name=plan._name(told))

    monkeypatch.setattr(Plan, "open_refused", named_by_message)


@pytest.mark.parametrize("rounds", [1, 2])
def test_rows_that_an_older_release_settled_are_not_settled_again(options, clock, monkeypatch, rounds):
    with monkeypatch.context() as older:
        named_as_before(older)
        first = render_catalog(options, clock=clock)
        if rounds == 2:
            render_catalog(replace(options, retry_failures=True), clock=clock)

    again = render_catalog(options, clock=clock)

    assert (first.job_id, first.totals.failures) == (again.job_id, 3)
    assert (again.state, again.totals, again.run_totals.failures) == ("complete", first.totals, 0)
    failures = ledger_dataset(options.out, {}, "failures").to_table().sort_by("line")
    assert failures["line"].to_pylist() == [1, 2, 3]


def test_a_run_that_died_between_refused_rows_settles_the_others_once(options, clock, monkeypatch):
    monkeypatch.setattr("batch_jobs.planning.plan.SHARD_ROWS", 2)
    real, commits = JobFolder.commit, []

    def dies(folder, shard, rows):
        commits.append(shard)
        if len(commits) == 2:
            raise KeyboardInterrupt
        return real(folder, shard, rows)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(JobFolder, "commit", dies)
        render_catalog(options, clock=clock)

    again = render_catalog(options, clock=clock)

    assert (again.state, again.totals.failures, again.run_totals.failures) == ("complete", 3, 1)
