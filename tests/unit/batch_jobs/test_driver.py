"""The driver of a job that has nothing to render, and so needs no Ray: what it does while its ledger is away."""

import json
from pathlib import Path

import pytest

from batch_jobs.books.ledger import Snapshot, read_snapshot
from batch_jobs.options import RenderOptions
from batch_jobs.render_catalog import render_catalog
from orchestrion.errors import StoreUnavailable
from orchestrion.objects import Objects


@pytest.fixture
def options(tmp_path):
    catalog = tmp_path / "catalog.jsonl"
    catalog.write_text("".join(json.dumps({"prompt": " ", "row_id": str(line)}) + "\n" for line in range(3)))
    return RenderOptions(catalog=str(catalog), out=str(tmp_path / "out"))


def away_in_calls(monkeypatch, name, numbers):
    """Have the calls of `Objects.name` with these numbers (from 1) find nobody."""
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
