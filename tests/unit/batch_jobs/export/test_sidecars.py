"""Cells that no spreadsheet runs, lengths as other programs read them, and the table that the documents describe."""

import csv
import io
import re
from dataclasses import replace

import pytest

from batch_jobs.export.sidecars import CSV_COLUMNS, Delivered, iso_duration, safe_cell, tracks_csv
from tests.test_imports import ROOT

FORMULA = tuple("=+-@\t\r\n＝＋－＠")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30", "'+49 30"),
        ("-5 degrees", "'-5 degrees"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'=1"),
        ("\r=1", "'=1"),
        ("\u200b=1", "'=1"),
        ("＝1", "'＝1"),
        ("a;=cmd|'/C calc'!A0", "a;'=cmd|'/C calc'!A0"),
        ('x"; "+1', 'x"; "\'+1'),
        ("a\nb\0c", "a b c"),
        ("rock-n-roll = fun", "rock-n-roll = fun"),
        ("Für Elise 🎹", "Für Elise 🎹"),
    ],
)
def test_a_cell_is_text_and_no_formula(text, cell):
    assert safe_cell(text) == cell


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_no_cell_begins_a_formula_whichever_separator_a_spreadsheet_takes(catalog, separator):
    [track] = catalog.add({"seed": 1})
    hostile = ["=1", ";=1", ',"=1', "a;\t=1", "|@x", '";"=1', "\t;+1", "x\r\n=1,2;=3", '","=1', "' ; ' -1"]
    row = {"title": None, "row_id": None, "requested_by": "+ann", "job_id": "job-1", "line": 1, "kept": None}
    rows = [Delivered("a.flac", row | {"title": text, "row_id": text}, track.record) for text in hostile]

    text = tracks_csv(rows).decode("utf-8-sig")

    cells = [cell for line in csv.reader(io.StringIO(text, newline=""), delimiter=separator) for cell in line]
    assert len(cells) >= len(hostile)
    assert [cell for cell in cells if cell.startswith(FORMULA)] == []


@pytest.mark.parametrize(
    ("seconds", "duration"),
    [(150.0, "PT2M30S"), (30.0, "PT30S"), (60.0, "PT1M"), (3600.0, "PT1H"), (600.5, "PT10M0.5S"), (59.9999, "PT1M")],
)
def test_a_duration_is_that_of_iso_8601(seconds, duration):
    assert iso_duration(seconds) == duration


def test_the_table_discloses_what_made_a_track(catalog):
    [track] = catalog.add({"seed": 1, "requester": "studio-3"})
    row = {"title": "Für Elise", "row_id": "7", "requested_by": "studio-3", "job_id": "job-1", "line": 2, "kept": None}
    asked = replace(track.record, tempo_bpm=92.5, style="jazz", key="D minor")
    rows = [Delivered("Für Elise.flac", row, record) for record in (track.record, asked)]
    rows.append(Delivered("x.flac", row | {"title": None, "requested_by": "anonymous"}, track.record))

    told, told_asked, nameless = csv.DictReader(io.StringIO(tracks_csv(rows).decode("utf-8-sig"), newline=""))

    record = track.record
    assert told == {
        "file": "Für Elise.flac", "title": "Für Elise", "display_artist": "studio-3", "duration": "PT2S",
        "tempo_bpm": "60.0", "key": "", "genre": "", "language": "zxx", "isrc": "", "ai_generated": "yes",
        "ai_model": "tone", "ai_model_revision": "tone-1", "ai_weights_licence": "MIT", "ai_commercial_use": "yes",
        "format": "flac", "sample_rate_hz": "44100", "bytes": str(record.audio_bytes), "sha256": record.audio_sha256,
        "created_at": record.created_at, "track_id": record.track_id, "version": "1", "job_id": "job-1", "line": "2",
        "row_id": "7",
    }  # fmt: skip
    assert (told_asked["tempo_bpm"], told_asked["key"], told_asked["genre"]) == ("92.5", "D minor", "jazz")
    assert (nameless["title"], nameless["display_artist"]) == ("7", "")


def test_kept_columns_stand_behind_the_others_and_fill_the_isrc(catalog):
    [track] = catalog.add({"seed": 1})
    row = {"title": "T", "row_id": None, "requested_by": "ann", "job_id": "job-1", "line": 2}
    kept = [[("ISRC", "DE-A01-26-00001"), ("=label", "=1+1")], None, [("note", "two\nlines"), ("title", "other")]]
    rows = [Delivered(f"{n}.flac", row | {"kept": cell}, track.record) for n, cell in enumerate(kept)]

    table = list(csv.reader(io.StringIO(tracks_csv(rows).decode("utf-8-sig"), newline="")))
    told = [dict(zip(table[0], cells, strict=True)) for cells in table[1:]]

    assert table[0][len(CSV_COLUMNS) :] == ["kept: =label", "kept: ISRC", "kept: note", "kept: title"]
    assert [line["isrc"] for line in told] == ["DE-A01-26-00001", "", ""]
    assert [line["kept: =label"] for line in told] == ["'=1+1", "", ""]
    assert (told[2]["kept: note"], told[2]["kept: title"], told[2]["title"]) == ("two lines", "other", "T")
    assert not any(cell.startswith(FORMULA) for cells in table for cell in cells)


def test_the_document_s_table_of_columns_is_that_of_the_code():
    section = (
        (ROOT / "docs" / "catalogs.md").read_text("utf-8").split("## Get the files out", 1)[1].split("\n## ", 1)[0]
    )
    table = section.split("| column of `tracks.csv`", 1)[1].split("\n\n", 1)[0]
    told = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.MULTILINE))

    assert told == CSV_COLUMNS and list(told) == list(CSV_COLUMNS)
