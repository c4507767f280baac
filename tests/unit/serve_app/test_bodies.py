"""Bodies are read strictly, and every complaint is a 4xx problem that says what is wrong."""

import asyncio

import pytest

from orchestrion.errors import InvalidRequest
from orchestrion.request import TrackSpec
from serve_app.bodies import parse_json_object, read_body
from serve_app.http_errors import STATUS_OF_REASON, HttpProblem
from tests.malformed_requests import MALFORMED_BODIES


async def chunks(*parts):
    for part in parts:
        yield part


def read(parts, max_bytes, declared=None):
    return asyncio.run(read_body(chunks(*parts), max_bytes, declared))


@pytest.mark.parametrize("name, body", MALFORMED_BODIES, ids=[name for name, _ in MALFORMED_BODIES])
def test_malformed_bodies_are_refused_by_one_reader_or_the_other(name, body):
    with pytest.raises((HttpProblem, InvalidRequest)) as refused:
        TrackSpec.from_json(parse_json_object(body, "application/json")).resolve()

    if isinstance(refused.value, HttpProblem):
        assert 400 <= STATUS_OF_REASON[refused.value.reason][0] < 500
        assert len(refused.value.detail) > 10


@pytest.mark.parametrize("content_type", [None, "application/json", "Application/JSON; charset=utf-8"])
def test_json_is_taken_with_and_without_its_content_type(content_type):
    assert parse_json_object(b'{"prompt": "\\u266b"}', content_type) == {"prompt": "♫"}


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", "application/xml", "json"])
def test_other_content_types_are_refused(content_type):
    with pytest.raises(HttpProblem) as refused:
        parse_json_object(b'{"prompt": "calm"}', content_type)

    assert refused.value.reason == "unsupported-media-type"


def test_a_repeated_field_is_named():
    with pytest.raises(HttpProblem) as refused:
        parse_json_object(b'{"seed": 1, "prompt": "calm", "seed": 2}', None)

    assert [problem.field for problem in refused.value.problems] == ["seed"]


def test_a_body_up_to_the_limit_is_read_whole():
    assert read([b"abc", b"def"], 6) == b"abcdef"


@pytest.mark.parametrize("parts, declared", [([b"abc", b"defg"], None), ([], "7"), ([b"abcdefg"], "nonsense")])
def test_a_longer_body_is_refused(parts, declared):
    with pytest.raises(HttpProblem) as refused:
        read(parts, 6, declared)

    assert refused.value.reason == "too-large"
