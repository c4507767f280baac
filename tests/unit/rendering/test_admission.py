"""Where a request goes, and when it is told to come back."""

import pytest

from autoscaling.policies.batch import IDLE_S
from orchestrion.rendering.admission import (
    MAX_INTERACTIVE_DURATION_S,
    MAX_WAIT_S,
    InLine,
    Pool,
    Priority,
    QueueState,
    batch_is_warm,
    long_limit,
    next_in_line,
    pools_for,
    retry_after_s,
)


@pytest.mark.parametrize(
    ("duration_s", "priority", "warm", "cold"),
    [
        (10.0, Priority.INTERACTIVE, (Pool.LOW_LATENCY,), (Pool.LOW_LATENCY,)),
        (MAX_INTERACTIVE_DURATION_S, Priority.INTERACTIVE, (Pool.LOW_LATENCY,), (Pool.LOW_LATENCY,)),
        (MAX_INTERACTIVE_DURATION_S + 0.1, Priority.INTERACTIVE, (Pool.BATCH,), (Pool.LOW_LATENCY, Pool.BATCH)),
        (1.0, Priority.BATCH, (Pool.BATCH,), (Pool.BATCH,)),
        (300.0, Priority.BATCH, (Pool.BATCH,), (Pool.BATCH,)),
    ],
)
def test_long_tracks_go_to_the_batch_pool_unless_it_would_have_to_start_for_somebody_who_waits(
    duration_s, priority, warm, cold
):
    assert pools_for(duration_s, priority, batch_is_warm=True) == warm
    assert pools_for(duration_s, priority, batch_is_warm=False) == cold


@pytest.mark.parametrize(
    ("min_replicas", "since_answer_s", "warm"),
    [(0, None, False), (0, 1.0, True), (0, 44.0, True), (0, IDLE_S, False), (1, None, True)],
)
def test_an_empty_pool_is_cold_before_autoscaling_gives_its_last_replica_up(min_replicas, since_answer_s, warm):
    assert batch_is_warm(min_replicas, since_answer_s) is warm


def test_long_tracks_leave_half_of_the_listeners_slots_free():
    assert long_limit(Pool.LOW_LATENCY, slots=8, queue_limit=16) == 4
    assert long_limit(Pool.LOW_LATENCY, slots=1, queue_limit=16) == 0
    assert long_limit(Pool.BATCH, slots=1, queue_limit=32) == 33


@pytest.mark.parametrize(
    ("waiting", "served", "chosen"),
    [
        ([InLine(True, "a", 2), InLine(True, "b", 1)], [], 0),
        ([InLine(False, "a", 2), InLine(True, "b", 1)], [], 1),
        ([InLine(True, "a", 3), InLine(True, "a", 2), InLine(True, "b", 1)], ["a", "a", "b"], 2),
        ([InLine(True, "a", 3), InLine(False, "b", MAX_WAIT_S)], ["b"], 1),
        ([InLine(True, "a", 90), InLine(False, "b", 70)], ["a", "a"], 0),
    ],
    ids=["order of arrival", "people first", "the fewest slots", "patience ends", "and then arrival counts"],
)
def test_who_gets_the_free_slot(waiting, served, chosen):
    assert next_in_line(waiting, served) == chosen


def queue(active, queued, completing=0, mean_service_s=2.0):
    return QueueState(
        active, slots=4, queued=queued, queue_limit=8, completing=completing, mean_service_s=mean_service_s
    )


def test_a_free_slot_or_a_place_in_the_queue_is_taken():
    assert retry_after_s(queue(active=3, queued=0)) is None
    assert retry_after_s(queue(active=4, queued=7)) is None


def test_what_is_being_mastered_takes_a_place_though_its_slot_is_free():
    assert retry_after_s(queue(active=0, queued=8, completing=3)) is None
    assert retry_after_s(queue(active=0, queued=8, completing=4)) is not None


def test_a_full_queue_says_when_half_of_it_will_be_gone():
    assert retry_after_s(queue(active=4, queued=8)) == pytest.approx(12.0)


def test_before_the_first_track_the_forecast_is_a_second_and_not_zero():
    assert retry_after_s(queue(active=4, queued=8, mean_service_s=0.0)) == 1.0
