"""The models that make music, each behind the one protocol of `protocol.py`."""

from __future__ import annotations

from orchestrion.errors import InvalidRequest
from orchestrion.models.protocol import MusicModel


def load_model(name: str) -> MusicModel:
    """Load the model of this name, ready to perform.

    Raises:
        InvalidRequest: no model has this name.
    """
    if name == "composer":
        from orchestrion.models.composer import Composer

        return Composer()
    raise InvalidRequest.of("model", name, "is not a model of this installation; use 'composer'")
