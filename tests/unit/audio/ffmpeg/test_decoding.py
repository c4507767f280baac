"""FFmpeg's decoders in a process of their own: what phones record is heard, and what harms is kept there."""

import sys

import numpy as np
import pytest

from orchestrion.audio.ffmpeg.decoding import UndecodedError, decode
from tests.recordings import recorded, tune, wav

RATE_HZ = 48_000
LIMITS = {"max_s": 120.0, "max_values_per_s": 384_000}


def similarity(audio: np.ndarray, to: np.ndarray) -> float:
    """The correlation of two waves where they fit best: codecs delay by up to a tenth of a second."""
    size = 1 << (len(audio) + len(to)).bit_length()
    together = np.fft.irfft(np.fft.rfft(audio, size) * np.conj(np.fft.rfft(to, size)))
    return float(np.abs(together).max() / np.sqrt(np.square(audio).sum() * np.square(to).sum()))


@pytest.mark.parametrize(
    "container, codec", [("ipod", "aac"), ("ipod", "alac"), ("mp4", "aac"), ("adts", "aac"), ("webm", "libopus")]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_what_phones_and_browsers_record_sounds_as_it_did(container, codec, channels):
    played = tune(RATE_HZ)[:, None] * [0.5, 1.0][-channels:]

    audio, rate_hz = decode(recorded(container, codec, played), **LIMITS)

    assert (rate_hz, audio.dtype, audio.shape[1]) == (RATE_HZ, np.float32, channels)
    assert len(audio) == pytest.approx(len(played), abs=0.1 * RATE_HZ)
    assert similarity(audio[:, -1], played[:, -1]) > 0.98
    assert np.square(audio).mean(axis=0) == pytest.approx(np.square(played).mean(axis=0), rel=0.1)


def test_of_a_long_file_no_more_is_decoded_than_may_be_used():
    audio, rate_hz = decode(recorded("ipod", "aac"), max_s=0.5, max_values_per_s=384_000)

    assert len(audio) == 0.5 * rate_hz + 1


@pytest.mark.parametrize(
    "data, complaint",
    [
        (b"\0\0\0\x1cftypM4A \0\0\0\0M4A mp42isom", "damaged, or no recording"),
        (recorded("ipod", "aac")[:5000], "damaged, or no recording"),
        (b"", "damaged, or no recording"),
        (wav(), "damaged, or no recording"),  # A container that is not on the list.
        (recorded("matroska", "ac3"), "no sound in it of a kind that is read"),  # A codec that is not.
    ],
    ids=["head", "half", "nothing", "WAV", "AC-3"],
)
def test_what_has_no_sound_for_us_is_said_to_have_none(data, complaint):
    with pytest.raises(UndecodedError, match=complaint):
        decode(data, **LIMITS)


def test_channels_and_rates_that_nobody_records_are_not_decoded():
    with pytest.raises(UndecodedError, match="it has 1 channels at 48000 Hz"):
        decode(recorded("ipod", "aac"), max_s=120.0, max_values_per_s=40_000)


@pytest.mark.parametrize(
    "does, complaint",
    [
        ("import os; os.abort()", "reading it was ended by SIGABRT"),
        ("import time; time.sleep(60)", "reading it took more than 2 s"),
        ("print('x' * 100)", "gives nonsense"),
        ("print('[1]')", "gives nonsense"),
        ('print(\'{"rate_hz": 0, "channels": -1, "frames": 0}\')', "gives nonsense"),
        ('print(\'{"rate_hz": 8000, "channels": 1, "frames": 8000}\'); print("x" * 100)', "reading it ended with 0"),
        ('print(\'{"rate_hz": 8000, "channels": 1, "frames": 80000000}\')', "longer than it says"),
        ('print(\'{"rate_hz": 48000, "channels": 99, "frames": 1}\')', "longer than it says"),
    ],
    ids=["dies", "hangs", "talks", "lists", "gives no rate", "ends early", "gives too much", "gives too many channels"],
)
def test_a_process_that_misbehaves_costs_the_file_and_no_more(does, complaint):
    command = (sys.executable, "-c", "import sys; sys.stdin.buffer.read(100)\n" + does)

    with pytest.raises(UndecodedError, match=complaint):
        decode(bytes(1000), **LIMITS, command=command, timeout_s=2.0)
