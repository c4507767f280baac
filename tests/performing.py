"""Pieces made straight by a model, several at a time as an executor has them open."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrion.errors import InvalidRequest, ModelFailed
from orchestrion.models.protocol import Conditioning, Generation, MusicModel


def generate(model: MusicModel, batch: Sequence[Conditioning]) -> list[Generation | ModelFailed | InvalidRequest]:
    """One outcome per input, in order; all are begun before the first is taken to its end."""
    begun = [_outcome(lambda one=one: model.perform(one, interactive=False)) for one in batch]
    return [
        performance
        if isinstance(performance, ModelFailed | InvalidRequest)
        else _outcome(lambda performance=performance: Generation.of(performance, list(performance.chunks)))
        for performance in begun
    ]


def _outcome(call):
    try:
        return call()
    except (ModelFailed, InvalidRequest) as error:
        return error
