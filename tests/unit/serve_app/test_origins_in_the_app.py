"""Other people's pages and this service: what the guard does around every route."""

import json

from tests.ingress_app import BODY, JSON, Service

PREFLIGHT = {
    "Origin": "https://app.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type",
}


def test_another_origins_page_can_make_nothing(service):
    elsewhere = JSON | {"Origin": "https://attacker.example", "Sec-Fetch-Site": "cross-site"}
    calls = list(service.pool.calls)

    answers = [
        service.post(path, content=json.dumps(BODY | {"seed": 92}), headers=elsewhere)
        for path in ("/v1/tracks", "/v1/tracks/stream", "/v1/themes")
    ]

    assert [answer.status_code for answer in answers] == [403] * 3
    assert service.pool.calls == calls
    assert service.get("/v1/models", headers={"Host": "attacker.example"}).status_code == 421
    assert service.get("/healthz", headers={"Host": "attacker.example"}).status_code == 200


def test_without_the_setting_no_other_origin_is_let_in(service):
    assert service.request("OPTIONS", "/v1/tracks", headers=PREFLIGHT).status_code == 405
    answer = service.get("/v1/models", headers={"Origin": "https://app.example"})
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_with_the_setting_that_origin_is(tmp_path):
    service = Service(tmp_path, allowed_origins="https://app.example")

    preflight = service.request("OPTIONS", "/v1/tracks", headers=PREFLIGHT)
    made = service.post(
        "/v1/tracks", json=BODY, headers={"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
    )
    heard = service.get(made.json()["links"]["audio"], headers={"Origin": "https://app.example"})
    other = service.request("OPTIONS", "/v1/tracks", headers=PREFLIGHT | {"Origin": "https://attacker.example"})
    refused = service.post("/v1/tracks", json=BODY, headers={"Origin": "https://attacker.example"})

    assert preflight.status_code == 204
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "content-type" in preflight.headers["access-control-allow-headers"].lower()
    for answer in (preflight, made, heard):
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "Origin" in answer.headers["vary"]
    assert "X-Track-Id" in heard.headers["access-control-expose-headers"]
    assert refused.status_code == 403
    for answer in (other, refused, service.get("/v1/models")):
        assert "access-control-allow-origin" not in answer.headers
        assert "Origin" in answer.headers["vary"]


def test_everybodys_pages_may_embed_when_all_are_allowed(tmp_path):
    answer = Service(tmp_path, allowed_origins="*").get("/v1/styles")

    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
