"""Tracks on request: a POST goes to a pool, unless the store has the track already."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from orchestrion.tracks.outcome import Failure
from serve_app import openapi
from serve_app.dependencies import AskedPriority, Headers, JsonBody, Service
from serve_app.errors import failure_response
from serve_app.http.answers import address_of, file_answer, track_summary
from serve_app.http.formats import spec_and_answer

router = APIRouter(tags=["tracks"])


@router.post(
    "/v1/tracks",
    summary="Make a track and wait for it",
    openapi_extra=openapi.TRACK_BODY,
    responses={
        200: openapi.track_answer("The track was there already", "hit"),
        201: openapi.track_answer("The track was made", "miss"),
        **openapi.problems(400, 403, 404, 406, 408, 409, 410, 413, 415, 503),
    },
)
async def create_track(
    request: Request, service: Service, headers: Headers, body: JsonBody, priority: AskedPriority
) -> Response:
    spec, wants_audio = spec_and_answer(service.with_model(body), headers.get("accept"))
    asked = spec.resolve()
    track = await service.render(asked, priority)
    if isinstance(track, Failure):
        return failure_response(track)
    cache = "hit" if track.cache_hit else "miss"
    status = 200 if track.cache_hit else 201
    answer_headers = {
        "Location": address_of(request, track.track_id),
        "X-Track-Id": track.track_id,
        "X-Cache": cache,
        "Vary": "Accept",
    }
    if not wants_audio:
        intent = await service.intent_of(asked)
        summary = track_summary(request, track.record, track.version, cache, asked, intent)
        return JSONResponse(summary, status, answer_headers)
    await service.check_audio(track.record)
    blocks = partial(service.stored_file, track.record)
    answer = file_answer(request, track.record, answer_headers, blocks, service.download_pace)
    answer.status_code = status
    return answer
