"""The block-wise meter reads what pyloudnorm reads, and levels whose truth is known."""

import numpy as np
import pyloudnorm
import pytest

from orchestrion.audio.loudness import FRAME_SAMPLES, FrameAnalyser, gated_lufs, integrated_lufs, true_peak_dbtp


def sine(frequency_hz, level_dbfs, duration_s, rate_hz, phase=0.0, channels=2):
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    wave = 10 ** (level_dbfs / 20) * np.sin(2 * np.pi * frequency_hz * time_s + phase)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def piece(duration_s, rate_hz, channels=2, seed=0):
    """Noise with a quiet passage that the relative gate leaves out."""
    rng = np.random.default_rng(seed)
    audio = rng.standard_normal((round(duration_s * rate_hz), channels)) * 0.1
    audio[len(audio) // 3 : len(audio) // 2] *= 0.02
    return audio.astype(np.float32)


def analyse(audio, rate_hz, block_samples=5000):
    analyser = FrameAnalyser(rate_hz, audio.shape[1])
    parts = [analyser.push(audio[s : s + block_samples]) for s in range(0, len(audio), block_samples)]
    parts.append(analyser.flush())
    return np.concatenate([p.energy for p in parts]), np.concatenate([p.peak for p in parts])


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_ebu_tech_3341_sine_reads_its_level(rate_hz):
    assert integrated_lufs(sine(1000, -23.0, 5, rate_hz), rate_hz) == pytest.approx(-23.0, abs=0.1)


def test_silence_is_minus_infinity():
    assert integrated_lufs(np.zeros((44_100, 2), np.float32), 44_100) == -np.inf
    assert true_peak_dbtp(np.zeros((44_100, 2), np.float32), 44_100) == -np.inf


def test_clip_shorter_than_a_gating_block_is_still_measured():
    short = integrated_lufs(sine(1000, -20.0, 0.2, 44_100), 44_100)
    assert short == pytest.approx(-23.0, abs=0.3)


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 44_100, 96_000])
@pytest.mark.parametrize("duration_s", [0.2, 1.0, 3.04, 3.06])
@pytest.mark.parametrize("channels", [1, 2])
def test_frames_read_what_pyloudnorm_reads(rate_hz, duration_s, channels):
    audio = piece(duration_s, rate_hz, channels)
    energy, _ = analyse(audio, rate_hz)
    assert gated_lufs(energy, len(audio), rate_hz) == pytest.approx(integrated_lufs(audio, rate_hz), abs=0.01)


def test_true_peak_finds_what_lies_between_samples():
    # A quarter of the sampling rate at 45°: every sample is 3.01 dB under the crest.
    audio = sine(11_025, -6.0, 1.0, 44_100, phase=np.pi / 4)
    fade = np.clip(np.minimum(np.arange(44_100), np.arange(44_100)[::-1]) / 4410, 0, 1)[:, None]
    audio = (audio * fade).astype(np.float32)
    assert 20 * np.log10(np.abs(audio).max()) == pytest.approx(-9.01, abs=0.01)
    assert true_peak_dbtp(audio, 44_100) == pytest.approx(-6.0, abs=0.05)


def test_true_peak_does_not_depend_on_where_blocks_are_cut():
    audio = piece(3.0, 44_100)
    audio[1 << 16] = 0.95
    assert true_peak_dbtp(audio, 44_100) == pytest.approx(true_peak_dbtp(audio[777:], 44_100), abs=0.01)


def test_frame_peaks_cover_every_sample_at_its_place():
    audio = piece(0.5, 44_100)
    audio[10_000] = 0.9
    _, peak = analyse(audio, 44_100)
    assert len(peak) == -(-len(audio) // FRAME_SAMPLES)
    assert peak[10_000 // FRAME_SAMPLES] >= np.float32(0.9)
    assert int(peak.argmax()) == 10_000 // FRAME_SAMPLES
    assert 20 * np.log10(peak.max()) == pytest.approx(true_peak_dbtp(audio, 44_100), abs=0.01)


def test_the_filter_is_the_one_that_agrees_with_libebur128():
    audio = piece(2.0, 48_000)
    exact = pyloudnorm.Meter(48_000, filter_class="DeMan").integrated_loudness(audio)
    assert integrated_lufs(audio, 48_000) == pytest.approx(exact, abs=1e-6)
