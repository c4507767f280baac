"""Ids of tracks and pieces: hashes of what determines them, so that the same request again is the same track."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

import rfc8785

from orchestrion.tracks.record import TrackRecord
from orchestrion.tracks.request import COMPOSITION_FIELDS, Composition, TrackRequest, determining

_TRACK_ID: Final = re.compile(r"trk_[a-z2-7]{32}")
_PIECE_ID: Final = re.compile(r"pce_[a-z2-7]{32}")


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
    return _piece_id(composition.values(), model_revision)


def piece_id_of(record: TrackRecord) -> str:
    """The id of the piece that a record's track is made of; of older records, that do not say it, worked out."""
    if record.piece_id is not None:
        return record.piece_id
    return _piece_id({name: getattr(record, name) for name in COMPOSITION_FIELDS}, record.model_revision)


def is_track_id(text: str) -> bool:
    """Whether a track could have this id."""
    return _TRACK_ID.fullmatch(text) is not None


def is_piece_id(text: str) -> bool:
    """Whether a piece could have this id."""
    return _PIECE_ID.fullmatch(text) is not None


def _piece_id(composition: Mapping[str, Any], model_revision: str) -> str:
    return "pce_" + _digest(determining(composition) | {"model_revision": model_revision})


def _digest(identity: dict[str, Any]) -> str:
    digest = hashlib.sha256(rfc8785.dumps(identity)).digest()
    return base64.b32encode(digest[:20]).decode("ascii").lower()
