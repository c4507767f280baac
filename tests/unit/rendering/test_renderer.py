"""The render path as its callers see it, with a model whose music does not matter."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from orchestrion.accounting.cost import Node
from orchestrion.audio.encode import decode
from orchestrion.errors import InvalidRequest, NotFound, RightsRefused, StoreUnavailable, VerificationFailed
from orchestrion.rendering.renderer import Renderer
from orchestrion.rendering.suitability import told_intent
from orchestrion.storage.track_store import TrackStore
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.tracks.outcome import Failure, Track
from orchestrion.tracks.spec import TrackSpec
from orchestrion.trust.signature import key_id_of
from orchestrion.trust.signed_record import SignedRecord, verify
from orchestrion.trust.signing import Signer
from tests.fake_model import MIDI, ToneModel
from tests.older_records import as_of_version


class SteppingClock:
    """Each reading is a second after the last."""

    def __init__(self) -> None:
        self.reading_s = 0.0
        self.cpu_reading_s = 0.0

    def monotonic_s(self) -> float:
        self.reading_s += 1.0
        return self.reading_s

    def thread_cpu_s(self) -> float:
        self.cpu_reading_s += 1.0
        return self.cpu_reading_s

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.reading_s)


CPU = Node("node-1", "local-cpu", "cpu-core", "on-demand", 0.36, "a test")


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def renderer(tmp_path, registry):
    return Renderer(
        models={"tone": ToneModel()},
        store=TrackStore.open(str(tmp_path / "store")),
        signer=Signer.create(tmp_path / "key.pem"),
        node=CPU,
        pool="test",
        recorder=PrometheusRecorder(registry),
        clock=SteppingClock(),
    )


def request(prompt="a tone", **fields):
    return TrackSpec.from_json(
        {"prompt": prompt, "model": "tone", "duration_s": 2.0, "format": "flac"} | fields
    ).resolve()


def test_a_track_is_stored_with_its_score_and_says_what_it_is(renderer):
    track = renderer.render(request(requester="studio-1"))

    assert isinstance(track, Track) and not track.cache_hit and track.version == 1
    audio, rate_hz = decode(renderer.store.get_blob(track.record.audio_key))
    assert (audio.shape, rate_hz) == ((88200, 2), 44100)
    assert renderer.store.get_blob(track.record.midi_key) == MIDI
    assert track.record.requester == "studio-1"
    assert track.record.measured_loudness_lufs == pytest.approx(-14.0, abs=0.5)
    assert all(finding.passed for finding in track.record.findings)


def test_the_same_request_again_is_a_cache_hit_and_costs_no_work(renderer):
    first = renderer.render(request())
    second = renderer.render(request(requester="somebody-else"))

    assert second.cache_hit and second.track_id == first.track_id and second.record == first.record
    assert renderer.models["tone"].performed == 1


def test_a_listener_and_who_waits_for_the_end_get_the_same_bytes(renderer, tmp_path):
    rendering = renderer.open(request())
    while rendering.advance() is not None:
        pass
    rendering.master()
    streamed = rendering.publish()
    other = Renderer(
        {"tone": ToneModel()}, TrackStore.open(str(tmp_path / "other")), renderer.signer, CPU, "batch",
        renderer.recorder, SteppingClock(),
    )  # fmt: skip
    rendered = other.render(request())

    assert streamed.track_id == rendered.track_id
    assert renderer.store.get_blob(streamed.record.audio_key) == other.store.get_blob(rendered.record.audio_key)


def test_audio_record_and_signature_belong_together(renderer):
    track = renderer.render(request())
    signed = SignedRecord.from_bytes(renderer.store.record(track.track_id, 1))
    audio = renderer.store.get_blob(track.record.audio_key)
    keys = renderer.trusted_keys
    assert key_id_of(signed.signature.public_key) == signed.signature.key_id

    verify(signed, audio, keys)

    flipped = bytes([audio[0] ^ 1]) + audio[1:]
    with pytest.raises(VerificationFailed):
        verify(signed, flipped, keys)
    with pytest.raises(VerificationFailed):
        verify(replace(signed, record=replace(signed.record, prompt="another tone")), audio, keys)
    assert signed.record.audio_sha256 == hashlib.sha256(audio).hexdigest()


def test_one_broken_request_does_not_stop_its_neighbours(renderer):
    requests = [request("please fail"), request(), request("silence"), request(model="nobody")]
    outcomes = [renderer.render(one) for one in requests]

    assert [getattr(outcome, "code", "track") for outcome in outcomes] == [
        "model-failed", "track", "check-failed", "invalid-request",
    ]  # fmt: skip
    assert outcomes[3].message.startswith("model: is not loaded here; use tone")
    assert not any(outcome.retryable for outcome in outcomes if isinstance(outcome, Failure))


def test_what_fails_a_check_is_never_stored_and_says_by_how_much(renderer):
    failure = renderer.render(request("silence"))

    assert renderer.tracks.newest(failure.track_id) is None
    failed = [finding.name for finding in failure.findings if not finding.passed]
    assert "loudness" in failed
    assert "loudness is -120 LUFS, must be between -14.5 and -13.5 LUFS" in failure.message


def test_an_exception_of_the_model_is_a_failure_of_that_track_alone_and_its_cause_is_in_the_log(renderer, caplog):
    failure, track = renderer.render(request("break")), renderer.render(request())

    assert (failure.code, failure.stage) == ("model-failed", "generate")
    assert "a string snapped" not in failure.message
    assert "a string snapped" in caplog.text
    assert isinstance(track, Track)


def test_a_track_given_up_half_way_frees_the_model_and_is_paid_for(renderer, registry):
    rendering = renderer.open(request())
    rendering.advance()
    assert renderer.models["tone"].open_performances == 1

    rendering.close()

    assert renderer.models["tone"].open_performances == 0
    labels = {"pool": "test", "model": "tone", "market": "on-demand"}
    assert registry.get_sample_value("orchestrion_device_seconds_total", labels) == 2.0  # perform, advance
    assert renderer.find(request()) is None


def test_a_track_goes_on_from_its_checkpoint_in_another_process(renderer, tmp_path):
    given = []

    class Remembering(ToneModel):
        def perform(self, conditioning, *, interactive=True, resume=None, prepared=None):
            given.append(resume)
            return replace(super().perform(conditioning), checkpoint=lambda: b"so far")

    def opened(folder, resume):
        store = TrackStore.open(str(tmp_path / folder))
        models = {"tone": Remembering()}
        other = Renderer(models, store, renderer.signer, CPU, "batch", renderer.recorder, SteppingClock())
        return other.open(request(), interactive=False, resume=resume)

    cut = opened("first", None)
    cut.advance()
    kept = cut.checkpoint()
    cut.close()
    outcomes = []
    for rendering in (opened("second", kept), opened("third", None)):
        while rendering.advance() is not None:
            pass
        rendering.master()
        outcomes.append(rendering.publish())

    assert given == [None, b"so far", None]
    assert outcomes[0].track_id == outcomes[1].track_id == cut.track_id
    assert outcomes[0].record.audio_sha256 == outcomes[1].record.audio_sha256


def test_a_model_that_cannot_go_on_has_no_checkpoints(renderer):
    rendering = renderer.open(request(), resume=b"of another model")
    rendering.advance()

    assert rendering.checkpoint() is None


def test_cost_is_device_seconds_times_price_and_adds_up(renderer, registry):
    tracks = [renderer.render(request()), renderer.render(request(seed=1, duration_s=6.0))]

    for record in (track.record for track in tracks):
        stages = record.generate_s + record.finish_s + record.check_s + record.encode_s + record.store_s
        assert record.device_seconds == pytest.approx(stages)
        assert record.cost_usd == pytest.approx(record.device_seconds * 0.36 / 3600)
    labels = {"pool": "test", "model": "tone", "market": "on-demand"}
    counted = registry.get_sample_value("orchestrion_cost_usd_total", labels)
    assert counted == pytest.approx(sum(track.record.cost_usd for track in tracks))


def test_a_gpu_is_paid_for_only_while_it_generates(renderer):
    renderer.node = replace(CPU, device="gpu")

    track = renderer.render(request())

    assert track.record.device_seconds == track.record.generate_s > 0


def test_non_commercial_weights_refuse_a_commercial_purpose(renderer):
    renderer.models = {"tone": ToneModel(commercial_use=False)}

    refused, allowed = renderer.render(request()), renderer.render(request(purpose="research"))

    assert refused.code == "rights-refused" and "CC-BY-NC-4.0" in refused.message
    assert isinstance(allowed, Track)
    with pytest.raises(RightsRefused):
        renderer.open(request())


def test_a_track_longer_than_the_model_can_is_refused_before_work(renderer):
    with pytest.raises(InvalidRequest, match="at most 60 s"):
        renderer.open(request(duration_s=61.0))


@pytest.mark.parametrize("field", ["theme", "continuation"])
def test_an_unknown_upload_is_named(renderer, field):
    with pytest.raises(NotFound, match=r"sha256:000.* upload it first"):
        renderer.open(request(**{field: "sha256:" + "0" * 64}))


@pytest.mark.parametrize(
    "field, value, shown",
    [
        ("exclude", ["drums", "bass"], "'bass, drums'"),
        ("instruments", ["cello"], "'cello'"),
        ("ensemble", "solo", "'solo'"),
        ("metre", "7/8", "'7/8'"),
        ("sections", [{"name": "intro", "duration_s": 2}], "'intro 2 s'"),
        ("bars", 1, "1"),
        ("loop", True, "true"),
        ("tempo_end_bpm", 90, "90.0"),
        ("key_end", "E blues", "'E blues'"),
        ("energy", "low", "'low'"),
        ("dynamics", "soft", "'soft'"),
    ],
)
def test_what_only_words_could_say_is_a_field_that_a_model_follows_or_refuses(renderer, field, value, shown):
    with pytest.raises(InvalidRequest) as caught:
        renderer.open(request(**{field: value}))

    assert [(problem.field, problem.value) for problem in caught.value.problems] == [(field, shown)]
    assert "tone cannot follow this; leave it out or change the model" in str(caught.value)
    assert renderer.models["tone"].performed == 0


def test_a_field_that_the_model_cannot_follow_is_refused_before_work(renderer):
    with pytest.raises(InvalidRequest, match=r"top_k: tone cannot follow this; leave it out or change the model"):
        renderer.open(request(top_k=0))
    with pytest.raises(InvalidRequest, match="temperature"):
        renderer.find(request(temperature=0.0))
    refused, allowed = renderer.render(request(top_p=0.9)), renderer.render(request(guidance=2.0))

    assert (refused.code, refused.stage) == ("invalid-request", "request")
    assert isinstance(allowed, Track)


def test_what_a_model_hears_in_words_is_a_field_of_it_and_is_not_said_to_be_missed(renderer):
    tone = ToneModel()
    tone.info = replace(tone.info, hears=("exclude", "metre"))
    renderer.models = {"tone": tone}
    wish = request(prompt="slow, in 3/4, without drums, crescendo", exclude=["bass"])
    unguided = request(prompt="slow, in 3/4, without drums", guidance=1)

    track = renderer.render(wish)

    def missed(asked):
        return [(each.words.text, each.why) for each in told_intent(asked, tone.info).not_followed]

    assert isinstance(track, Track)
    assert missed(wish) == [("crescendo", "tone does not follow dynamics; the composer does")]
    # What is heard of an exclusion is what guidance pushes away from.
    assert missed(unguided) == [("without drums", "tone does not follow exclude; the composer does")]
    with pytest.raises(InvalidRequest, match="exclude: tone cannot follow this"):
        renderer.open(request(exclude=["bass"], guidance=1))


def test_sections_and_names_that_words_ask_for_stand_in_the_record_and_in_the_stored_one(renderer):
    asked = request("intro 2 seconds, then verse 3 seconds, with flute and harp, no drums", duration_s=5)

    track = renderer.render(asked)

    stored = SignedRecord.from_bytes(renderer.store.record(track.track_id, 1)).record
    assert [(each.name, each.duration_s) for each in track.record.sections] == [("intro", 2.0), ("verse", 3.0)]
    assert (track.record.exclude, track.record.instruments) == (("drums",), ("flute", "harp"))
    assert stored == track.record


def test_a_model_is_given_the_uploads_and_the_record_names_them(renderer):
    heard = []

    class Listener(ToneModel):
        def perform(self, conditioning, *, interactive=True, resume=None, prepared=None):
            heard.append(conditioning)
            return super().perform(conditioning)

    renderer.models = {"tone": Listener()}
    theme, continuation = renderer.store.put_theme(b"MThd"), renderer.store.put_theme(b"RIFF")

    track = renderer.render(request(theme=theme, continuation=continuation, guidance=4))

    assert (heard[0].theme, heard[0].continuation, heard[0].guidance, heard[0].top_k) == (b"MThd", b"RIFF", 4.0, None)
    record = track.record
    assert (record.theme, record.continuation, record.guidance, record.top_k) == (theme, continuation, 4.0, None)


def test_a_store_that_cannot_write_is_a_transient_failure(renderer):
    class FullStore(TrackStore):
        def put_blob(self, data: bytes, suffix: str) -> str:
            raise StoreUnavailable("no space left")

    renderer.store = FullStore.open(renderer.store.url)

    failure = renderer.render(request())

    assert (failure.code, failure.stage, failure.retryable) == ("store-unavailable", "store", True)


def test_chunks_of_a_rendering_are_the_raw_piece(renderer):
    rendering = renderer.open(request())
    chunks = []
    while (chunk := rendering.advance()) is not None:
        chunks.append(chunk)

    assert len(np.concatenate(chunks)) == 2 * rendering.source_rate_hz
    assert (rendering.channels, rendering.expected_lufs) == (2, -18.0)


# What a writer of the store who has no key can do


def record_file(renderer, track_id, version):
    return Path(renderer.store.url, "tracks", track_id[4:6], track_id, f"{version:06d}.json")


def forged(renderer, track, other, what):
    """What is put there as version 2 of `track`."""
    stranger = Signer(Ed25519PrivateKey.generate())
    own = renderer.signer.sign(replace(track.record, version=2))
    return {
        "another track's record": renderer.signer.sign(replace(other.record, version=2)).to_bytes(),
        "an earlier record under a new number": record_file(renderer, track.track_id, 1).read_bytes(),
        "signed with a foreign key": stranger.sign(replace(track.record, version=2, cost_usd=0.0)).to_bytes(),
        "changed": replace(own, record=replace(own.record, prompt="another tone")).to_bytes(),
        "empty": b"",
        "huge": b" " * (2 << 20),
    }[what]


@pytest.mark.parametrize(
    "what",
    [
        "another track's record", "an earlier record under a new number", "signed with a foreign key", "changed",
        "empty", "huge",
    ],
)  # fmt: skip
def test_a_record_that_does_not_verify_is_an_error_to_who_asks_for_it_and_is_rendered_over(
    renderer, registry, caplog, what
):
    track, other = renderer.render(request()), renderer.render(request(seed=1))
    record_file(renderer, track.track_id, 2).write_bytes(forged(renderer, track, other, what))

    with pytest.raises(VerificationFailed, match=f"{track.track_id}, version 2: "):
        renderer.tracks.newest(track.track_id)
    assert renderer.find(request()) is None
    again = renderer.render(request())

    assert (again.cache_hit, again.version, again.record.version) == (False, 3, 3)
    assert f"{track.track_id}, version 2, does not count: " in caplog.text
    assert registry.get_sample_value("orchestrion_unverified_total", {"kind": "record"}) == 3
    found = renderer.render(request())
    assert (found.cache_hit, found.record) == (True, again.record)
    assert renderer.tracks.newest(track.track_id).record == again.record


def test_a_record_of_an_earlier_key_counts_while_that_key_is_trusted(renderer):
    track = renderer.render(request())
    earlier, renderer.signer = renderer.signer, Signer(Ed25519PrivateKey.generate())
    renderer.trusted_keys = {renderer.signer.key_id: renderer.signer.public_key}
    assert renderer.find(request()) is None

    renderer.trusted_keys = renderer.trusted_keys | {earlier.key_id: earlier.public_key}

    assert renderer.find(request()).record == track.record


def test_a_record_from_before_versions_were_signed_is_read_as_it_is(renderer):
    track = renderer.render(request())
    older = renderer.signer.sign(as_of_version(track.record, 2))
    record_file(renderer, track.track_id, 1).write_bytes(older.to_bytes())

    assert renderer.find(request()).record == older.record


def test_of_two_renders_of_one_track_each_record_has_its_own_version(renderer):
    renderings = [renderer.open(request()) for _ in range(2)]
    for rendering in renderings:
        while rendering.advance() is not None:
            pass

    for rendering in renderings:
        rendering.master()
    first, second = (rendering.publish() for rendering in renderings)

    assert (first.version, second.version) == (first.record.version, second.record.version) == (1, 2)
    for track in (first, second):
        assert renderer.tracks.version(track.track_id, track.version).record == track.record
