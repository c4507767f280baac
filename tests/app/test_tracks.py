"""Making tracks and getting them, as a client sees it."""

import hashlib
import io

import mido
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from orchestrion.audio.encode import decode
from orchestrion.audio.loudness import integrated_lufs
from orchestrion.audio.mastering import RECIPE_VERSION
from orchestrion.clock import SystemClock
from orchestrion.errors import VerificationFailed
from orchestrion.storage.takedown import take_down
from orchestrion.storage.track_store import TrackStore
from orchestrion.storage.verified_tracks import VerifiedTracks
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.tracks.identity import track_id
from orchestrion.tracks.record import CALLER_FIELDS
from orchestrion.tracks.spec import TrackSpec
from orchestrion.trust.signature import load_trusted_keys, public_key_path
from orchestrion.trust.signed_record import SignedRecord, verify
from orchestrion.trust.signing import Signer
from orchestrion.trust.signing_keys import trusted_keys

RATE_HZ = 44_100


def of_nobody(record):
    """What of a record is told to others than the caller that had the track made."""
    return {name: value for name, value in record.items() if name not in CALLER_FIELDS}


def test_a_new_track_is_created_with_links_that_lead_somewhere(client, track):
    assert set(track["links"]) == {"self", "audio", "midi", "provenance"}
    for link in track["links"].values():
        assert client.get(link).status_code == 200
    assert client.get(track["links"]["self"]).json()["record"] == of_nobody(track["record"])


def test_the_id_is_the_one_that_a_catalog_row_gives(client, track):
    (model,) = client.get("/v1/models").json()["models"]
    row = {"prompt": "calm solo piano in D minor, 70 bpm", "duration_s": "6", "seed": "11"}

    assert track["id"] == track_id(TrackSpec.from_text(row).resolve(), model["revision"], RECIPE_VERSION)


def test_the_same_request_again_is_a_cache_hit(client, track):
    body = {"prompt": "calm solo piano in D minor, 70 bpm", "duration_s": 6, "seed": 11, "requester": "somebody-else"}

    again = client.post("/v1/tracks", json=body)

    assert again.status_code == 200
    assert again.headers["x-cache"] == "hit"
    assert again.json()["id"] == track["id"]
    assert again.json()["record"] == of_nobody(track["record"])


def test_the_answer_is_audio_when_accept_says_so(client):
    body = {"prompt": "disco", "duration_s": 2}

    flac = client.post("/v1/tracks", json=body, headers={"Accept": "audio/flac"})

    assert flac.status_code == 201
    assert flac.headers["content-type"] == "audio/flac"
    assert client.get(flac.headers["location"]).json()["id"] == flac.headers["x-track-id"]
    audio, rate_hz = decode(flac.content)
    assert (audio.shape, rate_hz) == ((2 * RATE_HZ, 2), RATE_HZ)
    assert flac.headers["etag"] == f'"{hashlib.sha256(flac.content).hexdigest()}"'


def test_what_cannot_be_given_is_not_rendered(client):
    refused = client.post(
        "/v1/tracks", json={"prompt": "disco", "format": "mp3"}, headers={"Accept": "audio/flac, text/html"}
    )

    assert refused.status_code == 406
    assert "audio/mpeg" in refused.json()["detail"]


def test_two_equal_requests_at_once_render_once(client, service):
    import concurrent.futures

    body = {"prompt": "two at once, tango", "duration_s": 12}
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: client.post("/v1/tracks", json=body), range(2))

    assert first.json()["id"] == second.json()["id"]
    assert first.json()["record"]["created_at"] == second.json()["record"]["created_at"]
    assert first.json()["version"] == second.json()["version"] == 1


def test_a_batch_request_is_made_by_the_batch_pool(client):
    answer = client.post("/v1/tracks?priority=batch", json={"prompt": "reggae", "duration_s": 2})

    assert answer.status_code == 201
    assert answer.json()["record"]["pool"] == "batch"


def test_audio_by_range_etag_and_head(client, track):
    address = track["links"]["audio"]
    whole = client.get(address)
    etag = f'"{track["record"]["audio_sha256"]}"'

    part = client.get(address, headers={"Range": "bytes=100-299"})
    tail = client.get(address, headers={"Range": "bytes=-10"})
    other = client.get(address, headers={"Range": "bytes=0-9", "If-Range": '"another"'})
    head = client.head(address)

    assert hashlib.sha256(whole.content).hexdigest() == track["record"]["audio_sha256"]
    assert whole.headers["etag"] == etag
    assert whole.headers["cache-control"] == "public, no-cache"
    assert whole.headers["content-disposition"].endswith('.wav"')
    assert (part.status_code, part.content) == (206, whole.content[100:300])
    assert part.headers["content-range"] == f"bytes 100-299/{len(whole.content)}"
    assert tail.content == whole.content[-10:]
    assert (other.status_code, len(other.content)) == (200, len(whole.content))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))
    assert client.get(address, headers={"If-None-Match": etag}).status_code == 304
    beyond = client.get(address, headers={"Range": "bytes=99999999-"})
    assert beyond.status_code == 416
    assert beyond.headers["content-range"] == f"bytes */{len(whole.content)}"


def test_a_withdrawn_track_is_gone_by_every_way_to_it(client, service):
    body = {"prompt": "reggae, to be withdrawn", "duration_s": 2}
    track = client.post("/v1/tracks", json=body).json()
    etag = f'"{track["record"]["audio_sha256"]}"'
    signer, clock = Signer.load(service.signing_key), SystemClock()
    tracks = VerifiedTracks(
        TrackStore.open(str(service.store)), trusted_keys(signer, None), PrometheusRecorder(CollectorRegistry())
    )
    take_down(tracks, signer, [track["id"]], reason="claim 17", actor="operator-9", clock=clock)

    answers = [client.get(link, headers={"If-None-Match": etag}) for link in track["links"].values()]
    answers += [client.post(address, json=body) for address in ("/v1/tracks", "/v1/tracks/stream")]

    assert [answer.status_code for answer in answers] == [410] * 6
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:orchestrion:problem:withdrawn"
        assert "claim 17" not in answer.text and "operator-9" not in answer.text
    assert client.head(track["links"]["audio"]).status_code == 410


def test_the_score_parses(client, track):
    answer = client.get(track["links"]["midi"])

    score = mido.MidiFile(file=io.BytesIO(answer.content))
    assert answer.headers["content-type"] == "audio/midi"
    assert any(message.type == "note_on" for part in score.tracks for message in part)


def test_the_record_verifies_and_one_flipped_byte_does_not(client, track, service):
    trusted = load_trusted_keys(public_key_path(service.signing_key))
    audio = client.get(track["links"]["audio"]).content
    envelope = client.get(track["links"]["provenance"]).content

    verify(SignedRecord.from_bytes(envelope), audio, trusted)

    flipped = bytearray(audio)
    flipped[5000] ^= 1
    with pytest.raises(VerificationFailed, match="SHA-256"):
        verify(SignedRecord.from_bytes(envelope), bytes(flipped), trusted)
    forged = envelope.replace(b'"seed":11', b'"seed":12')
    assert forged != envelope
    with pytest.raises(VerificationFailed, match="signature"):
        verify(SignedRecord.from_bytes(forged), audio, trusted)


def read_stream(client, body, **options):
    """Joined bytes of a stream, its headers, and how many pieces came."""
    with client.stream("POST", "/v1/tracks/stream", json=body, **options) as answer:
        pieces = list(answer.iter_raw())
        assert answer.status_code == 200, pieces
        return b"".join(pieces), answer.headers, len(pieces)


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "ogg", "opus"])
def test_a_stream_is_a_file_of_the_asked_length_and_loudness_and_its_track_is_stored(client, format):
    body = {"prompt": "funk with slap bass", "duration_s": 8, "seed": 3, "format": format}

    data, headers, pieces = read_stream(client, body)

    audio, rate_hz = decode(data)
    assert pieces > 2
    assert headers["transfer-encoding"] == "chunked"
    assert int(headers["x-sample-rate"]) == rate_hz
    assert int(headers["x-channels"]) == audio.shape[1] == 2
    assert len(audio) == 8 * rate_hz
    assert integrated_lufs(audio, rate_hz) == pytest.approx(-14, abs=1)
    stored = client.get(f"/v1/tracks/{headers['x-track-id']}")
    assert stored.status_code == 200
    assert stored.json()["record"]["format"] == format
    again, again_headers, _ = read_stream(client, body)
    assert again_headers["x-cache"] == "hit"
    assert again == client.get(stored.json()["links"]["audio"]).content


def test_a_stream_of_pcm_is_the_stored_track_but_for_its_gain(client):
    # A length of more than six digits: its header once said 8.12346, a sample more than came.
    body = {"prompt": "celtic reel", "duration_s": 8.1234567, "seed": 3}

    data, headers, _ = read_stream(client, body, params={"format": "pcm"})

    assert headers["content-type"] == "audio/pcm"
    streamed = np.frombuffer(data, "<i2").reshape(-1, 2) / 32767
    stored, _ = decode(client.get(f"/v1/tracks/{headers['x-track-id']}/audio").content)
    assert streamed.shape == stored.shape == (round(float(headers["x-duration-seconds"]) * RATE_HZ), 2)
    assert np.corrcoef(streamed.ravel(), stored.ravel())[0, 1] > 0.99
    # From the store, PCM is what the file decodes to.
    cached, cached_headers, _ = read_stream(client, body, headers={"Accept": "audio/pcm"})
    assert cached_headers["x-cache"] == "hit"
    assert np.array_equal(np.frombuffer(cached, "<i2").reshape(-1, 2), np.round(stored * 32767))


def test_first_audio_comes_long_before_the_track_is_whole(client):
    body = {"prompt": "cinematic trailer", "duration_s": 60, "seed": 5}
    with client.stream("POST", "/v1/tracks/stream?format=pcm", json=body) as answer:
        next(answer.iter_raw())
        # The track is stored before its stream ends, so it cannot be there yet if this came while it is made.
        assert client.get(f"/v1/tracks/{answer.headers['x-track-id']}").status_code == 404


def test_a_theme_can_be_uploaded_and_used(client, track):
    midi = client.get(track["links"]["midi"]).content
    headers = {"Content-Type": "audio/midi"}
    uploaded = client.post("/v1/themes", content=midi, headers=headers)
    again = client.post("/v1/themes", content=midi, headers=headers)

    assert uploaded.status_code == 201
    assert uploaded.json() == again.json()
    answer = client.post("/v1/tracks", json={"prompt": "waltz", "duration_s": 4, "theme": uploaded.json()["theme"]})
    assert answer.status_code == 201
    assert answer.json()["record"]["theme"] == uploaded.json()["theme"]


def test_styles_models_health_and_document(client):
    styles = client.get("/v1/styles").json()
    assert len(styles["styles"]) >= 20
    assert "sad" in styles["moods"] and "cello" in styles["instruments"]
    assert client.get("/v1/models").json()["models"][0]["name"] == "composer"
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
