"""Scores as the composer makes them of a request's fields, for tests that read scores."""

from __future__ import annotations

from orchestrion.models.composer.composition.plan import Plan
from orchestrion.models.composer.model import compose
from orchestrion.models.composer.score import Score
from orchestrion.models.protocol import Conditioning


def conditioning(style: str | None = "pop", duration_s: float = 30.0, **changes: object) -> Conditioning:
    """A request for `style` that asks for nothing else but `changes`."""
    fields: dict[str, object] = {
        "prompt": "a tune", "negative_prompt": "", "style": style, "mood": None, "tempo_bpm": None, "key": None,
        "duration_s": duration_s, "seed": 0, "theme": None,
    }  # fmt: skip
    return Conditioning(**(fields | changes))


def composed(style: str | None = "pop", duration_s: float = 30.0, **changes: object) -> tuple[Plan, Score]:
    """The plan and the score of such a request."""
    return compose(conditioning(style, duration_s, **changes))


def score_of(style: str | None = "pop", duration_s: float = 30.0, **changes: object) -> Score:
    """The score of such a request."""
    return composed(style, duration_s, **changes)[1]
