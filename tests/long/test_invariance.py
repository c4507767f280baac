"""A request's codes are the bits it gets alone: 500 random schedules over the real decoder, in every precision."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from orchestrion.models.musicgen.decoder.cpu.cpu_decoder import CpuDecoder
from orchestrion.models.musicgen.decoder.decoder import Condition, Precision
from orchestrion.models.musicgen.engine.engine import Engine, Pacing, Piece
from orchestrion.models.musicgen.engine.sequence import Sequence, plan_windows
from tests.musicgen_checkpoints import TINY, random_lm
from tests.unit.models.musicgen.fakes import HOP, AtOnce, EchoCodec, Ticks

PRECISIONS = (Precision.FP32, Precision.BF16, Precision.INT8, Precision.INT4)
SCHEDULES_PER_PRECISION = 125
WINDOW, STRIDE = 24, 14


@dataclass(frozen=True)
class Wish:
    """One request, drawn from its number."""

    seed: int
    frames: int
    prompt_frames: int
    text: int
    null_text: int
    guidance: float
    temperature: float
    top_k: int
    top_p: float

    @classmethod
    def number(cls, number: int) -> "Wish":
        draw = np.random.default_rng(number)
        frames = int(draw.integers(2, 36))
        return cls(
            seed=number,
            frames=frames,
            prompt_frames=int(draw.integers(0, frames)) if draw.random() < 0.4 else 0,
            text=int(draw.integers(0, 9)),
            null_text=int(draw.integers(1, 5)) if draw.random() < 0.2 else 0,
            guidance=float(draw.choice([1.0, 3.0, 4.5])),
            temperature=float(draw.choice([0.0, 0.7, 1.0, 1.6])),
            top_k=int(draw.choice([0, 1, 40, 250])),
            top_p=float(draw.choice([0.0, 0.0, 0.8])),
        )

    def piece(self, interactive: bool, known: np.ndarray | None = None) -> Piece:
        draw = np.random.default_rng(1000 + self.seed)

        def states(count: int) -> np.ndarray | None:
            return draw.standard_normal((count, TINY.dim)).astype(np.float32) if count else None

        prompt = draw.integers(0, TINY.card, (TINY.codebooks, self.prompt_frames))
        condition = Condition(states(self.text), states(self.null_text), None, None, self.guidance)
        windows = plan_windows(self.frames, self.prompt_frames, WINDOW, STRIDE)
        return Piece(
            sequence=Sequence(TINY, self.frames, prompt if known is None else known, windows),
            condition=lambda window: condition,
            samples=self.frames * HOP,
            seed=self.seed,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            interactive=interactive,
        )


@cache
def decoder(precision: Precision, slots: int, max_rows: int, threads: int) -> CpuDecoder:
    """Kept over schedules, so that every one begins with what others left in the cache."""
    return CpuDecoder(
        TINY,
        random_lm(TINY),
        slots=slots,
        max_positions=WINDOW + TINY.max_delay + 1,
        max_rows=max_rows,
        precision=precision,
        threads=threads,
    )


def engine_over(decoder: CpuDecoder) -> Engine:
    pacing = Pacing(first_chunk_frames=3, chunk_frames=8, max_ahead_frames=10**6)
    streams = 2 * decoder.slots
    return Engine(
        decoder, EchoCodec(), codec_streams=streams, codec_thread=AtOnce(), hop=HOP, pacing=pacing, clock=Ticks()
    )


@cache
def codes_alone(precision: Precision, number: int) -> np.ndarray:
    # 65 rows: a decoder that no schedule uses, because it may be asked in the middle of one.
    engine = engine_over(decoder(precision, 1, 65, 1))
    piece = Wish.number(number).piece(interactive=True)
    engine.submit(piece)
    while engine.next_chunk(piece) is not None:
        pass
    return piece.sequence.codes


@pytest.mark.parametrize("precision", PRECISIONS)
def test_neighbours_slots_portions_and_threads_change_no_code(precision):
    chance = np.random.default_rng(17)
    finished = cancelled = resumed = 0
    for _ in range(SCHEDULES_PER_PRECISION):
        slots = int(chance.choice([1, 3, 5]))
        max_rows = int(chance.choice([slots, 7, 64]))
        engine = engine_over(decoder(precision, slots, max(slots, max_rows), int(chance.integers(1, 3))))
        running: list[tuple[int, Piece]] = []
        to_come = list(chance.integers(0, 60, size=int(chance.integers(1, 8))))
        while to_come or running:
            if to_come and (not running or chance.random() < 0.2):
                number = int(to_come.pop())
                running.append((number, Wish.number(number).piece(interactive=bool(chance.random() < 0.5))))
                engine.submit(running[-1][1])
            engine.step()
            if running and chance.random() < 0.02:
                number, piece = running.pop(int(chance.integers(len(running))))
                engine.cancel(piece)
                ready = piece.sequence.ready_frames
                assert np.array_equal(piece.sequence.codes[:, :ready], codes_alone(precision, number)[:, :ready])
                cancelled += 1
                if chance.random() < 0.5:
                    # It goes on as one that another process began: other slots, other neighbours.
                    running.append((number, Wish.number(number).piece(True, piece.sequence.codes[:, :ready].copy())))
                    engine.submit(running[-1][1])
                    resumed += 1
            for number, piece in [one for one in running if one[1].is_over]:
                assert np.array_equal(piece.sequence.codes, codes_alone(precision, number)), Wish.number(number)
                running.remove((number, piece))
                finished += 1
        assert engine.active == 0

    assert finished > 2 * SCHEDULES_PER_PRECISION
    assert cancelled > 20
    assert resumed > 10
