"""What differs between executors, and what an executor needs of a renderer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from orchestrion.rendering.renderer import Preparation
from orchestrion.rendering.stall import Stage
from orchestrion.rendering.task import ActiveRendering
from orchestrion.tracks.outcome import Failure, Track
from orchestrion.tracks.request import TrackRequest

#: Tasks that may be in mastering and storing before no new one is begun: each holds a whole track in memory.
MAX_COMPLETING: Final = 4
#: Threads of each kind of work. One masters, so that a track being finished never takes a core from first chunks; a
#: call to a store that hangs keeps its thread, so each task that may be storing has one.
#: The second that prepares is for the case that the first one hangs.
THREADS: Final[Mapping[Stage, int]] = {Stage.PREPARE: 2, Stage.RENDER: 1, Stage.MASTER: 1, Stage.STORE: MAX_COMPLETING}


class RenderingSource(Protocol):
    """`orchestrion.rendering.renderer.Renderer`, as far as an executor uses it."""

    def find(self, request: TrackRequest, /) -> Track | None:
        """The track if the store has it."""
        ...

    def needs_preparing(self, request: TrackRequest, /) -> bool:
        """Whether opening this track takes long where it is not prepared."""
        ...

    def prepare(self, request: TrackRequest, /) -> Preparation:
        """Do what takes long of opening a track. Any thread may, also while another one renders."""
        ...

    def open(
        self, request: TrackRequest, /, *, interactive: bool, resume: bytes | None, preparation: Preparation | None
    ) -> ActiveRendering:
        """Begin a track."""
        ...

    def shares_steps(self, request: TrackRequest, /) -> bool:
        """Whether advancing one track of this model advances every open one of it."""
        ...

    def failed(self, error: Exception, stage: str, track_id: str | None, model: str, /) -> Failure:
        """What `error`, whatever it is, means to the track's listeners; counted and logged."""
        ...


@dataclass(frozen=True, slots=True)
class Policy:
    """What differs between the executors of a pool, of a catalog's worker and of others."""

    #: Tracks in progress at the same time.
    slots: int
    #: Tasks that may wait for a slot, while every slot is taken.
    queue_limit: float = math.inf
    #: Tasks of long tracks that may be inside, in slots or not.
    long_limit: float = math.inf
    #: A task that has waited for a slot for so long is refused.
    max_queue_s: float = math.inf
    #: A task whose call has not moved on for so long is given up.
    stall_s: float = math.inf
    #: Whether the store is asked here, before a task is prepared; if not, the caller has asked.
    looks_up: bool = False
    #: Whether models whose tracks share no steps make several at once, in turns, or one after the other.
    interleaves: bool = True
    #: Whether free slots are shared out between requesters; if not, tasks are begun in order of arrival.
    is_fair: bool = True
    #: Tasks beyond the free slots that are prepared early: a slot that becomes free has its next task waiting.
    prepared_ahead: int = 2
    #: Threads of each kind of work. Without one for mastering the render thread does it.
    threads: Mapping[Stage, int] = field(default_factory=lambda: THREADS)


#: Of a catalog's worker: pieces beyond the slots of a model with shared steps that are open early, waiting inside it.
OPEN_AHEAD: Final = 1
#: Threads of a catalog's worker that store what is mastered: they wait for the store, and for little else.
CATALOG_UPLOADS: Final = 2
#: A catalog's worker that makes no progress for so long is replaced. Long, for a model on a CPU may make a whole piece
#: in one call.
CATALOG_STALL_S: Final = 1800.0


def catalog_policy(slots: int, mastering_threads: int) -> Policy:
    """How a catalog's worker makes tracks: nothing streams, so pieces come one after the other, as fast as they can.

    Args:
        slots: pieces that a model with shared steps makes at once.
        mastering_threads: that master and encode beside the model. 0: the render thread does it, where both have one
            core between them. Two threads on one core take more of it than one, handing each other the interpreter.
    """
    return Policy(
        slots=slots + OPEN_AHEAD,
        stall_s=CATALOG_STALL_S,
        looks_up=True,
        interleaves=False,
        is_fair=False,
        threads={
            Stage.PREPARE: THREADS[Stage.PREPARE],
            Stage.RENDER: 1,
            Stage.MASTER: mastering_threads,
            Stage.STORE: CATALOG_UPLOADS,
        },
    )
