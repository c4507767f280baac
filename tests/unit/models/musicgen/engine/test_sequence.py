"""The delay pattern and the windows, against the pattern written out and against what a caller can count on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.models.musicgen.engine.sequence import Sequence, Window, plan_windows, stride_of
from tests.musicgen_checkpoints import TINY, TINY_STEREO

NO_PROMPT = np.zeros((4, 0), np.int64)


def numbered(codebooks: int, frames: int) -> np.ndarray:
    """Codes that say where they belong: 100 · codebook + frame."""
    return 100 * np.arange(codebooks)[:, None] + np.arange(frames)


def run(sequence: Sequence, codes: np.ndarray, chunk: int = 1) -> list[np.ndarray]:
    """Feed and draw to the end, drawing what `codes` says; every column that was fed, in order, per window."""
    fed = []
    while not sequence.is_done:
        while (pending := sequence.pending(0)) > 0:
            count = min(chunk, pending)
            fed += list(sequence.rows(count, 0)[1])
            sequence.fed(count)
        delays = np.asarray(TINY.delays)
        frames = np.clip(sequence.next_column() - 1 - delays, 0, codes.shape[1] - 1)
        sequence.accept(codes[np.arange(4), frames])
    return fed


def test_columns_lag_by_codebook_as_in_the_paper():
    sequence = Sequence(TINY, 3, NO_PROMPT, plan_windows(3, 0, 1500, 900))

    fed = run(sequence, numbered(4, 3))

    x = TINY.special_token
    assert np.array_equal(
        fed,
        [[x, x, x, x], [0, x, x, x], [1, 100, x, x], [2, 101, 200, x], [x, 102, 201, 300], [x, x, 202, 301]],
    )
    assert np.array_equal(sequence.codes, numbered(4, 3))


def test_stereo_codebooks_lag_in_pairs():
    sequence = Sequence(TINY_STEREO, 1, np.zeros((8, 0), np.int64), plan_windows(1, 0, 1500, 900))
    ready = []
    for column in range(1, 5):
        sequence.accept(np.full(8, column))
        ready.append(sequence.ready_frames)

    assert sequence.codes[:, 0].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert ready == [0, 0, 0, 1]


def test_a_prompt_is_fed_but_never_overwritten():
    codes = numbered(4, 10)
    sequence = Sequence(TINY, 10, codes[:, :4], plan_windows(10, 4, 1500, 900))

    assert sequence.ready_frames == 4
    assert sequence.pending(0) == 5
    run(sequence, np.where(np.arange(10) < 4, 9999, codes), chunk=3)

    assert np.array_equal(sequence.codes, codes)


@pytest.mark.parametrize(
    "total, prompt, expected",
    [
        (1000, 0, [Window(0, 0, 1000)]),
        (1500, 0, [Window(0, 0, 1500)]),
        (2000, 0, [Window(0, 0, 1500), Window(900, 600, 1100)]),
        (3000, 250, [Window(0, 250, 1500), Window(900, 600, 1500), Window(1800, 600, 1200)]),
        (2000, 1500, [Window(900, 600, 1100)]),
        (4000, 3100, [Window(2500, 600, 1500)]),
    ],
)
def test_windows_keep_twelve_of_thirty_seconds(total, prompt, expected):
    assert plan_windows(total, prompt, 1500, 900) == tuple(expected)


@given(
    total=st.integers(1, 60),
    prompt=st.integers(0, 59),
    window=st.integers(5, 30),
    stride=st.integers(1, 29),
    chunk=st.integers(1, 9),
)
def test_every_code_comes_out_where_it_was_drawn_for(total, prompt, window, stride, chunk):
    prompt, stride = min(prompt, total - 1), min(stride, window - 1)
    codes = numbered(4, total)
    sequence = Sequence(TINY, total, codes[:, :prompt], plan_windows(total, prompt, window, stride))
    columns = []
    while not sequence.is_done:
        columns.append(sequence.next_column())
        pending = sequence.pending(7)
        positions, _ = sequence.rows(pending, 7)
        assert positions[-1] < 7 + window + 4
        sequence.fed(pending)
        frames = np.clip(columns[-1] - 1 - np.asarray(TINY.delays), 0, total - 1)
        ready, to_go = sequence.ready_frames, sequence.columns_to_go
        sequence.accept(codes[np.arange(4), frames])
        assert sequence.ready_frames >= ready
        assert sequence.columns_to_go == to_go - 1
        # What is ready is final.
        assert np.array_equal(sequence.codes[:, : sequence.ready_frames], codes[:, : sequence.ready_frames])

    assert np.array_equal(sequence.codes, codes)
    assert sequence.ready_frames == total


@given(
    total=st.integers(1, 60),
    prompt=st.integers(0, 59),
    window=st.integers(5, 30),
    stride=st.integers(1, 29),
    known=st.integers(0, 60),
)
def test_a_piece_that_goes_on_elsewhere_draws_what_was_left_to_draw(total, prompt, window, stride, known):
    prompt, stride = min(prompt, total - 1), min(stride, window - 1)
    known = min(max(known, prompt), total)
    codes, windows = numbered(4, total), plan_windows(total, prompt, window, stride)

    def columns_drawn(frames_known: int) -> list[tuple[Window, int, int]]:
        sequence = Sequence(TINY, total, codes[:, :frames_known], windows)
        drawn, to_go = [], sequence.columns_to_go
        while not sequence.is_done:
            drawn.append((sequence.window, sequence.next_column(), sequence.ready_frames))
            frames = np.clip(sequence.next_column() - 1 - np.asarray(TINY.delays), 0, total - 1)
            sequence.accept(codes[np.arange(4), frames])
        assert np.array_equal(sequence.codes, codes)
        assert len(drawn) == to_go
        return drawn

    whole, rest = columns_drawn(prompt), columns_drawn(known)

    places = [place for *place, _ in whole]
    assert [place for *place, _ in rest] == places[len(whole) - len(rest) :]
    # Of the frames that were not complete, codes are drawn again; nothing else is.
    left = [place for *place, ready in whole if ready >= known]
    assert len(left) <= len(rest) <= len(left) + TINY.max_delay


def test_a_piece_thrown_out_of_its_slot_feeds_the_same_columns_again():
    codes = numbered(4, 8)
    sequence = Sequence(TINY, 8, NO_PROMPT, plan_windows(8, 0, 1500, 900))
    before = []
    for column in range(5):
        before += list(sequence.rows(1, 0)[1])
        sequence.fed(1)
        sequence.accept(codes[np.arange(4), np.clip(column - np.asarray(TINY.delays), 0, 7)])
    sequence.restart()

    positions, tokens = sequence.rows(sequence.pending(0), 0)

    assert positions.tolist() == [0, 1, 2, 3, 4, 5]
    assert np.array_equal(tokens[:5], before)


@given(
    window=st.integers(1, 1600),
    frames=st.integers(1, 4000),
    prompt=st.integers(0, 4000),
)
def test_windows_of_any_length_make_a_whole_piece(window, frames, prompt):
    prompt = min(prompt, frames - 1)
    known = prompt
    for one in plan_windows(frames, prompt, window, stride_of(window, 900)):
        assert one.frames <= window
        assert one.start_frame + one.prompt_frames == known
        assert one.prompt_frames < one.frames
        known = one.start_frame + one.frames
    assert known == frames


def test_the_published_windows_move_on_by_18_s_and_short_ones_by_three_fifths():
    assert [stride_of(frames, 900) for frames in (1500, 1000, 901)] == [900, 900, 900]
    assert [stride_of(frames, 900) for frames in (900, 500, 256, 1)] == [540, 300, 153, 1]
