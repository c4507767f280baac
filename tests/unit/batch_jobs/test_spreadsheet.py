"""Text that spreadsheets show: the same text whether it is made safe by itself or with its column."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_jobs.spreadsheet import safe_batch, safe_text

#: Everything the rules look at, and some letters.
SPECIAL = st.text(alphabet="=+-@＝＋－＠\t\r\n;,|\"' aé", max_size=12)
SIGNS = tuple("=+-@＝＋－＠")


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("=1+1", "'=1+1"),
        ("\t=1", "'\t'=1"),
        ("\nnote", "'\nnote"),
        ("a;=1", "a;'=1"),
        ('a,  "-1', "a,  \"'-1"),
        ("first\r\n+second", "first\r\n'+second"),
        ("＠x", "'＠x"),
        ("a=b, c-d", "a=b, c-d"),
    ],
)
def test_an_apostrophe_stands_before_what_would_be_run(text, safe):
    assert safe_text(text) == safe


@given(SPECIAL, st.sampled_from(";,|\t\n"))
def test_no_cell_begins_a_formula_wherever_cells_are_parted(text, separator):
    first, *others = safe_text(text).split(separator)

    assert not first.startswith((*SIGNS, "\t", "\r", "\n"))
    assert not [cell for cell in others if cell.lstrip(" \"'").startswith(SIGNS) and "'" not in cell]


@given(st.lists(SPECIAL, max_size=5))
def test_a_column_is_made_safe_as_each_of_its_cells_is(texts):
    batch = pa.record_batch({"text": pa.array([*texts, None], pa.string()), "number": [-1] * (len(texts) + 1)})

    safe = safe_batch(batch).to_pydict()

    assert safe == {"text": [*map(safe_text, texts), None], "number": [-1] * (len(texts) + 1)}
