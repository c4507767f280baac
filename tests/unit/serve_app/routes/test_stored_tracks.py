"""What is stored of a track: parts, dates, licence, and what a takedown leaves."""

import hashlib

from orchestrion.storage.takedown import take_down
from tests.fake_model import ToneModel
from tests.ingress_app import BODY, Service

SECOND = "Sun, 01 Mar 2026 12:00:00 GMT"


def test_head_reads_no_audio_and_knows_no_parts(service, track):
    address = f"/v1/tracks/{track['id']}/audio"

    head = service.request("HEAD", address, headers={"Range": "bytes=0-9"})
    beyond = service.request("HEAD", address, headers={"Range": "bytes=99999999-"})

    assert (head.status_code, beyond.status_code) == (200, 200)
    assert head.headers["content-length"] == str(track["record"]["audio_bytes"])


def test_what_belongs_to_a_track_has_a_date(service, track):
    for part in ("", "/audio", "/midi", "/provenance"):
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


def test_a_withdrawn_track_is_gone_without_a_pool_too(tmp_path):
    service = Service(tmp_path)
    track = service.make()
    take_down(
        service.ingress.tracks, service.renderer.signer, [track["id"]], reason="x", actor="y", clock=service.clock
    )

    assert service.post("/v1/tracks", json=BODY).status_code == 410
    assert service.get(track["links"]["audio"], headers={"If-None-Match": "*"}).status_code == 410
