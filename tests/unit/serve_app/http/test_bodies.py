"""Bodies are read strictly, and every complaint is a 4xx problem that says what is wrong."""

import asyncio
import gzip
import zlib

import pytest

from orchestrion.errors import InvalidRequest
from orchestrion.tracks.spec import TrackSpec
from serve_app.errors import STATUS_OF_CODE, HttpProblem
from serve_app.http.bodies import FORM_TYPES, parse_json_object, read_body, refuse_form
from tests.malformed_requests import MALFORMED_BODIES


async def chunks(*parts):
    for part in parts:
        yield part


def read(parts, max_bytes, declared=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if declared is not None:
        headers["content-length"] = declared
    return asyncio.run(read_body(chunks(*parts), headers, max_bytes=max_bytes, timeout_s=60.0))


@pytest.mark.parametrize("name, body", MALFORMED_BODIES, ids=[name for name, _ in MALFORMED_BODIES])
def test_malformed_bodies_are_refused_by_one_reader_or_the_other(name, body):
    with pytest.raises((HttpProblem, InvalidRequest)) as refused:
        TrackSpec.from_json(parse_json_object(body, "application/json")).resolve()

    if isinstance(refused.value, HttpProblem):
        assert 400 <= STATUS_OF_CODE[refused.value.code][0] < 500
        assert len(refused.value.detail) > 10


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"]
)
def test_json_is_taken_that_is_said_to_be_json(content_type):
    assert parse_json_object(b'{"prompt": "\\u266b"}', content_type) == {"prompt": "♫"}


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "text/plain; application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "json",
        "text/plain, application/json",
    ],
)
def test_other_content_types_are_refused(content_type):
    with pytest.raises(HttpProblem) as refused:
        parse_json_object(b'{"prompt": "calm"}', content_type)

    assert refused.value.code == "unsupported-media-type"


def test_a_repeated_field_is_named():
    with pytest.raises(HttpProblem) as refused:
        parse_json_object(b'{"seed": 1, "prompt": "calm", "seed": 2}', "application/json")

    assert [problem.field for problem in refused.value.problems] == ["seed"]


def test_a_body_up_to_the_limit_is_read_whole():
    assert read([b"abc", b"def"], 6) == b"abcdef"


@pytest.mark.parametrize("parts, declared", [([b"abc", b"defg"], None), ([], "7"), ([b"abcdefg"], "nonsense")])
def test_a_longer_body_is_refused(parts, declared):
    with pytest.raises(HttpProblem) as refused:
        read(parts, 6, declared)

    assert refused.value.code == "too-large"


@pytest.mark.parametrize("content_type", [*sorted(FORM_TYPES), None, "Text/Plain; charset=utf-8"])
def test_an_upload_that_a_form_could_have_sent_is_refused(content_type):
    with pytest.raises(HttpProblem) as refused:
        refuse_form(content_type)

    assert refused.value.code == "unsupported-media-type"


@pytest.mark.parametrize("content_type", ["application/octet-stream", "audio/midi", "video/mp4"])
def test_an_upload_that_is_said_to_be_a_file_is_taken(content_type):
    refuse_form(content_type)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
def test_a_gzip_body_is_unpacked_however_it_is_cut(encoding):
    packed = gzip.compress(b"melody " * 10)

    assert read([packed], 100, content_encoding=encoding) == b"melody " * 10
    assert read([packed[n : n + 1] for n in range(len(packed))], 100, content_encoding=encoding) == b"melody " * 10


def test_a_gzip_body_is_unpacked_no_further_than_its_limit(monkeypatch):
    unpacked = []
    real = zlib.decompressobj

    class Counted:
        def __init__(self, *arguments):
            self._real = real(*arguments)

        def __getattr__(self, name):
            return getattr(self._real, name)

        def decompress(self, *arguments):
            unpacked.append(self._real.decompress(*arguments))
            return unpacked[-1]

    monkeypatch.setattr(zlib, "decompressobj", Counted)
    with pytest.raises(HttpProblem) as refused:
        read([gzip.compress(bytes(50_000_000))], 100_000, content_encoding="gzip")

    assert refused.value.code == "too-large"
    assert sum(map(len, unpacked)) < 300_000


@pytest.mark.parametrize(
    "body, encoding, reason",
    [
        (b"not packed", "gzip", "malformed"),
        (gzip.compress(b"melody")[:-3], "gzip", "malformed"),
        (gzip.compress(b"melody") + b"more", "gzip", "malformed"),
        (gzip.compress(b"melody")[:-8] + bytes(8), "gzip", "malformed"),
        (b"", "gzip", "malformed"),
        (b"x", "br", "unsupported-media-type"),
        (b"x", "gzip, gzip", "unsupported-media-type"),
        (gzip.compress(b"melody"), "deflate", "unsupported-media-type"),
    ],
    ids=["plain", "cut", "goes on", "wrong sum", "empty", "brotli", "twice", "deflate"],
)
def test_other_packed_bodies_are_refused(body, encoding, reason):
    with pytest.raises(HttpProblem) as refused:
        read([body], 1000, content_encoding=encoding)

    assert refused.value.code == reason


def test_a_body_that_does_not_come_is_given_up():
    async def dripping():
        yield b"{"
        await asyncio.Event().wait()

    async def wait():
        return await read_body(dripping(), {}, max_bytes=100, timeout_s=0.0)

    with pytest.raises(HttpProblem) as refused:
        asyncio.run(wait())

    assert refused.value.code == "request-timeout"
    assert refused.value.headers == {"Connection": "close"}
