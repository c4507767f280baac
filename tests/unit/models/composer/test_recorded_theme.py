"""A melody is read from its recording note for note, in the sounds that people record it in."""

import numpy as np
import pytest

from orchestrion.errors import InvalidRequest
from orchestrion.models.composer.composition.theme import read_theme
from tests.midi_files import SCALE
from tests.recordings import RATE_HZ, wav

#: C4 three times, E, G, and back: what is struck again is a note of its own.
REPEATED = (60, 60, 60, 64, 64, 67, 67, 60)
#: An octave and more in a leap, as in "Over the Rainbow".
LEAPS = (60, 72, 71, 67, 69, 71, 72, 60, 76, 62, 48, 67)
ARPEGGIO = (60, 67, 64, 60)


def sounded(
    pitches: tuple[int, ...], *, note_s: float = 0.4, partials: int = 8, vibrato: float = 0.0, vibrato_hz: float = 5.5,
    attack_s: float = 0.02, decay: float = 0.0, breath: float = 0.0,
) -> bytes:  # fmt: skip
    """Notes of so many partials; `vibrato` in semitones to each side, `breath` the level of noise."""
    rng = np.random.default_rng(0)
    notes = [np.zeros(RATE_HZ // 10)]
    seconds = np.arange(round(note_s * RATE_HZ)) / RATE_HZ
    for pitch in pitches:
        semitones = pitch - 69 + vibrato * np.minimum(1, seconds / 0.15) * np.sin(2 * np.pi * vibrato_hz * seconds)
        phase = 2 * np.pi * np.cumsum(440 * 2 ** (semitones / 12)) / RATE_HZ
        wave = sum(np.sin(partial * phase) / partial for partial in range(1, partials + 1))
        edges = np.minimum(1, seconds / attack_s) * np.minimum(1, seconds[::-1] / 0.03) * np.exp(-decay * seconds)
        notes.append(0.2 * edges * wave + breath * rng.standard_normal(len(seconds)))
    return wav(np.clip(np.concatenate(notes), -1, 1).astype(np.float32))


def pitches_of(data: bytes) -> tuple[int, ...]:
    return tuple(note.pitch for note in read_theme(data).notes)


SOUNDS = {
    "sines, without overtones": {"partials": 1},
    "a struck sine": {"partials": 1, "decay": 2.0, "attack_s": 0.005},
    "whistled an octave higher, with breath": {"partials": 1, "vibrato": 0.2, "breath": 0.004, "attack_s": 0.04},
    "rich": {"partials": 12},
    "plucked": {"decay": 5.0, "attack_s": 0.003},
    "sung with a little vibrato": {"vibrato": 0.3, "attack_s": 0.05},
    "sung with vibrato": {"vibrato": 0.5, "attack_s": 0.05},
    "sung with the vibrato of the opera": {"vibrato": 1.0, "attack_s": 0.05},
    "sung with a fast vibrato": {"vibrato": 0.6, "vibrato_hz": 7.0, "attack_s": 0.05},
}


@pytest.mark.parametrize("melody", [SCALE, REPEATED, LEAPS, ARPEGGIO], ids=["scale", "repeated", "leaps", "arpeggio"])
@pytest.mark.parametrize("sound", SOUNDS.values(), ids=SOUNDS.keys())
def test_each_note_is_found_once_and_in_its_octave(sound, melody):
    octave = 12 if sound.get("breath") else 0
    pitches = tuple(pitch + octave for pitch in melody)

    assert pitches_of(sounded(pitches, **sound)) == pitches


def test_a_long_note_with_vibrato_is_not_many():
    assert pitches_of(sounded(ARPEGGIO, note_s=1.5, vibrato=0.6)) == ARPEGGIO


def test_a_telephone_that_keeps_back_the_fundamental_leaves_the_octave():
    audio = np.frombuffer(sounded(SCALE, partials=12)[44:], "<i2") / 32768
    spectrum = np.fft.rfft(audio)
    spectrum[np.fft.rfftfreq(len(audio), 1 / RATE_HZ) < 450] = 0

    assert pitches_of(wav(np.fft.irfft(spectrum, len(audio)).astype(np.float32))) == SCALE


@pytest.mark.parametrize("pitch", [45, 52, 60, 69, 84])
@pytest.mark.parametrize("partials", [1, 8])
def test_one_long_note_is_still_no_melody(pitch, partials):
    with pytest.raises(InvalidRequest, match="no melody was found"):
        read_theme(sounded((pitch,), note_s=3.0, partials=partials))


@pytest.mark.parametrize("level", [0.3, 0.001])
def test_hum_of_the_mains_is_no_melody(level):
    seconds = np.arange(3 * RATE_HZ) / RATE_HZ
    hum = sum(np.sin(2 * np.pi * 50 * partial * seconds) / partial for partial in range(1, 6))

    with pytest.raises(InvalidRequest, match="no melody was found"):
        read_theme(wav((level * hum).astype(np.float32)))
