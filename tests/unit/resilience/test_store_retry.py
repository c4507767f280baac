"""Waiting for a store that is away: as long as it takes within ten minutes, and once for all calls that need it."""

import pytest

from orchestrion.errors import NotFound, StoreUnavailable
from orchestrion.resilience.store_retry import (
    LONGEST_PAUSE_S,
    SLOWEST_BYTES_PER_S,
    STORE_RETRY_S,
    UNANSWERED_S,
    StoreRetry,
    no_retry,
)


class Sleeper:
    """A clock that only moves with a sleep."""

    def __init__(self):
        self.at_s = 0.0
        self.pauses = []

    def monotonic_s(self):
        return self.at_s

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.at_s += seconds


@pytest.fixture
def clock():
    return Sleeper()


@pytest.fixture
def retrying(clock):
    return StoreRetry(clock, clock.sleep, is_over=lambda: False)


def away_until(clock, back_at_s):
    def call():
        if clock.at_s < back_at_s:
            raise StoreUnavailable("away")
        return "an answer"

    return call


def never():
    raise StoreUnavailable("away")


def test_a_store_that_answers_is_asked_once(retrying, clock):
    assert retrying(lambda: 7) == 7 and clock.pauses == []


@pytest.mark.parametrize("outage_s", [1.0, 40.0, STORE_RETRY_S - LONGEST_PAUSE_S])
def test_an_answer_comes_soon_after_the_store_is_back(retrying, clock, outage_s):
    assert retrying(away_until(clock, outage_s)) == "an answer"
    assert outage_s <= clock.at_s <= outage_s + LONGEST_PAUSE_S


def test_after_ten_minutes_nobody_waits_any_more_until_somebody_is_answered(retrying, clock):
    with pytest.raises(StoreUnavailable):
        retrying(never)
    assert clock.at_s >= STORE_RETRY_S and retrying.is_lost
    paused = len(clock.pauses)

    with pytest.raises(StoreUnavailable):
        retrying(never)
    assert len(clock.pauses) == paused

    assert retrying(lambda: 7) == 7 and not retrying.is_lost
    assert retrying(away_until(clock, clock.at_s + 5.0)) == "an answer"


def test_an_outage_long_ago_is_not_counted_to_this_one(retrying, clock):
    retrying(away_until(clock, 5.0))
    clock.at_s += 10 * STORE_RETRY_S

    assert retrying(away_until(clock, clock.at_s + 60.0)) == "an answer"


def test_what_is_refused_of_one_call_for_ten_minutes_is_given_up_while_others_are_answered(retrying, clock):
    def refused():
        retrying(lambda: None)
        raise StoreUnavailable("too large")

    with pytest.raises(StoreUnavailable, match="too large"):
        retrying(refused)

    assert clock.at_s >= STORE_RETRY_S and not retrying.is_lost


def test_no_is_an_answer(retrying, clock):
    def missing():
        raise NotFound("no such object")

    with pytest.raises(NotFound):
        retrying(missing)
    assert clock.pauses == []


def test_who_has_no_time_waits_no_longer(clock):
    retrying = StoreRetry(clock, clock.sleep, is_over=lambda: clock.at_s >= 3.0)

    with pytest.raises(StoreUnavailable):
        retrying(never)
    assert clock.pauses == [1.0, 2.0]


def test_without_patience_an_outage_is_told_at_once():
    with pytest.raises(StoreUnavailable):
        no_retry(never)


# Outages of what is large


def full():
    raise StoreUnavailable("no room")


def test_small_successes_do_not_end_the_outage_of_what_is_large(retrying, clock):
    def full_but_for_notes():
        retrying(lambda: None, size=100)
        full()

    with pytest.raises(StoreUnavailable, match="no room"):
        retrying(full_but_for_notes, size=1_000_000)

    assert clock.at_s >= STORE_RETRY_S and retrying.is_lost
    paused = len(clock.pauses)
    with pytest.raises(StoreUnavailable):
        retrying(full_but_for_notes, size=2_000_000)
    assert len(clock.pauses) == paused, "what is larger waits no second time"
    assert retrying(lambda: 7, size=100) == 7 and retrying.is_lost


def test_a_call_as_large_that_is_answered_ends_the_outage(retrying, clock):
    seen = []

    def refused_for_a_while():
        if clock.at_s < 100.0:
            full()
        if len(seen) < 1:
            retrying(lambda: None, size=1_000_000)
            seen.append(retrying.refused)

    retrying(refused_for_a_while, size=1_000_000)

    assert seen == [None]


def test_what_is_refused_in_small_is_refused_in_large_since_then(retrying, clock):
    seen = []

    def small():
        if clock.at_s < 200.0:
            if clock.at_s >= 100.0:
                with pytest.raises(StoreUnavailable):
                    retrying.try_once("large", full, size=1_000_000)
                seen.append(retrying.refused.for_s)
            full()

    retrying(small, size=10)

    assert seen and all(for_s >= 100.0 for for_s in seen)
    assert retrying.refused.error == "no room", "the large one still waits"


@pytest.mark.parametrize("takes_others", [True, False])
def test_a_refusal_of_one_calls_own_is_told_by_other_bytes_of_the_same_number(clock, takes_others):
    probed, seen = [], []

    def probe(size):
        probed.append(size)
        if not takes_others:
            full()

    def disliked():
        seen.append(retrying.refused)
        raise StoreUnavailable("a filter does not like it")

    retrying = StoreRetry(clock, clock.sleep, lambda: False, probe=probe)
    with pytest.raises(StoreUnavailable, match="filter"):
        retrying(disliked, size=5000)

    assert set(probed) == {5000} and clock.at_s >= STORE_RETRY_S
    assert retrying.is_lost is not takes_others
    assert (seen[-1] is None) is takes_others and seen[2] is not None


def test_a_call_that_gives_up_for_lack_of_time_leaves_nobody_waiting(clock):
    retrying = StoreRetry(clock, clock.sleep, is_over=lambda: True)

    with pytest.raises(StoreUnavailable):
        retrying(full, size=1000)

    assert retrying.refused is None and retrying.away is None


def test_what_is_tried_once_is_away_until_it_is_taken(retrying):
    with pytest.raises(StoreUnavailable):
        retrying.try_once("journal", full, size=1)
    assert retrying.refused.error == "no room"

    retrying.try_once("journal", lambda: None, size=1)
    assert retrying.refused is None


@pytest.mark.parametrize("size", [0, 10_000_000])
def test_a_call_without_an_answer_is_told_after_what_its_bytes_may_take(retrying, clock, size):
    due_s = UNANSWERED_S + size / SLOWEST_BYTES_PER_S
    seen = []

    def hangs():
        for clock.at_s in (due_s - 0.5, due_s + 0.5):
            seen.append(retrying.away)

    retrying(hangs, size=size)

    assert seen[0] is None and seen[1].for_s == due_s + 0.5 and "no answer" in seen[1].error
    assert retrying.away is None and retrying.refused is None


def test_patience_is_as_long_as_it_is_said(clock):
    retrying = StoreRetry(clock, clock.sleep, is_over=lambda: False, patience_s=20.0)

    with pytest.raises(StoreUnavailable):
        retrying(never)

    assert 20.0 <= clock.at_s <= 20.0 + LONGEST_PAUSE_S and retrying.refused.is_given_up


def test_a_call_that_does_more_than_ask_is_late_without_the_stores_fault(retrying, clock):
    def works():
        clock.at_s += 100.0
        return retrying.away

    assert retrying(works, works=True) is None and retrying(works) is not None
