"""What was asked for, measured in the sound: loops without a seam, dynamics, tempo curves, exact lengths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from orchestrion.models.composer.mixer import mix
from orchestrion.models.composer.model import CONTROLS, Composer
from orchestrion.models.composer.score import Note, Score
from orchestrion.models.composer.sound.synth import SAMPLE_RATE_HZ, NoteSynth
from orchestrion.models.protocol import Conditioning
from orchestrion.tracks.request import CONTROLS as ALL_CONTROLS
from orchestrion.tracks.section import Section
from tests.composing import composed, conditioning

Audio = npt.NDArray[np.float32]


def audio_of(composer: Composer, asked: Conditioning) -> Audio:
    return np.concatenate(list(composer.perform(asked).chunks))


def level_db(audio: Audio) -> float:
    return float(10 * np.log10((audio.astype(np.float64) ** 2).mean() + 1e-12))


def test_the_composers_card_names_what_it_follows(composer: Composer) -> None:
    assert composer.info.controls == CONTROLS
    assert set(CONTROLS) <= set(ALL_CONTROLS)
    assert {"continuation", "guidance", "temperature"}.isdisjoint(CONTROLS)


@pytest.fixture(scope="module")
def synth() -> NoteSynth:
    return NoteSynth()


def unrolled(score: Score, rounds: int) -> Score:
    """The score of a loop written out: played `rounds` times."""
    parts = tuple(
        replace(
            part,
            notes=tuple(
                Note(note.start + number * score.end_beat, note.length, note.pitch, note.velocity)
                for number in range(rounds)
                for note in part.notes
            ),
        )
        for part in score.parts
    )
    return replace(score, parts=parts, end_beat=rounds * score.end_beat)


@pytest.mark.parametrize("style", ["ambient", "house", "lofi", "rock", "celtic"])
def test_a_loop_sounds_as_if_it_had_been_played_before(style: str, synth: NoteSynth) -> None:
    """It is the same as a later round of a piece that repeats it: nothing begins or ends at the seam."""
    bars, tempo_bpm = 2, 120.0
    length_s = bars * 4 * 60 / tempo_bpm
    plan, score = composed(style, length_s, bars=bars, loop=True, tempo_bpm=tempo_bpm, metre="4/4")
    loop = np.concatenate(list(mix(plan, score, synth)))
    total = round(length_s * SAMPLE_RATE_HZ)
    assert loop.shape == (total, 2)
    rounds = 6
    written_out = replace(plan, asked=replace(plan.asked, loop=None), duration_s=rounds * length_s)
    long = np.concatenate(list(mix(written_out, unrolled(score, rounds), synth)))
    # An even round: chord tones go to the left and to the right in turn.
    later = long[4 * total : 5 * total]
    assert level_db(loop - later) < level_db(loop) - (20 if plan.recipe.crackle else 24)
    # What is missing where nothing sounded before is far more than that.
    plain = np.concatenate(list(mix(replace(plan, asked=replace(plan.asked, loop=None)), score, synth)))
    begin = slice(0, SAMPLE_RATE_HZ // 4)
    assert level_db(plain[begin] - later[begin]) > level_db(loop[begin] - later[begin]) + 6
    # At the seam the wave goes on as it goes on elsewhere.
    steps = np.abs(np.diff(loop, axis=0)).max(1)
    assert np.abs(loop[0] - loop[-1]).max() <= np.percentile(steps, 99.9)


@pytest.mark.parametrize("style", ["cinematic", "piano", "house"])
def test_dynamics_are_heard(composer: Composer, style: str) -> None:
    def thirds(dynamics: str | None) -> list[float]:
        audio = audio_of(composer, conditioning(style, 15.0, dynamics=dynamics, tempo_bpm=112.0))
        return [level_db(piece) for piece in np.array_split(audio[: 13 * SAMPLE_RATE_HZ], 3)]

    usual, grows, fades = thirds(None), thirds("crescendo"), thirds("diminuendo")
    assert grows[2] - grows[0] > usual[2] - usual[0] + 6
    assert fades[0] - fades[2] > usual[0] - usual[2] + 6
    assert thirds("soft")[1] < usual[1] - 3


def test_the_expected_loudness_follows_the_dynamics(composer: Composer) -> None:
    expected = {d: composer.perform(conditioning(dynamics=d)).expected_lufs for d in (None, "soft", "loud")}
    assert expected["soft"] < expected[None] < expected["loud"]


@pytest.mark.parametrize(("first", "last"), [(60.0, 150.0), (150.0, 60.0)])
def test_a_tempo_curve_is_heard(composer: Composer, first: float, last: float) -> None:
    """Claps on the second and the fourth beat come closer together, or further apart."""
    fields = {"ensemble": "only", "instruments": ("claps",), "tempo_bpm": first, "tempo_end_bpm": last}
    audio = audio_of(composer, conditioning("pop", 20.0, **fields))
    frames = np.abs(audio.mean(1))[: len(audio) // 441 * 441].reshape(-1, 441).max(1)
    loud = np.flatnonzero((frames > 0.3 * frames.max()) & (np.roll(frames, 1) <= 0.3 * frames.max()))
    onsets_s = loud[np.insert(np.diff(loud) > 40, 0, True)][:-1] * 0.01
    paces = 2 * 60 / np.diff(onsets_s)
    middles_s = (onsets_s[1:] + onsets_s[:-1]) / 2
    tempo = composed("pop", 20.0, **fields)[1].tempo
    assert len(paces) >= 12
    for at_s, pace in zip(middles_s.tolist(), paces.tolist(), strict=True):
        assert pace == pytest.approx(first + (last - first) * at_s / tempo.seconds(tempo.steps[-1][0]), rel=0.06)


@pytest.mark.parametrize(
    "fields",
    [
        {"metre": "7/8"}, {"tempo_bpm": 80.0, "tempo_end_bpm": 140.0}, {"loop": True}, {"ensemble": "a cappella"},
        {"bars": 2, "tempo_bpm": 100.0}, {"key_end": None, "dynamics": "crescendo"},
        {"sections": (Section("intro", 2.0), Section("verse"))}, {"instruments": ("timpani", "tuba", "claps")},
        {"ensemble": "solo", "instruments": ("cello",), "metre": "5/4"}, {"energy": "low", "exclude": ("drums",)},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("duration_s", [5.003, 6.7771])
def test_length_is_exact_to_the_sample(composer: Composer, fields: dict[str, object], duration_s: float) -> None:
    audio = audio_of(composer, conditioning("folk", duration_s, **fields))
    assert len(audio) == round(duration_s * SAMPLE_RATE_HZ)
    assert np.isfinite(audio).all()
    assert np.abs(audio).max() > 0.02


def test_other_bands_are_about_as_loud_as_a_styles_own(composer: Composer) -> None:
    for style in ("rock", "jazz", "classical"):
        own = level_db(audio_of(composer, conditioning(style, 10.0)))
        for fields in (
            {"ensemble": "solo", "instruments": ("piano",)},
            {"ensemble": "quartet"},
            {"exclude": ("drums",)},
        ):
            assert level_db(audio_of(composer, conditioning(style, 10.0, **fields))) == pytest.approx(own, abs=5)
