"""The routes as a client meets them: what HTTP promises of every resource, and what is found without a pool."""

import gzip
import hashlib
import io
import json

import numpy as np
import pytest

from orchestrion.audio.encode import decode, encode
from orchestrion.storage.takedown import take_down
from orchestrion.telemetry.metrics import CACHE_HITS, FAILURES
from orchestrion.tracks.request import AudioFormat
from tests.fake_model import ToneModel
from tests.ingress_app import JSON, Service
from tests.malformed_requests import MALFORMED_REQUESTS

BODY = {"prompt": "calm", "duration_s": 1, "sample_rate_hz": 8000}
PAGES = ["/", "/docs", "/page/app.js", "/page/style.css"]
ABOUT = ["/v1/models", "/v1/styles", "/openapi.json"]
PROBES = ["/healthz", "/readyz"]
PARTS = ["", "/audio", "/midi", "/provenance"]
SECOND = "Sun, 01 Mar 2026 12:00:00 GMT"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    return Service(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def track(service):
    return service.make()


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


def test_head_reads_no_audio_and_knows_no_parts(service, track):
    address = f"/v1/tracks/{track['id']}/audio"

    head = service.request("HEAD", address, headers={"Range": "bytes=0-9"})
    beyond = service.request("HEAD", address, headers={"Range": "bytes=99999999-"})

    assert (head.status_code, beyond.status_code) == (200, 200)
    assert head.headers["content-length"] == str(track["record"]["audio_bytes"])


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


def test_what_belongs_to_a_track_has_a_date(service, track):
    for part in PARTS:
        address = f"/v1/tracks/{track['id']}{part}"
        assert service.get(address).headers["last-modified"] == SECOND
        assert service.get(address, headers={"If-Modified-Since": SECOND}).status_code == 304
        assert service.get(address, headers={"If-Unmodified-Since": "Sat, 28 Feb 2026 12:00:00 GMT"}).status_code == 412


def test_parts_of_the_audio(service, track):
    address = f"/v1/tracks/{track['id']}/audio"
    whole = service.get(address)
    etag = whole.headers["etag"]

    def part(*headers):
        answer = service.get(address, headers=list(headers))
        return answer.status_code, answer.content

    wanted = ("Range", "bytes=100-299")
    assert hashlib.sha256(whole.content).hexdigest() == track["record"]["audio_sha256"]
    assert part(wanted) == (206, whole.content[100:300])
    assert part(wanted, ("If-Range", etag)) == (206, whole.content[100:300])
    assert part(wanted, ("If-Range", SECOND)) == (206, whole.content[100:300])
    assert part(wanted, ("If-Range", f"W/{etag}")) == (200, whole.content)
    assert part(wanted, ("If-Range", '"other"')) == (200, whole.content)
    assert part(wanted, ("Range", "bytes=0-1")) == (200, whole.content)
    assert part(wanted, ("If-Range", etag), ("If-Range", '"other"')) == (200, whole.content)
    assert part(("Range", "bytes=99999999-"))[0] == 416


def test_audio_says_under_what_licence_it_is(service, track, tmp_path):
    mit = '<https://spdx.org/licenses/MIT.html>; rel="license"'
    assert service.get(f"/v1/tracks/{track['id']}/audio").headers["link"] == mit
    assert service.get(f"/v1/tracks/{track['id']}/midi").headers["link"] == mit
    assert service.post("/v1/tracks/stream", json=BODY | {"seed": 5}).headers["link"] == mit
    assert service.post("/v1/tracks/stream", json=BODY | {"seed": 5}).headers["link"] == mit
    assert service.post("/v1/tracks", json=BODY, headers={"Accept": "audio/*"}).headers["link"] == mit
    bound = Service(tmp_path, ToneModel(commercial_use=False))
    answer = bound.post("/v1/tracks/stream", json=BODY | {"purpose": "research"})
    assert answer.headers["link"] == '<https://spdx.org/licenses/CC-BY-NC-4.0.html>; rel="license"'


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


@pytest.mark.parametrize(
    "accept, body, media_type",
    [
        ("audio/*", {}, "audio/wav"),
        ("audio/pcm", {}, "audio/pcm"),
        ("audio/pcm, audio/flac;q=0.5", {"format": "flac"}, "audio/pcm"),
        ("audio/ogg", {"format": "opus"}, "audio/ogg; codecs=opus"),
        ("audio/mpeg;q=0.2, audio/flac;q=0.8", {}, "audio/flac"),
    ],
)
def test_accept_chooses_the_stream(service, accept, body, media_type):
    wanted = {"prompt": "calm", "duration_s": 1} | body

    assert (
        service.post("/v1/tracks/stream", json=wanted, headers={"Accept": accept}).headers["content-type"] == media_type
    )


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


@pytest.mark.parametrize("path", ["/v1/tracks", "/v1/tracks/stream"])
@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_what_any_page_could_post_is_refused(service, path, content_type):
    headers = {"Content-Type": content_type} if content_type else {}

    assert service.post(path, content=json.dumps(BODY), headers=headers).status_code == 415
    assert service.post("/v1/themes", content=b"MThd", headers=headers).status_code == 415


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


PREFLIGHT = {
    "Origin": "https://app.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type",
}


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


def test_a_withdrawn_track_is_gone_without_a_pool_too(tmp_path):
    service = Service(tmp_path)
    track = service.make()
    take_down(
        service.ingress.tracks, service.renderer.signer, [track["id"]], reason="x", actor="y", clock=service.clock
    )

    assert service.post("/v1/tracks", json=BODY).status_code == 410
    assert service.get(track["links"]["audio"], headers={"If-None-Match": "*"}).status_code == 410


@pytest.mark.parametrize("format", ["wav", "mp3"])
def test_a_stored_track_as_pcm_is_what_its_file_decodes_to(service, format):
    body = BODY | {"format": format, "duration_s": 20, "seed": 3}
    service.post("/v1/tracks", json=body)

    streamed = service.post("/v1/tracks/stream?format=pcm", json=body)

    stored = service.get(f"/v1/tracks/{streamed.headers['x-track-id']}/audio").content
    audio, _ = decode(stored)
    assert streamed.headers["x-cache"] == "hit"
    difference = np.frombuffer(streamed.content, "<i2").reshape(-1, 2) - np.round(audio * 32767)
    # Where it is cut into blocks, an MP3 decoder rounds another way.
    assert np.abs(difference).max() <= (1 if format == "mp3" else 0)


def upload(service, data, **headers):
    return service.post("/v1/themes", content=data, headers={"Content-Type": "application/octet-stream"} | headers)


def test_an_upload_is_checked_and_kept(service):
    melody = encode(np.full((8000, 1), 0.1, np.float32), 8000, AudioFormat.FLAC)

    answer = upload(service, melody)
    packed = upload(service, gzip.compress(melody), **{"Content-Encoding": "gzip"})

    assert answer.status_code == packed.status_code == 201
    assert answer.json() == packed.json() == {"theme": "sha256:" + hashlib.sha256(melody).hexdigest()}
    assert service.ingress.store.theme(answer.json()["theme"]) == melody
    assert upload(service, b"no music").status_code == 422
    assert upload(service, io.BytesIO(bytes(20 * 2**20 + 1)).getvalue()).status_code == 413
    assert upload(service, melody, **{"Content-Encoding": "br"}).headers["accept-encoding"] == "gzip, identity"
