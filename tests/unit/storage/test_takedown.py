"""Tracks are withdrawn for good: whatever the moment, none comes back, and no other track loses its audio."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable, VerificationFailed, Withdrawn
from orchestrion.storage.purged import Purged
from orchestrion.storage.takedown import take_down
from orchestrion.storage.track_store import TrackStore
from orchestrion.storage.verified_tracks import VerifiedTracks
from orchestrion.tracks.outcome import Track
from orchestrion.trust.signing import Signer
from orchestrion.trust.tombstone import Tombstone, Withdrawal
from tests.fake_model import ToneModel
from tests.unit.rendering.test_renderer import request as two_seconds

ABSENT = "trk_" + "a" * 32


class Scoreless(ToneModel):
    """A model without scores."""

    def perform(self, *arguments, **options):
        return replace(super().perform(*arguments, **options), write_midi=None)


class StandingClock:
    """Always the same moment, `day` of January 2026."""

    def __init__(self, day: int = 1) -> None:
        self.moment = datetime(2026, 1, day, tzinfo=UTC)

    def monotonic_s(self) -> float:
        return 0.0

    def thread_cpu_s(self) -> float:
        return 0.0

    def now(self) -> datetime:
        return self.moment


def request(prompt="a tone", **fields):
    return two_seconds(prompt, **{"duration_s": 1.0, "format": "wav"} | fields)


def made(renderer, prompt="a tone", **fields):
    track = renderer.render(request(prompt, **fields))
    assert isinstance(track, Track)
    return track


def withdraw(renderer, *track_ids, reason="claim 17", actor="ann", day=1, store=None):
    tracks = VerifiedTracks(store or renderer.store, renderer.trusted_keys, renderer.recorder)
    taken = take_down(tracks, renderer.signer, track_ids, reason=reason, actor=actor, clock=StandingClock(day))
    return list(taken.tracks)


def blobs_of(track):
    return {track.record.audio_key, track.record.midi_key}


def test_a_withdrawn_track_is_deleted_and_its_request_is_refused_without_work(renderer):
    track = made(renderer)

    [taken_down] = withdraw(renderer, track.track_id)

    assert set(taken_down.deleted_blobs) == blobs_of(track)
    for key in blobs_of(track):
        with pytest.raises(NotFound):
            renderer.store.get_blob(key)
    failure = renderer.render(request())
    assert (failure.code, failure.stage, failure.retryable) == ("withdrawn", "request", False)
    assert failure.track_id == track.track_id
    with pytest.raises(Withdrawn, match="another seed"):
        renderer.find(request())
    assert renderer.models["tone"].performed == 1
    assert made(renderer, seed=1).track_id != track.track_id


def test_the_tombstone_says_who_why_and_when_and_is_signed(renderer):
    track = made(renderer)
    trusted = renderer.trusted_keys

    [taken_down] = withdraw(renderer, track.track_id, day=9)

    tombstone = Tombstone.from_bytes(renderer.store.tombstone(track.track_id))
    tombstone.verify(track.track_id, trusted)
    told = Withdrawal(track.track_id, "claim 17", "ann", "2026-01-09T00:00:00.000000+00:00")
    assert tombstone.withdrawal == told
    assert taken_down.withdrawal == told
    assert (taken_down.was_withdrawn_before, taken_down.records) == (False, 1)
    with pytest.raises(VerificationFailed, match="was changed"):
        replace(tombstone, withdrawal=replace(told, actor="bob")).verify(track.track_id, trusted)
    with pytest.raises(VerificationFailed, match=f"the tombstone of {ABSENT} is that of"):
        tombstone.verify(ABSENT, trusted)


@pytest.mark.parametrize(
    "change, message",
    [
        ((b'"reason":', b'"ration":'), "unknown or missing fields: ration, reason"),
        ((b'"schema_version":1', b'"schema_version":2'), "schema_version is 2, this release knows 1"),
        ((b'"claim 17"', b"17"), "reason is not text"),
        ((b'{"signature"', b' {"signature"'), "canonical"),
    ],
)
def test_a_tombstone_of_any_other_shape_is_refused(renderer, change, message):
    withdraw(renderer, ABSENT)

    with pytest.raises(VerificationFailed, match=message):
        Tombstone.from_bytes(renderer.store.tombstone(ABSENT).replace(*change))


def test_a_blob_stays_while_another_track_has_the_same_bytes(renderer):
    first, second = made(renderer, "a tone"), made(renderer, "the same tone")
    assert first.track_id != second.track_id and blobs_of(first) == blobs_of(second)

    [before] = withdraw(renderer, first.track_id)
    assert before.deleted_blobs == ()
    assert set(before.shared_blobs) == blobs_of(first)
    assert renderer.store.get_blob(second.record.audio_key)

    [after] = withdraw(renderer, second.track_id)
    assert set(after.deleted_blobs) == blobs_of(first)
    assert not any(map(renderer.store.has_blob, blobs_of(first)))


def test_tracks_that_share_only_with_each_other_go_together(renderer):
    first, second = made(renderer, "a tone"), made(renderer, "the same tone")

    taken_down = withdraw(renderer, second.track_id, first.track_id, second.track_id)

    assert [one.track_id for one in taken_down] == [second.track_id, first.track_id]
    assert all(set(one.deleted_blobs) == blobs_of(first) for one in taken_down)


def test_only_records_of_the_tracks_and_of_those_that_share_their_bytes_are_read(renderer):
    class Noting(TrackStore):
        def record(self, track_id: str, version: int) -> bytes:
            read.append(track_id)
            return super().record(track_id, version)

    read: list[str] = []
    # Their score is the same file: each of them is asked for it.
    first, second = made(renderer, seed=1), made(renderer, seed=2)
    renderer.models["tone"] = Scoreless()
    others = [made(renderer, "words", seed=seed) for seed in range(3, 9)]
    withdraw(renderer, ABSENT)  # From here on the store knows that its index is whole.

    withdraw(renderer, first.track_id, store=Noting.open(renderer.store.url))

    assert sorted(read) == sorted([first.track_id, second.track_id])
    assert all(made(renderer, "words", seed=seed).cache_hit for seed in range(3, 9)) and others


def test_a_takedown_that_was_stopped_is_completed_by_the_same_one_again(renderer):
    class Dying(TrackStore):
        def delete_blob(self, key: str) -> Purged:
            raise StoreUnavailable("no answer")

    tracks = [made(renderer, seed=seed) for seed in range(2)]
    ids = [track.track_id for track in tracks]
    with pytest.raises(StoreUnavailable):
        withdraw(renderer, *ids, reason="first", store=Dying.open(renderer.store.url))
    assert all(listing.has_tombstone for listing in renderer.store.listings().values())

    again = withdraw(renderer, *ids, reason="second", day=2)
    third = withdraw(renderer, *ids, reason="third", day=3)

    assert not any(renderer.store.has_blob(key) for track in tracks for key in blobs_of(track))
    assert all(
        (one.was_withdrawn_before, one.withdrawal.reason, len(one.deleted_blobs)) == (True, "first", 2) for one in again
    )
    assert all((one.withdrawal.reason, one.deleted_blobs) == ("first", ()) for one in third)


def test_a_render_that_was_under_way_ends_in_the_refusal_and_leaves_nothing(renderer, tmp_path):
    rendering = renderer.open(request())
    while rendering.advance() is not None:
        pass
    [taken_down] = withdraw(renderer, rendering.track_id)

    with pytest.raises(Withdrawn) as refused:
        rendering.master()
        rendering.publish()
    failure = rendering.fail(refused.value)

    assert (failure.code, failure.stage, failure.track_id) == ("withdrawn", "store", rendering.track_id)
    assert (taken_down.records, taken_down.deleted_blobs) == (0, ())
    assert list((tmp_path / "store").glob("blobs/*/*")) == []


def test_a_render_that_was_being_stored_is_refused_and_the_next_takedown_deletes_it(renderer, tmp_path):
    class TooLate(TrackStore):
        def publish(self, track_id: str, record_for: Callable[[int], bytes]) -> int:
            withdraw(renderer, track_id)
            return super().publish(track_id, record_for)

    renderer.store = TooLate.open(renderer.store.url)
    failure = renderer.render(request())
    assert (failure.code, failure.retryable) == ("withdrawn", False)
    with pytest.raises(Withdrawn):
        renderer.tracks.newest(failure.track_id)

    [again] = withdraw(renderer, failure.track_id)

    assert (again.records, len(again.deleted_blobs)) == (1, 2)
    assert list((tmp_path / "store").glob("blobs/*/*")) == []


def test_bytes_that_another_track_is_published_with_meanwhile_stay(renderer):
    # A takedown looks in several threads; one at a time may render.
    rendering = threading.Lock()

    class Busy(TrackStore):
        def tracks_with_blob(self, key: str) -> set[str]:
            found = super().tracks_with_blob(key)
            with rendering:
                made(renderer, "the same tone")
            return found

    track = made(renderer)

    [taken_down] = withdraw(renderer, track.track_id, store=Busy.open(renderer.store.url))

    assert taken_down.deleted_blobs == ()
    assert renderer.store.get_blob(made(renderer, "the same tone").record.audio_key)


def test_a_track_that_lost_its_blob_to_a_takedown_is_rendered_again(renderer):
    # A takedown deletes in several threads; one at a time may render.
    rendering = threading.Lock()

    class Unlucky(TrackStore):
        def delete_blob(self, key: str) -> Purged:
            with rendering:
                made(renderer, "the same tone")
            return super().delete_blob(key)

    track = made(renderer)

    withdraw(renderer, track.track_id, store=Unlucky.open(renderer.store.url))

    assert renderer.find(request("the same tone")) is None
    assert renderer.store.get_blob(made(renderer, "the same tone").record.audio_key)
    assert renderer.store.listing(track.track_id).versions == (1,)


def test_two_operators_at_once_delete_what_their_tracks_share_and_keep_both_records(renderer):
    class OtherOperator(TrackStore):
        def has_blob(self, key: str) -> bool:
            withdraw(renderer, twin.track_id)
            return super().has_blob(key)

    track, twin = made(renderer), made(renderer, "the same tone")

    withdraw(renderer, track.track_id, store=OtherOperator.open(renderer.store.url))

    assert not any(map(renderer.store.has_blob, blobs_of(track)))
    assert [renderer.store.listing(one.track_id).versions for one in (track, twin)] == [(1,), (1,)]


def test_the_same_takedown_again_mends_a_track_that_it_has_left_without_its_blob(renderer):
    track, twin = made(renderer), made(renderer, "the same tone")
    withdraw(renderer, track.track_id)
    renderer.store.delete_blob(twin.record.audio_key)  # As if the twin had been published a moment later.

    withdraw(renderer, track.track_id)

    assert renderer.store.get_blob(made(renderer, "the same tone").record.audio_key)


def test_no_blob_is_deleted_while_a_record_with_its_key_cannot_be_read(renderer):
    track = made(renderer)
    renderer.store.publish(ABSENT, lambda _: b'{"stem_key": "%s"}' % track.record.audio_key.encode())

    with pytest.raises(VerificationFailed, match=f"{ABSENT}, version 1: .*no blob was deleted"):
        withdraw(renderer, track.track_id)

    assert renderer.store.get_blob(track.record.audio_key)
    with pytest.raises(Withdrawn):
        renderer.tracks.newest(track.track_id)


def test_a_record_that_is_damaged_elsewhere_stops_no_takedown(renderer):
    track = made(renderer)
    renderer.store.publish(ABSENT, lambda _: b"{}")

    [taken_down] = withdraw(renderer, track.track_id)

    assert set(taken_down.deleted_blobs) == blobs_of(track)


def test_a_prompt_that_quotes_a_key_keeps_nobodys_audio(renderer):
    track = made(renderer)
    made(renderer, f"like {track.record.audio_key}", seed=1)

    [taken_down] = withdraw(renderer, track.track_id)

    assert track.record.audio_key in taken_down.deleted_blobs


@pytest.mark.parametrize(
    "track_ids, words, fields",
    [
        ((ABSENT, "trk_1", "x"), {}, ["track_id", "track_id"]),
        ((ABSENT,), {"reason": "", "actor": " "}, ["reason", "actor"]),
        ((ABSENT,), {"reason": "two\nlines"}, ["reason"]),
        ((ABSENT,), {"actor": "x" * 501}, ["actor"]),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_done(renderer, track_ids, words, fields):
    with pytest.raises(InvalidRequest) as raised:
        withdraw(renderer, *track_ids, **words)

    assert [problem.field for problem in raised.value.problems] == fields
    assert renderer.store.tombstone(ABSENT) is None


# What a writer of the store who has no key can do


def junk(renderer, track_id, content, name="withdrawn.json"):
    path = Path(renderer.store.url, "tracks", track_id[4:6], track_id, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if content is None:
        path.symlink_to("/dev/null")
    else:
        path.write_bytes(content)
    return path


def tombstone_of(renderer, track_id, signer):
    return Tombstone.sign(
        Withdrawal(track_id, "spite", "mallory", "2026-01-09T00:00:00.000000+00:00"), signer
    ).to_bytes()


@pytest.fixture(params=["empty", "link", "huge", "foreign key", "of another track", "changed"])
def planted(request, renderer):
    """Makes what is put in the place of a track's tombstone."""

    def make(track_id):
        return {
            "empty": b"",
            "link": None,
            "huge": b" " * (2 << 20),
            "foreign key": tombstone_of(renderer, track_id, Signer(Ed25519PrivateKey.generate())),
            "of another track": tombstone_of(renderer, ABSENT, renderer.signer),
            "changed": tombstone_of(renderer, track_id, renderer.signer).replace(b"spite", b"space"),
        }[request.param]

    return make


def test_what_no_trusted_key_has_signed_withdraws_nothing(renderer, registry, planted, caplog):
    track = made(renderer)
    junk(renderer, track.track_id, planted(track.track_id))

    assert renderer.tracks.newest(track.track_id).record == track.record
    assert made(renderer).cache_hit
    assert "is not withdrawn by what lies in its tombstone's place" in caplog.text
    assert registry.get_sample_value("orchestrion_unverified_total", {"kind": "tombstone"}) == 2


def test_a_takedown_takes_the_place_of_what_is_no_tombstone(renderer, planted):
    track = made(renderer)
    path = junk(renderer, track.track_id, planted(track.track_id))

    [taken_down] = withdraw(renderer, track.track_id)

    assert (taken_down.withdrawal.reason, taken_down.was_withdrawn_before) == ("claim 17", False)
    assert set(taken_down.deleted_blobs) == blobs_of(track)
    assert not path.is_symlink()
    with pytest.raises(Withdrawn):
        renderer.find(request())


def test_a_planted_tombstone_does_not_let_others_audio_be_deleted(renderer, planted):
    track, twin = made(renderer), made(renderer, "the same tone")
    junk(renderer, twin.track_id, planted(twin.track_id))

    [taken_down] = withdraw(renderer, track.track_id)

    assert set(taken_down.shared_blobs) == blobs_of(twin)
    assert renderer.store.get_blob(twin.record.audio_key)


def test_no_blob_is_deleted_while_a_record_that_names_it_is_signed_by_nobody_known(renderer):
    track, twin = made(renderer), made(renderer, "the same tone")
    forged = Signer(Ed25519PrivateKey.generate()).sign(twin.record).to_bytes()
    junk(renderer, twin.track_id, forged, "000001.json")

    with pytest.raises(
        VerificationFailed, match=r"not trusted here .*; no blob was deleted\. If it was not put there by you"
    ):
        withdraw(renderer, track.track_id)

    assert renderer.store.get_blob(track.record.audio_key)


def test_a_tombstone_of_an_earlier_key_stands_while_that_key_is_trusted(renderer):
    track, earlier = made(renderer), Signer(Ed25519PrivateKey.generate())
    junk(renderer, track.track_id, tombstone_of(renderer, track.track_id, earlier))
    renderer.trusted_keys = renderer.trusted_keys | {earlier.key_id: earlier.public_key}

    with pytest.raises(Withdrawn):
        renderer.find(request())
    [taken_down] = withdraw(renderer, track.track_id)
    assert (taken_down.withdrawal.reason, taken_down.was_withdrawn_before) == ("spite", True)


def test_a_takedown_that_nobody_would_heed_is_refused(renderer):
    stranger = Signer(Ed25519PrivateKey.generate())

    with pytest.raises(InvalidRequest, match="not among the trusted keys"):
        take_down(renderer.tracks, stranger, [ABSENT], reason="x", actor="y", clock=StandingClock())
    assert renderer.store.tombstone(ABSENT) is None
