"""A track's id: a hash of what determines its audio, so that the same request again is the same track."""

from __future__ import annotations

import base64
import hashlib

import rfc8785

from orchestrion.tracks.request import TrackRequest


def track_id(request: TrackRequest, model_revision: str, recipe_version: str) -> str:
    """The id of the audio that this request gives with this model revision and finishing recipe.

    Returns:
        "trk_" and 32 lower-case base32 characters (160 bits of SHA-256 over RFC 8785 canonical JSON).
    """
    identity = request.determinants() | {"model_revision": model_revision, "recipe_version": recipe_version}
    digest = hashlib.sha256(rfc8785.dumps(identity)).digest()
    return "trk_" + base64.b32encode(digest[:20]).decode("ascii").lower()
