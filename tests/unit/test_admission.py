"""Where a request goes, and when it is told to come back."""

import pytest

from orchestrion.admission import (
    MAX_INTERACTIVE_DURATION_S,
    PATIENCE_S,
    InLine,
    Pool,
    Priority,
    QueueState,
    next_in_line,
    pool_for,
    retry_after_s,
)


@pytest.mark.parametrize(
    ("duration_s", "priority", "pool"),
    [
        (10.0, Priority.INTERACTIVE, Pool.LOW_LATENCY),
        (MAX_INTERACTIVE_DURATION_S, Priority.INTERACTIVE, Pool.LOW_LATENCY),
        (MAX_INTERACTIVE_DURATION_S + 0.1, Priority.INTERACTIVE, Pool.BATCH),
        (1.0, Priority.BATCH, Pool.BATCH),
    ],
)
def test_long_tracks_and_patient_callers_leave_the_listeners_slots_alone(duration_s, priority, pool):
    assert pool_for(duration_s, priority) is pool


@pytest.mark.parametrize(
    ("waiting", "served", "chosen"),
    [
        ([InLine(True, "a", 2), InLine(True, "b", 1)], [], 0),
        ([InLine(False, "a", 2), InLine(True, "b", 1)], [], 1),
        ([InLine(True, "a", 3), InLine(True, "a", 2), InLine(True, "b", 1)], ["a", "a", "b"], 2),
        ([InLine(True, "a", 3), InLine(False, "b", PATIENCE_S)], ["b"], 1),
        ([InLine(True, "a", 90), InLine(False, "b", 70)], ["a", "a"], 0),
    ],
    ids=["order of arrival", "people first", "the fewest slots", "patience ends", "and then arrival counts"],
)
def test_who_gets_the_free_slot(waiting, served, chosen):
    assert next_in_line(waiting, served) == chosen


def queue(active, queued, mean_service_s=2.0):
    return QueueState(active=active, slots=4, queued=queued, queue_limit=8, mean_service_s=mean_service_s)


def test_a_free_slot_or_a_place_in_the_queue_is_taken():
    assert retry_after_s(queue(active=3, queued=0)) is None
    assert retry_after_s(queue(active=4, queued=7)) is None


def test_a_full_queue_says_when_half_of_it_will_be_gone():
    assert retry_after_s(queue(active=4, queued=8)) == pytest.approx(12.0)


def test_before_the_first_track_the_forecast_is_a_second_and_not_zero():
    assert retry_after_s(queue(active=4, queued=8, mean_service_s=0.0)) == 1.0
