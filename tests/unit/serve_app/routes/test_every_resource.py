"""What HTTP promises of every resource, whichever route answers."""

import json

import pytest

from tests.ingress_app import BODY, JSON

PAGES = ["/", "/docs", "/page/app.js", "/page/style.css"]
ABOUT = ["/v1/models", "/v1/styles", "/openapi.json"]
PROBES = ["/healthz", "/readyz"]
PARTS = ["", "/audio", "/midi", "/provenance"]


def addresses(track):
    return [*PAGES, *ABOUT, *PROBES, *(f"/v1/tracks/{track['id']}{part}" for part in PARTS)]


def test_head_is_get_without_the_body(service, track):
    for address in addresses(track):
        got, head = service.get(address), service.request("HEAD", address)

        assert got.status_code == head.status_code == 200, address
        assert head.content == b""
        assert dict(head.headers) == dict(got.headers)
    assert service.request("HEAD", "/v1/tracks/trk_" + "a" * 32).status_code == 404
    assert service.request("HEAD", "/v1/themes").status_code == 405


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("path", ["/v1/tracks/", "/v1/models/", "/docs/", "/healthz/", "/v1/tracks/stream/", "//"])
def test_a_slash_more_is_another_address_and_leads_nowhere(service, method, path):
    answer = service.request(method, f"http://localhost{path}", headers={"Host": "127.0.0.1"} | JSON)

    assert answer.status_code in (404, 405)
    assert "location" not in answer.headers


def test_the_applications_own_prefix_leads_to_its_slash_by_a_relative_address(service):
    answer = service.get("/music/tiny", root_path="/music/tiny")

    assert (answer.status_code, answer.headers["location"]) == (308, "tiny/")


def test_unknown_and_repeated_query_names_are_refused(service, track):
    for address in [*ABOUT, *PROBES, *(f"/v1/tracks/{track['id']}{part}" for part in PARTS)]:
        answer = service.get(f"{address}?colour=red")
        assert answer.status_code == 422, address
        assert answer.json()["problems"] == [{"field": "colour", "value": "'red'", "message": "takes no query"}]
    misspelt = service.post("/v1/tracks/stream?formt=pcm", json=BODY)
    assert misspelt.json()["problems"][0]["field"] == "formt"
    assert "priority, format" in misspelt.json()["detail"]
    assert service.post("/v1/tracks?priority=batch&priority=batch", json=BODY).status_code == 422
    assert service.post("/v1/themes?name=x", content=b"x", headers={"Content-Type": "audio/midi"}).status_code == 422
    assert service.get("/?utm_source=mail").status_code == 200


def test_every_resource_can_be_kept_and_asked_after(service, track):
    for address in [address for address in addresses(track) if address not in PROBES]:
        etag = service.get(address).headers["etag"]

        for headers in (
            {"If-None-Match": etag},
            {"If-None-Match": f'"other", W/{etag}'},
            [("If-None-Match", '"other"'), ("If-None-Match", etag)],
            {"If-None-Match": "*"},
        ):
            answer = service.get(address, headers=headers)
            assert (answer.status_code, answer.content) == (304, b""), (address, headers)
            assert answer.headers["etag"] == etag
            assert "cache-control" in answer.headers
        assert service.get(address, headers={"If-None-Match": '"other"'}).status_code == 200
        assert service.get(address, headers={"If-Match": '"other"'}).status_code == 412
        assert service.get(address, headers={"If-Match": etag}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/tracks", "/v1/tracks/stream"])
@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_what_any_page_could_post_is_refused(service, path, content_type):
    headers = {"Content-Type": content_type} if content_type else {}

    assert service.post(path, content=json.dumps(BODY), headers=headers).status_code == 415
    assert service.post("/v1/themes", content=b"MThd", headers=headers).status_code == 415
