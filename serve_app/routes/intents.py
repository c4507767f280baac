"""What a prompt is understood to ask for: free, and nothing is rendered."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from orchestrion.tracks.intent.reader import read_intent
from orchestrion.tracks.spec import TrackSpec
from serve_app import openapi
from serve_app.dependencies import JsonBody

router = APIRouter(tags=["tracks"])

_EXAMPLE: Final = read_intent("slow piano without drums, in 11/8").values()


@router.post(
    "/v1/intent",
    summary="Say what a request's words ask for, without making anything",
    openapi_extra=openapi.TRACK_BODY,
    responses={
        200: openapi.json_answer("What was understood, and what is not followed", _EXAMPLE),
        **openapi.problems(400, 408, 413, 415),
    },
)
async def create_intent(request: Request, body: JsonBody) -> Response:
    spec = TrackSpec.from_json(body)
    return JSONResponse(read_intent(spec.prompt).values())
