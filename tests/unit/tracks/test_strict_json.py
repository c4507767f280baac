"""What every reader takes for the same JSON is read; what readers disagree about is refused with a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.errors import InvalidRequest
from orchestrion.tracks.strict_json import MAX_DEPTH, parse_json_object


def test_an_object_is_read_as_it_is():
    assert parse_json_object('{"prompt": "Ünïcödé [{", "seed": 7, "x": [1.5, null]}', "body") == {
        "prompt": "Ünïcödé [{", "seed": 7, "x": [1.5, None],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"prompt": ', "is not JSON: Expecting value at line 1"),
        ("", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"tempo_bpm": NaN}', "holds NaN"),
        ('{"tempo_bpm": -Infinity}', "holds -Infinity"),
        ('{"seed": 1, "seed": 2}', "seed: is given twice"),
        ('{"seed": ' + "9" * 5000 + "}", "a number of 5000 digits"),
        ("[" * 100_000, "nested deeper than"),
        ('{"a": "\\ud800"', "is not JSON"),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_what_readers_disagree_about_is_refused_with_the_reason(text, reason):
    with pytest.raises(InvalidRequest) as caught:
        parse_json_object(text, "body")

    assert reason in str(caught.value) and caught.value.problems[0].field in ("body", "seed")
    assert len(str(caught.value)) < 500


def test_brackets_in_strings_are_not_nesting():
    text = "[" * 50 + '\\"' + "{" * 50

    assert parse_json_object(f'{{"prompt": "{text}"}}', "body")["prompt"] == "[" * 50 + '"' + "{" * 50


def test_the_deepest_that_is_allowed_is_read():
    inside = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)

    assert "a" in parse_json_object(f'{{"a": {inside}}}', "body")


@given(st.text(max_size=200))
def test_no_text_breaks_it_in_another_way(text):
    try:
        assert isinstance(parse_json_object(text, "row"), dict)
    except InvalidRequest as error:
        assert len(str(error)) < 500
