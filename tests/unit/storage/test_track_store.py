"""What a store promises, in a folder. tests/servers/test_store_s3.py holds a real S3 server to the same contract."""

import hashlib
import pickle
import random
import resource
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable, VerificationFailed
from orchestrion.storage.block_digests import BLOCK_BYTES, BLOCKS_AT_ONCE
from orchestrion.storage.object_store import Objects
from orchestrion.storage.purged import Purged
from orchestrion.storage.track_store import MAX_VERSION, Listing, TrackStore

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


def publish(store, track_id=TRACK, record=b"{}"):
    return store.publish(track_id, lambda version: record)


def newest(store, track_id=TRACK):
    return store.record(track_id, store.listing(track_id).versions[-1])


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
        empty = store.put_blob(b"", "wav")
        assert (store.check_blob(empty), store.read_range(empty, 0, 9)) == (0, b"")

    @pytest.mark.parametrize("size", [BLOCK_BYTES, BLOCKS_AT_ONCE * BLOCK_BYTES + 5], ids=["1 MiB", "more than 8 MiB"])
    def test_ranges_over_blocks(self, store, size):
        data = random.Random(1).randbytes(size)
        key = store.put_blob(data, "wav")

        assert store.check_blob(key) == size
        cuts = [(0, size), (size - 1, size), (BLOCK_BYTES - 1, BLOCK_BYTES + 1), (5, BLOCK_BYTES), (size, size + 1)]
        assert all(store.read_range(key, start, end) == data[start:end] for start, end in cuts)

    def test_what_is_missing_is_named_with_a_remedy(self, store):
        for read in (store.get_blob, store.blob_size, store.check_blob, lambda key: store.read_range(key, 0, 1)):
            with pytest.raises(NotFound, match=f"{ABSENT} is not in the store .*; render or upload it first"):
                read(ABSENT)
        assert store.listing(TRACK) == Listing((), has_tombstone=False)
        assert store.tombstone(TRACK) is None
        assert store.listings() == {}

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
        reads = (
            store.get_blob, store.blob_size, store.check_blob, lambda key: store.read_range(key, 0, 1), store.theme,
            store.has_blob, store.tracks_with_blob,
        )  # fmt: skip
        tracks = (
            store.listing,
            store.tombstone,
            lambda track_id: store.record(track_id, 1),
            lambda track_id: store.create_tombstone(track_id, b"{}"),
            lambda track_id: store.replace_tombstone(track_id, b"{}"),
        )
        for use in (*reads, *tracks, store.delete_blob, lambda track_id: publish(store, track_id)):
            with pytest.raises(NotFound):
                use(trick)

    @pytest.mark.parametrize("suffix", ["", ".", "..", "fl/ac", "../x", "FLAC", "flac\n", "ninechars", "flác"])
    def test_a_suffix_is_a_short_plain_word(self, store, suffix):
        with pytest.raises(InvalidRequest, match="1 to 8 lower-case"):
            store.put_blob(b"x", suffix)

    def test_a_track_is_seen_from_its_first_record_on(self, store):
        store.put_blob(b"audio", "flac")
        assert store.listings() == {}

        assert publish(store, record=b'{"v":1}') == 1

        assert store.listings() == {TRACK: Listing((1,), has_tombstone=False)}
        assert newest(store) == b'{"v":1}'

    def test_versions_count_up_and_the_newest_again_is_no_new_one(self, store):
        published = [publish(store, record=record) for record in (b"a", b"a", b"b", b"b", b"a")]

        assert published == [1, 1, 2, 2, 3]
        assert store.listing(TRACK).versions == (1, 2, 3)
        assert newest(store) == b"a"

    def test_a_record_is_written_as_the_version_that_it_gets(self, store):
        for number in (1, 2):
            assert store.publish(TRACK, lambda version, number=number: b"%d of %d" % (version, number)) == number
            assert newest(store) == b"%d of %d" % (number, number)

    def test_what_else_lies_among_the_records_is_gone_around(self, store):
        store.publish(TRACK, lambda version: b"x" * (2 << 20))

        assert publish(store) == 2
        with pytest.raises(VerificationFailed, match="more than"):
            store.record(TRACK, 1)

    def test_no_version_comes_after_the_last_that_a_name_can_count(self, store):
        store._objects.create(f"tracks/{TRACK[4:6]}/{TRACK}/{MAX_VERSION}.json", b"junk")

        with pytest.raises(VerificationFailed, match=f"has a version {MAX_VERSION}"):
            publish(store)

    def test_tracks_are_listed_once_and_in_order(self, store):
        for track_id in (OTHER_TRACK, TRACK, OTHER_TRACK):
            publish(store, track_id, track_id.encode())
        publish(store, TRACK, b"second")

        assert list(store.listings()) == [TRACK, OTHER_TRACK]

    def test_of_publishers_at_the_same_moment_each_has_a_version_of_its_own(self, store):
        writers = 8
        together = threading.Barrier(writers)

        def write(number):
            together.wait()
            return publish(store, record=b"record of %d" % number)

        with ThreadPoolExecutor(writers) as pool:
            got = list(pool.map(write, range(writers)))

        assert sorted(got) == list(store.listing(TRACK).versions) == list(range(1, writers + 1))
        assert [store.record(TRACK, version) for version in got] == [b"record of %d" % n for n in range(writers)]

    def test_a_tombstone_is_put_where_nothing_is_and_replaces_only_when_told_to(self, store):
        publish(store)

        assert store.create_tombstone(TRACK, b"first") and not store.create_tombstone(TRACK, b"second")
        assert store.listing(TRACK) == store.listings()[TRACK] == Listing((1,), has_tombstone=True)
        assert store.tombstone(TRACK) == b"first"
        store.replace_tombstone(TRACK, b"third")
        assert store.tombstone(TRACK) == b"third"

    def test_a_deleted_blob_is_gone_and_can_be_put_again(self, store):
        key = store.put_blob(b"music", "flac")

        assert (store.delete_blob(key), store.has_blob(key), store.delete_blob(key)) == (
            Purged(was_there=True), False, Purged(was_there=False),
        )  # fmt: skip

        assert store.put_blob(b"music", "flac") == key
        assert store.get_blob(key) == b"music"

    def test_a_forgotten_record_is_published_anew(self, store):
        publish(store)

        store.forget(TRACK, 1)

        assert store.listing(TRACK).versions == ()
        assert publish(store, record=b"b") == 1

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

    @pytest.mark.parametrize("what", ["changed", "cut", "longer", "link", "folder behind a link"])
    def test_a_damaged_blob_is_not_served(self, store, tmp_path, what):
        key = store.put_blob(b"music", "flac")
        spoil(next(tmp_path.rglob("*.flac")), what)

        for read in (store.get_blob, store.check_blob, lambda key: store.read_range(key, 0, 1)):
            with pytest.raises(VerificationFailed, match=r"damaged|behind a link"):
                read(key)

    @pytest.mark.parametrize("what", ["changed", "cut", "longer", "link"])
    def test_a_damaged_blob_is_mended_when_it_is_put_again(self, store, tmp_path, what):
        key = store.put_blob(b"music", "flac")
        spoil(next(tmp_path.rglob("*.flac")), what)

        assert store.put_blob(b"music", "flac") == key
        assert store.get_blob(key) == b"music"

    def test_a_part_that_was_changed_since_the_blob_was_hashed_is_not_served(self, store, tmp_path):
        data = random.Random(2).randbytes(3 * BLOCK_BYTES)
        key = store.put_blob(data, "flac")
        assert store.read_range(key, 0, 10) == data[:10]
        with next(tmp_path.rglob("*.flac")).open("r+b") as file:
            file.seek(BLOCK_BYTES + 7)
            file.write(bytes([data[BLOCK_BYTES + 7] ^ 1]))

        assert store.read_range(key, 0, BLOCK_BYTES) == data[:BLOCK_BYTES]
        with pytest.raises(VerificationFailed, match="changed while it was read"):
            store.read_range(key, BLOCK_BYTES - 10, BLOCK_BYTES + 1)
        # And from then on it is what it is.
        with pytest.raises(VerificationFailed, match="wrong SHA-256"):
            store.read_range(key, 0, 10)

    def test_a_blob_is_hashed_once_and_little_is_remembered(self, tmp_path):
        class Counting(Objects):
            read_bytes = 0

            def read_range(self, key: str, start: int, end: int) -> bytes:
                data = super().read_range(key, start, end)
                self.read_bytes += len(data)
                return data

        objects = Counting(str(tmp_path))
        store = TrackStore(objects)
        key = store.put_blob(bytes(4 * BLOCK_BYTES), "wav")
        objects.read_bytes = 0

        for _ in range(3):
            store.read_range(key, 10, 20)

        assert objects.read_bytes == 4 * BLOCK_BYTES + 3 * BLOCK_BYTES

    def test_a_write_that_fails_halfway_leaves_nothing_to_see(self, store, tmp_path):
        data = b"x" * 100_000
        with largest_file(50_000), pytest.raises(StoreUnavailable, match="has room"):
            store.put_blob(data, "flac")

        assert list(tmp_path.rglob("*.flac")) == []
        assert list(tmp_path.rglob("*.part")) == []
        assert store.get_blob(store.put_blob(data, "flac")) == data

    def test_what_is_being_written_is_not_a_track(self, store, tmp_path):
        publish(store)
        folder = next(tmp_path.rglob("000001.json")).parent
        (folder / ".000002.json.swp").write_bytes(b"{")
        (folder / "000002.json.part").write_bytes(b"{")

        assert store.listing(TRACK).versions == (1,)

    def test_tmp_may_be_deleted(self, store, tmp_path):
        shutil.rmtree(next(tmp_path.rglob("tmp")))

        assert store.get_blob(store.put_blob(b"x", "bin")) == b"x"

    def test_a_folder_that_is_gone_is_not_an_empty_store(self, store, tmp_path):
        shutil.rmtree(tmp_path / "not there yet")

        for use in (store.listing, store.tombstone, lambda track_id: publish(store, track_id)):
            with pytest.raises(StoreUnavailable, match="is not there; check that the folder exists"):
                use(TRACK)
        for use in (store.get_blob, lambda _: store.put_blob(b"x", "bin"), lambda _: store.listings()):
            with pytest.raises(StoreUnavailable, match="is not there"):
                use(ABSENT)

    def test_a_file_in_the_place_of_the_folder(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")

        with pytest.raises(StoreUnavailable, match="check that the folder"):
            TrackStore.open(str(tmp_path / "file"))


def spoil(path, what):
    """Do to a file of five bytes what a writer of the store can do."""
    if what == "changed":
        path.write_bytes(b"muzak")
    elif what == "cut":
        path.write_bytes(b"mus")
    elif what == "longer":
        path.write_bytes(b"music and more")
    elif what == "link":
        elsewhere = path.parents[3] / "elsewhere"
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
    else:
        path.parent.rename(path.parents[3] / "elsewhere")
        path.parent.symlink_to(path.parents[3] / "elsewhere")


@contextmanager
def largest_file(size):
    """Every write beyond `size` bytes of a file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
