"""What the composer sounds like: exact length, the same bits every time, every style alive."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from orchestrion.audio.pcm import Pcm
from orchestrion.audio.uploads import check_continuation
from orchestrion.errors import InvalidRequest, ModelFailed
from orchestrion.models.composer.composition.recipes import melodic
from orchestrion.models.composer.composition.theme import read_theme
from orchestrion.models.composer.model import Composer
from orchestrion.models.composer.sound.electronic import VOICES, render
from orchestrion.models.composer.sound.synth import SAMPLE_RATE_HZ, NoteSynth
from orchestrion.models.protocol import Conditioning, Generation
from orchestrion.tracks.musical_key import Key
from orchestrion.tracks.vocabulary import STYLES
from tests.performing import generate


def conditioning(style: str | None = "pop", duration_s: float = 4.0, **changes: object) -> Conditioning:
    fields: dict[str, object] = {
        "prompt": style or "music", "negative_prompt": "", "style": style, "mood": None, "tempo_bpm": None, "key": None,
        "duration_s": duration_s, "seed": 0, "theme": None,
    }  # fmt: skip
    return Conditioning(**(fields | changes))


def audio_of(composer: Composer, asked: Conditioning) -> Pcm:
    return generation(generate(composer, [asked])[0]).audio


def generation(outcome: Generation | ModelFailed) -> Generation:
    assert isinstance(outcome, Generation)
    return outcome


def test_info_names_a_licence_and_a_revision(composer: Composer) -> None:
    assert composer.info.weights_licence == "MIT"
    assert composer.info.commercial_use
    assert composer.info.revision == Composer().info.revision


@pytest.fixture(scope="session")
def renders(composer: Composer) -> dict[str, Generation]:
    """Every style in one key and tempo, 6 s."""
    asked = [conditioning(style, 6.0, tempo_bpm=110.0, key=Key(0, "minor")) for style in STYLES]
    return dict(zip(STYLES, map(generation, generate(composer, asked)), strict=True))


@pytest.mark.parametrize("style", STYLES)
def test_every_style_sounds(renders: dict[str, Generation], style: str) -> None:
    made = renders[style]
    audio = made.audio
    assert audio.shape == (6 * SAMPLE_RATE_HZ, 2)
    assert audio.dtype == np.float32
    assert np.isfinite(audio).all()
    rms_db = 20 * np.log10(np.sqrt((audio**2).mean()))
    assert -32 < rms_db < -10
    assert np.abs(audio).max() < 1
    # It starts within half a second and has died away at the end.
    assert np.abs(audio[: SAMPLE_RATE_HZ // 2]).max() > 0.005
    assert np.abs(audio[-200:]).max() < 0.003
    assert made.midi is not None
    assert made.midi.startswith(b"MThd")
    assert made.choices["style"] == style


def test_styles_sound_different(renders: dict[str, Generation]) -> None:
    """No two styles have the same spectrum over time, even in one key and tempo."""
    prints = []
    for style in STYLES:
        frames = renders[style].audio.mean(1)[: 256 * 1024].reshape(-1, 4096)
        bands = np.log10(np.abs(np.fft.rfft(frames, axis=1))[:, :1024].reshape(len(frames), 32, 32).mean(2) + 1e-4)
        prints.append(bands - bands.mean())
    for i, one in enumerate(prints):
        for other in prints[i + 1 :]:
            assert np.abs(one - other).mean() > 0.1


def test_same_request_is_the_same_bits_in_any_company(composer: Composer) -> None:
    asked = [conditioning("jazz"), conditioning("trance"), conditioning("waltz")]
    alone = [audio_of(composer, item) for item in asked]
    together = [generation(outcome).audio for outcome in generate(composer, asked[::-1])][::-1]
    elsewhere = [audio_of(Composer(), item) for item in asked]
    for one, two, three in zip(alone, together, elsewhere, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


def test_interleaved_performances_equal_performances_alone(composer: Composer) -> None:
    asked = [conditioning("funk"), conditioning("cinematic")]
    playing = [composer.perform(item).chunks for item in asked]
    taken = [list(pair) for pair in zip(*playing, strict=True)]
    for number, item in enumerate(asked):
        joined = np.concatenate([pair[number] for pair in taken])
        np.testing.assert_array_equal(joined, audio_of(composer, item))


@pytest.mark.parametrize("duration_s", [1.0, 1.5, 2.0, 3.337])
@pytest.mark.parametrize("style", ["piano", "rock"])
def test_length_is_exact(composer: Composer, style: str, duration_s: float) -> None:
    audio = audio_of(composer, conditioning(style, duration_s))
    assert len(audio) == round(duration_s * SAMPLE_RATE_HZ)
    assert np.abs(audio).max() > 0.02


def test_chunks_come_as_they_are_taken(composer: Composer) -> None:
    performance = composer.perform(conditioning("pop", 600.0))
    first = next(performance.chunks)
    assert 0.1 * SAMPLE_RATE_HZ <= len(first) <= SAMPLE_RATE_HZ
    assert performance.expected_lufs is not None


def test_too_long_a_piece_is_refused(composer: Composer) -> None:
    with pytest.raises(InvalidRequest) as caught:
        composer.perform(conditioning("pop", 601.0))
    assert caught.value.problems[0].field == "duration_s"


def test_choices_say_what_was_made(composer: Composer) -> None:
    asked = conditioning("waltz", 8.0, tempo_bpm=150.0, key=Key.parse("D minor"), mood="sad")
    choices = composer.perform(asked).choices
    assert choices["tempo_bpm"] == 150.0
    assert choices["key"] == "D minor"
    assert choices["mood"] == "sad"
    assert choices["time_signature"] == "3/4"


def test_cached_note_is_the_same_as_a_fresh_one() -> None:
    cached, uncached = NoteSynth(), NoteSynth(cache_bytes=0)
    for program in (0, 48, 91):
        first = cached.note(melodic(program), 60, 90, 0.4).copy()
        cached.note(melodic(61), 50, 110, 0.7)
        np.testing.assert_array_equal(cached.note(melodic(program), 60, 90, 0.4), first)
        uncached.note(melodic(61), 50, 110, 0.7)
        np.testing.assert_array_equal(uncached.note(melodic(program), 60, 90, 0.4), first)


@pytest.mark.parametrize("program", VOICES)
def test_electronic_voice_starts_and_ends_in_silence(program: int) -> None:
    for pitch, hold_s in ((36, 0.05), (60, 0.5), (84, 1.0)):
        note = render(program, pitch, hold_s)
        assert np.isfinite(note).all()
        assert 0.005 < np.abs(note).max() < 1.5
        assert abs(note[-1]) < 1e-3


@pytest.mark.parametrize("program", [73, 40, 11])
def test_melody_is_heard_in_recorded_audio(program: int) -> None:
    """Notes played by an instrument come back as notes: repeated ones apart, none an octave off."""
    pitches = (64, 64, 65, 67, 67, 65, 64, 62, 60, 60, 62, 64, 64, 62, 62)
    beats = (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1.5, 0.5, 2)
    seconds_per_beat, synth, at = 0.6, NoteSynth(), 0.0
    audio = np.zeros(round((sum(beats) * seconds_per_beat + 3) * SAMPLE_RATE_HZ), np.float32)
    for pitch, length in zip(pitches, beats, strict=True):
        note = synth.note(melodic(program), pitch + 5, 90, 0.85 * length * seconds_per_beat)
        note = note[: round(length * seconds_per_beat * SAMPLE_RATE_HZ)]
        first = round(at * SAMPLE_RATE_HZ)
        audio[first : first + len(note)] += note
        at += length * seconds_per_beat
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, SAMPLE_RATE_HZ, format="WAV")
    theme = read_theme(buffer.getvalue())
    assert theme.key == Key.parse("F major")
    assert [note.pitch - theme.notes[0].pitch for note in theme.notes] == [pitch - 64 for pitch in pitches]
    assert abs(theme.notes[0].pitch - 69) in (0, 12)
    starts = np.cumsum((0, *beats[:-1]))
    found = np.array([note.start for note in theme.notes])
    assert theme.tempo_bpm == pytest.approx(100, rel=0.03)
    assert np.abs(found - starts).max() <= 0.5


@pytest.mark.parametrize("rate_hz", [4000, 1000, 1])
def test_a_theme_of_a_very_low_rate_is_played_or_refused_in_words(composer: Composer, rate_hz: int) -> None:
    # Filters and resamplers have broken on such rates elsewhere; what a recorder of 1 kHz cannot hold is not heard.
    seconds = np.arange(3 * rate_hz) / rate_hz
    pitches = np.repeat([60, 64, 67], rate_hz)
    wave = 0.4 * np.sin(2 * np.pi * 440 * 2 ** ((pitches - 69) / 12) * seconds)
    file = io.BytesIO()
    soundfile.write(file, wave, rate_hz, format="WAV", subtype="PCM_16")

    check_continuation(file.getvalue())
    outcome = generate(composer, [conditioning(theme=file.getvalue())])[0]
    if isinstance(outcome, InvalidRequest):
        assert "theme" in str(outcome)
    else:
        assert np.isfinite(generation(outcome).audio).all()
