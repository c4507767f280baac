"""Columns that the catalog calls otherwise: which is which is said once, and a wrong word is an error and no guess."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.catalog.columns import COLUMNS
from batch_jobs.catalog.files import READERS
from batch_jobs.catalog.rows import how_read
from batch_jobs.options import parse
from batch_jobs.render_catalog import main
from orchestrion.errors import InvalidRequest
from tests.unit.batch_jobs.catalog.catalogs import kinds, rows_of, write

MAP = {"prompt": "Beschreibung", "duration_s": "Länge in s"}


def catalog(folder, suffix, row):
    path = folder / f"c.{suffix}"
    match suffix:
        case "csv":
            return write(path, ";".join(row) + "\n" + ";".join(map(str, row.values())) + "\n")
        case "jsonl":
            return write(path, json.dumps(row) + "\n")
        case "json":
            return write(path, json.dumps([row], indent=1))
    pq.write_table(pa.Table.from_pylist([row]), path)
    return path


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "parquet"])
@pytest.mark.parametrize("spelling", ["Beschreibung", " BESCHREIBUNG "])
def test_a_mapped_column_is_read_in_every_format(tmp_path, suffix, spelling):
    path = catalog(tmp_path, suffix, {spelling: "calm piano", "Länge in s": 3.5, "row_id": "a"})

    [row] = rows_of(path, column_map=MAP)

    assert (row.spec.prompt, row.spec.duration_s, row.row_id) == ("calm piano", 3.5, "a")
    with (
        pytest.raises(InvalidRequest, match="--map") if suffix in ("csv", "parquet") else pytest.raises(AssertionError)
    ):
        assert kinds(rows_of(path)) == "."


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_mapped_column_is_said(tmp_path, suffix):
    path = catalog(tmp_path, suffix, {"Beschreibung": "calm piano", "Länge in s": 3.5})

    said = how_read(str(path), {}, MAP)

    assert said.endswith("columns: 'Beschreibung' is prompt, 'Länge in s' is duration_s")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "parquet"])
def test_a_name_that_the_catalog_does_not_have_is_an_error(tmp_path, suffix):
    path = catalog(tmp_path, suffix, {"prompt": "calm piano", "Titel": "T"})

    with pytest.raises(InvalidRequest, match=r"has no such (column|key) to map.*title=Titl"):
        rows_of(path, column_map={"title": "Titl", "requester": "Titel"})


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_column_under_its_own_name_and_a_mapped_one_is_there_twice(tmp_path, suffix):
    path = catalog(tmp_path, suffix, {"prompt": "calm piano", "Beschreibung": "loud drums"})

    if suffix == "jsonl":
        [row] = rows_of(path, column_map={"prompt": "Beschreibung"})
        assert "prompt: is given twice" in row.message
    else:
        with pytest.raises(InvalidRequest, match="names a column twice"):
            rows_of(path, column_map={"prompt": "Beschreibung"})


def test_two_columns_may_change_places(tmp_path):
    path = write(tmp_path / "c.csv", "prompt,title\nReel No. 3,calm piano\n")

    [row] = rows_of(path, column_map={"prompt": "title", "title": "prompt"})

    assert (row.spec.prompt, row.title) == ("calm piano", "Reel No. 3")


@pytest.mark.parametrize("name", ["song.prompt", "a.b.c"])
def test_a_parquet_column_with_a_dot_in_its_name_is_that_column(tmp_path, name):
    parts = pa.array([{"prompt": "not this", "b": {"c": "nor this"}}])
    pq.write_table(pa.table({name: ["calm piano"], "title": parts}), tmp_path / "c.parquet")

    rows = rows_of(tmp_path / "c.parquet", column_map={"prompt": name})

    assert kinds(rows) == "R" and rows[0].message.startswith("title: ")
    pq.write_table(pa.table({name: ["calm piano"]}), tmp_path / "c.parquet")
    assert [row.spec.prompt for row in rows_of(tmp_path / "c.parquet", column_map={"prompt": name})] == ["calm piano"]


@pytest.mark.parametrize(
    "pairs, said",
    [
        (["promt=Beschreibung"], "none of our columns"), (["prompt"], "OURS=THEIRS"), (["prompt="], "OURS=THEIRS"),
        (["=Beschreibung"], "OURS=THEIRS"), (["prompt=a", "prompt=b"], "given twice"),
        (["prompt=Text", "title= TEXT"], "is mapped to prompt already"),
    ],
)  # fmt: skip
def test_an_impossible_map_is_exit_code_2(pairs, said, capsys):
    options = [word for pair in pairs for word in ("--map", pair)]

    with pytest.raises(SystemExit) as exit_:
        main(["--catalog", "c.csv", "--out", "out", *options])

    error = capsys.readouterr().err
    assert exit_.value.code == 2 and said in error and "--map" in error


def test_a_name_may_hold_an_equals_sign():
    command = parse(["--catalog", "c", "--out", "o", "--map", "prompt=a=b", "--map", " title = Titel "])

    assert command.options.column_map == {"prompt": "a=b", "title": "Titel"}


def test_the_documentation_has_every_column_and_every_kind_of_file(pytestconfig):
    text = (pytestconfig.rootpath / "docs" / "catalogs.md").read_text(encoding="utf-8")
    columns, files = (text.partition(f"## {name}")[2].partition("\n## ")[0] for name in ("Columns", "Files"))
    named = [set(re.findall(r"`([^`]+)`", row.split("|")[1])) for row in columns.splitlines() if row.startswith("| `")]
    kinds_of_file = [
        set(re.findall(r"`(\.[^`]+)`", row.split("|")[1])) for row in files.splitlines() if row[:2] == "| "
    ]

    assert set().union(*named) == set(COLUMNS)
    assert set().union(*kinds_of_file) == set(READERS)
