"""What of a destination is an export's own, and of which track."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from batch_jobs.export.destination import COMPARED_BYTES, Destination
from batch_jobs.export.manifest import read_manifest
from orchestrion.storage.object_store import Objects

ONE, OTHER = "trk_" + "a" * 32, "trk_" + "b" * 32


@pytest.fixture
def objects(tmp_path):
    return Objects(str(tmp_path / "files"), readable_names=True)


def put(destination, name, track_id, data):
    return destination.put(name, track_id, hashlib.sha256(data).hexdigest(), len(data), lambda: data)


def claim(destination, *names_and_tracks):
    with ThreadPoolExecutor(1) as pool:
        destination.claim(names_and_tracks, pool, lambda: None)


@pytest.fixture
def exported(objects):
    """One track is there already."""
    destination = Destination(objects)
    claim(destination, ("song.flac", ONE))
    put(destination, "song.flac", ONE, b"one")
    destination.save()
    return read_manifest(objects)


@pytest.mark.parametrize("track_id", [ONE, OTHER])
def test_a_name_that_was_claimed_and_not_written_over_is_whose_it_was(objects, exported, track_id):
    destination = Destination(objects)
    claim(destination, ("song.flac", track_id))
    assert read_manifest(objects)["song.flac"].sha256 is None

    destination.give_up(["song.flac"], track_id, elsewhere=())
    destination.save()

    assert read_manifest(objects) == exported and objects.read("song.flac") == b"one"


def test_a_file_whose_track_is_elsewhere_by_now_goes(objects, exported):
    destination = Destination(objects)
    claim(destination, ("song.flac", OTHER))

    destination.give_up(["song.flac"], OTHER, elsewhere={ONE})
    destination.save()

    assert read_manifest(objects) == {} and not objects.exists("song.flac")


def test_a_long_file_is_known_by_its_size_and_a_short_one_by_its_bytes(objects):
    short, long = b"s" * COMPARED_BYTES, b"l" * (COMPARED_BYTES + 1)
    first = Destination(objects)
    claim(first, ("short", ONE), ("long", ONE), ("cut", ONE))
    assert [put(first, name, ONE, data) for name, data in (("short", short), ("long", long), ("cut", long))] == [
        len(short), len(long), len(long),
    ]  # fmt: skip
    first.save()
    objects.replace("short", b"x" * len(short))
    objects.replace("cut", long[:-1])

    again = Destination(objects)
    claim(again)

    assert put(again, "long", ONE, long) == 0
    assert (put(again, "short", ONE, short), put(again, "cut", ONE, long)) == (len(short), len(long))
    assert (objects.read("short"), objects.read("cut")) == (short, long)
