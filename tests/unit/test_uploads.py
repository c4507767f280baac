"""What comes with a request as a file: read alike for every model, and refused by the name of its field."""

import io

import mido
import numpy as np
import pytest
import soundfile

from orchestrion.encode import encode
from orchestrion.errors import InvalidRequest
from orchestrion.request import AudioFormat
from orchestrion.uploads import MAX_UPLOAD_S, converted, read_audio, read_continuation, read_midi

RATE_HZ = 8000


def tone(seconds: float, channels: int = 1, rate_hz: int = RATE_HZ) -> np.ndarray:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate_hz)) / rate_hz)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def midi(ticks_per_beat: int = 480) -> bytes:
    sink = io.BytesIO()
    mido.MidiFile(ticks_per_beat=ticks_per_beat, tracks=[mido.MidiTrack()]).save(file=sink)
    return sink.getvalue()


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
        (b"", "neither MIDI nor audio"),
        (b"RIFF but not really", "neither MIDI nor audio"),
        (encode(tone(1), RATE_HZ, AudioFormat.FLAC)[:40], "neither MIDI nor audio"),
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
    audio, rate_hz = read_audio(encode(np.zeros((3600 * 1000, 1), np.float32), 8000, AudioFormat.FLAC), "theme")

    assert len(audio) == MAX_UPLOAD_S * rate_hz + 1


@pytest.mark.parametrize("data", [b"MThd", midi()[:-3], midi(ticks_per_beat=-0x1D80)], ids=["head", "cut", "film"])
def test_broken_midi_is_refused_by_the_name_of_its_field(data):
    with pytest.raises(InvalidRequest, match="MIDI file") as caught:
        read_midi(data, "theme")

    assert caught.value.problems[0].field == "theme"
