"""Stereo made mono: nothing gets lost, whatever lies where, and the middle stays as it is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrion.audio.channels import REACH_S, MonoFold

RATE_HZ = 44_100
SAMPLES = 3 * RATE_HZ


def folded(audio, rate_hz=RATE_HZ, sizes=(4096,)):
    fold, parts, start, turn = MonoFold(rate_hz), [], 0, 0
    while start < len(audio):
        size = sizes[turn % len(sizes)]
        parts.append(fold.push(audio[start : start + size], last=start + size >= len(audio)))
        start, turn = start + size, turn + 1
    return np.concatenate(parts)


def wave(hz, rate_hz=RATE_HZ):
    return np.sin(2 * np.pi * hz * np.arange(SAMPLES) / rate_hz).astype(np.float32)


def noise(seed):
    return np.random.default_rng(seed).standard_normal(SAMPLES).astype(np.float32)


def power(audio):
    # The filter starts and ends with silence: away from there.
    return float(np.mean(np.square(audio[RATE_HZ // 2 : -RATE_HZ // 2], dtype=np.float64)))


def test_what_both_channels_share_stays_as_it_is():
    middle = noise(0)

    np.testing.assert_allclose(folded(np.stack([middle, middle], axis=1))[:, 0], middle, atol=1e-6)


@pytest.mark.parametrize("rate_hz", [16_000, 32_000, 44_100, 96_000])
@pytest.mark.parametrize("hz", [30, 100, 1000, 7000])
def test_opposite_waves_do_not_cancel(hz, rate_hz):
    left = wave(hz, rate_hz)

    mono = folded(np.stack([left, -left], axis=1), rate_hz)

    assert power(mono) == pytest.approx(power(left), rel=0.03)


@given(places=st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=3))
@settings(max_examples=20, deadline=None)
def test_whatever_is_placed_by_level_keeps_its_power(places):
    left = sum(at_left * noise(seed) for seed, (at_left, _) in enumerate(places))
    right = sum(at_right * noise(seed) for seed, (_, at_right) in enumerate(places))

    mono = folded(np.stack([left, right], axis=1))

    assert power(mono) == pytest.approx((power(left) + power(right)) / 2, rel=0.03, abs=1e-9)


def test_a_mean_would_have_lost_what_this_keeps():
    left, right = noise(1), noise(2)
    stereo = np.stack([left, right], axis=1)

    assert power(stereo.mean(axis=1)) == pytest.approx(power(folded(stereo)) / 2, rel=0.05)


@given(sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_the_cut_into_blocks_is_not_heard(sizes):
    stereo = np.stack([noise(3), noise(4)], axis=1)[: RATE_HZ // 2]

    mono = folded(stereo, sizes=[max(size, 500) for size in sizes])

    assert mono.shape == (len(stereo), 1) and mono.dtype == np.float32
    np.testing.assert_allclose(mono, folded(stereo), atol=1e-5)


def test_it_lies_where_its_source_lies_and_holds_no_more_back_than_it_says():
    stereo = np.zeros((RATE_HZ, 2), np.float32)
    stereo[10_000] = 1.0

    early = MonoFold(RATE_HZ).push(stereo, last=False)

    assert int(np.abs(folded(stereo)[:, 0]).argmax()) == 10_000
    assert len(early) == RATE_HZ - round(REACH_S * RATE_HZ)


def test_a_source_that_is_shorter_than_the_filter_is_folded_as_well():
    stereo = np.ones((10, 2), np.float32)

    np.testing.assert_allclose(folded(stereo), np.ones((10, 1)), atol=1e-6)
