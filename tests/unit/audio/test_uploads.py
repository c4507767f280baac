"""What comes with a request as a file: read alike for every model, and refused by the name of its field."""

import io
import struct
import tracemalloc

import mido
import numpy as np
import pytest
import soundfile

from orchestrion.audio.encode import encode
from orchestrion.audio.uploads import (
    MAX_MIDI_BYTES,
    MAX_MIDI_NOTES,
    MAX_UPLOAD_S,
    converted,
    read_audio,
    read_continuation,
    read_midi,
)
from orchestrion.errors import InvalidRequest
from orchestrion.models.composer.model import Composer
from orchestrion.models.protocol import Conditioning
from orchestrion.tracks.request import AudioFormat
from orchestrion.tracks.spec import TrackSpec
from tests.performing import generate

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
        with pytest.raises(InvalidRequest, match=r"theme: has \d+ channels at \d+ Hz; give at most stereo"):
            read_audio(data, "theme")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


NOTE = b"\x01\x90\x3c\x40\x01\x80\x3c\x40"


def midi_of(events: bytes) -> bytes:
    return (
        b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480) + b"MTrk" + struct.pack(">I", len(events) + 4) + events
        + b"\x00\xff\x2f\x00"
    )  # fmt: skip


@pytest.mark.parametrize(
    "data, complaint",
    [
        (midi_of(NOTE * (MAX_MIDI_BYTES // 8)), "has at most 524288 bytes"),
        (midi_of(NOTE * (MAX_MIDI_NOTES + 1)), "has 10001 notes"),
        (midi_of(b"\xff" * 400_000), "a number without an end"),
        (midi_of(b"\xff\xff\xff\xff\x7f\x90\x3c\x40" + NOTE), "a pause of more than 268435455 ticks"),
        (midi_of(b"\x00\xff\x51\x03\x00\x00\x00" + NOTE), "a tempo without end"),
        (midi_of(b"\x00\xff\x59\x02\x02\xf0" + NOTE), "cannot be read"),
    ],
    ids=["bytes", "notes", "number", "pause", "tempo", "key of no scale"],
)
def test_midi_that_would_take_a_model_for_ever_is_refused_by_the_name_of_its_field(data, complaint):
    with pytest.raises(InvalidRequest, match=complaint) as caught:
        read_midi(data, "theme")

    assert caught.value.problems[0].field == "theme"


def test_themes_that_cannot_be_read_fail_one_by_one_and_not_as_a_batch():
    no_tempo = midi_of(b"\x00\xff\x51\x03\x00\x00\x00" + NOTE)
    unreadable = [b"", b"no music", flac_of_silence(1, 8000, 1)[:60], wav_header(8000, 1)[:40], no_tempo]
    request = TrackSpec(prompt="calm piano", duration_s=1.0).resolve()

    made = generate(Composer(), [Conditioning.of(request.composition, theme, None) for theme in unreadable])

    assert [one.problems[0].field for one in made if isinstance(one, InvalidRequest)] == ["theme"] * len(unreadable)
