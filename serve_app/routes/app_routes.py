"""The HTTP routes. POSTs go to a pool unless the store has the answer, GETs straight to the store.

The request body is not declared to FastAPI. It is read by `TrackSpec.from_json`, the reader that catalogs use too, so
both give the same track id and every complaint has one form. HEAD is not declared either:
`SecurityHeaders` makes it from GET.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import datetime
from functools import partial
from importlib.resources import files
from typing import Any, Final

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException as FrameworkError

from orchestrion.errors import InvalidRequest, NotFound, OrchestrionError, Problem, shown
from orchestrion.rendering.admission import Priority
from orchestrion.tracks.outcome import Failure
from orchestrion.tracks.vocabulary import MOODS, STYLES
from serve_app import openapi
from serve_app.delivery.reader_progress import ReaderPacedResponse
from serve_app.deployments.ingress import Ingress
from serve_app.errors import HttpProblem, failure_response, framework_response, problem_response
from serve_app.http.answers import (
    REVALIDATE,
    address_of,
    file_answer,
    file_name,
    json_answer,
    licence_links,
    quoted,
    track_summary,
    unchanged,
    whole_answer,
)
from serve_app.http.bodies import MAX_JSON_BYTES, parse_json_object, read_body, refuse_form
from serve_app.http.conditions import Validators
from serve_app.http.formats import media_type_of_stream, spec_and_answer, spec_and_wire_format
from serve_app.http.headers import joined_headers
from serve_app.middleware import SecurityHeaders
from serve_app.origins import Neighbours, OriginGuard

_PAGE_FILES: Final = {
    "index.html": "text/html; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "docs.html": "text/html; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "drawing.js": "text/javascript; charset=utf-8",
    "playing.js": "text/javascript; charset=utf-8",
    "history.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
}
_NEVER_KEPT: Final = {"Cache-Control": "no-store"}


def build_routes(api: Ingress) -> FastAPI:
    """The ASGI app of one ingress replica."""
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # Each resource has one address. A redirect would name the Host header's name, whoever wrote that.
        redirect_slashes=False,
        dependencies=[Depends(_refuse_unknown_query)],
    )
    app.add_middleware(OriginGuard, neighbours=Neighbours(api.config.allowed_hosts, api.config.allowed_origins))
    app.add_middleware(SecurityHeaders)
    app.exception_handler(HttpProblem)(_on_problem)
    app.exception_handler(OrchestrionError)(_on_own_error)
    app.exception_handler(FrameworkError)(_on_framework_error)
    app.exception_handler(RequestValidationError)(_on_framework_validation)

    async def json_body(request: Request, headers: dict[str, str]) -> dict[str, Any]:
        body = await read_body(request.stream(), headers, max_bytes=MAX_JSON_BYTES, timeout_s=api.config.body_timeout_s)
        return api.with_model(parse_json_object(body, headers.get("content-type")))

    @app.post(
        "/v1/tracks",
        summary="Make a track and wait for it",
        tags=["tracks"],
        openapi_extra=openapi.TRACK_BODY,
        responses={
            200: openapi.track_answer("The track was there already", "hit"),
            201: openapi.track_answer("The track was made", "miss"),
            **openapi.problems(400, 403, 404, 406, 408, 410, 413, 415, 503),
        },
    )
    async def create_track(request: Request, priority: openapi.PriorityName = "interactive") -> Response:
        headers = joined_headers(request.headers.raw)
        spec, wants_audio = spec_and_answer(await json_body(request, headers), headers.get("accept"))
        outcome = await api.render(spec.resolve(), _priority(priority))
        if isinstance(outcome, Failure):
            return failure_response(outcome)
        answer_headers = {
            "Location": address_of(request, outcome.track_id),
            "X-Track-Id": outcome.track_id,
            "X-Cache": "hit" if outcome.cache_hit else "miss",
            "Vary": "Accept",
        }
        status = 200 if outcome.cache_hit else 201
        if wants_audio:
            await api.check_audio(outcome.record)
            answer = file_answer(
                request, outcome.record, answer_headers, partial(api.stored_file, outcome.record), api.download_pace
            )
            answer.status_code = status
            return answer
        summary = track_summary(request, outcome.record, outcome.version, answer_headers["X-Cache"])
        return JSONResponse(summary, status, answer_headers)

    @app.post(
        "/v1/tracks/stream",
        summary="Make a track and hear it while it is made",
        description="Answers with the encoded audio, chunk by chunk. `format=pcm` gives 16-bit little-endian samples "
        "without a header. The stream is complete only if it ends properly: a track that fails breaks it off.",
        tags=["tracks"],
        openapi_extra=openapi.TRACK_BODY,
        responses={
            200: openapi.audio_answer("The audio", streamed=True),
            **openapi.problems(400, 403, 404, 406, 408, 410, 413, 415, 503),
        },
        response_class=StreamingResponse,
    )
    async def stream_track(
        request: Request, priority: openapi.PriorityName = "interactive", format: openapi.WireFormatName = None
    ) -> Response:
        headers = joined_headers(request.headers.raw)
        spec, wire_format = spec_and_wire_format(await json_body(request, headers), format, headers.get("accept"))
        opened = await api.stream(spec.resolve(), _priority(priority), wire_format)
        if isinstance(opened, Failure):
            return failure_response(opened)
        header, items = opened
        if header.cached:
            await api.check_audio(header.cached.record)
        info = api.models.get(spec.model)
        licence = header.cached.record.weights_licence if header.cached else info.weights_licence if info else ""
        answer_headers = {
            "X-Track-Id": header.track_id,
            "X-Cache": "hit" if header.cached else "miss",
            "X-Sample-Rate": str(header.sample_rate_hz),
            "X-Channels": str(header.channels),
            "X-Duration-Seconds": f"{header.duration_s:.9g}",
            "Vary": "Accept",
            **licence_links(licence),
            **_NEVER_KEPT,
        }
        media_type = media_type_of_stream(wire_format)
        if header.cached is None:
            return StreamingResponse(whole_or_broken(items), 200, answer_headers, media_type)
        record = header.cached.record
        is_pcm = wire_format == "pcm"
        bytes_per_s = (
            2.0 * header.channels * header.sample_rate_hz if is_pcm else record.audio_bytes / record.duration_s
        )
        blocks = api.stored_stream(record, wire_format)
        return ReaderPacedResponse(blocks, 200, answer_headers, media_type, api.stream_pace(bytes_per_s))

    @app.get(
        "/v1/tracks/{track_id}",
        summary="What is known of a track",
        tags=["tracks"],
        responses={
            200: openapi.track_answer("The record", "hit"),
            304: openapi.UNCHANGED,
            **openapi.problems(404, 410, 412, 503),
        },
    )
    async def get_track(track_id: openapi.TrackId, request: Request) -> Response:
        found = await api.stored(track_id)
        summary = track_summary(request, found.record, found.version, "hit")
        return json_answer(request, summary, last_modified=datetime.fromisoformat(found.record.created_at))

    @app.get(
        "/v1/tracks/{track_id}/audio",
        summary="The audio file",
        description="Takes `Range` (one range) and `If-Range`; the ETag is the SHA-256 of the file. `Link` names the "
        "licence of the weights that made it.",
        tags=["tracks"],
        responses={
            200: openapi.audio_answer("The file"),
            206: openapi.audio_answer("A part of it"),
            304: openapi.UNCHANGED,
            **openapi.problems(404, 410, 412, 416, 503),
        },
        response_class=StreamingResponse,
    )
    async def get_audio(track_id: openapi.TrackId, request: Request) -> Response:
        record = (await api.stored(track_id)).record
        headers = {"X-Track-Id": track_id, "Cache-Control": REVALIDATE}
        answer = file_answer(request, record, headers, partial(api.stored_file, record), api.download_pace)
        if isinstance(answer, StreamingResponse):
            await api.check_audio(record)
        return answer

    @app.get(
        "/v1/tracks/{track_id}/midi",
        summary="The score as a Standard MIDI File",
        tags=["tracks"],
        response_class=Response,
        responses={
            200: {"description": "The score", "content": {"audio/midi": openapi.BINARY}},
            304: openapi.UNCHANGED,
            **openapi.problems(404, 410, 412, 503),
        },
    )
    async def get_midi(track_id: openapi.TrackId, request: Request) -> Response:
        record = (await api.stored(track_id)).record
        if record.midi_key is None:
            raise NotFound(f"{record.model} makes no score, so {track_id} has no MIDI")
        validators = Validators(quoted(record.midi_sha256 or ""), datetime.fromisoformat(record.created_at))
        headers = {"Cache-Control": REVALIDATE, "Content-Disposition": file_name(record, ".mid")}
        headers |= licence_links(record.weights_licence) | validators.headers()
        if (answer := unchanged(request, validators, headers)) is not None:
            return answer
        score = await api.reading(partial(api.store.get_blob, record.midi_key))
        return Response(score, 200, headers, "audio/midi")

    @app.get(
        "/v1/tracks/{track_id}/provenance",
        summary="The signed record",
        description="Byte for byte as it was signed; `orchestrion verify` checks it against the audio.",
        tags=["tracks"],
        responses={
            200: openapi.json_answer("The envelope", {"record": openapi.RECORD_EXAMPLE, "signature": {}}),
            304: openapi.UNCHANGED,
            **openapi.problems(404, 410, 412, 503),
        },
    )
    async def get_provenance(track_id: openapi.TrackId, request: Request) -> Response:
        found = await api.stored(track_id)
        headers = {"Content-Disposition": file_name(found.record, ".record.json")}
        created_at = datetime.fromisoformat(found.record.created_at)
        return whole_answer(request, found.envelope, "application/json", headers, last_modified=created_at)

    @app.post(
        "/v1/themes",
        summary="Upload a theme melody, or audio to go on from",
        description="The body is the file itself: audio or MIDI, at most 20 MB and 120 s. Name the reference that you "
        "get in a request's `theme` or, for audio, in its `continuation`.",
        tags=["themes"],
        openapi_extra=openapi.THEME_BODY,
        status_code=201,
        responses={
            201: openapi.json_answer("The reference", {"theme": openapi.EXAMPLE_THEME}),
            **openapi.problems(400, 403, 408, 413, 415, 503),
        },
    )
    async def upload_theme(request: Request) -> Response:
        headers = joined_headers(request.headers.raw)
        refuse_form(headers.get("content-type"))
        return JSONResponse({"theme": await api.uploads.accept(request.stream(), headers)}, 201)

    @app.get(
        "/v1/models",
        summary="The models that are loaded",
        tags=["about"],
        responses={
            200: openapi.json_answer("Models", {"models": [openapi.MODEL_EXAMPLE]}),
            304: openapi.UNCHANGED,
            **openapi.problems(412, 503),
        },
    )
    async def get_models(request: Request) -> Response:
        models = await api.known_models()
        return json_answer(request, {"models": [asdict(model) for model in models.values()]})

    @app.get(
        "/v1/styles",
        summary="The styles and moods that requests may name",
        tags=["about"],
        responses={
            200: openapi.json_answer("Names", {"styles": ["lofi"], "moods": ["calm"]}),
            304: openapi.UNCHANGED,
            **openapi.problems(412),
        },
    )
    async def get_styles(request: Request) -> Response:
        return json_answer(request, {"styles": sorted(STYLES), "moods": sorted(MOODS)})

    @app.get(
        "/healthz",
        summary="Whether this process answers",
        tags=["about"],
        responses={200: openapi.json_answer("Yes", {"status": "ok"}), **openapi.problems()},
    )
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"}, headers=_NEVER_KEPT)

    @app.get(
        "/readyz",
        summary="Whether the pools have loaded their models",
        tags=["about"],
        responses={200: openapi.json_answer("Yes", {"status": "ready"}), **openapi.problems(503)},
    )
    async def readyz() -> Response:
        await api.load_models()
        return JSONResponse({"status": "ready"}, headers=_NEVER_KEPT)

    @app.get(
        "/openapi.json",
        summary="This document",
        tags=["about"],
        responses={
            200: openapi.json_answer("OpenAPI 3.1", {"openapi": "3.1.0"}),
            304: openapi.UNCHANGED,
            **openapi.problems(412),
        },
    )
    async def get_openapi_document(request: Request) -> Response:
        return json_answer(request, openapi.openapi_document(app, await api.models_if_known()))

    page = {name: (files("serve_app") / "studio" / name).read_bytes() for name in _PAGE_FILES}

    @app.get("/", include_in_schema=False)
    async def get_start_page(request: Request) -> Response:
        return await get_page("index.html", request)

    @app.get("/docs", include_in_schema=False)
    async def get_docs_page(request: Request) -> Response:
        return await get_page("docs.html", request)

    @app.get("/page/{name}", include_in_schema=False)
    async def get_page(name: str, request: Request) -> Response:
        if name not in page:
            raise NotFound(f"the page has no file {shown(name)}")
        return whole_answer(request, page[name], _PAGE_FILES[name], {"Cache-Control": "no-cache"})

    return app


async def whole_or_broken(items: AsyncIterator[bytes | Failure]) -> AsyncIterator[bytes]:
    """The audio; a refusal after it breaks the connection off, so that no client takes the stream for a whole track."""
    async for item in items:
        if isinstance(item, Failure):
            raise BrokenStream(f"{item.code}: {item.message}")
        yield item


class BrokenStream(Exception):
    """The track failed after a part of its audio had been sent."""


async def _refuse_unknown_query(request: Request) -> None:
    """A misspelt name would otherwise be a wish that nobody hears of. Pages for people take whatever a link adds."""
    route = request.scope["route"]
    if not route.include_in_schema:
        return
    known = [parameter.alias for parameter in route.dependant.query_params]
    names = [name for name, _ in request.query_params.multi_items()]
    problems = [
        Problem(shown(name).strip("'"), shown(request.query_params[name]), complaint)
        for name in dict.fromkeys(names)
        if (complaint := _complaint(name, names, known))
    ]
    if problems:
        raise InvalidRequest(problems)


def _complaint(name: str, names: list[str], known: list[str]) -> str | None:
    if name not in known:
        return f"is not in the query of this address; known are {', '.join(known)}" if known else "takes no query"
    return "is given more than once; say it once" if names.count(name) > 1 else None


def _priority(text: str) -> Priority:
    try:
        return Priority(text)
    except ValueError:
        raise InvalidRequest.of("priority", text, "use one of " + ", ".join(Priority)) from None


async def _on_problem(_: Request, error: HttpProblem) -> Response:
    return problem_response(error.code, error.detail, problems=error.problems, headers=error.headers)


async def _on_own_error(_: Request, error: OrchestrionError) -> Response:
    return failure_response(Failure.of(error, "request"))


async def _on_framework_error(_: Request, error: FrameworkError) -> Response:
    return framework_response(error.status_code, error.headers)


async def _on_framework_validation(_: Request, error: RequestValidationError) -> Response:
    problems = [
        Problem(".".join(map(str, detail["loc"])), shown(detail.get("input")), detail["msg"])
        for detail in error.errors()
    ]
    return problem_response("invalid-request", "the query cannot be used", problems=problems)
