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
from orchestrion.models.composer.mixer import TARGET_LUFS, mix, warm_up
from orchestrion.models.composer.score import Score, midi_bytes
from orchestrion.models.composer.sound.synth import SAMPLE_RATE_HZ, SOUND_FONT, NoteSynth
from orchestrion.models.protocol import Conditioning, ModelInfo, Performance, Prepared

MAX_DURATION_S: Final = 600.0
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
            controls=("theme",),
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
            expected_lufs=TARGET_LUFS,
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
    plan = (
        make_plan(conditioning, theme.key, theme.tempo_bpm, theme.metre)
        if theme is not None
        else make_plan(conditioning, None, None)
    )
    return plan, arrange(plan, theme)


def _choices(plan: Plan, score: Score) -> dict[str, str | float]:
    return {
        "tempo_bpm": plan.tempo_bpm,
        "key": str(plan.key),
        "style": plan.style,
        "mood": plan.mood or "none",
        "form": score.form,
        "time_signature": f"{score.beats_per_bar}/4",
        "instruments": ", ".join(f"{part.role}: {part.instrument.name}" for part in score.parts),
    }


def _revision() -> str:
    """SHA-256 over what decides the output: the composer's source, the sound font and the libraries' versions."""
    digest = hashlib.sha256()
    for path in (*sorted(Path(__file__).parent.rglob("*.py")), *_THEME_READERS, SOUND_FONT):
        digest.update(path.name.encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    for package in ("tinysoundfont", "numpy", "scipy", "soundfile", "soxr", "swift-f0"):
        digest.update(f"{package} {version(package)}\0".encode())
    return f"sha256:{digest.hexdigest()}"
