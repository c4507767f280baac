"""The HTTP routes. POSTs go to a pool, GETs straight to the store; blocking calls run in threads.

The surprising thing: the request body is not declared to FastAPI. It is read by `TrackSpec.from_json`, the reader that
catalogs use too, so both give the same track id and every complaint has one form.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from typing import Any, Final, cast

import ray.util.metrics
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException as FrameworkError

from orchestrion.admission import Pool, Priority, pool_for
from orchestrion.block_digests import BLOCK_BYTES
from orchestrion.encode import FILE_SUFFIXES, MEDIA_TYPES, StreamEncoder, StreamFormat, decode
from orchestrion.errors import InvalidRequest, NotFound, OrchestrionError, Problem, shown
from orchestrion.metrics import RayMetrics, RayRecorder
from orchestrion.models import public_name
from orchestrion.models.protocol import ModelInfo
from orchestrion.outcome import Track
from orchestrion.provenance import Signer, TrackRecord
from orchestrion.request import AudioFormat, TrackRequest, TrackSpec
from orchestrion.signing_keys import trusted_keys
from orchestrion.store import TrackStore, is_track_id
from orchestrion.verified_tracks import StoredTrack, VerifiedTracks
from orchestrion.vocabulary import MOODS, STYLES
from serve_app import openapi
from serve_app.bodies import MAX_JSON_BYTES, parse_json_object, read_body
from serve_app.config import ServeConfig
from serve_app.http_errors import (
    HttpProblem,
    framework_response,
    problem_response,
    refusal_response,
)
from serve_app.middleware import Envelope
from serve_app.negotiation import choose_media_type, matches_etag, names_media_type, parse_range
from serve_app.outcomes import DEFAULT_RETRY_AFTER_S, Refusal
from serve_app.pools import RenderPool, StreamHeader
from serve_app.themes import MAX_THEME_BYTES, check_theme

#: 16-bit little-endian samples, interleaved, without any header. RFC 2586's audio/L16 is big-endian, so not that.
PCM_MEDIA_TYPE: Final = "audio/pcm"
#: Other names by which clients ask for a format.
_MEDIA_TYPE_ALIASES: Final[dict[str, AudioFormat]] = {
    "audio/x-wav": AudioFormat.WAV,
    "audio/wave": AudioFormat.WAV,
    "audio/mp3": AudioFormat.MP3,
    "audio/opus": AudioFormat.OPUS,
    "audio/x-flac": AudioFormat.FLAC,
}
#: Seconds that a pool may take to say that it is there.
READY_TIMEOUT_S: Final = 5.0
#: What is stored under an id never changes but may be withdrawn: caches may keep it, and ask before each use.
REVALIDATE: Final = "public, no-cache"
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


#: Ray types handles by the class they lead to.
PoolHandle = DeploymentHandle[RenderPool]


class Ingress:
    """One ingress replica: the two pools' handles and the store."""

    def __init__(self, config: ServeConfig, low_latency: PoolHandle, batch: PoolHandle) -> None:
        self.pools = {Pool.LOW_LATENCY: low_latency, Pool.BATCH: batch}
        profiles = {Pool.LOW_LATENCY: config.low_latency, Pool.BATCH: config.batch}
        #: A pool that may be empty starts with its first request and is always ready for it.
        self.awaited = [pool for pool, profile in profiles.items() if profile.min_replicas > 0]
        self.store = TrackStore.open(config.store_url, config.storage_options)
        trusted = trusted_keys(Signer.load(config.signing_key_path), config.trusted_keys_path)
        self.tracks = VerifiedTracks(self.store, trusted, RayRecorder(cast("RayMetrics", ray.util.metrics)))
        self.default_model = public_name(config.models[0])
        self._models_come_and_go = config.resident_models is not None and config.resident_models < len(config.models)
        self.models: tuple[ModelInfo, ...] = ()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve in the replica."""
        return build_routes(self)

    async def render(self, request: TrackRequest, priority: Priority) -> Track | Refusal:
        """One finished track. A replica that dies is replaced by another try: the same request is the same track."""
        pool = pool_for(request.duration_s, priority)
        for last_try in (False, True):
            try:
                answer: Track | Refusal = await self._routed(pool, request).render.remote(request, priority)
                return answer
            except BackPressureError:
                return _backed_up(pool)
            except (RayActorError, DeploymentUnavailableError):
                if last_try:
                    return _gone(pool)
        raise AssertionError("the second try returns")

    def _routed(self, pool: Pool, request: TrackRequest) -> PoolHandle:
        """The pool; where models come and go, its replicas that have this one in memory before others."""
        handle = self.pools[pool]
        return handle.options(multiplexed_model_id=request.model) if self._models_come_and_go else handle

    async def stream(
        self, request: TrackRequest, priority: Priority, wire_format: StreamFormat
    ) -> tuple[StreamHeader, AsyncIterator[bytes | Refusal]] | Refusal:
        """The header and the audio that follows it."""
        pool = pool_for(request.duration_s, priority)
        for last_try in (False, True):
            call = self._routed(pool, request).options(stream=True).stream.remote(request, wire_format, priority)
            # Ray's type does not say that `stream=True` makes the answer a generator.
            items = cast("AsyncIterator[Any]", call)
            try:
                first = await anext(items)
            except BackPressureError:
                return _backed_up(pool)
            except (RayActorError, DeploymentUnavailableError):
                if last_try:
                    return _gone(pool)
            else:
                return first if isinstance(first, Refusal) else (first, items)
        raise AssertionError("the second try returns")

    def with_model(self, body: dict[str, Any]) -> dict[str, Any]:
        """A request that names no model gets the first that this service has."""
        return {"model": self.default_model} | body

    async def load_models(self) -> tuple[ModelInfo, ...]:
        """What the pools have loaded; raises HttpProblem while one of them is not there."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                answers = await asyncio.gather(
                    *(self.pools[pool].models.remote() for pool in self.awaited or [Pool.LOW_LATENCY])
                )
        except (TimeoutError, BackPressureError, RayActorError, DeploymentUnavailableError):
            raise HttpProblem("not-ready", "the pools are loading their models; ask again") from None
        models: tuple[ModelInfo, ...] = answers[0]
        self.models = models
        return models

    async def stored(self, track_id: str) -> StoredTrack:
        """The newest record of a track, verified."""
        found = None
        if is_track_id(track_id):
            found = await asyncio.to_thread(self.tracks.newest, track_id)
        if found is None:
            raise NotFound(f"there is no track {shown(track_id)}; make it with POST /v1/tracks")
        return found


def build_routes(api: Ingress) -> FastAPI:
    """The ASGI app of one ingress replica."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(Envelope)
    app.exception_handler(HttpProblem)(_on_problem)
    app.exception_handler(OrchestrionError)(_on_own_error)
    app.exception_handler(FrameworkError)(_on_framework_error)
    app.exception_handler(RequestValidationError)(_on_framework_validation)

    @app.post(
        "/v1/tracks",
        summary="Make a track and wait for it",
        tags=["tracks"],
        openapi_extra=openapi.TRACK_BODY,
        responses={
            200: openapi.json_answer("The track was there already", openapi.TRACK_EXAMPLE | {"cache": "hit"}),
            201: openapi.json_answer("The track was made", openapi.TRACK_EXAMPLE),
            **openapi.problems(400, 403, 406, 410, 413, 415, 422, 500, 503),
        },
    )
    async def create_track(request: Request, priority: str = "interactive") -> Response:
        body = api.with_model(await _json_body(request))
        accept = request.headers.get("accept")
        spec, wants_audio = _spec_and_answer(body, accept)
        track_request = spec.resolve()
        outcome = await api.render(track_request, _priority(priority))
        if isinstance(outcome, Refusal):
            return refusal_response(outcome)
        headers = {
            "Location": _address(request, outcome.track_id),
            "X-Track-Id": outcome.track_id,
            "X-Cache": "hit" if outcome.cache_hit else "miss",
        }
        status = 200 if outcome.cache_hit else 201
        if wants_audio:
            return await _audio_response(api.store, outcome.record, request, status, headers)
        return JSONResponse(
            _track_summary(request, outcome.record, outcome.version, headers["X-Cache"]), status, headers
        )

    @app.post(
        "/v1/tracks/stream",
        summary="Make a track and hear it while it is made",
        description="Answers with the encoded audio, chunk by chunk. `format=pcm` gives 16-bit little-endian samples "
        "without a header. The stream is complete only if it ends properly: a track that fails breaks it off.",
        tags=["tracks"],
        openapi_extra=openapi.TRACK_BODY,
        responses={
            200: openapi.audio_answer("The audio"),
            **openapi.problems(400, 403, 406, 410, 413, 415, 422, 500, 503),
        },
    )
    async def stream_track(request: Request, priority: str = "interactive", format: str | None = None) -> Response:
        body = api.with_model(await _json_body(request))
        spec, wire_format = _spec_and_wire_format(body, format, request.headers.get("accept"))
        track_request = spec.resolve()
        opened = await api.stream(track_request, _priority(priority), wire_format)
        if isinstance(opened, Refusal):
            return refusal_response(opened)
        header, items = opened
        headers = {
            "X-Track-Id": header.track_id,
            "X-Cache": "hit" if header.cached else "miss",
            "X-Sample-Rate": str(header.sample_rate_hz),
            "X-Channels": str(header.channels),
            "X-Duration-Seconds": f"{header.duration_s:.9g}",
            "Cache-Control": "no-store",
        }
        media_type = PCM_MEDIA_TYPE if wire_format == "pcm" else MEDIA_TYPES[wire_format]
        cached = header.cached
        if cached:
            await asyncio.to_thread(api.store.check_blob, cached.record.audio_key)
        audio = _stored_stream(api.store, cached, wire_format) if cached else whole_or_broken(items)
        return StreamingResponse(audio, 200, headers, media_type)

    @app.get(
        "/v1/tracks/{track_id}",
        summary="What is known of a track",
        tags=["tracks"],
        responses={
            200: openapi.json_answer("The record", openapi.TRACK_EXAMPLE),
            **openapi.problems(404, 410, 500, 503),
        },
    )
    async def get_track(track_id: str, request: Request) -> Response:
        found = await api.stored(track_id)
        summary = _track_summary(request, found.record, found.version, "hit")
        return JSONResponse(summary, headers={"Cache-Control": REVALIDATE})

    @app.api_route(
        "/v1/tracks/{track_id}/audio",
        methods=["GET", "HEAD"],
        summary="The audio file",
        description="Takes `Range` (one range) and `If-None-Match`; the ETag is the SHA-256 of the file.",
        tags=["tracks"],
        responses={
            200: openapi.audio_answer("The file"),
            206: openapi.audio_answer("A part of it"),
            304: {"description": "You have it already"},
            **openapi.problems(404, 410, 416, 500, 503),
        },
        # One function, two methods: without ids of their own the document would name both the same.
        generate_unique_id_function=lambda route: f"{route.name}_{'_'.join(sorted(route.methods or ())).lower()}",
    )
    async def get_audio(track_id: str, request: Request) -> Response:
        record = (await api.stored(track_id)).record
        return await _audio_response(
            api.store, record, request, 200, {"X-Track-Id": track_id, "Cache-Control": REVALIDATE}
        )

    @app.get(
        "/v1/tracks/{track_id}/midi",
        summary="The score as a Standard MIDI File",
        tags=["tracks"],
        response_class=Response,
        responses={
            200: {"description": "The score", "content": {"audio/midi": {}}},
            **openapi.problems(404, 410, 500, 503),
        },
    )
    async def get_midi(track_id: str, request: Request) -> Response:
        record = (await api.stored(track_id)).record
        if record.midi_key is None:
            raise NotFound(f"{record.model} makes no score, so {track_id} has no MIDI")
        etag = f'"{record.midi_sha256}"'
        headers = {"ETag": etag, "Cache-Control": REVALIDATE, "Content-Disposition": _file_name(record, ".mid")}
        if matches_etag(request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers=headers)
        return Response(await asyncio.to_thread(api.store.get_blob, record.midi_key), 200, headers, "audio/midi")

    @app.get(
        "/v1/tracks/{track_id}/provenance",
        summary="The signed record",
        description="Byte for byte as it was signed; `orchestrion verify` checks it against the audio.",
        tags=["tracks"],
        responses={
            200: openapi.json_answer("The envelope", {"record": openapi.TRACK_EXAMPLE["record"], "signature": {}}),
            **openapi.problems(404, 410, 500, 503),
        },
    )
    async def get_provenance(track_id: str) -> Response:
        found = await api.stored(track_id)
        headers = {
            "ETag": f'"{hashlib.sha256(found.envelope).hexdigest()}"',
            "Cache-Control": REVALIDATE,
            "Content-Disposition": _file_name(found.record, ".record.json"),
        }
        return Response(found.envelope, 200, headers, "application/json")

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
            **openapi.problems(413, 422, 503),
        },
    )
    async def upload_theme(request: Request) -> Response:
        data = await read_body(request.stream(), MAX_THEME_BYTES, request.headers.get("content-length"))
        await asyncio.to_thread(check_theme, data)
        return JSONResponse({"theme": await asyncio.to_thread(api.store.put_theme, data)}, 201)

    @app.get(
        "/v1/models",
        summary="The models that are loaded",
        tags=["about"],
        responses={
            200: openapi.json_answer(
                "Models", {"models": [{"name": "composer", "commercial_use": True, "controls": ["theme"]}]}
            ),
            **openapi.problems(503),
        },
    )
    async def get_models() -> Response:
        models = api.models or await api.load_models()
        return JSONResponse({"models": [asdict(model) for model in models]})

    @app.get(
        "/v1/styles",
        summary="The styles and moods that requests may name",
        tags=["about"],
        responses={200: openapi.json_answer("Names", {"styles": ["lofi"], "moods": ["calm"]})},
    )
    async def get_styles() -> Response:
        return JSONResponse({"styles": sorted(STYLES), "moods": sorted(MOODS)})

    @app.get(
        "/healthz",
        summary="Whether this process answers",
        tags=["about"],
        responses={200: openapi.json_answer("Yes", {"status": "ok"})},
    )
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get(
        "/readyz",
        summary="Whether the pools have loaded their models",
        tags=["about"],
        responses={200: openapi.json_answer("Yes", {"status": "ready"}), **openapi.problems(503)},
    )
    async def readyz() -> Response:
        await api.load_models()
        return JSONResponse({"status": "ready"})

    @app.get(
        "/openapi.json",
        summary="This document",
        tags=["about"],
        responses={200: openapi.json_answer("OpenAPI 3.1", {"openapi": "3.1.0"})},
    )
    async def get_openapi_document() -> Response:
        return JSONResponse(openapi.openapi_document(app))

    page = {name: (files("serve_app") / "page" / name).read_bytes() for name in _PAGE_FILES}

    @app.get("/", include_in_schema=False)
    async def get_start_page() -> Response:
        return await get_page("index.html")

    @app.get("/docs", include_in_schema=False)
    async def get_docs_page() -> Response:
        return await get_page("docs.html")

    @app.get("/page/{name}", include_in_schema=False)
    async def get_page(name: str) -> Response:
        if name not in page:
            raise NotFound(f"the page has no file {shown(name)}")
        return Response(page[name], 200, {"Cache-Control": "no-cache"}, _PAGE_FILES[name])

    return app


async def _json_body(request: Request) -> dict[str, Any]:
    body = await read_body(request.stream(), MAX_JSON_BYTES, request.headers.get("content-length"))
    return parse_json_object(body, request.headers.get("content-type"))


def _priority(text: str) -> Priority:
    try:
        return Priority(text)
    except ValueError:
        raise InvalidRequest.of("priority", text, "use one of " + ", ".join(Priority)) from None


def _spec_and_answer(body: dict[str, Any], accept: str | None) -> tuple[TrackSpec, bool]:
    """The request, and whether the answer is its audio. `Accept` chooses the format when the body does not."""
    if "format" not in body and choose_media_type(accept, ["application/json"]) is None:
        asked = next((f for f in AudioFormat if _names_format(accept, f)), None)
        body = body | ({"format": asked.value} if asked else {})
    spec = TrackSpec.from_json(body)
    offers = ["application/json", *_names_of(spec.format)]
    chosen = choose_media_type(accept, offers)
    if chosen is None:
        raise HttpProblem("not-acceptable", f"this track can be had as {' or '.join(offers)}; change Accept or format")
    return spec, chosen != "application/json"


def _spec_and_wire_format(
    body: dict[str, Any], query: str | None, accept: str | None
) -> tuple[TrackSpec, StreamFormat]:
    """The request, and the form its audio is streamed in: the query's, else the body's, else what `Accept` names."""
    if query is not None and query != "pcm":
        if body.get("format", query) != query:
            raise InvalidRequest.of("format", query, f"the body says {shown(body['format'])}; say it once")
        body = body | {"format": query}
    wants_pcm = query == "pcm" or (query is None and names_media_type(accept, PCM_MEDIA_TYPE))
    if "format" not in body and not wants_pcm:
        asked = next((f for f in AudioFormat if _names_format(accept, f)), None)
        body = body | ({"format": asked.value} if asked else {})
    spec = TrackSpec.from_json(body)
    offers = [PCM_MEDIA_TYPE] if wants_pcm else _names_of(spec.format)
    if query is None and choose_media_type(accept, offers) is None:
        raise HttpProblem("not-acceptable", f"this stream can be had as {' or '.join(offers)}; change Accept or format")
    return spec, "pcm" if wants_pcm else spec.format


def _names_of(format: AudioFormat) -> list[str]:
    aliases = [name for name, aliased in _MEDIA_TYPE_ALIASES.items() if aliased is format]
    return [MEDIA_TYPES[format].split(";")[0], *aliases]


def _names_format(accept: str | None, format: AudioFormat) -> bool:
    names = _names_of(format)
    # Ogg means Vorbis unless Opus is named: both have the same media type.
    return any(names_media_type(accept, name) for name in (names[1:] if format is AudioFormat.OPUS else names))


def _address(request: Request, track_id: str) -> str:
    """Where a track is found, below whatever prefix Serve has mounted this application at."""
    return f"{request.scope.get('root_path', '').rstrip('/')}/v1/tracks/{track_id}"


def _track_summary(request: Request, record: TrackRecord, version: int, cache: str) -> dict[str, Any]:
    address = _address(request, record.track_id)
    links = {"self": address, "audio": f"{address}/audio", "provenance": f"{address}/provenance"}
    if record.midi_key is not None:
        links["midi"] = f"{address}/midi"
    hidden = ("audio_key", "midi_key", "node_id")
    fields = {name: value for name, value in asdict(record).items() if name not in hidden}
    return {"id": record.track_id, "cache": cache, "version": version, "links": links, "record": fields}


def _file_name(record: TrackRecord, suffix: str) -> str:
    """A Content-Disposition that says what the track is and shows in the browser all the same."""
    words = re.findall(r"[a-z0-9]+", record.prompt.lower(), re.ASCII)[:6]
    return f'inline; filename="{"-".join([*words, record.track_id[4:12]])}{suffix}"'


async def _audio_response(
    store: TrackStore, record: TrackRecord, request: Request, status: int, headers: dict[str, str]
) -> Response:
    """The stored file, or the part of it that is asked for."""
    format = AudioFormat(record.format)
    etag = f'"{record.audio_sha256}"'
    headers = headers | {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": _file_name(record, FILE_SUFFIXES[format]),
    }
    start, end = 0, record.audio_bytes
    if request.method in ("GET", "HEAD"):
        if matches_etag(request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers=headers)
        # A part of another version is worth nothing: then the whole file is sent.
        same = request.headers.get("if-range", etag) == etag
        part = parse_range(request.headers.get("range"), record.audio_bytes) if same else None
        if part is not None and request.method == "GET":
            (start, end), status = part, 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{record.audio_bytes}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(None, status, headers, MEDIA_TYPES[format])
    # Before the status is sent: audio that was changed is an error, not a file that ends early.
    await asyncio.to_thread(store.check_blob, record.audio_key)
    return StreamingResponse(_blocks(store, record.audio_key, start, end), status, headers, MEDIA_TYPES[format])


async def _blocks(store: TrackStore, key: str, start: int, end: int) -> AsyncIterator[bytes]:
    while start < end:
        # Up to the end of a block of the store's: each is read and checked once.
        block_end = min(end, (start // BLOCK_BYTES + 1) * BLOCK_BYTES)
        yield await asyncio.to_thread(store.read_range, key, start, block_end)
        start = block_end


async def _stored_stream(store: TrackStore, track: Track, wire_format: StreamFormat) -> AsyncIterator[bytes]:
    """A track that is in the store, as the file it is or decoded to PCM."""
    record = track.record
    if wire_format != "pcm":
        async for block in _blocks(store, record.audio_key, 0, record.audio_bytes):
            yield block
        return
    data = await asyncio.to_thread(store.get_blob, record.audio_key)
    audio, sample_rate_hz = await asyncio.to_thread(decode, data)
    encoder = StreamEncoder("pcm", sample_rate_hz, audio.shape[1], len(audio))
    for start in range(0, len(audio), BLOCK_BYTES // 4):
        yield await asyncio.to_thread(partial(encoder.push, audio[start : start + BLOCK_BYTES // 4]))


async def whole_or_broken(items: AsyncIterator[bytes | Refusal]) -> AsyncIterator[bytes]:
    """The audio; a refusal after it breaks the connection off, so that no client takes the stream for a whole track."""
    async for item in items:
        if isinstance(item, Refusal):
            raise BrokenStream(f"{item.reason}: {item.message}")
        yield item


class BrokenStream(Exception):
    """The track failed after a part of its audio had been sent."""


def _backed_up(pool: Pool) -> Refusal:
    return Refusal("overloaded", f"the {pool.value} pool takes no more requests", retry_after_s=DEFAULT_RETRY_AFTER_S)


def _gone(pool: Pool) -> Refusal:
    message = f"the {pool.value} pool lost the replica that worked on this; send the request again"
    return Refusal("not-ready", message, retry_after_s=DEFAULT_RETRY_AFTER_S)


async def _on_problem(_: Request, error: HttpProblem) -> Response:
    retry_after_s = DEFAULT_RETRY_AFTER_S if error.reason == "not-ready" else None
    return problem_response(
        error.reason, error.detail, problems=error.problems, headers=error.headers, retry_after_s=retry_after_s
    )


async def _on_own_error(_: Request, error: OrchestrionError) -> Response:
    return refusal_response(Refusal.of_error(error))


async def _on_framework_error(_: Request, error: FrameworkError) -> Response:
    return framework_response(error.status_code, error.headers)


async def _on_framework_validation(_: Request, error: RequestValidationError) -> Response:
    problems = [
        Problem(".".join(map(str, detail["loc"])), shown(detail.get("input")), detail["msg"])
        for detail in error.errors()
    ]
    return problem_response("invalid-request", "the query cannot be used", problems=problems)
