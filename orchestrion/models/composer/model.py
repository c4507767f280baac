"""The composer as a `MusicModel`."""

from __future__ import annotations

import hashlib
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from orchestrion.errors import InvalidRequest
from orchestrion.models.composer.composition.arrange import arrange
from orchestrion.models.composer.composition.plan import Plan, make_plan
from orchestrion.models.composer.composition.theme import Theme, read_theme
from orchestrion.models.composer.metre import METRES
from orchestrion.models.composer.mixer import expected_lufs, mix, warm_up
from orchestrion.models.composer.score import Score, midi_bytes
from orchestrion.models.composer.sound.synth import SAMPLE_RATE_HZ, SOUND_FONT, NoteSynth
from orchestrion.models.protocol import Conditioning, ModelInfo, Performance, Prepared
from orchestrion.tracks.said import reader_sources

MAX_DURATION_S: Final = 600.0
#: The fields of a request, beside those that all models have, that the composer follows.
CONTROLS: Final = (
    *("theme", "exclude", "instruments", "ensemble", "metre", "sections", "bars", "loop"),
    *("tempo_end_bpm", "key_end", "energy", "dynamics"),
)
#: What decides beside our own source how a theme is heard.
_THEME_READERS: Final = tuple(Path(__file__).parents[2] / f"audio/{name}.py" for name in ("mending", "midi", "uploads"))


class Composer:
    """Composes a score from the request and plays it on sampled instruments.

    Loading takes about a second and 260 MiB (the sound font, decoded). One thread at a time may use an instance.
    """

    def __init__(self, name: str = "composer") -> None:
        self._synth = NoteSynth()
        warm_up()
        self._info = ModelInfo(
            name=name,
            revision=_revision(),
            weights_licence="MIT",
            commercial_use=True,
            sample_rate_hz=SAMPLE_RATE_HZ,
            channels=2,
            max_duration_s=MAX_DURATION_S,
            controls=CONTROLS,
        )

    @property
    def info(self) -> ModelInfo:
        """What this model is."""
        return self._info

    def prepare(self, conditioning: Conditioning) -> Theme | None:
        """Read the theme, which takes a second or two of a recording; the rest takes milliseconds.

        Raises:
            InvalidRequest: the theme cannot be read.
        """
        return read_theme(conditioning.theme) if conditioning.theme is not None else None

    def perform(
        self,
        conditioning: Conditioning,
        *,
        interactive: bool = True,
        resume: bytes | None = None,
        prepared: Prepared | None = None,
    ) -> Performance:
        """Compose the whole score now; play it as its chunks are taken. There are no checkpoints to `resume` from.

        Raises:
            InvalidRequest: the theme cannot be read or the length is beyond `max_duration_s`.
        """
        if prepared is not None and not isinstance(prepared, Theme):
            raise ValueError("what was prepared is no theme")
        plan, score = compose(conditioning, prepared)
        return Performance(
            chunks=mix(plan, score, self._synth),
            write_midi=partial(midi_bytes, score),
            expected_lufs=expected_lufs(plan),
            choices=_choices(plan, score),
        )


def compose(conditioning: Conditioning, theme: Theme | None = None) -> tuple[Plan, Score]:
    """The plan and the score for a request, without a sound. Its theme is read here if it is not given.

    Raises:
        InvalidRequest: the theme cannot be read or the length is beyond the model.
    """
    if not 0 < conditioning.duration_s <= MAX_DURATION_S:
        raise InvalidRequest.of("duration_s", conditioning.duration_s, f"give at most {MAX_DURATION_S:g} s")
    if theme is None and conditioning.theme is not None:
        theme = read_theme(conditioning.theme)
    if theme is not None and theme.metre is not None:
        theme = theme.in_beats_of(METRES[theme.metre].beat_quarters)
    plan = (
        make_plan(conditioning, theme.key, theme.tempo_bpm, theme.metre)
        if theme is not None
        else make_plan(conditioning, None, None)
    )
    return plan, arrange(plan, theme)


def _choices(plan: Plan, score: Score) -> dict[str, str | float]:
    choices: dict[str, str | float] = {
        "tempo_bpm": plan.tempo_bpm,
        "key": str(plan.key),
        "style": plan.style,
        "mood": plan.mood or "none",
        "form": score.form,
        "time_signature": str(score.metre),
        "instruments": ", ".join(f"{part.role}: {part.instrument.name}" for part in score.parts),
    }
    return choices | _followed(plan, score)


def _followed(plan: Plan, score: Score) -> dict[str, str | float]:
    """What came of the fields that not every request has, and of no others: older records stay as they are."""
    asked = plan.asked
    followed: dict[str, str | float] = {}
    if asked.ensemble is not None:
        followed["ensemble"] = f"{asked.ensemble}, {len(score.parts)} parts"
    if plan.band.played_by:
        followed["played_by"] = ", ".join(f"{name}: {by}" for name, by in plan.band.played_by)
    if asked.tempo_end_bpm is not None:
        followed["tempo_end_bpm"] = round(score.tempo.steps[-1][1], 2)
    if plan.modulation is not None:
        bar, key = plan.modulation
        followed["key_end"] = f"{key} from {score.tempo.seconds(bar * score.metre.beats):.2f} s"
    if asked.bars is not None or asked.loop:
        followed["bars"] = plan.bars
    if asked.sections is not None:
        followed["sections"] = ", ".join(_section_times(plan, score))
    if asked.dynamics is not None:
        followed["dynamics"] = asked.dynamics
    if asked.energy is not None:
        followed["energy"] = asked.energy
    return followed


def _section_times(plan: Plan, score: Score) -> list[str]:
    """Each section with when it begins and ends; the last has the final chord."""
    starts_s = [score.tempo.seconds(section.first_bar * score.metre.beats) for section in score.sections]
    ends_s = [*starts_s[1:], plan.duration_s]
    return [
        f"{section.label} {start:.2f}–{end:.2f} s"
        for section, start, end in zip(score.sections, starts_s, ends_s, strict=True)
    ]


def _revision() -> str:
    """SHA-256 over what decides the output: the composer's source, the sound font and the libraries' versions."""
    digest = hashlib.sha256()
    for path in (*sorted(Path(__file__).parent.rglob("*.py")), *_THEME_READERS, *reader_sources(), SOUND_FONT):
        digest.update(path.name.encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    for package in ("tinysoundfont", "numpy", "scipy", "soundfile", "soxr", "swift-f0"):
        digest.update(f"{package} {version(package)}\0".encode())
    return f"sha256:{digest.hexdigest()}"
