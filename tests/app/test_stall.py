"""A model that really hangs, in a replica's own threads and with the real clock: noticed, told, and unhealthy."""

import asyncio
import threading

import pytest
from prometheus_client import CollectorRegistry

from orchestrion.accounting.cost import Node
from orchestrion.clock import SystemClock
from orchestrion.rendering.admission import Pool, Priority
from orchestrion.rendering.renderer import Renderer
from orchestrion.storage.track_store import TrackStore
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.tracks.outcome import Failure
from orchestrion.tracks.spec import TrackSpec
from orchestrion.trust.signing import Signer
from serve_app.config import read_config
from serve_app.deployments import render_pool as pools
from serve_app.deployments.render_pool import RenderPool, StreamHeader
from tests.fake_model import ToneModel

STALL_S = 0.5


class HangingModel(ToneModel):
    """Stops in the middle of a piece whose prompt says so, until it is let go."""

    def __init__(self):
        super().__init__()
        self.let_go = threading.Event()

    def _chunks(self, conditioning):
        for chunk in super()._chunks(conditioning):
            yield chunk
            if "hang" in conditioning.prompt:
                self.let_go.wait(timeout=60)


@pytest.fixture
def model():
    model = HangingModel()
    yield model
    model.let_go.set()


@pytest.fixture
def pool(tmp_path, model, monkeypatch):
    store, signer = TrackStore.open(str(tmp_path / "store")), Signer.create(tmp_path / "key.pem")
    node = Node("node-1", "local-cpu", "cpu-core", "on-demand", 0.36, "a test")
    recorder = PrometheusRecorder(CollectorRegistry())
    renderer = Renderer({"tone": model}, store, signer, node, "low-latency", recorder, SystemClock())
    monkeypatch.setattr(pools, "build_renderer", lambda *_: renderer)
    places = {"store_url": str(tmp_path / "store"), "signing_key_path": str(tmp_path / "key.pem")}
    config = read_config(places | {"stall_s": STALL_S}, {})
    return RenderPool(Pool.LOW_LATENCY, config, config.low_latency)


def wish(prompt):
    fields = {"prompt": prompt, "model": "tone", "duration_s": 4.0, "format": "flac"}
    return TrackSpec.from_json(fields).resolve()


def test_a_hung_model_fails_the_health_check_and_all_who_wait_are_told(pool, model):
    async def ask():
        return [item async for item in pool.stream(wish("hang here"), "pcm", Priority.INTERACTIVE)]

    async def both():
        beside = asyncio.create_task(pool.render(wish("beside it"), Priority.INTERACTIVE))
        async with asyncio.timeout(20):
            return await asyncio.create_task(ask()), await beside

    pool.check_health()
    streamed, beside = asyncio.run(both())

    assert isinstance(streamed[0], StreamHeader)
    assert isinstance(streamed[-1], Failure) and streamed[-1].code == "stalled"
    # Beside it, a short piece may have been made before the model hung.
    assert not isinstance(beside, Failure) or beside.code == "stalled"
    with pytest.raises(RuntimeError, match="nothing has moved"):
        pool.check_health()
    refused = asyncio.run(pool.render(wish("later"), Priority.INTERACTIVE))
    assert refused.code == "stalled" and refused.retry_after_s > 0

    model.let_go.set()
    made = asyncio.run(until_well(pool))
    assert made.record.duration_s == 4.0
    pool.check_health()


def test_a_store_that_does_not_answer_a_look_up_holds_up_nobody_else(pool, model, monkeypatch):
    really_find = pool._renderer.find

    def find(request):
        if "hang" in request.composition.prompt:
            model.let_go.wait(timeout=60)
        return really_find(request)

    monkeypatch.setattr(pool._renderer, "find", find)

    async def both():
        hung = asyncio.create_task(pool.render(wish("hang here"), Priority.INTERACTIVE))
        made = await pool.render(wish("beside it"), Priority.INTERACTIVE)
        return await hung, made

    hung, made = asyncio.run(asyncio.wait_for(both(), timeout=20))

    assert (hung.code, hung.retry_after_s is not None) == ("store-unavailable", True)
    assert made.record.duration_s == 4.0
    pool.check_health()


async def until_well(pool):
    async with asyncio.timeout(20):
        while isinstance(made := await pool.render(wish("later"), Priority.INTERACTIVE), Failure):
            await asyncio.sleep(0.1)
        return made
