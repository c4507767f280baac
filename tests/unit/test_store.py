"""What a store promises, in a folder. tests/servers/test_store_s3.py holds a real S3 server to the same contract."""

import hashlib
import pickle
import resource
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable, Withdrawn
from orchestrion.store import TrackStore

TRACK = "trk_" + "ab2" * 10 + "cd"
OTHER_TRACK = "trk_" + "z7" * 16
ABSENT = "blobs/ba/" + hashlib.sha256(b"abc").hexdigest() + ".flac"

TRICKS = [
    "",
    ".",
    "../../etc/passwd",
    "/etc/passwd",
    "tmp",
    "blobs/",
    "blobs/ba/..",
    ABSENT + "/../../../x",
    ABSENT + "\n",
    ABSENT + "\0",
    ABSENT.upper(),
    ABSENT.replace("blobs", "tracks"),
    ABSENT.replace("/ba/", "/aa/"),
    ABSENT.replace(".flac", ""),
    ABSENT.replace(".flac", ".fl/ac"),
    "s3://elsewhere/" + ABSENT,
    TRACK + "/000001.json",
    TRACK + "\n",
    TRACK.upper(),
    TRACK[:-1],
    TRACK[:-1] + "١",
    "trk_" + "../" * 10 + "aa",
]


class StoreContract:
    """Subclasses give a fixture `store`: an empty store."""

    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 4000], ids=["empty", "short", "1 MB"])
    def test_a_blob_comes_back_and_its_key_tells_its_hash(self, store, data):
        key = store.put_blob(data, "flac")

        assert store.get_blob(key) == data
        assert store.blob_size(key) == len(data)
        sha256 = hashlib.sha256(data).hexdigest()
        assert key == f"blobs/{sha256[:2]}/{sha256}.flac"

    def test_the_same_bytes_again_are_the_same_blob(self, store):
        assert store.put_blob(b"la", "wav") == store.put_blob(b"la", ".wav")
        assert store.put_blob(b"la", "wav") != store.put_blob(b"la", "mid")

    def test_ranges(self, store):
        key = store.put_blob(b"0123456789", "wav")

        ranges = [(0, 10), (0, 1), (3, 7), (9, 10), (8, 99), (10, 11), (500, 501), (4, 4)]
        read = [store.read_range(key, start, end) for start, end in ranges]
        assert read == [b"0123456789"[start:end] for start, end in ranges]
        for start, end in [(-1, 3), (5, 4)]:
            with pytest.raises(InvalidRequest, match="0 <= start <= end"):
                store.read_range(key, start, end)

    def test_what_is_missing_is_named_with_a_remedy(self, store):
        for read in (store.get_blob, store.blob_size, lambda key: store.read_range(key, 0, 1)):
            with pytest.raises(NotFound, match=f"{ABSENT} is not in the store .*; render or upload it first"):
                read(ABSENT)
        assert store.latest(TRACK) is None
        assert store.versions(TRACK) == []
        assert list(store.track_ids()) == []

    def test_themes(self, store):
        ref = store.put_theme(b"MThd")

        assert ref == "sha256:" + hashlib.sha256(b"MThd").hexdigest()
        assert store.theme(ref) == b"MThd"
        with pytest.raises(NotFound, match="upload it first"):
            store.theme("sha256:" + "0" * 64)
        with pytest.raises(NotFound, match="64 hex digits"):
            store.theme("sha256:../../x")

    @pytest.mark.parametrize("trick", TRICKS)
    def test_no_key_or_id_is_a_way_out_of_the_store(self, store, trick):
        reads = (store.get_blob, store.blob_size, lambda key: store.read_range(key, 0, 1), store.theme, store.has_blob)
        tracks = (
            store.latest,
            store.history,
            store.tombstone,
            store.refuse_withdrawn,
            lambda track_id: store.withdraw(track_id, b"{}"),
        )
        for use in (*reads, *tracks, store.delete_blob, lambda track_id: store.publish(track_id, b"{}")):
            with pytest.raises(NotFound):
                use(trick)

    @pytest.mark.parametrize("suffix", ["", ".", "..", "fl/ac", "../x", "FLAC", "flac\n", "ninechars", "flác"])
    def test_a_suffix_is_a_short_plain_word(self, store, suffix):
        with pytest.raises(InvalidRequest, match="1 to 8 lower-case"):
            store.put_blob(b"x", suffix)

    def test_a_track_is_seen_from_its_first_record_on(self, store):
        store.put_blob(b"audio", "flac")
        assert list(store.track_ids()) == []

        assert store.publish(TRACK, b'{"v":1}') == 1

        assert list(store.track_ids()) == [TRACK]
        assert store.latest(TRACK) == b'{"v":1}'

    def test_versions_count_up_and_the_newest_again_is_no_new_one(self, store):
        published = [store.publish(TRACK, record) for record in (b"a", b"a", b"b", b"b", b"a")]

        assert published == [1, 1, 2, 2, 3]
        assert store.versions(TRACK) == [1, 2, 3]
        assert store.latest(TRACK) == b"a"

    def test_tracks_are_listed_once_and_in_order(self, store):
        for track_id in (OTHER_TRACK, TRACK, OTHER_TRACK):
            store.publish(track_id, track_id.encode())
        store.publish(TRACK, b"second")

        assert list(store.track_ids()) == [TRACK, OTHER_TRACK]

    def test_of_publishers_at_the_same_moment_one_wins_and_all_agree(self, store):
        writers = 8
        together = threading.Barrier(writers)

        def publish(number):
            together.wait()
            return store.publish(TRACK, b"record of %d" % number)

        with ThreadPoolExecutor(writers) as pool:
            got = list(pool.map(publish, range(writers)))

        versions = store.versions(TRACK)
        assert versions == list(range(1, len(versions) + 1))
        assert set(got) == set(versions)
        # Whoever wrote a version, every reader is given the same bytes for it, and they are one writer's.
        assert store.latest(TRACK) in {b"record of %d" % n for n in range(writers) if got[n] == versions[-1]}

    def test_a_withdrawn_track_is_refused_by_every_way_to_it_and_its_records_stay(self, store):
        for track_id in (TRACK, OTHER_TRACK):
            store.publish(track_id, b"a")
        assert store.tombstone(TRACK) is None

        assert store.withdraw(TRACK, b"why") == b"why"

        for use in (store.latest, store.versions, store.refuse_withdrawn, lambda t: store.publish(t, b"a")):
            with pytest.raises(Withdrawn, match=f"{TRACK} was withdrawn .* another seed"):
                use(TRACK)
        assert list(store.track_ids()) == [OTHER_TRACK]
        assert store.records() == [(OTHER_TRACK, 1)]
        assert (store.tombstone(TRACK), store.history(TRACK), store.record(TRACK, 1)) == (b"why", [1], b"a")

    def test_the_first_tombstone_stands(self, store):
        together = threading.Barrier(4)

        def withdraw(number):
            together.wait()
            return store.withdraw(TRACK, b"operator %d" % number)

        with ThreadPoolExecutor(4) as pool:
            stand = set(pool.map(withdraw, range(4)))

        assert stand == {store.tombstone(TRACK)}
        assert store.withdraw(TRACK, b"later") == store.tombstone(TRACK) != b"later"

    def test_a_record_that_comes_after_the_tombstone_is_refused_and_kept_to_find_its_blobs(self, store):
        store.withdraw(TRACK, b"why")

        with pytest.raises(Withdrawn):
            store.publish(TRACK, b"too late")

        assert store.history(TRACK) == [1]
        assert store.records() == []

    def test_of_a_publisher_and_a_takedown_at_the_same_moment_one_sees_the_other(self, store):
        ids = ["trk_" + letter * 32 for letter in "abcdefgh"]
        together = threading.Barrier(2)

        def publish(track_id):
            together.wait()
            try:
                return store.publish(track_id, b"record")
            except Withdrawn:
                return "refused"

        def withdraw(track_id):
            together.wait()
            store.withdraw(track_id, b"why")
            return store.history(track_id)

        with ThreadPoolExecutor(2) as pool:
            for track_id in ids:
                published, seen = pool.submit(publish, track_id), pool.submit(withdraw, track_id)
                assert published.result() == "refused" or seen.result() == [1]

    def test_a_deleted_blob_is_gone_and_can_be_put_again(self, store):
        key = store.put_blob(b"music", "flac")

        assert (store.delete_blob(key), store.has_blob(key), store.delete_blob(key)) == (True, False, False)

        assert store.put_blob(b"music", "flac") == key
        assert store.get_blob(key) == b"music"

    def test_a_forgotten_record_is_published_anew(self, store):
        store.publish(TRACK, b"a")

        store.forget(TRACK, 1)

        assert store.latest(TRACK) is None
        assert store.publish(TRACK, b"b") == 1

    def test_threads_share_a_store(self, store):
        blobs = [b"%d" % n * 1000 for n in range(24)]
        with ThreadPoolExecutor(8) as pool:
            keys = list(pool.map(lambda data: store.put_blob(data, "bin"), blobs * 2))
            assert list(pool.map(store.get_blob, keys)) == blobs * 2
        assert len(set(keys)) == len(blobs)

    def test_a_pickled_store_is_the_same_place(self, store):
        key = store.put_blob(b"here", "txt")

        assert pickle.loads(pickle.dumps(store)).get_blob(key) == b"here"


class TestFolder(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return TrackStore.open(str(tmp_path / "not there yet" / "store"))

    def test_a_file_url_is_the_same_place_as_its_path(self, tmp_path):
        by_path = TrackStore.open(str(tmp_path / "a b"))
        by_url = TrackStore.open((tmp_path / "a b").as_uri())

        assert by_url.get_blob(by_path.put_blob(b"x", "bin")) == b"x"
        assert by_url.url == by_path.url

    def test_a_relative_folder_stays_where_it_was(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        store = TrackStore.open("store")
        key = store.put_blob(b"x", "bin")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")

        assert pickle.loads(pickle.dumps(store)).get_blob(key) == b"x"

    @pytest.mark.parametrize(
        "url",
        ["http://host/x", "gs://bucket", "s3://", "s3://UP/x", "s3://bucket/../x", "s3://bucket/a?b", "file://host/x"],
    )
    def test_other_kinds_of_urls_are_refused(self, url):
        with pytest.raises(InvalidRequest, match="s3://bucket"):
            TrackStore.open(url)

    def test_a_damaged_blob_is_not_served(self, store, tmp_path):
        key = store.put_blob(b"music", "flac")
        next(tmp_path.rglob("*.flac")).write_bytes(b"muzak")

        with pytest.raises(StoreUnavailable, match="damaged"):
            store.get_blob(key)

    def test_a_truncated_blob_is_told_when_it_is_put_again(self, store, tmp_path):
        store.put_blob(b"music", "flac")
        next(tmp_path.rglob("*.flac")).write_bytes(b"mus")

        with pytest.raises(StoreUnavailable, match="3 bytes instead of 5; delete it"):
            store.put_blob(b"music", "flac")

    def test_a_write_that_fails_halfway_leaves_nothing_to_see(self, store, tmp_path):
        data = b"x" * 100_000
        with largest_file(50_000), pytest.raises(StoreUnavailable, match="has room"):
            store.put_blob(data, "flac")

        assert list(tmp_path.rglob("*.flac")) == []
        assert list(tmp_path.rglob("*.part")) == []
        assert store.get_blob(store.put_blob(data, "flac")) == data

    def test_what_is_being_written_is_not_a_track(self, store, tmp_path):
        store.publish(TRACK, b"{}")
        folder = next(tmp_path.rglob("000001.json")).parent
        (folder / ".000002.json.swp").write_bytes(b"{")
        (folder / "000002.json.part").write_bytes(b"{")

        assert store.versions(TRACK) == [1]

    def test_tmp_may_be_deleted(self, store, tmp_path):
        shutil.rmtree(next(tmp_path.rglob("tmp")))

        assert store.get_blob(store.put_blob(b"x", "bin")) == b"x"

    def test_a_folder_that_is_gone_is_not_an_empty_store(self, store, tmp_path):
        shutil.rmtree(tmp_path / "not there yet")

        for use in (store.latest, store.versions, lambda track_id: store.publish(track_id, b"{}")):
            with pytest.raises(StoreUnavailable, match="is not there; check that the folder exists"):
                use(TRACK)
        for use in (store.get_blob, lambda _: store.put_blob(b"x", "bin"), lambda _: list(store.track_ids())):
            with pytest.raises(StoreUnavailable, match="is not there"):
                use(ABSENT)

    def test_a_file_in_the_place_of_the_folder(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")

        with pytest.raises(StoreUnavailable, match="check that the folder"):
            TrackStore.open(str(tmp_path / "file"))


@contextmanager
def largest_file(size):
    """Every write beyond `size` bytes of a file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
