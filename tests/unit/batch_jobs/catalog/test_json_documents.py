"""JSON that is not one object a line: read row by row, or refused once for the whole file."""

import json

import pandas as pd
import pytest

from batch_jobs.catalog.lines import BLOCK_BYTES, MAX_LINE_BYTES
from batch_jobs.catalog.rows import how_read
from orchestrion.errors import InvalidRequest
from tests.unit.batch_jobs.catalog.catalogs import kinds, prompts, rows_of, write

ROWS = [{"prompt": 'calm } "piano" [\\', "duration_s": 3, "row_id": "a"}, {"prompt": "funk {", "duration_s": 4}]
PRETTY = json.dumps(ROWS, indent=2)
ONE_AFTER_ANOTHER = "\n".join(json.dumps(row, indent=2) for row in ROWS)


@pytest.mark.parametrize("name", ["c.json", "c.jsonl", "c.ndjson"])
@pytest.mark.parametrize(
    "text",
    [
        PRETTY, json.dumps(ROWS), PRETTY.replace("\n", "\r\n"), "\ufeff" + PRETTY, " \n\n" + PRETTY + "\n\n",
        json.dumps(ROWS, indent=4).replace("[\n    {", "[{"), ONE_AFTER_ANOTHER,
        ONE_AFTER_ANOTHER.replace('{\n  "', '{ "'),
    ],
)  # fmt: skip
def test_rows_may_spread_over_lines(tmp_path, name, text):
    path = write(tmp_path / name, text)

    rows = rows_of(path)

    assert how_read(str(path), {}) == "JSON objects in UTF-8, rows counted from 1"
    assert prompts(rows) == [row["prompt"] for row in ROWS]
    assert [(row.line, row.row_id, row.spec.duration_s) for row in rows] == [(1, "a", 3.0), (2, None, 4.0)]


def test_json_lines_under_the_name_of_json_are_read(tmp_path):
    assert kinds(rows_of(write(tmp_path / "c.json", '{"prompt": "a"}\n{"prompt": "b"}'))) == ".."


def test_what_pandas_writes_as_records_is_read_and_what_it_writes_by_columns_is_refused_once(tmp_path):
    frame = pd.DataFrame({"prompt": ["calm piano", "funk / soul"], "seed": [7, None]})
    frame.to_json(tmp_path / "rows.json", orient="records")
    frame.to_json(tmp_path / "columns.json")

    assert prompts(rows_of(tmp_path / "rows.json")) == ["calm piano", "funk / soul"]
    with pytest.raises(InvalidRequest, match=r"holds no rows.*records"):
        rows_of(tmp_path / "columns.json")


def test_a_large_table_by_columns_is_refused_before_it_is_read_to_its_end(tmp_path):
    rest = '"x", ' * (BLOCK_BYTES // 2)

    with pytest.raises(InvalidRequest, match="holds no rows"):
        rows_of(write(tmp_path / "c.json", '{"prompt": [' + rest))


@pytest.mark.parametrize(
    "row, said",
    [
        (b'{"prompt": "a", "tempo_bpm": NaN}', "NaN"), (b'{"prompt": "a",}', "is not JSON"),
        (b'{"prompt": "a", "prompt": "b"}', "twice"), (b'{"prompt": "a", "Prompt": "b"}', "twice"),
        (b'{"prompt": "\xff"}', "byte 13 of the row is not UTF-8"), (b'{"prompt": ["a"]}', "prompt"),
        (b'{"prompt": "' + b"x" * MAX_LINE_BYTES + b'"}', "the row is longer"), (b'{"prompt": "a"]', "is not JSON"),
        (b'{"prompt": "a\0"}', "the row contains a NUL byte"),
    ],
)  # fmt: skip
def test_what_is_wrong_inside_an_object_costs_its_row(tmp_path, row, said):
    rows = rows_of(write(tmp_path / "c.json", b'[{"prompt": "a"},\n' + row + b',\n{"prompt": "b"}]'))

    assert kinds(rows) == ".R." and rows[1].line == 2 and said in rows[1].message


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "is empty"), (" \n", "is empty"), ("[1, 2]", "after row 0"), ('"prompt"', "after row 0"),
        ("null", "after row 0"), ('[{"prompt": "a"},', "not closed"),
        ('[{"prompt": "a"} {"prompt": "b"}]', "after row 1"), ('[{"prompt": "a"},]', "after row 1"),
        ('[{"prompt": "a"}] []', "after row 1"), ('[{"prompt": "a"}', "not closed"),
        ('[{"prompt": "a"}, {"prompt": "b', "ends inside row 2"), ('{"tracks": [{"prompt": "a"}]}', "holds no rows"),
        ('[[{"prompt": "a"}]]', "after row 0"), ("[", "not closed"),
    ],
)  # fmt: skip
def test_what_is_wrong_between_objects_refuses_the_file_once(tmp_path, text, said):
    with pytest.raises(InvalidRequest, match=said):
        rows_of(write(tmp_path / "c.json", text))


def test_an_empty_list_has_no_rows(tmp_path):
    assert rows_of(write(tmp_path / "c.json", "[]")) == []


@pytest.mark.parametrize("first", [b'{"prompt": "cut', b'{"prompt": "a",', b'{"prompt": "a"},', b"{'prompt': 1}", b"{"])
def test_a_first_line_that_is_broken_does_not_make_a_document_of_json_lines(tmp_path, first):
    rows = rows_of(write(tmp_path / "c.jsonl", first + b'\n{"prompt": "b"}\n{"prompt": "c"}\n'))

    assert kinds(rows) == "R.." and [row.line for row in rows] == [1, 2, 3]


@pytest.mark.parametrize("cut", range(1, 60))
def test_objects_are_found_wherever_a_block_ends(tmp_path, cut):
    text = json.dumps(ROWS, ensure_ascii=True)
    padding = BLOCK_BYTES - cut - 1

    rows = rows_of(write(tmp_path / "c.json", "[" + " " * padding + text[1:]))

    assert prompts(rows) == [row["prompt"] for row in ROWS]


def test_an_index_in_json_is_ignored_and_any_other_key_is_not(tmp_path):
    text = '[{"__index_level_0__": 3, "Prompt ": "a"}, {"prompt": "b", "": 1}, {"prompt": "c", "index": 2}]'

    rows = rows_of(write(tmp_path / "c.json", text))

    assert kinds(rows) == ".RR" and "index" in rows[2].message
