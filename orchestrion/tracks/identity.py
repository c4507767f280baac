"""Ids of tracks and pieces: hashes of what determines them, so that the same request again is the same track."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import rfc8785

from orchestrion.tracks.request import Composition, TrackRequest


def track_id(request: TrackRequest, model_revision: str, recipe_version: str) -> str:
    """The id of the audio that this request gives with this model revision and finishing recipe.

    Returns:
        "trk_" and 32 lower-case base32 characters (160 bits of SHA-256 over RFC 8785 canonical JSON).
    """
    versions = {"model_revision": model_revision, "recipe_version": recipe_version}
    return "trk_" + _digest(request.determinants() | versions)


def piece_id(composition: Composition, model_revision: str) -> str:
    """The id of what this model revision makes of a composition, in whatever form it is delivered.

    Returns:
        "pce_" and 32 characters, as in a track's id.
    """
    return "pce_" + _digest(composition.determinants() | {"model_revision": model_revision})


def _digest(identity: dict[str, Any]) -> str:
    digest = hashlib.sha256(rfc8785.dumps(identity)).digest()
    return base64.b32encode(digest[:20]).decode("ascii").lower()
