"""Where a request goes and when it is refused: pure functions over what is known of the queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: Longer tracks go to the batch pool even when a person waits: one would hold a low-latency slot for minutes.
MAX_INTERACTIVE_DURATION_S: Final = 180.0
#: For so long after an answer the batch pool surely has a replica: `autoscaling.policies.batch` gives none up sooner
#: than 60 s.
BATCH_WARM_S: Final = 45.0
#: A request that has waited this long comes next, whatever its rank: nothing starves.
MAX_WAIT_S: Final = 60.0


class Pool(StrEnum):
    """The two replica pools."""

    LOW_LATENCY = "low-latency"
    BATCH = "batch"


class Priority(StrEnum):
    """How urgent the caller says it is."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class QueueState:
    """One replica's load, in requests for different tracks."""

    #: In slots.
    active: int
    slots: int
    #: Waiting for a slot, prepared or not.
    queued: int
    queue_limit: float
    #: Rendered, and being mastered or stored: each still holds a whole track in memory.
    completing: int
    #: Recent mean of device time per request, 0 before the first.
    mean_service_s: float


@dataclass(frozen=True, slots=True)
class InLine:
    """One request that waits for a slot."""

    interactive: bool
    requester: str
    waited_s: float


def next_in_line(waiting: Sequence[InLine], served: Sequence[str]) -> int:
    """Index of the request that gets the free slot.

    Requests that waited for `MAX_WAIT_S` come first, in order; then interactive ones before batch work; then the
    requester who holds the fewest slots, so that the hundred requests of one do not stand before the one of another;
    then the order of arrival.

    Args:
        waiting: in order of arrival, at least one.
        served: requesters of the slots in use, one entry for each slot.
    """

    def rank(index: int) -> tuple[bool, bool, int, int]:
        request = waiting[index]
        if request.waited_s >= MAX_WAIT_S:
            return False, False, 0, index
        return True, not request.interactive, served.count(request.requester), index

    return min(range(len(waiting)), key=rank)


def line_up(waiting: Sequence[InLine], served: Sequence[str], places: int) -> list[int]:
    """Indices of the requests that get the next `places` free slots, first to last; see `next_in_line`."""
    left = list(range(len(waiting)))
    taken: list[int] = []
    holders = list(served)
    while left and len(taken) < places:
        first = left.pop(next_in_line([waiting[index] for index in left], holders))
        taken.append(first)
        holders.append(waiting[first].requester)
    return taken


def is_long(duration_s: float) -> bool:
    """Whether a track of this length holds its slot for minutes."""
    return duration_s > MAX_INTERACTIVE_DURATION_S


def pools_for(duration_s: float, priority: Priority, *, batch_is_warm: bool) -> tuple[Pool, ...]:
    """The pools to ask for a track of this length and urgency; the second only when the first has no room.

    A long track that a person waits for goes to the batch pool while that has a replica. An empty batch pool takes some
    14 s to start one; the low-latency pool begins such a track at once, where it has a slot to spare for it.
    """
    if priority is Priority.BATCH or (is_long(duration_s) and batch_is_warm):
        return (Pool.BATCH,)
    return (Pool.LOW_LATENCY, Pool.BATCH) if is_long(duration_s) else (Pool.LOW_LATENCY,)


def batch_is_warm(min_replicas: int, since_answer_s: float | None) -> bool:
    """Whether the batch pool has a replica, as far as a caller knows that had its last answer `since_answer_s` ago."""
    return min_replicas > 0 or (since_answer_s is not None and since_answer_s < BATCH_WARM_S)


def long_limit(pool: Pool, slots: int, queue_limit: int) -> int:
    """Long tracks that a replica takes: half of the slots are kept for people who wait for a short one."""
    return slots + queue_limit if pool is Pool.BATCH else slots // 2


def retry_after_s(queue: QueueState) -> float | None:
    """None when the request may wait here; otherwise the seconds after which a place should be free.

    A replica takes as many requests as it has slots and places in the queue, and one leaves when its track is stored:
    what is still being mastered counts, because it still needs the memory, and may be why no slot is free.

    A full queue drains one request per `mean_service_s` of device time, so a place is free after one of them; the
    forecast is what the whole queue needs to halve, so that refused clients do not all return into a full queue.
    """
    inside = queue.active + queue.queued + queue.completing
    if inside < queue.slots + queue.queue_limit:
        return None
    return max(1.0, queue.mean_service_s * inside / 2)
