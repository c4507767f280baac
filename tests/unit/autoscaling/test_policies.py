"""Scaling decisions, replayed against a fake context whose clock the test moves."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaling.policies.batch import IDLE_S, PATIENCE_S, batch_policy
from autoscaling.policies.low_latency import HOLD_S, low_latency_policy


@dataclass(frozen=True)
class FakeContext:
    total_num_requests: float = 0.0
    current_num_replicas: int = 1
    target_num_replicas: int = 1
    aggregated_metrics: dict = field(default_factory=dict)
    capacity_adjusted_min_replicas: int = 1
    capacity_adjusted_max_replicas: int = 8
    policy_state: dict = field(default_factory=dict)
    current_time: float = 1000.0
    config: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(target_ongoing_requests=4))


def replay(policy, context, requests_at):
    """The decisions over time when every decision is carried out at once."""
    decisions = []
    for time_s, requests in requests_at:
        wanted, state = policy(replace(context, total_num_requests=requests, current_time=time_s))
        context = replace(context, current_num_replicas=wanted, target_num_replicas=wanted, policy_state=state)
        decisions.append(wanted)
    return decisions


def test_low_latency_scales_up_in_one_decision():
    assert replay(low_latency_policy, FakeContext(), [(0, 4), (1, 17)]) == [1, 5]


def test_low_latency_keeps_its_peak_for_the_hold_and_then_lets_go():
    load = [(0, 17), (1, 0), (HOLD_S - 1, 0), (HOLD_S + 2, 0)]

    assert replay(low_latency_policy, FakeContext(), load) == [5, 5, 5, 1]


def test_low_latency_steps_down_to_the_largest_need_that_is_still_remembered():
    load = [(0, 30), (60, 10), (HOLD_S + 1, 0), (60 + HOLD_S + 1, 0)]

    assert replay(low_latency_policy, FakeContext(), load) == [8, 8, 3, 1]


def test_low_latency_adds_one_replica_when_listeners_wait_although_the_count_is_low():
    waiting = FakeContext(
        total_num_requests=2, current_num_replicas=2, aggregated_metrics={"queue_seconds": {"a": 0.1, "b": 5.0}}
    )

    assert low_latency_policy(waiting)[0] == 3


def test_a_slow_start_is_not_answered_by_ever_more_replicas():
    context = FakeContext(total_num_requests=2, aggregated_metrics={"queue_seconds": {"a": 5.0}})
    for second in range(10):
        wanted, state = low_latency_policy(replace(context, current_time=float(second)))
        context = replace(context, policy_state=state)  # the second replica is still starting

    assert wanted == 2


def test_batch_waits_before_it_adds_and_at_most_doubles():
    context = FakeContext(capacity_adjusted_min_replicas=0, capacity_adjusted_max_replicas=16)
    load = [(0, 100), (PATIENCE_S - 1, 100), (PATIENCE_S, 100), (PATIENCE_S + 1, 100), (2 * PATIENCE_S + 1, 100)]

    assert replay(batch_policy, context, load) == [1, 1, 2, 2, 4]


def test_batch_starts_its_first_replica_at_once():
    empty = FakeContext(total_num_requests=1, current_num_replicas=0, target_num_replicas=0)

    assert batch_policy(replace(empty, capacity_adjusted_min_replicas=0))[0] == 1


def test_a_short_burst_adds_no_batch_replica():
    load = [(0, 100), (PATIENCE_S - 1, 100), (PATIENCE_S, 2), (PATIENCE_S + 1, 100), (2 * PATIENCE_S, 100)]

    assert replay(batch_policy, FakeContext(), load) == [1, 1, 1, 1, 1]


def test_an_idle_batch_pool_gives_all_its_replicas_back():
    context = FakeContext(capacity_adjusted_min_replicas=0, target_num_replicas=4, current_num_replicas=4)

    assert replay(batch_policy, context, [(0, 0), (IDLE_S - 1, 0), (IDLE_S, 0)]) == [4, 4, 0]


@pytest.mark.parametrize("policy", [low_latency_policy, batch_policy])
@given(load=st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_decisions_stay_within_the_bounds(policy, load):
    decisions = replay(policy, FakeContext(), [(10.0 * i, requests) for i, requests in enumerate(load)])

    assert all(1 <= wanted <= 8 for wanted in decisions)


@pytest.mark.parametrize("policy", [low_latency_policy, batch_policy])
def test_policies_survive_the_pickling_that_serve_does(policy):
    from ray.serve.config import AutoscalingPolicy

    shipped = AutoscalingPolicy(policy_function=policy).get_serialized_policy_def()

    assert cloudpickle.loads(shipped)(FakeContext(total_num_requests=4))[0] == 1
