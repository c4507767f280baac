"""The HTTP app as a client meets it, without Ray: its routes around a pool that renders with `ToneModel`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
from prometheus_client import CollectorRegistry

from orchestrion.accounting.cost import Node
from orchestrion.rendering.renderer import Renderer
from orchestrion.storage.track_store import TrackStore
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.tracks.outcome import Failure, Track
from orchestrion.trust.signing import Signer
from serve_app.config import read_config
from serve_app.deployments.ingress import Ingress
from serve_app.deployments.render_pool import StreamHeader
from serve_app.routes import build_routes
from serve_app.uploads.found import UploadReading, UploadUse
from serve_app.uploads.reading import read_upload
from serve_app.uploads.uploads import Uploads
from tests.fake_model import ToneModel

JSON = {"Content-Type": "application/json"}
#: The track that `Service.make` makes.
BODY = {"prompt": "calm", "duration_s": 1, "sample_rate_hz": 8000}


class HeldClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.reading = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.reading_s = 0.0

    def now(self) -> datetime:
        return self.reading

    def monotonic_s(self) -> float:
        return self.reading_s

    def thread_cpu_s(self) -> float:
        return self.reading_s


class Pool:
    """What the ingress uses of a handle."""

    def __init__(self, renderer: Renderer, is_there: bool = True) -> None:
        self._renderer = renderer
        self.is_there = is_there
        self.calls: list[str] = []
        self.render = Method(self._render)
        self.stream = Method(self._stream)
        self.models = Method(self._models)

    def options(self, **_: object) -> Pool:
        return self

    async def _models(self):
        self.calls.append("models")
        if not self.is_there:
            raise TimeoutError
        return tuple(model.info for model in self._renderer.models.values())

    async def _render(self, request, priority):
        self.calls.append("render")
        return self._renderer.render(request)

    async def _stream(self, request, wire_format, priority) -> AsyncIterator[object]:
        self.calls.append("stream")
        outcome = self._renderer.render(request)
        if isinstance(outcome, Failure):
            yield outcome
            return
        yield StreamHeader(outcome.track_id, request.delivery.sample_rate_hz, 2, request.composition.duration_s)
        yield self._renderer.store.get_blob(outcome.record.audio_key)


class Method:
    def __init__(self, call) -> None:
        self.remote = call


class Service:
    """The app and what stands behind it. `get`, `post` and `request` are those of httpx."""

    def __init__(self, folder: Path, model: ToneModel | None = None, **settings: object) -> None:
        self.clock = HeldClock()
        signer = Signer.create(folder / "key.pem")
        places = {
            "store_url": str(folder / "store"),
            "signing_key_path": str(folder / "key.pem"),
            "models": "tone=/tone",
        }
        self.config = read_config(places | settings, {})
        model = model or ToneModel()
        self.registry = CollectorRegistry()
        self.recorder = PrometheusRecorder(self.registry)
        self.renderer = Renderer(
            models={model.info.name: model},
            store=TrackStore.open(self.config.store_url, self.config.storage_options),
            signer=signer,
            node=Node("node-1", "local-cpu", "cpu-core", "on-demand", 0.36, "a test"),
            pool="test",
            recorder=self.recorder,
            clock=self.clock,
        )
        self.pool, self.batch = Pool(self.renderer), Pool(self.renderer)
        self.ingress = Ingress(self.config, self.pool, self.batch, self.recorder)
        self.ingress.uploads = Uploads(self.config, self.ingress.store, self.clock, check_here)
        self.app = build_routes(self.ingress)

    def request(self, method: str, path: str, *, root_path: str = "", **options) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, root_path=root_path)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def get(self, path: str, **options) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options) -> httpx.Response:
        return self.request("POST", path, **options)

    def make(self, **fields: object) -> Track:
        """A stored track."""
        answer = self.post("/v1/tracks", json=BODY | fields)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()


async def check_here(path: Path, use: UploadUse) -> UploadReading:
    return read_upload(path.read_bytes(), use)
