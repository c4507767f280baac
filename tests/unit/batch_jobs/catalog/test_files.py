"""Catalogs as people and attackers write them: every line ends as a request or as a refusal that names it."""

import csv
import hashlib
import io
import json
import os
import tracemalloc
from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.catalog.cells import Opened
from batch_jobs.catalog.columns import ColumnNames
from batch_jobs.catalog.csv_rows import MAX_RECORD_LINES
from batch_jobs.catalog.files import READERS
from batch_jobs.catalog.lines import BLOCK_BYTES, MAX_LINE_BYTES
from batch_jobs.catalog.rows import CatalogRow, RefusedRow, catalog_sha256, is_sampled
from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable
from orchestrion.tracks.request import AudioFormat
from tests.malformed_requests import MALFORMED_ROWS, PROMPT
from tests.unit.batch_jobs.catalog.catalogs import kinds, put_theme, rows_of, write

COLUMN_ROWS = [row for row in MALFORMED_ROWS if row[0] not in ("unknown column", "column without a name")]


# What a good catalog gives


def test_a_csv_row_is_the_same_request_as_its_json_and_parquet_twins(tmp_path):
    cells = {"prompt": "slow sad piano, 70 bpm", "duration_s": 5.5, "seed": 3, "format": "opus", "row_id": "a-1"}
    one = write(tmp_path / "c.csv", ",".join(cells) + "\r\n" + '"slow sad piano, 70 bpm",5.5,3,opus,a-1\r\n')
    two = write(tmp_path / "c.jsonl", json.dumps(cells) + "\n")
    pq.write_table(pa.Table.from_pylist([cells]), tmp_path / "c.parquet")

    [a], [b], [c] = rows_of(one), rows_of(two), rows_of(tmp_path / "c.parquet")

    assert a.request == b.request == c.request
    assert (a.row_id, a.request.composition.tempo_bpm, a.request.delivery.format) == ("a-1", 70.0, AudioFormat.OPUS)
    assert (a.line, b.line, c.line) == (2, 1, 1)


@pytest.mark.parametrize(
    "column, values, said",
    [
        ("duration_s", pa.array([Decimal("5.5")]), {"duration_s": 5.5}),
        ("duration_s", pa.array([5.5], pa.float16()), {"duration_s": 5.5}),
        ("duration_s", pa.array([6], pa.uint8()), {"duration_s": 6.0}),
        ("seed", pa.array([Decimal("7")]), {"seed": 7}),
        ("style", pa.array(["jazz"]).dictionary_encode(), {"style": "jazz"}),
        ("style", pa.array(["jazz"], pa.large_string()), {"style": "jazz"}),
        ("style", pa.array(["jazz"], pa.string_view()), {"style": "jazz"}),
        ("style", pa.array([None], pa.null()), {"style": None}),
        ("style", pa.array([None], pa.struct({"name": pa.string()})), {"style": None}),
    ],
)
def test_parquet_types_that_can_mean_the_same_are_read_as_that(tmp_path, column, values, said):
    pq.write_table(pa.table({"prompt": ["a"], column: values}), tmp_path / "c.parquet")

    [row] = rows_of(tmp_path / "c.parquet")

    assert {name: getattr(row.request.composition, name) for name in said} == said


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY", "dictionary"])
@pytest.mark.parametrize("page", ["1.0", "2.0"])
def test_parquet_is_read_however_its_text_is_encoded(tmp_path, encoding, page):
    how = {} if encoding == "dictionary" else {"use_dictionary": False, "column_encoding": {"prompt": encoding}}
    prompts = [f"take {n} of a calm piano" for n in range(1200)]
    pq.write_table(pa.table({"prompt": prompts}), tmp_path / "c.parquet", 1100, data_page_version=page, **how)

    assert [row.request.composition.prompt for row in rows_of(tmp_path / "c.parquet")] == prompts


def test_the_demo_catalog_is_24_different_requests(pytestconfig):
    rows = rows_of(pytestconfig.rootpath / "cluster" / "demo-catalog.csv")

    assert kinds(rows) == "." * 24
    assert {row.request.delivery.format for row in rows} == set(AudioFormat)
    assert (
        len({row.request.composition.style for row in rows}) == 24
        and len({str(row.request.composition.key) for row in rows}) > 12
    )
    assert all(6 <= row.request.composition.duration_s <= 15 for row in rows)


def test_the_hash_is_that_of_the_file(tmp_path):
    path = write(tmp_path / "c.jsonl", b'{"prompt": "x"}')

    assert catalog_sha256(str(path), {}) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_no_matter(tmp_path):
    text = "\ufeffprompt,seed\r\n\r\ncalm piano,1\r\n   \r\nloud drums,2"

    assert [(row.line, row.request.composition.seed) for row in rows_of(write(tmp_path / "c.csv", text))] == [
        (3, 1),
        (5, 2),
    ]


def test_a_prompt_may_span_lines(tmp_path):
    rows = rows_of(write(tmp_path / "c.csv", 'prompt,seed\n"calm\npiano",1\nloud,2\n'))

    assert [(row.line, row.request.composition.prompt) for row in rows] == [(2, "calm\npiano"), (4, "loud")]


def test_a_sample_is_the_same_each_time_and_part_of_a_larger_one(tmp_path):
    rows = rows_of(write(tmp_path / "c.jsonl", "".join(f'{{"prompt": "a", "seed": {n}}}\n' for n in range(400))))

    tenth, half = ({row.line for row in rows if is_sampled(row, share)} for share in (0.1, 0.5))

    assert 20 < len(tenth) < 60 and 160 < len(half) < 240 and tenth < half
    assert all(is_sampled(row, 1.0) and not is_sampled(row, 0.0) for row in rows)
    again = rows_of(write(tmp_path / "d.jsonl", '{"seed": 3, "prompt": "a", "row_id": "x"}\n'))
    assert [is_sampled(row, 0.5) for row in again] == [4 in half]


# Rows that cannot be used


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_malformed_rows_are_refused_by_line_and_their_neighbours_are_not(tmp_path, suffix):
    malformed = COLUMN_ROWS if suffix == "csv" else MALFORMED_ROWS
    names = sorted({name for _, _, cells in malformed for name in cells})
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, names)
    if suffix == "csv":
        table.writeheader()
    lines_of_bad = {}
    for index, (what, field, cells) in enumerate(malformed):
        for row in (cells, {"prompt": PROMPT, "seed": str(index)} if suffix == "csv" else {"prompt": PROMPT}):
            table.writerow(row) if suffix == "csv" else text.write(json.dumps(row) + "\n")
        lines_of_bad[2 * index + 2 - (suffix == "jsonl")] = (what, field)
    path = write(tmp_path / f"c.{suffix}", text.getvalue().encode("utf-8", "surrogateescape"))

    rows = rows_of(path)

    assert kinds(rows) == "R." * len(malformed)
    for refused in rows[::2]:
        what, field = lines_of_bad[refused.line]
        assert field in refused.message or "UTF-8" in refused.message, what
        assert len(refused.message) < 2000


@pytest.mark.parametrize(
    "line, said",
    [
        (b"calm \xff piano,1", "UTF-8"),
        (b"calm\0piano,1", "NUL"),
        (b"x" * (MAX_LINE_BYTES + 1) + b",1", "longer"),
        (b"only one cell", "1 cells"),
        (b"one,2,three", "3 cells"),
        (b'"calm" piano,1', "not a CSV row"),
        (b'"never closed,1', "not a CSV row"),
        (b'"never closed, \xff', "UTF-8"),
    ],
)
def test_a_broken_csv_line_costs_only_itself(tmp_path, line, said):
    rows = rows_of(write(tmp_path / "c.csv", b"prompt,seed\ngood,1\n" + line + b"\ngood,2\ngood,3\n"))

    assert kinds(rows) == ".R.."
    assert rows[1].line == 3 and said in rows[1].message
    assert [row.request.composition.seed for row in rows if isinstance(row, CatalogRow)] == [1, 2, 3]


def test_a_quote_left_open_at_the_top_of_a_long_file_loses_no_other_row(tmp_path):
    lines = [b"prompt,seed", b'"open,0', *(b"good,%d" % n for n in range(3000))]

    rows = rows_of(write(tmp_path / "c.csv", b"\n".join(lines)))

    assert kinds(rows) == "R" + "." * 3000


def test_a_record_of_many_lines_is_read_up_to_a_limit(tmp_path):
    # The limit keeps lines like 'x","', each of which opens a quote that the next one does not close, from being read
    # thousands of times.
    fits, does_not = ('"' + "a\n" * (lines - 1) + '",1\n' for lines in (MAX_RECORD_LINES, MAX_RECORD_LINES + 1))

    rows = rows_of(write(tmp_path / "c.csv", "prompt,seed\n" + fits + does_not + "good,2\n"))

    assert kinds(rows[:2]) == ".R" and rows[1].line == 2 + MAX_RECORD_LINES
    assert (rows[-1].line, rows[-1].request.composition.seed) == (3 + 2 * MAX_RECORD_LINES, 2)


class GiantLine(io.RawIOBase):
    """A catalog whose middle line has a gigabyte, none of which is anywhere."""

    def __init__(self, before, after):
        self.blocks = iter([before, *[bytes(BLOCK_BYTES)] * 1024, after])

    def read(self, size=-1):
        assert size >= BLOCK_BYTES
        return next(self.blocks, b"")


@pytest.mark.parametrize(
    "suffix, before, after",
    [
        (".csv", b"prompt\na\n", b"\nb\n"),
        (".jsonl", b'{"prompt": "a"}\n', b'\n{"prompt": "b"}\n'),
        (".json", b'[{"prompt": "a"}, {"prompt": "', b'"}, {"prompt": "b"}]'),
    ],
)
def test_a_line_of_a_gigabyte_costs_itself_and_no_memory(suffix, before, after):
    tracemalloc.start()
    try:
        rows = [row for _, row in READERS[suffix](GiantLine(before, after), ColumnNames({})).rows]
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert len(rows) == 3 and "longer than 65536 bytes" in rows[1]
    assert peak_bytes < 4 * BLOCK_BYTES


def test_a_catalog_that_stops_answering_is_not_a_short_catalog(tmp_path, monkeypatch):
    path = write(tmp_path / "c.jsonl", b'{"prompt": "a"}\n')

    def fail():
        yield 1, {"prompt": "a"}
        raise OSError(5, "Input/output error")

    monkeypatch.setitem(READERS, ".jsonl", lambda file, columns: Opened((), fail()))

    with pytest.raises(StoreUnavailable, match="could not be read to its end"):
        rows_of(path)


@pytest.mark.parametrize(
    "line, said",
    [
        (b"[1, 2]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{'prompt': 1}", "is not JSON: Expecting property name"),
        (b'{"prompt": "a", "tempo_bpm": NaN}', "NaN"),
        (b'{"prompt": "a", "tempo_bpm": Infinity}', "Infinity"),
        (b'{"prompt": "a", "prompt": "b"}', "twice"),
        (b'{"prompt": "a", "seed": 1' + b"0" * 5000 + b"}", "5001 digits"),
        (b"[" * 20_000, "nested deeper"),
        (b'{"prompt": "a", "title": ["x"]}', "title"),
        (b'{"prompt": "a", "row_id": "a\\u0000"}', "row_id"),
        (b'{"prompt": "a", "title": "\\ud800"}', "title"),
        (b'{"prompt": "' + b"x" * MAX_LINE_BYTES + b'"}', "longer"),
        (b'{"prompt": "a", "artist": "b"}', "artist"),
    ],
)
def test_a_broken_json_line_costs_only_itself(tmp_path, line, said):
    rows = rows_of(write(tmp_path / "c.jsonl", b'{"prompt": "a"}\n' + line + b'\n{"prompt": "b"}\n'))

    assert kinds(rows) == ".R."
    assert rows[1].line == 2 and said in rows[1].message
    rows[1].message.encode("utf-8")


def test_a_refused_row_keeps_the_callers_id(tmp_path):
    [row] = rows_of(write(tmp_path / "c.jsonl", b'{"row_id": 7, "title": "T", "prompt": "a", "seed": -1}'))

    assert (row.row_id, row.title) == ("7", "T")


def test_a_row_id_that_was_there_before_costs_the_row_and_names_the_line(tmp_path):
    lines = ['{"prompt": "a", "row_id": 7}', '{"prompt": "b"}', '{"prompt": "c", "row_id": "7"}', '{"prompt": "d"}']

    rows = rows_of(write(tmp_path / "c.jsonl", "\n".join(lines)))

    assert kinds(rows) == "..R."
    assert rows[2].row_id == "7" and "is the id of line 1 already" in rows[2].message


def test_a_row_may_have_other_types_than_the_rows_before_it(tmp_path):
    lines = ['{"prompt": "a", "seed": 1}', '{"prompt": "a", "seed": "1"}', '{"prompt": ["a"]}', '{"prompt": "a"}']

    assert kinds(rows_of(write(tmp_path / "c.jsonl", "\n".join(lines)))) == ".RR."


def test_parquet_cells_of_wrong_types_refuse_their_rows(tmp_path):
    table = pa.table(
        {
            "prompt": ["a", "b", "c"],
            "tempo_bpm": pa.array([float("nan"), None, 100.0]),
            "mood": pa.array([None, None, b"calm \xff"], pa.binary()),
            "title": pa.array([None, None, None], pa.list_(pa.string())),
        }
    )
    pq.write_table(table, tmp_path / "c.parquet")

    rows = rows_of(tmp_path / "c.parquet")

    assert kinds(rows) == "R.R"
    assert "tempo_bpm" in rows[0].message and "mood" in rows[2].message


@pytest.mark.parametrize(
    "column, values",
    [
        ("prompt", pa.array([{"text": "a"}] * 3)),
        ("duration_s", pa.array([[5.0]] * 3)),
        ("title", pa.array([[("a", "b")]] * 3, pa.map_(pa.string(), pa.string()))),
        ("row_id", pa.array([[1], [2], [3]])),
        ("theme", pa.array([datetime(2026, 1, 1)] * 3)),
        ("title", pa.array([2**62 + 1] * 3, pa.timestamp("ns"))),
        ("title", pa.array(["x" * (MAX_LINE_BYTES + 1)] * 3)),
        ("mood", pa.array([b"\xff"] * 3, pa.binary())),
        ("mood", pa.array([b"x" * (MAX_LINE_BYTES + 1)] * 3, pa.binary(MAX_LINE_BYTES + 1))),
    ],
)
def test_parquet_columns_of_strange_types_refuse_their_rows_by_name(tmp_path, column, values):
    pq.write_table(pa.table({"prompt": ["a"] * 3} | {column: values}), tmp_path / "c.parquet")

    rows = rows_of(tmp_path / "c.parquet")

    assert [row.line for row in rows] == [1, 2, 3]
    assert all(isinstance(row, RefusedRow) and row.message.startswith(f"{column}: ") for row in rows)
    assert max(len(row.message) for row in rows) < 500


def three_groups(path, **options):
    table = pa.table({"prompt": [f"take {n}" for n in range(30)], "seed": list(range(30))})
    pq.write_table(table, path, row_group_size=10, use_dictionary=False, **options)
    return pq.read_metadata(path).row_group(1).column(0)


@pytest.mark.parametrize(
    "where, options",
    [("body", {"write_page_checksum": True, "compression": "none"}), ("body", {"compression": "gzip"}), ("header", {})],
)
def test_a_damaged_parquet_row_group_costs_its_rows_and_no_others(tmp_path, where, options):
    chunk = three_groups(tmp_path / "c.parquet", **options)
    data = bytearray((tmp_path / "c.parquet").read_bytes())
    end = chunk.data_page_offset + chunk.total_compressed_size
    for at in range(end - 20, end) if where == "body" else range(chunk.data_page_offset, chunk.data_page_offset + 4):
        data[at] ^= 0xFF

    rows = rows_of(write(tmp_path / "c.parquet", bytes(data)))

    assert kinds(rows) == "." * 10 + "R" * 10 + "." * 10
    assert [row.line for row in rows] == list(range(1, 31))
    assert all("row group 2 of 3 is damaged" in row.message for row in rows[10:20])
    assert [row.request.composition.seed for row in rows[20:]] == list(range(20, 30))


@pytest.mark.parametrize("kept", [12, 0.3, 0.9, -4])
def test_a_parquet_file_without_its_end_cannot_be_used(tmp_path, kept):
    three_groups(tmp_path / "c.parquet")
    data = (tmp_path / "c.parquet").read_bytes()

    with pytest.raises(InvalidRequest, match="not a readable Parquet file"):
        rows_of(write(tmp_path / "c.parquet", data[: int(kept * len(data)) if isinstance(kept, float) else kept]))


@pytest.mark.parametrize("byte", range(0, 900, 7))
def test_no_damage_to_a_footer_ends_the_process_or_the_count_of_rows(tmp_path, byte):
    three_groups(tmp_path / "c.parquet")
    data = bytearray((tmp_path / "c.parquet").read_bytes())
    data[-9 - byte] ^= 0x55

    try:
        rows = rows_of(write(tmp_path / "c.parquet", bytes(data)))
    except InvalidRequest:
        return
    assert [row.line for row in rows] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize(
    "options, said",
    [
        ({}, "is longer than 65536 bytes"),
        ({"use_dictionary": False}, "is longer than 65536 bytes"),
        ({"use_dictionary": False, "column_encoding": {"prompt": "DELTA_BYTE_ARRAY"}}, "is longer than 65536 bytes"),
    ],
    ids=["dictionary", "page", "prefixes"],
)
def test_a_parquet_file_that_unpacks_to_200_mb_is_not_unpacked_in_the_driver(tmp_path, options, said):
    table = pa.table({"prompt": ["x" * 1_000_000] * 200})
    pq.write_table(table, tmp_path / "c.parquet", compression="zstd", **options)
    assert (tmp_path / "c.parquet").stat().st_size < 20_000
    ours, default = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(ours)
    try:
        rows = rows_of(tmp_path / "c.parquet")
    finally:
        pa.set_memory_pool(default)

    assert kinds(rows) == "R" * 200 and said in rows[-1].message
    assert ours.max_memory() == 0


def test_a_forged_count_of_rows_is_refused_and_not_counted_up_to(tmp_path):
    three_groups(tmp_path / "c.parquet")
    data = (tmp_path / "c.parquet").read_bytes()
    # In the footer the rows of a group stand behind its bytes, as field 3; 20 is 10 in Thrift's zigzag.
    forged = data.replace(b"\x16\x14\x26", b"\x16\xfe\xff\xff\xff\xff\x7f\x26", 1)
    added = len(forged) - len(data)
    size = int.from_bytes(data[-8:-4], "little") + added

    assert added == 5
    with pytest.raises(InvalidRequest, match="row group of 2199023255551 rows; write groups of at most 10000000"):
        rows_of(write(tmp_path / "c.parquet", forged[:-8] + size.to_bytes(4, "little") + b"PAR1"))


# Catalogs that cannot be used at all


@pytest.mark.parametrize(
    "name, data, said",
    [
        ("c.csv", b"", "is empty"),
        ("c.csv", b"prompt,artist\na,b\n", "artist"),
        ("c.csv", b"prompt;artist\na;1\n", "artist"),
        ("c.csv", b"sep=x\npromptxseed\na;1\n", "is no separator"),
        ("c.csv", b"prompt,prompt\na,b\n", "twice"),
        ("c.csv", b"seed\n1\n", "no column 'prompt'"),
        ("c.csv", "prompt\na\n".encode("utf-16-le"), "UTF-16.*save the catalog as UTF-8"),
        ("c.csv", b"\xc3\x28,prompt\n", "UTF-8"),
        ("c.parquet", b"PAR1 is not enough", "Parquet"),
        ("c.xlsx", b"PK", ".jsonl"),
    ],
)
def test_a_catalog_that_is_wrong_as_a_whole_says_so_at_once(tmp_path, name, data, said):
    with pytest.raises(InvalidRequest, match=said):
        rows_of(write(tmp_path / name, data))


def test_unknown_parquet_columns_are_named_with_the_known_ones(tmp_path):
    pq.write_table(pa.table({"prompt": ["a"], "bpm": [1]}), tmp_path / "c.parquet")

    with pytest.raises(InvalidRequest, match=r"bpm.*tempo_bpm|tempo_bpm.*bpm"):
        rows_of(tmp_path / "c.parquet")


def test_a_missing_catalog_is_not_found(tmp_path):
    with pytest.raises(NotFound, match=r"nowhere\.csv"):
        rows_of(tmp_path / "nowhere.csv")


# Files beside the catalog


@pytest.mark.parametrize("column", ["theme", "continuation"])
def test_a_file_beside_the_catalog_goes_to_the_store_once(tmp_path, column):
    (tmp_path / "themes").mkdir()
    write(tmp_path / "themes" / "a.mid", b"MThd")
    line = json.dumps({"prompt": "a", column: "themes/a.mid"}) + "\n"
    stored = []

    rows = rows_of(write(tmp_path / "c.jsonl", line * 2), lambda data: stored.append(data) or put_theme(data))

    assert stored == [b"MThd"]
    assert [getattr(row.request.composition, column) for row in rows] == [put_theme(b"MThd")] * 2


def test_a_row_that_is_refused_anyway_puts_nothing_into_the_store(tmp_path):
    write(tmp_path / "a.mid", b"MThd")

    rows = rows_of(write(tmp_path / "c.jsonl", b'{"prompt": "", "theme": "a.mid"}'), lambda data: pytest.fail("stored"))

    assert kinds(rows) == "R"


@pytest.mark.parametrize("column", ["theme", "continuation"])
@pytest.mark.parametrize(
    "name",
    [
        "../secret.mid", "a/../../secret.mid", "/etc/passwd", "link.mid", "folder", "pipe", "missing.mid",
        "http://example.com/a.mid", "file:///etc/passwd", "c:\\a.mid", "a%2e%2e/b", "a\nb", "x" * 5000,
    ],
)  # fmt: skip
def test_a_name_that_leaves_the_folder_or_is_no_file_is_refused(tmp_path, column, name):
    write(tmp_path / "secret.mid", b"MThd")
    folder = tmp_path / "catalogs"
    folder.mkdir()
    (folder / "folder").mkdir()
    (folder / "link.mid").symlink_to(tmp_path / "secret.mid")
    os.mkfifo(folder / "pipe")
    path = write(folder / "c.jsonl", json.dumps({"prompt": "a", column: name}) + '\n{"prompt": "b"}\n')

    rows = rows_of(path)

    assert kinds(rows) == "R." and rows[0].message.startswith(f"{column}: ")


def test_an_empty_file_is_no_theme(tmp_path):
    write(tmp_path / "a.mid", b"")

    [row] = rows_of(write(tmp_path / "c.jsonl", b'{"prompt": "a", "theme": "a.mid"}'))

    assert "theme: is an empty file" in row.message


def test_a_theme_over_20_mib_is_refused(tmp_path):
    with (tmp_path / "big.mid").open("wb") as file:
        file.truncate(20 * 2**20 + 1)

    [row] = rows_of(write(tmp_path / "c.jsonl", b'{"prompt": "a", "theme": "big.mid"}'))

    assert "20 MiB" in row.message
