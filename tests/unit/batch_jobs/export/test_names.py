"""File names that every system can hold, whatever a catalog's titles are, and that no two tracks share."""

import random
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_jobs.export.names import COLUMNS, MAX_PART_BYTES, Template, collision_key, name_tracks
from batch_jobs.ledger.tables import TRACKS_SCHEMA
from orchestrion.errors import InvalidRequest
from orchestrion.storage.object_store import is_key
from tests.unit.batch_jobs.sample_ledger import any_row

PLAIN = Template.parse("{title|row_id}-{seed}.{format}")
TITLE = Template.parse("{title}.{format}")
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10))}


def row(title=None, number=1, **values):
    """A track's row; its id is made of its number."""
    digits = [ALPHABET[number // 32**place % 32] for place in range(32)]
    known = {"title": title, "seed": 7, "format": "flac", "job_id": "job-1", "line": number}
    return any_row(TRACKS_SCHEMA, **known | {"track_id": "trk_" + "".join(digits)} | values)


def windows_takes(part):
    return (
        not set('<>:"/\\|?*') & set(part)
        and not part.endswith((" ", "."))
        and part.split(".")[0].rstrip().upper() not in DEVICES
        and all(ord(letter) >= 32 for letter in part)
    )


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Für Elise", "Für Elise-7.flac"),
        ("Fu\u0308r Elise", "Für Elise-7.flac"),
        ("../../x", "_.._.._x-7.flac"),
        ("..\\..\\x", "_.._.._x-7.flac"),
        (".hidden", "_.hidden-7.flac"),
        ("-rf", "_-rf-7.flac"),
        ("# 1 hit", "_# 1 hit-7.flac"),
        ("a\0b\nc\td", "a b c d-7.flac"),
        ("invoice\u202ecalf.exe", "invoicecalf.exe-7.flac"),
        ("\u200fשיר", "שיר-7.flac"),
        ("=cmd|' /C calc'!A0", "=cmd_' _C calc'!A0-7.flac"),
        ("🎹 night", "🎹 night-7.flac"),
        ("a \u00a0\u3000 b", "a b-7.flac"),
        ("\ud800", "_-7.flac"),
        ("  ", "row 9-7.flac"),
        ("\u200f", "row 9-7.flac"),
        (None, "row 9-7.flac"),
    ],
)
def test_a_title_becomes_a_name(title, name):
    assert PLAIN.name(row(title, row_id="row 9")) == name


@pytest.mark.parametrize("title", ["CON", "con", "Aux.mix", "COM1", "LPT9 .x", "COM¹", "CONIN$", "nul."])
def test_a_device_of_windows_is_no_name(title):
    name = TITLE.name(row(title))

    assert name.startswith("_") and windows_takes(name)


def test_what_has_no_title_and_no_id_is_untitled():
    assert PLAIN.name(row()) == "untitled-7.flac"
    assert Template.parse("{style}/{title}.{format}").name(row("...")) == "untitled/untitled.flac"


@pytest.mark.parametrize("letter", ["x", "é", "漢", "🎹"])
def test_a_long_title_is_cut_and_what_follows_it_stays(letter):
    name = PLAIN.name(row(letter * 300, seed=2**53 - 1))

    assert MAX_PART_BYTES - 4 <= len(name.encode()) <= MAX_PART_BYTES
    assert name.endswith(f"{letter}-{2**53 - 1}.flac")


def test_columns_are_written_as_people_would():
    moment = datetime(2026, 11, 22, 15, 50, tzinfo=UTC)
    values = {"duration_s": 30.0, "tempo_bpm": 92.5, "commercial_use": True, "settled_at": moment, "key": "F# dorian"}
    template = Template.parse("{key}/{settled_at}_{duration_s}_{tempo_bpm}_{commercial_use}.{format}")

    assert template.name(row(**values)) == "F# dorian/2026-11-22T155000Z_30_92.5_true.flac"


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{titel}-{seed}.{format}", "is no column of a track; there are job_id, run_id, line, row_id, title"),
        ("{title|nonsense}.{format}", "is no column of a track"),
        ("{}.{format}", "is no column of a track"),
        ("{caller_salt}.{format}", "is no column of a track"),
        ("{findings}.{format}", "is no column of a track"),
        ("{title}", "must end in .{format}"),
        ("{title}.wav", "must end in .{format}"),
        ("../{title}.{format}", "without a name"),
        ("/{title}.{format}", "without a name"),
        ("{style}//{title}.{format}", "without a name"),
        ("a:b-{title}.{format}", "has :"),
        ("{title.{format}", "has {"),
        ("a\u200fb{title}.{format}", "cannot be seen"),
        ("{style}/{mood}/{key}/{model}/{title}.{format}", "more than 3 folders"),
        ("x" * 101 + "{title}.{format}", "more than 100 bytes"),
    ],
)
def test_a_template_that_makes_no_good_names_is_refused(template, complaint):
    with pytest.raises(InvalidRequest) as refused:
        Template.parse(template)

    assert complaint in str(refused.value)


def test_a_refusal_lists_every_column_that_may_be_named():
    with pytest.raises(InvalidRequest) as refused:
        Template.parse("{nonsense}.{format}")

    assert all(name in str(refused.value) for name in COLUMNS)


def test_equal_titles_are_told_apart_by_their_tracks():
    first, second, other = row("Song", 1), row("Song", 2), row("Another", 3)

    names = name_tracks(PLAIN, [first, second, other])

    assert names == {"Song-7-baaaaaaa.flac": first, "Song-7-caaaaaaa.flac": second, "Another-7.flac": other}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Song", "SONG"),
        ("straße", "STRASSE"),
        ("Ærø", "ærø"),
        ("ﬁn", "fin"),
        ("x/y", "x:y"),
        ("a.", "a"),
        ("a\u200f", "a"),
    ],
)
def test_what_some_systems_take_for_one_name_is_a_collision(one, two):
    names = name_tracks(TITLE, [row(one, 1), row(two, 2)])

    assert len({collision_key(name) for name in names}) == 2
    assert all(name.endswith(("-baaaaaaa.flac", "-caaaaaaa.flac")) for name in names)


def test_a_folder_in_other_letters_is_the_same_folder():
    template = Template.parse("{style}/{title}.{format}")

    names = name_tracks(template, [row("a", 1, style="Jazz"), row("a", 2, style="jazz")])

    assert len({collision_key(name) for name in names}) == 2


def test_a_folder_never_takes_the_place_of_the_table():
    assert Template.parse("{style}/{title}.{format}").name(row("a", style="Tracks.csv")) == "_Tracks.csv/a.flac"


def test_ids_that_begin_alike_are_told_apart_by_all_of_them():
    alike = [row("Song", 1), row("Song", 1 + 32**20)]

    assert len(name_tracks(TITLE, alike)) == 2
    assert all(len(name) == len("Song-.flac") + 32 for name in name_tracks(TITLE, alike))


def test_a_title_that_looks_like_another_s_suffix_does_not_take_its_name():
    rows = [row("Song", 1), row("Song", 2), row("Song-baaaaaaa", 3), row(f"Song-{'b' + 'a' * 31}", 4)]

    names = name_tracks(TITLE, rows)

    assert len({collision_key(name) for name in names}) == 4


def test_rows_of_one_track_with_one_name_share_a_file():
    first, again, in_capitals = row("Song", 1, line=1), row("Song", 1, line=2), row("SONG", 1, line=3)

    assert list(name_tracks(TITLE, [again, first])) == ["Song.flac"]
    assert name_tracks(TITLE, [again, first])["Song.flac"] is first
    assert list(name_tracks(TITLE, [first, in_capitals])) == ["SONG.flac"]
    assert set(name_tracks(TITLE, [first, row("Other", 1)])) == {"Song.flac", "Other.flac"}


def test_names_do_not_depend_on_the_order_of_rows():
    dice = random.Random(3)
    titles = ["Song", "song", "SONG ", "Song-baaaaaaa", "Other", None, "CON", "con", "_CON", "x" * 300, "x" * 301]
    rows = [row(dice.choice(titles), dice.randrange(60), line=line) for line in range(200)]
    names = name_tracks(TITLE, rows)

    for _ in range(5):
        dice.shuffle(rows)
        assert name_tracks(TITLE, rows) == names
        assert list(name_tracks(TITLE, rows)) == list(names)


@given(st.lists(st.tuples(st.text(max_size=400), st.text(max_size=20)), min_size=1, max_size=6))
def test_any_title_gives_a_name_that_every_system_holds(titles):
    template = Template.parse("{style}/{title|row_id}-{seed}.{format}")
    rows = [row(title, number, style=style) for number, (title, style) in enumerate(titles)]

    names = name_tracks(template, rows)

    assert len({collision_key(name) for name in names}) == len(titles)
    for name in names:
        assert is_key(name, readable=True) and unicodedata.is_normalized("NFC", name)
        assert len(name.split("/")) == 2
        for part in name.split("/"):
            assert windows_takes(part) and not part.startswith((".", "-", "~", "#"))
            assert len(part.encode()) <= MAX_PART_BYTES
