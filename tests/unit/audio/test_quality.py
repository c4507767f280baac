"""The gate passes finished audio and stops each kind of broken audio, by name."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from orchestrion.audio.encode import encode
from orchestrion.audio.mastering import FinishSpec, finish
from orchestrion.audio.quality import check, check_encoded
from orchestrion.errors import CheckFailed
from orchestrion.tracks.request import AudioFormat

RATE_HZ = 48_000
SPEC = FinishSpec(4.0, RATE_HZ, -16.0, 0.0, 0.0)


@pytest.fixture
def good():
    rng = np.random.default_rng(0)
    return finish((0.1 * rng.standard_normal((4 * RATE_HZ, 2))).astype(np.float32), RATE_HZ, SPEC)


def failed(findings):
    return {finding.name for finding in findings if not finding.passed}


def test_finished_audio_passes(good):
    findings = check(good, RATE_HZ, SPEC)
    assert failed(findings) == set()
    assert {"loudness", "true peak", "longest silence", "DC offset", "length"} <= {f.name for f in findings}


def test_not_a_number_is_counted(good):
    good[100, 0], good[200, 1] = np.nan, np.inf
    finding = next(f for f in check(good, RATE_HZ, SPEC) if not f.passed)
    assert (finding.name, finding.measured) == ("non-finite samples", 2.0)


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (lambda a: a * np.float32(0.9), "loudness"),
        (lambda a: a * np.float32(4.0), "true peak"),
        (lambda a: a + np.float32(0.01), "DC offset"),
        (lambda a: a[:-2], "length"),
        (lambda a: np.repeat(a[:, :1], 3, axis=1), "channels"),
    ],
)
def test_each_kind_of_damage_is_found(good, damage, name):
    assert name in failed(check(damage(good), RATE_HZ, SPEC))


def test_a_clipped_run_is_found(good):
    good[1000:1003, 1] = 1.0
    assert "longest clipped run" in failed(check(good, RATE_HZ, SPEC))
    good[1000:1003, 1] = [1.0, 0.5, 1.0]
    assert "longest clipped run" not in failed(check(good, RATE_HZ, SPEC))


def test_a_hole_in_the_music_is_found(good):
    good[RATE_HZ // 2 : RATE_HZ // 2 + 3 * RATE_HZ + 10] = 0.0
    assert "longest silence" in failed(check(good, RATE_HZ, SPEC))


@pytest.mark.parametrize("duration_s", [2.0, 4.0])
def test_silence_fails_in_figures_that_json_can_hold(duration_s):
    spec = FinishSpec(duration_s, RATE_HZ, -16.0, 0.0, 0.0)
    findings = check(np.zeros((spec.samples, 2), np.float32), RATE_HZ, spec)
    assert "loudness" in failed(findings)
    json.dumps([asdict(finding) for finding in findings], allow_nan=False)


def test_a_failure_says_figure_limit_and_unit(good):
    message = str(CheckFailed(check(good + np.float32(0.01), RATE_HZ, SPEC)))
    assert message.startswith("DC offset is 0.0") and "may be at most 0.005 of full scale" in message


@pytest.mark.parametrize("format", AudioFormat)
def test_encoded_audio_passes(good, format):
    assert failed(check_encoded(encode(good, RATE_HZ, format), format, SPEC, 2)) == set()


def test_a_file_of_another_format_channel_count_rate_or_length_fails(good):
    flac = encode(good, RATE_HZ, AudioFormat.FLAC)
    assert failed(check_encoded(flac, AudioFormat.WAV, SPEC, 2)) == {"codec mismatches"}
    assert failed(check_encoded(flac, AudioFormat.FLAC, SPEC, 1)) == {"decoded channels"}
    slow = encode(good, 44_100, AudioFormat.FLAC)
    assert failed(check_encoded(slow, AudioFormat.FLAC, SPEC, 2)) == {"decoded sampling rate"}
    short = encode(good[: 3 * RATE_HZ], RATE_HZ, AudioFormat.OPUS)
    assert failed(check_encoded(short, AudioFormat.OPUS, SPEC, 2)) == {"decoded length"}


def test_bytes_that_are_no_audio_fail():
    assert failed(check_encoded(b"nothing", AudioFormat.MP3, SPEC, 2)) == {"decoding errors"}
