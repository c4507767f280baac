"""Who is alive is told by the clock of the folder, not by that of a worker, which may be hours ahead or behind."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from batch_jobs.job_store.job_folder import LEASE_S, JobFolder
from orchestrion.storage.object_store import Objects
from tests.unit.batch_jobs.committed_job import START, CommittedJob, noted, worker

HOURS = (timedelta(hours=2), timedelta(0), timedelta(hours=-2))


@pytest.fixture
def folder(tmp_path):
    return JobFolder(Objects(str(tmp_path)), "job-1")


def path_of(folder, worker_id):
    return Path(folder.objects.url) / f"jobs/job-1/workers/{worker_id}.json"


def written(folder, clock_is_ahead, ago_s=0.0, **values):
    """A journal that was written so long ago, by a worker whose clock is wrong; and when that was."""
    folder.write_journal(worker("w-1", **values))
    path = path_of(folder, "w-1")
    at_s = path.stat().st_mtime - ago_s
    at = datetime.fromtimestamp(at_s, UTC)
    up_s = values.get("to_s", 100.0) - values.get("from_s", 0.0)
    seen_at = at + clock_is_ahead
    folder.write_journal(replace(worker("w-1", **values), up_from=seen_at - timedelta(seconds=up_s), seen_at=seen_at))
    os.utime(path, (at_s, at_s))
    return at


@pytest.mark.parametrize("ahead", HOURS, ids=str)
def test_a_worker_is_alive_as_long_as_it_writes_whatever_its_clock_says(folder, ahead):
    at = written(folder, ahead, ago_s=LEASE_S - 5)

    assert folder.journal("w-1").is_alive(at)
    # Nor does it matter what time it is where the question is asked.
    assert folder.journal("w-1").is_alive(at + timedelta(hours=3))


@pytest.mark.parametrize("ahead", HOURS, ids=str)
def test_a_dead_worker_is_dead_whatever_its_clock_said(folder, ahead):
    at = written(folder, ahead, ago_s=LEASE_S + 5)

    assert not folder.journal("w-1").is_alive(at)
    # What it says of itself is that it was seen just now.
    assert not folder.journal("w-1").is_alive(at + ahead)


def test_a_file_of_the_future_is_of_a_dead_worker(folder):
    at = written(folder, timedelta(0), ago_s=-3600.0)

    assert not folder.journal("w-1").is_alive(at)


def test_the_times_of_a_clock_that_is_ahead_are_put_back(folder, caplog):
    at = written(folder, timedelta(hours=2), attempts=[noted("a-1", "01-a", 1, 50.0)], to_s=100.0)
    [attempt] = worker("w-1", attempts=[noted("a-1", "01-a", 1, 50.0)]).attempts

    journal = folder.journal("w-1")

    assert abs((journal.seen_at - at).total_seconds()) < 1e-3
    assert journal.seen_at - journal.up_from == timedelta(seconds=100)
    assert abs((attempt.started_at - journal.attempts[0].started_at - timedelta(hours=2)).total_seconds()) < 1e-3
    assert "clock is 7200 s ahead" in caplog.text


def test_a_machine_whose_clock_is_ahead_is_billed_for_what_it_was_up(tmp_path, folder):
    at = written(folder, timedelta(hours=2), ago_s=60.0, to_s=100.0)

    class Clock:
        def now(self):
            return at + timedelta(seconds=60)

    job = CommittedJob("", Clock(), objects=folder.objects)

    assert job.close().node_usd == pytest.approx(100.0)


def test_a_journal_that_was_copied_later_keeps_its_times(folder):
    folder.write_journal(worker("w-1"))

    assert folder.journal("w-1").seen_at == START + timedelta(seconds=100)


def test_a_journal_cannot_say_how_old_it_is(folder, caplog):
    folder.write_journal(worker("w-1"))
    path = path_of(folder, "w-1")
    values = json.loads(path.read_text())
    assert "age_s" not in values

    path.write_text(json.dumps(values | {"age_s": 0.0}))

    assert folder.journal("w-1") is None and "is skipped" in caplog.text


@pytest.mark.parametrize("up_from", ["0001-01-01T00:00:00+00:00", "9999-12-31T00:00:00+00:00"])
def test_no_moment_that_a_journal_names_breaks_its_reader(folder, up_from):
    folder.write_journal(worker("w-1"))
    path = path_of(folder, "w-1")
    values = json.loads(path.read_text()) | {"up_from": up_from, "seen_at": "9999-12-31T00:00:00+00:00"}
    path.write_text(json.dumps(values))

    folder.journals()


def test_where_the_folder_does_not_tell_the_journal_is_believed_within_the_lease(folder, monkeypatch):
    written(folder, timedelta(0), ago_s=3600.0)
    now = folder.journal("w-1").seen_at
    assert not folder.journal("w-1").is_alive(now)

    def no_room(*_, **__):
        raise OSError(28, "No space left on device")

    real = os.open
    monkeypatch.setattr(
        os,
        "open",
        lambda path, flags, *rest, **more: no_room() if flags & os.O_CREAT else real(path, flags, *rest, **more),
    )

    journal = folder.journal("w-1")
    assert journal.age_s is None and journal.is_alive(now + timedelta(seconds=LEASE_S))
    assert not journal.is_alive(now + timedelta(seconds=LEASE_S + 1))
    assert not journal.is_alive(now - timedelta(seconds=LEASE_S + 1))
