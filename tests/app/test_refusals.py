"""Whatever is sent, the answer is a problem document that helps, and never a 500."""

import json

import pytest

from tests.malformed_requests import MALFORMED_BODIES, MALFORMED_REQUESTS

JSON = {"Content-Type": "application/json"}
FILE = {"Content-Type": "application/octet-stream"}


def problem(answer):
    body = answer.json()
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["status"] == answer.status_code
    assert len(body["detail"]) >= 10
    assert "Traceback" not in answer.text
    return body


@pytest.mark.parametrize("name, named, value", MALFORMED_REQUESTS, ids=[name for name, *_ in MALFORMED_REQUESTS])
def test_malformed_requests(client, name, named, value):
    answer = client.post("/v1/tracks", content=json.dumps(value), headers=JSON)

    body = problem(answer)
    if answer.status_code == 422:
        assert named in json.dumps(body)
        assert body["problems"]


@pytest.mark.parametrize("path", ["/v1/tracks", "/v1/tracks/stream"])
@pytest.mark.parametrize("name, data", MALFORMED_BODIES, ids=[name for name, _ in MALFORMED_BODIES])
def test_malformed_bodies(client, name, data, path):
    problem(client.post(path, content=data, headers=JSON))


@pytest.mark.parametrize(
    "method, path, options, status",
    [
        ("GET", "/nowhere", {}, 404),
        ("GET", "/v1/tracks", {}, 405),
        ("DELETE", "/v1/models", {}, 405),
        ("GET", "/v1/tracks/trk_" + "a" * 32, {}, 404),
        ("GET", "/v1/tracks/trk_" + "a" * 32 + "/audio", {}, 404),
        ("GET", "/v1/tracks/..%2f..%2fetc%2fpasswd", {}, 404),
        ("GET", "/v1/tracks/%00", {}, 404),
        ("GET", "/v1/tracks/trk_%F0%9F%8E%B5/midi", {}, 404),
        ("GET", "/page/..%2fapp.py", {}, 404),
        ("GET", "/page/app.py", {}, 404),
        ("POST", "/v1/tracks", {"data": {"prompt": "calm"}}, 415),
        ("POST", "/v1/tracks", {"files": {"prompt": b"calm"}}, 415),
        ("POST", "/v1/tracks", {"content": b" " * 70_000, "headers": JSON}, 413),
        ("POST", "/v1/tracks?priority=now", {"json": {"prompt": "calm"}}, 422),
        ("POST", "/v1/tracks/stream?format=aiff", {"json": {"prompt": "calm"}}, 422),
        ("POST", "/v1/tracks/stream?format=mp3", {"json": {"prompt": "calm", "format": "wav"}}, 422),
        ("POST", "/v1/tracks/stream", {"json": {"prompt": "calm"}, "headers": {"Accept": "text/html"}}, 406),
        ("POST", "/v1/tracks", {"json": {"prompt": "calm", "model": "no-such-model"}}, 422),
        ("POST", "/v1/tracks", {"json": {"prompt": "calm", "theme": "sha256:" + "0" * 64}}, 404),
        ("POST", "/v1/tracks/stream", {"json": {"prompt": "calm", "theme": "sha256:" + "0" * 64}}, 404),
        ("POST", "/v1/tracks", {"json": {"prompt": "calm", "continuation": "sha256:" + "0" * 64}}, 422),
        ("POST", "/v1/tracks/stream", {"json": {"prompt": "calm", "temperature": 0}}, 422),
        ("POST", "/v1/themes", {"content": b"", "headers": FILE}, 422),
        ("POST", "/v1/themes", {"content": b"RIFF but not really a wave file", "headers": FILE}, 422),
        ("POST", "/v1/themes", {"content": b"MThd" + b"\xff" * 100, "headers": FILE}, 422),
        ("POST", "/v1/themes", {"content": b"MThd\x00\x00\x00\x06\x00\x00\x00\x00\x01\xe0", "headers": FILE}, 422),
        ("POST", "/v1/themes", {"content": b"\x00" * (20 * 2**20 + 1), "headers": FILE}, 413),
    ],
)
def test_other_mistakes(client, method, path, options, status):
    answer = client.request(method, path, **options)

    problem(answer)
    assert answer.status_code == status


def test_answers_carry_a_request_id_and_security_headers(client):
    answer = client.get("/", headers={"X-Request-Id": "from-the-client-7"})

    assert answer.headers.get_list("x-request-id") == ["from-the-client-7"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(client.get("/healthz").headers["x-request-id"]) >= 16
