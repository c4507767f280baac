"""What a folder of objects promises to those who share it with others: no name and no link leads out of it."""

import os
import pickle
import socket

import pytest

from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable, VerificationFailed
from orchestrion.storage.object_store import Objects, is_key

USES = {
    "create": lambda objects, key: objects.create(key, b"x"),
    "replace": lambda objects, key: objects.replace(key, b"x"),
    "delete": lambda objects, key: objects.delete(key),
    "read": lambda objects, key: objects.read(key),
    "read_range": lambda objects, key: objects.read_range(key, 0, 1),
    "size": lambda objects, key: objects.size(key),
    "exists": lambda objects, key: objects.exists(key),
    "keys": lambda objects, key: objects.keys(key),
}
READS = ("read", "read_range", "size")


@pytest.fixture
def objects(tmp_path):
    (tmp_path / "private.txt").write_bytes(b"private")
    return Objects(str(tmp_path / "shared"))


@pytest.mark.parametrize("place", ["folder", "s3://bucket/prefix"])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_key_is_no_way_out(tmp_path, place, use):
    (tmp_path / "private.txt").write_bytes(b"private")
    objects = Objects(str(tmp_path / "shared") if place == "folder" else place)

    tricks = ["../private.txt", "a/../../private.txt", str(tmp_path / "private.txt"), "", ".", "..", "a//b", "a/", "/a"]
    for key in [*tricks, "a\\b", "a\0", "a\n", "a b", "ä", "x" * 256, "x/" * 500 + "x"]:
        assert not is_key(key)
        with pytest.raises(InvalidRequest, match="is not the name of an object"):
            use(objects, key)
    assert (tmp_path / "private.txt").read_bytes() == b"private"


@pytest.mark.parametrize("use", USES)
def test_where_nothing_is_to_be_written_nothing_is_and_an_absent_folder_is_not_made(tmp_path, use):
    nowhere = pickle.loads(pickle.dumps(Objects(str(tmp_path / "none" / "x"), read_only=True)))
    Objects(str(tmp_path / "there")).create("a/b", b"x")
    before = sorted(tmp_path.rglob("*"))
    there = Objects(str(tmp_path / "there"), read_only=True)

    bucket = Objects("s3://bucket/x", read_only=True)

    for objects, key in ((nowhere, "a/b"), (there, "a/b"), (there, "c/d"), (bucket, "a")):
        if use in ("create", "replace", "delete"):
            with pytest.raises(StoreUnavailable, match="read only"):
                USES[use](objects, key)
    for objects, key in ((nowhere, "a/b"), (there, "c/d")):
        if use in READS:
            with pytest.raises(NotFound):
                USES[use](objects, key)
    assert (nowhere.keys("a"), nowhere.exists("a/b")) == ([], False)
    assert (there.keys("a"), there.read("a/b")) == (["a/b"], b"x")
    assert sorted(tmp_path.rglob("*")) == before


def test_names_that_the_project_uses_are_keys(objects):
    for key in (
        "manifest.json",
        "tracks/day=2026-01-01/model=lab%2Flarge/part-1.parquet",
        "...",
        ".a",
        "jobs/j.1/ended/r",
    ):
        objects.replace(key, b"x")
        assert objects.read(key) == b"x"


@pytest.mark.parametrize("use", READS)
def test_a_link_is_not_followed_to_a_file(objects, tmp_path, use):
    objects.create("a/file", b"ours")
    (tmp_path / "shared/a/link").symlink_to(tmp_path / "private.txt")

    with pytest.raises(VerificationFailed, match=r"a/link in .* is no plain file"):
        USES[use](objects, "a/link")
    assert objects.exists("a/link")
    assert sorted(objects.keys("a")) == ["a/file", "a/link"]


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_no_folder_on_the_way_is_a_link(objects, tmp_path, use):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"theirs")
    (tmp_path / "shared/a").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(VerificationFailed, match="behind a link"):
        use(objects, "a/file")
    assert list((tmp_path / "elsewhere").iterdir()) == [tmp_path / "elsewhere" / "file"]
    assert objects.keys("tmp") == []


def test_what_replaces_or_deletes_a_link_leaves_alone_what_it_leads_to(objects, tmp_path):
    objects.create("a/file", b"ours")
    for name in ("one", "two"):
        (tmp_path / "shared/a" / name).symlink_to(tmp_path / "private.txt")

    assert objects.create("a/one", b"new") is False
    objects.replace("a/one", b"new")
    objects.delete("a/two")

    assert (objects.read("a/one"), objects.exists("a/two")) == (b"new", False)
    assert (tmp_path / "private.txt").read_bytes() == b"private"


def test_a_pipe_or_a_socket_in_the_place_of_an_object_keeps_nobody_waiting(objects, tmp_path, monkeypatch):
    objects.create("a/file", b"ours")
    monkeypatch.chdir(tmp_path / "shared" / "a")
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for key in ("a/pipe", "a/socket", "a"):
            with pytest.raises(VerificationFailed, match="no plain file"):
                objects.read(key)


def test_the_folder_itself_may_be_a_link(objects, tmp_path):
    (tmp_path / "name").symlink_to(tmp_path / "shared")

    Objects(str(tmp_path / "name")).create("a/file", b"ours")

    assert objects.read("a/file") == b"ours"


def test_names_that_no_object_can_have_are_left_out_of_a_listing(objects, tmp_path):
    objects.create("a/b/file", b"ours")
    (tmp_path / "shared/a/b/two words").write_bytes(b"theirs")
    (tmp_path / "shared/a/linked").symlink_to(tmp_path)

    assert objects.keys("a") == ["a/b/file"]


def test_more_than_was_asked_for_is_not_read(objects):
    objects.create("file", b"12345")

    assert objects.read("file", at_most=5) == b"12345"
    with pytest.raises(VerificationFailed, match="more than 4 bytes"):
        objects.read("file", at_most=4)


@pytest.mark.parametrize("use", READS)
def test_what_is_not_there_is_told_apart_from_a_folder_that_is_gone(objects, tmp_path, use):
    with pytest.raises(NotFound, match="a/file is not in the store"):
        USES[use](objects, "a/file")
    (tmp_path / "shared" / "tmp").rmdir()
    (tmp_path / "shared").rmdir()
    for gone in (USES[use], USES["exists"], USES["keys"], USES["create"]):
        with pytest.raises(StoreUnavailable, match="is not there"):
            gone(objects, "a/file")


@pytest.fixture
def for_people(tmp_path):
    return Objects(str(tmp_path / "files"), readable_names=True)


@pytest.mark.parametrize(
    "key", ["Für Elise 7.flac", "a b/🎹 night.flac", "漢/字.mid", ".orchestrion/export.json", "x" * 255]
)
def test_where_people_look_names_have_spaces_and_letters_of_any_language(for_people, tmp_path, key):
    again = pickle.loads(pickle.dumps(for_people))
    again.replace(key, b"1")
    again.replace(key, b"2")

    assert for_people.create(key, b"3") is False
    assert (for_people.read(key), (tmp_path / "files" / key).read_bytes()) == (b"2", b"2")
    if "/" in key:
        assert for_people.keys(key.split("/")[0]) == [key]


@pytest.mark.parametrize("place", ["folder", "s3://bucket/prefix"])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_where_people_look_a_key_is_no_way_out_either(tmp_path, place, use):
    (tmp_path / "private.txt").write_bytes(b"private")
    objects = Objects(str(tmp_path / "shared") if place == "folder" else place, readable_names=True)

    tricks = ["../private.txt", "a/../../private.txt", str(tmp_path / "private.txt"), "", ".", "..", "a//b", "a/", "/a"]
    invisible = ["a\\b", "a\0", "a\n", "a\u200fb", "a\u00a0b", "\ud800", " ", " . ", " .. "]
    for key in [*tricks, *invisible, "é" * 128, "漢" * 80 + "/" + "x/" * 400 + "x"]:
        with pytest.raises(InvalidRequest, match="is not the name of an object"):
            use(objects, key)
    assert (tmp_path / "private.txt").read_bytes() == b"private"


def test_where_people_look_nothing_lies_about_that_they_do_not_need(for_people, tmp_path):
    for_people.replace("a.flac", b"1")

    shown = {path.name for path in (tmp_path / "files").iterdir() if not path.name.startswith(".")}
    assert shown == {"a.flac"}
    assert [path for path in (tmp_path / "files" / ".orchestrion").rglob("*") if path.is_file()] == []
