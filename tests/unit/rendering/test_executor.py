"""Who comes next, who must wait, and what cancelling frees: the loop stepped by hand, with a fake model and clock."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor as Threads
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.audio.mastering import FinishSpec
from orchestrion.errors import CheckFailed, InvalidRequest, ModelFailed, Overloaded, Stalled
from orchestrion.rendering.admission import Priority
from orchestrion.rendering.board import MAX_LISTENERS
from orchestrion.rendering.executor import Executor
from orchestrion.rendering.policy import MAX_COMPLETING, THREADS, Policy
from orchestrion.rendering.scheduling import SAFE_AHEAD_S, SYNC_SHARE, TaskState, choose_next
from orchestrion.rendering.stall import Stage
from orchestrion.rendering.task import MAX_UNSENT_S
from orchestrion.tracks.outcome import Failure
from orchestrion.tracks.spec import TrackSpec
from tests.fault_injection import ForeignError

RATE_HZ = 1000
STALL_S = 60.0
MAX_QUEUE_S = 300.0


def stream(made_s=0.0, first_at_s=None, paused=False):
    return TaskState(made_s, first_at_s, streamed=True, paused=paused)


def sync(made_s=0.0, first_at_s=None):
    return TaskState(made_s, first_at_s, streamed=False, paused=False)


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
    silent = TaskState(made_s=0.0, first_chunk_at_s=None, streamed=True, paused=False, silent=True)
    newcomer = TaskState(made_s=0.0, first_chunk_at_s=None, streamed=True, paused=False)
    dry = TaskState(made_s=1.0, first_chunk_at_s=0.0, streamed=True, paused=False)

    assert choose_next([silent, newcomer], 0.5, 0) == 1
    assert choose_next([silent, dry], 0.5, 0) == 1
    assert choose_next([silent, dry], 0.5, SYNC_SHARE - 1) == 0
    assert choose_next([silent], 0.5, 0) == 0


@dataclass
class FakeClock:
    now_s: float = 0.0

    def monotonic_s(self):
        return self.now_s

    def now(self):
        return datetime.fromtimestamp(self.now_s, UTC)


@dataclass
class FakeRendering:
    """Makes `length_s` one-second chunks; each takes a tenth of a second of the fake clock."""

    bench: "Bench"
    name: str
    length_s: int
    log: list
    fails: Exception | None = None
    breaks_on_close: bool = False
    closed: int = 0
    masters: bool = False
    moved: float = 0.0
    made_beside: int = 0
    #: What happens, once each, before there is a chunk of this one.
    others_first: list = field(default_factory=list)
    hang: Callable[[], None] = lambda: None
    hang_in_store: Callable[[], None] = lambda: None
    source_rate_hz: int = RATE_HZ
    channels: int = 2
    spec: FinishSpec = field(default_factory=lambda: FinishSpec(1, 44100, -14, 0, 0))
    expected_lufs: float | None = None

    def advance(self):
        assert not self.closed
        self.hang()
        self.made_beside -= self.made_beside > 0
        self.bench.clock.now_s += 0.1
        self.log.append(self.name)
        if self.fails:
            raise self.fails
        if self.log.count(self.name) > self.length_s:
            return None
        return np.zeros((RATE_HZ, 2), np.float32)

    @property
    def is_ready(self):
        return self.made_beside > 0

    def work(self):
        if self.others_first:
            self.others_first.pop()()
            return False
        return True

    @property
    def progress(self):
        return self.moved

    @property
    def device_seconds(self):
        return 0.0

    def checkpoint(self):
        return None

    def master(self):
        if not self.masters:
            raise CheckFailed(())

    def publish(self, retrying):
        self.hang_in_store()
        raise CheckFailed(())

    def fail(self, error):
        return Failure.of(error, "check", self.name)

    def close(self):
        self.closed += 1
        if self.breaks_on_close:
            raise RuntimeError("the codec's state is gone")


class HeldThreads(Threads):
    """Does nothing before it is told to: a thread that has not got round to it yet."""

    def __init__(self):
        self.held = deque()

    def submit(self, fn, /, *args, **kwargs):
        self.held.append(lambda: fn(*args, **kwargs))
        return Future()

    def run(self):
        while self.held:
            self.held.popleft()()


class InlineThreads(Threads):
    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Bench:
    """A loop with a fake source whose tracks are named by their prompts."""

    def __init__(
        self, slots=2, queue_limit=2, length_s=3, fails=None, shared=False, long_limit=99, threads=None, prepares=False
    ):
        self.clock = FakeClock()
        self.shared = shared
        self.log, self.opened, self.depths, self.failures, self.prepared = [], {}, [], [], []
        self.prepares, self.prepare_fails = prepares, {}
        self.length_s, self.fails, self.break_on_close = length_s, fails or {}, set()
        #: What the place says where the audio is to be kept.
        self.refused = None
        self.executor = Executor(
            self,
            Policy(slots, queue_limit, long_limit, MAX_QUEUE_S, STALL_S),
            self.clock,
            threads={stage: threads or InlineThreads() for stage in Stage},
            refused_elsewhere=lambda: self.refused,
            on_queue_change=self.depths.append,
        )

    def shares_steps(self, request):
        return self.shared

    def failed(self, error, stage, track_id, model):
        self.failures.append((track_id, stage))
        return Failure.of(error, stage, track_id)

    def needs_preparing(self, request):
        return self.prepares

    def prepare(self, request):
        error = self.prepare_fails.get(request.composition.prompt)
        if error:
            raise error
        self.prepared.append(request.composition.prompt)
        return f"what {request.composition.prompt} needs"

    def open(self, request, *, interactive=True, resume=None, preparation=None):
        name = request.composition.prompt
        assert preparation == (f"what {name} needs" if self.prepares else None)
        error = self.fails.get(name)
        if isinstance(error, InvalidRequest):
            raise error
        breaks_on_close = name in self.break_on_close
        self.opened[name] = FakeRendering(self, name, self.length_s, self.log, error, breaks_on_close)
        return self.opened[name]

    def join(self, name, streaming=True, requester="anonymous", priority=Priority.INTERACTIVE, duration_s=None):
        woken = []
        listener = self.executor.join(
            TrackSpec(prompt=name, requester=requester, duration_s=duration_s or min(600, self.length_s)).resolve(),
            name,
            streaming=streaming,
            wake=lambda: woken.append(name),
            priority=priority,
        )
        return listener, woken

    def run(self, steps=100):
        for _ in range(steps):
            if not self.executor.step():
                return


def test_every_listener_hears_of_every_chunk_and_of_the_end():
    bench = Bench()
    listener, woken = bench.join("a")

    bench.run()

    assert len(listener.untaken) == 3
    assert listener.task.outcome.code == "check-failed"
    assert len(woken) == 3 + 1 + 1


def test_equal_requests_are_rendered_once():
    bench = Bench()
    first, _ = bench.join("a")
    bench.executor.step()
    second, _ = bench.join("a", streaming=False)

    bench.run()

    assert first.task is second.task
    assert bench.log == ["a"] * 4


def test_a_request_after_the_end_is_a_new_job():
    bench = Bench()
    first, _ = bench.join("a")
    bench.run()

    second, _ = bench.join("a")

    assert second.task is not first.task


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
    bench.executor.step()
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
    bench.executor.step()
    bench.join("b")

    with pytest.raises(Overloaded) as refused:
        bench.join("c")

    # 31 steps of 0.1 s each for a track; one is being made and one waits.
    assert refused.value.retry_after_s == pytest.approx(3.1)
    assert "come back in 3 s" in str(refused.value)


def test_joining_a_running_job_needs_no_place_in_the_queue():
    bench = Bench(slots=1, queue_limit=0)
    bench.join("a")
    bench.executor.step()

    listener, _ = bench.join("a")
    bench.run()

    assert listener.task.outcome is not None


def test_leaving_frees_the_slot_within_one_chunk():
    bench = Bench(slots=1, length_s=1000)
    first, _ = bench.join("a")
    bench.executor.step()
    bench.join("b")

    bench.executor.leave(first)
    bench.executor.step()

    assert bench.opened["a"].closed
    assert bench.log == ["a", "b"]


def test_leaving_the_queue_makes_room_at_once():
    bench = Bench(slots=1, queue_limit=1)
    bench.join("a")
    bench.executor.step()
    waiting, _ = bench.join("b")

    bench.executor.leave(waiting)

    bench.join("c")
    assert bench.depths == [1, 0, 1, 0, 1]
    bench.run()
    assert "b" not in bench.log


def test_a_job_goes_on_while_one_of_its_listeners_stays():
    bench = Bench()
    leaving, _ = bench.join("a")
    staying, _ = bench.join("a", streaming=False)
    bench.executor.step()

    bench.executor.leave(leaving)
    bench.run()

    assert staying.task.outcome is not None
    assert not bench.opened["a"].closed


def test_a_stream_with_a_slow_client_rests_and_goes_on_when_it_has_been_sent():
    bench = Bench(length_s=100)
    listener, _ = bench.join("a")

    bench.run(1000)
    rested_at_s = listener.task.made_s
    bench.executor.sent(listener, 10.0)
    bench.run(1000)

    assert rested_at_s == MAX_UNSENT_S + 1
    assert listener.task.made_s == rested_at_s + 10


def test_a_slow_client_does_not_hold_up_one_who_waits_for_the_same_track():
    bench = Bench(length_s=100)
    bench.join("a")
    waiting, _ = bench.join("a", streaming=False)

    bench.run(1000)

    assert waiting.task.outcome is not None


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

    assert isinstance(bad.task.outcome, Failure)
    assert bad.task.outcome.code == reason
    assert woken
    assert len(good.untaken) == 3
    assert all(rendering.closed for name, rendering in bench.opened.items() if name == "bad")
    assert [track_id for track_id, _ in bench.failures] == ["bad"]


def test_a_job_that_breaks_when_it_is_given_up_holds_nobody_up():
    bench = Bench(slots=1, length_s=5)
    bench.break_on_close.add("left")
    left, _ = bench.join("left")
    bench.run(1)
    waiting, woken = bench.join("next")

    bench.executor.leave(left)
    bench.run()

    assert bench.opened["left"].closed
    assert waiting.task.outcome is not None and woken


def test_a_listener_who_cannot_be_told_does_not_keep_the_news_from_others():
    bench = Bench()

    def closed():
        raise RuntimeError("Event loop is closed")

    bench.executor.join(TrackSpec(prompt="a").resolve(), "a", streaming=True, wake=closed)
    second, woken = bench.join("a")

    bench.run()

    assert second.task.outcome is not None and woken


def test_the_thread_renders_and_stops():
    bench = Bench()
    news = threading.Event()
    bench.executor.start()
    listener = bench.executor.join(TrackSpec(prompt="a").resolve(), "a", streaming=True, wake=news.set)
    while listener.task.outcome is None:
        assert news.wait(timeout=5)
        news.clear()

    bench.executor.close()
    bench.executor._thread.join(timeout=5)

    assert not bench.executor.is_alive


# ---- room ------------------------------------------------------------------------------------------------------


def test_while_finished_pieces_wait_nobody_is_let_in_beyond_slots_and_queue():
    # A slow encoder, or a store that hangs: pieces leave their slots, and nothing is ever finished.
    bench = Bench(slots=8, queue_limit=16, length_s=1, threads=HeldThreads())
    taken = 0
    for number in range(200):
        try:
            bench.join(f"{number}", streaming=False)
            taken += 1
        except Overloaded as refused:
            assert f"{MAX_COMPLETING} tracks are being made" in str(refused)
        bench.run()

    state = bench.executor.queue_state()
    assert taken == 8 + 16
    assert (state.active, state.completing, state.queued) == (0, MAX_COMPLETING, 24 - MAX_COMPLETING)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["join", "leave", "step", "prepare", "master", "store"]), st.integers(0, 12)),
    max_size=120,
)


@given(events=EVENTS, slots=st.integers(1, 3), queue_limit=st.integers(0, 3))
def test_whatever_happens_the_limit_holds_and_everybody_who_stays_is_answered(events, slots, queue_limit):
    bench = Bench(slots, queue_limit, length_s=2, prepares=True, threads=HeldThreads())
    threads = bench.executor._threads
    for stage in (Stage.PREPARE, Stage.MASTER, Stage.STORE):
        threads[stage] = HeldThreads()
    bench.masters = True
    listeners = []
    for event, number in events:
        if event == "join":
            with contextlib.suppress(Overloaded):
                listeners.append(bench.join(f"{number}", streaming=number % 2 == 0)[0])
        elif event == "leave" and listeners:
            bench.executor.leave(listeners.pop(number % len(listeners)))
        elif event == "step":
            bench.executor.step()
        elif event in list(Stage) and threads[Stage(event)].held:
            threads[Stage(event)].held.popleft()()
        state = bench.executor.queue_state()
        assert state.active <= slots
        assert state.completing <= MAX_COMPLETING
        assert (
            len(bench.executor._board.inside()) == state.active + state.queued + state.completing <= slots + queue_limit
        )
        assert len(bench.executor._board._preparing) <= THREADS[Stage.PREPARE]
    for listener in listeners:
        bench.executor.sent(listener, 1000.0)
    for _ in range(200):
        bench.run()
        for stage in (Stage.PREPARE, Stage.MASTER, Stage.STORE):
            threads[stage].run()

    assert all(listener.task.outcome is not None for listener in listeners)
    assert bench.executor._board.inside() == [] and bench.executor._board._tasks == {}
    abandoned = [one for one in bench.opened.values() if not one.closed and bench.log.count(one.name) == 0]
    assert abandoned == []


def test_long_tracks_leave_slots_for_short_ones():
    bench = Bench(slots=4, queue_limit=4, length_s=1000, long_limit=2)
    bench.join("a", duration_s=200)
    bench.join("b", duration_s=200)

    with pytest.raises(Overloaded, match="2 long tracks are being made"):
        bench.join("c", duration_s=200)

    bench.join("short", duration_s=180)
    bench.join("a", duration_s=200)  # It is being made already.


def test_so_many_may_wait_for_one_track():
    bench = Bench(slots=1)
    for _ in range(MAX_LISTENERS):
        bench.join("a", streaming=False)

    with pytest.raises(Overloaded, match="wait for this track"):
        bench.join("a")


def test_of_a_finished_track_a_listener_keeps_only_what_it_has_not_taken():
    bench = Bench()
    fast, _ = bench.join("a")
    slow, _ = bench.join("a")
    bench.run(2)
    assert [len(bench.executor.take(fast)) for _ in range(3)] == [1, 1, 0]

    bench.run()

    assert fast.task.outcome is not None
    assert (len(fast.untaken), len(slow.untaken), fast.task.chunks) == (1, 3, [])


def test_a_stream_that_joins_late_gets_all_of_it():
    bench = Bench()
    bench.join("a", streaming=False)
    bench.run(2)

    late, _ = bench.join("a")
    bench.run()

    assert len(late.untaken) == 3


def test_who_waits_for_the_end_is_woken_once():
    bench = Bench()
    _, woken = bench.join("a", streaming=False)

    bench.run()

    assert woken == ["a"]


def test_a_model_that_gives_more_than_it_was_asked_for_is_stopped():
    bench = Bench(length_s=10**9)
    listener, _ = bench.join("a", streaming=False, duration_s=5)

    bench.run(100)

    assert listener.task.outcome.code == "model-failed"
    assert bench.opened["a"].closed


def test_what_was_made_while_another_was_advanced_is_given_on_at_once():
    bench = Bench(slots=2, length_s=50, shared=True)
    stream, _ = bench.join("stream")
    bench.join("waiting", streaming=False)
    bench.run(6)
    # It is far enough ahead, so the turn is the other's; what its steps made of the stream does not wait.
    bench.clock.now_s -= 5.0
    while bench.executor.take(stream):
        pass
    bench.opened["stream"].made_beside = 1
    bench.log.clear()

    bench.run(1)

    assert bench.log == ["waiting", "stream"]
    assert len(stream.untaken) == 1


def test_a_chunk_that_is_there_does_not_wait_for_the_one_that_is_being_worked_for():
    bench = Bench(slots=2, length_s=50, shared=True)
    stream, _ = bench.join("stream")
    bench.run(3)
    bench.join("newcomer", streaming=False)
    bench.run(1)
    while bench.executor.take(stream):
        pass
    bench.log.clear()

    def made():
        bench.opened["stream"].made_beside = 1

    bench.opened["newcomer"].others_first = [made]
    bench.run(1)

    assert bench.log == ["stream"]
    assert len(stream.untaken) == 1
    bench.run(1)
    assert bench.log[1] == "newcomer"


def test_a_model_that_breaks_while_it_works_for_one_piece_costs_that_one():
    def breaks():
        raise ZeroDivisionError

    bench = Bench(slots=2, shared=True)
    bad, _ = bench.join("bad")
    good, _ = bench.join("good")
    bench.run(2)
    bench.opened["bad"].others_first = [breaks]
    bench.run()

    assert bad.task.outcome.code == "internal"
    assert bench.opened["bad"].closed == 1
    assert len(good.untaken) == 3


def test_a_stream_takes_what_has_been_made_in_even_parts():
    bench = Bench(slots=1, length_s=4)
    first, _ = bench.join("a")
    bench.run(3)
    late, _ = bench.join("a")
    third = len(late.untaken[0]) // 3
    late.untaken.extend([late.untaken.pop()[:third]] * 5)

    parts = []
    while chunks := bench.executor.take(late):
        parts.append([len(chunk) for chunk in chunks])
    assert parts == [[RATE_HZ], [RATE_HZ], [third] * 3, [third] * 2]
    assert len(first.untaken) == 3


# ---- preparing -------------------------------------------------------------------------------------------------


def test_a_piece_is_opened_when_it_is_prepared_and_until_then_others_go_on():
    thread = HeldThreads()
    bench = Bench(slots=2, length_s=50, prepares=True)
    bench.join("first")
    bench.run(3)
    bench.executor._threads[Stage.PREPARE] = thread

    bench.join("newcomer")
    bench.run(3)
    assert "newcomer" not in bench.opened and bench.log == ["first"] * 6

    thread.run()
    bench.run(1)
    assert bench.log[-1] == "newcomer"


def test_what_is_prepared_in_vain_costs_only_itself():
    bench = Bench(slots=2, prepares=True)
    bench.prepare_fails["bad"] = ModelFailed("no melody can be heard")
    bad, woken = bench.join("bad")
    good, _ = bench.join("good")

    bench.run()

    assert bad.task.outcome.code == "model-failed" and woken
    assert "bad" not in bench.opened
    assert bench.failures[0] == ("bad", "generate")
    assert len(good.untaken) == 3


def test_what_could_not_be_prepared_is_opened_by_no_thread_that_comes_in_between():
    bench = Bench(slots=2, prepares=True)
    bench.prepare_fails["bad"] = ModelFailed("no melody can be heard")
    really_failed = bench.failed

    def failed(*arguments):
        bench.executor.step()
        return really_failed(*arguments)

    bench.failed = failed
    bad, _ = bench.join("bad")

    assert bad.task.outcome.code == "model-failed" and "bad" not in bench.opened


def test_leaving_while_being_prepared_gives_the_place_back():
    thread = HeldThreads()
    bench = Bench(slots=1, queue_limit=0, prepares=True)
    bench.executor._threads[Stage.PREPARE] = thread
    leaving, _ = bench.join("a")

    bench.executor.leave(leaving)
    bench.join("b")
    thread.run()
    bench.run()

    assert list(bench.opened) == ["b"]
    assert bench.failures == []
    assert leaving.task.preparation is None


def test_only_those_whose_turn_comes_next_are_prepared():
    bench = Bench(slots=1, queue_limit=9, length_s=1000, prepares=True)
    bench.join("served")
    bench.run(2)
    for name in "abcdef":
        bench.join(name, priority=Priority.BATCH)
    bench.join("person")

    assert set(bench.prepared) == {"served", *"abcdef"[: Policy(1).prepared_ahead], "person"}


# ---- what does not come back -----------------------------------------------------------------------------------


class Hang:
    """A call that comes back after `seconds`, while the watch looks."""

    def __init__(self, bench, seconds, moving=False):
        self.bench, self.seconds, self.moving = bench, seconds, moving
        self.was_stuck = False

    def __call__(self):
        for _ in range(int(self.seconds / 10)):
            self.bench.clock.now_s += 10
            for rendering in self.bench.opened.values():
                rendering.moved += self.moving
            self.bench.executor.watch()
            self.was_stuck |= self.bench.executor.is_stuck
        self.bench.executor.watch()


def test_a_model_that_hangs_is_noticed_and_everybody_is_told():
    bench = Bench(slots=2, queue_limit=2)
    hung, told_hung = bench.join("hung")
    beside, told_beside = bench.join("beside")
    queued, told_queued = bench.join("queued", streaming=False)
    bench.run(2)
    hang = bench.opened["hung"].hang = Hang(bench, STALL_S)
    refused = []

    def join_later():
        with pytest.raises(Stalled):
            bench.join("later")
        refused.append(True)

    hang_and_join = lambda: (hang(), join_later())  # noqa: E731
    bench.opened["hung"].hang = hang_and_join
    bench.run(3)

    assert refused and hang.was_stuck
    for listener, told in ((hung, told_hung), (beside, told_beside), (queued, told_queued)):
        assert (listener.task.outcome.code, listener.task.outcome.retry_after_s is not None) == ("stalled", True)
        assert told
    # It came back after all: the replica is well again, and holds nothing of what was given up.
    bench.opened["hung"].hang = lambda: None
    assert not bench.executor.is_stuck
    assert all(rendering.closed == 1 for rendering in bench.opened.values())
    again, _ = bench.join("again")
    bench.run()
    assert again.task.outcome.code == "check-failed"


def test_a_model_that_is_slow_but_moves_is_left_alone():
    bench = Bench(slots=2)
    listener, _ = bench.join("slow")
    bench.run(1)
    bench.opened["slow"].hang = Hang(bench, 10 * STALL_S, moving=True)

    bench.run()

    assert listener.task.outcome.code == "check-failed"


def test_a_model_that_hangs_while_it_opens_a_piece_is_closed_when_it_comes_back():
    bench = Bench(slots=1)
    really_open = bench.open
    hang = Hang(bench, STALL_S)

    def slow_open(*arguments, **options):
        hang()
        return really_open(*arguments, **options)

    bench.open = slow_open
    listener, _ = bench.join("a")
    bench.run()

    assert listener.task.outcome.code == "stalled"
    assert bench.opened["a"].closed == 1 and bench.log == []


def test_a_store_that_hangs_costs_the_track_that_is_stored_and_no_stream():
    bench = Bench(slots=2, length_s=5)
    hung, told = bench.join("hung", streaming=False, duration_s=5)
    bench.run(1)
    bench.opened["hung"].masters = True
    hang = bench.opened["hung"].hang_in_store = Hang(bench, STALL_S)
    streamed, _ = bench.join("streamed")
    bench.run()

    assert hung.task.outcome.code == "stalled" and told
    assert not hang.was_stuck
    assert streamed.task.outcome.code == "check-failed"


def test_a_request_that_waits_too_long_for_a_slot_is_told_so():
    bench = Bench(slots=1, length_s=1000)
    bench.join("served")
    bench.run(1)
    waiting, told = bench.join("waiting")
    bench.clock.now_s += MAX_QUEUE_S

    bench.executor.watch()

    assert waiting.task.outcome.code == "overloaded" and told
    assert bench.executor.queue_state().queued == 0
    assert bench.failures == [("waiting", "queue")]


def test_a_render_thread_that_has_died_is_a_stuck_replica():
    bench = Bench()

    class Death(BaseException):
        pass

    def die(*arguments, **options):
        raise Death

    bench.open = die
    hook, threading.excepthook = threading.excepthook, lambda arguments: None
    try:
        listener, told = bench.join("a")
        bench.executor._thread.start()
        bench.executor._thread.join(timeout=5)
    finally:
        threading.excepthook = hook

    bench.executor.watch()

    assert bench.executor.is_stuck and not bench.executor.is_alive
    assert listener.task.outcome.code == "stalled" and told
