"""When a service is dead for good."""

from cluster.supervision import SILENCE_S, await_death


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def monotonic_s(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds


def died_at(answers, what_died=lambda now_s: None):
    """What was said, and when, where `answers` and `what_died` are told the time."""
    clock = Clock()
    said = await_death(lambda: what_died(clock.now_s), lambda: answers(clock.now_s), clock, clock.sleep)
    return said, clock.now_s


def test_a_vital_process_that_died_is_told_within_a_second():
    said, now_s = died_at(lambda now_s: True, lambda now_s: "Ray's raylet died" if now_s > 1000 else None)

    assert said == "Ray's raylet died" and 1000 < now_s <= 1002


def test_a_service_that_is_silent_for_a_minute_is_dead():
    said, now_s = died_at(lambda now_s: now_s < 100)

    assert "has not answered for 60 s" in said and 100 + SILENCE_S - 5 <= now_s <= 100 + SILENCE_S + 6


def test_one_that_comes_back_in_time_is_not():
    silences = [(100, 100 + SILENCE_S - 10), (200, 200 + SILENCE_S - 10), (500, 1000)]

    _, now_s = died_at(lambda now_s: not any(begin <= now_s < end for begin, end in silences))

    assert now_s > 500


def test_questions_that_take_long_count():
    clock = Clock()

    def no_answer_for_ten_seconds():
        clock.sleep(10)
        return False

    await_death(lambda: None, no_answer_for_ten_seconds, clock, clock.sleep)

    assert clock.now_s <= SILENCE_S + 15
