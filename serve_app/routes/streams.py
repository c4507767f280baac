"""Tracks that are heard while they are made."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from orchestrion.audio.stream_encode import StreamFormat
from orchestrion.tracks.outcome import Failure, Track
from serve_app import openapi
from serve_app.delivery.reader_progress import ReaderPacedResponse
from serve_app.dependencies import AskedPriority, AskedWireFormat, Headers, JsonBody, Service
from serve_app.deployments.render_pool import StreamHeader
from serve_app.errors import failure_response
from serve_app.http.answers import NEVER_KEPT, licence_links
from serve_app.http.formats import media_type_of_stream, spec_and_wire_format

router = APIRouter(tags=["tracks"])


@router.post(
    "/v1/tracks/stream",
    summary="Make a track and hear it while it is made",
    description="Answers with the encoded audio, chunk by chunk. `format=pcm` gives 16-bit little-endian samples "
    "without a header. The stream is complete only if it ends properly: a track that fails breaks it off.",
    openapi_extra=openapi.TRACK_BODY,
    responses={
        200: openapi.audio_answer("The audio", streamed=True),
        **openapi.problems(400, 403, 404, 406, 408, 409, 410, 413, 415, 503),
    },
    response_class=StreamingResponse,
)
async def stream_track(
    service: Service, headers: Headers, body: JsonBody, priority: AskedPriority, asked_format: AskedWireFormat
) -> Response:
    spec, wire_format = spec_and_wire_format(service.with_model(body), asked_format, headers.get("accept"))
    opened = await service.stream(spec.resolve(), priority, wire_format)
    if isinstance(opened, Failure):
        return failure_response(opened)
    header, items = opened
    media_type = media_type_of_stream(wire_format)
    if header.cached is None:
        info = service.models.get(spec.model)
        answer_headers = _answer_headers(header, info.weights_licence if info else "")
        return StreamingResponse(whole_or_broken(items), 200, answer_headers, media_type)
    record = header.cached.record
    await service.check_audio(record)
    blocks = service.stored_stream(record, wire_format)
    pace = service.stream_pace(_bytes_per_s(header, header.cached, wire_format))
    return ReaderPacedResponse(blocks, 200, _answer_headers(header, record.weights_licence), media_type, pace)


async def whole_or_broken(items: AsyncIterator[bytes | Failure]) -> AsyncIterator[bytes]:
    """The audio; a refusal after it breaks the connection off, so that no client takes the stream for a whole track."""
    async for item in items:
        if isinstance(item, Failure):
            raise BrokenStream(f"{item.code}: {item.message}")
        yield item


class BrokenStream(Exception):
    """The track failed after a part of its audio had been sent."""


def _answer_headers(header: StreamHeader, weights_licence: str) -> dict[str, str]:
    return {
        "X-Track-Id": header.track_id,
        "X-Cache": "hit" if header.cached else "miss",
        "X-Sample-Rate": str(header.sample_rate_hz),
        "X-Channels": str(header.channels),
        "X-Duration-Seconds": f"{header.duration_s:.9g}",
        "Vary": "Accept",
        **licence_links(weights_licence),
        **NEVER_KEPT,
    }


def _bytes_per_s(header: StreamHeader, stored: Track, wire_format: StreamFormat) -> float:
    """Of a stored track, as it is sent: two bytes a sample, or the mean of its file."""
    if wire_format == "pcm":
        return 2.0 * header.channels * header.sample_rate_hz
    return stored.record.audio_bytes / stored.record.duration_s
