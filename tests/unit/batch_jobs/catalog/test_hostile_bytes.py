"""Whatever is in a file, reading it ends: in rows whose numbers rise, or in one refusal of the file."""

import io
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_jobs.catalog.cells import TextCells
from batch_jobs.catalog.columns import ColumnNames
from batch_jobs.catalog.files import READERS
from batch_jobs.catalog.rows import how_read
from orchestrion.errors import InvalidRequest
from tests.unit.batch_jobs.catalog.catalogs import rows_of, write

PIECES = st.one_of(
    st.sampled_from(
        [b'"', b",", b";", b"\t", b"|", b"\r", b"\n", b"\r\n", b"\0", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\\",
         b"{", b"}", b"[", b"]", b":", b" ", b"sep=;", b"sep=", b"prompt", b'"prompt"', b"Prompt ", b"seed", b"1.000",
         b"1,5", b"NaN", b"null", b"1e999", b'{"prompt": "a"}', b'{"prompt": "a",\n"seed": 7.0}', b"__index_level_0__"]
    ),
    st.binary(max_size=4),
)  # fmt: skip
HEADS = st.sampled_from(
    [b"", b"prompt,seed\n", b"prompt;seed\n", b"prompt\r", b"\xff\xfep\0r\0o\0m\0p\0t\0\n\0", b"[", b"{\n"]
)


class Dribble(io.RawIOBase):
    """A file that gives what it has in pieces of a few bytes, as a network may."""

    def __init__(self, data, size):
        self.parts = (data[at : at + size] for at in range(0, len(data), size))

    def read(self, _=-1):
        return next(self.parts, b"")


def read(suffix, file):
    try:
        return [
            (number, row.cells if isinstance(row, TextCells) else row)
            for number, row in READERS[suffix](file, ColumnNames({})).rows
        ]
    except InvalidRequest as error:
        return str(error)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
@given(HEADS, st.lists(PIECES, max_size=30).map(b"".join), st.integers(1, 7))
@settings(max_examples=300)
def test_any_bytes_are_rows_or_one_refusal_however_they_arrive(suffix, head, rest, size):
    found = read(suffix, io.BytesIO(head + rest))

    assert repr(found) == repr(read(suffix, Dribble(head + rest, size)))
    if isinstance(found, str):
        assert len(found) < 2000 and found.isprintable()
    else:
        assert all(one < other for (one, _), (other, _) in itertools.pairwise(found))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_a_header_of_sixty_thousand_bytes_is_a_short_complaint(tmp_path, suffix):
    names = ",".join(f"c{n}\x1b" for n in range(9000))
    path = write(tmp_path / f"c{suffix}", names if suffix == ".csv" else f'{{"{names}": 1}}'.replace("\x1b", "\\u001b"))

    try:
        messages = [row.message for row in rows_of(path)]
    except InvalidRequest as error:
        messages = [str(error)]

    assert len(messages) == 1 and len(messages[0]) < 2000 and messages[0].isprintable()


def test_what_is_said_of_a_header_is_printable(tmp_path):
    path = write(tmp_path / "c.csv", "prompt\x1c,Seed\x85,Length\x1f\na,1,3\n")

    said = how_read(str(path), {}, {"duration_s": "length"})

    assert said.isprintable() and said.endswith("is duration_s")
