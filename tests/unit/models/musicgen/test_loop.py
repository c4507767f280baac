"""Loops made of music that does not loop."""

from dataclasses import replace

import numpy as np
import pytest

from orchestrion.models.musicgen.loop import JoinedChunks, Joiner, Loop
from orchestrion.models.protocol import Conditioning

RATE_HZ = 1000
WISH = Conditioning(
    prompt="", negative_prompt="", style=None, mood=None, tempo_bpm=None, key=None, duration_s=4.0, seed=0, theme=None,
    loop=True,
)  # fmt: skip


@pytest.mark.parametrize(
    "fields, lead, fade",
    [
        ({}, 1000, 500),
        ({"tempo_bpm": 120.0}, 2000, 500),
        ({"tempo_bpm": 120.0, "metre": "3/4"}, 1500, 500),
        ({"tempo_bpm": 60.0, "style": "waltz"}, 3000, 1000),
        ({"tempo_bpm": 30.0, "duration_s": 1.0}, 8000, 500),
    ],
    ids=str,
)
def test_a_bar_is_made_before_it_and_a_beat_fades(fields, lead, fade):
    wish = replace(WISH, **fields)

    assert Loop.of(wish, RATE_HZ) == Loop(lead, fade, round(wish.duration_s * RATE_HZ))
    assert Loop.of(replace(wish, loop=None), RATE_HZ) is None


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(17).normal(0, 0.1, (samples, 2)).astype(np.float32)


def test_what_follows_its_end_is_what_led_to_its_beginning():
    loop = Loop.of(WISH, RATE_HZ)
    # A curve without a jump anywhere, and with other values at each place.
    curve = np.cumsum(noise(loop.samples), axis=0)

    made = Joiner(loop).push(curve)

    around = np.concatenate([made[-1:], made[:1]])
    largest_step = np.abs(np.diff(curve, axis=0)).max()
    assert len(made) == loop.length
    assert np.abs(np.diff(around, axis=0)).max() <= 1.1 * largest_step
    assert np.array_equal(made[: loop.length - loop.fade], curve[loop.lead : loop.samples - loop.fade])


def test_different_music_is_as_loud_while_it_fades_as_before():
    loop = Loop.of(WISH, RATE_HZ)
    made = Joiner(loop).push(noise(loop.samples))

    faded, before = made[-loop.fade :], made[: -loop.fade]
    assert np.std(faded) == pytest.approx(np.std(before), rel=0.05)


@pytest.mark.parametrize("size", [1, 7, 333, 1000, 1499, 5000])
def test_chunks_of_any_size_make_the_same_loop(size):
    class Chunks:
        def __init__(self, audio):
            self.parts = iter([audio[at : at + size] for at in range(0, len(audio), size)])
            self.is_closed = False

        def __next__(self):
            return next(self.parts)

        def close(self):
            self.is_closed = True

    loop = Loop.of(WISH, RATE_HZ)
    audio = noise(loop.samples)
    chunks = Chunks(audio)
    joined = JoinedChunks(chunks, loop)

    assert np.array_equal(np.concatenate(list(joined)), Joiner(loop).push(audio))
    joined.close()
    assert chunks.is_closed
