"""Who comes next, who must wait, and what cancelling frees: the loop stepped by hand, with a fake model and clock."""

import threading
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

import numpy as np
import pytest

from orchestrion.admission import Priority
from orchestrion.errors import InvalidRequest, ModelFailed, Overloaded
from orchestrion.finish import FinishSpec
from orchestrion.outcome import Failure
from orchestrion.request import TrackSpec
from serve_app.outcomes import Refusal
from serve_app.render_loop import MAX_UNSENT_S, SAFE_AHEAD_S, SYNC_SHARE, JobState, RenderLoop, choose_next
from tests.fault_injection import ForeignError

RATE_HZ = 1000


def stream(made_s=0.0, first_at_s=None, paused=False):
    return JobState(made_s, first_at_s, streamed=True, paused=paused)


def sync(made_s=0.0, first_at_s=None):
    return JobState(made_s, first_at_s, streamed=False, paused=False)


@pytest.mark.parametrize(
    "jobs, steps_since_sync, chosen",
    [
        ([], 0, None),
        ([stream(made_s=9, first_at_s=0), stream(), stream()], 0, 1),
        ([stream(made_s=11, first_at_s=0), stream(made_s=10.5, first_at_s=0)], 0, 1),
        ([sync(made_s=1, first_at_s=0), stream(made_s=11, first_at_s=0)], 0, 1),
        ([sync(made_s=1, first_at_s=0), stream(made_s=10 + SAFE_AHEAD_S, first_at_s=0)], 0, 0),
        ([stream(made_s=11, first_at_s=0), sync(made_s=1, first_at_s=0)], SYNC_SHARE - 1, 1),
        ([stream(), sync(made_s=1, first_at_s=0)], SYNC_SHARE - 1, 1),
        ([sync(made_s=5, first_at_s=0), sync(made_s=1, first_at_s=5)], 0, 0),
        ([stream(made_s=50, first_at_s=0, paused=True)], 0, None),
        ([stream(made_s=50, first_at_s=0, paused=True), stream(made_s=60, first_at_s=0)], 0, 1),
    ],
    ids=[
        "nothing to do",
        "first chunks in order of arrival",
        "the stream that runs dry first",
        "a stream about to run dry before a sync job",
        "a sync job before a stream that has enough",
        "a sync job is not starved by streams",
        "nor by first chunks",
        "the older of two sync jobs",
        "a slow client's stream rests",
        "and others go on",
    ],
)
def test_choose_next(jobs, steps_since_sync, chosen):
    assert choose_next(jobs, now_s=10.0, steps_since_sync=steps_since_sync) == chosen


def test_a_stream_that_gives_nothing_before_its_end_does_not_hold_up_others():
    silent = JobState(made_s=0.0, first_chunk_at_s=None, streamed=True, paused=False, silent=True)
    newcomer = JobState(made_s=0.0, first_chunk_at_s=None, streamed=True, paused=False)
    dry = JobState(made_s=1.0, first_chunk_at_s=0.0, streamed=True, paused=False)

    assert choose_next([silent, newcomer], 0.5, 0) == 1
    assert choose_next([silent, dry], 0.5, 0) == 1
    assert choose_next([silent, dry], 0.5, SYNC_SHARE - 1) == 0
    assert choose_next([silent], 0.5, 0) == 0


@dataclass
class FakeClock:
    now_s: float = 0.0

    def monotonic_s(self):
        return self.now_s


@dataclass
class FakeRendering:
    """Makes `length_s` one-second chunks; each takes a tenth of a second of the fake clock."""

    clock: FakeClock
    name: str
    length_s: int
    log: list
    fails: Exception | None = None
    breaks_on_close: bool = False
    closed: bool = False
    source_rate_hz: int = RATE_HZ
    channels: int = 2
    spec: FinishSpec = field(default_factory=lambda: FinishSpec(1, 44100, -14, 0, 0))
    expected_lufs: float | None = None

    def advance(self):
        assert not self.closed
        self.clock.now_s += 0.1
        self.log.append(self.name)
        if self.fails:
            raise self.fails
        if self.log.count(self.name) > self.length_s:
            return None
        return np.zeros((RATE_HZ, 2), np.float32)

    def complete(self):
        return Failure(self.name, "check-failed", "check", "made", False, ())

    def close(self):
        self.closed = True
        if self.breaks_on_close:
            raise RuntimeError("the codec's state is gone")


class InlineExecutor(Executor):
    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Bench:
    """A loop with a fake source whose tracks are named by their prompts."""

    def __init__(self, slots=2, queue_limit=2, length_s=3, fails=None, shared=False):
        self.clock = FakeClock()
        self.shared = shared
        self.log, self.opened, self.depths, self.failures = [], {}, [], []
        self.length_s, self.fails, self.break_on_close = length_s, fails or {}, set()
        self.loop = RenderLoop(
            self,
            slots=slots,
            queue_limit=queue_limit,
            clock=self.clock,
            completion=InlineExecutor(),
            on_queue_change=self.depths.append,
        )

    def shares_steps(self, request):
        return self.shared

    def failed(self, error, stage, track_id, model):
        self.failures.append((track_id, stage))
        return Failure.of(error, stage, track_id)

    def open(self, request, *, interactive=True):
        name = request.prompt
        error = self.fails.get(name)
        if isinstance(error, InvalidRequest):
            raise error
        self.opened[name] = FakeRendering(self.clock, name, self.length_s, self.log, error, name in self.break_on_close)
        return self.opened[name]

    def join(self, name, streaming=True, requester="anonymous", priority=Priority.INTERACTIVE):
        woken = []
        listener = self.loop.join(
            TrackSpec(prompt=name, requester=requester).resolve(),
            name,
            streaming=streaming,
            wake=lambda: woken.append(name),
            priority=priority,
        )
        return listener, woken

    def run(self, steps=100):
        for _ in range(steps):
            if not self.loop.step():
                return


def test_every_listener_hears_of_every_chunk_and_of_the_end():
    bench = Bench()
    listener, woken = bench.join("a")

    bench.run()

    assert len(listener.job.chunks) == 3
    assert listener.job.outcome.reason == "check-failed"
    assert len(woken) == 3 + 1 + 1


def test_equal_requests_are_rendered_once():
    bench = Bench()
    first, _ = bench.join("a")
    bench.loop.step()
    second, _ = bench.join("a", streaming=False)

    bench.run()

    assert first.job is second.job
    assert bench.log == ["a"] * 4


def test_a_request_after_the_end_is_a_new_job():
    bench = Bench()
    first, _ = bench.join("a")
    bench.run()

    second, _ = bench.join("a")

    assert second.job is not first.job


def test_streams_take_turns_and_first_chunks_come_first():
    bench = Bench(slots=3, queue_limit=3)
    for name in "abc":
        bench.join(name)

    bench.run(3)

    assert bench.log == ["a", "b", "c"]


def test_tracks_that_share_steps_are_all_open_before_one_is_advanced():
    bench = Bench(slots=3, queue_limit=3, shared=True)
    for name in "abc":
        bench.join(name)

    bench.run(3)

    assert set(bench.opened) == {"a", "b", "c"}
    assert bench.log == []
    bench.run(1)
    assert bench.log == ["a"]


def test_people_come_before_batch_work_and_nobody_takes_all_the_slots():
    bench = Bench(slots=1, queue_limit=9)
    bench.join("first", requester="studio")
    bench.loop.step()
    bench.join("batch", priority=Priority.BATCH, requester="school")
    bench.join("second", requester="studio")
    bench.join("other", requester="school")

    bench.run()

    in_order = list(dict.fromkeys(bench.log))
    assert in_order == ["first", "second", "other", "batch"]


def test_a_full_queue_is_refused_with_a_forecast():
    bench = Bench(slots=1, queue_limit=1, length_s=30)
    bench.join("served")
    bench.run()
    bench.join("a")
    bench.loop.step()
    bench.join("b")

    with pytest.raises(Overloaded) as refused:
        bench.join("c")

    # 31 steps of 0.1 s each for a track; one is being made and one waits.
    assert refused.value.retry_after_s == pytest.approx(3.1)
    assert "come back in 3 s" in str(refused.value)


def test_joining_a_running_job_needs_no_place_in_the_queue():
    bench = Bench(slots=1, queue_limit=0)
    bench.join("a")
    bench.loop.step()

    listener, _ = bench.join("a")
    bench.run()

    assert listener.job.outcome is not None


def test_leaving_frees_the_slot_within_one_chunk():
    bench = Bench(slots=1, length_s=1000)
    first, _ = bench.join("a")
    bench.loop.step()
    bench.join("b")

    bench.loop.leave(first)
    bench.loop.step()

    assert bench.opened["a"].closed
    assert bench.log == ["a", "b"]


def test_leaving_the_queue_makes_room_at_once():
    bench = Bench(slots=1, queue_limit=1)
    bench.join("a")
    bench.loop.step()
    waiting, _ = bench.join("b")

    bench.loop.leave(waiting)

    bench.join("c")
    assert bench.depths == [1, 0, 1, 0, 1]
    bench.run()
    assert "b" not in bench.log


def test_a_job_goes_on_while_one_of_its_listeners_stays():
    bench = Bench()
    leaving, _ = bench.join("a")
    staying, _ = bench.join("a", streaming=False)
    bench.loop.step()

    bench.loop.leave(leaving)
    bench.run()

    assert staying.job.outcome is not None
    assert not bench.opened["a"].closed


def test_a_stream_with_a_slow_client_rests_and_goes_on_when_it_has_been_sent():
    bench = Bench(length_s=100)
    listener, _ = bench.join("a")

    bench.run(1000)
    rested_at_s = listener.job.made_s
    bench.loop.sent(listener, 10.0)
    bench.run(1000)

    assert rested_at_s == MAX_UNSENT_S + 1
    assert listener.job.made_s == rested_at_s + 10


def test_a_slow_client_does_not_hold_up_one_who_waits_for_the_same_track():
    bench = Bench(length_s=100)
    bench.join("a")
    waiting, _ = bench.join("a", streaming=False)

    bench.run(1000)

    assert waiting.job.outcome is not None


@pytest.mark.parametrize(
    "error, reason",
    [
        (InvalidRequest.of("theme", "x", "cannot be read"), "invalid-request"),
        (ModelFailed("no"), "model-failed"),
        (ForeignError("no"), "model-failed"),
        (MemoryError(), "out-of-memory"),
        (ZeroDivisionError(), "internal"),
    ],
)
@pytest.mark.parametrize("breaks_on_close", [False, True])
def test_a_job_that_breaks_ends_alone_and_is_counted(error, reason, breaks_on_close):
    bench = Bench(slots=2, fails={"bad": error})
    if breaks_on_close:
        bench.break_on_close.add("bad")
    bad, woken = bench.join("bad")
    good, _ = bench.join("good")

    bench.run()

    assert isinstance(bad.job.outcome, Refusal)
    assert bad.job.outcome.reason == reason
    assert woken
    assert len(good.job.chunks) == 3
    assert all(rendering.closed for name, rendering in bench.opened.items() if name == "bad")
    assert [track_id for track_id, _ in bench.failures] == ["bad"]


def test_a_job_that_breaks_when_it_is_given_up_holds_nobody_up():
    bench = Bench(slots=1, length_s=5)
    bench.break_on_close.add("left")
    left, _ = bench.join("left")
    bench.run(1)
    waiting, woken = bench.join("next")

    bench.loop.leave(left)
    bench.run()

    assert bench.opened["left"].closed
    assert waiting.job.outcome is not None and woken


def test_a_listener_who_cannot_be_told_does_not_keep_the_news_from_others():
    bench = Bench()

    def closed():
        raise RuntimeError("Event loop is closed")

    bench.loop.join(TrackSpec(prompt="a").resolve(), "a", streaming=True, wake=closed)
    second, woken = bench.join("a")

    bench.run()

    assert second.job.outcome is not None and woken


def test_the_thread_renders_and_stops():
    bench = Bench()
    news = threading.Event()
    bench.loop.start()
    listener = bench.loop.join(TrackSpec(prompt="a").resolve(), "a", streaming=True, wake=news.set)
    while listener.job.outcome is None:
        assert news.wait(timeout=5)
        news.clear()

    bench.loop.stop()
    bench.loop._thread.join(timeout=5)

    assert not bench.loop.is_alive
