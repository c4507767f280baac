"""What makes each style what it is, from its score: patterns of the drums, instruments, harmony and form."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.signal import butter, find_peaks, sosfiltfilt

from orchestrion.models.composer.composition import drums
from orchestrion.models.composer.composition.repertoire import RECIPES
from orchestrion.models.composer.mixer import _driven as driven
from orchestrion.models.composer.model import compose
from orchestrion.models.composer.score import Note, Part, Score, Section
from orchestrion.models.composer.sound import electronic
from orchestrion.models.composer.sound.synth import SAMPLE_RATE_HZ
from orchestrion.models.protocol import Conditioning
from orchestrion.tracks.musical_key import Key
from orchestrion.tracks.said import said_in
from orchestrion.tracks.vocabulary import STYLES

SEEDS = (0, 1, 2)
BRASS = {56, 60, 61}
WOODWINDS = {71, 73}
CHOIR = 52


def score_of(style: str, seed: int = 0, duration_s: float = 60.0, **changes: object) -> Score:
    fields: dict[str, object] = {
        "prompt": style, "negative_prompt": "", "style": style, "mood": None, "tempo_bpm": None, "key": None,
        "duration_s": duration_s, "seed": seed, "theme": None,
    }  # fmt: skip
    return compose(Conditioning(**(fields | changes)))[1]


def part_of(score: Score, role: str) -> Part:
    part = score.part(role)
    assert part is not None, role
    return part


def sections(score: Score, level: int) -> list[Section]:
    """The sections in which at least so much is going on."""
    return [section for section in score.sections if section.level >= level]


def steps(score: Score, key: int, level: int = 3, grid: int = 4, bars: int = 1) -> set[float]:
    """Where in every `bars` bars of full sections a drum is struck, in beats; a section's last bar may be a fill."""
    found = set()
    for section in sections(score, level):
        first, last = section.first_bar * score.metre.beats, section.first_bar + section.bars - 1
        for note in part_of(score, "drums").notes:
            beat = round(note.start * grid) / grid
            if note.pitch == key and first - 0.06 <= note.start and beat < last * score.metre.beats:
                found.add((beat - first) % (bars * score.metre.beats))
    return found


def programs(score: Score) -> set[int]:
    return {part.instrument.program for part in score.parts if not part.instrument.is_drums}


def in_section(score: Score, section: Section, role: str) -> list[Note]:
    first, end = section.first_bar * score.metre.beats, (section.first_bar + section.bars) * score.metre.beats
    return [note for note in part_of(score, role).notes if first - 0.2 <= note.start < end - 0.2]


def pitch_classes(score: Score, role: str) -> set[int]:
    """Above the tonic, before the final chord."""
    notes = [note for note in part_of(score, role).notes if note.start < score.end_beat - 0.2]
    return {(note.pitch - score.key.tonic) % 12 for note in notes}


def test_every_style_has_a_recipe_and_no_recipe_is_without_a_style() -> None:
    assert list(RECIPES) == list(STYLES)


@pytest.mark.parametrize(
    ("prompt", "style"),
    [("samba for a parade of birds", "samba"), ("gospel", "gospel"), ("a dark drone", "drone"), ("K-Pop!", "k-pop"),
     ("ambient drone", "ambient"), ("military march", "march"), ("sitar and tabla, a morning raga", "raga")],
)  # fmt: skip
def test_words_that_meant_another_style_mean_their_own(prompt: str, style: str) -> None:
    assert said_in(prompt).fields["style"] == style


@pytest.mark.parametrize("seed", SEEDS)
def test_dubstep_is_half_time_at_140(seed: int) -> None:
    score = score_of("dubstep", seed)
    assert 130 <= score.tempo.bpm <= 150
    assert steps(score, drums.SNARE) == {2.0}
    assert 0.0 in steps(score, drums.KICK)
    assert part_of(score, "bass").instrument.program == electronic.WOBBLE_BASS


@pytest.mark.parametrize(("beats", "wobbles"), [(2, 4), (1, 3), (0.5, 1)])
def test_wobble_bass_opens_a_whole_number_of_times(beats: float, wobbles: int) -> None:
    hold_s = beats * 60 / 140
    pcm = electronic.render(electronic.WOBBLE_BASS, 36, hold_s)[: round(hold_s * SAMPLE_RATE_HZ)]
    bright = np.abs(sosfiltfilt(butter(2, 800, "high", fs=SAMPLE_RATE_HZ, output="sos"), pcm))
    envelope = sosfiltfilt(butter(2, 16, "low", fs=SAMPLE_RATE_HZ, output="sos"), bright)
    peaks, _ = find_peaks(np.concatenate([[0], envelope, [0]]), prominence=0.4 * envelope.max())
    assert len(peaks) == wobbles


@pytest.mark.parametrize("seed", SEEDS)
def test_reggaeton_has_the_dembow(seed: int) -> None:
    score = score_of("reggaeton", seed)
    assert 85 <= score.tempo.bpm <= 105
    assert steps(score, drums.KICK) == {0.0, 1.0, 2.0, 3.0}
    assert steps(score, drums.SNARE) == {0.75, 1.5, 2.75, 3.5}


@pytest.mark.parametrize("seed", SEEDS)
def test_k_pop_ends_on_a_kick_on_every_beat_under_bright_synths(seed: int) -> None:
    score = score_of("k-pop", seed)
    assert {0.0, 1.0, 2.0, 3.0} <= steps(score, drums.KICK, level=4)
    assert steps(score, drums.CLAP) == {1.0, 3.0}
    assert {electronic.SUPERSAW, electronic.PLUCK} <= programs(score)


@pytest.mark.parametrize("seed", SEEDS)
def test_gospel_is_a_choir_with_organ_piano_and_claps_in_triplets(seed: int) -> None:
    score = score_of("gospel", seed)
    assert {CHOIR, 0, 16} <= programs(score)
    assert steps(score, drums.CLAP, level=2, grid=3) == {1.0, 3.0}
    # In twelfths of a beat: on it, or on its second or third triplet.
    struck = [note.start for note in part_of(score, "comp").notes if note.start < score.end_beat - 0.2]
    assert {round(start * 12) % 12 for start in struck} == {0, 4, 8}


@pytest.mark.parametrize("seed", SEEDS)
def test_flamenco_claps_the_twelve_beats_of_the_compas(seed: int) -> None:
    score = score_of("flamenco", seed)
    loud: Counter[int] = Counter()
    for section in sections(score, 2):
        for note in part_of(score, "drums").notes:
            beat = round(note.start * 2) / 2 - section.first_bar * 3
            if note.pitch == drums.CLAP and 0 <= beat < section.bars * 3 and note.velocity > 75:
                loud[int(beat % 12)] += 1
    # Counted from twelve: 12, 3, 6, 8, 10.
    assert set(loud) == {0, 3, 6, 8, 10}
    assert score.metre.beats == 3
    assert score.key.mode == "phrygian"
    assert {24} <= programs(score) <= {24, 25, 32}


def test_flamenco_stays_in_an_asked_minor_key() -> None:
    score = score_of("flamenco", key=Key.parse("A minor"))
    assert 1 not in pitch_classes(score, "bass")


@pytest.mark.parametrize("seed", SEEDS)
def test_samba_answers_low_on_the_second_beat_under_teleco_teco(seed: int) -> None:
    score = score_of("samba", seed)
    assert {1.0, 3.0} <= steps(score, drums.TOM_4, level=2) <= {1.0, 3.0, 3.5, 3.75}
    assert steps(score, drums.TOM_2, level=2) == {0.0, 2.0}
    assert steps(score, drums.HIGH_BONGO) == {0.0, 0.5, 1.0, 1.5, 1.75, 2.25, 2.75, 3.25, 3.5}
    assert len(steps(score, drums.MARACAS, level=2)) == 16


@pytest.mark.parametrize("seed", SEEDS)
def test_raga_is_one_line_over_a_drone_first_free_and_then_in_sixteen_beats(seed: int) -> None:
    score = score_of("raga", seed)
    assert part_of(score, "lead").instrument.program == 104
    for role in ("comp", "pad", "bass"):
        assert pitch_classes(score, role) <= {0, 7}
    alap, *gat = [section for section in score.sections if section.label in "ABC"]
    drummed = {round(note.start) // 4 for note in part_of(score, "drums").notes if note.start < score.end_beat - 0.5}
    assert not drummed & set(range(alap.first_bar, alap.first_bar + alap.bars))
    assert drummed & set(range(gat[0].first_bar, gat[0].first_bar + gat[0].bars))
    slow, quick = (len(in_section(score, one, "lead")) / one.bars for one in (alap, gat[0]))
    assert quick > slow
    # Khali: from the tenth beat to the thirteenth the low drum is silent.
    assert steps(score, drums.LOW_CONGA, bars=4) == set(range(16)) - {9, 10, 11, 12}


@pytest.mark.parametrize("seed", SEEDS)
def test_choral_is_four_voices_note_against_note(seed: int) -> None:
    score = score_of("choral", seed)
    assert programs(score) == {CHOIR}
    assert score.part("drums") is None
    sung = {round(note.start): [] for note in part_of(score, "lead").notes if note.start < score.end_beat - 0.5}
    for part in score.parts:
        for note in part.notes:
            sung.get(round(note.start), []).append(note)
    assert len(sung) > 20
    together = [notes for notes in sung.values() if len(notes) == 4 and len({round(n.length) for n in notes}) == 1]
    # A cadence at the end of an odd section is held by the soprano alone.
    assert len(together) >= 0.9 * len(sung)
    assert all(max(n.start for n in notes) - min(n.start for n in notes) < 0.1 for notes in together)


@pytest.mark.parametrize("seed", SEEDS)
def test_march_is_a_wind_band_with_a_snare_over_a_bass_on_every_beat(seed: int) -> None:
    score = score_of("march", seed)
    assert 105 <= score.tempo.bpm <= 130
    assert {60, 61, *WOODWINDS} <= programs(score) <= {*BRASS, *WOODWINDS}
    assert steps(score, drums.KICK) == {0.0, 2.0}
    assert {0.0, 1.0, 1.75, 2.0, 3.0} <= steps(score, drums.SNARE)
    beats = {round(note.start * 4) / 4 % 4 for note in part_of(score, "bass").notes}
    after = {
        round(note.start * 4) / 4 % 4 for note in part_of(score, "comp").notes if note.start < score.end_beat - 0.2
    }
    assert beats == {0.0, 1.0, 2.0, 3.0}
    assert after == {0.5, 1.5, 2.5, 3.5}


@pytest.mark.parametrize("seed", SEEDS)
def test_drone_has_no_pulse_and_no_chords(seed: int) -> None:
    score = score_of("drone", seed)
    assert score.part("drums") is None
    seconds_per_beat = 60 / score.tempo.bpm
    onsets = sum(len(part.notes) for part in score.parts) / (score.end_beat * seconds_per_beat)
    assert onsets < 1.5
    for role in ("bass", "pad", "comp"):
        part = part_of(score, role)
        assert np.median([note.length for note in part.notes]) * seconds_per_beat > 2
        assert pitch_classes(score, role) <= {0, 7}


@pytest.mark.parametrize("seed", SEEDS)
def test_afrobeats_plays_the_clave_on_the_rim(seed: int) -> None:
    score = score_of("afrobeats", seed)
    assert 95 <= score.tempo.bpm <= 115
    assert steps(score, drums.STICK) == {0.0, 0.75, 1.5, 2.5, 3.0}
    assert len(steps(score, drums.SHAKER, level=2)) >= 12


@pytest.mark.parametrize("seed", SEEDS)
def test_phonk_is_a_cowbell_over_a_driven_808(seed: int) -> None:
    score = score_of("phonk", seed)
    assert part_of(score, "lead").instrument.program == electronic.COWBELL
    assert part_of(score, "bass").instrument.program == electronic.SUB_BASS
    assert next(voice.drive for voice in RECIPES["phonk"].voices if voice.role == "bass") > 1
    assert steps(score, drums.CLAP) == {1.0, 3.0}
    assert score.key.is_minor


@pytest.mark.parametrize(
    "program", [electronic.COWBELL, electronic.TANPURA, electronic.WOBBLE_BASS, electronic.SLOW_DRONE]
)
def test_new_voices_are_in_tune(program: int) -> None:
    pcm = electronic.render(program, 57, 1.5).astype(np.float64)
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)), 2**18))
    place_hz = np.arange(len(spectrum)) * SAMPLE_RATE_HZ / 2**18
    near = (place_hz > 200) & (place_hz < 240)
    assert place_hz[near][spectrum[near].argmax()] == pytest.approx(220, abs=0.8)
    assert np.abs(pcm[-5:]).max() < 1e-3


def test_drive_above_one_makes_soft_sounds_loud_and_loud_ones_no_louder() -> None:
    waves = np.sin(np.linspace(0, 60, 4000))[None].astype(np.float32) * np.array([[0.01], [0.3]], np.float32)

    clean, pushed = driven(waves, 1.0), driven(waves, 6.0)

    assert np.abs(pushed[0]).max() > 4 * np.abs(clean[0]).max()
    assert np.abs(pushed[1]).max() < 1.02 * np.abs(clean[1]).max() < 0.13
