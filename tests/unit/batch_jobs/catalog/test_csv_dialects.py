"""CSV as spreadsheets write it: recognised and said, or refused with what to do; nothing is guessed."""

import io

import pytest

from batch_jobs.catalog.columns import ColumnNames
from batch_jobs.catalog.csv_rows import open_csv
from batch_jobs.catalog.lines import BLOCK_BYTES
from batch_jobs.catalog.rows import how_read
from orchestrion.errors import InvalidRequest
from tests.unit.batch_jobs.catalog.catalogs import kinds, prompts, rows_of, write

TEXT = (
    'row_id,prompt,duration_s\na-1,"calm piano at a lake",3\na-2,"funky bass, slap",3\na-3,"Größe: reel — “live”",3\n'
)
PROMPTS = ["calm piano at a lake", "funky bass, slap", "Größe: reel — “live”"]


def opened(tmp_path, data, name="c.csv"):
    path = write(tmp_path / name, data)
    return how_read(str(path), {}), rows_of(path)


@pytest.mark.parametrize(
    "data, said, first",
    [
        (TEXT, "CSV in UTF-8; separated by commas", 2),
        ("\ufeff" + TEXT.replace("\n", "\r\n"), "CSV in UTF-8; separated by commas", 2),
        # Written in text mode on Windows.
        (TEXT.replace("\n", "\r\r\n"), "CSV in UTF-8; separated by commas", 2),
        ("sep=,\n" + TEXT, "CSV in UTF-8; separated by commas, as its first line says", 3),
        ('\ufeff"SEP=,"\r\n' + TEXT, "CSV in UTF-8; separated by commas, as its first line says", 3),
        (TEXT.replace("\n", "\r"), "CSV in UTF-8; lines end with a carriage return; separated by commas", 2),
        (TEXT.encode("utf-16"), "CSV in UTF-16; separated by commas", 2),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "CSV in UTF-16; separated by commas", 2),
    ],
)
def test_a_spreadsheet_s_way_of_writing_is_recognised_and_said(tmp_path, data, said, first):
    words, rows = opened(tmp_path, data)

    assert words == said
    assert prompts(rows) == PROMPTS and [row.row_id for row in rows] == ["a-1", "a-2", "a-3"]
    assert [row.line for row in rows] == [first, first + 1, first + 2]


@pytest.mark.parametrize("separator, name", [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("sep_line", ["", "sep=?\r\n"])
def test_separators_are_recognised_by_the_header(tmp_path, separator, name, encoding, sep_line):
    text = sep_line + 'row_id?prompt?duration_s\r\na-1?"calm,? piano"?3,5\r\na-2?funk?2.25\r\n??\r\n'

    said, rows = opened(tmp_path, text.replace("?", separator).encode(encoding), "c.tsv")

    assert f"separated by {name}" in said and said.endswith("numbers with a decimal point or comma")
    assert prompts(rows) == [f"calm,{separator} piano", "funk"]
    assert [row.spec.duration_s for row in rows] == [3.5, 2.25]


def test_a_separator_that_the_first_line_names_is_the_only_one_tried(tmp_path):
    with pytest.raises(InvalidRequest, match="unknown columns"):
        opened(tmp_path, "sep=;\nprompt,seed\na,1\n")


def test_a_prompt_with_semicolons_is_no_other_dialect(tmp_path):
    said, rows = opened(tmp_path, "prompt\ncalm; slow\npiano;jazz\n")

    assert said == "CSV in UTF-8; separated by commas" and prompts(rows) == ["calm; slow", "piano;jazz"]


def test_blank_rows_are_nothing(tmp_path):
    text = 'row_id,prompt,duration_s\r\n,,\r\na-1,calm,3\r\n, ,\t\r\n"","",""\r\n,,,,,\r\n\r\n,,\r\n,,'

    _, rows = opened(tmp_path, text)

    assert kinds(rows) == "." and rows[0].line == 3


def test_what_is_neither_utf_8_nor_marked_is_refused_by_name_with_the_remedy(tmp_path):
    text = "row_id,prompt\na-1,calm\na-2,Größe – “live”\na-3,funk\n"

    _, rows = opened(tmp_path, text.encode("cp1252"))

    assert kinds(rows) == ".R." and "is not UTF-8; save the catalog as UTF-8 (in Excel: 'CSV UTF-8')" in rows[1].message
    with pytest.raises(InvalidRequest, match="save the catalog as UTF-8"):
        opened(tmp_path, "prompt,Größe\na,b\n".encode("cp1252"))


@pytest.mark.parametrize("kept", [-1, -3])
def test_utf_16_that_ends_in_the_middle_of_a_character_costs_its_last_row(tmp_path, kept):
    data = "prompt\ncalm\n\U0001f3b9".encode("utf-16")

    _, rows = opened(tmp_path, data[:kept])

    assert kinds(rows) == ".R" and "UTF-8" in rows[1].message


def test_half_a_surrogate_pair_in_utf_16_costs_its_row(tmp_path):
    _, rows = opened(tmp_path, "prompt\ncalm \ud83c piano\nfunk\n".encode("utf-16", "surrogatepass"))

    assert kinds(rows) == "R."


def test_utf_16_is_read_across_blocks():
    wanted = [f"Größe {n} " + "\U0001f3b9" * (1900 + n % 7) for n in range(400)]
    data = ("prompt\tseed\n" + "".join(f"{prompt}\t1\n" for prompt in wanted)).encode("utf-16")
    assert len(data) > 2 * BLOCK_BYTES

    rows = open_csv(io.BytesIO(data), ColumnNames({})).rows

    assert [read.cells["prompt"] for _, read in rows] == wanted


# Columns


@pytest.mark.parametrize(
    "header, said",
    [
        ("Row_ID, Prompt ,Duration_s", "columns: 'Row_ID' is row_id, ' Prompt ' is prompt, 'Duration_s' is duration_s"),
        ("ROW ID,PROMPT,Duration\u00a0S", "'ROW ID' is row_id, 'PROMPT' is prompt, 'Duration\\xa0S' is duration_s"),
    ],
)  # fmt: skip
def test_a_header_in_capitals_and_with_spaces_means_the_same(tmp_path, header, said):
    words, [row] = opened(tmp_path, header + "\na-1,calm,3\n")

    assert words.endswith(said)
    assert (row.row_id, row.spec.prompt, row.spec.duration_s) == ("a-1", "calm", 3.0)


def test_two_spellings_of_one_column_are_that_column_twice(tmp_path):
    with pytest.raises(InvalidRequest, match="names a column twice"):
        opened(tmp_path, "prompt,Prompt \na,b\n")


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "__index_level_0__"])
def test_the_index_of_pandas_is_ignored_and_said(tmp_path, name):
    said, [row] = opened(tmp_path, f"{name},row_id,prompt\n17,a-1,calm\n")

    assert said.endswith("ignored columns: " + (f"'{name}'" if name else "the one without a name"))
    assert (row.row_id, row.spec.prompt) == ("a-1", "calm")


def test_columns_without_a_name_behind_the_others_hold_nothing(tmp_path):
    said, rows = opened(tmp_path, "row_id,prompt,,\na-1,calm,,\na-2,calm, slow piano,\n")

    assert said.endswith("2 columns without a name, which must be empty")
    assert kinds(rows) == ".R" and "stands in column 3, which has no name" in rows[1].message


# Numbers


@pytest.mark.parametrize(
    "column, text, value",
    [
        ("duration_s", " 3 ", 3.0), ("duration_s", "3.0", 3.0), ("duration_s", "3.500", 3.5), ("duration_s", "+3", 3.0),
        ("duration_s", ".5e1", 5.0), ("seed", "1000.0", 1000), ("seed", "1e3", 1000), ("seed", " 7 ", 7),
        ("seed", "9007199254740991", 2**53 - 1), ("sample_rate_hz", "44100.0", 44100), ("top_k", "2.5e2", 250),
    ],
)  # fmt: skip
def test_a_number_has_one_meaning(tmp_path, column, text, value):
    _, [row] = opened(tmp_path, f"prompt,{column}\ncalm,{text}\n")

    assert getattr(row.spec, column) == value


@pytest.mark.parametrize(
    "column, text, said",
    [
        ("duration_s", "3,0", "separated by commas write 3.5"), ("seed", "1,0", "separated by commas write 3.5"),
        ("seed", "1,000", "may mean 1 or 1000"),
        ("seed", "1.000", "may mean 1 or 1000"), ("seed", "1.000.000", "seed"), ("seed", "1'000", "seed"),
        ("seed", "1\u00a0000", "seed"), ("seed", "١٢", "seed"), ("sample_rate_hz", "44.100", "may mean 44.1 or 44100"),
        ("seed", "1.23457E+15", "rounded"), ("seed", "1e999999999", "seed"), ("seed", "1e-999999999", "seed"),
        ("tempo_bpm", "12o", "tempo_bpm"), ("seed", "4503599627370497.5", "seed"),
    ],
)  # fmt: skip
def test_a_number_of_two_readings_or_none_is_a_failure_of_its_row(tmp_path, column, text, said):
    _, rows = opened(tmp_path, f'prompt,{column}\ncalm,"{text}"\nfunk,\n')

    assert kinds(rows) == "R." and said in rows[0].message and rows[0].message.startswith(column)


@pytest.mark.parametrize(
    "text, value",
    [
        ("3,5", 3.5), ("3.5", 3.5), ("0,125", 0.125), ("120", 120.0), ("1.500", None), ("1,500", None),
        ("1.234,5", None), ("1,5,0", None), ("3, 5", None),
    ],
)  # fmt: skip
def test_beside_semicolons_a_comma_is_decimal_where_it_can_be_nothing_else(tmp_path, text, value):
    _, [row] = opened(tmp_path, f"prompt;guidance;duration_s\ncalm;;{text}\n")

    if value is None:
        assert "duration_s" in row.message
    elif value < 1:
        assert "greater than or equal to 1" in row.message
    else:
        assert row.spec.duration_s == value


@pytest.mark.parametrize("text", ["1.000", "1,000", "1000,0"])
def test_beside_semicolons_a_seed_is_never_guessed(tmp_path, text):
    _, [row] = opened(tmp_path, f"prompt;seed\ncalm;{text}\n")

    assert row.spec.seed == 1000 if text == "1000,0" else "may mean 1 or 1000" in row.message


def test_a_quoted_cell_may_span_lines_whatever_ends_them(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        text = f'row_id,prompt{end}q-1,"calm\npiano"{end}q-2,"he said ""go"""{end}'

        _, rows = opened(tmp_path, text)

        assert prompts(rows) == ["calm\npiano", 'he said "go"']
