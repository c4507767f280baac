"""What one step does and who comes in: decisions over plain values, without a model, a clock or memory of their own.

Policy in one paragraph: decoding slots step every time, so no stream stalls; what is left of a step's rows goes to
prefill, interactive pieces before batch work, and beside decoding slots only in portions, so that one long prompt does
not stop the others. When the device has no room, prefill shrinks first; then the batch piece with most to go leaves its
slot and is fed again later. That costs time and never changes a note, because a piece's codes depend on nothing but
that piece.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

#: Rows of prefill in one step while others decode: about what doubles such a step on a CPU, less on a GPU.
PREFILL_ROWS_BESIDE_DECODING: Final = 32
#: Text states whose keys and values are computed in one step, once the first piece has its own: the longest prompt's,
#: about the work of as many rows of prefill on a CPU.
TEXT_STATES_BESIDE_DECODING: Final = 256
#: Steps without trouble after which a share of the capacity that was given up is tried again.
RECOVERY_STEPS: Final = 50
#: Times that the smallest possible step is tried before its piece fails: the memory may be taken for a moment only.
LAST_TRIES: Final = 3
#: A batch slot that was passed over so many steps comes before people's next one.
PATIENCE_STEPS: Final = 8


@dataclass(frozen=True, slots=True)
class SlotState:
    """What the plan of a step depends on. Slots are listed in order of arrival."""

    #: Columns known but not yet fed: 1 while decoding, more before that; 0 for one that rests.
    pending: int
    #: Whether a person waits for this piece.
    interactive: bool
    #: Steps since it last had a row.
    passed_over: int
    #: Columns that are still to be drawn.
    to_go: int = 0


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the device is trusted with at present."""

    #: Pieces in slots.
    slots: int
    #: Rows of one step.
    rows: int
    #: Steps since it last shrank.
    steady_steps: int = 0
    #: Shortages one after the other with nothing left to give up.
    tries: int = 0


def plan_step(slots: Sequence[SlotState], rows: int) -> list[int]:
    """Columns that each slot feeds in this step; 0 for those that wait.

    Args:
        slots: in order of arrival.
        rows: at most so many columns together.
    """
    plan = [0] * len(slots)

    def urgency(index: int) -> tuple[bool, bool, int]:
        slot = slots[index]
        return slot.passed_over < PATIENCE_STEPS, not slot.interactive, index

    in_order = sorted(range(len(slots)), key=urgency)
    for index in in_order:
        if slots[index].pending == 1 and rows:
            plan[index] = 1
            rows -= 1
    if any(plan):
        rows = min(rows, PREFILL_ROWS_BESIDE_DECODING)
    for index in in_order:
        if slots[index].pending > 1:
            plan[index] = min(slots[index].pending, rows)
            rows -= plan[index]
    return plan


@dataclass(frozen=True, slots=True)
class DuePiece:
    """What the codec's next batch depends on."""

    #: Frames that the codec would be given.
    frames: int
    #: Batches since the codec last had it; None for a piece that it never had.
    passed_over: int | None
    #: Whether it broke a batch and is to be tried alone.
    suspect: bool


def plan_codec(due: Sequence[DuePiece], *, most_pieces: int, most_frames: int, newcomers_turn: bool) -> list[int]:
    """Indices of the pieces of the codec's next batch, at least one of those that are due.

    Newcomers come first and share their batch with no other piece, because a person waits for their first sound; the
    others come in the order in which they last had the codec. A suspect comes alone, before all.

    Args:
        due: in order of arrival; not empty.
        most_pieces: at most so many together.
        most_frames: at most so many frames together, or one piece.
        newcomers_turn: false to let those wait who were never heard, if there are others: their turn was the last one.
    """
    suspect = next((index for index, piece in enumerate(due) if piece.suspect), None)
    if suspect is not None:
        return [suspect]
    new = [index for index, piece in enumerate(due) if piece.passed_over is None]
    heard = sorted(
        (index for index, piece in enumerate(due) if piece.passed_over is not None),
        key=lambda index: -(due[index].passed_over or 0),
    )
    batch: list[int] = []
    frames = 0
    for index in new if new and (newcomers_turn or not heard) else heard:
        frames += due[index].frames
        if len(batch) == most_pieces or (batch and frames > most_frames):
            break
        batch.append(index)
    return batch


def share_of_chunk(pieces: int, chunk_frames: int, *, least_frames: int) -> int:
    """Frames of one piece's chunk while the codec has so many pieces.

    Together they are as long as the chunk of a piece alone, so that a listener gets less at a time and not more seldom.

    Args:
        pieces: in slots, or with audio still to be made.
        chunk_frames: of a piece that is alone.
        least_frames: below that a chunk is not worth its packet.
    """
    return min(chunk_frames, max(least_frames, chunk_frames // max(1, pieces)))


def after_shortage(capacity: Capacity, occupied: int, planned_rows: int) -> Capacity | None:
    """The capacity to go on with when a step found no memory; None when there is nothing left to give up.

    Args:
        capacity: as it was.
        occupied: pieces in slots; at least one.
        planned_rows: rows of the step that failed.
    """
    if planned_rows > occupied:
        return Capacity(capacity.slots, rows=max(occupied, planned_rows // 2))
    if occupied > 1:
        return Capacity(slots=occupied - 1, rows=occupied - 1)
    if capacity.tries + 1 < LAST_TRIES:
        return Capacity(slots=1, rows=1, tries=capacity.tries + 1)
    return None


def after_success(capacity: Capacity, full: Capacity) -> Capacity:
    """The capacity after a step that went well: now and then a little nearer to `full`."""
    if (capacity.slots, capacity.rows) == (full.slots, full.rows):
        return capacity
    if capacity.steady_steps + 1 < RECOVERY_STEPS:
        return replace(capacity, steady_steps=capacity.steady_steps + 1, tries=0)
    return Capacity(slots=min(full.slots, capacity.slots + 1), rows=min(full.rows, 2 * capacity.rows))


def choose_victim(slots: Sequence[SlotState]) -> int:
    """Who leaves its slot when there are too many: of the batch pieces, if there are any, the one with most to go.

    The pieces that stay are done soonest, and then there is room again.
    """
    return max(range(len(slots)), key=lambda index: (not slots[index].interactive, slots[index].to_go, index))


def slots_that_fit(wanted: int, budget_bytes: int, bytes_for: Callable[[int], int]) -> int:
    """The most slots, up to `wanted`, whose predicted memory is within the budget; 0 when not even one is.

    Args:
        wanted: slots that are asked for.
        budget_bytes: memory that the model may have, weights included.
        bytes_for: predicted bytes of weights, cache, codec and scratch for a number of slots.
    """
    return next((slots for slots in range(wanted, 0, -1) if bytes_for(slots) <= budget_bytes), 0)
