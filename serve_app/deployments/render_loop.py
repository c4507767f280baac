"""Continuous batching in one replica: one thread that advances many renderings chunk by chunk, and who comes next.

A model may be used by one thread at a time, so the queue before that thread is the queue that decides. A job is not a
request: equal requests join one job, which ends when the last of them has left. On its way a job is prepared, rendered,
mastered and stored; only rendering is done by that one thread, and no other work ever makes it wait.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final, Protocol

from orchestrion.audio.mastering import FinishSpec
from orchestrion.audio.pcm import Pcm
from orchestrion.clock import Clock
from orchestrion.errors import ModelFailed, Overloaded, Stalled
from orchestrion.rendering.admission import InLine, Priority, QueueState, is_long, next_in_line, retry_after_s
from orchestrion.rendering.renderer import Master, Preparation
from orchestrion.tracks.outcome import Failure, Track
from orchestrion.tracks.request import TrackRequest
from serve_app.deployments.outcomes import Refusal
from serve_app.deployments.stall import Stage, StallWatch

#: A stream with less than this in hand comes before requests that only wait for the end of a track.
SAFE_AHEAD_S: Final = 2.0
#: A waiting synchronous job gets at least one step in this many, however many streams run dry.
SYNC_SHARE: Final = 4
#: A job whose listeners all have this much audio not yet sent rests; its slot stays its own.
MAX_UNSENT_S: Final = 30.0
#: Audio that a stream masters and sends at a time: a slow or late listener gets what has been made in even parts.
MAX_TAKEN_S: Final = 1.0
#: Jobs that may be in mastering and storing before no new one is begun: each holds a whole track in memory.
MAX_COMPLETING: Final = 4
#: Jobs beyond the free slots that are prepared early: a slot that becomes free has its next job waiting.
PREPARED_AHEAD: Final = 2
#: Requests that may wait for the same track: each keeps what it has not sent yet.
MAX_LISTENERS: Final = 64
#: A model that gives so much more audio than it was asked for is broken, and would fill the memory.
MAX_EXCESS_S: Final = 1.0
#: Threads of each kind of work. One masters, so that a track being finished never takes a core from first chunks; a
#: call to a store that hangs keeps its thread, so each job that may be storing has one.
#: The second that prepares is for the case that the first one hangs.
THREADS: Final[Mapping[Stage, int]] = {Stage.PREPARE: 2, Stage.RENDER: 1, Stage.MASTER: 1, Stage.STORE: MAX_COMPLETING}
#: How often the watch looks for what has stalled or waited too long.
WATCH_PERIOD_S: Final = 1.0
#: Weight of the newest job in the mean service time.
SERVICE_WEIGHT: Final = 0.2

logger = logging.getLogger(__name__)


class RenderingSource(Protocol):
    """`orchestrion.rendering.renderer.Renderer`, as far as the loop uses it."""

    def needs_preparing(self, request: TrackRequest, /) -> bool:
        """Whether opening this track takes long where it is not prepared."""
        ...

    def prepare(self, request: TrackRequest, /) -> Preparation:
        """Do what takes long of opening a track. Any thread may, also while another one renders."""
        ...

    def open(self, request: TrackRequest, /, *, interactive: bool, preparation: Preparation | None) -> ActiveRendering:
        """Begin a track."""
        ...

    def shares_steps(self, request: TrackRequest, /) -> bool:
        """Whether advancing one track of this model advances every open one of it."""
        ...

    def failed(self, error: Exception, stage: str, track_id: str | None, model: str, /) -> Failure:
        """What `error`, whatever it is, means to those who wait for the track; counted and logged."""
        ...


class ActiveRendering(Protocol):
    """`orchestrion.rendering.renderer.Rendering`, as far as the loop and the streams use it."""

    @property
    def source_rate_hz(self) -> int: ...  # noqa: D102

    @property
    def channels(self) -> int: ...  # noqa: D102
    @property
    def spec(self) -> FinishSpec: ...  # noqa: D102
    @property
    def expected_lufs(self) -> float | None: ...  # noqa: D102
    @property
    def progress(self) -> float: ...  # noqa: D102
    @property
    def is_ready(self) -> bool: ...  # noqa: D102

    def work(self) -> bool: ...  # noqa: D102
    def advance(self) -> Pcm | None: ...  # noqa: D102
    def master(self) -> Master | Failure: ...  # noqa: D102
    def publish(self, master: Master, /) -> Track | Failure: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class JobState:
    """What the choice of the next job depends on. Jobs are listed in order of arrival."""

    #: Seconds of audio made.
    made_s: float
    #: When its first chunk was ready; None before that.
    first_chunk_at_s: float | None
    #: Whether somebody listens while it is made.
    streamed: bool
    #: Whether it rests because its listeners are slow.
    paused: bool
    #: Whether it had a turn that gave no audio: its model is heard when the whole piece is done.
    silent: bool = False


def choose_next(jobs: Sequence[JobState], now_s: float, steps_since_sync: int) -> int | None:
    """Index of the job to advance by one chunk; None when all of them rest.

    In this order: a synchronous job that `SYNC_SHARE` steps have passed by; the oldest job without a chunk; the stream
    that would run dry first, if it has less than `SAFE_AHEAD_S` in hand; the oldest synchronous job; the stream with
    the least in hand. A stream of a model that gives no audio before the end counts as synchronous.

    Args:
        jobs: active jobs in order of arrival.
        now_s: the same clock as `first_chunk_at_s`.
        steps_since_sync: steps since a synchronous job was last advanced.
    """
    sync = [i for i, job in enumerate(jobs) if not job.streamed or job.silent]
    if sync and steps_since_sync >= SYNC_SHARE - 1:
        return sync[0]
    for i, job in enumerate(jobs):
        if job.first_chunk_at_s is None and not job.silent:
            return i
    in_hand_s = {
        i: job.made_s - (now_s - job.first_chunk_at_s)
        for i, job in enumerate(jobs)
        if job.streamed and not job.paused and job.first_chunk_at_s is not None
    }
    driest = min(in_hand_s, key=in_hand_s.__getitem__, default=None)
    if driest is not None and (in_hand_s[driest] < SAFE_AHEAD_S or not sync):
        return driest
    return sync[0] if sync else driest


@dataclass(eq=False, slots=True)
class Job:
    """One track being made, and those who wait for it. Changed only under the loop's lock."""

    track_id: str
    request: TrackRequest
    arrived_at_s: float
    #: Whether it may be opened: it is prepared, or needs no preparing.
    ready: bool = False
    preparation: Preparation | None = None
    rendering: ActiveRendering | None = None
    #: Raw chunks so far, for streams that join late; the rendering keeps the same arrays for mastering. Empty once the
    #: outcome is there: nobody joins any more.
    chunks: list[Pcm] = field(default_factory=list)
    made_s: float = 0.0
    first_chunk_at_s: float | None = None
    device_s: float = 0.0
    silent: bool = False
    #: Whether every chunk has been made.
    whole: bool = False
    outcome: Track | Refusal | None = None
    closed: bool = False
    listeners: list[Listener] = field(default_factory=list)

    @property
    def is_long(self) -> bool:
        """Whether it holds its slot for minutes."""
        return is_long(self.request.duration_s)

    @property
    def opened(self) -> ActiveRendering:
        """The rendering of a job that has chunks."""
        if self.rendering is None:
            raise RuntimeError(f"{self.track_id} has not been opened yet")
        return self.rendering

    @property
    def interactive(self) -> bool:
        """Whether any of its listeners is a person who waits."""
        return any(listener.priority is Priority.INTERACTIVE for listener in self.listeners)

    def state(self) -> JobState:
        """What `choose_next` sees of it."""
        streams = [listener for listener in self.listeners if listener.streaming]
        unsent_s = self.made_s - max((listener.sent_s for listener in streams), default=0.0)
        all_stream = len(streams) == len(self.listeners)
        paused = all_stream and unsent_s > MAX_UNSENT_S
        return JobState(self.made_s, self.first_chunk_at_s, bool(streams), paused, self.silent)


@dataclass(eq=False, slots=True)
class Listener:
    """One request's part in a job. `wake` is called, from any thread, when the job has news for it."""

    job: Job
    wake: Callable[[], None]
    streaming: bool
    priority: Priority
    sent_s: float = 0.0
    #: Of a stream: chunks that it has not taken yet.
    untaken: deque[Pcm] = field(default_factory=deque)


class RenderLoop:
    """The queue, the slots and the threads of one replica."""

    def __init__(
        self,
        source: RenderingSource,
        *,
        slots: int,
        queue_limit: int,
        long_limit: int,
        max_queue_s: float,
        stall_s: float,
        clock: Clock,
        executors: Mapping[Stage, Executor],
        on_queue_change: Callable[[int], None],
    ) -> None:
        """Does not start the threads: `start` does, and a test calls `step` and `watch` itself.

        Args:
            source: opens renderings.
            slots: tracks in progress at the same time.
            queue_limit: jobs that may wait for a slot, while every slot is taken.
            long_limit: jobs of long tracks that may be inside, in slots or not.
            max_queue_s: a job that has waited for a slot for so long is refused.
            stall_s: a call that has not moved on for so long is given up by those who wait for it.
            clock: monotonic seconds.
            executors: run preparing, mastering and storing, with as many threads as `THREADS` says.
            on_queue_change: told the number of waiting jobs whenever it changes.
        """
        self._source = source
        self._slots = slots
        self._queue_limit = queue_limit
        self._long_limit = long_limit
        self._max_queue_s = max_queue_s
        self._clock = clock
        self._executors = executors
        self._on_queue_change = on_queue_change
        self._watch: StallWatch[Job] = StallWatch(THREADS, stall_s, clock)
        self._changed = threading.Condition()
        self._queued: list[Job] = []
        self._preparing: list[Job] = []
        self._active: list[Job] = []
        self._completing: list[Job] = []
        #: Over, and still to be closed by the render thread.
        self._to_close: list[Job] = []
        self._jobs: dict[str, Job] = {}
        self._steps_since_sync = 0
        self._mean_service_s = 0.0
        self._stopped = threading.Event()
        #: Counts what the thread may have to react to, so that it never sleeps over something.
        self._news = 0
        self._thread = threading.Thread(target=self._run, name="render", daemon=True)
        self._watcher = threading.Thread(target=self._run_watch, name="watch", daemon=True)

    def start(self) -> None:
        """Start the render thread and the watch."""
        self._thread.start()
        self._watcher.start()

    def stop(self) -> None:
        """End the render thread after its present chunk."""
        self._stopped.set()
        with self._changed:
            self._tell_thread()

    @property
    def is_alive(self) -> bool:
        """Whether the render thread runs."""
        return self._thread.is_alive()

    @property
    def is_stuck(self) -> bool:
        """Whether this replica can do no more: every thread of a kind hangs, or the render thread died."""
        died = self._thread.ident is not None and not self._thread.is_alive() and not self._stopped.is_set()
        return died or self._watch.is_stuck

    # ---- those who wait ----------------------------------------------------------------------------------------

    def join(
        self,
        request: TrackRequest,
        track_id: str,
        *,
        streaming: bool,
        wake: Callable[[], None],
        priority: Priority = Priority.INTERACTIVE,
    ) -> Listener:
        """Wait for a track together with those who already do, or put it in the queue.

        Raises:
            Overloaded: the queue is full, or too many wait for this track.
            Stalled: the replica is stuck.
        """
        if self.is_stuck:
            raise Stalled(_STUCK)
        needs_preparing = self._source.needs_preparing(request)
        with self._changed:
            job = self._jobs.get(track_id)
            if job is None:
                job = self._admit(request, track_id, ready=not needs_preparing)
            elif len(job.listeners) >= MAX_LISTENERS:
                raise Overloaded(
                    f"{MAX_LISTENERS} requests wait for this track; come back later", job.request.duration_s
                )
            untaken = deque(job.chunks) if streaming else deque()
            listener = Listener(job, wake, streaming, priority, untaken=untaken)
            job.listeners.append(listener)
            self._tell_thread()
        self._prepare_next()
        return listener

    def _admit(self, request: TrackRequest, track_id: str, *, ready: bool) -> Job:
        state = self.queue_state()
        wait_s = retry_after_s(state)
        if wait_s is not None:
            made = state.active + state.completing
            raise Overloaded(
                f"{made} tracks are being made and {state.queued} wait; come back in {wait_s:.0f} s", wait_s
            )
        if is_long(request.duration_s) and sum(job.is_long for job in self._inside()) >= self._long_limit:
            raise Overloaded(f"{self._long_limit} long tracks are being made here already", request.duration_s)
        job = self._jobs[track_id] = Job(track_id, request, self._clock.monotonic_s(), ready)
        self._queued.append(job)
        self._on_queue_change(len(self._queued))
        return job

    def _inside(self) -> list[Job]:
        return [*self._queued, *self._active, *self._completing]

    def leave(self, listener: Listener) -> None:
        """Stop waiting. A job that nobody waits for any more is given up, unless its audio is already whole."""
        with self._changed:
            job = listener.job
            job.listeners.remove(listener)
            listener.untaken.clear()
            if not job.listeners and job in self._queued:
                self._take_out(job)
            self._tell_thread()

    def take(self, listener: Listener) -> list[Pcm]:
        """The next chunks of a stream that it has not taken yet: one, or what is not longer than `MAX_TAKEN_S`."""
        with self._changed:
            if not listener.untaken:
                return []
            chunks = [listener.untaken.popleft()]
            room = MAX_TAKEN_S * listener.job.opened.source_rate_hz - len(chunks[0])
            while listener.untaken and len(listener.untaken[0]) <= room:
                chunks.append(listener.untaken.popleft())
                room -= len(chunks[-1])
            return chunks

    def sent(self, listener: Listener, audio_s: float) -> None:
        """Note that a stream has sent `audio_s` more seconds."""
        with self._changed:
            rested = listener.job.state().paused
            listener.sent_s += audio_s
            if rested:
                self._tell_thread()

    def queue_state(self) -> QueueState:
        """The load of this replica."""
        with self._changed:
            return QueueState(
                active=len(self._active),
                slots=self._slots,
                queued=len(self._queued),
                queue_limit=self._queue_limit,
                completing=len(self._completing),
                mean_service_s=self._mean_service_s,
            )

    # ---- before the slot ---------------------------------------------------------------------------------------

    def _prepare_next(self) -> None:
        """Have the next jobs in line prepared, as many as there are threads for it."""
        with self._changed:
            chosen = []
            while (job := self._next_to_prepare()) is not None:
                self._preparing.append(job)
                chosen.append(job)
        for job in chosen:
            self._executors[Stage.PREPARE].submit(self._prepare, job)

    def _next_to_prepare(self) -> Job | None:
        if len(self._preparing) >= THREADS[Stage.PREPARE]:
            return None
        front = self._in_line(self._queued, self._slots - len(self._active) + PREPARED_AHEAD)
        return next((job for job in front if not job.ready and job not in self._preparing), None)

    def _in_line(self, queued: Sequence[Job], places: int) -> list[Job]:
        """The first of these jobs, in the order in which they would get free slots."""
        now_s, left = self._clock.monotonic_s(), list(queued)
        line: list[Job] = []
        served = [job.request.requester for job in self._active]
        while left and len(line) < places:
            waiting = [InLine(job.interactive, job.request.requester, now_s - job.arrived_at_s) for job in left]
            line.append(left.pop(next_in_line(waiting, served)))
            served.append(line[-1].request.requester)
        return line

    def _prepare(self, job: Job) -> None:
        preparation = None
        try:
            with self._watch.call(Stage.PREPARE, job):
                preparation = self._source.prepare(job.request)
        except Exception as error:
            # It is out of the line before anybody could take it for ready.
            self._fail(job, error, "request")
        with self._changed:
            self._preparing.remove(job)
            if job.outcome is None and job.listeners:
                job.preparation, job.ready = preparation, True
            self._tell_thread()
        self._prepare_next()

    def _begin_queued(self) -> bool:
        """Give the free slots to those whose turn it is; whether there was one."""
        free = self._slots - len(self._active) if len(self._completing) < MAX_COMPLETING else 0
        begun = self._in_line([job for job in self._queued if job.ready], free)
        for job in begun:
            self._queued.remove(job)
            self._active.append(job)
        if begun:
            self._on_queue_change(len(self._queued))
        return bool(begun)

    # ---- the render thread -------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Work for one job until it, or one that shares its steps, has a chunk; False when there is nothing to do."""
        with self._changed:
            to_close = self._take_abandoned()
            begun = self._begin_queued()
            newcomer = self._job_to_open()
            job = newcomer or self._job_to_advance()
        for one in to_close:
            self._close(one)
        if begun:
            self._prepare_next()
        if job is None:
            return bool(to_close)
        if job.rendering is None:
            self._open(job)
        if newcomer is None and job.outcome is None:
            self._advance(job)
            # What its steps made of other pieces is given on at once, whoever's turn is next.
            for other in self._made_beside():
                self._advance(other)
        return True

    def _made_beside(self) -> list[Job]:
        with self._changed:
            going = [job for job in self._active if job.rendering is not None and not job.state().paused]
        return [job for job in going if self._is_ready(job)]

    def _is_ready(self, job: Job) -> bool:
        try:
            return job.opened.is_ready
        except Exception as error:
            self._close(job)
            self._fail(job, error, "generate")
            return False

    def _job_to_open(self) -> Job | None:
        """A job that should be open before others go on, because it could share their steps."""
        closed = (job for job in self._active if job.rendering is None)
        return next((job for job in closed if self._source.shares_steps(job.request)), None)

    def _job_to_advance(self) -> Job | None:
        chosen = choose_next([job.state() for job in self._active], self._clock.monotonic_s(), self._steps_since_sync)
        if chosen is None:
            return None
        job = self._active[chosen]
        self._steps_since_sync = self._steps_since_sync + 1 if job.state().streamed and not job.silent else 0
        return job

    def _run(self) -> None:
        while not self._stopped.is_set():
            seen = self._news
            if not self.step():
                with self._changed:
                    # News since `seen` was read may have come after the step had looked: then there is no waiting.
                    while self._news == seen:
                        self._changed.wait()

    def _tell_thread(self) -> None:
        self._news += 1
        self._changed.notify_all()

    def _take_abandoned(self) -> list[Job]:
        """Jobs to close: those that nobody waits for any more, and those that were given up meanwhile."""
        abandoned = [job for job in self._active if not job.listeners]
        for job in abandoned:
            self._take_out(job)
        to_close, self._to_close = self._to_close, []
        return abandoned + to_close

    def _open(self, job: Job) -> None:
        started_s = self._clock.monotonic_s()
        preparation, job.preparation = job.preparation, None
        try:
            with self._watch.call(Stage.RENDER, job, self._progress):
                job.rendering = self._source.open(job.request, interactive=job.interactive, preparation=preparation)
        except Exception as error:
            # The thread serves every other job of this replica: whatever breaks one of them ends that one.
            self._fail(job, error, "request")
            return
        job.device_s += self._clock.monotonic_s() - started_s
        if job.outcome is not None:  # It was given up meanwhile.
            self._close(job)

    def _advance(self, job: Job) -> None:
        started_s = self._clock.monotonic_s()
        rendering = job.opened
        try:
            with self._watch.call(Stage.RENDER, job, self._progress):
                if not rendering.work():
                    job.device_s += self._clock.monotonic_s() - started_s
                    return
                chunk = rendering.advance()
            if job.made_s > job.request.duration_s + MAX_EXCESS_S:
                raise ModelFailed(f"{job.request.model} gave more than {job.request.duration_s:g} s")
        except Exception as error:
            # As in `_open`.
            self._close(job)
            self._fail(job, error, "generate")
            return
        now_s = self._clock.monotonic_s()
        with self._changed:
            if job.outcome is not None:  # It was given up meanwhile, and `_to_close` has it.
                return
            job.device_s += now_s - started_s
            if chunk is None:
                self._end(job)
            elif not len(chunk):
                job.silent = True
            else:
                self._give_on(job, chunk, now_s)
            streams = [listener for listener in job.listeners if listener.streaming]
        if chunk is None:
            self._executors[Stage.MASTER].submit(self._master, job, rendering)
        _wake(streams)

    def _progress(self) -> float:
        """Grows while the render thread moves on, whichever piece a step of the model is for."""
        renderings = [job.rendering for job in list(self._active)]
        return sum(rendering.progress for rendering in renderings if rendering is not None)

    def _give_on(self, job: Job, chunk: Pcm, now_s: float) -> None:
        job.silent = False
        job.chunks.append(chunk)
        job.made_s += len(chunk) / job.opened.source_rate_hz
        if job.first_chunk_at_s is None:
            job.first_chunk_at_s = now_s
        for listener in job.listeners:
            if listener.streaming:
                listener.untaken.append(chunk)

    def _end(self, job: Job) -> None:
        job.whole = True
        self._active.remove(job)
        self._completing.append(job)
        weight = SERVICE_WEIGHT if self._mean_service_s else 1.0
        self._mean_service_s += weight * (job.device_s - self._mean_service_s)

    def _close(self, job: Job) -> None:
        """Give the job's rendering up. Nobody is left to tell if that fails too."""
        if job.rendering is None or job.closed:
            return
        job.closed = True
        try:
            with self._watch.call(Stage.RENDER, job, self._progress):
                job.rendering.close()
        except Exception:
            logger.exception("giving %s up broke", job.track_id)

    # ---- after the slot ----------------------------------------------------------------------------------------

    def _master(self, job: Job, rendering: ActiveRendering) -> None:
        try:
            with self._watch.call(Stage.MASTER, job, lambda: rendering.progress):
                master = rendering.master()
        except Exception as error:
            self._complete(job, self._source.failed(error, "finish", job.track_id, job.request.model))
            return
        if isinstance(master, Failure):
            self._complete(job, master)
        else:
            self._executors[Stage.STORE].submit(self._store, job, rendering, master)

    def _store(self, job: Job, rendering: ActiveRendering, master: Master) -> None:
        try:
            with self._watch.call(Stage.STORE, job, lambda: rendering.progress):
                outcome = rendering.publish(master)
        except Exception as error:
            outcome = self._source.failed(error, "store", job.track_id, job.request.model)
        self._complete(job, outcome)

    def _complete(self, job: Job, outcome: Track | Failure) -> None:
        with self._changed:
            self._completing.remove(job)
            self._tell_thread()
        self._conclude([job], Refusal.of_failure(outcome) if isinstance(outcome, Failure) else outcome)

    # ---- the end of a job --------------------------------------------------------------------------------------

    def _fail(self, job: Job, error: Exception, stage: str) -> None:
        if job.outcome is None and job.listeners:
            self._source.failed(error, stage, job.track_id, job.request.model)
        self._conclude([job], Refusal.of_error(error))

    def _conclude(self, jobs: Iterable[Job], outcome: Track | Refusal) -> None:
        """Tell those who wait for these jobs what became of them; one that is over already stays as it is."""
        with self._changed:
            over = [job for job in jobs if job.outcome is None]
            for job in over:
                job.outcome = outcome
                self._take_out(job)
                job.chunks.clear()
            listeners = [listener for job in over for listener in job.listeners]
            self._tell_thread()
        _wake(listeners)

    def _take_out(self, job: Job) -> None:
        """Nobody joins it any more, and neither queue nor slot is its."""
        if self._jobs.get(job.track_id) is job:
            del self._jobs[job.track_id]
        if job in self._queued:
            self._queued.remove(job)
            self._on_queue_change(len(self._queued))
        if job in self._active:
            self._active.remove(job)

    # ---- the watch ---------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Tell those who have waited too long: for a slot, or for a call that does not come back.

        A call that hangs costs the job it is for. Where it leaves a kind of work without a thread, it costs all of the
        replica's, and `is_stuck` says so until the call comes back after all.
        """
        if self.is_stuck:
            with self._changed:
                lost = self._inside()
                self._to_close += [job for job in self._active if job.rendering is not None]
            self._tell_stalled(lost, _STUCK)
            return
        for call in self._watch.stalled():
            self._tell_stalled([call.subject], f"this track's {call.stage} got stuck and was given up; ask again")
        now_s = self._clock.monotonic_s()
        with self._changed:
            late = [job for job in self._queued if now_s - job.arrived_at_s >= self._max_queue_s]
            forecast_s = max(1.0, self._mean_service_s * (len(self._active) + len(self._queued)) / 2)
        for job in late:
            self._fail(job, Overloaded(f"no slot became free within {self._max_queue_s:g} s", forecast_s), "queue")

    def _tell_stalled(self, jobs: Sequence[Job], message: str) -> None:
        untold = [job for job in jobs if job.outcome is None]
        for job in untold:
            logger.error("%s of %s stalled", job.track_id, job.request.model)
            self._fail(job, Stalled(message), "generate")

    def _run_watch(self) -> None:
        while not self._stopped.wait(WATCH_PERIOD_S):
            try:
                self.watch()
            except Exception:
                logger.exception("a look for what has stalled broke")


_STUCK: Final = "the replica that worked on this got stuck and is being replaced; send the request again"


def _wake(listeners: Sequence[Listener]) -> None:
    for listener in listeners:
        try:
            listener.wake()
        except Exception:
            # Its event loop is closed, for example. The others have news all the same.
            logger.exception("a listener of %s could not be told", listener.job.track_id)
