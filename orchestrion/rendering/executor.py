"""Continuous batching in one process: one thread that advances many tracks chunk by chunk, and threads around it.

Streams, synchronous requests and catalog rows are all made here, as tasks; what differs between them is in `Policy`.
Only one thread at a time may use a model, so the queue in front of that thread decides who waits. A task is not a
request: equal requests join one task, which is given up when the last of them has left.

    look up → prepare  →  slot: open → advance …  →  master  →  store
    threads of their own  the render thread          threads of their own

The render thread does nothing but render, and waits for no other work. Whatever a step throws is the failure of its
task and of no other, and ends no thread (`_guarded`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor as Threads
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from orchestrion.audio.pcm import Pcm
from orchestrion.clock import Clock
from orchestrion.errors import ModelFailed, NotReady, OutOfMemory, Overloaded, Stalled, StoreUnavailable
from orchestrion.rendering.admission import Priority, QueueState
from orchestrion.rendering.board import STOPPED, TaskBoard
from orchestrion.rendering.checkpoints import Checkpoints, Keeper
from orchestrion.rendering.policy import Policy, RenderingSource
from orchestrion.rendering.stall import Stage, StallWatch
from orchestrion.rendering.task import Listener, Task, tell_begun
from orchestrion.resilience.store_retry import STORE_RETRY_S, Away, Retry, StoreCalls, StoreRetry, longest, no_retry
from orchestrion.tracks.outcome import Failure
from orchestrion.tracks.request import TrackRequest

logger = logging.getLogger(__name__)

#: A model that gives so much more audio than it was asked for is broken, and would fill the memory.
MAX_EXCESS_S: Final = 1.0
#: How often the watch looks for what has stalled or waited too long.
WATCH_PERIOD_S: Final = 1.0


class Executor:
    """The queue, the slots and the threads of one process."""

    def __init__(
        self,
        source: RenderingSource,
        policy: Policy,
        clock: Clock,
        *,
        checkpoints: Checkpoints | None = None,
        sleep: Callable[[float], None] | None = None,
        patience_s: float = STORE_RETRY_S,
        probe: Callable[[int], None] | None = None,
        refused_elsewhere: Callable[[], Away | None] = lambda: None,
        threads: Mapping[Stage, Threads] | None = None,
        on_queue_change: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Does not start the render thread and the watch: `start` does, and a test calls `step` and `watch` itself.

        Args:
            source: opens renderings.
            policy: how they are shared out.
            clock: monotonic seconds, and the moments of tasks.
            checkpoints: where unfinished pieces are kept and looked for.
            sleep: waits for a store that is away; None: it is not waited for.
            patience_s: how long it is waited for.
            probe: writes so many bytes to the store and removes them again: whether a refusal is about one piece.
            refused_elsewhere: for how long another place, without which nothing is worth making, has refused what it
                is given.
            threads: run preparing, mastering and storing; made here as the policy says if not given.
            on_queue_change: told the number of waiting tasks whenever it changes.
        """
        self._source = source
        self.policy = policy
        self._clock = clock
        self._keeper = Keeper(checkpoints)
        self._calls = None if sleep is None else StoreCalls(clock, sleep, lambda: self.is_over, patience_s, probe)
        self._read: Retry = no_retry if self._calls is None else self._calls.reading
        self._write: Retry = no_retry if self._calls is None else self._calls.writing
        self._refused_elsewhere = refused_elsewhere
        self._threads = threads if threads is not None else _thread_pools(policy.threads)
        watched = {stage: count for stage, count in policy.threads.items() if count}
        self._watch: StallWatch[Task] = StallWatch(watched, policy.stall_s, clock)
        self._board = TaskBoard(policy, clock, on_queue_change)
        self._stop_at_s: float | None = None
        self._closed = threading.Event()
        #: What ended the render thread before its time.
        self._ended_by: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="render", daemon=True)
        self._watcher = threading.Thread(target=self._run_watch, name="watch", daemon=True)

    # ---- its life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the render thread and the watch."""
        self._thread.start()
        self._watcher.start()

    def stop(self, within_s: float = 0.0) -> None:
        """Begin nothing new; what is open may go on for `within_s`, then it is kept for others as far as it is."""
        with self._board.changed:
            stop_at_s = self._clock.monotonic_s() + within_s
            self._stop_at_s = stop_at_s if self._stop_at_s is None else min(self._stop_at_s, stop_at_s)
            self._board.is_stopped = True
        self._board.note_news()

    def close(self) -> None:
        """Stop at once and end the threads."""
        self.stop()
        self._closed.set()
        self._board.note_news()
        if self._thread.ident is not None:
            self._thread.join()
        for pool in self._threads.values():
            pool.shutdown()

    @property
    def is_alive(self) -> bool:
        """Whether the render thread runs."""
        return self._thread.is_alive()

    @property
    def is_stuck(self) -> bool:
        """Whether this process can do no more: every thread of a kind hangs, or the render thread died."""
        died = self._thread.ident is not None and not self._thread.is_alive() and not self._closed.is_set()
        return died or self._watch.is_stuck

    @property
    def is_stopped(self) -> bool:
        """Whether nothing new is begun."""
        return self._board.is_stopped

    @property
    def is_over(self) -> bool:
        """Whether it is stopped, and the time for what was open is over too."""
        return self._stop_at_s is not None and self._clock.monotonic_s() >= self._stop_at_s

    @property
    def store_away(self) -> Away | None:
        """For how long the store has not answered, reading or writing; None if it answers. Any thread may ask."""
        return None if self._calls is None else self._calls.away

    @property
    def refused(self) -> Away | None:
        """For how long what is made here has had no place to be kept in; None if it has one. Any thread may ask.

        Nothing new is begun meanwhile, and what is finished stays in memory.
        """
        return longest(None if self._calls is None else self._calls.refused, self._refused_elsewhere())

    # ---- listeners ---------------------------------------------------------------------------------------------

    def join(
        self,
        request: TrackRequest,
        track_id: str,
        *,
        wake: Callable[[], None],
        streaming: bool = False,
        priority: Priority = Priority.INTERACTIVE,
        on_start: Callable[[], None] | None = None,
    ) -> Listener:
        """Join the task of this track if there is one, or put one in the queue.

        Args:
            request: what to render.
            track_id: of the request.
            wake: called, from any thread, when the task has news.
            streaming: whether the chunks are wanted, or only the outcome.
            priority: of the request.
            on_start: called, from any thread, when the model begins, unless it has begun when this returns.

        Raises:
            Overloaded: the queue is full, or too many wait for this track.
            Stalled: the process is stuck.
            NotReady: it is being stopped.
        """
        if self._ended_by is not None and not isinstance(self._ended_by, Exception):
            raise self._ended_by
        if self.is_stuck:
            raise Stalled(_STUCK)
        needs_preparing = self.policy.looks_up or self._source.needs_preparing(request)
        task = Task(
            track_id,
            request,
            arrived_at_s=self._clock.monotonic_s(),
            shares_steps=self._source.shares_steps(request),
            ready=not needs_preparing,
        )
        listener = self._board.join(task, wake, streaming, priority)
        listener.on_start = on_start
        self._prepare_next()
        return listener

    def leave(self, listener: Listener) -> None:
        """Stop waiting. A task without listeners is given up, unless its audio is already whole."""
        self._board.leave(listener)

    def take(self, listener: Listener) -> list[Pcm]:
        """The next chunks of a stream that it has not taken yet: one, or about a second of them."""
        return self._board.take(listener)

    def sent(self, listener: Listener, audio_s: float) -> None:
        """Note that a stream has sent `audio_s` more seconds."""
        self._board.sent(listener, audio_s)

    def queue_state(self) -> QueueState:
        """The load of this process."""
        return self._board.state()

    # ---- before the slot ---------------------------------------------------------------------------------------

    def _prepare_next(self) -> None:
        """Have the next tasks of the queue prepared, as many as there are threads for it."""
        for task in self._board.next_to_prepare():
            self._threads[Stage.PREPARE].submit(self._prepare, task)

    def _prepare(self, task: Task) -> None:
        try:
            work = partial(self._find_or_prepare, task)
            self._guarded(task, Stage.PREPARE, work, self._attempts_of(self._read), "request")
        finally:
            self._board.prepared(task)
        self._prepare_next()

    def _find_or_prepare(self, task: Task) -> None:
        if self.policy.looks_up:
            found = self._read(lambda: self._source.find(task.request))
            if found is not None:
                self._board.conclude([task], found)
                return
        task.resume = self._keeper.find(task, self._read)
        if self._source.needs_preparing(task.request):
            try:
                task.preparation = self._read(lambda: self._source.prepare(task.request), works=True)
            except (ModelFailed, OutOfMemory) as error:
                # What breaks a model is a failure to generate, also where it shows before the first chunk.
                self._fail(task, error, "generate")

    # ---- the render thread -------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Work for one task until it, or one that shares its steps, has a chunk; False when there is nothing to do."""
        board = self._board
        to_close = board.take_abandoned()
        opened = board.opened()
        stopped = [task for task in board.inside() if task.rendering is None] if self.is_stopped else []
        over = opened if self.is_over else []
        begun, given_up = self._begin()
        for task in to_close:
            self._close(task)
        for task in over:
            task.is_kept_for_others = self._keeper.keep(task, self._clock.monotonic_s())
            self._close(task)
        self._conclude_stopped([*stopped, *over])
        if begun:
            self._prepare_next()
        newcomer = board.to_open()
        chosen = newcomer or board.to_advance()
        if chosen is None:
            return bool(to_close or stopped or over or given_up)
        if chosen.rendering is None:
            self._open(chosen)
        if newcomer is None and chosen.outcome is None:
            self._advance(chosen)
            # What its steps made of other pieces is given on at once, whichever task is next.
            for other in self._made_beside():
                self._advance(other)
        return True

    def _begin(self) -> tuple[list[Task], list[Task]]:
        """Give the free slots to the next tasks, unless what they make could not be kept: those, and those given up."""
        refused = self.refused
        if refused is None:
            return self._board.begin(), []
        if not refused.is_given_up:
            return [], []
        given_up = [task for task in self._board.inside() if task.rendering is None and task.outcome is None]
        for task in given_up:
            self._fail(task, StoreUnavailable(refused.error), "store")
        return [], given_up

    def _made_beside(self) -> list[Task]:
        return [task for task in self._board.opened() if not task.state().paused and self._is_ready(task)]

    def _is_ready(self, task: Task) -> bool:
        ready: list[bool] = []
        self._guarded(task, Stage.RENDER, lambda: ready.append(task.opened.is_ready), self._progress, "generate")
        return ready == [True]

    def _run(self) -> None:
        try:
            while not self._closed.is_set() or self._board.active or self._board.queued:
                seen = self._board.news
                if not self.step():
                    # News since `seen` may have come after the step had looked: then there is no waiting.
                    self._board.wait_for_news(seen, self._left_s())
        except BaseException as error:
            # Nothing is rendered any more: present and future listeners are told.
            self._ended_by = error
            for task in self._board.inside():
                self._end_with(task, error)
            raise

    def _left_s(self) -> float | None:
        """When to look again, in seconds; None: nothing has to be looked at before there is news."""
        # Nobody tells when the store takes something again, or is given up.
        look_s = [WATCH_PERIOD_S] if self.refused is not None else []
        if self._stop_at_s is not None and self._board.active:
            look_s.append(max(0.0, self._stop_at_s - self._clock.monotonic_s()))
        return min(look_s, default=None)

    def _open(self, task: Task) -> None:
        started_s = self._clock.monotonic_s()
        task.began_at = self._clock.now()
        task.kept_at_s = started_s
        tell_begun(task.listeners)
        self._guarded(task, Stage.RENDER, partial(self._open_rendering, task), self._progress, "request")
        task.device_s += self._clock.monotonic_s() - started_s
        if task.outcome is not None:  # It was given up meanwhile.
            self._close(task)

    def _open_rendering(self, task: Task) -> None:
        preparation, task.preparation = task.preparation, None
        resume, task.resume = task.resume, None
        task.is_kept = resume is not None
        try:
            task.rendering = self._read(
                lambda: self._source.open(
                    task.request, interactive=task.interactive, resume=resume, preparation=preparation
                ),
                works=True,
            )
        except (ModelFailed, OutOfMemory) as error:
            # As while it is prepared.
            self._fail(task, error, "generate")

    def _advance(self, task: Task) -> None:
        started_s = self._clock.monotonic_s()
        made: list[Pcm | None] = []
        self._guarded(task, Stage.RENDER, lambda: made.extend(self._next_chunk(task)), self._progress, "generate")
        now_s = self._clock.monotonic_s()
        task.device_s += now_s - started_s
        if not made or not self._board.give_on(task, made[0], now_s):
            return
        if task.whole:
            self._hand_on(Stage.MASTER, partial(self._master, task))
        else:
            self._keeper.keep_if_due(task, now_s)

    def _next_chunk(self, task: Task) -> list[Pcm | None]:
        """The next chunk, if it is there; None for the end."""
        if not task.opened.work():
            return []
        chunk = task.opened.advance()
        if task.made_s > task.duration_s + MAX_EXCESS_S:
            raise ModelFailed(f"{task.model} gave more than {task.duration_s:g} s")
        return [chunk]

    def _progress(self) -> float:
        """Grows while the render thread moves on, whichever piece a step of the model is for."""
        renderings = [task.rendering for task in list(self._board.active)]
        return sum(rendering.progress for rendering in renderings if rendering is not None)

    def _close(self, task: Task) -> None:
        """Give the task's rendering up. If that fails too, there is no listener to tell; it is logged."""
        if task.rendering is None or task.closed:
            return
        task.closed = True
        try:
            with self._watch.call(Stage.RENDER, task, self._progress):
                task.rendering.close()
        except Exception:
            logger.exception("giving %s up broke", task.track_id)

    # ---- after the slot ----------------------------------------------------------------------------------------

    def _hand_on(self, stage: Stage, work: Callable[[], None]) -> None:
        if stage in self._threads:
            self._threads[stage].submit(work)
        else:
            work()

    def _master(self, task: Task) -> None:
        stage = Stage.MASTER if Stage.MASTER in self._threads else Stage.RENDER
        if self._guarded(task, stage, task.opened.master, lambda: task.opened.progress, "finish"):
            self._hand_on(Stage.STORE, partial(self._store, task))

    def _store(self, task: Task) -> None:
        progress = self._attempts_of(self._write) or (lambda: task.opened.progress)
        self._guarded(task, Stage.STORE, partial(self._publish, task), progress, "store")

    def _publish(self, task: Task) -> None:
        outcome = task.opened.publish(self._write)
        self._keeper.forget(task, self._write)
        self._board.conclude([task], outcome)

    # ---- the end of a task -------------------------------------------------------------------------------------

    def _guarded(
        self, task: Task, stage: Stage, work: Callable[[], object], progress: Callable[[], float] | None, at: str
    ) -> bool:
        """The one guard: whatever `work` throws ends this task and no other. Whether it threw nothing.

        What is to end the process (KeyboardInterrupt, SystemExit) is told to the listeners, and ends the caller, too.

        Args:
            task: that it is done for.
            stage: whose threads do it.
            work: what may go wrong.
            progress: a figure that grows while it gets on.
            at: the stage of the pipeline that a failure is told of.
        """
        try:
            with self._watch.call(stage, task, progress):
                work()
            return True
        except Exception as error:
            if stage is Stage.RENDER and not task.whole:
                self._close(task)
            self._fail(task, error, at)
            return False
        except BaseException as error:
            self._end_with(task, error)
            raise

    def _fail(self, task: Task, error: Exception, at: str) -> None:
        if task.outcome is not None:
            return
        try:
            if task.whole:
                failure = task.opened.fail(error)
            elif task.listeners:
                failure = self.failed(error, at, task.request, task.track_id)
            else:
                # No request failed: the last one had left.
                failure = Failure.of(error, at, task.track_id)
        except Exception:
            logger.exception("a failure of %s could not be counted", task.track_id)
            failure = Failure.of(error, at, task.track_id)
        if isinstance(error, StoreUnavailable) and self.is_over:
            # It was not waited for to the end: another process will find the store again.
            self._conclude_stopped([task])
        else:
            self._board.conclude([task], failure)

    def failed(self, error: Exception, at: str, request: TrackRequest, track_id: str) -> Failure:
        """What `error` means to a request that it stopped at a stage: counted and logged. For what `join` raises."""
        return self._source.failed(error, at, track_id, request.composition.model)

    def _end_with(self, task: Task, error: BaseException) -> None:
        task.ended_by = error
        ended = Stalled("the process that worked on this is ending; send the request again")
        self._board.conclude([task], Failure.of(ended, "generate", task.track_id))

    def _conclude_stopped(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            task.is_stopped = task.outcome is None
            self._board.conclude([task], Failure.of(NotReady(STOPPED), "queue", task.track_id))

    # ---- the watch ---------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Tell listeners that have waited too long: for a slot, or for a call that does not come back.

        A call that hangs costs the task it is for. Where it leaves a kind of work without a thread, it costs all of the
        process's, and `is_stuck` says so until the call comes back after all.
        """
        board = self._board
        if self.is_stuck:
            with board.changed:
                lost = board.inside()
                board.to_close += board.opened()
            self._tell_stalled(lost, _STUCK)
            return
        for call in self._watch.stalled():
            self._tell_stalled([call.subject], f"this track's {call.stage} got stuck and was given up; ask again")
        now_s = self._clock.monotonic_s()
        with board.changed:
            late = [task for task in board.queued if now_s - task.arrived_at_s >= self.policy.max_queue_s]
            forecast_s = max(1.0, board.mean_service_s * (len(board.active) + len(board.queued)) / 2)
        for task in late:
            late_error = Overloaded(f"no slot became free within {self.policy.max_queue_s:g} s", forecast_s)
            self._fail(task, late_error, "queue")

    def _tell_stalled(self, tasks: Sequence[Task], message: str) -> None:
        untold = [task for task in tasks if task.outcome is None]
        for task in untold:
            logger.error("%s of %s stalled", task.track_id, task.model)
            self._fail(task, Stalled(message), "generate")

    @staticmethod
    def _attempts_of(retry: Retry) -> Callable[[], float] | None:
        """Progress of a call that may wait for the store: each attempt counts."""
        return (lambda: float(retry.attempts)) if isinstance(retry, StoreRetry) else None

    def _run_watch(self) -> None:
        while not self._closed.wait(WATCH_PERIOD_S):
            try:
                self.watch()
            except Exception:
                logger.exception("a look for what has stalled broke")


_STUCK: Final = "the process that worked on this got stuck and is being replaced; send the request again"


def _thread_pools(threads: Mapping[Stage, int]) -> dict[Stage, Threads]:
    return {
        stage: ThreadPoolExecutor(count, thread_name_prefix=stage.value)
        for stage, count in threads.items()
        if stage is not Stage.RENDER and count
    }
