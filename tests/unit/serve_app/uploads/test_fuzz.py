"""Broken files bring out a refusal or what can be read of them, and nothing else.

For longer: benchmarks/fuzz_uploads.py.
"""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fuzz_uploads import audio_seeds, midi_seeds, mutated
from orchestrion.audio.ffmpeg.decoding import UndecodedError
from orchestrion.audio.midi import read_midi
from orchestrion.errors import InvalidRequest
from serve_app.uploads.found import UploadUse
from serve_app.uploads.reading import read_upload
from tests.midi_files import chunk, header, midi


def read(data: bytes, use: UploadUse = UploadUse.THEME) -> bool:
    """Whether it is read; False: it is refused in words."""
    try:
        found = read_upload(data, use)
    except InvalidRequest as error:
        assert "object at" not in str(error)
        return False
    assert 0 < found.duration_s <= 120
    assert found.notes is None or 1 <= found.notes <= 256
    assert found.tempo_bpm is None or 40 <= found.tempo_bpm <= 240
    return True


def test_broken_midi_is_read_or_refused():
    rng, seeds = random.Random(1), midi_seeds()

    assert all(read(seed) for seed in seeds)
    assert {read(mutated(rng, seeds)) for _ in range(300)} == {True, False}


@given(st.binary(max_size=400))
def test_events_of_any_bytes_are_notes_within_the_file_or_none(events):
    found = read_midi(midi(events), "theme")

    for note in found.notes:
        assert 0 <= note.start < note.end
        assert 0 <= note.pitch <= 127 and 1 <= note.velocity <= 127 and 0 <= note.channel <= 15
        assert found.seconds(note.start) <= found.seconds(note.end) <= found.duration_s
    assert len(found.notes) <= len(events)
    read(midi(events))


@given(
    st.lists(st.tuples(st.sampled_from([b"MTrk", b"XFIH", b"\0\xffab"]), st.binary(max_size=60), st.integers(-9, 9)))
)
def test_chunks_of_any_kind_and_length_are_passed(chunks):
    body = b"".join(chunk(name, content, longer=max(longer, -len(content))) for name, content, longer in chunks)

    read_midi(header(1, 3) + body, "theme")


@pytest.fixture
def without_ffmpeg(monkeypatch):
    """It has a process for each file, which takes its time; what it does is tried by the benchmark."""

    def undecoded(*_, **__):
        raise UndecodedError("it is damaged")

    monkeypatch.setattr("orchestrion.audio.ffmpeg.decoding.decode", undecoded)


def test_broken_recordings_are_read_or_refused(without_ffmpeg):
    rng, seeds = random.Random(2), audio_seeds()

    assert {read(mutated(rng, seeds), rng.choice(list(UploadUse))) for _ in range(150)} == {True, False}
