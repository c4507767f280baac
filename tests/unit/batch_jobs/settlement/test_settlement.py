"""Settlement: each shard, attempt and machine is in the ledger once, whichever worker dies or is faster, and it adds
up.
"""

import json
import shutil
from datetime import timedelta

import pytest

from batch_jobs.compact_ledger import compact
from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.settlement.outcomes import shard_table
from orchestrion.storage.object_store import Objects
from tests.unit.batch_jobs.committed_job import (
    START,
    CommittedJob,
    assert_readable,
    attempt,
    failure,
    node,
    noted,
    track,
    worker,
)


@pytest.fixture
def job(tmp_path, clock):
    """A job; its clock stands long after its workers died, so none is alive unless a test says so."""
    clock.reading_s = 100_000.0
    return CommittedJob(tmp_path / "out", clock)


def small_job(job):
    """Two shards, a wasted attempt, a dead worker with one attempt in progress, on two machines: 300 USD in all."""
    job.commit("01-a", (1, 20.0), (2, 10.0))
    wasted = attempt("w1-3", "01-b", 3, 6.0, "failed", reason="check-failed")
    cached, failed = track(4, cost_usd=2.5), failure(3)
    job.folder.commit("01-b", shard_table([failed, cached, track(5, 10.0)], [wasted, attempt("w1-5", "01-b", 5, 10.0)]))
    job.folder.write_journal(worker("w1", on=node("n1"), to_s=100.0))
    in_hand = noted("w2-1", "01-c", 6, 8.0)
    job.folder.write_journal(worker("w2", on=node("n2"), to_s=200.0, devices=2.0, attempts=[in_hand]))


def everything(job):
    return {name: job.rows(name) for name in ("tracks", "failures", "attempts", "nodes")}


def test_tracks_carry_waste_and_idle_time_in_proportion_to_what_they_cost(job):
    small_job(job)

    totals = job.close(rows=6)

    # 250 USD were reserved; 40 gave tracks, 6 + 4 did not.
    assert job.rows("tracks", "line", "charged_usd", "waste_usd", "idle_usd", "total_usd") == [
        (1, 20.0, 5.0, 100.0, 125.0),
        (2, 10.0, 2.5, 50.0, 62.5),
        (4, 0.0, 0.0, 0.0, 0.0),
        (5, 10.0, 2.5, 50.0, 62.5),
    ]
    assert job.rows("nodes", "node_id", "workers", "cost_usd", "unallocated_usd") == [
        ("n1", 1, 100.0, 50.0),
        ("n2", 1, 200.0, 0.0),
    ]
    assert (totals.tracks, totals.failures, totals.cache_hits, totals.audio_s) == (4, 1, 1, 240.0)
    assert (totals.charged_usd, totals.waste_usd, totals.idle_usd, totals.saved_usd) == (40.0, 10.0, 200.0, 2.5)
    assert (totals.unallocated_usd, totals.node_usd) == (50.0, 300.0)
    job.assert_reconciled()


def test_the_manifest_says_what_the_job_is_and_what_it_came_to(job):
    small_job(job)

    totals = job.close(state="interrupted", rows=7)

    entry = read_snapshot(job.objects.url, {}).jobs["job-1"]
    assert (entry.catalog, entry.catalog_sha256, entry.store) == ("songs.csv", "ab" * 32, "out/store")
    assert (entry.state, entry.rows, entry.totals, len(entry.closings)) == ("interrupted", 7, totals, 1)


def test_a_try_in_the_hands_of_a_dead_worker_ended_when_it_was_last_seen(job):
    small_job(job)
    job.close()

    [lost] = [row for row in job.rows("attempts") if row["ended"] == "preempted"]
    assert (lost["attempt_id"], lost["worker_id"], lost["node_id"], lost["line"]) == ("w2-1", "w2", "n2", 6)
    assert (lost["ended_at"], lost["device_seconds"], lost["cost_usd"]) == (START + timedelta(seconds=200), 8.0, 4.0)


def test_a_try_that_was_cut_off_with_its_run_is_stopped_and_not_preempted(job):
    job.clock.reading_s = 110.0
    in_hand = [noted("w1-1", "01-a", 1, 8.0)]
    job.folder.write_journal(worker("w1", attempts=in_hand))
    job.folder.write_journal(worker("w2", attempts=[noted("w2-1", "01-b", 2, 8.0, "kept")]))
    job.close(state="interrupted")

    assert sorted(job.rows("attempts", "ended")) == [("kept",), ("stopped",)]


def test_closing_again_changes_nothing(job):
    small_job(job)
    first = job.close(rows=6)
    before = everything(job), job.ledger.snapshot()

    assert job.close(rows=6) == first
    assert (everything(job), job.ledger.snapshot()) == before


def test_only_the_state_changes_when_nothing_else_is_new(job):
    small_job(job)
    job.close(state="interrupted", rows=6)
    before = everything(job)

    job.close(run_id="run-2", state="complete", rows=6)

    assert everything(job) == before
    assert job.ledger.snapshot().jobs["job-1"].state == "complete"


def test_what_comes_later_is_added_to_what_is_there(job):
    small_job(job)
    job.close(state="interrupted", rows=7)
    before = job.rows("tracks")

    job.commit("01-c", (6, 30.0), (7, 10.0))
    job.folder.write_journal(worker("w3", "run-2", node("n1"), from_s=500.0, to_s=600.0, devices=2.0))
    totals = job.close(run_id="run-2", rows=7)

    # The first run's rows are as they were: waste and idle time of the second run fall on its own tracks.
    assert job.rows("tracks")[:4] == before
    assert job.rows("tracks", "line", "total_usd")[4:] == [(6, 75.0), (7, 25.0)]
    assert (totals.tracks, totals.node_usd, totals.charged_usd) == (6, 400.0, 80.0)
    job.assert_reconciled()


def test_a_job_that_rendered_nothing_has_its_bill_all_the_same(job):
    job.folder.write_journal(worker("w1", to_s=40.0, attempts=[noted("w1-1", "01-a", 1, 30.0)]))

    totals = job.close(state="failed", rows=1)

    assert job.rows("nodes", "cost_usd", "unallocated_usd") == [(40.0, 40.0)]
    assert (totals.node_usd, totals.unallocated_usd, totals.waste_usd) == (40.0, 40.0, 0.0)
    assert job.rows("attempts", "ended", "cost_usd") == [("preempted", 15.0)]


def test_an_empty_job_is_in_the_manifest(job):
    assert job.close(rows=0).tracks == 0
    assert job.ledger.snapshot().jobs["job-1"].state == "complete"


# Attempts that a shard and a journal tell of


@pytest.mark.parametrize("is_published", [False, True])
def test_a_try_that_is_in_a_shard_and_in_a_journal_counts_once(job, is_published):
    job.commit("01-a", (1, 20.0))
    if is_published:
        # The worker is alive and of another run: its shards are published, its time is not.
        job.clock.reading_s = 110.0
        job.folder.write_journal(worker("w1"))
        job.close(run_id="run-2")
        job.clock.reading_s = 1000.0
    job.folder.write_journal(worker("w1", attempts=[noted("01-a/1", "01-a", 1, 40.0, "track")]))

    totals = job.close(run_id="run-3")

    assert job.rows("attempts", "attempt_id") == [("01-a/1",)]
    assert totals.node_usd == 100.0
    job.assert_reconciled()


def test_a_finished_try_whose_worker_died_before_its_commit_is_waste_for_the_others(job):
    # The second worker found the track in the store, so no row is charged for it.
    found = track(1, cost_usd=10.0)
    job.folder.commit("01-a", shard_table([found, track(2, 10.0)], [attempt("w2-1", "01-a", 2, 10.0)]))
    job.folder.write_journal(worker("w1", attempts=[noted("w1-1", "01-a", 1, 20.0, "track")]))

    job.close()

    assert job.rows("tracks", "charged_usd", "waste_usd") == [(0.0, 0.0), (10.0, 10.0)]
    assert sorted(job.rows("attempts", "attempt_id", "ended")) == [("w1-1", "track"), ("w2-1", "track")]


def test_a_twin_is_waste(job):
    attempts = [attempt("w1-1", "01-a", 1, 10.0), attempt("w2-1", "01-a", 1, 9.0, "twin")]
    job.folder.commit("01-a", shard_table([track(1, 10.0)], attempts))
    job.folder.write_journal(worker("w1"))

    assert job.close().waste_usd == 9.0


def test_a_shard_that_comes_after_its_worker_was_counted_tells_of_its_try_once(job):
    job.folder.write_journal(worker("w1", attempts=[noted("01-a/1", "01-a", 1, 40.0, "track")]))
    job.close(state="interrupted")

    job.commit("01-a", (1, 20.0))
    job.close(run_id="run-2")

    assert job.rows("attempts", "attempt_id", "cost_usd") == [("01-a/1", 20.0)]
    assert job.rows("tracks", "charged_usd") == [(20.0,)]
    job.assert_reconciled()


# Workers


def test_a_machine_that_works_for_another_run_is_left_to_that_run(job):
    job.clock.reading_s = 110.0
    job.commit("01-a", (1, 20.0))
    job.folder.write_journal(worker("dead", "run-1", node("n1"), to_s=50.0))
    job.folder.write_journal(worker("alive", "run-1", node("n1")))
    job.folder.write_journal(worker("mine", "run-2", node("n2")))

    assert job.close(run_id="run-2").node_usd == 100.0
    assert job.rows("nodes", "run_id", "node_id", "workers") == [("run-2", "n2", 1)]

    assert job.close(run_id="run-1").node_usd == 200.0
    assert sorted(job.rows("nodes", "run_id", "workers")) == [("run-1", 2), ("run-2", 1)]
    job.assert_reconciled()


def test_a_run_whose_guardian_has_said_that_it_is_over_is_counted_however_fresh_its_journals_are(job):
    job.clock.reading_s = 110.0
    job.folder.write_journal(worker("w1", "run-1", node("n1"), attempts=[noted("w1-1", "01-a", 1, 8.0)]))
    job.folder.end_run("run-1")

    assert job.close(run_id="run-2").node_usd == 100.0
    assert job.rows("attempts", "ended") == [("preempted",)], "it did not end in order"


def test_the_driver_that_settles_its_run_is_there_until_then(job):
    job.clock.reading_s = 150.0
    job.folder.write_journal(worker("driver-1", "run-1", node("n1"), to_s=99.0, devices=0.0))
    settled_s = job.close(run_id="run-1").node_usd

    assert settled_s == 150.0, "its last beat was at 99 s"


# Runs and jobs that share a machine


def shared_machine(job, other):
    """Two jobs on one machine at the same time, each with a Ray of its own and one of the machine's two devices."""
    for one, ray, from_s in ((job, "ray-1", 0.0), (other, "ray-2", 50.0)):
        one.commit("01-a", (1, 20.0))
        on = node(ray, machine_id="m-1")
        one.folder.write_journal(worker("w1", "run-1", on, from_s, from_s + 100.0))


@pytest.mark.parametrize("second_first", [False, True])
@pytest.mark.parametrize("compacted", [False, True])
def test_two_jobs_on_one_machine_pay_it_once_and_their_tracks_carry_the_same_in_either_order(
    job, second_first, compacted
):
    other = CommittedJob(job.objects.url, job.clock, "job-2")
    shared_machine(job, other)
    order = [other, job] if second_first else [job, other]

    first = order[0].close(rows=1)
    if compacted:
        compact(job.ledger)
    second = order[1].close(rows=1)

    assert (first.node_usd, second.node_usd) == (100.0, 50.0), "150 seconds, of which both were there for 50"
    for totals in (first, second):
        parts = totals.charged_usd + totals.waste_usd + totals.idle_usd + totals.unallocated_usd
        assert parts == pytest.approx(totals.node_usd, rel=1e-9)
    assert job.rows("tracks", "total_usd") == [(50.0,), (50.0,)]
    assert {machine for (machine,) in job.rows("nodes", "machine_id")} == {"m-1"}
    job.assert_reconciled()


def test_two_runs_of_one_job_on_one_machine_pay_it_once(job):
    job.commit("01-a", (1, 20.0))
    job.folder.write_journal(worker("w1", "run-1", node("ray-1", machine_id="m-1"), 0.0, 100.0))
    job.folder.write_journal(worker("w2", "run-2", node("ray-2", machine_id="m-1"), 20.0, 60.0))

    totals = job.close(run_id="run-2", rows=1)

    assert (totals.node_usd, totals.unallocated_usd) == (100.0, 100.0 - 50.0 - 20.0)
    job.assert_reconciled()


def test_a_job_that_settles_while_another_one_does_sees_what_that_one_paid(job):
    other = CommittedJob(job.objects.url, job.clock, "job-2")
    shared_machine(job, other)
    busy = CommittedJob("", job.clock, objects=BusyObjects(job.objects.url, lambda: other.close(rows=1)))

    totals = busy.close(rows=1)

    assert (totals.node_usd, job.total("nodes", "cost_usd")) == (50.0, 150.0)
    job.assert_reconciled()


def test_a_machine_whose_journals_do_not_name_it_is_known_by_its_schedulers_name(job):
    for name in ("job-1", "job-2"):
        one = CommittedJob(job.objects.url, job.clock, name)
        one.commit("01-a", (1, 20.0))
        one.folder.write_journal(worker("w1", "run-1", node("n1")))
        one.close(rows=1)

    assert job.total("nodes", "cost_usd") == 100.0


# Rounds


def retried(job, *lines_and_usd, still_failed=()):
    attempts = [attempt(f"02/{line}", "02-a", line, usd) for line, usd in lines_and_usd]
    attempts += [attempt(f"02/{line}", "02-a", line, 1.0, "failed") for line in still_failed]
    rows = [track(line, usd) for line, usd in lines_and_usd]
    job.folder.commit("02-a", shard_table(rows + [failure(line, message="again") for line in still_failed], attempts))


def first_round(job, job_id="job-1"):
    failures = [failure(line, job_id) for line in (1, 2, 3)]
    attempts = [attempt(f"01/{line}", "01-a", line, 1.0, "failed", job_id) for line in (1, 2, 3)]
    job.folder.commit("01-a", shard_table([*failures, track(4, 5.0, job_id)], attempts))


@pytest.mark.parametrize("closed_between", [False, True])
def test_a_row_that_is_tried_again_is_in_one_of_the_two_tables(job, closed_between):
    first_round(job)
    if closed_between:
        assert job.close(rows=4).failures == 3
    retried(job, (1, 3.0), still_failed=[2])

    totals = job.close(run_id="run-2", rows=4)

    assert job.rows("tracks", "line") == [(1,), (4,)]
    assert job.rows("failures", "line", "message") == [(2, "again"), (3, "too loud")]
    assert (totals.tracks, totals.failures) == (2, 2)
    # What was tried stays known.
    assert len(job.rows("attempts")) == 5


def test_rows_of_other_jobs_in_the_same_file_stay(job):
    other = CommittedJob(job.objects.url, job.clock, "job-2")
    for one in (job, other):
        first_round(one, one.folder.job_id)
        one.close(rows=4)
    compact(job.ledger)
    retried(job, (1, 3.0), (2, 3.0), (3, 3.0))

    job.close(run_id="run-2", rows=4)

    assert job.rows("failures", "job_id", "line") == [("job-2", 1), ("job-2", 2), ("job-2", 3)]
    assert job.ledger.snapshot().jobs["job-2"].totals.failures == 3


# Death and company


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


class DyingObjects(Objects):
    """Objects of a process that is killed before one of its writes."""

    def __init__(self, url, writes):
        super().__init__(url)
        self.writes_left = writes

    def _write(self):
        if self.writes_left == 0:
            raise Killed
        self.writes_left -= 1

    def create(self, key, data):
        self._write()
        return super().create(key, data)

    def replace(self, key, data):
        self._write()
        super().replace(key, data)

    def delete(self, key):
        self._write()
        super().delete(key)


def test_a_closing_that_is_killed_between_any_two_writes_is_mended_by_the_next(tmp_path, clock):
    clock.reading_s = 100_000.0
    job = CommittedJob(tmp_path / "before", clock)
    first_round(job)
    job.folder.write_journal(worker("w1", on=node("n1"), to_s=100.0, attempts=[noted("w1-9", "01-x", 9, 5.0)]))
    job.close(state="interrupted", rows=4)
    retried(job, (1, 3.0), (3, 5.0), still_failed=[2])
    job.folder.write_journal(worker("w2", "run-2", on=node("n2"), to_s=50.0))

    expected = None
    for writes in range(100):
        place = shutil.copytree(tmp_path / "before", tmp_path / f"killed after {writes}")
        job = CommittedJob(place, clock)
        dying = CommittedJob(place, clock, objects=DyingObjects(str(place), writes))
        was_killed = False
        try:
            dying.close(run_id="run-2", rows=4)
        except Killed:
            was_killed = True
        assert_readable(place)
        totals = job.close(run_id="run-3", rows=4)

        found = everything(job), totals
        expected = expected or found
        assert found == expected
        newest = json.loads((place / "manifest.json").read_bytes())
        assert newest["number"] == job.ledger.snapshot().number == 2 or was_killed
        job.assert_reconciled()
        if not was_killed:
            break
    assert writes > 5
    assert sorted(row["line"] for row in [*found[0]["tracks"], *found[0]["failures"]]) == [1, 2, 3, 4]


class ForgottenObjects(Objects):
    """Objects whose server loses its answer once: the manifest is there, and its writer is told that it is not its."""

    was_lost = False

    def create(self, key, data):
        made = super().create(key, data)
        if key.startswith("manifests/") and not self.was_lost:
            self.was_lost = True
            return False
        return made


def test_a_commit_whose_answer_was_lost_counts_once(job, tmp_path):
    small_job(job)
    unlucky = CommittedJob("", job.clock, objects=ForgottenObjects(job.objects.url))

    totals = unlucky.close(rows=6)

    assert (totals.tracks, totals.node_usd, job.ledger.snapshot().number) == (4, 300.0, 1)
    assert json.loads((tmp_path / "out" / "manifest.json").read_bytes())["number"] == 1
    job.assert_reconciled()


class BusyObjects(Objects):
    """Objects where another writer does something just before a manifest is created."""

    def __init__(self, url, *others):
        super().__init__(url)
        self.others = list(others)

    def create(self, key, data):
        if key.startswith("manifests/") and self.others:
            self.others.pop(0)()
        return super().create(key, data)


def test_two_settlements_at_once_count_everything_once(job):
    small_job(job)
    second = CommittedJob(job.objects.url, job.clock)

    def somebody_else_closes():
        second.close(run_id="run-2", rows=9)
        # And then another shard comes, which only the first one has not seen.
        job.commit("01-z", (7, 10.0))

    busy = CommittedJob("", job.clock, objects=BusyObjects(job.objects.url, somebody_else_closes))
    totals = busy.close(rows=9)

    assert job.rows("tracks", "line") == [(1,), (2,), (4,), (5,), (7,)]
    assert len(job.rows("attempts")) == 6
    assert (totals.tracks, totals.node_usd, totals.charged_usd) == (5, 300.0, 50.0)
    job.assert_reconciled()


def test_other_jobs_and_a_compaction_come_between(job):
    other = CommittedJob(job.objects.url, job.clock, "job-2")
    first_round(job)
    job.close(rows=4)
    first_round(other, "job-2")
    retried(job, (1, 3.0), (3, 5.0), still_failed=[2])

    others = [lambda: other.close(rows=4), lambda: compact(other.ledger)]
    busy = CommittedJob("", job.clock, objects=BusyObjects(job.objects.url, *others))
    busy.close(run_id="run-2", rows=4)

    assert sorted(job.rows("tracks", "job_id", "line")) == [("job-1", 1), ("job-1", 3), ("job-1", 4), ("job-2", 4)]
    assert sorted(job.rows("failures", "job_id", "line")) == [("job-1", 2), ("job-2", 1), ("job-2", 2), ("job-2", 3)]
