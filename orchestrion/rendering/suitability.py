"""Whether a model can take a request, decided from what the model says of itself: without it, and before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from orchestrion.errors import InvalidRequest, RightsRefused
from orchestrion.models.protocol import ModelInfo
from orchestrion.tracks.instruments import INSTRUMENTS
from orchestrion.tracks.intent.intent import Intent, NotFollowed
from orchestrion.tracks.request import CONTROLS, MIN_GUIDANCE, Purpose, TrackRequest, as_written
from orchestrion.tracks.said import said_in

M = TypeVar("M")


def named_model(request: TrackRequest, models: Mapping[str, M]) -> M:
    """What `models` has under the name that the request gives.

    Raises:
        InvalidRequest: nothing.
    """
    model = models.get(request.composition.model)
    if model is None:
        raise InvalidRequest.of("model", request.composition.model, "is not loaded here; use " + " or ".join(models))
    return model


def refuse_unsuitable(request: TrackRequest, info: ModelInfo) -> None:
    """Do nothing, unless the model cannot or must not make this.

    What only the words ask for refuses nothing: `told_intent` says what of it the model does not follow.

    Raises:
        InvalidRequest: it is too long for the model, or names a control that the model does not follow.
        RightsRefused: the weights' licence forbids the purpose, also for a track that others may have.
    """
    if request.purpose is Purpose.COMMERCIAL and not info.commercial_use:
        raise RightsRefused(
            f"the weights of {info.name} are under {info.weights_licence}, which forbids commercial use; choose "
            "another model, or declare purpose 'non-commercial' or 'research' if that is true"
        )
    if request.composition.duration_s > info.max_duration_s:
        raise InvalidRequest.of(
            "duration_s", request.composition.duration_s, f"{info.name} makes at most {info.max_duration_s:g} s"
        )
    followed = _followed(request, info)
    for name in CONTROLS:
        given = getattr(request.composition, name)
        if given is not None and name not in followed and name not in request.said:
            message = f"{info.name} cannot follow this; leave it out or change the model"
            raise InvalidRequest.of(name, as_written(given), message)


def told_intent(request: TrackRequest, info: ModelInfo) -> Intent:
    """What was understood of a request's words, with what this model does not follow of it."""
    ignored = sorted(request.said - _followed(request, info))
    missing = [
        NotFollowed(words, "model", f"{info.name} does not follow {name}; the composer does")
        for name in ignored
        for words in said_in(request.composition.prompt).words.get(name, ())
    ]
    told = request.intent.not_followed
    if info.hears:
        # It is told the own names of genres and instruments, and plays none in their place.
        named = [("style", words) for words in said_in(request.composition.prompt).words.get("style", ())]
        named += [("instrument", r.words) for r in request.intent.of("instruments") if r.value in INSTRUMENTS]
        told = tuple(one for one in told if (one.kind, one.words) not in named)
    return replace(request.intent, not_followed=(*told, *missing))


def _followed(request: TrackRequest, info: ModelInfo) -> frozenset[str]:
    """The controls that this request can have of the model."""
    followed = frozenset({*info.controls, *info.hears})
    # What is heard of it is what guidance pushes away from, and there is none.
    is_in_vain = "exclude" in info.hears and request.composition.guidance == MIN_GUIDANCE
    return followed - {"exclude"} if is_in_vain else followed
