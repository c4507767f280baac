"""Where a request goes and when it is refused: pure functions over what is known of the queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: Longer tracks go to the batch pool even when somebody waits: one would hold a low-latency slot for minutes.
MAX_INTERACTIVE_DURATION_S: Final = 180.0
#: Whoever has waited this long comes next, whoever they are: nothing starves.
PATIENCE_S: Final = 60.0


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
    """One replica's load. `mean_service_s` is the recent mean of device time per request, 0 before the first."""

    active: int
    slots: int
    queued: int
    queue_limit: int
    mean_service_s: float


@dataclass(frozen=True, slots=True)
class InLine:
    """One request that waits for a slot."""

    interactive: bool
    requester: str
    waited_s: float


def next_in_line(waiting: Sequence[InLine], served: Sequence[str]) -> int:
    """Index of the request that gets the free slot.

    Those past their patience come first, in order; then people before batch work; then the requester who holds the
    fewest slots, so that nobody's hundred requests stand before another's one; then the order of arrival.

    Args:
        waiting: in order of arrival, at least one.
        served: requesters of the slots in use, one entry for each slot.
    """

    def rank(index: int) -> tuple[bool, bool, int, int]:
        request = waiting[index]
        if request.waited_s >= PATIENCE_S:
            return False, False, 0, index
        return True, not request.interactive, served.count(request.requester), index

    return min(range(len(waiting)), key=rank)


def pool_for(duration_s: float, priority: Priority) -> Pool:
    """The pool that renders a track of this length and urgency."""
    if priority is Priority.BATCH or duration_s > MAX_INTERACTIVE_DURATION_S:
        return Pool.BATCH
    return Pool.LOW_LATENCY


def retry_after_s(queue: QueueState) -> float | None:
    """None when the request may wait here; otherwise the seconds after which a place should be free.

    A full queue drains one request per `mean_service_s` of device time, so a place is free after one of them; the
    forecast is what the whole line needs to halve, so that refused clients do not all return into a full queue.
    """
    if queue.active < queue.slots or queue.queued < queue.queue_limit:
        return None
    return max(1.0, queue.mean_service_s * (queue.active + queue.queued) / 2)
