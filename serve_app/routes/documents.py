"""The OpenAPI document of this service, with examples that its loaded models can make."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from serve_app import openapi
from serve_app.dependencies import Service
from serve_app.http.answers import json_answer

router = APIRouter(tags=["about"])


@router.get(
    "/openapi.json",
    summary="This document",
    responses={
        200: openapi.json_answer("OpenAPI 3.1", {"openapi": "3.1.0"}),
        304: openapi.UNCHANGED,
        **openapi.problems(412),
    },
)
async def get_openapi_document(request: Request, service: Service) -> Response:
    return json_answer(request, openapi.openapi_document(request.app, await service.models_if_known()))
