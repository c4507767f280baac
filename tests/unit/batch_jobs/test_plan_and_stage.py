"""From planned rows to outcomes, without Ray: nothing lost, equal requests paid once, retries within their budget."""

import pytest

from batch_jobs.outcomes import split
from batch_jobs.render_stage import render_block
from batch_jobs.retry import MAX_ATTEMPTS, RetryBudget, pause_s
from orchestrion.errors import StoreUnavailable


def lines(block):
    return block["line"].to_pylist()


def no_sleep(seconds):
    pytest.fail(f"slept {seconds} s")


# Plan


def test_equal_requests_are_in_one_block_wherever_they_stand(plan_of):
    plan = plan_of({"seed": 1}, {"seed": 2}, {"seed": 3}, {"seed": 1, "requester": "b"}, {"seed": 2, "row_id": "x"})

    assert [lines(block) for block in plan.blocks(2)] == [[1, 4, 2, 5], [3]]


def test_settled_rows_are_not_planned_again_and_settle_once(plan_of):
    plan = plan_of({"seed": 1}, {"seed": 2}, {"seed": 3})

    assert plan.settle([1, 3]) == [1, 3]
    assert plan.settle([3, 2, 2]) == [2]
    assert plan.open_rows() == 0 and list(plan.blocks(1)) == []


def test_rows_that_settle_while_the_blocks_are_read_do_not_disturb_them(plan_of):
    plan = plan_of(*({"seed": seed} for seed in range(10)))

    seen = []
    for block in plan.blocks(3):
        seen += lines(block)
        plan.settle(lines(block))

    assert seen == list(range(1, 11))


# Stage


def test_every_row_of_a_block_has_one_outcome_with_its_line(plan_of, renderer, clock):
    rows = [{"seed": 1, "row_id": "a", "title": "T"}, {"prompt": "fail"}, {"model": "other"}, {"prompt": "silence"}]
    [block] = plan_of(*rows).blocks(10)

    tracks, failures = split(render_block(block, renderer, "job-1", RetryBudget(), clock, no_sleep))

    assert [(row["line"], row["row_id"], row["title"], row["job_id"]) for row in tracks.to_pylist()] == [
        (1, "a", "T", "job-1")
    ]
    assert {row["line"]: (row["reason"], row["stage"]) for row in failures.to_pylist()} == {
        2: ("model-failed", "generate"),
        3: ("invalid-request", "request"),
        4: ("check-failed", "check"),
    }
    silent = failures.to_pylist()[2]
    assert any(not finding["passed"] for finding in silent["findings"])


def test_rows_that_ask_for_the_same_audio_are_paid_once(plan_of, renderer, clock):
    [block] = plan_of({}, {"requester": "b"}, {"purpose": "research"}).blocks(10)

    tracks, _ = split(render_block(block, renderer, "job-1", RetryBudget(), clock, no_sleep))

    assert renderer.models["tone"].performed == 1
    assert tracks["cache_hit"].to_pylist() == [False, True, True]
    assert tracks["requested_by"].to_pylist() == ["anonymous", "b", "anonymous"]
    [cost] = set(tracks["cost_usd"].to_pylist())
    assert tracks["charged_usd"].to_pylist() == [cost, 0.0, 0.0] and cost > 0


def test_a_second_run_is_charged_nothing(plan_of, renderer, clock):
    [block] = plan_of({}).blocks(10)
    render_block(block, renderer, "job-1", RetryBudget(), clock, no_sleep)

    tracks, _ = split(render_block(block, renderer, "job-2", RetryBudget(), clock, no_sleep))

    assert tracks["cache_hit"].to_pylist() == [True] and tracks["charged_usd"].to_pylist() == [0.0]


class FailingStore:
    """A store that is not there for the first publications."""

    def __init__(self, store, outages):
        self.store = store
        self.outages = outages

    def publish(self, track_id, record):
        self.outages -= 1
        if self.outages >= 0:
            raise StoreUnavailable("the store is away")
        return self.store.publish(track_id, record)

    def __getattr__(self, name):
        return getattr(self.store, name)


def test_a_transient_failure_is_tried_again_after_longer_and_longer_pauses(plan_of, renderer, clock):
    renderer.store = FailingStore(renderer.store, outages=2)
    [block] = plan_of({}).blocks(10)
    pauses = []

    tracks, failures = split(render_block(block, renderer, "job-1", RetryBudget(), clock, pauses.append))

    assert (tracks.num_rows, failures.num_rows, tracks["attempts"].to_pylist()) == (1, 0, [3])
    assert pauses == [pause_s(1), pause_s(2)] and pauses[0] < pauses[1]


def test_a_row_is_given_up_after_its_last_attempt_and_says_that_it_may_be_run_again(plan_of, renderer, clock):
    renderer.store = FailingStore(renderer.store, outages=99)
    [block] = plan_of({}).blocks(10)

    _, failures = split(render_block(block, renderer, "job-1", RetryBudget(), clock, lambda _: None))

    [row] = failures.to_pylist()
    assert (row["attempts"], row["reason"], row["transient"]) == (MAX_ATTEMPTS, "store-unavailable", True)


def test_a_dead_store_is_not_hammered_once_the_budget_is_spent(plan_of, renderer, clock):
    calls = []

    class DeadStore:
        def __getattr__(self, method):
            def fail(*_):
                calls.append(method)
                raise StoreUnavailable("the store is away")

            return fail

    renderer.store = DeadStore()
    budget = RetryBudget()
    for block in plan_of(*({"seed": seed} for seed in range(100))).blocks(4):
        render_block(block, renderer, "job-1", budget, clock, lambda _: None)

    assert 100 < len(calls) <= 100 + 10 + 20


def test_a_permanent_failure_is_never_tried_again(plan_of, renderer, clock):
    [block] = plan_of({"prompt": "fail"}).blocks(10)

    _, failures = split(render_block(block, renderer, "job-1", RetryBudget(), clock, no_sleep))

    assert failures["attempts"].to_pylist() == [1]
