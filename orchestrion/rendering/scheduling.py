"""Which of the open tracks is worked for next: a pure function over what is known of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: A stream with less audio than this made ahead comes before requests that only wait for the end of a track.
SAFE_AHEAD_S: Final = 2.0
#: A waiting synchronous task gets at least one step in this many, however many streams run dry.
SYNC_SHARE: Final = 4


@dataclass(frozen=True, slots=True)
class TaskState:
    """What the choice of the next task depends on. Tasks are listed in order of arrival."""

    #: Seconds of audio made.
    made_s: float
    #: When its first chunk was ready; None before that.
    first_chunk_at_s: float | None
    #: Whether it is sent while it is made.
    streamed: bool
    #: Whether it rests because its listeners are slow.
    paused: bool
    #: Whether it had a turn that gave no audio: its model is heard when the whole piece is done.
    silent: bool = False


def choose_next(tasks: Sequence[TaskState], now_s: float, steps_since_sync: int) -> int | None:
    """Index of the task to advance by one chunk; None when all of them rest.

    In this order: a synchronous task that `SYNC_SHARE` steps have passed by; the oldest task without a chunk; the
    stream that would run dry first, if it has less than `SAFE_AHEAD_S` ahead; the oldest synchronous task; the stream
    with the least ahead. A stream of a model that gives no audio before the end counts as synchronous.

    Args:
        tasks: in order of arrival.
        now_s: the same clock as `first_chunk_at_s`.
        steps_since_sync: steps since a synchronous task was last advanced.
    """
    sync = [i for i, task in enumerate(tasks) if not task.streamed or task.silent]
    if sync and steps_since_sync >= SYNC_SHARE - 1:
        return sync[0]
    for i, task in enumerate(tasks):
        if task.first_chunk_at_s is None and not task.silent:
            return i
    in_hand_s = {
        i: task.made_s - (now_s - task.first_chunk_at_s)
        for i, task in enumerate(tasks)
        if task.streamed and not task.paused and task.first_chunk_at_s is not None
    }
    driest = min(in_hand_s, key=in_hand_s.__getitem__, default=None)
    if driest is not None and (in_hand_s[driest] < SAFE_AHEAD_S or not sync):
        return driest
    return sync[0] if sync else driest
