"""Tracks on request: what is made, what is found without a pool, and what is refused before a pool hears of it."""

import json

import pytest

from orchestrion.telemetry.metrics import CACHE_HITS, FAILURES
from tests.ingress_app import BODY, JSON, Service
from tests.malformed_requests import MALFORMED_REQUESTS


@pytest.mark.parametrize(
    "accept, media_type",
    [
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "application/json"),
        ("audio/*", "audio/wav"),
        ("audio/mpeg, audio/wav;q=0.1", "audio/mpeg"),
        ("audio/flac;q=0.5, audio/ogg", "audio/ogg"),
        ("audio/ogg; codecs=opus", "audio/ogg; codecs=opus"),
        ("audio/opus", "audio/ogg; codecs=opus"),
        ("audio/x-flac, application/json;q=0.9", "audio/flac"),
        ("audio/flac, application/json", "application/json"),
    ],
)
def test_accept_chooses_the_answer(service, accept, media_type):
    answer = service.post("/v1/tracks", json={"prompt": "calm", "duration_s": 1}, headers={"Accept": accept})

    assert answer.headers["content-type"] == media_type
    assert answer.headers["vary"] == "Accept"


def test_what_cannot_be_given_is_refused_before_it_is_made(service):
    calls = list(service.pool.calls)

    refused = service.post("/v1/tracks", json=BODY | {"format": "mp3", "seed": 91}, headers={"Accept": "audio/flac"})

    assert refused.status_code == 406
    assert "audio/mpeg" in refused.json()["detail"]
    assert service.pool.calls == calls


@pytest.mark.parametrize("name, named, value", MALFORMED_REQUESTS, ids=[name for name, *_ in MALFORMED_REQUESTS])
def test_no_refusal_speaks_python(service, name, named, value):
    answer = service.post("/v1/tracks", content=json.dumps(value), headers=JSON)

    assert 400 <= answer.status_code < 500
    for word in ("None", "True", "False", "object at 0x", "Traceback", "Error", "dictionary", "pydantic", "<class"):
        assert word not in answer.text, answer.text


def test_a_stored_track_is_found_without_a_pool(tmp_path):
    service = Service(tmp_path)
    track = service.make()
    service.pool.calls.clear()

    again = service.post("/v1/tracks", json=BODY)
    by_batch = service.post("/v1/tracks?priority=batch", json=BODY)
    streamed = service.post("/v1/tracks/stream", json=BODY)

    assert (again.status_code, again.headers["x-cache"], again.json()["record"]) == (200, "hit", track["record"])
    assert by_batch.json()["id"] == again.json()["id"]
    assert streamed.headers["x-cache"] == "hit"
    assert service.pool.calls == service.batch.calls == []
    assert service.registry.get_sample_value(CACHE_HITS.name, {"pool": "batch", "model": "tone"}) == 1


def test_a_track_is_made_where_nobody_can_say_which_models_there_are(tmp_path):
    service = Service(tmp_path)
    service.pool.is_there = False

    assert service.post("/v1/tracks", json=BODY).status_code == 201
    assert service.get("/v1/models").status_code == 503


@pytest.mark.parametrize(
    "wish, status, reason",
    [
        ({"model": "no-such"}, 422, "invalid-request"),
        ({"temperature": 1}, 422, "invalid-request"),
        ({"duration_s": 100}, 422, "invalid-request"),
    ],
)
def test_what_no_model_here_can_make_is_refused_without_a_pool(tmp_path, wish, status, reason):
    service = Service(tmp_path)

    answer = service.post("/v1/tracks", json=BODY | wish)

    assert answer.status_code == status
    assert "render" not in service.pool.calls + service.batch.calls
    labels = {"pool": "low-latency", "model": "unknown" if "model" in wish else "tone", "reason": reason}
    assert service.registry.get_sample_value(FAILURES.name, labels) == 1


def test_who_had_a_track_made_first_is_told_to_no_other_caller(service):
    asked = {**BODY, "requester": "studio-1", "purpose": "research"}
    made = service.post("/v1/tracks", json=asked).json()
    assert (made["record"]["requester"], made["record"]["purpose"]) == ("studio-1", "research")

    again = service.post("/v1/tracks", json=asked).json()
    other = service.post("/v1/tracks", json={**asked, "requester": "studio-2"}).json()
    looked_up = service.get(f"/v1/tracks/{made['id']}").json()

    assert (again["cache"], again["record"]["requester"]) == ("hit", "studio-1")
    for answer in (other, looked_up):
        assert (answer["id"], answer["cache"]) == (made["id"], "hit")
        assert {"requester", "purpose"} & answer["record"].keys() == set()
