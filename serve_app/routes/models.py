"""What requests may name: the models that are loaded, styles, moods and instruments."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Request, Response

from orchestrion.tracks.instruments import INSTRUMENTS
from orchestrion.tracks.vocabulary import MOODS, STYLES
from serve_app import openapi
from serve_app.dependencies import Service
from serve_app.http.answers import json_answer

router = APIRouter(tags=["about"])


@router.get(
    "/v1/models",
    summary="The models that are loaded",
    responses={
        200: openapi.json_answer("Models", {"models": [openapi.MODEL_EXAMPLE]}),
        304: openapi.UNCHANGED,
        **openapi.problems(412, 503),
    },
)
async def get_models(request: Request, service: Service) -> Response:
    models = await service.known_models()
    return json_answer(request, {"models": [asdict(model) for model in models.values()]})


@router.get(
    "/v1/styles",
    summary="The styles, moods and instruments that requests may name",
    responses={
        200: openapi.json_answer("Names", {"styles": ["lofi"], "moods": ["calm"], "instruments": ["cello"]}),
        304: openapi.UNCHANGED,
        **openapi.problems(412),
    },
)
async def get_styles(request: Request) -> Response:
    names = {"styles": sorted(STYLES), "moods": sorted(MOODS), "instruments": sorted(INSTRUMENTS)}
    return json_answer(request, names)
