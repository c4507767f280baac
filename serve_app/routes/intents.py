"""What a request is understood to ask for: free, and nothing is rendered."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from orchestrion.tracks.spec import TrackSpec
from serve_app import openapi
from serve_app.dependencies import JsonBody, Service

router = APIRouter(tags=["tracks"])


@router.post(
    "/v1/intent",
    summary="Say what a request's words ask for, without making anything",
    openapi_extra=openapi.TRACK_BODY,
    responses={
        200: openapi.json_answer(
            "What was understood, what is not followed, and the request that comes of it",
            openapi.INTENT_EXAMPLE | {"request": openapi.RECORD_EXAMPLE},
        ),
        **openapi.problems(400, 408, 413, 415),
    },
)
async def create_intent(service: Service, body: JsonBody) -> Response:
    asked = TrackSpec.from_json(service.with_model(body)).resolve()
    intent = await service.intent_of(asked)
    request = asked.composition.values() | asked.delivery.values()
    return JSONResponse(intent.values() | {"request": request})
