"""One track that an executor makes, and the requests that wait for it."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from orchestrion.audio.mastering import FinishSpec
from orchestrion.audio.pcm import Pcm
from orchestrion.rendering.admission import InLine, Priority, is_long
from orchestrion.rendering.renderer import Preparation
from orchestrion.rendering.scheduling import TaskState
from orchestrion.resilience.store_retry import Retry
from orchestrion.tracks.outcome import Failure, Track
from orchestrion.tracks.request import TrackRequest

logger = logging.getLogger(__name__)

#: A task whose listeners all have this much audio not yet sent rests; its slot stays its own.
MAX_UNSENT_S: Final = 30.0


class ActiveRendering(Protocol):
    """`orchestrion.rendering.renderer.Rendering`, as far as an executor and its listeners use it."""

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
    @property
    def device_seconds(self) -> float: ...  # noqa: D102

    def work(self) -> bool: ...  # noqa: D102
    def advance(self) -> Pcm | None: ...  # noqa: D102
    def checkpoint(self) -> bytes | None: ...  # noqa: D102
    def master(self) -> None: ...  # noqa: D102
    def publish(self, retrying: Retry, /) -> Track | Failure: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
    def fail(self, error: Exception, /) -> Failure: ...  # noqa: D102


@dataclass(eq=False, slots=True)
class Task:
    """One track being made, and its listeners. Changed only under the executor's lock."""

    track_id: str
    request: TrackRequest
    arrived_at_s: float
    #: Whether advancing it advances every open task of its model.
    shares_steps: bool = False
    #: Whether it may be opened: it is prepared, or needs no preparing.
    ready: bool = False
    preparation: Preparation | None = None
    #: What an earlier process kept of it.
    resume: bytes | None = None
    rendering: ActiveRendering | None = None
    #: Raw chunks so far, for streams that join late; the rendering keeps the same arrays for mastering. Empty once the
    #: outcome is there: no stream joins any more.
    chunks: list[Pcm] = field(default_factory=list)
    made_s: float = 0.0
    first_chunk_at_s: float | None = None
    device_s: float = 0.0
    silent: bool = False
    #: Whether every chunk has been made.
    whole: bool = False
    outcome: Track | Failure | None = None
    #: Whether the executor was stopped before the track was made; `outcome` then says when to come back.
    is_stopped: bool = False
    #: What ended its thread, and is to end the process: KeyboardInterrupt, SystemExit.
    ended_by: BaseException | None = None
    closed: bool = False
    #: When its model began with it, and when its outcome was there; None for what never came so far.
    began_at: datetime | None = None
    ended_at: datetime | None = None
    #: Whether a part of it is among the checkpoints, and when it was last looked for one.
    is_kept: bool = False
    kept_at_s: float = 0.0
    #: Whether what was made of it before the executor was stopped is among the checkpoints.
    is_kept_for_others: bool = False
    listeners: list[Listener] = field(default_factory=list)
    _known_device_seconds: float = 0.0

    @property
    def duration_s(self) -> float:
        """How long the track is to be."""
        return self.request.composition.duration_s

    @property
    def model(self) -> str:
        """The name of its model."""
        return self.request.composition.model

    @property
    def is_long(self) -> bool:
        """Whether it holds its slot for minutes."""
        return is_long(self.duration_s)

    @property
    def opened(self) -> ActiveRendering:
        """The rendering of a task that has chunks."""
        if self.rendering is None:
            raise RuntimeError(f"{self.track_id} has not been opened yet")
        return self.rendering

    @property
    def interactive(self) -> bool:
        """Whether any of its listeners is a person who waits."""
        return any(listener.priority is Priority.INTERACTIVE for listener in self.listeners)

    @property
    def device_seconds(self) -> float:
        """Seconds of the device so far; what was known last where the model cannot say. Any thread may ask."""
        if self.rendering is not None:
            try:
                seconds = self.rendering.device_seconds
            except Exception:
                logger.exception("%s: its model does not say what it has held of the device", self.track_id)
            else:
                if math.isfinite(seconds) and seconds >= 0.0:
                    self._known_device_seconds = seconds
        return self._known_device_seconds

    def in_line(self, now_s: float) -> InLine:
        """What the choice of who gets a free slot sees of it."""
        return InLine(self.interactive, self.request.requester, now_s - self.arrived_at_s)

    def state(self) -> TaskState:
        """What the choice of the next step sees of it."""
        streams = [listener for listener in self.listeners if listener.streaming]
        unsent_s = self.made_s - max((listener.sent_s for listener in streams), default=0.0)
        all_stream = len(streams) == len(self.listeners)
        paused = all_stream and unsent_s > MAX_UNSENT_S
        return TaskState(self.made_s, self.first_chunk_at_s, bool(streams), paused, self.silent)


@dataclass(eq=False, slots=True)
class Listener:
    """One request's part in a task. `wake` is called, from any thread, when the task has news for it."""

    task: Task
    wake: Callable[[], None]
    streaming: bool
    priority: Priority
    #: Whether the task was begun for it; others found it under way.
    is_first: bool = True
    #: Called, from any thread, when the task's model begins.
    on_start: Callable[[], None] | None = None
    sent_s: float = 0.0
    #: Of a stream: chunks that it has not taken yet.
    untaken: deque[Pcm] = field(default_factory=deque)


def tell(listeners: list[Listener]) -> None:
    """Tell each that there is news."""
    for listener in listeners:
        _call(listener, listener.wake)


def tell_begun(listeners: list[Listener]) -> None:
    """Tell those who want to know it that the model has begun."""
    for listener in list(listeners):
        if listener.on_start is not None:
            _call(listener, listener.on_start)


def _call(listener: Listener, told: Callable[[], None]) -> None:
    try:
        told()
    except Exception:
        # Its event loop is closed, for example. The others have news all the same.
        logger.exception("a listener of %s could not be told", listener.task.track_id)
