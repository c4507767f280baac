"""The engine over a decoder that hashes what it is fed: whatever happens around a piece, it sounds as it does alone."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from orchestrion.errors import InvalidRequest, ModelFailed
from orchestrion.models.musicgen.engine.engine import Engine, Pacing, Piece
from orchestrion.models.musicgen.engine.scheduler import RECOVERY_STEPS
from orchestrion.models.musicgen.engine.sequence import Sequence, plan_windows
from tests.musicgen_checkpoints import TINY
from tests.unit.models.musicgen.fakes import HOP, AtOnce, EchoCodec, HistoryDecoder, Later, Ticks, condition

PACING = Pacing(first_chunk_frames=3, chunk_frames=8, max_ahead_frames=1000)


def make_engine(slots=4, max_rows=64, pacing=PACING, codec_thread=None):
    decoder, codec = HistoryDecoder(slots, max_rows), EchoCodec()
    engine = Engine(
        decoder,
        codec,
        codec_streams=2 * slots,
        codec_thread=codec_thread or AtOnce(),
        hop=HOP,
        pacing=pacing,
        clock=Ticks(),
    )
    return engine, decoder, codec


def piece(seed=1, frames=20, prompt_frames=0, interactive=True, prefix_columns=0, window=30, stride=18, known=None):
    prompt = np.random.default_rng(seed).integers(0, TINY.card, (4, prompt_frames))
    windows = plan_windows(frames, prompt_frames, window, stride)
    return Piece(
        sequence=Sequence(TINY, frames, prompt if known is None else known, windows),
        condition=lambda window: condition(seed + window.start_frame / 100, prefix_columns),
        samples=frames * HOP - 1,
        seed=seed,
        temperature=1.0,
        top_k=250,
        top_p=0.0,
        interactive=interactive,
    )


def take_all(engine, one):
    chunks = []
    while (chunk := engine.next_chunk(one)) is not None:
        chunks.append(chunk)
    return np.concatenate(chunks)


def raise_(error):
    raise error


def alone(**wish):
    engine, _, _ = make_engine(slots=1)
    one = piece(**wish)
    engine.submit(one)
    audio = take_all(engine, one)
    engine.close()
    return audio


def assert_nothing_is_held(engine, codec):
    assert engine.active == 0
    assert codec.open_streams == 0
    assert sorted(engine._free_slots) == list(range(engine._decoder.slots))


WISHES = [
    {"seed": 1, "frames": 20},
    {"seed": 2, "frames": 75},
    {"seed": 3, "frames": 40, "prompt_frames": 11},
    {"seed": 4, "frames": 9, "prefix_columns": 13},
    {"seed": 5, "frames": 64, "prompt_frames": 5, "prefix_columns": 40, "interactive": False},
    {"seed": 6, "frames": 1},
    {"seed": 7, "frames": 33, "interactive": False},
]


@pytest.mark.parametrize("slots, max_rows", [(1, 1), (2, 5), (4, 64), (7, 7)])
def test_every_piece_sounds_as_it_does_alone(slots, max_rows):
    engine, _, codec = make_engine(slots, max_rows)
    pieces = [piece(**wish) for wish in WISHES]
    for one in pieces:
        engine.submit(one)

    audio = [take_all(engine, one) for one in pieces]

    for wish, heard in zip(WISHES, audio, strict=True):
        assert len(heard) == wish["frames"] * HOP - 1
        assert np.array_equal(heard, alone(**wish))
    assert_nothing_is_held(engine, codec)
    engine.close()


def test_the_audio_is_that_of_the_codes_and_comes_in_chunks():
    engine, _, codec = make_engine()
    one = piece(frames=40)
    engine.submit(one)
    chunks = []
    while (chunk := engine.next_chunk(one)) is not None:
        chunks.append(chunk)

    assert np.array_equal(np.concatenate(chunks)[::HOP, 0], codec.audio(one.sequence.codes))
    assert len(chunks[0]) == PACING.first_chunk_frames * HOP
    assert max(map(len, chunks)) <= (PACING.chunk_frames + codec.look_ahead_frames) * HOP
    engine.close()


def test_a_newcomer_is_heard_while_a_long_piece_runs():
    engine, decoder, _ = make_engine(slots=2)
    long, short = piece(seed=1, frames=3000, window=3000, stride=1800), piece(seed=2, frames=10)
    decoder.max_positions = 4000
    engine.submit(long)
    engine.next_chunk(long)
    engine.submit(short)
    before = len(decoder.steps)

    take_all(engine, short)

    assert len(decoder.steps) - before <= 20
    engine.close()


def test_pieces_share_steps_instead_of_taking_turns():
    engine, decoder, _ = make_engine(slots=4)
    pieces = [piece(seed=seed, frames=50) for seed in range(4)]
    for one in pieces:
        engine.submit(one)
    for one in pieces:
        take_all(engine, one)

    assert len(decoder.steps) <= 50 + 10
    engine.close()


def test_a_cancelled_piece_frees_its_slot_at_once_and_changes_nobody():
    engine, _, codec = make_engine(slots=2)
    stays, goes, comes = piece(seed=1, frames=30), piece(seed=2, frames=3000), piece(seed=3, frames=12)
    for one in (stays, goes, comes):
        engine.submit(one)
    engine.next_chunk(goes)
    engine.cancel(goes)
    engine.cancel(goes)

    assert np.array_equal(take_all(engine, comes), alone(seed=3, frames=12))
    assert np.array_equal(take_all(engine, stays), alone(seed=1, frames=30))
    assert engine.next_chunk(goes) is not None or goes.is_over
    assert_nothing_is_held(engine, codec)
    engine.close()


def test_people_get_the_next_slot_before_batch_work():
    engine, _, _ = make_engine(slots=1)
    first, batch, person = piece(seed=1, frames=5), piece(seed=2, interactive=False), piece(seed=3)
    for one in (first, batch, person):
        engine.submit(one)
    take_all(engine, first)

    take_all(engine, person)

    assert batch.sequence.ready_frames == 0
    engine.close()


def test_a_piece_that_nobody_takes_rests_and_goes_on():
    pacing = Pacing(first_chunk_frames=3, chunk_frames=8, max_ahead_frames=20)
    engine, _, _ = make_engine(slots=2, pacing=pacing)
    slow, quick = piece(seed=1, frames=200, window=300), piece(seed=2, frames=200, window=300)
    engine.submit(slow)
    engine.submit(quick)

    take_all(engine, quick)

    assert slow.sequence.ready_frames <= 20 + 8
    assert np.array_equal(take_all(engine, slow), alone(seed=1, frames=200, window=300))
    engine.close()


def test_a_piece_that_nobody_takes_keeps_nobody_from_its_slot():
    pacing = Pacing(first_chunk_frames=3, chunk_frames=8, max_ahead_frames=20)
    engine, _, codec = make_engine(slots=1, pacing=pacing)
    slow, wanted = piece(seed=1, frames=200, window=300), piece(seed=2)
    engine.submit(slow)
    first = engine.next_chunk(slow)
    engine.submit(wanted)

    assert np.array_equal(take_all(engine, wanted), alone(seed=2))
    assert np.array_equal(np.concatenate([first, take_all(engine, slow)]), alone(seed=1, frames=200, window=300))
    assert_nothing_is_held(engine, codec)
    engine.close()


@pytest.mark.parametrize("wish", WISHES, ids=lambda wish: f"seed {wish['seed']}")
def test_a_piece_cut_off_at_any_step_goes_on_elsewhere_to_the_same_end(wish):
    engine, _, _ = make_engine(slots=1, max_rows=7)
    cut = piece(**wish)
    engine.submit(cut)
    kept = []
    while not cut.sequence.is_done:
        engine.step()
        if not kept or cut.sequence.ready_frames > kept[-1].shape[1]:
            kept.append(cut.sequence.codes[:, : cut.sequence.ready_frames].copy())
    engine.close()
    assert kept[-1].shape[1] == wish["frames"]
    uninterrupted = alone(**wish)

    for known in kept:
        elsewhere, decoder, codec = make_engine(slots=1)
        one = piece(**wish, known=known)
        to_go = one.sequence.columns_to_go
        elsewhere.submit(one)

        assert np.array_equal(take_all(elsewhere, one), uninterrupted)
        assert decoder.drawn_columns == to_go
        assert_nothing_is_held(elsewhere, codec)
        elsewhere.close()


def test_logits_that_are_no_numbers_fail_their_piece_only():
    engine, decoder, codec = make_engine()
    decoder.poisoned_seeds = {2}
    good, bad = piece(seed=1), piece(seed=2)
    engine.submit(good)
    engine.submit(bad)

    with pytest.raises(ModelFailed, match="not numbers"):
        take_all(engine, bad)
    assert np.array_equal(take_all(engine, good), alone(seed=1))
    assert_nothing_is_held(engine, codec)
    engine.close()


def test_a_shortage_of_memory_shrinks_the_steps_and_recovers():
    engine, decoder, codec = make_engine(slots=4)
    room = {"rows": 6}

    def limited(rows):
        if len(rows.slot) > room["rows"]:
            raise MemoryError

    decoder.before_step = limited
    wishes = [{"seed": seed, "frames": 12, "prompt_frames": 9} for seed in range(1, 5)]
    pieces = [piece(**wish) for wish in wishes]
    for one in pieces:
        engine.submit(one)
    audio = [take_all(engine, one) for one in pieces]

    assert all(np.array_equal(heard, alone(**wish)) for heard, wish in zip(audio, wishes, strict=True))
    room["rows"] = 1000
    later = piece(seed=9, frames=8 * RECOVERY_STEPS, window=8 * RECOVERY_STEPS + 1)
    engine.submit(later)
    take_all(engine, later)
    assert (engine._capacity.slots, engine._capacity.rows) == (4, 64)
    assert_nothing_is_held(engine, codec)
    engine.close()


def test_with_no_memory_at_all_pieces_fail_and_the_engine_lives():
    engine, decoder, codec = make_engine(slots=2)

    def nothing(rows):
        raise MemoryError

    decoder.before_step = nothing
    pieces = [piece(seed=seed) for seed in (1, 2, 3)]
    for one in pieces:
        engine.submit(one)
    for one in pieces:
        with pytest.raises(ModelFailed, match="no memory"):
            take_all(engine, one)
    decoder.before_step = lambda rows: None
    after = piece(seed=4)
    engine.submit(after)

    assert np.array_equal(take_all(engine, after), alone(seed=4))
    assert_nothing_is_held(engine, codec)
    engine.close()


def test_no_memory_to_begin_a_piece_delays_it_and_changes_nothing():
    engine, decoder, codec = make_engine(slots=3)
    chance = np.random.default_rng(8)

    def sometimes():
        if chance.random() < 0.3:
            raise MemoryError

    decoder.before_bind = sometimes
    pieces = [piece(**wish) for wish in WISHES]
    for one in pieces:
        engine.submit(one)
    for wish, one in zip(WISHES, pieces, strict=True):
        assert np.array_equal(take_all(engine, one), alone(**wish))

    def never():
        raise MemoryError

    decoder.before_bind = never
    hopeless = piece(seed=9)
    engine.submit(hopeless)
    with pytest.raises(ModelFailed, match="no memory"):
        take_all(engine, hopeless)
    assert_nothing_is_held(engine, codec)
    engine.close()


def test_a_codec_that_breaks_fails_those_it_was_decoding():
    engine, _, codec = make_engine()
    one = piece(seed=1)
    engine.submit(one)

    def broken(items):
        raise ValueError("codes out of range")

    codec.before_push = broken
    with pytest.raises(ModelFailed, match="codes out of range"):
        take_all(engine, one)
    assert_nothing_is_held(engine, codec)
    engine.close()


def test_a_newcomers_first_chunk_does_not_wait_behind_everybody_elses_audio():
    engine, _, codec = make_engine(slots=8, codec_thread=Later())
    codec.frames_at_once = 16
    running = [piece(seed=seed, frames=200, window=300) for seed in range(1, 7)]
    for one in running:
        engine.submit(one)
    while any(one.given_samples == 0 for one in running):
        engine.step()
        engine._codec_thread.run()
    newcomer = piece(seed=9)
    engine.submit(newcomer)
    # The codec is slow: every piece has a chunk's worth of frames when it comes back.
    for _ in range(12):
        engine.step()
    batches = []
    codec.before_push = lambda items: batches.append([stream for stream, _, _ in items])
    engine._codec_thread.run()
    engine.step()
    engine._codec_thread.run()

    assert batches[-1] == [newcomer.stream]
    assert len(batches[0]) > 1
    for one in [*running, newcomer]:
        engine.cancel(one)
    engine._codec_thread.run()
    engine.close()


def test_a_piece_gets_less_at_a_time_beside_others_and_not_more_seldom():
    engine, _, codec = make_engine(slots=4, pacing=Pacing(first_chunk_frames=1, chunk_frames=12, max_ahead_frames=1000))
    pushed = []
    codec.before_push = lambda items: pushed.append({stream: codes.shape[1] for stream, codes, _ in items})
    running = piece(seed=1, frames=400, window=500)
    engine.submit(running)
    for _ in range(60):
        engine.step()
    others = [piece(seed=seed, frames=60) for seed in (2, 3)]
    for other in others:
        engine.submit(other)
    begun = len(pushed)
    while not all(other.sequence.is_done for other in others):
        engine.step()

    assert pushed[begun - 1] == {running.stream: 12}
    beside = [batch[running.stream] for batch in pushed[begun:] if running.stream in batch]
    assert set(beside[2:]) == {4}
    assert np.array_equal(take_all(engine, running), alone(seed=1, frames=400, window=500))
    for other, seed in zip(others, (2, 3), strict=True):
        assert np.array_equal(take_all(engine, other), alone(seed=seed, frames=60))
    engine.close()


def test_where_nobody_waits_or_a_seam_costs_something_chunks_stay_whole():
    for interactive, is_seamless in ((False, True), (True, False)):
        engine, _, codec = make_engine(slots=4)
        codec.is_seamless = is_seamless
        pushed = []
        codec.before_push = lambda items, pushed=pushed: pushed.extend(codes.shape[1] for _, codes, _ in items)
        pieces = [piece(seed=seed, frames=80, window=90, interactive=interactive) for seed in (1, 2, 3)]
        for one in pieces:
            engine.submit(one)
        for one in pieces:
            take_all(engine, one)

        assert max(pushed) == 8
        assert pushed.count(8) >= 3 * (80 // 8 - 2)
        engine.close()


def test_working_for_a_piece_ends_as_soon_as_another_one_has_a_chunk():
    engine, _, codec = make_engine()
    running, newcomer = piece(seed=1, frames=90, window=99), piece(seed=2, frames=60, window=99)
    engine.submit(running)
    assert engine.work_for(running) and running.chunks
    running.chunks.clear()
    for _ in range(3):
        engine.step()
    engine.submit(newcomer)

    assert not engine.work_for(newcomer)
    assert running.is_ready and not newcomer.is_ready

    while not engine.work_for(newcomer):
        pass
    assert newcomer.is_ready
    engine.cancel(running)
    running.chunks.clear()
    assert engine.work_for(running) and engine.next_chunk(running) is None
    engine.cancel(newcomer)
    assert_nothing_is_held(engine, codec)
    engine.close()


def test_whoever_cannot_begin_fails_alone_whosever_chunk_is_being_waited_for():
    engine, _, codec = make_engine(slots=3)

    def broken(window):
        raise OSError("the theme is on a disk that is gone")

    good, bad = piece(seed=1), replace(piece(seed=2), condition=broken)
    refused = replace(piece(seed=3), condition=lambda window: raise_(InvalidRequest.of("prompt", "…", "too long")))
    for one in (good, bad, refused):
        engine.submit(one)

    assert np.array_equal(take_all(engine, good), alone(seed=1))
    with pytest.raises(ModelFailed, match="OSError: the theme is on a disk"):
        take_all(engine, bad)
    with pytest.raises(InvalidRequest, match="too long"):
        take_all(engine, refused)
    last = replace(piece(seed=2), condition=broken)
    engine.submit(last)
    with pytest.raises(ModelFailed):
        take_all(engine, last)
    assert_nothing_is_held(engine, codec)
    engine.close()


def test_a_step_that_breaks_costs_only_the_piece_that_broke_it():
    engine, decoder, codec = make_engine(slots=4)
    wishes = [{"seed": seed, "frames": 20 + seed, "prompt_frames": 5} for seed in range(1, 5)]
    pieces = [piece(**wish) for wish in wishes]

    def broken(rows):
        guilty = pieces[2].slot
        if (rows.position[rows.slot == guilty] == 11).any():
            raise IndexError("a code that no table has")

    decoder.before_step = broken
    for one in pieces:
        engine.submit(one)
    for wish, one in zip(wishes, pieces, strict=True):
        if one is pieces[2]:
            with pytest.raises(ModelFailed, match="IndexError"):
                take_all(engine, one)
        else:
            assert np.array_equal(take_all(engine, one), alone(**wish))
    assert_nothing_is_held(engine, codec)
    engine.close()


def test_a_codec_that_breaks_on_one_piece_costs_no_other():
    engine, _, codec = make_engine(slots=4)
    pieces = [piece(seed=seed, frames=40, window=50) for seed in range(1, 5)]
    for one in pieces:
        engine.submit(one)

    def broken(items):
        if any(stream is pieces[1].stream and stream.codes.shape[1] > 20 for stream, _, _ in items):
            raise ValueError("codes out of range")

    codec.before_push = broken
    with pytest.raises(ModelFailed, match="codes out of range"):
        take_all(engine, pieces[1])
    for seed, one in zip((1, 3, 4), (pieces[0], *pieces[2:]), strict=True):
        assert np.array_equal(take_all(engine, one), alone(seed=seed, frames=40, window=50))
    assert_nothing_is_held(engine, codec)
    engine.close()


def test_long_prompts_of_newcomers_are_begun_one_a_step_beside_who_plays():
    engine, decoder, _ = make_engine(slots=12)
    runs = piece(seed=1, frames=200, window=300)
    engine.submit(runs)
    engine.next_chunk(runs)
    bound = []
    decoder.before_bind = lambda: bound.append(len(decoder.steps))
    wordy = np.zeros((256, TINY.dim), np.float32)
    newcomers = [piece(seed=seed) for seed in range(2, 10)]
    for number, one in enumerate(newcomers):
        said = wordy if number < 4 else wordy[:12]
        engine.submit(replace(one, condition=lambda window, said=said: replace(condition(), cross=said)))
    for _ in range(6):
        engine.step()

    steps, binds = np.unique(bound, return_counts=True)
    assert np.diff(steps).tolist() == [1, 1, 1, 1]
    assert binds.tolist() == [1, 1, 1, 1, 4]
    engine.close()


def test_device_time_is_shared_out_completely():
    engine, _, _ = make_engine(slots=2)
    pieces = [piece(seed=seed, frames=30) for seed in (1, 2)]
    for one in pieces:
        engine.submit(one)
    for one in pieces:
        take_all(engine, one)

    # Same length, same neighbours: the same share.
    assert pieces[0].device_s == pytest.approx(pieces[1].device_s, rel=0.2)
    engine.close()


def test_faults_leave_no_slot_no_stream_and_no_wrong_sample():
    engine, decoder, codec = make_engine(slots=5, max_rows=32, codec_thread=ThreadPoolExecutor(1))
    chance = np.random.default_rng(3)
    # The codec's thread draws from its own, so that what happens does not depend on which thread is quicker.
    codec_chance = np.random.default_rng(4)
    faults = {"decoder": 0, "codec": 0, "cancel": 0}

    def decoder_fault(rows):
        if chance.random() < 0.02:
            faults["decoder"] += 1
            raise MemoryError

    def codec_fault(items):
        if len(items) > 1 and codec_chance.random() < 0.3:
            faults["codec"] += 1
            raise MemoryError

    decoder.before_step, codec.before_push = decoder_fault, codec_fault
    wishes = [wish | {"seed": 10 * index + wish["seed"]} for index in range(3) for wish in WISHES]
    expected = [alone(**wish) for wish in wishes]
    active: list[tuple[int, Piece, list]] = []
    finished = 0
    while sum(faults.values()) < 250:
        while len(active) < 8:
            wish = int(chance.integers(len(wishes)))
            one = piece(**wishes[wish])
            engine.submit(one)
            active.append((wish, one, []))
        at = int(chance.integers(len(active)))
        wish, one, heard = active[at]
        if chance.random() < 0.04:
            engine.cancel(one)
            faults["cancel"] += 1
            del active[at]
            continue
        try:
            chunk = engine.next_chunk(one)
        except ModelFailed as failure:
            # One piece, one row, and still no memory: the only excuse.
            assert "no memory" in str(failure)
            del active[at]
            continue
        if chunk is not None:
            heard.append(chunk)
        else:
            assert np.array_equal(np.concatenate(heard), expected[wish])
            finished += 1
            del active[at]
    for _, one, _ in active:
        engine.cancel(one)
    engine.close()

    assert min(faults.values()) > 5
    assert finished > 25
    assert_nothing_is_held(engine, codec)
