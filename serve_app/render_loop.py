"""Continuous batching in one replica: one thread that advances many renderings chunk by chunk, and who comes next.

A model may be used by one thread at a time, so the queue before that thread is the queue that decides. The surprising
thing: a job is not a request. Equal requests join one job, which ends when the last of them has left.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final, Protocol

from orchestrion.admission import InLine, Priority, QueueState, next_in_line, retry_after_s
from orchestrion.clock import Clock
from orchestrion.errors import Overloaded
from orchestrion.finish import FinishSpec
from orchestrion.models.protocol import Pcm
from orchestrion.outcome import Failure, Track
from orchestrion.request import TrackRequest
from serve_app.outcomes import Refusal

#: A stream with less than this in hand comes before requests that only wait for the end of a track.
SAFE_AHEAD_S: Final = 2.0
#: A waiting synchronous job gets at least one step in this many, however many streams run dry.
SYNC_SHARE: Final = 4
#: A job whose listeners all have this much audio not yet sent rests; its slot stays its own.
MAX_UNSENT_S: Final = 30.0
#: Jobs that may be in mastering and storing before no new one is begun: each holds a whole track in memory.
MAX_COMPLETING: Final = 4
#: Weight of the newest job in the mean service time.
SERVICE_WEIGHT: Final = 0.2

logger = logging.getLogger(__name__)


class RenderingSource(Protocol):
    """`orchestrion.render.Renderer`, as far as the loop uses it."""

    def open(self, request: TrackRequest, /, *, interactive: bool) -> ActiveRendering:
        """Begin a track."""
        ...

    def shares_steps(self, request: TrackRequest, /) -> bool:
        """Whether advancing one track of this model advances every open one of it."""
        ...

    def failed(self, error: Exception, stage: str, track_id: str | None, model: str, /) -> Failure:
        """What `error`, whatever it is, means to those who wait for the track; counted and logged."""
        ...


class ActiveRendering(Protocol):
    """`orchestrion.render.Rendering`, as far as the loop and the streams use it."""

    @property
    def source_rate_hz(self) -> int: ...  # noqa: D102

    @property
    def channels(self) -> int: ...  # noqa: D102
    @property
    def spec(self) -> FinishSpec: ...  # noqa: D102
    @property
    def expected_lufs(self) -> float | None: ...  # noqa: D102

    def advance(self) -> Pcm | None: ...  # noqa: D102
    def complete(self) -> Track | Failure: ...  # noqa: D102
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
    rendering: ActiveRendering | None = None
    #: Raw chunks so far, for streams that join late; the rendering keeps the same arrays for mastering.
    chunks: list[Pcm] = field(default_factory=list)
    made_s: float = 0.0
    first_chunk_at_s: float | None = None
    device_s: float = 0.0
    silent: bool = False
    #: Whether the last chunk is in `chunks`.
    whole: bool = False
    outcome: Track | Refusal | None = None
    listeners: list[Listener] = field(default_factory=list)

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
    """One request's part in a job. `wake` is called, from any thread, when the job has news."""

    job: Job
    wake: Callable[[], None]
    streaming: bool
    priority: Priority
    sent_s: float = 0.0


class RenderLoop:
    """The queue, the slots and the thread of one replica."""

    def __init__(
        self,
        source: RenderingSource,
        *,
        slots: int,
        queue_limit: int,
        clock: Clock,
        completion: Executor,
        on_queue_change: Callable[[int], None],
    ) -> None:
        """Does not start the thread: `start` does, and a test calls `step` itself.

        Args:
            source: opens renderings.
            slots: tracks in progress at the same time.
            queue_limit: jobs that may wait for a slot.
            clock: monotonic seconds.
            completion: runs mastering, encoding and storing; one or two threads.
            on_queue_change: told the number of waiting jobs whenever it changes.
        """
        self._source = source
        self._slots = slots
        self._queue_limit = queue_limit
        self._clock = clock
        self._completion = completion
        self._on_queue_change = on_queue_change
        self._changed = threading.Condition()
        self._queued: list[Job] = []
        self._active: list[Job] = []
        self._jobs: dict[str, Job] = {}
        self._completing = 0
        self._steps_since_sync = 0
        self._mean_service_s = 0.0
        self._stopped = False
        #: Counts what the thread may have to react to, so that it never sleeps over something.
        self._news = 0
        self._thread = threading.Thread(target=self._run, name="render", daemon=True)

    def start(self) -> None:
        """Start the render thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the render thread after its present chunk."""
        with self._changed:
            self._stopped = True
            self._tell_thread()

    @property
    def is_alive(self) -> bool:
        """Whether the render thread runs."""
        return self._thread.is_alive()

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
            Overloaded: the queue is full.
        """
        with self._changed:
            job = self._jobs.get(track_id)
            if job is None:
                state = self.queue_state()
                wait_s = retry_after_s(state)
                if wait_s is not None:
                    raise Overloaded(
                        f"{state.active} tracks are being made and {state.queued} wait; come back in {wait_s:.0f} s",
                        wait_s,
                    )
                job = self._jobs[track_id] = Job(track_id, request, self._clock.monotonic_s())
                self._queued.append(job)
                self._on_queue_change(len(self._queued))
            listener = Listener(job, wake, streaming, priority)
            job.listeners.append(listener)
            self._tell_thread()
            return listener

    def leave(self, listener: Listener) -> None:
        """Stop waiting. A job that nobody waits for any more is given up, unless its audio is already whole."""
        with self._changed:
            job = listener.job
            job.listeners.remove(listener)
            if not job.listeners and job in self._queued:
                self._queued.remove(job)
                del self._jobs[job.track_id]
                self._on_queue_change(len(self._queued))
            self._tell_thread()

    def sent(self, listener: Listener, audio_s: float) -> None:
        """Note that a stream has sent `audio_s` more seconds."""
        with self._changed:
            listener.sent_s += audio_s
            self._tell_thread()

    def queue_state(self) -> QueueState:
        """The load of this replica."""
        with self._changed:
            return QueueState(
                active=len(self._active),
                slots=self._slots,
                queued=len(self._queued),
                queue_limit=self._queue_limit,
                mean_service_s=self._mean_service_s,
            )

    def step(self) -> bool:
        """Advance one job by one chunk; False when there is nothing to do."""
        with self._changed:
            abandoned = self._take_abandoned()
            self._begin_queued()
            job = self._job_to_open() or self._job_to_advance()
        for one in abandoned:
            self._close(one)
        if job is None:
            return False
        self._advance(job)
        return True

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
        while not self._stopped:
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
        abandoned = [job for job in self._active if not job.listeners]
        for job in abandoned:
            self._active.remove(job)
            del self._jobs[job.track_id]
        return abandoned

    def _begin_queued(self) -> None:
        before = len(self._queued)
        while self._queued and len(self._active) < self._slots and self._completing < MAX_COMPLETING:
            now_s = self._clock.monotonic_s()
            waiting = [InLine(job.interactive, job.request.requester, now_s - job.arrived_at_s) for job in self._queued]
            chosen = next_in_line(waiting, [job.request.requester for job in self._active])
            self._active.append(self._queued.pop(chosen))
        if len(self._queued) != before:
            self._on_queue_change(len(self._queued))

    def _advance(self, job: Job) -> None:
        started_s = self._clock.monotonic_s()
        try:
            if job.rendering is None:
                job.rendering = self._source.open(job.request, interactive=job.interactive)
                if self._source.shares_steps(job.request):
                    return
            chunk = job.rendering.advance()
        except Exception as error:
            # The thread serves every other job of this replica: whatever breaks one of them ends that one.
            self._fail(job, error, "request" if job.rendering is None else "generate")
            return
        now_s = self._clock.monotonic_s()
        with self._changed:
            job.device_s += now_s - started_s
            if chunk is not None and not len(chunk):
                job.silent = True
            elif chunk is not None:
                job.silent = False
                job.chunks.append(chunk)
                job.made_s += len(chunk) / job.rendering.source_rate_hz
                if job.first_chunk_at_s is None:
                    job.first_chunk_at_s = now_s
            else:
                job.whole = True
                self._active.remove(job)
                self._completing += 1
                weight = SERVICE_WEIGHT if self._mean_service_s else 1.0
                self._mean_service_s += weight * (job.device_s - self._mean_service_s)
            listeners = tuple(job.listeners)
        if chunk is None:
            self._completion.submit(self._complete, job, job.rendering)
        _wake(listeners)

    def _complete(self, job: Job, rendering: ActiveRendering) -> None:
        try:
            outcome = rendering.complete()
        except Exception as error:
            # As in `_advance`: those who wait must hear of it, whatever it was.
            outcome = self._source.failed(error, "store", job.track_id, job.request.model)
        with self._changed:
            self._completing -= 1
        self._conclude(job, Refusal.of_failure(outcome) if isinstance(outcome, Failure) else outcome)

    def _fail(self, job: Job, error: Exception, stage: str) -> None:
        self._source.failed(error, stage, job.track_id, job.request.model)
        self._close(job)
        self._conclude(job, Refusal.of_error(error))

    def _close(self, job: Job) -> None:
        """Give the job's rendering up. Nobody is left to tell if that fails too."""
        if job.rendering is None:
            return
        try:
            job.rendering.close()
        except Exception:
            logger.exception("giving %s up broke", job.track_id)

    def _conclude(self, job: Job, outcome: Track | Refusal) -> None:
        with self._changed:
            if job in self._active:
                self._active.remove(job)
            del self._jobs[job.track_id]
            job.outcome = outcome
            listeners = tuple(job.listeners)
            self._tell_thread()
        _wake(listeners)


def _wake(listeners: Sequence[Listener]) -> None:
    for listener in listeners:
        try:
            listener.wake()
        except Exception:
            # Its event loop is closed, for example. The others have news all the same.
            logger.exception("a listener of %s could not be told", listener.job.track_id)
