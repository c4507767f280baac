"""With a track its piece goes: in every form, whenever it is made, and found by an index that knows all of it."""

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrion.errors import StoreUnavailable, VerificationFailed, Withdrawn
from orchestrion.models.piece_cache import PieceCache
from orchestrion.storage.takedown import take_down
from orchestrion.storage.track_store import TrackStore
from orchestrion.storage.verified_tracks import VerifiedTracks
from orchestrion.tracks.identity import piece_id, piece_id_of
from orchestrion.trust.index_entry import IndexEntry, SignedEntry
from orchestrion.trust.signing import Signer
from orchestrion.trust.tombstone import Tombstone
from tests.older_records import as_of_version
from tests.unit.storage.test_takedown import (
    ABSENT,
    StandingClock,
    blobs_of,
    made,
    request,
)

FORMS = ({}, {"format": "mp3"}, {"fade_out_s": 0.5}, {"loudness_lufs": -20.0}, {"sample_rate_hz": 48000})


def taken(renderer, *subjects, said=None, **options):
    why = {"reason": "claim 17", "actor": "ann", "clock": StandingClock()}
    return take_down(
        renderer.tracks, renderer.signer, subjects, **why, say=([] if said is None else said).append, **options
    )


def test_every_form_of_the_piece_goes_and_none_is_made_again(renderer):
    renderer.pieces = PieceCache(1 << 30)
    tracks = [made(renderer, **form) for form in FORMS]
    other = made(renderer, seed=1)
    piece = piece_id_of(tracks[0].record)
    assert len({track.track_id for track in tracks}) == len(FORMS) and renderer.pieces.has(piece)

    outcome = taken(renderer, tracks[2].track_id)

    assert {one.track_id for one in outcome.tracks} == {track.track_id for track in tracks}
    assert outcome.tracks[0].track_id == tracks[2].track_id and list(outcome.pieces) == [piece]
    assert not any(renderer.store.has_blob(track.record.audio_key) for track in tracks)
    performed = renderer.models["tone"].performed
    for form in (*FORMS, {"format": "ogg"}, {"fade_in_s": 0.25}):
        failure = renderer.render(request(**form))
        assert (failure.code, failure.stage) == ("withdrawn", "request")
    assert renderer.models["tone"].performed == performed and not renderer.pieces.has(piece)
    Tombstone.from_bytes(renderer.store.tombstone(piece)).verify(piece, renderer.trusted_keys)
    assert made(renderer, seed=1).cache_hit and renderer.store.get_blob(other.record.audio_key)


def test_a_piece_is_withdrawn_by_its_own_id_also_before_there_is_a_track(renderer):
    first = made(renderer)
    never = piece_id(request(seed=5).composition, "tone-1")

    outcome = taken(renderer, piece_id_of(first.record), never)

    assert [one.track_id for one in outcome.tracks] == [first.track_id]
    assert renderer.render(request(seed=5)).code == renderer.render(request(format="mp3")).code == "withdrawn"


def test_a_track_alone_goes_where_that_is_asked_for(renderer):
    wav, mp3 = made(renderer), made(renderer, format="mp3")

    outcome = taken(renderer, wav.track_id, whole_pieces=False)

    [one] = outcome.tracks
    assert one.deleted_blobs == (wav.record.audio_key,) and one.shared_blobs == (wav.record.midi_key,)
    assert outcome.pieces == {} and made(renderer, format="mp3").cache_hit
    assert made(renderer, format="ogg").record.midi_key == mp3.record.midi_key


def test_another_seed_length_or_revision_is_another_piece(renderer):
    first = made(renderer)
    others = [made(renderer, seed=1), made(renderer, duration_s=2.0)]
    taken(renderer, first.track_id)

    assert all(renderer.tracks.newest(other.track_id) for other in others)
    renderer.models["tone"].info = replace(renderer.models["tone"].info, revision="tone-2")
    assert made(renderer).record.model_revision == "tone-2"


@pytest.mark.parametrize("version", [1, 2, 3])
def test_older_records_say_their_piece_by_what_they_asked_for(renderer, version):
    for fields in ({}, {"guidance": 3.0}, {"style": "jazz", "mood": "calm", "tempo_bpm": 90, "key": "D minor"}):
        record = made(renderer, **fields).record
        if version > 1 or not fields.get("guidance"):
            assert piece_id_of(as_of_version(record, version)) == record.piece_id


# The moment of publication


class At(TrackStore):
    """Calls `happens` when a method is called, before it or after it."""

    happens = staticmethod(lambda: None)
    method = ""

    def _around(self, name, call):
        before, _, moment = self.method.partition(" ")
        if moment == "before" and before == name:
            self.happens()
        done = call()
        if moment == "after" and before == name:
            self.happens()
        return done

    def announce(self, *arguments):
        return self._around("announce", lambda: super(At, self).announce(*arguments))

    def put_blob(self, *arguments):
        return self._around("put_blob", lambda: super(At, self).put_blob(*arguments))

    def publish(self, *arguments):
        return self._around("publish", lambda: super(At, self).publish(*arguments))


@pytest.mark.parametrize(
    "moment", [f"{name} {when}" for name in ("announce", "put_blob", "publish") for when in ("before", "after")]
)
def test_whenever_the_piece_is_withdrawn_no_form_of_it_that_is_being_stored_can_be_had(renderer, tmp_path, moment):
    first = made(renderer)
    plain, renderer.store = renderer.store, At.open(renderer.store.url)
    outcomes = []

    def withdrawn_meanwhile():
        # Once: a track has two blobs.
        if not outcomes:
            tracks = VerifiedTracks(plain, renderer.trusted_keys, renderer.recorder)
            why = {"reason": "x", "actor": "y", "clock": StandingClock()}
            outcomes.append(take_down(tracks, renderer.signer, [first.track_id], **why))

    renderer.store.happens, renderer.store.method = withdrawn_meanwhile, moment
    late = renderer.render(request(format="mp3"))

    assert (late.code, late.retryable) == ("withdrawn", False) and outcomes
    renderer.store = plain
    # By its id: where it has a record it has a tombstone.
    if plain.listing(late.track_id).versions:
        with pytest.raises(Withdrawn):
            renderer.tracks.newest(late.track_id)
    under_way = [one.track_id for one in outcomes[0].tracks if one.was_under_way]
    assert under_way == ([] if moment in ("announce before", "publish after") else [late.track_id])
    # What a render that came too late has left, the same takedown again deletes.
    taken(renderer, first.track_id)
    assert list((tmp_path / "store").glob("blobs/*/*")) == []


def test_a_render_that_dies_before_its_record_leaves_no_way_back(renderer, tmp_path):
    first = made(renderer)

    class Dying(TrackStore):
        def publish(self, *arguments):
            raise StoreUnavailable("no answer")

    renderer.store = Dying.open(renderer.store.url)
    dead = renderer.render(request(format="mp3"))
    renderer.store = TrackStore.open(renderer.store.url)

    outcome = taken(renderer, first.track_id)

    assert dead.code == "store-unavailable"
    assert [one.track_id for one in outcome.tracks if one.was_under_way] == [dead.track_id]
    assert list((tmp_path / "store").glob("blobs/*/*")) == []
    with pytest.raises(Withdrawn):
        renderer.tracks.refuse_withdrawn(dead.track_id)


# The index


def forget_the_index(renderer):
    """As a store is that an older release has filled."""
    folder = Path(renderer.store.url, "index")
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def test_where_there_is_no_index_records_are_read_once_and_it_is_made(renderer):
    tracks = [made(renderer, format=form) for form in ("wav", "mp3")] + [made(renderer, seed=1)]
    forget_the_index(renderer)
    said: list[str] = []

    outcome = taken(renderer, tracks[0].track_id, said=said)

    assert {one.track_id for one in outcome.tracks} == {tracks[0].track_id, tracks[1].track_id}
    assert said == ["3 of 3 tracks are not in the store's index; their records are read"]
    assert renderer.tracks.index_is_whole
    taken(renderer, tracks[2].track_id, said=said)
    assert len(said) == 1
    assert not any(map(renderer.store.has_blob, blobs_of(tracks[2])))


def test_a_store_that_always_had_an_index_says_nothing(renderer):
    track, said = made(renderer), []

    taken(renderer, track.track_id, said=said)

    assert said == [] and renderer.tracks.index_is_whole


@pytest.mark.parametrize("version", [1, 2, 3])
def test_tracks_of_older_releases_go_with_their_piece(renderer, version):
    old = made(renderer, format="mp3")
    record = as_of_version(old.record, version)
    path = Path(renderer.store.url, "tracks", old.track_id[4:6], old.track_id, "000001.json")
    path.write_bytes(renderer.signer.sign(record).to_bytes())
    forget_the_index(renderer)
    new = made(renderer)

    outcome = taken(renderer, new.track_id)

    assert {one.track_id for one in outcome.tracks} == {old.track_id, new.track_id}
    assert not renderer.store.has_blob(old.record.audio_key)


def test_an_entry_is_there_before_the_record_and_names_nobody(renderer):
    seen = []

    class Looking(TrackStore):
        def publish(self, track_id, record_for):
            seen.extend(self.index.all())
            return super().publish(track_id, record_for)

    renderer.store = Looking.open(renderer.store.url)
    track = made(renderer, requester="ann-example")

    [entry] = seen
    signed = renderer.tracks.entry(entry)
    assert signed.entry == IndexEntry.of(track.record)
    assert renderer.store.tracks_with_blob(track.record.midi_key) == {track.track_id}
    assert b"ann" not in signed.to_bytes() and "ann" not in entry.key


def test_what_anybody_may_plant_in_the_index_withdraws_nothing(renderer):
    mine, theirs = made(renderer), made(renderer, seed=1)
    stranger = Signer(Ed25519PrivateKey.generate())
    for track_id in (theirs.track_id, ABSENT):
        entry = replace(IndexEntry.of(mine.record), track_id=track_id)
        renderer.store.announce(entry, SignedEntry.sign(entry, stranger).to_bytes())

    outcome = taken(renderer, mine.track_id)

    assert [one.track_id for one in outcome.tracks] == [mine.track_id]
    assert renderer.store.tombstone(ABSENT) is None and made(renderer, seed=1).cache_hit


def test_a_planted_statement_does_not_make_an_index_whole(renderer):
    track, other = made(renderer), made(renderer, format="mp3")
    forget_the_index(renderer)
    for statement in (b"{}", b"", b"[" * 100_000):
        renderer.store.index.note_whole(statement)
        assert not renderer.tracks.index_is_whole

    outcome = taken(renderer, track.track_id)

    assert {one.track_id for one in outcome.tracks} == {track.track_id, other.track_id}
    assert renderer.tracks.index_is_whole


def test_a_record_of_the_piece_that_does_not_verify_stops_the_deletion(renderer):
    wav, mp3 = made(renderer), made(renderer, format="mp3")
    path = Path(renderer.store.url, "tracks", mp3.track_id[4:6], mp3.track_id, "000001.json")
    path.write_bytes(path.read_bytes().replace(b'"a tone"', b'"another"'))

    with pytest.raises(VerificationFailed, match="no blob was deleted"):
        taken(renderer, wav.track_id)

    assert renderer.store.has_blob(wav.record.audio_key)
    for track in (wav, mp3):
        with pytest.raises(Withdrawn):
            renderer.tracks.newest(track.track_id)


def test_an_entry_is_read_behind_no_link(renderer, tmp_path):
    track = made(renderer)
    [entry] = renderer.store.index.all()
    path = Path(renderer.store.url, entry.key)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")

    assert renderer.tracks.entry(entry) is None
    # Its record says what it is.
    assert [one.track_id for one in taken(renderer, track.track_id).tracks] == [track.track_id]
