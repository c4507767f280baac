"""No run is silent: whatever it waits for is said, with since when, the last error and until when."""

import threading
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from batch_jobs.job_store.job_folder import JobFolder
from batch_jobs.rendering.journal import MAX_WAITING_CHARACTERS
from batch_jobs.run.standing import RENDERING, TICK_S, Standing, is_away, ticking
from orchestrion.clock import SystemClock
from orchestrion.errors import StoreUnavailable
from orchestrion.resilience.store_retry import UNANSWERED_S, Away, StoreRetry
from tests.unit.batch_jobs.committed_job import START, TimelessObjects, worker

NOW = START + timedelta(seconds=100)
AWAY = Away(42.0, "bucket songs: 503 SlowDown")


@pytest.fixture
def folder(tmp_path):
    return JobFolder(TimelessObjects(str(tmp_path)), "job-1")


@pytest.fixture
def standing(folder):
    return Standing(RENDERING, folder, "run-1")


def said(standing, now=NOW):
    """What is said after a look."""
    standing.look(SimpleNamespace(now=lambda: now))
    return standing.describe(now)


def test_before_it_renders_a_run_says_what_it_is_at():
    assert said(Standing()) == "starting"
    assert said(Standing("starting Ray")) == "starting Ray"


def test_a_run_without_processes_waits_for_ray(standing, folder):
    folder.write_journal(worker("driver-1", to_s=100.0, devices=0.0))
    folder.write_journal(worker("gone", to_s=10.0, left=True))
    folder.write_journal(worker("others", run_id="run-2"))

    assert said(standing) == "waiting for Ray to start a render process"


def test_a_run_whose_processes_are_not_heard_of_says_since_when_and_why_that_may_be(standing, folder):
    folder.write_journal(worker("dead", to_s=10.0))
    folder.write_journal(worker("dead-too", to_s=40.0))

    assert "2 were there, and none has been heard of since 00:00:40 UTC" in said(standing)
    assert "or the ledger does not take what they write" in said(standing)


def test_processes_that_load_are_not_silent(standing, folder):
    folder.write_journal(worker("a", is_ready=False))
    folder.write_journal(worker("b", is_ready=False))
    assert said(standing) == "2 render processes load their models"

    folder.write_journal(worker("b"))
    assert said(standing) is None, "one of them renders"


def test_what_processes_wait_for_comes_from_their_journals(standing, folder):
    why = is_away("store", NOW, AWAY)
    folder.write_journal(worker("a", waiting=why))
    folder.write_journal(worker("b"))

    assert said(standing) == (
        "1 of 2 render processes wait: the store has not answered, or takes nothing, since 00:00:58 UTC (bucket songs: "
        "503 SlowDown); given up at 00:10:58"
    )


def test_until_when_is_what_was_asked_for():
    assert is_away("store", NOW, replace(AWAY, patience_s=60.0)).endswith("given up at 00:01:58")


def test_a_long_error_takes_no_words_from_what_follows():
    assert is_away("store", NOW, replace(AWAY, error="x" * 10_000)).endswith("…); given up at 00:10:58")
    assert len(is_away("ledger", NOW, replace(AWAY, error="x" * 10_000))) <= MAX_WAITING_CHARACTERS


def test_a_ledger_that_does_not_answer_the_driver_is_said(standing, folder, monkeypatch):
    standing.away = lambda: AWAY
    assert "the ledger has not answered, or takes nothing, since 00:00:58" in said(standing)

    standing.away, standing.patience_s = (lambda: None), 60.0

    def away(*_):
        raise StoreUnavailable("nobody answers")

    monkeypatch.setattr(JobFolder, "journals", away)
    said(standing)
    later = NOW + timedelta(seconds=30)
    assert said(standing, later) == (
        "waiting: the ledger has not answered, or takes nothing, since 00:01:40 UTC (nobody answers); given up at "
        "00:02:40"
    )
    monkeypatch.undo()
    assert said(standing, later) == "waiting for Ray to start a render process"


def test_a_ledger_that_hangs_does_not_silence_the_run(standing, monkeypatch):
    hangs, answers = threading.Event(), threading.Event()

    def journals(_):
        hangs.set()
        answers.wait()
        return []

    monkeypatch.setattr(JobFolder, "journals", journals)
    looker = threading.Thread(target=standing.look, args=[SimpleNamespace(now=lambda: NOW)])
    looker.start()
    hangs.wait()
    try:
        late = NOW + timedelta(seconds=UNANSWERED_S + 1)
        assert "since 00:01:40 UTC (no answer yet); given up at 00:11:40" in standing.describe(late)
        assert standing.describe(NOW) == RENDERING
    finally:
        answers.set()
        looker.join()


def test_news_is_told_at_once_and_the_same_again_only_every_few_seconds(monkeypatch):
    class Clock(SystemClock):
        at_s = 0.0

        def monotonic_s(self):
            return self.at_s

    clock, told, standing = Clock(), [], Standing("one thing")
    heard = threading.Condition()

    def tick(what):
        with heard:
            told.append((clock.at_s, what))
            heard.notify_all()

    monkeypatch.setattr("batch_jobs.run.standing.LOOK_S", 0.001)
    with ticking(standing, clock, tick), heard:
        assert heard.wait_for(lambda: told, 10)
        standing.phase = "another"
        assert heard.wait_for(lambda: len(told) == 2, 10)
        clock.at_s = TICK_S
        assert heard.wait_for(lambda: len(told) == 3, 10)

    assert told == [(0.0, "one thing"), (0.0, "another"), (TICK_S, "another")]


def test_a_run_that_waits_for_another_says_for_which(standing, folder):
    standing.shards_elsewhere, standing.elsewhere_since = 3, NOW - timedelta(seconds=60)
    folder.write_journal(worker("a", run_id="run-2"))

    assert said(standing) == (
        "waiting for run-2, which works on 3 shards, since 00:00:40 UTC: until they are committed, or it has not been "
        "heard of for 20 s"
    )
    folder.write_journal(replace(worker("a", run_id="run-2"), left=True))
    assert "another run, which was last seen a moment ago" in said(standing)


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
