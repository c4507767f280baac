"""What is stored of a track, under its id: summary, audio, score, signed record. Answered without a pool."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from orchestrion.errors import NotFound
from serve_app import openapi
from serve_app.dependencies import Service
from serve_app.http.answers import (
    REVALIDATE,
    file_answer,
    file_name,
    json_answer,
    licence_links,
    quoted,
    track_summary,
    unchanged,
    whole_answer,
)
from serve_app.http.conditions import Validators

router = APIRouter(tags=["tracks"])


@router.get(
    "/v1/tracks/{track_id}",
    summary="What is known of a track",
    responses={
        200: openapi.track_answer("The record", "hit"),
        304: openapi.UNCHANGED,
        **openapi.problems(404, 409, 410, 412, 503),
    },
)
async def get_track(track_id: openapi.TrackId, request: Request, service: Service) -> Response:
    found = await service.stored(track_id)
    summary = track_summary(request, found.record, found.version, "hit")
    return json_answer(request, summary, last_modified=datetime.fromisoformat(found.record.created_at))


@router.get(
    "/v1/tracks/{track_id}/audio",
    summary="The audio file",
    description="Takes `Range` (one range) and `If-Range`; the ETag is the SHA-256 of the file. `Link` names the "
    "licence of the weights that made it.",
    responses={
        200: openapi.audio_answer("The file"),
        206: openapi.audio_answer("A part of it"),
        304: openapi.UNCHANGED,
        **openapi.problems(404, 409, 410, 412, 416, 503),
    },
    response_class=StreamingResponse,
)
async def get_audio(track_id: openapi.TrackId, request: Request, service: Service) -> Response:
    record = (await service.stored(track_id)).record
    headers = {"X-Track-Id": track_id, "Cache-Control": REVALIDATE}
    answer = file_answer(request, record, headers, partial(service.stored_file, record), service.download_pace)
    if isinstance(answer, StreamingResponse):
        await service.check_audio(record)
    return answer


@router.get(
    "/v1/tracks/{track_id}/midi",
    summary="The score as a Standard MIDI File",
    response_class=Response,
    responses={
        200: {"description": "The score", "content": {"audio/midi": openapi.BINARY}},
        304: openapi.UNCHANGED,
        **openapi.problems(404, 409, 410, 412, 503),
    },
)
async def get_midi(track_id: openapi.TrackId, request: Request, service: Service) -> Response:
    record = (await service.stored(track_id)).record
    if record.midi_key is None:
        raise NotFound(f"{record.model} makes no score, so {track_id} has no MIDI")
    validators = Validators(quoted(record.midi_sha256 or ""), datetime.fromisoformat(record.created_at))
    headers = {"Cache-Control": REVALIDATE, "Content-Disposition": file_name(record, ".mid")}
    headers |= licence_links(record.weights_licence) | validators.headers()
    if (answer := unchanged(request, validators, headers)) is not None:
        return answer
    score = await service.reading(partial(service.store.get_blob, record.midi_key))
    return Response(score, 200, headers, "audio/midi")


@router.get(
    "/v1/tracks/{track_id}/provenance",
    summary="The signed record",
    description="`orchestrion verify` checks it against the audio. Who asked first, and what for, is in it as a salted "
    "hash alone.",
    responses={
        200: openapi.json_answer("The envelope", {"record": openapi.RECORD_EXAMPLE, "signature": {}}),
        304: openapi.UNCHANGED,
        **openapi.problems(404, 409, 410, 412, 503),
    },
)
async def get_provenance(track_id: openapi.TrackId, request: Request, service: Service) -> Response:
    found = await service.stored(track_id)
    headers = {"Content-Disposition": file_name(found.record, ".record.json")}
    created_at = datetime.fromisoformat(found.record.created_at)
    return whole_answer(request, found.public_envelope, "application/json", headers, last_modified=created_at)
