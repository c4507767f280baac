"""Which pool the ingress asks for a long track: the batch pool while it runs, and the other one while it is empty."""

from dataclasses import replace

import pytest

from orchestrion.errors import Overloaded
from orchestrion.rendering.admission import BATCH_WARM_S
from orchestrion.tracks.outcome import Failure
from serve_app.deployments.render_pool import StreamHeader
from tests.fake_model import ToneModel
from tests.ingress_app import HeldClock, Pool, Service

LONG = {"prompt": "calm", "duration_s": 200}


class StubPool(Pool):
    """Streams a few bytes at once, or says that it has no room."""

    full = False

    async def _render(self, request, priority):
        self.calls.append("render")
        return Failure.of(Overloaded("full", 7.0), "queue")

    async def _stream(self, request, wire_format, priority):
        self.calls.append("stream")
        if self.full:
            yield Failure.of(Overloaded("full", 7.0), "queue")
            return
        yield StreamHeader("trk_x", 44_100, 2, request.composition.duration_s)
        yield b"music"


@pytest.fixture
def service(tmp_path):
    model = ToneModel()
    model.info = replace(model.info, max_duration_s=600.0)
    service = Service(tmp_path, model)
    service.pool, service.batch = StubPool(service.renderer), StubPool(service.renderer)
    service.ingress.pools = dict(zip(service.ingress.pools, (service.pool, service.batch), strict=True))
    service.ingress._clock = HeldClock()
    return service


def asked(service):
    names = [
        *(f"low-latency {call}" for call in service.pool.calls),
        *(f"batch {call}" for call in service.batch.calls),
    ]
    service.pool.calls.clear()
    service.batch.calls.clear()
    return [name for name in names if not name.endswith("models")]


def test_a_long_track_does_not_wait_for_an_empty_pool_to_start(service):
    answer = service.post("/v1/tracks/stream", json=LONG)

    assert (answer.status_code, answer.content) == (200, b"music")
    assert asked(service) == ["low-latency stream"]


def test_where_the_other_pool_has_no_room_it_does_wait(service):
    service.pool.full = True

    assert service.post("/v1/tracks/stream", json=LONG).content == b"music"
    assert asked(service) == ["low-latency stream", "batch stream"]


def test_a_pool_that_has_answered_lately_gets_the_long_tracks(service):
    service.post("/v1/tracks/stream?priority=batch", json=LONG)
    asked(service)

    service.post("/v1/tracks/stream", json=LONG)
    assert asked(service) == ["batch stream"]

    service.ingress._clock.reading_s += BATCH_WARM_S
    service.post("/v1/tracks/stream", json=LONG)
    assert asked(service) == ["low-latency stream"]


def test_whoever_has_no_room_at_all_says_so_once(service):
    answer = service.post("/v1/tracks", json=LONG)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert asked(service) == ["low-latency render", "batch render"]
    assert service.post("/v1/tracks", json=LONG | {"duration_s": 100}).status_code == 503
    assert asked(service) == ["low-latency render"]
