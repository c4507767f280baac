"""Files that requests refer to: melodies to make a piece around, audio to go on from."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from serve_app import openapi
from serve_app.dependencies import AskedUse, Headers, Service
from serve_app.http.bodies import refuse_form

router = APIRouter(tags=["themes"])


@router.post(
    "/v1/themes",
    summary="Upload a theme melody, or audio to go on from",
    description="The body is the file itself: audio or MIDI, at most 20 MB and 120 s. Name the reference that you "
    "get in a request's `theme` or, if you say `use=continuation` here, in its `continuation`. The answer says what "
    "was read of the file; one that cannot be used so is refused.",
    openapi_extra=openapi.THEME_BODY,
    status_code=201,
    responses={
        201: openapi.json_answer("The reference, and what was read", openapi.UPLOAD_EXAMPLE),
        **openapi.problems(400, 403, 408, 413, 415, 503),
    },
)
async def upload_theme(request: Request, service: Service, headers: Headers, use: AskedUse) -> Response:
    refuse_form(headers.get("content-type"))
    reference, reading = await service.uploads.accept(request.stream(), headers, use)
    return JSONResponse({"theme": reference} | asdict(reading), 201)
