"""A catalog's own columns: refused unless they are named, then the same text in every format, and bounded."""

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_jobs.catalog.cells import MAX_KEPT_BYTES, MAX_KEPT_ROW_BYTES
from batch_jobs.catalog.columns import MAX_KEPT_COLUMNS
from batch_jobs.catalog.rows import how_read
from batch_jobs.options import parse
from batch_jobs.render_catalog import main
from orchestrion.errors import InvalidRequest
from tests.unit.batch_jobs.catalog.catalogs import FORMATS, kinds, rows_of, write, written

ROW = {"prompt": "calm piano", "ISRC ": "DE-A01-26-00001", "label": "=cmd", "note": "two\nlines, and a ; too"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("catalogs")


@pytest.mark.parametrize("name", FORMATS)
def test_named_columns_are_kept_under_the_name_they_were_given(folder, name):
    [row] = rows_of(written(folder, ROW)[name], keep=("isrc", "Label", "note"))

    assert row.kept == {"isrc": ROW["ISRC "], "Label": "=cmd", "note": ROW["note"]}
    assert row.spec.prompt == "calm piano"


@pytest.mark.parametrize("name", FORMATS)
def test_all_of_them_are_kept_under_their_own_names(folder, name):
    [row] = rows_of(written(folder, ROW | {"empty": "  ", "__index_level_0__": 7})[name], keep=("all",))

    assert row.kept == {"ISRC": ROW["ISRC "], "label": "=cmd", "note": ROW["note"]}


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_not_named_is_refused_as_before(folder, name):
    path = written(folder, ROW)[name]

    if name.startswith("json"):
        [row] = rows_of(path, keep=("isrc", "note"))
        assert "label" in row.message and row.kept == {"isrc": ROW["ISRC "], "note": ROW["note"]}
    else:
        with pytest.raises(InvalidRequest, match=r"has unknown columns.*--keep-columns.*label"):
            rows_of(path, keep=("isrc", "note"))


@pytest.mark.parametrize("name", FORMATS)
def test_a_column_that_is_not_there_is_an_error(folder, name):
    with pytest.raises(InvalidRequest, match=r"has no such (column|key) to map or keep.*labbel"):
        rows_of(written(folder, ROW)[name], keep=("isrc", "labbel", "label", "note"))


VALUES = st.one_of(
    st.none(),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30),
    st.sampled_from(["", " ", " 7", "007", "7.0", "NaN", "=1+1"]),
)


@given(VALUES)
def test_text_is_the_same_in_every_format(folder, value):
    paths = written(
        folder, {"prompt": "calm piano", "own": value}, pa.schema([("prompt", pa.string()), ("own", pa.string())])
    )

    assert {name: rows_of(path, keep=("own",))[0].kept for name, path in paths.items()} == dict.fromkeys(
        FORMATS, {"own": value} if value and value.strip() else {}
    )


@given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_a_number_has_its_shortest_digits_wherever_it_is_one(folder, value):
    paths = written(folder, {"prompt": "calm piano", "own": value})
    found = {rows_of(paths[name], keep=("own",))[0].kept["own"] for name in FORMATS if name != "csv"}

    assert len(found) == 1
    [text] = found
    assert text == str(value).lower() if isinstance(value, bool | int) else float(text) == value
    assert "e" not in text or text in ("true", "false")


@pytest.mark.parametrize(
    "column, text",
    [
        (pa.array([date(2026, 1, 2)]), "2026-01-02"),
        (pa.array([datetime(2026, 1, 2, 3, 4, 5)]), "2026-01-02T03:04:05"),
        (pa.array([datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)]), "2026-01-02T03:04:05Z"),
        (pa.array([1_767_322_800_000_000_123], pa.timestamp("ns", "Europe/Berlin")), "2026-01-02T03:00:00Z"),
        (pa.array([time(3, 4)]), "03:04:00"),
        (pa.array([0.1], pa.float32()), "0.1"),
        (pa.array([Decimal("12.50")]), "12.5"),
        (pa.array([Decimal("12345678901234567890123456789012345678")]), "12345678901234567890123456789012345678"),
        (pa.array([True]), "true"),
        (pa.array([b"Gr\xc3\xb6\xc3\x9fe"]), "Größe"),
        (pa.array(["a"]).dictionary_encode(), "a"),
        (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615"),
    ],
)
def test_a_type_of_parquet_becomes_text(tmp_path, column, text):
    pq.write_table(pa.table({"prompt": ["calm piano"], "own": column}), tmp_path / "c.parquet")

    [row] = rows_of(tmp_path / "c.parquet", keep=("own",))

    assert row.kept == {"own": text}


@pytest.mark.parametrize(
    "cells, said",
    [
        ({"own": "x" * (MAX_KEPT_BYTES + 1)}, "own: is longer than 4096 bytes; shorten it"),
        ({"own": "é" * (MAX_KEPT_BYTES // 2 + 1)}, "own: is longer"),
        ({"own": ["a"]}, "own: must be text, a number, true or false"),
        ({"own": {"a": 1}}, "own: must be text, a number, true or false"),
        ({"own": "a\u0000b"}, "own: contains control characters"),
        ({"own": "\ud800"}, "own: contains control characters"),
        ({f"o{n}": "x" * 4000 for n in range(5)}, f"than a row can keep, {MAX_KEPT_COLUMNS} of {MAX_KEPT_ROW_BYTES}"),
        ({f"o{n}": 1 for n in range(MAX_KEPT_COLUMNS + 1)}, "are more than a row can keep"),
        ({"x" * 101: 1}, "cannot be kept; give it a printable name"),
        ({"a\nb": 1}, "cannot be kept; give it a printable name"),
    ],
)
def test_what_cannot_be_kept_costs_its_row_and_says_what_to_do(tmp_path, cells, said):
    text = json.dumps({"prompt": "a", "row_id": "r-1"} | cells) + '\n{"prompt": "b", "own": "fine"}\n'

    rows = rows_of(write(tmp_path / "c.jsonl", text), keep=("all",))

    assert kinds(rows) == "R." and said in rows[0].message and rows[0].kept == {} and rows[1].kept == {"own": "fine"}
    assert rows[0].row_id == "r-1" or "cannot be kept" in said


def test_not_a_number_is_refused_in_parquet_as_in_json(tmp_path):
    pq.write_table(pa.table({"prompt": ["a", "b"], "own": [float("nan"), 1.0]}), tmp_path / "c.parquet")
    write(tmp_path / "c.jsonl", '{"prompt": "a", "own": NaN}\n{"prompt": "b", "own": 1.0}\n')

    assert [kinds(rows_of(tmp_path / name, keep=("own",))) for name in ("c.parquet", "c.jsonl")] == ["R.", "R."]


def test_more_columns_than_can_be_kept_refuse_the_catalog(tmp_path):
    names = ",".join(f"o{n}" for n in range(MAX_KEPT_COLUMNS + 1))

    with pytest.raises(InvalidRequest, match=f"are {MAX_KEPT_COLUMNS + 1} columns; keep at most {MAX_KEPT_COLUMNS}"):
        rows_of(write(tmp_path / "c.csv", f"prompt,{names}\n"), keep=("all",))


def test_a_row_that_is_refused_for_another_reason_keeps_what_it_has(tmp_path):
    [row] = rows_of(write(tmp_path / "c.csv", "prompt,seed,isrc\ncalm,-1,DE-1\n"), keep=("isrc",))

    assert "seed" in row.message and row.kept == {"isrc": "DE-1"}


def test_folders_of_hive_are_kept_too(tmp_path):
    path = tmp_path / "c" / "label=7.0" / "0.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"prompt": ["calm"]}), path)

    [row] = rows_of(tmp_path / "c", keep=("label",))

    assert row.kept == {"label": "7.0"}


@pytest.mark.parametrize("separator, name", [(",", "commas"), (";", "semicolons"), ("\t", "tabs")])
def test_the_dialect_is_still_the_only_one_that_has_a_prompt(tmp_path, separator, name):
    header = separator.join(["a;b" if separator != ";" else "a,b", "prompt", "x|y"])
    path = write(tmp_path / "c.csv", header + "\n" + separator.join(["1", "calm", "2"]) + "\n")

    said = how_read(str(path), {}, keep_columns=("all",))
    [row] = rows_of(path, keep=("all",))

    assert f"separated by {name}" in said and "kept columns: " in said and row.kept["x|y"] == "2"


def test_a_header_that_has_no_prompt_under_any_separator_is_refused_whatever_is_kept(tmp_path):
    with pytest.raises(InvalidRequest, match="has no column 'prompt'"):
        rows_of(write(tmp_path / "c.csv", "a;prompt,b\nx;y,z\n"), keep=("all",))


@pytest.mark.parametrize(
    "given, said",
    [("prompt", "is one of our columns"), ("Row ID", "is one of our columns"), ("x" * 101, "cannot be kept"),
     (",".join(f"o{n}" for n in range(65)), "keep at most 64"), ("Titel", "is one of our columns")],
)  # fmt: skip
def test_columns_that_cannot_be_kept_are_exit_code_2(given, said, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--catalog", "c.csv", "--out", "out", "--map", "title=Titel", "--keep-columns", given])

    error = capsys.readouterr().err
    assert exit_.value.code == 2 and said in error and "--keep-columns" in error


def test_names_are_given_with_commas_or_again_and_their_order_is_none():
    commands = [
        parse(["--catalog", "c", "--out", "o", *options])
        for options in (["--keep-columns", " b, a,"], ["--keep-columns", "a", "--keep-columns", "b"])
    ]

    assert {command.options.keep_columns for command in commands} == {("a", "b")}
