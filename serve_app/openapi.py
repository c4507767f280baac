"""What the OpenAPI document says beyond what routes declare: the request's schema, its examples, and the error form."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from orchestrion import __version__
from orchestrion.encode import MEDIA_TYPES
from orchestrion.request import TrackSpec
from serve_app.http_errors import PROBLEM_MEDIA_TYPE, STATUS_OF_REASON

EXAMPLE_TRACK_ID: Final = "trk_5xh6zv2q3k7rj4ml2pa6cw3d7ye5tbn4"
EXAMPLE_THEME: Final = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_REF: Final = "#/components/schemas/"

TRACK_EXAMPLES: Final[dict[str, Any]] = {
    "words": {
        "summary": "Everything in the prompt's words",
        "value": {"prompt": "slow sad piano in D minor, 70 bpm, 20 seconds"},
    },
    "fields": {
        "summary": "Everything in fields",
        "value": {
            "prompt": "neon city at night",
            "style": "synthwave",
            "mood": "nostalgic",
            "tempo_bpm": 100,
            "key": "A minor",
            "duration_s": 30,
            "seed": 7,
            "format": "flac",
            "fade_out_s": 2,
            "requester": "studio-3",
            "purpose": "commercial",
        },
    },
    "theme": {
        "summary": "Around an uploaded melody",
        "value": {"prompt": "string quartet", "theme": EXAMPLE_THEME, "duration_s": 45, "format": "mp3"},
    },
    "continuation": {
        "summary": "On from uploaded audio, with a model that can",
        "value": {
            "prompt": "string quartet",
            "continuation": EXAMPLE_THEME,
            "duration_s": 25,
            "model": "facebook/musicgen-small",
            "guidance": 4,
            "temperature": 0.9,
            "purpose": "research",
        },
    },
}

TRACK_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": _REF + "TrackSpec"}, "examples": TRACK_EXAMPLES}},
    }
}
THEME_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "An audio file in any container libsndfile reads, or a Standard MIDI File; at most 120 s.",
        "content": {
            name: {"schema": {"type": "string", "format": "binary"}}
            for name in ("application/octet-stream", "audio/midi")
        },
    }
}
LINKS_EXAMPLE: Final = {
    name: f"/v1/tracks/{EXAMPLE_TRACK_ID}{path}"
    for name, path in {"self": "", "audio": "/audio", "midi": "/midi", "provenance": "/provenance"}.items()
}
TRACK_EXAMPLE: Final[dict[str, Any]] = {
    "id": EXAMPLE_TRACK_ID,
    "cache": "miss",
    "version": 1,
    "links": LINKS_EXAMPLE,
    "record": {"prompt": "neon city at night", "style": "synthwave", "duration_s": 30.0, "cost_usd": 0.0000113},
}
PROBLEM_EXAMPLE: Final[dict[str, Any]] = {
    "type": "urn:orchestrion:problem:invalid-request",
    "title": "The request cannot be used",
    "status": 422,
    "detail": "tempo_bpm: Input should be less than or equal to 300 (got 900)",
    "problems": [{"field": "tempo_bpm", "value": "900", "message": "Input should be less than or equal to 300"}],
}
_PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "RFC 9457.",
    "required": ["type", "title", "status", "detail", "problems"],
    "properties": {
        "type": {"type": "string", "description": "urn:orchestrion:problem: and the reason"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong and what to do about it."},
        "problems": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("field", "value", "message")},
            },
        },
        "findings": {"type": "array", "items": {"type": "object"}, "description": "Checks that the audio failed."},
    },
}


def json_answer(description: str, example: object) -> dict[str, Any]:
    """A JSON answer with its example, as a value of a route's `responses`."""
    return {"description": description, "content": {"application/json": {"example": example}}}


def audio_answer(description: str) -> dict[str, Any]:
    """An answer that is audio in any of the formats."""
    names = sorted({media_type.split(";")[0] for media_type in MEDIA_TYPES.values()})
    return {
        "description": description,
        "content": {name: {"schema": {"type": "string", "format": "binary"}} for name in names},
    }


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route."""
    content = {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": _REF + "Problem"}, "example": PROBLEM_EXAMPLE}}
    titles = {status: [t for s, t in STATUS_OF_REASON.values() if s == status] for status in statuses}
    return {status: {"description": " / ".join(titles[status]), "content": content} for status in statuses}


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The document for this app, with the schemas that routes refer to by name."""
    document = get_openapi(
        title="Orchestrion",
        version=__version__,
        summary="Music on request: one accountable render path behind two pools.",
        routes=app.routes,
    )
    spec = TrackSpec.model_json_schema(ref_template=_REF + "{model}")
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(spec.pop("$defs", {}))
    schemas["TrackSpec"] = spec
    schemas["Problem"] = _PROBLEM_SCHEMA
    return document
