"""A theme as a melody model hears it. How it compares with the reference is in tests/parity/test_melody.py."""

import io

import librosa
import mido
import numpy as np
import pytest
import torch

from orchestrion.audio.encode import encode
from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.conditioning.melody import (
    FRAME_SAMPLES,
    HOP_SAMPLES,
    Recording,
    Score,
    chroma_filters,
    melody_prefix,
    read_theme,
)
from orchestrion.models.musicgen.weights import Projection
from orchestrion.tracks.request import AudioFormat

RATE_HZ = 32_000
#: The beginning of a song, in half seconds: (MIDI pitch, beats).
TUNE = ((64, 1), (64, 1), (65, 1), (67, 1), (67, 1), (65, 1), (64, 1), (62, 1), (60, 1), (62, 1), (64, 1.5), (62, 2))


def midi(*tracks, tempos=((0, 120.0),), kind: int = 1) -> bytes:
    """Tracks of (start beat, beats, pitch) with their channel; `tempos` are (beat, bpm)."""
    conductor, at = mido.MidiTrack(), 0.0
    for beat, bpm in tempos:
        conductor.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm), time=round((beat - at) * 480)))
        at = beat
    file = mido.MidiFile(type=kind, tracks=[conductor])
    for notes, channel in tracks:
        events = [(start, "note_on", pitch) for start, _, pitch in notes]
        events += [(start + beats, "note_off", pitch) for start, beats, pitch in notes]
        track, at = mido.MidiTrack(), 0.0
        for beat, name, pitch in sorted(events):
            track.append(mido.Message(name, note=pitch, velocity=90, channel=channel, time=round((beat - at) * 480)))
            at = beat
        file.tracks.append(track)
    sink = io.BytesIO()
    file.save(file=sink)
    return sink.getvalue()


def melody(*pitches_and_beats, transpose=0):
    notes, at = [], 0.0
    for pitch, beats in pitches_and_beats:
        notes.append((at, beats, pitch + transpose))
        at += beats
    return notes


def played(notes, seconds: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Beats of half a second as sine waves: [samples]."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    wave = np.zeros(len(time_s))
    for start, beats, pitch in notes:
        sounds = (time_s >= 0.5 * start) & (time_s < 0.5 * (start + beats))
        wave += 0.2 * sounds * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time_s)
    return wave.astype(np.float32)


def classes(chroma: np.ndarray) -> list[int]:
    assert chroma.dtype == np.float32
    assert set(np.unique(chroma)) == {0.0, 1.0}
    assert (chroma.sum(axis=1) == 1).all()
    return chroma.argmax(axis=1).tolist()


# Recordings


@pytest.mark.parametrize("rate_hz", [32_000, 16_000])
def test_the_filters_are_librosas(rate_hz):
    theirs = librosa.filters.chroma(sr=rate_hz, n_fft=FRAME_SAMPLES, tuning=0, n_chroma=12)

    assert np.allclose(chroma_filters(rate_hz), theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("pitch", range(48, 84, 5))
def test_a_tone_is_heard_as_its_pitch_class(pitch):
    recording = Recording(played([(0, 4, pitch)], 2), RATE_HZ)

    assert classes(recording.chroma(10)) == [pitch % 12] * 10


def test_a_short_theme_is_repeated_and_a_long_one_cut():
    wave = played(melody(*TUNE), 6)
    whole = Recording(wave, RATE_HZ).chroma(1 + len(wave) // HOP_SAMPLES)

    assert np.array_equal(Recording(wave, RATE_HZ).chroma(100), np.resize(whole, (100, 12)))
    assert np.array_equal(Recording(wave, RATE_HZ).chroma(20), whole[:20])


def test_a_window_of_a_long_piece_hears_the_theme_from_there_on_played_over_and_over():
    wave = played(melody(*TUNE), 7)
    long = np.tile(wave, 9)

    window = Recording(wave, RATE_HZ).window(18.0, 30.0)

    assert np.array_equal(window.wave, long[18 * RATE_HZ : 48 * RATE_HZ])
    assert len(classes(window.chroma(235))) == 235


@pytest.mark.parametrize("format", [AudioFormat.WAV, AudioFormat.FLAC, AudioFormat.MP3, AudioFormat.OGG])
def test_the_same_melody_is_heard_from_any_file(format):
    expected = Recording(played(melody(*TUNE), 6), RATE_HZ).chroma(46)
    stereo = np.repeat(played(melody(*TUNE), 6, 44_100)[:, None], 2, axis=1)

    heard = read_theme(encode(stereo, 44_100, format), RATE_HZ).chroma(46)

    # A compressed file begins some milliseconds later, which moves the border between two notes.
    assert np.mean(heard == expected) > 0.97


# Scores


def test_a_score_is_heard_as_its_notes_would_be_played():
    notes = melody(*TUNE)
    score = read_theme(midi((notes, 0)), RATE_HZ)
    recording = Recording(played(notes, score.samples / RATE_HZ), RATE_HZ)

    same = np.array(classes(score.chroma(50))) == classes(recording.chroma(50))

    assert same.mean() > 0.95


def test_the_tune_outweighs_the_bass_and_drums_are_not_heard():
    tune, bass, drums = melody((76, 2), (77, 2)), [(0, 4, 38)], [(beat / 4, 0.25, 42) for beat in range(16)]

    alone = read_theme(midi((tune, 0)), RATE_HZ).chroma(16)
    together = read_theme(midi((tune, 0), (bass, 1), (drums, 9)), RATE_HZ).chroma(16)

    assert np.array_equal(together, alone)
    assert {4, 5} == set(classes(alone))


def test_a_score_is_heard_in_its_tempo():
    notes = melody((60, 4), (67, 4))

    slow_then_fast = read_theme(midi((notes, 0), tempos=((0, 60.0), (4, 240.0))), RATE_HZ)

    assert slow_then_fast.samples == 5 * RATE_HZ
    heard = classes(slow_then_fast.chroma(1 + 5 * RATE_HZ // HOP_SAMPLES))
    border = 4 * RATE_HZ / HOP_SAMPLES
    assert heard == [0 if frame < border else 7 for frame in range(len(heard))]


@pytest.mark.parametrize("start_s", [0.0, 18.0, 36.0])
def test_a_window_of_a_score_is_the_window_of_its_recording(start_s):
    notes = melody(*TUNE)
    score = read_theme(midi((notes, 0)), RATE_HZ)
    recording = Recording(played(notes, score.samples / RATE_HZ), RATE_HZ)

    windows = [theme.window(start_s, 30.0).chroma(235) for theme in (score, recording)]

    assert np.mean(np.array(classes(windows[0])) == classes(windows[1])) > 0.95


def test_silence_is_heard_as_c_in_both():
    score = read_theme(midi(([(8, 1, 69)], 0)), RATE_HZ)
    recording = Recording(played([(8, 1, 69)], 4.5), RATE_HZ)

    assert classes(score.chroma(20)) == classes(recording.chroma(20)) == [0] * 20


@pytest.mark.parametrize("seconds", [0.1, 0.3])
def test_a_theme_shorter_than_a_frame_is_heard(seconds):
    assert set(classes(Recording(played([(0, 1, 69)], seconds), RATE_HZ).chroma(235))) == {9}
    assert isinstance(theme := read_theme(midi(([(0, 2 * seconds, 69)], 0)), RATE_HZ), Score)
    assert 9 in classes(theme.chroma(235))


@pytest.mark.parametrize(
    "theme, complaint",
    [
        (b"", "the file is empty"),
        (encode(np.zeros((8000, 1), np.float32), 8000, AudioFormat.WAV), "silent"),
        (encode(np.zeros((0, 1), np.float32), 8000, AudioFormat.WAV), "silent"),
        (midi(), "no notes"),
        (midi(([(0, 4, 42)], 9)), "no notes"),
        (midi((melody(*TUNE), 0), (melody(*TUNE), 1), kind=2), "type 0 or 1"),
        (midi((melody(*TUNE), 0))[:10], "export it again"),
    ],
    ids=["empty", "silence", "no samples", "no notes", "only drums", "type 2", "cut"],
)
def test_what_has_no_melody_is_refused_by_name(theme, complaint):
    with pytest.raises(InvalidRequest, match=complaint) as caught:
        read_theme(theme, RATE_HZ)

    assert caught.value.problems[0].field == "theme"


# What comes before the codes

DIM, FRAMES = 8, 5
PROJECTION = Projection(
    torch.randn(DIM, 12, generator=torch.Generator().manual_seed(1)),
    torch.randn(DIM, generator=torch.Generator().manual_seed(2)),
)
SILENT = PROJECTION.weight.numpy()[:, 0] + PROJECTION.bias.numpy()
TEXT = np.random.default_rng(3).standard_normal((3, DIM)).astype(np.float32)


def test_chroma_comes_first_and_text_after_it():
    chroma = Recording(played([(0, 4, 69)], 2), RATE_HZ).chroma(FRAMES)

    prefix, null_prefix = melody_prefix(chroma, TEXT, None, PROJECTION, FRAMES)

    tone = PROJECTION.weight.numpy()[:, 9] + PROJECTION.bias.numpy()
    assert prefix.dtype == null_prefix.dtype == np.float32
    assert np.array_equal(prefix, np.concatenate([np.tile(tone, (FRAMES, 1)), TEXT]))
    assert np.array_equal(null_prefix, np.concatenate([np.tile(SILENT, (FRAMES, 1)), np.zeros_like(TEXT)]))


@pytest.mark.parametrize("text, null_text, columns", [(1, 4, 4), (4, 1, 4), (0, 2, 2), (2, 0, 2), (0, 0, 1)])
def test_both_streams_have_as_many_columns_as_the_longer_text(text, null_text, columns):
    texts = [np.ones((length, DIM), np.float32) if length else None for length in (text, null_text)]

    prefixes = melody_prefix(None, *texts, PROJECTION, FRAMES)

    for prefix, length in zip(prefixes, (text, null_text), strict=True):
        said = np.zeros((columns, DIM))
        said[:length] = 1
        assert np.array_equal(prefix, np.concatenate([np.tile(SILENT, (FRAMES, 1)), said]))
