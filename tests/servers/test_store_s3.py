"""The store on a real S3 server, and stores whose server or writer is killed in the middle of a write."""

import hashlib
import multiprocessing
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from orchestrion.errors import NotFound, StoreUnavailable, VerificationFailed
from orchestrion.storage.object_store import Objects
from orchestrion.storage.track_store import TrackStore
from tests.servers.seaweedfs import SeaweedFS
from tests.unit.storage.test_track_store import ABSENT, TRACK, StoreContract, newest, publish

USES = {
    "put_blob": lambda store: store.put_blob(b"x", "bin"),
    "get_blob": lambda store: store.get_blob(ABSENT),
    "read_range": lambda store: store.read_range(ABSENT, 0, 1),
    "listing": lambda store: store.listing(TRACK),
    "publish": lambda store: publish(store),
    "listings": lambda store: store.listings(),
}


@pytest.fixture
def server(s3_server):
    return s3_server


class TestBucket(StoreContract):
    @pytest.fixture
    def store(self, server):
        return TrackStore.open(server.new_url(), server.storage_options)

    def test_a_prefix_is_a_store_of_its_own(self, store, server):
        places = (store.url.rpartition("/")[0], store.url + "2")
        whole, sibling = (TrackStore.open(url, server.storage_options) for url in places)
        publish(store)

        assert (whole.listing(TRACK).versions, sibling.listing(TRACK).versions) == ((), ())
        assert TRACK not in [*whole.listings(), *sibling.listings()]

    def test_more_tracks_than_one_page_of_a_listing(self, store, server):
        # S3 lists 1000 keys a page.
        ids = ["trk_" + f"{n:032b}".translate({48: "a", 49: "b"}) for n in range(1003)]
        folder = store.url.removeprefix("s3://") + "/tracks"
        server.client().pipe({f"{folder}/{i[4:6]}/{i}/000001.json": b"{}" for i in ids})

        assert list(store.listings()) == sorted(ids)

    def test_a_damaged_blob_is_not_served(self, store, server):
        key = store.put_blob(b"music", "flac")
        server.client().pipe(f"{store.url}/{key}", b"muzak")

        for read in (store.get_blob, store.check_blob, lambda key: store.read_range(key, 0, 1)):
            with pytest.raises(VerificationFailed, match="damaged"):
                read(key)
        store.put_blob(b"music", "flac")
        assert store.get_blob(key) == b"music"

    def test_a_part_that_was_changed_since_the_blob_was_hashed_is_not_served(self, store, server):
        key = store.put_blob(b"music", "flac")
        assert store.read_range(key, 0, 2) == b"mu"
        server.client().pipe(f"{store.url}/{key}", b"muzak")

        with pytest.raises(VerificationFailed, match="changed while it was read"):
            store.read_range(key, 0, 2)

    def test_a_forked_process_opens_its_own_connections(self, store):
        key = store.put_blob(b"parent", "bin")

        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply_async(store.get_blob, (key,)).get(timeout=60) == b"parent"
        assert store.get_blob(key) == b"parent"

    def test_a_fresh_process_is_given_a_pickle(self, store):
        key = store.put_blob(b"parent", "bin")
        script = "import pickle, sys; sys.stdout.buffer.write(pickle.load(sys.stdin.buffer).get_blob(sys.argv[1]))"

        ran = subprocess.run(
            [sys.executable, "-c", script, key], input=pickle.dumps(store), capture_output=True, check=True, timeout=120
        )

        assert ran.stdout == b"parent"

    @pytest.mark.parametrize("use", USES.values(), ids=USES)
    def test_a_bucket_that_is_not_there_is_not_an_empty_store(self, server, use):
        with pytest.raises(StoreUnavailable, match="check that the bucket exists"):
            use(TrackStore.open("s3://no-such-bucket", server.storage_options))

    @pytest.mark.parametrize("use", USES.values(), ids=USES)
    def test_a_wrong_secret_is_refused_and_not_told(self, store, server, use):
        wrong = TrackStore.open(store.url, server.storage_options | {"secret": "wrong-secret"})

        with pytest.raises(StoreUnavailable, match="credentials") as raised:
            use(wrong)
        assert "wrong-secret" not in str(raised.value)

    @pytest.mark.parametrize("use", USES.values(), ids=USES)
    def test_a_server_that_never_answers_is_given_up(self, use):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            options = {
                "endpoint_url": f"http://127.0.0.1:{silent.getsockname()[1]}",
                "key": "k",
                "secret": "s",
                "config_kwargs": {"read_timeout": 0.2},
            }
            with pytest.raises(StoreUnavailable, match="check that the bucket"):
                use(TrackStore.open("s3://bucket", options))

    def test_who_asks_may_stand_in_a_profile(self, store, server, tmp_path, monkeypatch):
        (tmp_path / "config").write_text(
            f"[profile tests]\naws_access_key_id = {server.key}\naws_secret_access_key = {server.secret}\n"
        )
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        key = store.put_blob(b"music", "flac")

        by_profile = TrackStore.open(store.url, {"endpoint_url": server.endpoint, "profile": "tests"})

        assert by_profile.get_blob(key) == b"music"
        with pytest.raises(StoreUnavailable, match=r"nobody.* could not be found"):
            TrackStore.open(store.url, {"endpoint_url": server.endpoint, "profile": "nobody"}).get_blob(key)

    def test_more_arguments_go_with_those_calls_that_have_them(self, store, server):
        more = {"requester_pays": True, "s3_additional_kwargs": {"Metadata": {"project": "tests"}}}
        tagged = TrackStore.open(store.url, server.storage_options | more)

        key = tagged.put_blob(b"music", "flac")

        assert tagged.get_blob(key) == b"music" and tagged.listing(TRACK).versions == ()
        assert server.client().metadata(f"{store.url}/{key}")["project"] == "tests"


def test_an_upload_may_take_longer_than_a_connection():
    got = 0
    with socket.create_server(("127.0.0.1", 0)) as server:

        def read_slowly() -> None:
            nonlocal got
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as request:
                length = 0
                while (line := request.readline()) != b"\r\n":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                while got < length:
                    time.sleep(0.02)
                    got += len(request.read(min(256 << 10, length - got)))
                connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "%s"\r\nContent-Length: 0\r\n\r\n' % md5)

        data = os.urandom(16 << 20)
        md5 = hashlib.md5(data).hexdigest().encode()
        reader = threading.Thread(target=read_slowly)
        reader.start()
        options = {
            "endpoint_url": f"http://127.0.0.1:{server.getsockname()[1]}",
            "key": "k",
            "secret": "s",
            # The upload takes 1.3 s at least.
            "config_kwargs": {"connect_timeout": 0.5, "retries": {"total_max_attempts": 1}},
        }
        assert Objects("s3://bucket", options).create("x", data)
        reader.join(timeout=60)
    assert got == len(data)


WRITER = """
import pickle, random, sys
store = pickle.load(sys.stdin.buffer)
print("ready", flush=True)
for take in range(10_000):
    audio = random.Random(f"{sys.argv[1]}.{take}").randbytes(8 << 20)
    key = store.put_blob(audio, "wav")
    store.publish(sys.argv[2], lambda version: b'{"audio_key": "%s"}' % key.encode())
"""


def kill_a_writer(store: TrackStore, name: str, after_s: float) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, name, TRACK], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    writer.stdin.write(pickle.dumps(store))
    writer.stdin.close()
    assert writer.stdout.readline() == b"ready\n"
    time.sleep(after_s)
    writer.send_signal(signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL
    writer.stdout.close()


def assert_everything_that_is_seen_is_whole(store: TrackStore, blob_keys: list[str]) -> None:
    for key in blob_keys:
        assert store.get_blob(key)  # get_blob checks the hash
    for version in store.listing(TRACK).versions:
        record = store.record(TRACK, version)
        key = record.removeprefix(b'{"audio_key": "').removesuffix(b'"}').decode()
        assert record == b'{"audio_key": "%s"}' % key.encode()
        assert key in blob_keys


def test_killed_writers_leave_whole_blobs_in_a_folder(tmp_path):
    store = TrackStore.open(str(tmp_path))
    for number in range(40):
        kill_a_writer(store, f"local{number}", after_s=random.Random(number).uniform(0.05, 0.25))
        # A kill between two writes shows nothing: six at least, and on until one was in the middle.
        if number >= 5 and list(tmp_path.glob("tmp/*.part")):
            break

    seen = [path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("blobs/*/*")]
    assert_everything_that_is_seen_is_whole(store, seen)
    assert list(tmp_path.glob("tmp/*.part")), "no writer was killed in the middle of a write: the test shows nothing"
    assert store.get_blob(store.put_blob(b"next", "bin")) == b"next"


def test_killed_writers_leave_whole_blobs_in_a_bucket(server):
    store = TrackStore.open(server.new_url(), server.storage_options)
    for number in range(4):
        kill_a_writer(store, f"s3{number}", after_s=random.Random(number).uniform(0.1, 0.4))

    bucket = store.url.removeprefix("s3://")
    seen = [path.removeprefix(f"{bucket}/") for path in server.client().find(f"{bucket}/blobs")]
    assert_everything_that_is_seen_is_whole(store, seen)
    assert store.get_blob(store.put_blob(b"next", "bin")) == b"next"


def test_a_server_killed_in_the_middle_of_a_write_shows_no_half_object(tmp_path):
    server = SeaweedFS(tmp_path / "server")
    server.start()
    try:
        store = TrackStore.open(server.new_url(), server.storage_options)
        kept = store.put_blob(b"before", "bin")
        publish(store, record=b'{"before": true}')
        audio = os.urandom(96 << 20)
        key = f"blobs/{hashlib.sha256(audio).hexdigest()[:2]}/{hashlib.sha256(audio).hexdigest()}.wav"

        outcome = []
        writer = threading.Thread(target=lambda: outcome.append(result_of(lambda: store.put_blob(audio, "wav"))))
        before_bytes = bytes_below(server.folder / "data")
        writer.start()
        while bytes_below(server.folder / "data") < before_bytes + (16 << 20) and writer.is_alive():
            time.sleep(0.002)
        server.kill()
        writer.join(timeout=120)

        assert isinstance(outcome[0], StoreUnavailable), "the server was killed after the write"
        assert isinstance(result_of(lambda: store.listing(TRACK)), StoreUnavailable)

        server.start()
        for read in (store.get_blob, store.blob_size, lambda key: store.read_range(key, 0, 1)):
            with pytest.raises(NotFound):
                read(key)
        assert [path for path in server.client().find(store.url) if path.endswith(".wav")] == []
        assert (store.get_blob(kept), newest(store)) == (b"before", b'{"before": true}')
        assert store.put_blob(audio, "wav") == key
        assert store.get_blob(key) == audio
        assert publish(store, record=b'{"after": true}') == 2
    finally:
        server.kill()


def result_of(call):
    """What it returned, or what it raised."""
    try:
        return call()
    except StoreUnavailable as error:
        return error


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.dat"))
