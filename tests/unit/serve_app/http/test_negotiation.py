"""Accept and Range, as RFC 9110 has them and as clients write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import HttpProblem
from serve_app.http.negotiation import MediaType, choose_media_type, list_items, parse_range

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
        # What Java's URL connections send.
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "application/json"),
        ("*/*;q=.8", "application/json"),
        ("audio/wav;q=1.", "audio/wav"),
        ("audio/wav;q=.0", None),
        ("audio/wav;q=0.0009, */*;q=0", "audio/wav"),
        ("audio/wav;q=5", "audio/wav"),
        ("audio/wav;q=-1", None),
        ("audio/wav;q=1e3", None),
        ('audio/wav;q="0.5"', "audio/wav"),
        ("audio/wav ; Q=0.9 , application/json ; q=0.8", "audio/wav"),
        ("audio/*, application/*;q=0.9", "audio/wav"),
        ('text/plain; note="a, b; q=0", audio/wav', "audio/wav"),
        ("audio/wav;codecs=1", None),
        ("*/wav", None),
        ("audio", None),
    ],
)
def test_choose_media_type(accept, chosen):
    assert choose_media_type(accept, OFFERS) == chosen


OGG = ["audio/ogg; codecs=vorbis", "audio/ogg; codecs=opus"]


@pytest.mark.parametrize(
    "accept, chosen",
    [
        ("audio/ogg", OGG[0]),
        ("audio/ogg; codecs=opus", OGG[1]),
        ('audio/ogg;codecs="OPUS"', OGG[1]),
        ("audio/ogg; codecs=opus; q=0, audio/ogg", OGG[0]),
        ("audio/ogg;q=0.5, audio/ogg;codecs=opus", OGG[1]),
        ("audio/ogg;codecs=flac", None),
        ("audio/ogg;codecs=opus;q=0, */*;q=0.1", OGG[0]),
    ],
)
def test_parameters_choose_between_types_of_one_name(accept, chosen):
    assert choose_media_type(accept, OGG) == chosen


TOKENS = st.from_regex(r"[a-z][a-z0-9.+-]{0,8}", fullmatch=True)
QUALITIES = st.decimals(0, 1, places=3).map(lambda q: f"{q:f}".rstrip("0") or "0")


@given(st.lists(st.tuples(TOKENS, TOKENS, QUALITIES), min_size=1, max_size=6))
def test_the_best_quality_wins_and_the_earliest_of_equals(offered):
    offers = list(dict.fromkeys(f"{type}/{subtype}" for type, subtype, _ in offered))
    qualities = {f"{type}/{subtype}": quality for type, subtype, quality in offered}
    accept = ", ".join(f"{name};q={quality}" for name, quality in qualities.items())

    best = max(offers, key=lambda name: float(qualities[name]))

    assert choose_media_type(accept, offers) == (best if float(qualities[best]) else None)


@given(st.lists(st.tuples(TOKENS, TOKENS, QUALITIES), min_size=1, max_size=6), st.data())
def test_spaces_case_and_header_lines_make_no_difference(offered, data):
    offers = [f"{type}/{subtype}" for type, subtype, _ in offered]
    items = [(f"{type}/{subtype}", quality) for type, subtype, quality in offered]
    plain = ",".join(f"{name};q={quality}" for name, quality in items)
    gap = data.draw(st.sampled_from(["", " ", "\t", "  "]))
    dressed = f"{gap},{gap}".join(f"{name.upper()}{gap};{gap}Q={quality}" for name, quality in items)

    assert choose_media_type(dressed, offers) == choose_media_type(plain, offers)


@given(st.text(max_size=60))
def test_whatever_is_sent_is_an_answer_and_no_error(text):
    chosen = choose_media_type(text, OFFERS)

    assert chosen is None or chosen in OFFERS


@given(st.lists(st.text(alphabet='ab;,="\\\\ ', max_size=8), max_size=4))
def test_a_comma_in_quotes_separates_nothing(values):
    quoted = ['"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values]

    assert list_items(", ".join(quoted)) == quoted


def test_a_media_type_is_read_with_its_parameters():
    assert MediaType.parse('Audio/OGG; Codecs="opus"; x=1').parameters == {"codecs": "opus", "x": "1"}
    assert MediaType.parse("audio/ogg; ; =") is None
    assert MediaType.parse("text/html x") is None


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

    assert refused.value.code == "range-not-satisfiable"
    assert refused.value.headers["Content-Range"] == "bytes */100"
