"""What the OpenAPI document says beyond what routes declare: schemas, HEAD, the error form, examples that work here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Annotated, Any, Final

from fastapi import FastAPI, Query
from fastapi import Path as PathParameter
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from orchestrion.audio.encode import MEDIA_TYPES
from orchestrion.models.protocol import ModelInfo
from orchestrion.rendering.admission import Priority
from orchestrion.tracks.intent.intent import Intent
from orchestrion.tracks.intent.reader import read_intent
from orchestrion.tracks.record import CALLER_FIELDS, RECORD_FIELDS, TrackRecord
from orchestrion.tracks.request import CONTROLS, SAMPLE_RATES_HZ
from orchestrion.tracks.spec import TrackSpec
from orchestrion.version import __version__
from serve_app.errors import PROBLEM_MEDIA_TYPE, STATUS_OF_CODE
from serve_app.http.answers import HIDDEN_FIELDS
from serve_app.http.formats import PCM_MEDIA_TYPE, WIRE_FORMATS
from serve_app.uploads.found import UploadUse

EXAMPLE_TRACK_ID: Final = "trk_5xh6zv2q3k7rj4ml2pa6cw3d7ye5tbn4"
EXAMPLE_THEME: Final = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_REF: Final = "#/components/schemas/"

#: A path parameter: any text, of which most names nothing.
TrackId = Annotated[
    str, PathParameter(description="'trk_' and 32 of the characters a-z and 2-7.", examples=[EXAMPLE_TRACK_ID])
]
PriorityName = Annotated[
    str,
    Query(
        description="Which pool makes it; tracks over 180 s are always made by the batch pool.",
        json_schema_extra={"enum": [*Priority]},
    ),
]
WireFormatName = Annotated[
    str | None,
    Query(
        description="The form of the stream; without it the body's `format` or `Accept` decides.",
        json_schema_extra={"enum": [*WIRE_FORMATS]},
    ),
]
UseName = Annotated[
    str,
    Query(
        description="The field of a request that is to name the upload.",
        json_schema_extra={"enum": [*UploadUse]},
    ),
]

_WORDS: Final = {
    "summary": "Everything in the prompt's words",
    "value": {"prompt": "slow sad piano in D minor, 70 bpm, 20 seconds"},
}
_FIELDS: Final = {
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
        "sample_rate_hz": 44100,
        "fade_out_s": 2,
        "requester": "studio-3",
    },
}
_THEME: Final = {
    "summary": "Around an uploaded melody",
    "value": {"prompt": "string quartet", "theme": EXAMPLE_THEME, "duration_s": 45, "format": "mp3"},
}
_CONTINUATION: Final = {
    "summary": "On from uploaded audio",
    "value": {
        "prompt": "string quartet",
        "continuation": EXAMPLE_THEME,
        "duration_s": 25,
        "guidance": 4,
        "temperature": 0.9,
    },
}
_PLAYERS: Final = {
    "summary": "Who plays, and who does not",
    "value": {
        "prompt": "walking home at night",
        "instruments": ["cello", "piano"],
        "ensemble": "duo",
        "exclude": ["drums"],
        "metre": "3/4",
        "duration_s": 30,
        "channels": 1,
    },
}

_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "words": _WORDS,
    "fields": _FIELDS,
    "theme": _THEME,
    "continuation": _CONTINUATION,
    "players": _PLAYERS,
}

TRACK_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": _REF + "TrackSpec"}}},
    }
}
THEME_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "Audio as WAV, FLAC, MP3, OGG, M4A, WebM or in another container that libsndfile reads, or a "
        "Standard MIDI File; at most 120 s.",
        "content": {
            name: {"schema": {"type": "string", "format": "binary"}}
            for name in ("application/octet-stream", "audio/midi", "audio/*")
        },
    }
}
UPLOAD_EXAMPLE: Final = {
    "theme": EXAMPLE_THEME,
    "kind": "MIDI",
    "duration_s": 21.5,
    "notes": 48,
    "key": "D minor",
    "tempo_bpm": 132.0,
    "metre": "3/4",
}
LINKS_EXAMPLE: Final = {
    name: f"/v1/tracks/{EXAMPLE_TRACK_ID}{path}"
    for name, path in {"self": "", "audio": "/audio", "midi": "/midi", "provenance": "/provenance"}.items()
}
INTENT_EXAMPLE: Final = read_intent("slow piano without drums, in 11/8").values()
RECORD_EXAMPLE: Final = {"prompt": "neon city at night", "style": "synthwave", "duration_s": 30.0, "cost_usd": 1.13e-5}
MODEL_EXAMPLE: Final = {"name": "composer", "commercial_use": True, "controls": ["theme"], "hears": []}
BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
UNCHANGED: Final = {"description": "You have it already"}
_PROBLEM_EXAMPLE: Final[dict[str, Any]] = {
    "type": "urn:orchestrion:problem:invalid-request",
    "title": "The request cannot be used",
    "status": 422,
    "detail": "tempo_bpm: Input should be less than or equal to 300 (got 900)",
    "problems": [{"field": "tempo_bpm", "value": "900", "message": "Input should be less than or equal to 300"}],
}
_PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "RFC 9457.",
    "example": _PROBLEM_EXAMPLE,
    "required": ["type", "title", "status", "detail", "problems"],
    "properties": {
        "type": {"type": "string", "description": "urn:orchestrion:problem: and the code"},
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


def track_answer(description: str, cache: str) -> dict[str, Any]:
    """A track with its record and links; what a POST gives instead when `Accept` asks for audio is beside it."""
    example = {
        "id": EXAMPLE_TRACK_ID,
        "cache": cache,
        "version": 1,
        "links": LINKS_EXAMPLE,
        "intent": INTENT_EXAMPLE,
        "record": RECORD_EXAMPLE,
    }
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": _REF + "Track"}, "example": example}},
    }


def audio_answer(description: str, *, streamed: bool = False) -> dict[str, Any]:
    """An answer that is audio in any of the formats."""
    names = sorted({media_type.split(";")[0] for media_type in MEDIA_TYPES.values()})
    return {
        "description": description,
        "content": dict.fromkeys([*names, PCM_MEDIA_TYPE] if streamed else names, BINARY),
    }


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route: these, and those that every route has."""
    content = {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": _REF + "Problem"}}}
    everywhere = {421, 422, 500}
    titles = {status: [t for s, t in STATUS_OF_CODE.values() if s == status] for status in {*statuses} | everywhere}
    return {status: {"description": " / ".join(titles[status]), "content": content} for status in sorted(titles)}


def openapi_document(app: FastAPI, models: Sequence[ModelInfo]) -> dict[str, Any]:
    """The document for this app.

    Args:
        app: whose routes.
        models: that are loaded, the default first; the examples ask for what they can make. None known: for less.
    """
    document: dict[str, Any] = get_openapi(
        title="Orchestrion",
        version=__version__,
        summary="Music on request: one accountable render path behind two pools.",
        routes=app.routes,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    # What FastAPI has for its own form of errors, which no route here answers with.
    schemas.clear()
    schemas |= _schemas()
    for operations in document["paths"].values():
        if "get" in operations:
            operations["head"] = _head(operations["get"])
    for path in ("/v1/tracks", "/v1/tracks/stream"):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        body["examples"] = request_examples(models)
    made = document["paths"]["/v1/tracks"]["post"]["responses"]
    for status in ("200", "201"):
        made[status]["content"] |= audio_answer("")["content"]
    return document


def request_examples(models: Sequence[ModelInfo]) -> dict[str, Any]:
    """Requests that this service can make, each with the first model that can. None known: those of any model."""
    examples = {name: _for_a_model(example, models) for name, example in _EXAMPLES.items()}
    return {name: example for name, example in examples.items() if example is not None}


def _for_a_model(example: dict[str, Any], models: Sequence[ModelInfo]) -> dict[str, Any] | None:
    example = deepcopy(example)
    value = example["value"]
    needed = {*CONTROLS} & value.keys()
    model = next((model for model in models if needed <= {*model.controls, *model.hears}), None)
    if model is None:
        return None if needed else example
    if model is not models[0]:
        value["model"] = model.name
    if "duration_s" in value:
        value["duration_s"] = min(value["duration_s"], int(model.max_duration_s))
    if not model.commercial_use:
        value["purpose"] = "research"
    return example


def _head(get: Mapping[str, Any]) -> dict[str, Any]:
    """What HEAD answers: the same without any body."""
    responses = {
        status: {key: value for key, value in answer.items() if key != "content"}
        for status, answer in get["responses"].items()
        if status not in ("206", "416")
    }
    summary = f"{get['summary']}: the headers only"
    return {**get, "operationId": f"{get['operationId']}_head", "summary": summary, "responses": responses}


def _schemas() -> dict[str, Any]:
    """The schemas that routes refer to by name."""
    spec = TrackSpec.model_json_schema(ref_template=_REF + "{model}")
    rates = sorted({rate for rates in SAMPLE_RATES_HZ.values() for rate in rates})
    spec["properties"]["sample_rate_hz"]["anyOf"] = [{"type": "integer", "enum": rates}, {"type": "null"}]
    spec["properties"]["sample_rate_hz"]["description"] += " Which format takes which: " + "; ".join(
        f"{format.value} {', '.join(map(str, taken))}" for format, taken in SAMPLE_RATES_HZ.items()
    )
    record = TypeAdapter(TrackRecord).json_schema(ref_template=_REF + "{model}", mode="serialization")
    descriptions = {field.name: field.description for field in RECORD_FIELDS}
    record["properties"] = {
        name: schema | {"description": descriptions[name]}
        for name, schema in record["properties"].items()
        if name not in HIDDEN_FIELDS
    }
    record["required"] = [name for name in record["required"] if name not in HIDDEN_FIELDS | CALLER_FIELDS]
    track = {
        "type": "object",
        "required": ["id", "cache", "version", "links", "intent", "record"],
        "properties": {
            "id": {"type": "string"},
            "cache": {"type": "string", "enum": ["hit", "miss"]},
            "version": {"type": "integer", "minimum": 1},
            "links": {"type": "object", "additionalProperties": {"type": "string"}},
            "intent": {
                "anyOf": [{"$ref": _REF + "Intent"}, {"type": "null"}],
                "description": "What was understood of the prompt; null in tracks of releases that did not note it.",
            },
            "record": {"$ref": _REF + "TrackRecord"},
        },
    }
    intent = TypeAdapter(Intent).json_schema(ref_template=_REF + "{model}", mode="serialization")
    definitions: dict[str, Any] = spec.pop("$defs", {}) | record.pop("$defs", {}) | intent.pop("$defs", {})
    named = {"TrackSpec": spec, "TrackRecord": record, "Track": track, "Intent": intent, "Problem": _PROBLEM_SCHEMA}
    return definitions | named
