"""What is JSON to everybody is read; what readers disagree about is refused with a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.errors import InvalidRequest
from orchestrion.strict_json import MAX_DEPTH, parse_json_object


def test_an_object_is_read_as_it_is():
    assert parse_json_object('{"prompt": "Ünïcödé [{", "seed": 7, "x": [1.5, null]}'.encode(), "body") == {
        "prompt": "Ünïcödé [{", "seed": 7, "x": [1.5, None],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xfe{}", "is not UTF-8: byte 0 is 0xff"),
        (b'{"prompt": ', "is not JSON: Expecting value at line 1"),
        (b"", "is not JSON"),
        (b"[1]", "is not a JSON object"),
        (b'{"tempo_bpm": NaN}', "holds NaN"),
        (b'{"tempo_bpm": -Infinity}', "holds -Infinity"),
        (b'{"seed": 1, "seed": 2}', "gives the field 'seed' twice"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "a number of 5000 digits"),
        (b"[" * 100_000, "nested deeper than"),
        (b'{"a": "\\ud800"', "is not JSON"),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_what_readers_disagree_about_is_refused_with_the_reason(data, reason):
    with pytest.raises(InvalidRequest) as caught:
        parse_json_object(data, "body")

    assert reason in str(caught.value) and str(caught.value).startswith("body: ")
    assert len(str(caught.value)) < 500


def test_brackets_in_strings_are_not_nesting():
    text = "[" * 50 + '\\"' + "{" * 50

    assert parse_json_object(f'{{"prompt": "{text}"}}'.encode(), "body")["prompt"] == "[" * 50 + '"' + "{" * 50


def test_the_deepest_that_is_allowed_is_read():
    inside = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)

    assert "a" in parse_json_object(f'{{"a": {inside}}}'.encode(), "body")


@given(st.binary(max_size=200))
def test_no_bytes_break_it_in_another_way(data):
    try:
        assert isinstance(parse_json_object(data, "row"), dict)
    except InvalidRequest as error:
        assert error.problems[0].field == "row"
