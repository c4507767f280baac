"""What has stalled, and when that leaves a replica unable to go on."""

from dataclasses import dataclass

import pytest

from orchestrion.rendering.stall import Stage, StallWatch


@dataclass
class FakeClock:
    now_s: float = 0.0

    def monotonic_s(self):
        return self.now_s


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def watch(clock):
    return StallWatch({Stage.RENDER: 1, Stage.STORE: 2}, 10.0, clock)


def test_a_call_that_shows_nothing_stalls_by_the_clock(watch, clock):
    with watch.call(Stage.RENDER, "a"):
        clock.now_s = 9.9
        assert watch.stalled() == []
        clock.now_s = 10.0
        assert [call.subject for call in watch.stalled()] == ["a"]
        assert watch.is_stuck
    assert watch.stalled() == [] and not watch.is_stuck


def test_a_call_that_moves_on_does_not_stall_however_long_it_takes(watch, clock):
    moved = 0.0
    with watch.call(Stage.RENDER, "a", lambda: moved):
        for _ in range(10):
            clock.now_s += 9.0
            moved += 1.0
            assert watch.stalled() == []
        clock.now_s += 10.0
        assert watch.is_stuck


def test_a_figure_that_falls_is_no_progress(watch, clock):
    # What a hung replica has given up is counted no more.
    moved = 5.0
    with watch.call(Stage.RENDER, "a", lambda: moved):
        clock.now_s = 10.0
        assert watch.is_stuck
        moved = 0.0
        assert watch.is_stuck


def test_a_kind_of_work_is_stuck_when_none_of_its_threads_moves(watch, clock):
    with watch.call(Stage.STORE, "a"):
        clock.now_s = 10.0
        assert len(watch.stalled()) == 1 and not watch.is_stuck
        with watch.call(Stage.STORE, "b"):
            assert not watch.is_stuck
            clock.now_s = 20.0
            assert watch.is_stuck


def test_progress_that_cannot_be_told_is_none(watch, clock):
    def broken():
        raise RuntimeError("the model is gone")

    with watch.call(Stage.RENDER, "a", broken):
        clock.now_s = 10.0
        assert watch.is_stuck


def test_a_call_that_raises_is_over(watch, clock):
    with pytest.raises(ValueError), watch.call(Stage.RENDER, "a"):
        raise ValueError
    clock.now_s = 99.0
    assert watch.stalled() == []
