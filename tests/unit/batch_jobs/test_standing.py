"""No run is silent: whatever it waits for is said, with since when, the last error and until when."""

from dataclasses import replace
from datetime import timedelta

import pytest

from batch_jobs.job_store.job_folder import JobFolder
from batch_jobs.standing import RENDERING, Standing, store_is_away
from orchestrion.errors import StoreUnavailable
from orchestrion.resilience.store_retry import Away, StoreRetry
from orchestrion.storage.object_store import Objects
from tests.unit.batch_jobs.committed_job import START, worker

NOW = START + timedelta(seconds=100)
AWAY = Away(42.0, "bucket songs: 503 SlowDown")


@pytest.fixture
def folder(tmp_path):
    return JobFolder(Objects(str(tmp_path)), "job-1")


@pytest.fixture
def standing(folder):
    return Standing(RENDERING, folder, "run-1")


def test_before_it_renders_a_run_says_what_it_is_at():
    assert Standing().describe(NOW) == "starting"
    assert Standing("starting Ray").describe(NOW) == "starting Ray"


def test_a_run_without_processes_waits_for_ray(standing, folder):
    folder.write_journal(worker("driver-1", to_s=100.0, devices=0.0))
    folder.write_journal(worker("dead", to_s=10.0))
    folder.write_journal(worker("others", run_id="run-2"))

    assert standing.describe(NOW) == "waiting for Ray to start a render process"


def test_processes_that_load_are_not_silent(standing, folder):
    folder.write_journal(worker("a", is_ready=False))
    folder.write_journal(worker("b", is_ready=False))
    assert standing.describe(NOW) == "2 render processes load their models"

    folder.write_journal(worker("b"))
    assert standing.describe(NOW) is None, "one of them renders"


def test_what_processes_wait_for_comes_from_their_journals(standing, folder):
    why = store_is_away(NOW, AWAY)
    folder.write_journal(worker("a", waiting=why))
    folder.write_journal(worker("b"))

    assert standing.describe(NOW) == (
        "1 of 2 render processes wait: the store has not answered since 00:00:58 UTC (bucket songs: 503 SlowDown); "
        "given up at 00:10:58"
    )


def test_a_ledger_that_does_not_answer_the_driver_is_said(standing, folder, monkeypatch):
    standing.away = lambda: AWAY
    assert "waiting for the ledger, which has not answered since 00:00:58" in standing.describe(NOW)

    standing.away = lambda: None

    def away(*_):
        raise StoreUnavailable("nobody answers")

    monkeypatch.setattr(Objects, "names", away, raising=False)
    monkeypatch.setattr(JobFolder, "journals", away)
    assert standing.describe(NOW) == "waiting for the ledger, which does not answer: nobody answers"


def test_a_run_that_waits_for_another_says_for_which(standing, folder):
    standing.shards_elsewhere = 3
    folder.write_journal(worker("a", run_id="run-2"))

    assert standing.describe(NOW) == "waiting for run-2, which works on 3 shards"
    folder.write_journal(replace(worker("a", run_id="run-2"), left=True))
    assert "another run, which was last seen a moment ago" in standing.describe(NOW)


def test_a_retry_knows_since_when_a_store_is_away_and_what_it_said(clock):
    answers = iter([StoreUnavailable("first"), StoreUnavailable("second"), None])
    seen = []

    def call():
        if (error := next(answers)) is not None:
            raise error

    retrying = StoreRetry(clock, lambda _: seen.append(retrying.away), is_over=lambda: False)
    assert retrying.away is None

    retrying(call)

    assert [away.error for away in seen] == ["first", "second"] and seen[0].for_s < seen[1].for_s
    assert retrying.away is None
