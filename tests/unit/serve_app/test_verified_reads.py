"""What HTTP gives out is what was signed and written: anything else in the store is an answer of 500, and no audio."""

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from orchestrion.rendering.pipeline import FINISHING, Pipeline, Stage
from orchestrion.rendering.renderer import Renderer
from orchestrion.storage.block_digests import BLOCK_BYTES
from orchestrion.storage.track_store import TrackStore
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.tracks.attestation import Verdict
from orchestrion.trust.signature import public_key_path
from orchestrion.trust.signed_record import SignedRecord, verify
from orchestrion.trust.signing import Signer
from serve_app.config import read_config
from serve_app.deployments.ingress import Ingress
from serve_app.routes import build_routes
from tests.fake_model import ToneModel
from tests.unit.rendering.test_renderer import CPU, SteppingClock, request


@pytest.fixture
def renderer(tmp_path):
    return Renderer(
        models={"tone": ToneModel()},
        store=TrackStore.open(str(tmp_path / "store")),
        signer=Signer.create(tmp_path / "key.pem"),
        node=CPU,
        pool="test",
        recorder=PrometheusRecorder(CollectorRegistry()),
        clock=SteppingClock(),
    )


@pytest.fixture
def track(renderer):
    """A track whose audio is longer than what is read of it at once."""
    track = renderer.render(request(format="wav", duration_s=8.0))
    assert track.record.audio_bytes > BLOCK_BYTES
    return track


@pytest.fixture
def other(renderer):
    return renderer.render(request(seed=1))


@pytest.fixture
def get(renderer, tmp_path):
    """GET as a client does, from an ingress without pools."""
    config = read_config({"store_url": renderer.store.url, "signing_key_path": str(tmp_path / "key.pem")}, {})
    app = build_routes(Ingress(config, None, None))

    def ask(path, **headers):
        async def answer():
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.get(f"/v1/tracks/{path}", headers=headers)

        return asyncio.run(answer())

    return ask


def folder_of(renderer, track):
    return Path(renderer.store.url, "tracks", track.track_id[4:6], track.track_id)


def refused(answer):
    assert answer.status_code == 500, answer.text
    assert answer.json()["type"] == "urn:orchestrion:problem:verification-failed"
    return answer.json()["detail"]


ROUTES = ("", "/audio", "/midi", "/provenance")


def test_what_is_genuine_is_given_out_whole_and_in_parts(renderer, track, get):
    audio = renderer.store.get_blob(track.record.audio_key)

    assert get(f"{track.track_id}/audio").content == audio
    part = get(f"{track.track_id}/audio", Range=f"bytes={BLOCK_BYTES - 5}-{BLOCK_BYTES + 5}")
    assert (part.status_code, part.content) == (206, audio[BLOCK_BYTES - 5 : BLOCK_BYTES + 6])
    summary = get(track.track_id).json()
    assert (summary["version"], summary["record"]["version"]) == (1, 1)


@pytest.mark.parametrize("route", ROUTES)
def test_a_genuine_record_of_another_track_is_not_given_out_under_this_id(renderer, track, other, get, route):
    shutil.copy(folder_of(renderer, other) / "000001.json", folder_of(renderer, track) / "000002.json")

    assert "this is the record of another track" in refused(get(track.track_id + route))
    assert get(other.track_id + route).status_code == 200


@pytest.mark.parametrize("route", ROUTES)
def test_a_record_that_nobody_known_has_signed_is_not_given_out(renderer, track, get, route):
    forged = replace(track.record, version=2, prompt="another tone", cost_usd=0.0)
    stranger = Signer(Ed25519PrivateKey.generate())
    (folder_of(renderer, track) / "000002.json").write_bytes(stranger.sign(forged).to_bytes())

    assert "not trusted here" in refused(get(track.track_id + route))


def test_the_signed_record_verifies_and_does_not_say_who_asked_first(renderer, get):
    mine = renderer.render(request(seed=2, requester="studio-secret", purpose="research"))

    envelope = get(f"{mine.track_id}/provenance").content

    signed = SignedRecord.from_bytes(envelope)
    verify(signed, renderer.store.get_blob(mine.record.audio_key), renderer.trusted_keys)
    assert signed.record.caller_sha256 == mine.record.caller_sha256
    for route in ROUTES:
        answer = get(mine.track_id + route)
        assert b"studio-secret" not in answer.content and mine.record.caller_salt.encode() not in answer.content
        assert "studio-secret" not in str(answer.headers)


@pytest.mark.parametrize("route", ROUTES)
def test_a_track_that_is_on_hold_is_given_to_nobody(renderer, get, route):
    hold = Stage("review", lambda work: work.attest("review", "a test", Verdict.HOLD))
    renderer.pipeline = Pipeline(finishing=(*FINISHING, hold))
    held = renderer.render(request(seed=3))

    answer = get(held.track_id + route)

    assert (answer.status_code, answer.json()["type"]) == (409, "urn:orchestrion:problem:on-hold")
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize("route", ROUTES)
def test_an_empty_tombstone_withdraws_nothing(renderer, track, get, route):
    (folder_of(renderer, track) / "withdrawn.json").touch()

    assert get(track.track_id + route).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-9"}], ids=["whole", "range"])
@pytest.mark.parametrize("what", ["changed", "cut", "link"])
def test_changed_audio_is_an_error_before_its_first_byte(renderer, track, get, what, headers):
    path = Path(renderer.store.url, track.record.audio_key)
    audio = path.read_bytes()
    if what == "link":
        path.unlink()
        path.symlink_to("/etc/passwd")
    else:
        path.write_bytes(audio[:-1] if what == "cut" else audio[:-1] + bytes([audio[-1] ^ 1]))

    refused(get(f"{track.track_id}/audio", **headers))


def test_changed_midi_is_an_error(renderer, track, get):
    Path(renderer.store.url, track.record.midi_key).write_bytes(b"MThd")

    refused(get(f"{track.track_id}/midi"))


def test_audio_that_is_changed_after_it_was_checked_is_not_sent(renderer, track, get):
    address = f"{track.track_id}/audio"
    path = Path(renderer.store.url, track.record.audio_key)
    audio = path.read_bytes()
    assert get(address, Range="bytes=0-9").content == audio[:10]
    path.write_bytes(audio[:-1] + bytes([audio[-1] ^ 1]))

    assert get(address, Range=f"bytes={len(audio) - 9}-").content == b""
    # The next one finds it out before it sends a status.
    refused(get(address, Range="bytes=0-9"))


def test_a_service_without_its_key_or_beside_a_planted_one_does_not_start(renderer, tmp_path):
    config = read_config({"store_url": renderer.store.url, "signing_key_path": str(tmp_path / "key.pem")}, {})
    public_key_path(tmp_path / "key.pem").write_bytes(Signer(Ed25519PrivateKey.generate()).public_pem)
    with pytest.raises(Exception, match="is not the public key of the private key beside it"):
        Ingress(config, None, None)
    (tmp_path / "key.pem").unlink()
    with pytest.raises(Exception, match="orchestrion signing init"):
        Ingress(config, None, None)
    assert not (tmp_path / "key.pem").exists()
