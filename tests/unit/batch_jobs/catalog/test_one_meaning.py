"""The same value means the same in CSV, JSON lines, JSON, Parquet and Arrow."""

import json
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather

from batch_jobs.catalog.rows import CatalogRow, how_read
from orchestrion.tracks.spec import TrackSpec
from tests.unit.batch_jobs.catalog.catalogs import FORMATS, kinds, rows_of, write, written


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("catalogs")


def meaning(path):
    """What the row asks for; nothing for one that cannot be rendered, or is blank."""
    rows = rows_of(path)
    assert len(rows) <= 1
    return [(row.row_id, row.title, row.spec) for row in rows if isinstance(row, CatalogRow)]


BLANKS = st.sampled_from(["", " ", "\t"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WHOLE = st.one_of(
    st.none(), st.integers(-2, 2**54), st.integers(0, 10**11).map(float), st.floats(0, 1000), st.just(1000.0)
)
NUMBER = st.one_of(st.none(), st.integers(-2, 700), st.floats(0, 700), st.just(1e-7))


def padded(values):
    return st.tuples(BLANKS, values, BLANKS).map("".join)


ROWS = st.fixed_dictionaries(
    {"prompt": st.one_of(st.none(), padded(st.sampled_from(["calm piano", "", "techno, 900 bpm"])), TEXT)},
    optional={
        "row_id": st.one_of(
            st.none(), st.sampled_from(["007", "7", "7.0", " 7"]), st.integers(-(2**63), 2**63 - 1), TEXT
        ),
        "title": st.one_of(st.none(), TEXT, st.integers(0, 9), st.just(7.5)),
        "seed": WHOLE,
        "top_k": WHOLE,
        "sample_rate_hz": st.one_of(WHOLE, st.just(44100.0)),
        "duration_s": NUMBER,
        "tempo_bpm": NUMBER,
        "loudness_lufs": st.one_of(NUMBER, st.floats(-31, -8)),
        "style": st.one_of(st.none(), padded(st.sampled_from(["jazz", "Jazz", "polka-core", ""]))),
        "format": st.one_of(st.none(), padded(st.sampled_from(["flac", "aiff", ""]))),
        "requester": st.one_of(st.none(), padded(st.sampled_from(["ann", "=cmd", ""]))),
        "model": st.one_of(st.none(), padded(st.sampled_from(["composer", "a/../b", ""]))),
    },
)


@given(ROWS)
def test_a_value_means_the_same_in_every_format(folder, row):
    meanings = {name: meaning(path) for name, path in written(folder, row).items()}

    assert len({repr(each) for each in meanings.values()}) == 1, meanings


@pytest.mark.parametrize("name", FORMATS)
def test_what_pandas_makes_of_whole_numbers_with_a_gap_is_read_as_they_were_meant(tmp_path, name):
    frame = pd.DataFrame({"prompt": ["calm piano"] * 2, "seed": [7, None], "duration_s": [3, None]})
    path = tmp_path / f"c.{name}"
    match name:
        case "csv":
            frame.to_csv(path, index=False)
        case "jsonl":
            write(path, '{"prompt":"calm piano","seed":7.0,"duration_s":3.0}\n{"prompt":"calm piano","seed":null}\n')
        case "json":
            frame.to_json(path, orient="records")
        case "parquet":
            frame.to_parquet(path)
        case "arrow":
            frame.to_feather(path)

    rows = rows_of(path)

    assert kinds(rows) == ".."
    assert [row.spec.seed for row in rows] == [7, 0] and [row.spec.duration_s for row in rows] == [3.0, None]


@pytest.mark.parametrize(
    "name, data",
    [
        ("c.csv", 'prompt,tempo_bpm\ncalm piano,NaN\nfunk,\n'),
        ("c.jsonl", '{"prompt":"calm piano","tempo_bpm":NaN}\n{"prompt":"funk"}\n'),
        ("c.json", '[{"prompt":"calm piano","tempo_bpm":NaN},\n{"prompt":"funk"}]'),
        ("c.parquet", {"prompt": ["calm piano", "funk"], "tempo_bpm": [float("nan"), None]}),
    ],
)  # fmt: skip
def test_a_number_that_is_none_costs_its_row_in_every_format(tmp_path, name, data):
    if isinstance(data, dict):
        pq.write_table(pa.table(data), tmp_path / name)
    else:
        write(tmp_path / name, data)

    assert kinds(rows_of(tmp_path / name)) == "R."


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_id_stays_as_it_is_written_in_every_format(folder, name):
    ids = []
    for row_id in ("007", "7", "7.0", " 7"):
        [row] = rows_of(written(folder, {"prompt": "calm piano", "row_id": row_id})[name])
        ids.append(row.row_id)

    assert ids == ["007", "7", "7.0", " 7"]


@pytest.mark.parametrize("name", ["jsonl", "json", "parquet", "arrow"])
@pytest.mark.parametrize("number, said", [(7, "7"), (7.0, "7"), (7.5, "7.5"), (1e-7, "0.0000001"), (-3.0, "-3")])
def test_a_row_id_that_is_a_number_has_its_shortest_digits(folder, name, number, said):
    [row] = rows_of(written(folder, {"prompt": "calm piano", "row_id": number, "title": number})[name])

    assert (row.row_id, row.title) == (said, said)


def test_arrow_s_own_types_are_read(tmp_path):
    table = pa.table(
        {
            "prompt": pa.array(["calm piano", "funk"]),
            "duration_s": pa.array([3, 4], pa.int8()),
            "tempo_bpm": pa.array([90.0, None], pa.float32()),
            "seed": pa.array([1, 2], pa.uint64()),
            "title": pa.array(["a", "b"]).dictionary_encode(),
            "purpose": pa.nulls(2),
        }
    )
    pq.write_table(table, tmp_path / "c.parquet")

    rows = rows_of(tmp_path / "c.parquet")

    assert [(row.title, row.spec.seed, row.spec.duration_s, row.spec.tempo_bpm) for row in rows] == [
        ("a", 1, 3.0, 90.0),
        ("b", 2, 4.0, None),
    ]


def test_the_ids_of_a_database_keep_all_their_digits(tmp_path):
    ids = pa.array([Decimal("12345678901234567890123456789012345678"), Decimal("7")], pa.decimal128(38, 0))
    pq.write_table(pa.table({"prompt": ["a", "b"], "row_id": ids, "seed": ids.take([1, 1])}), tmp_path / "c.parquet")

    rows = rows_of(tmp_path / "c.parquet")

    assert [row.row_id for row in rows] == ["12345678901234567890123456789012345678", "7"]
    assert [row.spec.seed for row in rows] == [7, 7]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), "dictionary"])
def test_text_that_impala_wrote_as_bytes_is_text(tmp_path, kind):
    values = ["Größe: calm piano".encode(), b"funk", b"\xff"]
    column = pa.array(values).dictionary_encode() if kind == "dictionary" else pa.array(values, kind)
    pq.write_table(pa.table({"prompt": column, "row_id": [b"a", b"b", b"c"]}), tmp_path / "c.parquet")

    rows = rows_of(tmp_path / "c.parquet")

    assert kinds(rows) == "..R" and [row.row_id for row in rows] == ["a", "b", "c"]
    assert rows[0].spec.prompt == "Größe: calm piano" and "prompt: is not UTF-8 at byte 1" in rows[2].message


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_of_nothing_but_nulls_is_no_row_in_every_format(tmp_path, name):
    rows = [{"prompt": "calm piano", "seed": 1}, {"prompt": None, "seed": None}, {"prompt": "funk", "seed": None}]
    path = tmp_path / f"c.{name}"
    match name:
        case "csv":
            write(path, "prompt,seed\ncalm piano,1\n,\nfunk,\n")
        case "jsonl":
            write(path, "".join(json.dumps(row) + "\n" for row in rows))
        case "json":
            write(path, json.dumps(rows))
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case "arrow":
            feather.write_feather(pa.Table.from_pylist(rows), path)

    assert [row.line for row in rows_of(path)] == ([2, 4] if name == "csv" else [1, 3])


@pytest.mark.parametrize("name", ["jsonl", "json", "parquet", "arrow"])
def test_an_empty_text_that_somebody_wrote_is_a_row(tmp_path, name):
    assert kinds(rows_of(written(tmp_path, {"prompt": ""})[name])) == "R"


@pytest.mark.parametrize("name", ["c.parquet", "c.feather"])
def test_the_index_that_pandas_keeps_of_filtered_rows_is_ignored_and_said(tmp_path, name):
    frame = pd.DataFrame({"row_id": list("abcde"), "prompt": [f"calm piano {n}" for n in range(5)]})
    frame = frame[[True, True, False, False, True]]
    if name == "c.parquet":
        frame.to_parquet(tmp_path / name)
    else:
        feather.write_feather(pa.Table.from_pandas(frame), tmp_path / name)

    assert how_read(str(tmp_path / name), {}).endswith("; ignored columns: '__index_level_0__'")
    assert [(row.row_id, row.spec.prompt) for row in rows_of(tmp_path / name)] == [
        ("a", "calm piano 0"), ("b", "calm piano 1"), ("e", "calm piano 4"),
    ]  # fmt: skip


SECTIONS = [{"name": "intro", "duration_s": 8.0}, {"name": "verse", "bars": 16}, {"name": "outro"}]


def spec_of(row):
    assert isinstance(row, CatalogRow), row
    return row.spec


def test_a_list_is_text_with_commas_or_a_list_in_every_format(tmp_path):
    as_text = {
        "prompt": "a",
        "exclude": "drums, Bass",
        "instruments": "cello",
        "sections": "intro 8 s, verse 16 bars, outro",
    }
    as_json = as_text | {"exclude": '["drums", "bass"]', "instruments": '["cello"]', "sections": json.dumps(SECTIONS)}
    as_lists = {"prompt": "a", "exclude": ["drums", "bass"], "instruments": ["cello"], "sections": SECTIONS}
    wanted = TrackSpec.from_json(as_lists)

    for number, row in enumerate((as_text, as_json, as_lists)):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, path in written(folder, row).items():
            # A cell of CSV is text.
            if not (row is as_lists and name == "csv"):
                assert [spec_of(read) for read in rows_of(path)] == [wanted], (name, row)


def test_pandas_and_arrow_write_lists_that_are_read(tmp_path):
    rows = [
        {"prompt": "a", "exclude": ["drums"], "sections": SECTIONS},
        {"prompt": "b", "exclude": None, "sections": None},
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "pandas.parquet")
    pd.DataFrame(rows).to_json(tmp_path / "pandas.json", orient="records")
    kinds_of_list = {
        "large": pa.array([["drums"], None], pa.large_list(pa.large_string())),
        "fixed": pa.array([["drums"], None], pa.list_(pa.string(), 1)),
        "dictionary": pa.array([["drums"], None], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    }
    for name, column in kinds_of_list.items():
        pq.write_table(pa.table({"prompt": ["a", "b"], "exclude": column}), tmp_path / f"{name}.parquet")

    for name in ("pandas.parquet", "pandas.json", *(f"{name}.parquet" for name in kinds_of_list)):
        first, second = (spec_of(row) for row in rows_of(tmp_path / name))
        assert (first.exclude, second.exclude, second.sections) == (("drums",), None, None), name
    assert (
        spec_of(rows_of(tmp_path / "pandas.parquet")[0]).sections
        == spec_of(rows_of(tmp_path / "pandas.json")[0]).sections
    )


@pytest.mark.parametrize(
    "column, values, said",
    [
        ("exclude", [[1]], "exclude.0: Input should be a valid string"),
        ("exclude", [["drums", None]], "exclude.1: Input should be a valid string"),
        ("exclude", [{"name": "drums"}], "exclude: must be text or a number"),
        ("exclude", [["x" * 70_000]], "exclude: is longer than 65536 bytes"),
        ("exclude", [[b"\xff"]], "exclude: cannot be read"),
        ("sections", [[{"name": "intro", "duration_s": float("nan")}]], "sections: "),
        ("sections", [["intro"]], "sections.0: is not a JSON object"),
        ("instruments", ["kazoo"], "instruments.0: is not an instrument"),
        ("instruments", ['["kazoo"'], "instruments: is not JSON"),
    ],
    ids=str,
)
def test_a_list_that_is_none_of_ours_costs_its_row(tmp_path, column, values, said):
    pq.write_table(pa.table({"prompt": ["a"], column: values}), tmp_path / "c.parquet")

    (row,) = rows_of(tmp_path / "c.parquet")

    assert row.message.startswith(said) and len(row.message) < 500


def test_rows_with_lists_need_not_stand_in_a_list_of_json(tmp_path):
    row = json.dumps({"prompt": "a", "exclude": ["drums"], "sections": SECTIONS}, indent=2)

    assert kinds(rows_of(write(tmp_path / "c.json", row + "\n" + row))) == ".."
