"""What comes with a request as a file: read alike for every model, and refused by the name of its field."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile

from orchestrion.audio.encode import encode
from orchestrion.audio.uploads import MAX_UPLOAD_S, converted, folded, read_audio, read_continuation
from orchestrion.errors import InvalidRequest
from orchestrion.models.composer.model import Composer
from orchestrion.models.protocol import Conditioning
from orchestrion.tracks.request import AudioFormat
from orchestrion.tracks.spec import TrackSpec
from tests.midi_files import midi
from tests.performing import generate

RATE_HZ = 8000


def tone(seconds: float, channels: int = 1, rate_hz: int = RATE_HZ) -> np.ndarray:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate_hz)) / rate_hz)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


@pytest.mark.parametrize("format", [AudioFormat.WAV, AudioFormat.FLAC, AudioFormat.MP3, AudioFormat.OGG])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_continuation_comes_at_the_models_rate_and_channels(format, channels):
    data = encode(tone(1.5, 3 - channels, 44_100), 44_100, format)

    audio = read_continuation(data, 32_000, channels)

    assert audio.dtype == np.float32
    assert audio.shape == (pytest.approx(48_000, abs=3000), channels)  # MP3 adds up to 50 ms.
    assert np.allclose(audio[1000:40_000], tone(1.5, channels, 32_000)[1000:40_000], atol=0.05) or format != "wav"


def test_audio_that_needs_no_conversion_is_left_as_it_is():
    audio = tone(0.5, 2)

    assert np.array_equal(converted(audio, RATE_HZ, RATE_HZ, 2), audio)
    assert np.array_equal(read_continuation(float_wav(audio), RATE_HZ, 2), audio)


def float_wav(audio: np.ndarray) -> bytes:
    sink = io.BytesIO()
    soundfile.write(sink, audio, RATE_HZ, format="WAV", subtype="FLOAT")
    return sink.getvalue()


def test_one_channel_is_the_mean_of_two():
    left_only = tone(0.1, 2) * [1, 0]

    assert np.allclose(converted(left_only.astype(np.float32), RATE_HZ, RATE_HZ, 1), tone(0.1) / 2)


@pytest.mark.parametrize(
    "data, complaint",
    [
        (b"", "the file is empty"),
        (b"RIFF but not really", "the file is damaged"),
        (encode(tone(1), RATE_HZ, AudioFormat.FLAC)[:40], "the file is damaged"),
        (midi(), "no sound to go on from; give a recording"),
        (encode(tone(0), RATE_HZ, AudioFormat.WAV), "no samples"),
        (float_wav(np.full((100, 1), np.nan)), "NaN"),
        (float_wav(np.full((100, 1), np.inf)), "infinity"),
        (encode(tone(MAX_UPLOAD_S + 1), RATE_HZ, AudioFormat.FLAC), "longer than 120 s; cut it"),
    ],
    ids=["empty", "text", "cut FLAC", "MIDI", "no samples", "NaN", "infinity", "two minutes and a second"],
)
def test_what_cannot_be_gone_on_from_is_refused_by_name(data, complaint):
    with pytest.raises(InvalidRequest, match=complaint) as caught:
        read_continuation(data, 32_000, 1)

    assert caught.value.problems[0].field == "continuation"


def test_a_file_that_unpacks_to_an_hour_is_not_read_to_its_end():
    found = read_audio(encode(np.zeros((3600 * 1000, 1), np.float32), 8000, AudioFormat.FLAC), "theme")

    assert len(found.audio) == MAX_UPLOAD_S * found.rate_hz + 1


def flac_of_silence(seconds: int, rate_hz: int, channels: int) -> bytes:
    sink = io.BytesIO()
    with soundfile.SoundFile(sink, "w", rate_hz, channels, "PCM_16", format="FLAC") as file:
        for _ in range(seconds):
            file.write(np.zeros((rate_hz, channels), np.int16))
    return sink.getvalue()


def wav_header(rate_hz: int, channels: int) -> bytes:
    """Of a WAV file that claims four gigabytes, and has a hundred bytes."""
    form = struct.pack("<HHIIHH", 1, channels, rate_hz, 0xFFFFFFFF, 2, 16)
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", 16) + form + b"data\xff\xff\xff\xf0" + bytes(100)


@pytest.mark.parametrize(
    "data",
    [flac_of_silence(2, 655_350, 8), wav_header(2_000_000_000, 1), wav_header(48_000, 1000)],
    ids=["FLAC", "WAV of 2 GHz", "WAV of 1000 channels"],
)
def test_channels_and_rates_that_nobody_records_are_refused_before_they_take_memory(data):
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match=r"theme: it has \d+ channels at \d+ Hz; give at most stereo"):
            read_audio(data, "theme")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_channels_that_cancel_each_other_out_are_not_lost():
    opposite = tone(0.5) * [1, -1]
    partly = np.concatenate([opposite, tone(0.1, 2)]).astype(np.float32)
    front_is_silent = tone(0.5) * [0, 0, 1, 0, 0, 0]

    assert np.array_equal(folded(opposite.astype(np.float32)), tone(0.5)[:, 0])
    assert np.array_equal(folded(partly), np.concatenate([tone(0.5), tone(0.1)])[:, 0])
    assert np.array_equal(converted(front_is_silent.astype(np.float32), RATE_HZ, RATE_HZ, 2), tone(0.5, 2))
    # Stereo is left as it is where a model has two channels.
    assert np.array_equal(converted(opposite.astype(np.float32), RATE_HZ, RATE_HZ, 2), opposite.astype(np.float32))


def test_themes_that_cannot_be_read_fail_one_by_one_and_not_as_a_batch():
    unreadable = [b"", b"no music", flac_of_silence(1, 8000, 1)[:60], wav_header(8000, 1)[:40], midi(b"")]
    request = TrackSpec(prompt="calm piano", duration_s=1.0).resolve()

    made = generate(Composer(), [Conditioning.of(request.composition, theme, None) for theme in unreadable])

    assert [one.problems[0].field for one in made if isinstance(one, InvalidRequest)] == ["theme"] * len(unreadable)
