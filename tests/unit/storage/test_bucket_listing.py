"""A long listing of a bucket in pieces side by side: it has what one listing has, each name once."""

import os
import threading

import pytest

from orchestrion.storage.bucket import Bucket

PAGE = 3


class Server:
    """What is asked of S3 for a listing, in pages of three keys."""

    def __init__(self, keys):
        self.stored = sorted(keys)
        self.asked = []
        self.at_once = None

    def list_objects_v2(self, **asked):
        self.asked.append(asked)
        after = asked.get("ContinuationToken") or asked.get("StartAfter", "")
        keys = [key for key in self.stored if key.startswith(asked["Prefix"]) and key > after]
        page = {"Contents": [{"Key": key} for key in keys[:PAGE]], "IsTruncated": len(keys) > PAGE}
        return page | ({"NextContinuationToken": keys[PAGE - 1]} if len(keys) > PAGE else {})

    def get_paginator(self, name):
        assert name == "list_objects_v2"
        return self

    def paginate(self, **asked):
        if self.at_once is not None:
            self.at_once.wait(timeout=10)
        page = self.list_objects_v2(**asked)
        yield page
        while page["IsTruncated"]:
            page = self.list_objects_v2(**asked, ContinuationToken=page["NextContinuationToken"])
            yield page


def bucket_of(server):
    bucket = Bucket("music", "ledger/", {})
    bucket._clients[os.getpid()] = server
    return bucket


SHARDS = [f"shards/01-{n * 37 % 256:02x}" for n in range(256)]
ODD = [
    "shards/00-early",
    "shards/01",
    "shards/01-",
    "shards/01-a",
    "shards/02-0",
    "shards/é",
    "shards/zz",
]


@pytest.mark.parametrize("cuts", [(), ("01-8",), tuple(f"01-{digit:x}" for digit in range(16))], ids=len)
@pytest.mark.parametrize("names", [[], SHARDS[:2], SHARDS[:4], SHARDS, [*SHARDS, *ODD]], ids=len)
def test_a_listing_is_the_same_however_it_is_cut(names, cuts):
    others = ["ledger/shardsx/01-00", "ledger/shards.json", "else/shards/01-00"]
    server = Server([*(f"ledger/{name}" for name in names), *others])

    assert bucket_of(server).keys("shards", cuts) == sorted(set(names))


def test_a_short_listing_is_one_question():
    server = Server([f"ledger/{name}" for name in SHARDS[:PAGE]])

    bucket_of(server).keys("shards", ("01-4", "01-8"))

    assert len(server.asked) == 1


def test_pieces_of_a_long_listing_are_asked_for_at_the_same_time():
    server = Server([f"ledger/{name}" for name in SHARDS])
    # Nobody comes past it before three are there.
    server.at_once = threading.Barrier(3)

    assert bucket_of(server).keys("shards", ("01-5", "01-a")) == sorted(set(SHARDS))
    assert len(server.asked) < 2 * len(set(SHARDS)) / PAGE
