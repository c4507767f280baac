"""A worker and its shard, without Ray: every row settled once, nothing paid twice, the dead's work taken over."""

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from batch_jobs.job_store.job_folder import LEASE_S, JobFolder, WorkerJournal
from batch_jobs.job_store.partial_pieces import PartialPieces
from batch_jobs.rendering.attempt import Attempt
from batch_jobs.rendering.journal import Journal
from batch_jobs.rendering.worker import (
    COMMITTED,
    DEATHS_ALONE,
    DEATHS_BEFORE_EXCLUSIVE,
    ELSEWHERE,
    GIVEN_UP,
    LEFT,
    ShardWorker,
)
from orchestrion.errors import Overloaded, StoreUnavailable
from orchestrion.rendering.executor import Executor
from orchestrion.rendering.policy import catalog_policy
from orchestrion.resilience.retry_budget import MAX_ATTEMPTS, pause_s
from orchestrion.resilience.store_retry import LONGEST_PAUSE_S, STORE_RETRY_S, StoreCalls
from orchestrion.tracks.spec import TrackSpec
from tests.unit.batch_jobs.committed_job import TimelessObjects, node, prices


class HeldClock:
    """Stands still until it is moved, or a sleep moves it."""

    def __init__(self):
        self.at_s = 0.0

    def monotonic_s(self):
        return self.at_s

    def thread_cpu_s(self):
        return self.at_s

    def now(self):
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.at_s)

    def sleep(self, seconds):
        self.at_s += seconds


class Workplace:
    """One worker of one run, with its own threads, on the folder and the store that all of them share."""

    def __init__(self, tmp_path, renderer, clock, worker_id, run_id="run-1", node_id="node-1", mastering_threads=0):
        self.renderer = renderer
        self.clock = clock
        self.pauses = []
        self.folder = JobFolder(TimelessObjects(str(tmp_path / "ledger")), "job-1")
        identity = WorkerJournal(worker_id, run_id, node(node_id), 1.0, clock.now(), clock.now())
        self.journal = Journal(self.folder, identity, clock)
        self.journal.write()
        self.partials = PartialPieces(self.folder.objects, self.folder.job_id, renderer.signer)
        self.ledger = StoreCalls(clock, self.sleep, lambda: self.executor.is_over)
        self.executor = Executor(
            renderer,
            catalog_policy(2, mastering_threads),
            clock,
            checkpoints=self.partials,
            sleep=self.sleep,
            probe=renderer.store.probe,
            refused_elsewhere=lambda: self.ledger.refused,
        )
        self.executor.start()
        self.worker = ShardWorker(
            self.folder, prices(), renderer, self.executor, self.journal, self.ledger, clock, self.sleep
        )

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.clock.sleep(seconds)

    def take(self, shard):
        [summary] = self.worker.take(shard.block()).to_pylist()
        return summary

    def rows(self, shard, kind):
        return [row for row in self.folder.shard(shard.name)[kind].to_pylist() if row is not None]


@pytest.fixture
def clock():
    return HeldClock()


@pytest.fixture
def workplace(tmp_path, renderer, clock):
    """Makes workers; ends their threads afterwards."""
    made = []

    def make(worker_id="w-1", **values):
        made.append(Workplace(tmp_path, renderer, clock, worker_id, **values))
        return made[-1]

    yield make
    for each in made:
        each.executor.close()


def test_every_row_of_a_shard_ends_as_a_track_or_a_failure_with_its_line_and_its_attempts(plan_of, workplace):
    rows = [{"seed": 1, "row_id": "a", "title": "T"}, {"prompt": "fail"}, {"model": "tone", "prompt": "silence"}]
    [shard] = plan_of(*rows).open_shards()
    here = workplace()

    summary = here.take(shard)

    assert (summary["state"], summary["tracks"], summary["failures"]) == (COMMITTED, 1, 2)
    assert [(row["line"], row["row_id"], row["title"]) for row in here.rows(shard, "track")] == [(1, "a", "T")]
    assert {row["line"]: (row["reason"], row["stage"]) for row in here.rows(shard, "failure")} == {
        2: ("model-failed", "generate"), 3: ("check-failed", "check"),
    }  # fmt: skip
    attempts = here.rows(shard, "attempt")
    assert {row["line"]: (row["ended"], row["reason"]) for row in attempts} == {
        1: ("track", None), 2: ("failed", "model-failed"), 3: ("failed", "check-failed"),
    }  # fmt: skip
    assert all(row["worker_id"] == "w-1" and row["node_id"] == "node-1" for row in attempts)
    assert {row["run_id"] for kind in ("track", "failure", "attempt") for row in here.rows(shard, kind)} == {"run-1"}


def test_what_a_catalog_keeps_stands_in_its_tracks_and_failures(plan_of, workplace):
    rows = [
        {"seed": 1, "isrc": "DE-1", "label": 7.0}, {"prompt": "fail", "isrc": "DE-2"}, {"seed": 1, "isrc": "DE-3"},
        {"seed": 4},
    ]  # fmt: skip
    [shard] = plan_of(*rows, keep=("isrc", "label")).open_shards()
    here = workplace()

    here.take(shard)

    # Rows that ask for the same audio keep their own.
    assert {row["line"]: row["kept"] for row in here.rows(shard, "track")} == {
        1: [("isrc", "DE-1"), ("label", "7")], 3: [("isrc", "DE-3")], 4: None,
    }  # fmt: skip
    assert [row["kept"] for row in here.rows(shard, "failure")] == [[("isrc", "DE-2")]]


def test_a_model_that_is_not_there_fails_its_rows_and_costs_no_try(plan_of, workplace):
    [shard] = plan_of({"model": "other"}).open_shards()
    here = workplace()

    here.take(shard)

    [row] = here.rows(shard, "failure")
    assert (row["reason"], row["stage"]) == ("invalid-request", "request")
    assert here.rows(shard, "attempt") == []


def test_rows_that_ask_for_the_same_audio_are_rendered_and_paid_once(plan_of, workplace):
    [shard] = plan_of({}, {"requester": "b"}, {"purpose": "research"}).open_shards()
    here = workplace()

    here.take(shard)

    tracks = here.rows(shard, "track")
    assert here.renderer.models["tone"].performed == 1
    assert [(row["cache_hit"], row["requested_by"]) for row in tracks] == [
        (False, "anonymous"), (True, "b"), (True, "anonymous"),
    ]  # fmt: skip
    assert [row["charged_usd"] for row in tracks] == [tracks[0]["cost_usd"], 0.0, 0.0]
    # Who had it made is told in nobody else's row.
    assert [(row["requester"], row["purpose"]) for row in tracks] == [
        ("anonymous", "commercial"), (None, None), (None, None),
    ]  # fmt: skip


def test_what_another_job_rendered_is_charged_to_nobody_here(plan_of, workplace, renderer, clock):
    plan = plan_of({})
    [shard] = plan.open_shards()
    renderer.render(request_of(shard))
    clock.at_s += 60
    here = workplace()

    here.take(shard)

    [row] = here.rows(shard, "track")
    assert row["cache_hit"] and row["charged_usd"] == 0.0 and here.rows(shard, "attempt") == []


def request_of(shard, index=0):
    return TrackSpec.from_json(json.loads(shard.rows[index]["spec"])).resolve()


def test_a_committed_shard_is_not_rendered_again(plan_of, workplace):
    [shard] = plan_of({"seed": 1}, {"prompt": "fail"}).open_shards()
    first, second = workplace("w-1"), workplace("w-2")
    first.take(shard)
    performed = first.renderer.models["tone"].performed

    summary = second.take(shard)

    assert (summary["state"], summary["tracks"], summary["failures"]) == (COMMITTED, 1, 1)
    assert second.renderer.models["tone"].performed == performed


# After a death


def test_what_a_dead_worker_finished_is_taken_over_and_paid_by_this_job(plan_of, workplace, renderer, clock):
    [shard] = plan_of({"seed": 1}, {"seed": 2}).open_shards()
    dead = workplace("w-dead")
    dead.folder.claim(shard.name, "w-dead", clock.now())
    clock.at_s += 1
    renderer.render(request_of(shard, 0))
    clock.at_s += 1
    here = workplace("w-2")

    here.take(shard)

    tracks, attempts = here.rows(shard, "track"), here.rows(shard, "attempt")
    assert [row["cache_hit"] for row in tracks] == [False, False]
    assert [row["charged_usd"] == row["cost_usd"] for row in tracks] == [True, True]
    assert {row["line"]: row["worker_id"] for row in attempts} == {1: "w-dead", 2: "w-2"}
    assert {row["ended"] for row in attempts} == {"track"}


def test_a_try_that_the_dead_had_noted_keeps_its_name(plan_of, workplace, renderer, clock):
    [shard] = plan_of({"seed": 1}).open_shards()
    dead = workplace("w-dead")
    dead.folder.claim(shard.name, "w-dead", clock.now())
    one = Attempt.begin(dead.executor, request_of(shard), renderer.track_id(request_of(shard)))
    attempt_id = dead.journal.note(shard.name, 1, one)
    one.outcome.result()
    dead.journal.write()
    here = workplace("w-2")

    here.take(shard)

    assert [(row["attempt_id"], row["ended"]) for row in here.rows(shard, "attempt")] == [(attempt_id, "track")]


def test_a_shard_in_the_hands_of_another_run_is_left_to_it_until_that_run_is_dead(plan_of, workplace, clock):
    [shard] = plan_of({}).open_shards()
    other = workplace("w-other", run_id="run-0")
    other.folder.claim(shard.name, "w-other", clock.now())
    here = workplace("w-2")

    assert here.take(shard)["state"] == ELSEWHERE
    clock.at_s += LEASE_S + 1
    assert here.take(shard)["state"] == COMMITTED


def test_a_run_that_has_ended_holds_nothing_however_fresh_its_claims_are(plan_of, workplace, clock):
    [shard] = plan_of({}).open_shards()
    other = workplace("w-other", run_id="run-0")
    other.folder.claim(shard.name, "w-other", clock.now())
    other.folder.end_run("run-0")

    assert workplace("w-2").take(shard)["state"] == COMMITTED


def test_a_claim_of_our_own_run_is_of_a_worker_that_ray_has_given_up(plan_of, workplace, clock):
    [shard] = plan_of({}).open_shards()
    workplace("w-lost").folder.claim(shard.name, "w-lost", clock.now())

    assert workplace("w-2").take(shard)["state"] == COMMITTED


def kill_workers_of(shard, workplace, clock, count):
    for number in range(count):
        workplace(f"w-dead-{number}").folder.claim(shard.name, f"w-dead-{number}", clock.now())


def test_a_row_that_kills_every_process_alone_is_given_up_and_the_others_are_rendered(plan_of, workplace, clock):
    [shard] = plan_of({"seed": 1}, {"seed": 2}, {"seed": 3}).open_shards()
    kill_workers_of(shard, workplace, clock, DEATHS_BEFORE_EXCLUSIVE)
    here = workplace("w-last")
    for number in range(DEATHS_ALONE):
        here.folder.begin_alone(shard.name, 2, f"w-dead-{number}")

    here.take(shard)

    [failure] = here.rows(shard, "failure")
    assert (failure["line"], failure["stage"], failure["transient"]) == (2, "worker", True)
    assert failure["attempts"] == DEATHS_BEFORE_EXCLUSIVE + DEATHS_ALONE
    assert [row["line"] for row in here.rows(shard, "track")] == [1, 3]


def test_rows_tried_alone_leave_no_mark_once_they_are_done(plan_of, workplace, clock):
    [shard] = plan_of({"seed": 1}, {"seed": 2}).open_shards()
    kill_workers_of(shard, workplace, clock, DEATHS_BEFORE_EXCLUSIVE)
    here = workplace("w-last")

    here.take(shard)

    assert [here.folder.deaths_alone(shard.name, line) for line in (1, 2)] == [0, 0]
    assert len(here.rows(shard, "track")) == 2


def test_workers_that_left_in_order_do_not_make_a_shard_suspicious(plan_of, workplace, clock):
    [shard] = plan_of({"seed": 1}, {"seed": 2}).open_shards()
    for number in range(DEATHS_BEFORE_EXCLUSIVE + 1):
        gone = workplace(f"w-{number}")
        gone.folder.claim(shard.name, f"w-{number}", clock.now())
        gone.journal.write(left=True)
    here = workplace("w-last")
    here.folder.begin_alone = lambda *_: pytest.fail("tried alone")

    assert here.take(shard)["tracks"] == 2


def test_of_two_workers_that_render_the_same_shard_one_commit_stands_and_the_other_is_waste(plan_of, workplace):
    [shard] = plan_of({}).open_shards()
    slow, fast = workplace("w-slow"), workplace("w-fast")
    commit = slow.folder.commit

    def too_late(name, rows):
        fast.take(shard)
        return commit(name, rows)

    slow.folder.commit = too_late

    summary = slow.take(shard)
    slow.journal.write()

    assert (summary["state"], summary["tracks"]) == (COMMITTED, 1)
    assert {row["attempt_id"] for row in slow.rows(shard, "attempt")} <= {"w-fast-1", "w-slow-line-1", "w-slow-1"}
    noted = slow.folder.journal("w-slow").attempts
    assert [one.ended for one in noted] == ["twin"]


# Stopping


def test_a_stopped_line_leaves_the_shard_to_others_without_a_commit(plan_of, workplace):
    [shard] = plan_of({}).open_shards()
    here = workplace()
    here.executor.stop(0.0)

    assert here.take(shard)["state"] == LEFT
    assert not here.folder.is_committed(shard.name)


def test_a_stopped_worker_whose_commit_nobody_takes_leaves_the_shard_to_others(plan_of, workplace, monkeypatch):
    [shard] = plan_of({}).open_shards()
    here = workplace()

    def away(*_):
        here.executor.stop(0.0)
        raise StoreUnavailable("the ledger is away")

    monkeypatch.setattr(here.folder, "commit", away)

    assert here.take(shard)["state"] == LEFT


# Retries


def busy(monkeypatch, model, times):
    """Have a model refuse to begin a piece so many times."""
    perform, refusals = model.perform, iter(range(times))

    def refuse(*arguments, **options):
        if next(refusals, None) is not None:
            raise Overloaded("busy", 1.0)
        return perform(*arguments, **options)

    monkeypatch.setattr(model, "perform", refuse)


def test_a_transient_failure_is_tried_again_after_longer_and_longer_pauses(plan_of, workplace, renderer, monkeypatch):
    busy(monkeypatch, renderer.models["tone"], times=2)
    [shard] = plan_of({}).open_shards()
    here = workplace()

    here.take(shard)

    [row] = here.rows(shard, "track")
    assert row["attempts"] == 3
    assert [row["ended"] for row in here.rows(shard, "attempt")] == ["failed", "failed", "track"]
    assert here.pauses == [pause_s(1), pause_s(2)] and pause_s(1) < pause_s(2)


def test_a_row_is_given_up_after_its_last_attempt_and_says_that_it_may_be_run_again(
    plan_of, workplace, renderer, monkeypatch
):
    busy(monkeypatch, renderer.models["tone"], times=99)
    [shard] = plan_of({}).open_shards()
    here = workplace()

    here.take(shard)

    [row] = here.rows(shard, "failure")
    assert (row["attempts"], row["reason"], row["transient"]) == (MAX_ATTEMPTS, "overloaded", True)


def test_a_permanent_failure_is_never_tried_again(plan_of, workplace):
    [shard] = plan_of({"prompt": "fail"}).open_shards()
    here = workplace()

    here.take(shard)

    assert [row["attempts"] for row in here.rows(shard, "failure")] == [1] and here.pauses == []


class FailingStore:
    """A store that does not answer one kind of call: `is_away` is asked with its number, from 0.

    One that never takes a blob takes no other bytes either.
    """

    def __init__(self, store, name, is_away):
        self.store = store
        self.name = name
        self.is_away = is_away
        self.calls = itertools.count()

    def __getattr__(self, name):
        def call(*arguments):
            if name == self.name and self.is_away(next(self.calls)):
                raise StoreUnavailable("the store is away")
            if name == "probe" and self.name == "put_blob":
                raise StoreUnavailable("the store is away")
            return getattr(self.store, name)(*arguments)

        return call


@pytest.mark.parametrize("call", ["listing", "tombstone", "announce", "put_blob", "publish"])
def test_a_store_that_is_away_again_and_again_costs_no_row_and_nothing_is_rendered_twice(
    plan_of, workplace, renderer, call
):
    rows = 12
    renderer.store = FailingStore(renderer.store, call, lambda number: number % 9 < 6)
    [shard] = plan_of(*({"seed": seed} for seed in range(rows)), requests_per_shard=rows).open_shards()
    here = workplace()

    summary = here.take(shard)

    assert (summary["tracks"], summary["failures"]) == (rows, 0)
    assert len(here.pauses) >= rows
    assert here.renderer.models["tone"].performed == rows
    assert [row["ended"] for row in here.rows(shard, "attempt")] == ["track"] * rows
    assert {row["attempts"] for row in here.rows(shard, "track")} == {1}


def test_a_theme_that_cannot_be_read_is_waited_for(plan_of, workplace, renderer):
    theme = renderer.store.put_theme(b"MThd")
    renderer.store = FailingStore(renderer.store, "theme", lambda number: number < 5)
    [shard] = plan_of({"theme": theme}).open_shards()
    here = workplace()

    assert here.take(shard)["tracks"] == 1
    assert here.pauses == [1.0, 2.0, 4.0, 8.0, LONGEST_PAUSE_S]


def test_a_store_that_stays_away_costs_no_row_either_and_others_are_not_kept_waiting_for_it(
    plan_of, workplace, renderer
):
    renderer.store = FailingStore(renderer.store, "put_blob", lambda _: True)
    shards = list(plan_of(*({"seed": seed} for seed in range(20)), requests_per_shard=10).open_shards())
    here = workplace()

    summaries = [here.take(shard) for shard in shards]

    assert {(summary["state"], summary["reason"]) for summary in summaries} == {(GIVEN_UP, "the store is away")}
    assert not any(here.folder.is_committed(shard.name) for shard in shards)
    # Two threads store: each has waited for ten minutes once, and no call after them.
    assert STORE_RETRY_S <= sum(here.pauses) <= 3 * STORE_RETRY_S


def test_what_the_store_never_takes_of_one_row_is_that_rows_failure(plan_of, workplace, renderer, monkeypatch):
    put_blob = renderer.store.put_blob
    [shard] = plan_of({"seed": 1}, {"seed": 2, "format": "wav"}, {"seed": 3}).open_shards()
    here = workplace()

    def refuse_wav(data, suffix):
        if suffix == ".wav":
            raise StoreUnavailable("a filter on the way does not like it")
        return put_blob(data, suffix)

    monkeypatch.setattr(renderer.store, "put_blob", refuse_wav)

    here.take(shard)

    [failure] = here.rows(shard, "failure")
    assert (failure["line"], failure["reason"], failure["attempts"]) == (2, "store-unavailable", 1)
    assert [row["line"] for row in here.rows(shard, "track")] == [1, 3]


def test_a_row_that_the_store_stopped_while_it_was_tried_alone_was_not_deadly(plan_of, workplace, renderer, clock):
    renderer.store = FailingStore(renderer.store, "put_blob", lambda _: True)
    [shard] = plan_of({"seed": 1}).open_shards()
    kill_workers_of(shard, workplace, clock, DEATHS_BEFORE_EXCLUSIVE)
    here = workplace("w-last")

    assert here.take(shard)["state"] == GIVEN_UP
    assert here.folder.deaths_alone(shard.name, 1) == 0


def test_a_ledger_that_is_away_is_waited_for_and_no_row_pays_for_it(plan_of, workplace):
    [shard] = plan_of({}).open_shards()
    here = workplace()
    commit, outages = here.folder.commit, iter([True, True, False])

    def sometimes(name, rows):
        if next(outages):
            raise StoreUnavailable("the ledger is away")
        return commit(name, rows)

    here.folder.commit = sometimes

    assert here.take(shard)["tracks"] == 1
    assert here.pauses == [1.0, 2.0]
    assert here.renderer.models["tone"].performed == 1


# The journal


def test_a_journal_tells_of_attempts_in_progress_until_their_shard_is_committed(plan_of, workplace, renderer, clock):
    [shard] = plan_of({"seed": 1}).open_shards()
    here = workplace()
    one = Attempt.begin(here.executor, request_of(shard), renderer.track_id(request_of(shard)))
    here.journal.note(shard.name, 1, one)
    one.outcome.result()
    clock.at_s += 5
    here.journal.write()

    [noted] = here.folder.journal("w-1").attempts
    assert (noted.shard, noted.line, noted.ended) == (shard.name, 1, "track")
    assert here.folder.journal("w-1").seen_at == clock.now()
    assert here.folder.journals() == [here.folder.journal("w-1")]

    here.journal.settle(shard.name, committed=True)
    here.journal.write(left=True)
    assert here.folder.journal("w-1").attempts == () and here.folder.journal("w-1").left


def test_a_worker_is_dead_when_its_lease_is_over_or_it_has_said_good_bye(workplace, clock):
    identity = workplace().journal.identity

    assert identity.is_alive(clock.now() + timedelta(seconds=LEASE_S))
    assert not identity.is_alive(clock.now() + timedelta(seconds=LEASE_S + 1))
    assert not replace(identity, left=True).is_alive(clock.now())
