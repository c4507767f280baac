"""The engine's decisions, without an engine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.models.musicgen.engine.scheduler import (
    LAST_TRIES,
    PATIENCE_STEPS,
    PREFILL_ROWS_BESIDE_DECODING,
    RECOVERY_STEPS,
    Capacity,
    DuePiece,
    SlotState,
    after_shortage,
    after_success,
    choose_victim,
    plan_codec,
    plan_step,
    share_of_chunk,
    slots_that_fit,
)

SLOTS = st.lists(
    st.builds(SlotState, pending=st.integers(0, 700), interactive=st.booleans(), passed_over=st.integers(0, 20)),
    max_size=12,
)


def decoding(interactive=True, passed_over=0):
    return SlotState(1, interactive, passed_over)


def prefilling(pending, interactive=True, passed_over=0):
    return SlotState(pending, interactive, passed_over)


@given(slots=SLOTS, rows=st.integers(1, 256))
def test_a_plan_never_exceeds_its_rows_or_what_is_pending_and_never_idles(slots, rows):
    plan = plan_step(slots, rows)

    assert sum(plan) <= rows
    assert all(0 <= count <= slot.pending for count, slot in zip(plan, slots, strict=True))
    assert any(plan) == any(slot.pending for slot in slots)


@given(slots=SLOTS, rows=st.integers(12, 256))
def test_every_decoding_slot_steps_when_there_is_a_row_for_each(slots, rows):
    plan = plan_step(slots, rows)

    assert all(count == 1 for count, slot in zip(plan, slots, strict=True) if slot.pending == 1)


def test_a_long_prompt_comes_in_portions_while_others_decode_and_at_once_when_nobody_does():
    assert plan_step([prefilling(600), decoding()], 256) == [PREFILL_ROWS_BESIDE_DECODING, 1]
    assert plan_step([prefilling(600)], 256) == [256]


def test_people_come_before_batch_work():
    assert plan_step([prefilling(40, interactive=False), prefilling(40)], 64) == [24, 40]
    assert plan_step([decoding(interactive=False), decoding()], 1) == [0, 1]


def test_batch_work_is_not_passed_over_for_ever():
    served = [0, 0]
    passed = [0, 0]
    for _ in range(10 * PATIENCE_STEPS):
        plan = plan_step([decoding(False, passed[0]), decoding(True, passed[1])], 1)
        served = [had + count for had, count in zip(served, plan, strict=True)]
        passed = [0 if count else waited + 1 for count, waited in zip(plan, passed, strict=True)]

    assert served[0] >= 10 * PATIENCE_STEPS // (PATIENCE_STEPS + 1) - 1
    assert served[1] > served[0]


def test_a_shortage_takes_prefill_first_then_slots_then_gives_up():
    capacity = Capacity(slots=8, rows=256)

    capacity = after_shortage(capacity, occupied=3, planned_rows=256)
    assert (capacity.slots, capacity.rows) == (8, 128)
    capacity = after_shortage(capacity, occupied=3, planned_rows=4)
    assert (capacity.slots, capacity.rows) == (8, 3)
    capacity = after_shortage(capacity, occupied=3, planned_rows=3)
    assert (capacity.slots, capacity.rows) == (2, 2)
    capacity = after_shortage(capacity, occupied=2, planned_rows=2)
    for _ in range(LAST_TRIES - 1):
        assert (capacity.slots, capacity.rows) == (1, 1)
        capacity = after_shortage(capacity, occupied=1, planned_rows=1)
    assert after_shortage(capacity, occupied=1, planned_rows=1) is None


def test_capacity_comes_back_step_by_step():
    full = Capacity(slots=4, rows=64)
    capacity = Capacity(slots=1, rows=1)
    seen = []
    for _ in range(10 * RECOVERY_STEPS):
        capacity = after_success(capacity, full)
        seen.append((capacity.slots, capacity.rows))

    assert seen[RECOVERY_STEPS - 2] == (1, 1)
    assert seen[RECOVERY_STEPS - 1] == (2, 2)
    assert seen[-1] == (4, 64)


def test_the_batch_piece_with_most_to_go_makes_room():
    def running(to_go, interactive):
        return SlotState(1, interactive, 0, to_go)

    assert choose_victim([running(500, False), running(900, False), running(2000, True)]) == 1
    assert choose_victim([running(900, True), running(500, True)]) == 0
    assert choose_victim([running(500, False), running(500, False)]) == 1


def test_slots_are_what_the_budget_holds():
    def bytes_for(slots):
        return 1000 + 100 * slots

    assert slots_that_fit(8, 1800, bytes_for) == 8
    assert slots_that_fit(8, 1799, bytes_for) == 7
    assert slots_that_fit(8, 1099, bytes_for) == 0


DUE = st.lists(
    st.builds(
        DuePiece,
        frames=st.integers(1, 80),
        passed_over=st.none() | st.integers(1, 9),
        suspect=st.sampled_from([False] * 9 + [True]),
    ),
    min_size=1,
    max_size=70,
)


@given(due=DUE, most_pieces=st.integers(1, 64), most_frames=st.integers(1, 400), turn=st.booleans())
def test_the_codecs_batch_keeps_within_its_bounds_and_never_mixes_newcomers_with_others(
    due, most_pieces, most_frames, turn
):
    batch = plan_codec(due, most_pieces=most_pieces, most_frames=most_frames, newcomers_turn=turn)
    chosen = [due[index] for index in batch]

    assert 1 <= len(batch) == len(set(batch)) <= most_pieces
    assert len(batch) == 1 or sum(piece.frames for piece in chosen) <= most_frames
    assert len({piece.passed_over is None for piece in chosen}) == 1
    assert len(batch) == 1 or not any(piece.suspect for piece in chosen)


@pytest.mark.parametrize(("pieces", "frames"), [(0, 50), (1, 50), (2, 25), (3, 16), (4, 14), (64, 14)])
def test_chunks_of_all_pieces_together_are_as_long_as_one_of_a_piece_alone(pieces, frames):
    assert share_of_chunk(pieces, 50, least_frames=14) == frames


def test_a_share_is_never_longer_than_a_chunk():
    assert share_of_chunk(9, 8, least_frames=14) == 8


def batch_of(*due, newcomers_turn=True):
    return plan_codec(due, most_pieces=64, most_frames=100, newcomers_turn=newcomers_turn)


def test_the_codec_takes_first_chunks_first_and_then_who_waited_longest():
    long, longest, new = DuePiece(50, 2, False), DuePiece(50, 4, False), DuePiece(14, None, False)

    assert batch_of(long, longest, new, new) == [2, 3]
    assert batch_of(long, new, longest, newcomers_turn=False) == [2, 0]
    assert batch_of(new, newcomers_turn=False) == [0]
    assert batch_of(long, DuePiece(20, 1, True), new) == [1]
