"""Conditional requests, as RFC 9110 §13 has them."""

from datetime import UTC, datetime

import pytest

from serve_app.errors import HttpProblem
from serve_app.http.conditions import Validators, has_current_copy, range_still_fits

THIS = Validators('"abc"', datetime(2026, 3, 1, 12, 0, 0, 700_000, tzinfo=UTC))
BEFORE, NOW, LATER = (f"Sun, 01 Mar 2026 {time} GMT" for time in ("11:59:59", "12:00:00", "12:00:01"))


@pytest.mark.parametrize(
    "headers, is_current",
    [
        ({}, False),
        ({"if-none-match": '"abc"'}, True),
        ({"if-none-match": 'W/"abc"'}, True),
        ({"if-none-match": '"x", "abc"'}, True),
        ({"if-none-match": '"with, comma", "abc"'}, True),
        ({"if-none-match": "*"}, True),
        ({"if-none-match": '"x"'}, False),
        ({"if-none-match": "abc"}, False),
        ({"if-none-match": '"ab", "c"'}, False),
        ({"if-modified-since": NOW}, True),
        ({"if-modified-since": LATER}, True),
        ({"if-modified-since": BEFORE}, False),
        ({"if-modified-since": "yesterday"}, False),
        ({"if-modified-since": "Sun, 99 Mar 2026 12:00:00 GMT"}, False),
        ({"if-none-match": '"x"', "if-modified-since": LATER}, False),
        ({"if-match": '"abc"'}, False),
        ({"if-match": "*", "if-none-match": '"abc"'}, True),
        ({"if-unmodified-since": NOW}, False),
        ({"if-match": '"abc"', "if-unmodified-since": BEFORE}, False),
    ],
)
def test_has_current_copy(headers, is_current):
    assert has_current_copy(headers, THIS) is is_current


@pytest.mark.parametrize("headers", [{"if-match": '"x"'}, {"if-match": 'W/"abc"'}, {"if-unmodified-since": BEFORE}])
def test_another_version_than_the_named_one_is_412(headers):
    with pytest.raises(HttpProblem) as refused:
        has_current_copy(headers, THIS)

    assert refused.value.code == "precondition-failed"
    assert refused.value.headers["ETag"] == '"abc"'


def test_without_a_date_only_tags_count():
    undated = Validators('"abc"')

    assert not has_current_copy({"if-modified-since": LATER, "if-unmodified-since": BEFORE}, undated)
    assert undated.headers() == {"ETag": '"abc"'}


@pytest.mark.parametrize(
    "if_range, fits",
    [(None, True), ('"abc"', True), ('W/"abc"', False), ('"x"', False), (NOW, True), (LATER, False), (BEFORE, False)],
)
def test_range_still_fits(if_range, fits):
    assert range_still_fits(if_range, THIS) is fits


def test_dates_are_written_as_http_has_them():
    assert THIS.headers()["Last-Modified"] == NOW
