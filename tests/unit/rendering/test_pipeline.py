"""What stages decide: a track goes on, is held for a person, or is refused; and one piece serves all its forms."""

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from orchestrion.audio.encode import decode
from orchestrion.errors import OnHold, RightsRefused
from orchestrion.models.piece_cache import PieceCache
from orchestrion.rendering.pipeline import FINISHING, Pipeline, Stage
from orchestrion.tracks.attestation import Attestation, Verdict
from orchestrion.tracks.outcome import Failure, Track
from orchestrion.tracks.request import AudioFormat
from orchestrion.trust.signing import Signer
from tests.unit.rendering.test_faults import join, new_executor, new_renderer
from tests.unit.rendering.test_renderer import request

FORMS = ("flac", "mp3", "wav")


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def renderer(tmp_path, registry):
    made = new_renderer(tmp_path / "store", Signer.create(tmp_path / "key.pem"), registry)
    made.pieces = PieceCache(1 << 20)
    return made


def audio_of(renderer, track):
    return renderer.store.get_blob(track.record.audio_key)


# Stages


def test_a_record_says_what_each_stage_decided(renderer):
    record = renderer.render(request()).record

    assert record.attestations == (
        Attestation("admit", Verdict.ALLOW, None, None, "MIT"),
        Attestation("quality", Verdict.ALLOW, 0.0, 0.0, "findings"),
        Attestation("file", Verdict.ALLOW, 0.0, 0.0, "findings"),
    )


def review(work):
    """Holds what sounds too much like something else, as far as one can tell from its prompt."""
    alike = 0.93 if "borrowed" in work.request.composition.prompt else 0.1
    work.attest("melody", "index-2026-11", Verdict.HOLD if alike > 0.8 else Verdict.ALLOW, alike, 0.8)


@pytest.fixture
def reviewing(renderer):
    renderer.pipeline = Pipeline(finishing=(*FINISHING, Stage("melody", review, counts_to="check")))
    return renderer


def test_a_held_track_is_stored_and_given_to_nobody(reviewing, registry):
    held = reviewing.render(request("a borrowed tone"))

    assert isinstance(held, Failure) and (held.code, held.retryable) == ("on-hold", False)
    stored = reviewing.tracks.version(held.track_id, 1).record
    assert stored.attestations[-1] == Attestation("melody", Verdict.HOLD, 0.93, 0.8, "index-2026-11")
    assert reviewing.store.get_blob(stored.audio_key)[:4] == b"fLaC", "a person can listen to it"
    with pytest.raises(OnHold):
        reviewing.tracks.newest(held.track_id)
    again = reviewing.render(request("a borrowed tone"))
    assert isinstance(again, Failure) and again.code == "on-hold"
    assert reviewing.models["tone"].performed == 1, "it is not made again to be held again"
    labels = {"pool": "test", "model": "tone", "reason": "on-hold"}
    assert registry.get_sample_value("orchestrion_failures_total", labels) == 2


def test_what_a_stage_lets_through_is_given_out(reviewing):
    track = reviewing.render(request("a tone of its own"))

    assert isinstance(track, Track) and track.record.attestations[-1].figure == 0.1
    assert reviewing.find(request("a tone of its own")).record == track.record


def test_a_held_track_fails_in_an_executor_and_its_neighbour_does_not(reviewing):
    executor = new_executor(reviewing)
    held, neighbour = (join(executor, reviewing, prompt) for prompt in ("a borrowed tone", "a tone"))
    while executor.step():
        pass

    assert held.task.outcome.code == "on-hold" and isinstance(neighbour.task.outcome, Track)


def test_a_stage_that_refuses_leaves_no_record_and_no_audio(renderer, tmp_path):
    def refuse(work):
        raise RightsRefused("this voice is somebody's")

    renderer.pipeline = Pipeline(finishing=(*FINISHING, Stage("voice", refuse, counts_to="check")))
    refused = renderer.render(request())

    assert (refused.code, refused.stage, refused.message) == ("rights-refused", "check", "this voice is somebody's")
    assert not list((tmp_path / "store").glob("blobs/*/*")) and not list((tmp_path / "store").glob("tracks/*/*"))


def test_what_may_not_be_made_is_not_begun(renderer):
    def refuse(work):
        raise RightsRefused("no such words here")

    renderer.pipeline = Pipeline(admission=(Stage("moderation", refuse),))

    assert renderer.render(request()).code == "rights-refused"
    assert renderer.models["tone"].performed == 0


# Pieces


def test_all_forms_of_a_piece_are_one_generation(renderer, registry):
    tracks = [renderer.render(request(format=form)) for form in FORMS]
    again = renderer.render(request(loudness_lufs=-20.0, fade_out_s=1.0))

    assert renderer.models["tone"].performed == 1
    assert len({track.track_id for track in (*tracks, again)}) == 4
    assert len({track.record.piece_id for track in (*tracks, again)}) == 1
    assert [track.record.piece_reused for track in (*tracks, again)] == [False, True, True, True]
    labels = {"pool": "test", "model": "tone"}
    assert registry.get_sample_value("orchestrion_pieces_reused_total", labels) == 3


@pytest.mark.parametrize("form", AudioFormat)
def test_a_piece_is_delivered_with_as_many_channels_as_asked_for_in_every_format(renderer, form):
    rate_hz = 48_000
    tracks = [renderer.render(request(format=form, sample_rate_hz=rate_hz, channels=count)) for count in (1, 2, None)]

    decoded = [decode(audio_of(renderer, track))[0] for track in tracks]
    assert [audio.shape[1] for audio in decoded] == [1, 2, 2]
    assert [track.record.channels for track in tracks] == [1, 2, None]
    assert all(track.record.measured_loudness_lufs == pytest.approx(-14.0, abs=0.5) for track in tracks)
    assert len({track.track_id for track in tracks}) == 3 and len({track.record.piece_id for track in tracks}) == 1
    assert renderer.models["tone"].performed == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_track_is_the_same_bytes_whether_its_piece_was_there_or_not(renderer, tmp_path, form):
    renderer.render(request(format="ogg"))
    reused = renderer.render(request(format=form))
    alone = new_renderer(tmp_path / "other", renderer.signer, CollectorRegistry())
    made = alone.render(request(format=form))

    assert reused.record.piece_reused and not made.record.piece_reused
    assert reused.track_id == made.track_id and audio_of(renderer, reused) == audio_of(alone, made)
    assert reused.record.midi_sha256 == made.record.midi_sha256


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"duration_s": 3.0}, {"prompt": "b tone"}, {"style": "rock"}, {"guidance": 3.0}], ids=str
)
def test_another_composition_is_another_piece(renderer, other):
    renderer.render(request())
    track = renderer.render(request(**other))

    assert not track.record.piece_reused and renderer.models["tone"].performed == 2


def test_another_revision_of_a_model_makes_another_piece(renderer):
    first = renderer.render(request())
    model = renderer.models["tone"]
    model.info = replace(model.info, revision="tone-2")
    second = renderer.render(request(format="mp3"))

    assert first.record.piece_id != second.record.piece_id and model.performed == 2


def test_forms_that_are_asked_for_at_the_same_time_are_one_generation_too(renderer):
    renderer.pieces = PieceCache()
    executor = new_executor(renderer, slots=3)
    listeners = []
    for form in FORMS:
        wanted = request(format=form)
        listeners.append(executor.join(wanted, renderer.track_id(wanted), wake=lambda: None))
    while executor.step():
        pass

    outcomes = [listener.task.outcome for listener in listeners]
    assert renderer.models["tone"].performed == 1 and renderer.models["tone"].open_performances == 0
    assert [decode(audio_of(renderer, track))[1] for track in outcomes] == [44_100] * 3
    assert sum(not track.record.piece_reused for track in outcomes) == 1


def test_a_form_goes_on_when_the_one_that_began_the_piece_is_given_up(renderer):
    renderer.pieces = PieceCache()
    executor = new_executor(renderer)
    requests = [request(format=form) for form in FORMS[:2]]
    leaving, staying = (executor.join(one, renderer.track_id(one), wake=lambda: None) for one in requests)
    for _ in range(3):
        executor.step()
    executor.leave(leaving)
    while executor.step():
        pass

    assert isinstance(staying.task.outcome, Track) and renderer.models["tone"].performed == 1


def test_uploads_are_not_read_and_words_not_encoded_for_a_piece_that_is_there(renderer):
    model = renderer.models["tone"]
    model.info = replace(model.info, shares_steps=True)
    assert renderer.needs_preparing(request())
    renderer.render(request())

    assert not renderer.needs_preparing(request(format="mp3"))
    assert renderer.needs_preparing(request("another tone"))
