"""Withdrawn tracks in a ledger: marked in its rows, in views and sums, and in no export."""

import math
from dataclasses import replace
from datetime import datetime
from importlib import resources

import duckdb
import pyarrow as pa
import pytest

from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.ledger.snapshot import TABLES
from batch_jobs.mark_withdrawn import main
from orchestrion.storage.takedown import take_down
from tests.unit.batch_jobs.export.exported import RenderedCatalog, files_in


@pytest.fixture
def catalog(tmp_path, renderer):
    return RenderedCatalog(tmp_path, renderer)


@pytest.fixture
def withdrawn(catalog):
    """Two jobs; a piece of two forms is withdrawn for one reason, a track of both jobs for another."""
    both, wav, _ = catalog.add({"seed": 1, "title": "a"}, {"seed": 2, "title": "b"}, {"seed": 3, "title": "c"})
    mp3, again = catalog.add({"seed": 2, "format": "mp3", "title": "d"}, {"seed": 1, "title": "e"})
    for track, reason in ((wav, "claim 17"), (both, "claim 18")):
        renderer = catalog.renderer
        take_down(renderer.tracks, renderer.signer, [track.track_id], reason=reason, actor="ann", clock=renderer.clock)
    assert again.track_id == both.track_id
    return {"claim 17": {wav.track_id, mp3.track_id}, "claim 18": {both.track_id}}


def mark(catalog, capsys):
    code = main(["--ledger", catalog.url, "--signing-key", str(catalog.root / "key.pem")], catalog.renderer.clock)
    return code, capsys.readouterr().out


def rows(catalog):
    return ledger_dataset(catalog.url, {}, "tracks").to_table().to_pylist()


def usd(row):
    return row["charged_usd"] if row["total_usd"] is None else row["total_usd"]


def test_rows_of_withdrawn_tracks_say_when_and_why(catalog, withdrawn, capsys):
    before = rows(catalog)
    assert {row["withdrawn_at"] for row in before} == {None}

    assert mark(catalog, capsys) == (0, "4 rows marked as withdrawn\n")

    after = rows(catalog)
    for row in after:
        reason = next((reason for reason, ids in withdrawn.items() if row["track_id"] in ids), None)
        assert row["withdrawn_reason"] == reason and (row["withdrawn_at"] is None) == (reason is None)
        if reason:
            tombstone = catalog.renderer.tracks.tombstone(row["track_id"])
            assert row["withdrawn_at"] == datetime.fromisoformat(tombstone.withdrawal.withdrawn_at)
    marks = {"withdrawn_at": None, "withdrawn_reason": None}
    order = lambda row: (row["job_id"], row["line"])  # noqa: E731
    assert sorted((row | marks for row in after), key=order) == sorted(before, key=order)


def test_run_again_it_commits_nothing_and_what_is_withdrawn_later_is_marked_then(catalog, withdrawn, capsys):
    mark(catalog, capsys)
    number = read_snapshot(catalog.url, {}).number

    assert mark(catalog, capsys) == (0, "0 rows marked as withdrawn\n")
    assert read_snapshot(catalog.url, {}).number == number
    first = rows(catalog)
    last = next(row["track_id"] for row in first if row["withdrawn_at"] is None)
    renderer = catalog.renderer
    take_down(renderer.tracks, renderer.signer, [last], reason="claim 19", actor="ann", clock=renderer.clock)
    assert mark(catalog, capsys)[1].startswith("1 rows")
    kept = {row["track_id"]: row for row in first if row["withdrawn_at"]}
    assert all(
        row["withdrawn_at"] == kept[row["track_id"]]["withdrawn_at"] for row in rows(catalog) if row["track_id"] in kept
    )


def test_the_views_tell_what_stands_and_what_was_withdrawn_for_what(catalog, withdrawn, capsys):
    mark(catalog, capsys)
    all_rows = rows(catalog)
    sums = {
        reason: math.fsum(usd(row) for row in all_rows if row["track_id"] in ids) for reason, ids in withdrawn.items()
    }

    connection = views(catalog)

    assert min(sums.values()) > 0
    assert connection.execute("FROM withdrawn_by_reason").fetchall() == [
        (reason, len(withdrawn[reason]), pytest.approx(sums[reason], rel=1e-12))
        for reason in sorted(withdrawn, key=lambda reason: (-sums[reason], reason))
    ]
    standing = {row["track_id"] for row in all_rows} - set().union(*withdrawn.values())
    assert {row[0] for row in connection.execute("SELECT track_id FROM standing_tracks").fetchall()} == standing


def test_the_views_are_there_in_a_ledger_that_knows_no_withdrawals(catalog, monkeypatch):
    older = pa.schema([field for field in TABLES["tracks"].schema if not field.name.startswith("withdrawn_")])
    monkeypatch.setitem(TABLES, "tracks", replace(TABLES["tracks"], schema=older))
    catalog.add({"seed": 1, "title": "a"})

    connection = views(catalog)

    assert connection.execute("SELECT count(*) FROM standing_tracks").fetchall() == [(1,)]
    assert connection.execute("FROM withdrawn_by_reason").fetchall() == []


def test_no_form_of_a_withdrawn_piece_is_exported(catalog, withdrawn):
    assert catalog.export("--midi") == 0

    assert {name for name in files_in(catalog.root / "files") if name.endswith((".flac", ".mp3", ".mid"))} == {
        "c-3.flac", "c-3.flac.mid",
    }  # fmt: skip


def test_a_mistyped_ledger_is_exit_code_2_and_is_not_made(tmp_path, capsys):
    assert main(["--ledger", str(tmp_path / "no"), "--signing-key", str(tmp_path / "key.pem")]) == 2
    assert "no ledger" in capsys.readouterr().err and not (tmp_path / "no").exists()


def views(catalog):
    connection = duckdb.connect()
    connection.execute("SET VARIABLE ledger = ?", [catalog.url])
    connection.execute((resources.files("batch_jobs.ledger") / "views.sql").read_text())
    return connection
