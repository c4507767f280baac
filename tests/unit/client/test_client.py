"""The client against the real HTTP app: what comes is what was made, and what was changed on the way is refused."""

import hashlib

import httpx
import pytest

from orchestrion.client import Client, ServedModel, Unreachable
from orchestrion.errors import Internal, InvalidRequest, NotFound, VerificationFailed, Withdrawn
from orchestrion.storage.takedown import take_down
from orchestrion.tracks.record import CALLER_FIELDS
from orchestrion.tracks.spec import TrackSpec
from orchestrion.trust.signing import Signer
from tests.fake_model import MIDI
from tests.ingress_app import Service
from tests.midi_files import midi
from tests.unit.client.service import Broken, InProcess, Prepared, client_of, problem

SPEC = TrackSpec(prompt="calm", duration_s=1.0, sample_rate_hz=8000, format="flac")


@pytest.fixture
def service(tmp_path):
    return Service(tmp_path)


@pytest.fixture
def client(service):
    return client_of(InProcess(service.app), trusted_keys=service.renderer.trusted_keys)


class Changing(httpx.BaseTransport):
    """A proxy that changes answers of one kind."""

    def __init__(self, app, end, change):
        self._inner, self._end, self._change = InProcess(app), end, change

    def handle_request(self, request):
        answer = self._inner.handle_request(request)
        if not request.url.path.endswith(self._end):
            return answer
        return httpx.Response(answer.status_code, content=self._change(answer.read()))


def test_a_track_is_made_found_again_downloaded_and_verified(client, service, tmp_path):
    made = client.create(SPEC)
    again = client.create(SPEC, priority="batch")

    assert (made.cache_hit, again.cache_hit, again.track_id) == (False, True, made.track_id)
    assert made.record["model"] == "tone", "the service's own first model was not taken"
    # Who asked first is told to no one who does not say the same.
    told = {name: made.record[name] for name in made.record if name not in CALLER_FIELDS}
    assert client.get(made.track_id).record == told
    signed = client.provenance(made.track_id)
    audio = client.audio(made.track_id)
    assert audio == service.renderer.store.get_blob(signed.record.audio_key) and audio[:4] == b"fLaC"
    client.save_audio(made.track_id, tmp_path / "calm.flac")
    assert (tmp_path / "calm.flac").read_bytes() == audio
    assert client.midi(made.track_id) == MIDI


def test_a_stream_says_what_comes_and_then_gives_it(client):
    with client.stream(SPEC, format="flac") as stream:
        heard = b"".join(stream)

    assert (stream.cache_hit, stream.sample_rate_hz, stream.channels, stream.duration_s) == (False, 8000, 2, 1.0)
    assert stream.media_type == "audio/flac"
    assert heard == client.audio(stream.track_id)
    with client.stream(SPEC) as stream:
        assert stream.cache_hit and b"".join(stream) == heard


def test_a_theme_is_uploaded_and_used(client, tmp_path):
    (tmp_path / "melody.mid").write_bytes(MIDI)
    with pytest.raises(InvalidRequest):  # The score of the fake model has no note.
        client.upload_theme(tmp_path / "melody.mid")

    upload = client.upload(midi())

    assert upload.reference == client.upload_theme(midi()) == "sha256:" + hashlib.sha256(midi()).hexdigest()
    assert (upload.kind, upload.duration_s, upload.notes, upload.metre) == ("MIDI", 4.0, 8, None)
    assert client.create(TrackSpec(**SPEC.model_dump(exclude_unset=True) | {"theme": upload.reference})).track_id
    with pytest.raises(InvalidRequest, match="theme: cannot be read"):
        client.upload_theme(tmp_path / "no-such.mid")


def test_audio_to_go_on_from_is_uploaded_as_such(client, tmp_path):
    wav = _a_second_of_wav(client)

    assert client.upload_continuation(wav).startswith("sha256:")
    assert client.upload(wav, "continuation").kind == "WAV"
    with pytest.raises(InvalidRequest, match="continuation: a MIDI file has no sound"):
        client.upload_continuation(midi())
    with pytest.raises(InvalidRequest, match="continuation: cannot be read"):
        client.upload_continuation(tmp_path / "no-such.wav")


def _a_second_of_wav(client: Client) -> bytes:
    made = client.create(TrackSpec(prompt="calm", duration_s=1.0, sample_rate_hz=8000, format="wav"))
    return client.audio(made.track_id)


def test_what_requests_may_name_is_told(client):
    [model] = client.models()
    words = client.styles()

    assert isinstance(model, ServedModel) and (model.name, model.revision) == ("tone", "tone-1")
    assert "lofi" in words.styles and "calm" in words.moods and "cello" in words.instruments
    assert client.ready() is True


def test_each_refusal_is_the_error_that_it_is(client, service):
    track_id = client.create(SPEC).track_id

    with pytest.raises(InvalidRequest) as wrong:
        client.create(TrackSpec(prompt="calm", model="no-such-model"))
    assert [problem.field for problem in wrong.value.problems] == ["model"]
    with pytest.raises(NotFound):
        client.get("trk_" + "a" * 32)
    with pytest.raises(NotFound):
        client.get("../models")
    take_down(service.renderer.tracks, service.renderer.signer, [track_id], reason="r", actor="a", clock=service.clock)
    for ask in (client.get, client.audio, client.midi, client.provenance):
        with pytest.raises(Withdrawn):
            ask(track_id)
    with pytest.raises(Withdrawn), client.stream(SPEC):
        pass


def flipped(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1])


@pytest.mark.parametrize(
    "change", [flipped, lambda body: body + b"more", lambda body: body[:-1]], ids=["changed", "longer", "shorter"]
)
def test_audio_that_was_changed_is_refused_and_leaves_no_file(service, tmp_path, change):
    track_id = client_of(InProcess(service.app)).create(SPEC).track_id
    changing = Changing(service.app, "/audio", change)
    client = client_of(changing, trusted_keys=service.renderer.trusted_keys)
    (tmp_path / "here").mkdir()

    with pytest.raises(VerificationFailed, match="the record says"):
        client.audio(track_id)
    with pytest.raises(VerificationFailed):
        client.save_audio(track_id, tmp_path / "here" / "calm.flac")

    assert list((tmp_path / "here").iterdir()) == []
    assert client_of(changing).audio(track_id), "without keys nothing is verified"


def test_a_score_and_a_record_that_were_changed_are_refused(service):
    first = client_of(InProcess(service.app))
    track_id, other = first.create(SPEC).track_id, first.create(SPEC.model_copy(update={"prompt": "bright"})).track_id
    keys = service.renderer.trusted_keys
    of_another = InProcess(service.app).handle_request(
        httpx.Request("GET", f"http://localhost/v1/tracks/{other}/provenance")
    )
    body = of_another.read()

    with pytest.raises(VerificationFailed, match="the score's SHA-256"):
        client_of(Changing(service.app, "/midi", flipped), trusted_keys=keys).midi(track_id)
    with pytest.raises(VerificationFailed, match="another track"):
        client_of(Changing(service.app, "/provenance", lambda _: body), trusted_keys=keys).provenance(track_id)
    with pytest.raises(VerificationFailed, match="not a signed record"):
        client_of(Changing(service.app, "/provenance", lambda _: b"{}")).provenance(track_id)


def test_a_record_of_a_key_that_is_not_trusted_is_refused(service, tmp_path):
    track_id = client_of(InProcess(service.app)).create(SPEC).track_id
    stranger = Signer.create(tmp_path / "stranger.pem")
    client = client_of(InProcess(service.app), trusted_keys={stranger.key_id: stranger.public_key})

    for ask in (client.provenance, client.audio, client.midi):
        with pytest.raises(VerificationFailed, match="not trusted here"):
            ask(track_id)


def test_a_stream_that_is_broken_off_is_no_whole_track():
    head = {"X-Track-Id": "trk_1", "X-Cache": "miss", "X-Sample-Rate": "44100", "X-Channels": "2"}
    head |= {"X-Duration-Seconds": "30", "Content-Type": "audio/wav"}
    client = client_of(Prepared(httpx.Response(200, headers=head, stream=Broken())))

    with client.stream(SPEC) as stream:
        blocks = iter(stream)
        assert next(blocks) == b"RIFF"
        with pytest.raises(Unreachable, match="was broken off"):
            next(blocks)


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b'{"id": 3}', b"[]"])
def test_an_answer_of_something_else_is_said_to_be_one(answer):
    client = client_of(Prepared(httpx.Response(200, content=answer)))

    for ask in (lambda: client.create(SPEC), client.models, client.styles, lambda: client.get("trk_1")):
        with pytest.raises(Internal, match="is this the address of an Orchestrion service"):
            ask()
    with pytest.raises(Internal, match="is this the service"), client.stream(SPEC):
        pass


def test_fields_that_a_newer_service_adds_are_passed_over():
    answer = {"id": "trk_1", "cache": "hit", "version": 2, "links": {}, "record": {}, "mood_ring": "blue"}

    assert client_of(Prepared(httpx.Response(200, json=answer))).get("trk_1").version == 2


def test_what_was_not_given_is_not_sent_and_headers_are():
    service = Prepared(problem(422, "invalid-request"))
    client = Client("http://localhost/music/", transport=service, headers={"Authorization": "Bearer x"})

    with pytest.raises(InvalidRequest):
        client.create(TrackSpec(prompt="calm piano", format="mp3"))

    [asked] = service.asked
    assert asked.content == b'{"prompt":"calm piano","format":"mp3"}'
    assert str(asked.url) == "http://localhost/music/v1/tracks?priority=interactive"
    assert asked.headers["authorization"] == "Bearer x"


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://localhost", "", "http://", "http://a:b:c"])
def test_what_is_no_address_is_refused_at_once(address):
    with pytest.raises(InvalidRequest, match="base_url"):
        Client(address)
