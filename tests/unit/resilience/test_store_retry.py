"""Waiting for a store that is away: as long as it takes within ten minutes, and once for all calls that need it."""

import pytest

from orchestrion.errors import NotFound, StoreUnavailable
from orchestrion.resilience.store_retry import LONGEST_PAUSE_S, STORE_RETRY_S, StoreRetry, no_retry


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
