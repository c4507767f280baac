"""Accept, Range and If-None-Match, as RFC 9110 has them."""

import pytest

from serve_app.http_errors import HttpProblem
from serve_app.negotiation import choose_media_type, matches_etag, names_media_type, parse_range

OFFERS = ["application/json", "audio/wav"]


@pytest.mark.parametrize(
    "accept, chosen",
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("audio/*", "audio/wav"),
        ("audio/wav", "audio/wav"),
        ("AUDIO/WAV", "audio/wav"),
        ("audio/wav, application/json", "application/json"),
        ("audio/wav, application/json;q=0.5", "audio/wav"),
        ("application/json;q=0, */*", "audio/wav"),
        ("audio/flac", None),
        ("audio/wav;q=0", None),
        ("audio/*;q=0.2, */*;q=0.1", "audio/wav"),
        ("audio/wav;q=nonsense", None),
        ("text/html, ,;;,", None),
    ],
)
def test_choose_media_type(accept, chosen):
    assert choose_media_type(accept, OFFERS) == chosen


def test_a_wildcard_names_no_type():
    assert names_media_type("audio/pcm;q=0.5, */*", "audio/pcm")
    assert not names_media_type("audio/*, */*", "audio/pcm")
    assert not names_media_type(None, "audio/pcm")


@pytest.mark.parametrize(
    "header, part",
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-", (90, 100)),
        ("bytes=90-5000", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-5000", (0, 100)),
        ("Bytes= 5-6 ", (5, 7)),
        ("bytes=20-10", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("bytes=a-b", None),
        ("items=0-1", None),
        ("bytes=" + "9" * 400 + "-", None),
    ],
)
def test_parse_range(header, part):
    assert parse_range(header, 100) == part


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=1000-2000", "bytes=-0"])
def test_a_range_outside_the_file_is_416_with_the_size(header):
    with pytest.raises(HttpProblem) as refused:
        parse_range(header, 100)

    assert refused.value.reason == "range-not-satisfiable"
    assert refused.value.headers["Content-Range"] == "bytes */100"


@pytest.mark.parametrize(
    "header, matches",
    [
        (None, False),
        ('"abc"', True),
        ('W/"abc"', True),
        ('"x", "abc"', True),
        ("*", True),
        ('"x"', False),
        ("abc", False),
    ],
)
def test_matches_etag(header, matches):
    assert matches_etag(header, '"abc"') is matches
