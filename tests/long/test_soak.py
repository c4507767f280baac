"""A thousand faults over the real decoder and codec: nothing leaks, no other piece changes, memory stays flat."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil

from orchestrion.errors import ModelFailed
from orchestrion.models.musicgen.codec.codec import Codec
from orchestrion.models.musicgen.decoder.cpu.cpu_decoder import CpuDecoder
from orchestrion.models.musicgen.decoder.decoder import Condition, Precision
from orchestrion.models.musicgen.engine.engine import Engine, Pacing, Piece
from orchestrion.models.musicgen.engine.sequence import Sequence, plan_windows
from tests.musicgen_checkpoints import TINY, TINY_CODEC, random_codec, random_lm
from tests.unit.models.musicgen.fakes import Ticks

FAULTS = 1000
SLOTS = 4
WINDOW, STRIDE = 60, 36
PACING = Pacing(first_chunk_frames=5, chunk_frames=20, max_ahead_frames=10**6)


class Faulty:
    """Lets calls through to `target`, but for some that find no memory."""

    def __init__(self, target, method: str, chance: float, seed: int) -> None:
        self.target, self.method, self.chance = target, method, chance
        self.draw = np.random.default_rng(seed)
        self.faults = 0

    def __getattr__(self, name):
        if name != self.method:
            return getattr(self.target, name)
        if self.draw.random() < self.chance:
            self.faults += 1
            return self.no_memory
        return getattr(self.target, name)

    def no_memory(self, *_):
        raise MemoryError


def piece(seed: int) -> Piece:
    draw = np.random.default_rng(seed)
    frames = int(draw.integers(5, 70))
    prompt = draw.integers(0, TINY.card, (TINY.codebooks, int(draw.integers(0, frames)) if seed % 3 == 0 else 0))
    states = draw.standard_normal((5, TINY.dim)).astype(np.float32)
    condition = Condition(states, None, None, None, 3.0)
    return Piece(
        sequence=Sequence(TINY, frames, prompt, plan_windows(frames, prompt.shape[1], WINDOW, STRIDE)),
        condition=lambda window: condition,
        samples=frames * TINY_CODEC.hop,
        seed=seed,
        temperature=1.0,
        top_k=250,
        top_p=0.0,
        interactive=seed % 2 == 0,
    )


def test_a_thousand_faults():
    lm, codec_weights = random_lm(TINY), random_codec(TINY_CODEC)
    real_decoder = CpuDecoder(
        TINY, lm, slots=SLOTS, max_positions=WINDOW + 4, max_rows=32, precision=Precision.INT8, threads=1
    )
    real_codec = Codec(TINY_CODEC, codec_weights, slots=2 * SLOTS, threads=1)
    thread = ThreadPoolExecutor(1)

    def engine(decoder, codec):
        return Engine(
            decoder,
            codec,
            codec_streams=2 * SLOTS,
            codec_thread=thread,
            hop=TINY_CODEC.hop,
            pacing=PACING,
            clock=Ticks(),
        )

    def alone(seed):
        single, one, heard = engine(real_decoder, real_codec), piece(seed), []
        single.submit(one)
        while (chunk := single.next_chunk(one)) is not None:
            heard.append(chunk)
        return np.concatenate(heard)

    expected = {seed: alone(seed) for seed in range(12)}
    decoder = Faulty(real_decoder, "step", 0.025, seed=1)
    codec = Faulty(real_codec, "push", 0.3, seed=2)
    chance = np.random.default_rng(3)
    running, active = engine(decoder, codec), []
    cancels = kills = finished = failed = 0
    resident_bytes = []
    while (faults := decoder.faults + codec.faults + cancels + kills) < FAULTS:
        if faults // 100 == len(resident_bytes):
            gc.collect()
            resident_bytes.append(psutil.Process().memory_info().rss)
        while len(active) < 6:
            seed = int(chance.integers(len(expected)))
            active.append((seed, piece(seed), []))
            running.submit(active[-1][1])
        at = int(chance.integers(len(active)))
        seed, one, heard = active[at]
        fate = chance.random()
        if fate < 0.03:
            # The replica's engine goes down with everything in it; another takes over what it had.
            kills += 1
            running.close()
            assert running.active == 0
            running, active = engine(decoder, codec), []
        elif fate < 0.13:
            cancels += 1
            running.cancel(one)
            del active[at]
        else:
            try:
                chunk = running.next_chunk(one)
            except ModelFailed as failure:
                assert "memory" in str(failure).lower()
                failed += 1
                del active[at]
                continue
            if chunk is not None:
                heard.append(chunk)
                continue
            assert np.array_equal(np.concatenate(heard), expected[seed])
            finished += 1
            del active[at]
    running.close()

    assert running.active == 0
    streams = [real_codec.open() for _ in range(2 * SLOTS)]
    assert len(streams) == 2 * SLOTS, "every stream of the codec was given back"
    assert finished > failed > 0
    assert min(decoder.faults, codec.faults, cancels, kills) > 20
    assert max(resident_bytes[3:]) - resident_bytes[2] < 8 << 20, resident_bytes
    thread.shutdown()
