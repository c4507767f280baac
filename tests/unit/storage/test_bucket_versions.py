"""A blob goes with every version that a bucket keeps; what credentials may not remove is told by key and version.

Against an S3 in memory, which can refuse what it likes; tests/servers holds real ones to the same.
"""

import os
from collections import defaultdict
from itertools import count

import pytest
from botocore.exceptions import ClientError

from orchestrion.errors import StoreUnavailable
from orchestrion.storage.object_store import Objects

KEY = "blobs/aa/" + "aa" * 32 + ".flac"


class VersionedS3:
    """As much of S3 as deleting takes; `may_not` names operations that are refused."""

    def __init__(self, versioning="Enabled"):
        self.versioning = versioning
        self.may_not: set[str] = set()
        #: Of each key, oldest first: version id and bytes; None: a mark of its deletion.
        self.objects: defaultdict[str, list[tuple[str, bytes | None]]] = defaultdict(list)
        self._ids = (f"v{number}" for number in count(1))

    def put(self, key, data):
        self.objects[key].append((next(self._ids), data))

    def _refuse(self, operation, code="AccessDenied"):
        if operation in self.may_not:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, operation)

    def head_object(self, **asked):
        self._refuse("head_object", "403")
        versions = self.objects[asked["Key"]]
        if not versions or versions[-1][1] is None:
            raise ClientError({"Error": {"Code": "404"}}, "HeadObject")
        return {"ContentLength": len(versions[-1][1])}

    def delete_object(self, **asked):
        key = asked["Key"]
        if "VersionId" in asked:
            self._refuse("delete_version")
            self.objects[key] = [each for each in self.objects[key] if each[0] != asked["VersionId"]]
        elif self.versioning is None:
            self.objects[key].clear()
        else:
            self.put(key, None)
        return {}

    def get_bucket_versioning(self, **_):
        self._refuse("get_bucket_versioning")
        return {} if self.versioning is None else {"Status": self.versioning}

    def get_paginator(self, operation_name):
        assert operation_name == "list_object_versions"
        return self

    def paginate(self, **asked):
        self._refuse("list_object_versions")
        found = [(key, *each) for key, versions in self.objects.items() for each in versions]
        found = [each for each in found if each[0].startswith(asked["Prefix"])]
        # A page for each: what there is does not come on the first one.
        for key, version, data in found:
            yield {"DeleteMarkers" if data is None else "Versions": [{"Key": key, "VersionId": version}]}

    def readable(self):
        return {(key, version) for key, all_ in self.objects.items() for version, data in all_ if data is not None}


def bucket(s3):
    objects = Objects("s3://bucket/store", {"endpoint_url": "http://127.0.0.1:1"})
    objects._backend._clients[os.getpid()] = s3
    return objects


@pytest.fixture
def s3():
    """A blob that was written, deleted and written again, and a neighbour whose name begins with the same."""
    made = VersionedS3()
    made.put(f"store/{KEY}", b"first")
    made.put(f"store/{KEY}", None)
    made.put(f"store/{KEY}", b"second")
    made.put(f"store/{KEY}2", b"a neighbour")
    return made


def test_every_version_goes_and_every_mark_and_no_neighbour(s3):
    purged = bucket(s3).purge(KEY)

    assert (purged.was_there, purged.left, purged.unknown) == (True, (), "")
    assert s3.objects[f"store/{KEY}"] == [] and len(s3.objects[f"store/{KEY}2"]) == 1


def test_versions_that_an_earlier_deletion_left_go_too(s3):
    bucket(s3).delete(KEY)

    assert bucket(s3).purge(KEY).was_there and s3.objects[f"store/{KEY}"] == []
    assert not bucket(s3).purge(KEY).was_there


def test_versions_that_may_not_be_deleted_are_told_and_found_by_no_plain_name(s3):
    s3.may_not = {"delete_version"}

    purged = bucket(s3).purge(KEY)

    assert [left.partition(" (")[0] for left in purged.left] == [f"{KEY}?versionId=v1", f"{KEY}?versionId=v3"]
    assert all("AccessDenied" in left for left in purged.left)
    assert not bucket(s3).exists(KEY)
    s3.may_not = set()
    assert bucket(s3).purge(KEY).left == () and s3.objects[f"store/{KEY}"] == []


def test_where_versions_may_not_be_listed_it_is_said_that_some_may_be_left(s3):
    s3.may_not = {"list_object_versions"}
    purged = bucket(s3).purge(KEY)
    assert purged.was_there and purged.left == () and "cannot be listed" in purged.unknown

    s3.may_not |= {"get_bucket_versioning"}
    assert "cannot be listed" in bucket(s3).purge(KEY).unknown


def test_a_bucket_that_never_kept_versions_leaves_none():
    s3 = VersionedS3(versioning=None)
    s3.put(f"store/{KEY}", b"only")
    s3.may_not = {"list_object_versions"}

    purged = bucket(s3).purge(KEY)

    assert (purged.was_there, purged.left, purged.unknown, s3.readable()) == (True, (), "", set())


def test_a_bucket_that_does_not_answer_is_not_taken_for_an_empty_one(s3):
    s3.may_not = {"head_object"}

    with pytest.raises(StoreUnavailable):
        bucket(s3).purge(KEY)
    assert len(s3.readable()) == 3
