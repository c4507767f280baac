"""Pieces that several tracks ask for: made once, the same for each of them, and charged once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.models.piece_cache import PieceCache
from orchestrion.models.protocol import Performance

CHUNKS = 5
CHUNK_BYTES = 40


class Model:
    """Makes numbered chunks; counts what it is asked for. Each chunk takes a second of the device."""

    def __init__(self, breaks_at=None, shares_steps=False):
        self.begun = self.given_up = self.scores = 0
        self.breaks_at = breaks_at
        self.shares_steps = shares_steps
        self.device_s = 0.0

    def begin(self):
        self.begun += 1
        more = {"device_s": lambda: self.device_s, "work": lambda: True, "is_ready": lambda: False}
        return Performance(
            self.chunks(), self.write_midi, expected_lufs=-18.0, choices={"key": "D minor"},
            checkpoint=lambda: b"half", **more if self.shares_steps else {},
        )  # fmt: skip

    def chunks(self):
        try:
            for number in range(CHUNKS):
                if number == self.breaks_at:
                    raise RuntimeError("a string snapped")
                self.device_s += 1.0
                # A slice of something larger, as codecs give them.
                yield np.full((10, 5), number, np.float32)[:, :1]
        except GeneratorExit:
            self.given_up += 1
            raise

    def write_midi(self):
        self.scores += 1
        return b"MThd"


def numbers(performance):
    return [int(chunk[0, 0]) for chunk in performance.chunks]


def test_a_whole_piece_is_not_made_again():
    cache, model = PieceCache(1000), Model()
    first, was_there = cache.perform("a", model.begin)
    assert not was_there and numbers(first) == list(range(CHUNKS)) and first.write_midi() == b"MThd"

    again, was_there = cache.perform("a", model.begin)

    assert was_there and numbers(again) == list(range(CHUNKS)) and again.write_midi() == b"MThd"
    assert (again.expected_lufs, again.choices) == (-18.0, {"key": "D minor"})
    assert (model.begun, model.scores) == (1, 1)


def test_a_piece_in_progress_is_shared_and_each_takes_it_from_its_beginning():
    cache, model = PieceCache(), Model()
    first, _ = cache.perform("a", model.begin)
    begun = [next(first.chunks), next(first.chunks)]

    second, was_there = cache.perform("a", model.begin)

    assert was_there and numbers(second) == list(range(CHUNKS)), "who needs the next chunk has it made"
    assert len(begun) + len(numbers(first)) == CHUNKS and model.begun == 1


def test_a_piece_goes_on_when_the_track_that_began_it_is_given_up():
    cache, model = PieceCache(), Model()
    first, _ = cache.perform("a", model.begin)
    second, _ = cache.perform("a", model.begin)
    next(first.chunks)

    first.chunks.close()

    assert list(first.chunks) == [] and numbers(second) == list(range(CHUNKS)) and not model.given_up


def test_the_last_to_leave_gives_the_piece_up_and_it_is_begun_anew():
    cache, model = PieceCache(1000), Model()
    takers = [cache.perform("a", model.begin)[0] for _ in range(2)]
    next(takers[0].chunks)
    for taker in takers:
        taker.chunks.close()
        taker.chunks.close()

    assert model.given_up == 1 and not cache.has("a")
    assert cache.perform("a", model.begin)[1] is False and model.begun == 2


def test_what_breaks_a_piece_is_told_to_all_who_take_it_and_to_nobody_later():
    cache, model = PieceCache(1000), Model(breaks_at=2)
    takers = [cache.perform("a", model.begin)[0] for _ in range(2)]
    for taker in takers:
        assert [int(next(taker.chunks)[0, 0]) for _ in range(2)] == [0, 1]
        with pytest.raises(RuntimeError, match="snapped"):
            next(taker.chunks)
        taker.chunks.close()
    assert not cache.has("a")

    model.breaks_at = None

    assert numbers(cache.perform("a", model.begin)[0]) == list(range(CHUNKS))


def test_a_piece_that_cannot_be_begun_leaves_nothing_behind():
    cache = PieceCache(1000)

    def begin():
        raise RuntimeError("no strings")

    with pytest.raises(RuntimeError, match="no strings"):
        cache.perform("a", begin)

    assert not cache.has("a")


def test_only_one_is_charged_and_the_next_pays_on_when_that_one_leaves():
    cache, model = PieceCache(), Model(shares_steps=True)
    first, _ = cache.perform("a", model.begin)
    second, _ = cache.perform("a", model.begin)
    third, _ = cache.perform("a", model.begin)
    next(first.chunks), next(second.chunks), next(second.chunks)
    assert (first.device_s(), second.device_s()) == (2.0, 0.0)

    third.chunks.close()
    first.chunks.close()
    numbers(second)

    assert (first.device_s(), second.device_s(), third.device_s()) == (2.0, 3.0, 0.0)
    assert model.device_s == 5.0


def test_what_is_there_needs_no_work_and_is_ready():
    cache, model = PieceCache(1000), Model(shares_steps=True)
    first, _ = cache.perform("a", model.begin)
    behind, _ = cache.perform("a", model.begin)
    next(first.chunks)

    assert behind.is_ready() and not first.is_ready()
    next(behind.chunks)
    assert not behind.is_ready()
    numbers(first)
    assert behind.is_ready() and behind.checkpoint() is None
    kept, _ = cache.perform("a", model.begin)
    assert kept.work is None and kept.device_s is None and kept.checkpoint is None


def test_nobody_can_change_a_piece_for_others():
    cache, model = PieceCache(1000), Model()
    for _ in range(2):
        chunk = next(cache.perform("a", model.begin)[0].chunks)
        with pytest.raises(ValueError):
            chunk += 1.0


def test_no_more_memory_is_held_than_the_budget_says():
    cache, model = PieceCache(2 * CHUNKS * CHUNK_BYTES), Model()
    for name in ("a", "b", "a", "c"):
        numbers(cache.perform(name, model.begin)[0])

    assert cache.kept_bytes == 2 * CHUNKS * CHUNK_BYTES
    assert [cache.has(name) for name in ("a", "b", "c")] == [True, False, True], "the one used last stays"
    kept, _ = cache.perform("a", model.begin)
    assert all(chunk.flags.owndata for chunk in kept.chunks)


def test_a_piece_larger_than_the_budget_pushes_nothing_out():
    cache, model = PieceCache(CHUNKS * CHUNK_BYTES), Model()
    numbers(cache.perform("a", model.begin)[0])

    whole, _ = cache.perform("long", lambda: Performance(iter([np.zeros((1000, 1), np.float32)])))
    assert len(list(whole.chunks)) == 1

    assert cache.has("a") and not cache.has("long")


@given(st.lists(st.tuples(st.sampled_from(["perform", "take", "close"]), st.sampled_from("ab"), st.integers(0, 3))))
def test_whatever_the_order_everybody_gets_every_chunk_and_each_piece_is_made_once_at_a_time(steps):
    cache = PieceCache(CHUNKS * CHUNK_BYTES)
    making = {"a": 0, "b": 0}
    taken = []

    def begin(name):
        making[name] += 1
        assert making[name] == 1

        def chunks():
            try:
                for number in range(CHUNKS):
                    yield np.full((10, 1), number, np.float32)
            finally:
                making[name] -= 1

        source = chunks()
        # As a rendering does: nothing is given up before its first chunk.
        first = next(source)
        return Performance(_Chained(first, source))

    for step, name, which in steps:
        if step == "perform":
            taken.append((name, cache.perform(name, lambda name=name: begin(name))[0].chunks, []))
        elif taken:
            _, chunks, got = taken[which % len(taken)]
            if step == "take":
                got += [int(chunk[0, 0]) for chunk in [next(chunks, None)] if chunk is not None]
            else:
                chunks.close()
                taken.remove(taken[which % len(taken)])
    for _, chunks, got in taken:
        assert got + [int(chunk[0, 0]) for chunk in chunks] == list(range(CHUNKS))
    assert set(making.values()) == {0}
    assert cache.kept_bytes <= CHUNKS * CHUNK_BYTES


class _Chained:
    def __init__(self, first, rest):
        self.first, self.rest = [first], rest

    def __iter__(self):
        return self

    def __next__(self):
        return self.first.pop() if self.first else next(self.rest)

    def close(self):
        self.rest.close()
