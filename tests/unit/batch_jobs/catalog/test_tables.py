"""Parquet and Arrow from strangers: whatever a file does to its reader is rows that fail, or a refusal of the file."""

import io
import sys

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_jobs.catalog.cells import BadCell
from batch_jobs.catalog.columns import ColumnNames
from batch_jobs.catalog.tables import TableReader, open_table
from orchestrion.errors import InvalidRequest
from tests.unit.batch_jobs.catalog.catalogs import kinds, prompts, rows_of, write

TABLE = pa.table(
    {
        "prompt": [f"take {n} of a calm piano" for n in range(30)],
        "seed": list(range(30)),
        "style": pa.array(["jazz", None, "funk"] * 10).dictionary_encode(),
        "duration_s": pa.array([3.5, None, 4.0] * 10, pa.float32()),
        "title": pa.array([["a"], None, None] * 10),
    }
)


def parquet(table=TABLE, **options):
    out = io.BytesIO()
    pq.write_table(table, out, **({"row_group_size": 10} | options))
    return out.getvalue()


def arrow(table=TABLE, new=pa.ipc.new_file, rows=10, compression=None):
    out = io.BytesIO()
    with new(out, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, rows)
    return out.getvalue()


def stream(table=TABLE, **options):
    return arrow(table, pa.ipc.new_stream, **options)


@pytest.fixture(scope="module")
def reader():
    with TableReader() as reader:
        yield reader


def read(reader, kind, data):
    """Numbers and cells of all rows, or what is said of the file."""
    try:
        return list(open_table(kind, io.BytesIO(data), ColumnNames({}), reader=reader).rows)
    except InvalidRequest as error:
        return str(error)


# What is read


@pytest.mark.parametrize("name", ["c.arrow", "c.feather", "c.ipc"])
@pytest.mark.parametrize(
    "data", [arrow(), stream(), arrow(compression="zstd"), stream(compression="lz4"), arrow(rows=7)]
)
def test_arrow_says_what_parquet_says(tmp_path, name, data):
    theirs = rows_of(write(tmp_path / "c.parquet", parquet()))

    ours = rows_of(write(tmp_path / name, data))

    assert ours == theirs and kinds(ours) == "R.." * 10
    assert [row.spec.duration_s for row in ours[1:3]] == [None, 4.0] and ours[0].message.startswith("title: ")


def test_what_polars_and_pandas_write_is_read(tmp_path):
    polars, pandas = pytest.importorskip("polars"), pytest.importorskip("pandas")
    columns = {"prompt": ["calm piano", "funk"], "seed": [7, None], "row_id": ["007", "8"]}
    polars.DataFrame(columns).write_ipc(tmp_path / "a.arrow")
    polars.DataFrame(columns).write_ipc_stream(tmp_path / "b.arrow")
    pandas.DataFrame(columns).to_feather(tmp_path / "c.feather")

    for path in tmp_path.iterdir():
        assert [(row.spec.prompt, row.spec.seed, row.row_id) for row in rows_of(path)] == [
            ("calm piano", 7, "007"), ("funk", 0, "8"),
        ]  # fmt: skip


@pytest.mark.parametrize("kind, made", [("parquet", parquet), ("arrow", arrow)])
def test_text_that_is_shared_by_all_rows_is_read_in_time(reader, kind, made):
    """Arrow's views have the text of a whole batch behind every row."""
    view = pa.array([f"take {n} " + "x" * 3000 for n in range(4000)], pa.string_view())

    found = read(reader, kind, made(pa.table({"prompt": view})))

    assert [row["prompt"].split(" x")[0] for _, row in found] == [f"take {n}" for n in range(4000)]


def test_a_list_or_an_object_costs_its_row_and_no_other(reader):
    cells = [row.get("title") for _, row in read(reader, "parquet", parquet())]

    assert cells[:3] == [BadCell("a list", "must be text or a number"), None, None]


@pytest.mark.parametrize("width", [pa.float16(), pa.float32()])
def test_a_number_of_few_bits_is_the_one_that_was_written(reader, width):
    table = pa.table({"prompt": ["a"] * 3, "tempo_bpm": pa.array([3.3, 90.5, float("nan")]).cast(width)})

    found = [row["tempo_bpm"] for _, row in read(reader, "arrow", arrow(table))]

    assert found[:2] == [3.3, 90.5] and found[2] != found[2]


def test_the_ids_that_a_database_makes_are_text(tmp_path):
    pq.write_table(
        pa.table({"prompt": ["a"], "row_id": pa.array([bytes(range(16))], pa.uuid())}), tmp_path / "c.parquet"
    )

    assert [row.row_id for row in rows_of(tmp_path / "c.parquet")] == ["00010203-0405-0607-0809-0a0b0c0d0e0f"]


def test_files_are_read_one_after_the_other_by_one_process(reader):
    before = reader._process.pid

    assert isinstance(read(reader, "parquet", b"PAR1 is not enough"), str)
    half = open_table("arrow", io.BytesIO(arrow()), ColumnNames({}), reader=reader)
    assert next(half.rows)[0] == 1
    # One that is left in the middle costs a process.
    assert len(read(reader, "parquet", parquet())) == 30 and reader._process.pid != before
    before = reader._process.pid
    assert len(read(reader, "arrow", stream())) == 30 and reader._process.pid == before


# What harms


def huge_text(bytes_=100_000_000, rows=1000):
    """A hundred gigabytes of text, of which there is a hundred megabytes once."""
    return pa.table({"prompt": pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["x" * bytes_])})


def nested(depth):
    array = pa.array(["a"])
    for _ in range(depth):
        array = pa.StructArray.from_arrays([array], ["x"])
    return pa.table({"prompt": ["a"], "title": array})


def test_a_dictionary_that_would_be_a_hundred_gigabytes_is_one_refusal_with_the_name_of_the_file(tmp_path):
    pq.write_table(huge_text(), tmp_path / "c.parquet", compression="zstd")
    assert (tmp_path / "c.parquet").stat().st_size < 1_000_000

    # Arrow does not survive it: the process that it takes along is not ours.
    with pytest.raises(
        InvalidRequest, match=r"'c\.parquet': cannot be read: the process that reads it was ended by SIG"
    ):
        rows_of(tmp_path / "c.parquet")


def test_pages_that_unpack_to_more_than_there_is_cost_their_row_group(tmp_path):
    table = pa.table({"prompt": pa.array(["x" * 1_000_000]).take(pa.array([0] * 600)), "seed": range(600)})
    with pq.ParquetWriter(tmp_path / "c.parquet", table.schema, compression="zstd", use_dictionary=False) as writer:
        writer.write_table(pa.table({"prompt": ["before"], "seed": [1]}))
        writer.write_table(table, row_group_size=600)
        writer.write_table(pa.table({"prompt": ["after"], "seed": [2]}))
    assert (tmp_path / "c.parquet").stat().st_size < 100_000

    rows = rows_of(tmp_path / "c.parquet")

    assert kinds(rows) == "." + "R" * 600 + "." and prompts([rows[0], rows[-1]]) == ["before", "after"]
    assert "row group 2 of 3 is damaged or too large" in rows[1].message


@pytest.mark.parametrize("made", [arrow, stream])
def test_an_arrow_batch_that_unpacks_to_more_than_there_is_refuses_the_file(tmp_path, made):
    data = made(
        pa.table({"prompt": pa.array(["x" * 1_000_000]).take(pa.array([0] * 1500))}), rows=1500, compression="zstd"
    )
    assert len(data) < 1_000_000

    with pytest.raises(InvalidRequest, match=r"c\.arrow.*needs more than 512 MiB"):
        rows_of(write(tmp_path / "c.arrow", data))


def test_a_run_that_claims_two_thousand_million_rows_is_refused(reader):
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2**31 - 1], pa.int32()), pa.array(["a piano"]))

    assert "2147483647 rows" in read(reader, "arrow", arrow(pa.table({"prompt": runs}), rows=2**31))


# Arrow writes no batch that is nested more deeply than 64.
@pytest.mark.parametrize(
    "kind, made, depth", [("parquet", parquet, 20), ("parquet", parquet, 500), ("arrow", arrow, 60)]
)
def test_deep_nesting_costs_the_cell_or_the_file(reader, kind, made, depth):
    found = read(reader, kind, made(nested(depth)))

    assert isinstance(found, str) or found[0][1]["title"] == BadCell("a struct", "must be text or a number")
    assert len(read(reader, "parquet", parquet())) == 30


@pytest.mark.parametrize("made", [parquet, arrow, stream])
@pytest.mark.parametrize("kept", [0, 1, 5, 12, 0.3, 0.9, -1, -4, -9])
def test_a_file_without_its_end_cannot_be_used(reader, made, kept):
    data = made()
    kind = "parquet" if made is parquet else "arrow"

    found = read(reader, kind, data[: int(kept * len(data)) if isinstance(kept, float) else kept])

    assert isinstance(found, str) and len(found) < 600 and found.isprintable()


def test_feather_of_version_1_is_refused_by_name(tmp_path):
    pyarrow.feather.write_feather(pa.table({"prompt": ["a"]}), str(tmp_path / "c.feather"), version=1)

    with pytest.raises(InvalidRequest, match="Feather of version 1; write version 2"):
        rows_of(tmp_path / "c.feather")


@pytest.mark.parametrize(
    "kind, data", [("parquet", parquet(write_page_checksum=False)), ("arrow", arrow()), ("arrow", stream())]
)
def test_no_damage_ends_more_than_the_file(kind, data):
    """Flipped bytes: rows in order, or one refusal; and the next file is read."""
    with TableReader() as reader:
        flips = st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(1, 255)), min_size=1, max_size=4)

        @given(flips)
        @settings(max_examples=60, deadline=None)
        def damaged(flipped):
            changed = bytearray(data)
            for at, bits in flipped:
                changed[at] ^= bits
            found = read(reader, kind, bytes(changed))
            if isinstance(found, str):
                assert len(found) < 2000 and found.isprintable()
            else:
                assert [number for number, _ in found] == list(range(1, len(found) + 1))

        damaged()
        assert len(read(reader, kind, data)) == 30


# A process that was taken over


def saying(*lines):
    """A process that says this whatever it is asked."""
    text = "\n".join(["import sys", "sys.stdin.readline()", *(f"print({line!r}, flush=True)" for line in lines)])
    return TableReader((sys.executable, "-c", text + "\nsys.stdin.read()"))


@pytest.mark.parametrize(
    "lines",
    [
        ["no JSON"], ["[]"], ["null"], ["7"], ["{}"], ['{"columns": 7}'], ['{"columns": [7]}'], ["[" * 100_000],
        ['{"read": [0, 1000000000]}'], ['{"read": [-5, 10]}'], ['{"read": [0]}'], ['{"read": "x"}'],
        ['{"columns": ["prompt"]}', '{"rows": 1}'], ['{"columns": ["prompt"]}', '{"rows": 1e9, "cells": [[]]}'],
        ['{"columns": ["prompt"]}', '{"rows": 99999999, "lost": "x"}'], ['{"columns": ["prompt"]}', '{"rows": -1}'],
        ['{"columns": ["prompt"]}', '{"rows": 2, "cells": [["a"]]}'],
        ['{"columns": ["prompt"]}', '{"rows": 1, "cells": [[{}]]}'],
        ['{"columns": ["prompt"]}', '{"rows": 1, "cells": [["a"], ["b"]]}'],
        ['{"columns": ["prompt"]}', '{"rows": 1, "cells": [[' + "9" * 5000 + ']]}'],
    ],
)  # fmt: skip
def test_a_process_that_answers_anything_is_ended_and_the_file_refused(lines):
    with saying(*lines) as reader:
        found = read(reader, "parquet", parquet())

        assert "the process that reads it answers what" in found and reader._process.has_ended


def test_a_process_that_dies_is_one_refusal():
    with TableReader((sys.executable, "-c", "import os; input(); os.abort()")) as reader:
        assert "the process that reads it was ended by SIGABRT" in read(reader, "parquet", parquet())
