"""Queue, slots and what is being finished: the state that all threads of an executor share, under one lock."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from orchestrion.audio.pcm import Pcm
from orchestrion.clock import Clock
from orchestrion.errors import NotReady, Overloaded
from orchestrion.rendering.admission import Priority, QueueState, line_up, retry_after_s
from orchestrion.rendering.policy import MAX_COMPLETING, Policy
from orchestrion.rendering.scheduling import choose_next
from orchestrion.rendering.stall import Stage
from orchestrion.rendering.task import Listener, Task, tell
from orchestrion.tracks.outcome import Failure, Track

#: Audio that a stream masters and sends at a time: a slow or late listener gets what has been made in even parts.
MAX_TAKEN_S: Final = 1.0
#: Requests that may wait for the same track: each keeps what it has not sent yet.
MAX_LISTENERS: Final = 64
#: Weight of the newest task in the mean service time.
SERVICE_WEIGHT: Final = 0.2

STOPPED: Final = "the process that was to make this is being stopped; send the request again"


class TaskBoard:
    """Queue, slots, and what is finished after them. Safe to share between threads; `changed` is the lock."""

    def __init__(self, policy: Policy, clock: Clock, on_queue_change: Callable[[int], None]) -> None:
        self.policy = policy
        self._clock = clock
        self._on_queue_change = on_queue_change
        self.changed = threading.Condition()
        self.queued: list[Task] = []
        self.active: list[Task] = []
        self.completing: list[Task] = []
        self._preparing: list[Task] = []
        #: Over, and still to be closed by the render thread.
        self.to_close: list[Task] = []
        self._tasks: dict[str, Task] = {}
        self._steps_since_sync = 0
        self.mean_service_s = 0.0
        #: Whether nothing new is begun.
        self.is_stopped = False
        #: Counts what the render thread may have to react to, so that it never sleeps over something.
        self.news = 0

    def note_news(self) -> None:
        """Wake the render thread if it waits."""
        with self.changed:
            self.news += 1
            self.changed.notify_all()

    def wait_for_news(self, seen: int, timeout_s: float | None) -> None:
        """Wait until there is news since `news` was `seen`."""
        with self.changed:
            self.changed.wait_for(lambda: self.news != seen, timeout_s)

    def inside(self) -> list[Task]:
        """All tasks that are not over."""
        with self.changed:
            return [*self.queued, *self.active, *self.completing]

    def state(self) -> QueueState:
        """The load."""
        with self.changed:
            return QueueState(
                active=len(self.active),
                slots=self.policy.slots,
                queued=len(self.queued),
                queue_limit=self.policy.queue_limit,
                completing=len(self.completing),
                mean_service_s=self.mean_service_s,
            )

    # ---- listeners ---------------------------------------------------------------------------------------------

    def join(self, task: Task, wake: Callable[[], None], streaming: bool, priority: Priority) -> Listener:
        """Wait for the task of the same track that is there, or for this one, which is put in the queue.

        Raises:
            Overloaded: the queue is full, or too many wait for this track.
            NotReady: nothing new is begun.
        """
        with self.changed:
            if self.is_stopped:
                raise NotReady(STOPPED)
            known = self._tasks.get(task.track_id)
            if known is None:
                self._refuse_if_full(task)
                self._tasks[task.track_id] = known = task
                self.queued.append(task)
                self._on_queue_change(len(self.queued))
            elif len(known.listeners) >= MAX_LISTENERS:
                raise Overloaded(f"{MAX_LISTENERS} requests wait for this track; come back later", known.duration_s)
            untaken = deque(known.chunks) if streaming else deque()
            listener = Listener(known, wake, streaming, priority, is_first=known is task, untaken=untaken)
            known.listeners.append(listener)
            self.note_news()
        return listener

    def _refuse_if_full(self, task: Task) -> None:
        state = self.state()
        wait_s = retry_after_s(state)
        if wait_s is not None:
            made = state.active + state.completing
            raise Overloaded(
                f"{made} tracks are being made and {state.queued} wait; come back in {wait_s:.0f} s", wait_s
            )
        if task.is_long and sum(other.is_long for other in self.inside()) >= self.policy.long_limit:
            raise Overloaded(f"{self.policy.long_limit} long tracks are being made here already", task.duration_s)

    def leave(self, listener: Listener) -> None:
        """Stop waiting. A task without listeners is given up, unless its audio is already whole."""
        with self.changed:
            task = listener.task
            task.listeners.remove(listener)
            listener.untaken.clear()
            if not task.listeners and task in self.queued:
                self._take_out(task)
            self.note_news()

    def take(self, listener: Listener) -> list[Pcm]:
        """The next chunks of a stream that it has not taken yet: one, or what is not longer than `MAX_TAKEN_S`."""
        with self.changed:
            if not listener.untaken:
                return []
            chunks = [listener.untaken.popleft()]
            room = MAX_TAKEN_S * listener.task.opened.source_rate_hz - len(chunks[0])
            while listener.untaken and len(listener.untaken[0]) <= room:
                chunks.append(listener.untaken.popleft())
                room -= len(chunks[-1])
            return chunks

    def sent(self, listener: Listener, audio_s: float) -> None:
        """Note that a stream has sent `audio_s` more seconds."""
        with self.changed:
            rested = listener.task.state().paused
            listener.sent_s += audio_s
            if rested:
                self.note_news()

    # ---- before the slot ---------------------------------------------------------------------------------------

    def next_to_prepare(self) -> list[Task]:
        """The next tasks of the queue that are not prepared, as many as there are threads for it; they are taken."""
        with self.changed:
            free = self.policy.threads[Stage.PREPARE] - len(self._preparing)
            front = self._in_line(self.queued, self.policy.slots - len(self.active) + self.policy.prepared_ahead)
            chosen = [task for task in front if not task.ready and task not in self._preparing][: max(0, free)]
            self._preparing += chosen
            return chosen

    def prepared(self, task: Task) -> None:
        """A task that was taken by `next_to_prepare` may have a slot, unless it is over."""
        with self.changed:
            self._preparing.remove(task)
            task.ready = task.outcome is None and bool(task.listeners)
            if not task.ready:
                task.preparation = task.resume = None
            self.note_news()

    def _in_line(self, queued: Sequence[Task], places: int) -> list[Task]:
        """The first of these tasks, in the order in which they would get free slots."""
        if not self.policy.is_fair:
            return list(queued[: max(0, places)])
        now_s, served = self._clock.monotonic_s(), [task.request.requester for task in self.active]
        return [queued[i] for i in line_up([task.in_line(now_s) for task in queued], served, places)]

    def begin(self) -> list[Task]:
        """Give the free slots to those whose turn it is."""
        with self.changed:
            if self.is_stopped or len(self.completing) >= MAX_COMPLETING:
                return []
            begun: list[Task] = []
            free = self.policy.slots - len(self.active)
            for task in self._in_line([task for task in self.queued if task.ready], free):
                if not self._fits_beside(task, [*self.active, *begun]):
                    break
                begun.append(task)
            for task in begun:
                self.queued.remove(task)
                self.active.append(task)
            if begun:
                self._on_queue_change(len(self.queued))
            return begun

    def _fits_beside(self, task: Task, active: Sequence[Task]) -> bool:
        if self.policy.interleaves or not active:
            return True
        return task.shares_steps and all(other.shares_steps for other in active)

    # ---- in the slot -------------------------------------------------------------------------------------------

    def to_open(self) -> Task | None:
        """A task that should be open before others go on, because it could share their steps."""
        with self.changed:
            return next((task for task in self.active if task.rendering is None and task.shares_steps), None)

    def to_advance(self) -> Task | None:
        """The task whose turn it is."""
        with self.changed:
            states = [task.state() for task in self.active]
            chosen = choose_next(states, self._clock.monotonic_s(), self._steps_since_sync)
            if chosen is None:
                return None
            is_stream = states[chosen].streamed and not states[chosen].silent
            self._steps_since_sync = self._steps_since_sync + 1 if is_stream else 0
            return self.active[chosen]

    def opened(self) -> list[Task]:
        """The tasks that are open."""
        with self.changed:
            return [task for task in self.active if task.rendering is not None]

    def take_abandoned(self) -> list[Task]:
        """Tasks to close: those without listeners, and those that were given up meanwhile."""
        with self.changed:
            abandoned = [task for task in self.active if not task.listeners]
            for task in abandoned:
                self._take_out(task)
            to_close, self.to_close = self.to_close, []
            return abandoned + to_close

    def give_on(self, task: Task, chunk: Pcm | None, now_s: float) -> bool:
        """Hand a chunk to the streams, or note the end; False if the task is over."""
        with self.changed:
            if task.outcome is not None:
                return False
            if chunk is None:
                self._end(task)
            elif not len(chunk):
                task.silent = True
            else:
                task.silent = False
                task.chunks.append(chunk)
                task.made_s += len(chunk) / task.opened.source_rate_hz
                if task.first_chunk_at_s is None:
                    task.first_chunk_at_s = now_s
            streams = [listener for listener in task.listeners if listener.streaming]
            if chunk is not None and len(chunk):
                for listener in streams:
                    listener.untaken.append(chunk)
        tell(streams)
        return True

    def _end(self, task: Task) -> None:
        task.whole = True
        self.active.remove(task)
        self.completing.append(task)
        weight = SERVICE_WEIGHT if self.mean_service_s else 1.0
        self.mean_service_s += weight * (task.device_s - self.mean_service_s)

    # ---- the end of a task -------------------------------------------------------------------------------------

    def conclude(self, tasks: Iterable[Task], outcome: Track | Failure) -> None:
        """Tell the listeners of these tasks what became of them; one that is over already stays as it is."""
        with self.changed:
            over = [task for task in tasks if task.outcome is None]
            for task in over:
                task.ended_at = self._clock.now()
                task.outcome = outcome
                self._take_out(task)
                task.chunks.clear()
            listeners = [listener for task in over for listener in task.listeners]
            self.note_news()
        tell(listeners)

    def _take_out(self, task: Task) -> None:
        """No request joins it any more, and it has no place in queue or slots."""
        if self._tasks.get(task.track_id) is task:
            del self._tasks[task.track_id]
        if task in self.queued:
            self.queued.remove(task)
            self._on_queue_change(len(self.queued))
        for place in (self.active, self.completing):
            if task in place:
                place.remove(task)
