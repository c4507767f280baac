"""Mastering keeps its promises: length, loudness, ceiling, fades, and a stream that is the same music."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrion.audio.loudness import integrated_lufs, true_peak_dbtp
from orchestrion.audio.mastering import FinishSpec, finish, shape
from orchestrion.audio.streaming import MAX_SLEW_DB_PER_S, OPENING_SLEW_DB_PER_S, StreamFinisher, wanted_gain_db
from orchestrion.errors import ModelFailed


def music(duration_s, rate_hz, rise_db=0.0, seed=0, channels=2):
    """Decaying noise bursts twice a second, the level rising by `rise_db`; peaks some 20 dB over the loudness."""
    rng = np.random.default_rng(seed)
    n = np.arange(round(duration_s * rate_hz))
    beat = np.exp(-(n % (rate_hz // 2)) / (rate_hz / 12)) + 0.2
    level = 10 ** ((rise_db * n / len(n) - max(rise_db, 0.0)) / 20)
    return (0.2 * rng.standard_normal((len(n), channels)) * (beat * level)[:, None]).astype(np.float32)


def spec_of(duration_s=4.0, rate_hz=44_100, lufs=-14.0, fade_in_s=0.0, fade_out_s=0.0):
    return FinishSpec(duration_s, rate_hz, lufs, fade_in_s, fade_out_s)


def stream(audio, source_rate_hz, spec, expected_lufs, chunks):
    finisher = StreamFinisher(source_rate_hz, audio.shape[1], spec, expected_lufs)
    parts, start, sizes = [], 0, iter(chunks)
    while start < len(audio):
        size = next(sizes)
        parts.append(finisher.push(audio[start : start + size]))
        start += size
    return [*parts, finisher.flush()]


def forever(*sizes):
    while True:
        yield from sizes


@pytest.mark.parametrize(
    ("source_hz", "rate_hz"), [(44_100, 44_100), (32_000, 44_100), (44_100, 48_000), (44_100, 8000)]
)
@pytest.mark.parametrize("lufs", [-30.0, -14.0, -9.0])
def test_finished_audio_has_length_loudness_and_headroom(source_hz, rate_hz, lufs):
    spec = spec_of(3.333, rate_hz, lufs)
    audio = finish(music(3.333, source_hz), source_hz, spec)
    assert audio.shape == (round(3.333 * rate_hz), 2)
    assert audio.dtype == np.float32
    assert integrated_lufs(audio, rate_hz) == pytest.approx(lufs, abs=0.3)
    assert true_peak_dbtp(audio, rate_hz) < -1.0


def test_finish_is_deterministic_and_leaves_its_input_alone():
    source = music(2.0, 44_100)
    before = source.copy()
    spec = spec_of(2.0)
    assert np.array_equal(finish(source, 44_100, spec), finish(source, 44_100, spec))
    assert np.array_equal(source, before)


def test_mono_stays_mono():
    assert finish(music(1.5, 44_100, channels=1), 44_100, spec_of(1.5)).shape == (66_150, 1)


def wide(duration_s, rate_hz):
    """Two channels that a mean would cancel."""
    mono = music(duration_s, rate_hz, channels=1)
    return np.concatenate([mono, -0.9 * mono], axis=1)


@pytest.mark.parametrize(("source_hz", "rate_hz"), [(44_100, 44_100), (32_000, 44_100), (44_100, 96_000)])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("source_channels", [1, 2])
def test_a_track_has_the_channels_that_were_asked_for(source_channels, channels, source_hz, rate_hz):
    source = wide(3.0, source_hz)[:, :source_channels]
    spec = replace(spec_of(3.0, rate_hz), channels=channels)

    audio = finish(source, source_hz, spec)

    assert audio.shape == (spec.samples, channels)
    assert integrated_lufs(audio, rate_hz) == pytest.approx(-14.0, abs=0.3)
    assert true_peak_dbtp(audio, rate_hz) < -1.0


def test_a_mono_piece_in_stereo_is_the_same_on_both_sides():
    audio = finish(music(1.5, 44_100, channels=1), 44_100, replace(spec_of(1.5), channels=2))

    assert np.array_equal(audio[:, 0], audio[:, 1])


def test_asking_for_the_channels_that_there_are_changes_nothing():
    source = music(1.5, 44_100)

    assert np.array_equal(
        finish(source, 44_100, replace(spec_of(1.5), channels=2)), finish(source, 44_100, spec_of(1.5))
    )


@pytest.mark.parametrize("channels", [1, 2])
def test_a_stream_that_was_expected_right_begins_as_loud_as_it_shall_be(channels):
    source = wide(3.0, 44_100)[:, : 3 - channels] * np.float32(0.05)
    spec = replace(spec_of(3.0, lufs=-30.0), channels=channels)
    expected_lufs = integrated_lufs(source, 44_100)

    streamed = np.concatenate(stream(source, 44_100, spec, expected_lufs, forever(3000)))

    shaped = shape(source, 44_100, spec)
    start = slice(11_025, 17_640)
    gain_db = 20 * np.log10(np.abs(streamed[start]).max() / np.abs(shaped[start]).max())
    assert streamed.shape == (spec.samples, channels)
    assert gain_db == pytest.approx(-30.0 - integrated_lufs(shaped, 44_100), abs=0.3)


def ring(hz, duration_s=2.0, rate_hz=44_100):
    """A tone that goes on from its end to its beginning."""
    phase = 2 * np.pi * hz * np.arange(round(duration_s * rate_hz)) / rate_hz + 1.0
    return (0.3 * np.stack([np.sin(phase), -0.5 * np.sin(phase)], axis=1)).astype(np.float32)


@pytest.mark.parametrize(("source_hz", "rate_hz"), [(44_100, 44_100), (32_000, 44_100), (44_100, 48_000)])
@pytest.mark.parametrize("channels", [None, 1])
@pytest.mark.parametrize("lufs", [-30.0, -9.0])
def test_a_loop_has_no_seam(lufs, channels, source_hz, rate_hz):
    spec = replace(spec_of(2.0, rate_hz, lufs), loop=True, channels=channels)
    # A swell just before the end, so that the limiter is at work where the end joins the beginning.
    from_end_s = 2.0 - np.arange(2 * source_hz) / source_hz
    swell = 1.0 + 2.0 * np.exp(-(((from_end_s - 0.05) / 0.012) ** 2))

    audio = finish((ring(220.0, rate_hz=source_hz) * swell[:, None]).astype(np.float32), source_hz, spec)

    seam = np.concatenate([audio[-200:], audio[:200]])
    bend = np.abs(np.diff(seam, n=2, axis=0)).max()
    assert audio.shape == (spec.samples, channels or 2)
    # As much as this tone bends anywhere, and no step that is a thousandth of it.
    assert bend < np.abs(seam).max() * ((2 * np.pi * 220 / rate_hz) ** 2 + 0.001)


@pytest.mark.parametrize(("source_hz", "rate_hz"), [(44_100, 44_100), (32_000, 44_100), (44_100, 48_000)])
def test_a_loop_is_neither_faded_nor_cut_off_at_its_ends(source_hz, rate_hz):
    spec = replace(spec_of(2.0, rate_hz), loop=True)

    shaped = shape(ring(220.0, rate_hz=source_hz), source_hz, spec)

    np.testing.assert_allclose(shaped, ring(220.0, rate_hz=rate_hz), atol=1e-4)


def test_a_loop_is_the_same_wherever_it_is_begun():
    spec = replace(spec_of(2.0, 48_000, -12.0), loop=True)
    source = music(2.0, 44_100)

    begun_later = finish(np.roll(source, -22_050, axis=0), 44_100, spec)

    np.testing.assert_allclose(np.roll(begun_later, 24_000, axis=0), finish(source, 44_100, spec), atol=0.02)


def test_a_loop_that_is_too_short_is_the_models_failure():
    with pytest.raises(ModelFailed, match="that were asked for"):
        finish(music(1.9, 44_100), 44_100, replace(spec_of(2.0), loop=True))
    with pytest.raises(ModelFailed):
        finish(np.zeros((0, 2), np.float32), 44_100, replace(spec_of(2.0), loop=True))


def test_silence_stays_silence():
    audio = finish(np.zeros((88_200, 2), np.float32), 44_100, spec_of(2.0))
    assert not audio.any()


def test_too_long_a_source_is_trimmed_and_too_short_a_one_is_the_models_failure():
    assert len(finish(music(3.0, 44_100), 44_100, spec_of(2.0))) == 88_200
    with pytest.raises(ModelFailed, match=r"1\.900 s of the 2\.000 s"):
        finish(music(1.9, 44_100), 44_100, spec_of(2.0))


def test_fades_are_raised_cosines_and_a_cut_never_clicks():
    flat = np.ones((44_100 * 2, 1), np.float32)
    faded = shape(flat, 44_100, spec_of(2.0, fade_in_s=0.5, fade_out_s=1.0))[:, 0]
    assert faded[0] == 0.0 and faded[-1] == 0.0
    assert faded[11_025] == pytest.approx(0.5, abs=1e-3)
    assert faded[44_100 + 22_050] == pytest.approx(0.5, abs=1e-3)
    assert (faded[22_050:44_100] == 1.0).all()
    cut = shape(flat, 44_100, spec_of(2.0))[:, 0]
    assert cut[0] == 0.0 and cut[-1] == 0.0
    assert np.abs(np.diff(cut)).max() < 0.01
    assert (cut[441:-441] == 1.0).all()


def test_fades_that_meet_are_both_applied():
    faded = shape(np.ones((44_100, 1), np.float32), 44_100, spec_of(1.0, fade_in_s=0.5, fade_out_s=0.5))[:, 0]
    assert faded.max() == pytest.approx(1.0, abs=1e-3)
    assert faded[11_025] == pytest.approx(0.5, abs=1e-3) == faded[33_075 - 1]


def test_one_loud_click_costs_no_loudness_elsewhere():
    audio = music(4.0, 44_100)
    audio[88_200] = 8.0
    finished = finish(audio, 44_100, spec_of())
    assert true_peak_dbtp(finished, 44_100) < -1.0
    assert integrated_lufs(finished, 44_100) == pytest.approx(-14.0, abs=0.3)


@pytest.mark.parametrize(("source_hz", "rate_hz"), [(44_100, 44_100), (32_000, 48_000)])
def test_a_stream_is_the_sync_audio_before_mastering(source_hz, rate_hz):
    source = music(3.0, source_hz) * np.float32(0.05)
    spec = spec_of(3.0, rate_hz, -30.0, fade_in_s=0.3, fade_out_s=0.5)
    shaped = shape(source, source_hz, spec)
    # Nothing to correct and nothing to limit: what is left is one gain, the same on every sample.
    exact_lufs = integrated_lufs(shaped, rate_hz)
    streamed = np.concatenate(stream(source, source_hz, spec, exact_lufs, forever(3000)))
    assert len(streamed) == len(shaped)
    before_correction = slice(0, round(0.4 * rate_hz))
    gain = np.float32(10 ** ((-30.0 - exact_lufs) / 20))
    np.testing.assert_allclose(streamed[before_correction], shaped[before_correction] * gain, rtol=1e-6)


def test_gain_of_a_stream_moves_slowly():
    source = music(12.0, 44_100) * np.float32(0.05)
    spec = spec_of(12.0, lufs=-23.0)
    shaped = shape(source, 44_100, spec)
    streamed = np.concatenate(stream(source, 44_100, spec, None, forever(4096)))
    loud = np.abs(shaped[:, 0]) > 1e-4
    gain_db = 20 * np.log10(np.abs(streamed[loud, 0] / shaped[loud, 0]))
    time_s = np.flatnonzero(loud) / 44_100
    windows = [gain_db[(time_s >= t) & (time_s < t + 0.05)].mean() for t in np.arange(0.0, 11.9, 0.1)]
    steps = np.abs(np.diff(windows))
    assert steps.max() <= OPENING_SLEW_DB_PER_S * 0.1 * 1.05
    assert steps[45:].max() <= MAX_SLEW_DB_PER_S * 0.1 * 1.05
    assert np.ptp(windows) > 1.0


@settings(max_examples=12, deadline=None)
@given(sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=5))
def test_the_output_of_a_stream_does_not_depend_on_how_it_is_cut(sizes):
    sizes = [*sizes, 9999]
    source = music(1.5, 32_000)
    spec = spec_of(1.5)
    whole = np.concatenate(stream(source, 32_000, spec, -18.0, forever(len(source))))
    cut = np.concatenate(stream(source, 32_000, spec, -18.0, forever(*sizes)))
    assert np.array_equal(whole, cut)


@pytest.mark.parametrize(
    ("rise_db", "expectation_error_lu"),
    [(0.0, 0.0), (0.0, 2.0), (0.0, -2.0), (20.0, 0.0), (20.0, 2.0), (20.0, -2.0), (-10.0, 0.0), (-10.0, -2.0)],
)
def test_a_stream_ends_at_its_loudness(rise_db, expectation_error_lu):
    source = music(30.0, 16_000, rise_db)
    spec = spec_of(30.0, 16_000)
    expected_lufs = integrated_lufs(source, 16_000) + expectation_error_lu
    streamed = np.concatenate(stream(source, 16_000, spec, expected_lufs, forever(8000)))
    assert len(streamed) == 480_000
    assert integrated_lufs(streamed, 16_000) == pytest.approx(-14.0, abs=1.0)
    assert true_peak_dbtp(streamed, 16_000) < -1.0


def test_a_stream_whose_model_cannot_say_its_loudness_ends_near_it():
    source = music(30.0, 16_000) * np.float32(0.5)
    streamed = np.concatenate(stream(source, 16_000, spec_of(30.0, 16_000), None, forever(8000)))
    assert integrated_lufs(streamed, 16_000) == pytest.approx(-14.0, abs=1.0)


def test_a_stream_lags_by_less_than_a_fifth_of_a_second():
    source = music(2.0, 44_100)
    finisher = StreamFinisher(44_100, 2, spec_of(2.0), None)
    given_samples = sum(len(finisher.push(source[s : s + 4410])) for s in range(0, 44_100, 4410))
    assert given_samples > 44_100 - 0.2 * 44_100


def test_a_stream_that_stops_early_is_the_models_failure():
    finisher = StreamFinisher(44_100, 2, spec_of(2.0), None)
    finisher.push(music(1.0, 44_100))
    with pytest.raises(ModelFailed, match="shorter track"):
        finisher.flush()


def test_gain_stays_put_while_all_goes_as_expected():
    gain_db = wanted_gain_db(
        target_lufs=-14, expected_lufs=-20, source_lufs=-20, result_lufs=-14, heard_s=20, whole_s=60, trust_s=6
    )
    assert gain_db == pytest.approx(6.0, abs=1e-9)


def test_a_quiet_start_is_no_reason_to_turn_up_a_piece_that_is_expected_louder():
    quiet = wanted_gain_db(
        target_lufs=-14, expected_lufs=-20, source_lufs=-26, result_lufs=-20, heard_s=2, whole_s=60, trust_s=6
    )
    late = wanted_gain_db(
        target_lufs=-14, expected_lufs=-20, source_lufs=-26, result_lufs=-20, heard_s=58, whole_s=60, trust_s=6
    )
    assert quiet < 9.0 < late
