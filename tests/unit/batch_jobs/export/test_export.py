"""An export as whoever runs it finds it: which files are there, with which bytes, and what is said."""

import csv
import io
import json
import shutil

import pytest
import rfc8785

from batch_jobs.export.names import Template, name_tracks
from batch_jobs.export_catalog import main
from orchestrion.trust.signed_record import SignedRecord, verify
from orchestrion.trust.signing import Signer
from tests.fake_model import MIDI
from tests.unit.batch_jobs.export.exported import files_in

OWN = {"tracks.csv", "playlist.m3u8"}


def audio_of(catalog, track):
    return (catalog.root / "store" / track.record.audio_key).read_bytes()


def inodes(folder):
    """Which file each name is: one that was written again is another."""
    return {path.name: path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


def table(files):
    return list(csv.DictReader(io.StringIO(files["tracks.csv"].decode("utf-8-sig"), newline="")))


def test_tracks_are_files_under_their_titles_with_their_bytes(catalog, tmp_path, capsys):
    elise, other = catalog.add({"title": "Für Elise", "seed": 7}, {"row_id": "r/2", "seed": 8, "format": "mp3"})

    assert catalog.export() == 0

    files = files_in(tmp_path / "files")
    assert files.keys() == {"Für Elise-7.flac", "r_2-8.mp3"} | OWN
    assert files["Für Elise-7.flac"] == audio_of(catalog, elise)
    assert files["r_2-8.mp3"] == audio_of(catalog, other)
    printed = capsys.readouterr()
    assert f"2 of 2 tracks are in {tmp_path / 'files'}: 2 copied" in printed.out
    assert printed.err.splitlines()[0].startswith("export: reading") and "complete: 2/2" in printed.err


def test_run_again_it_copies_nothing(catalog, tmp_path, capsys):
    catalog.add({"title": "a", "seed": 1}, {"title": "b", "seed": 2})
    everything = ("--midi", "--sidecars", "json")
    assert catalog.export(*everything) == 0
    before, first = files_in(tmp_path / "files"), inodes(tmp_path / "files")
    capsys.readouterr()

    assert catalog.export(*everything) == 0

    after = inodes(tmp_path / "files")
    assert {name: after[name] for name in before} == {name: first[name] for name in before}
    assert "0 copied (0.0 MB), 2 there already" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["flac", "wav"])
@pytest.mark.parametrize("wrong", ["deleted", "cut", "a link"])
def test_a_file_that_was_lost_or_damaged_since_is_copied_again(catalog, tmp_path, wrong, form):
    catalog.add({"title": "a", "seed": 1, "format": form})
    assert catalog.export() == 0
    file = tmp_path / "files" / f"a-1.{form}"
    whole = file.read_bytes()
    file.unlink()
    if wrong == "cut":
        file.write_bytes(whole[:-1])
    elif wrong == "a link":
        (tmp_path / "theirs").write_bytes(b"theirs")
        file.symlink_to(tmp_path / "theirs")

    assert catalog.export() == 0

    assert file.read_bytes() == whole and not file.is_symlink()
    assert wrong != "a link" or (tmp_path / "theirs").read_bytes() == b"theirs"


def test_a_changed_title_renames(catalog, tmp_path, capsys):
    catalog.add({"title": "Old", "seed": 1}, {"title": "Same", "seed": 2})
    assert catalog.export("--midi", "--sidecars", "json") == 0
    stays = inodes(tmp_path / "files")["Same-2.flac"]
    catalog.add({"title": "New", "seed": 1}, {"title": "Same", "seed": 2})
    capsys.readouterr()

    assert catalog.export("--midi", "--sidecars", "json") == 0

    tracks = {f"{name}{ending}" for name in ("New-1.flac", "Same-2.flac") for ending in ("", ".mid", ".json")}
    assert files_in(tmp_path / "files").keys() == tracks | OWN
    assert inodes(tmp_path / "files")["Same-2.flac"] == stays
    assert "3 files removed:\n  Old-1.flac\n" in capsys.readouterr().out


def test_titles_that_change_places_change_files(catalog, tmp_path):
    one, two = catalog.add({"title": "A", "seed": 1}, {"title": "B", "seed": 2})
    template = ("--name", "{title}.{format}")
    assert catalog.export(*template) == 0
    catalog.add({"title": "B", "seed": 1}, {"title": "A", "seed": 2})

    assert catalog.export(*template) == 0

    files = files_in(tmp_path / "files")
    assert files.keys() == {"A.flac", "B.flac"} | OWN
    assert (files["A.flac"], files["B.flac"]) == (audio_of(catalog, two), audio_of(catalog, one))


def test_a_title_in_other_letters_leaves_one_file(catalog, tmp_path):
    catalog.add({"title": "song", "seed": 1})
    assert catalog.export() == 0
    catalog.add({"title": "SONG", "seed": 1})

    assert catalog.export() == 0

    assert files_in(tmp_path / "files").keys() == {"SONG-1.flac"} | OWN


def test_equal_titles_are_two_files_each_with_its_own_track(catalog, tmp_path):
    made = catalog.add({"title": "Song", "seed": 1}, {"title": "song", "seed": 2}, {"title": "SONG ", "seed": 3})

    assert catalog.export("--name", "{title}.{format}") == 0

    files = files_in(tmp_path / "files")
    of_tracks = {name: files[name] for name in files.keys() - OWN}
    assert len({name.lower() for name in of_tracks}) == 3
    assert set(of_tracks.values()) == {audio_of(catalog, track) for track in made}
    for track in made:
        [name] = [name for name in of_tracks if track.track_id[4:12] in name]
        assert of_tracks[name] == audio_of(catalog, track)


@pytest.mark.parametrize(
    "title",
    [
        "../../x",
        "CON",
        "🎹" * 80,
        "x" * 300,
        "a\u202eb\u200f",
        "=cmd|'/C calc'!A0",
        "/etc/passwd",
        "C:\\x",
        "-rf *",
        "~",
    ],
)
def test_a_hostile_title_stays_below_the_destination(catalog, tmp_path, title):
    [made] = catalog.add({"title": title, "seed": 1})
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "files")}

    assert catalog.export("--sidecars", "json") == 0

    files = files_in(tmp_path / "files")
    [name] = [name for name in files if name.endswith(".flac")]
    assert files.keys() == {name, f"{name}.json"} | OWN
    assert files[name] == audio_of(catalog, made)
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "files")} == before
    [row] = table(files)
    assert not row["title"].startswith(tuple("=+-@\t\r"))


def test_what_is_damaged_is_not_exported_and_is_said(catalog, tmp_path, capsys):
    damaged, sound = catalog.add({"title": "bad", "seed": 1}, {"title": "good", "seed": 2})
    catalog.damage(damaged)

    assert catalog.export() == 5

    assert files_in(tmp_path / "files").keys() == {"good-2.flac"} | OWN
    assert [row["track_id"] for row in table(files_in(tmp_path / "files"))] == [sound.track_id]
    printed = capsys.readouterr()
    assert "export: failed: bad-1.flac: verification-failed: " in printed.err
    assert "1 of 2 tracks" in printed.out and "1 could not be exported" in printed.out


def test_what_is_damaged_since_leaves_the_copy_that_was_verified(catalog, tmp_path):
    [track] = catalog.add({"title": "Old", "seed": 1})
    whole = audio_of(catalog, track)
    assert catalog.export() == 0
    catalog.damage(track)
    # Nothing has to be copied, so nothing is missing.
    assert catalog.export() == 0
    rows = catalog.ledger.dataset("tracks").to_table().to_pylist()
    catalog.commit("job-9", [row | {"job_id": "job-9", "title": "New"} for row in rows], catalog.renderer.store.url)

    assert catalog.export("--job", "job-9") == 5

    assert files_in(tmp_path / "files")["Old-1.flac"] == whole
    assert "New-1.flac" not in files_in(tmp_path / "files")


@pytest.mark.parametrize("forged", ["by a stranger", "of another track"])
def test_a_record_that_does_not_verify_is_not_exported(catalog, tmp_path, forged):
    track, other = catalog.add({"title": "a", "seed": 1}, {"title": "b", "seed": 2})
    store = tmp_path / "store" / "tracks"
    record = store / track.track_id[4:6] / track.track_id / "000001.json"
    if forged == "by a stranger":
        record.write_bytes(Signer.create(tmp_path / "stranger.pem").sign(track.record).to_bytes())
    else:
        shutil.copy(store / other.track_id[4:6] / other.track_id / "000001.json", record)

    assert catalog.export() == 5

    assert files_in(tmp_path / "files").keys() == {"b-2.flac"} | OWN


def test_a_ledger_that_names_a_track_as_its_record_does_not_is_not_believed(catalog, tmp_path, capsys):
    catalog.add({"title": "a", "seed": 1})
    rows = catalog.ledger.dataset("tracks").to_table().to_pylist()
    catalog.commit("job-9", [row | {"job_id": "job-9", "seed": 99} for row in rows], catalog.renderer.store.url)

    assert catalog.export("--job", "job-9") == 5

    assert files_in(tmp_path / "files").keys() == OWN
    assert "the ledger's seed is not that of the signed record" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["withdraw", "hold"])
def test_what_nobody_is_given_is_not_exported(catalog, tmp_path, capsys, how):
    refused, _ = catalog.add({"title": "no", "seed": 1}, {"title": "yes", "seed": 2})
    getattr(catalog, how)(refused)

    assert catalog.export() == 0

    assert files_in(tmp_path / "files").keys() == {"yes-2.flac"} | OWN
    assert "1 are withdrawn or on hold" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["withdraw", "hold"])
def test_what_was_exported_before_is_listed_and_goes_with_delete(catalog, tmp_path, capsys, how):
    refused, _ = catalog.add({"title": "no", "seed": 1}, {"title": "yes", "seed": 2})
    everything = ("--midi", "--sidecars", "json")
    assert catalog.export(*everything) == 0
    getattr(catalog, how)(refused)
    capsys.readouterr()

    assert catalog.export(*everything) == 5
    listed = capsys.readouterr().out
    assert "3 files of tracks that are withdrawn or on hold, still there" in listed and "\n  no-1.flac\n" in listed
    left = files_in(tmp_path / "files")
    assert "no-1.flac" in left and "no-1" not in left["playlist.m3u8"].decode() and len(table(left)) == 1

    assert catalog.export(*everything, "--delete") == 0
    yes = {f"yes-2.flac{ending}" for ending in ("", ".mid", ".json")}
    assert files_in(tmp_path / "files").keys() == yes | OWN
    assert "no-1" not in (tmp_path / "files/.orchestrion/export.json").read_text()
    assert catalog.export(*everything) == 0


def test_what_is_not_in_this_export_is_listed_and_goes_with_delete(catalog, tmp_path, capsys):
    catalog.add({"title": "a", "seed": 1})
    catalog.add({"title": "b", "seed": 2})
    assert catalog.export() == 0
    (tmp_path / "files" / "mine.txt").write_text("mine")
    capsys.readouterr()

    assert catalog.export("--job", "job-2") == 0
    assert "1 files of tracks that are not in this export, still there" in capsys.readouterr().out
    assert catalog.export("--job", "job-2", "--delete") == 0

    assert files_in(tmp_path / "files").keys() == {"b-2.flac", "mine.txt"} | OWN


@pytest.mark.parametrize("theirs", ["a-1.flac", "a-1.flac.json"])
def test_a_file_of_somebody_else_is_never_written_over(catalog, tmp_path, capsys, theirs):
    catalog.add({"title": "a", "seed": 1}, {"title": "b", "seed": 2})
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / theirs).write_bytes(b"mine")

    assert catalog.export("--sidecars", "json") == 5
    assert catalog.export("--sidecars", "json", "--delete") == 5

    assert files_in(tmp_path / "files")[theirs] == b"mine"
    assert "b-2.flac" in files_in(tmp_path / "files")
    assert "is no file of an export" in capsys.readouterr().err


@pytest.mark.parametrize("theirs", sorted(OWN))
def test_a_table_of_somebody_else_stops_the_export_before_it_writes(catalog, tmp_path, theirs):
    catalog.add({"title": "a", "seed": 1})
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / theirs).write_bytes(b"mine")

    assert catalog.export() == 2
    assert files_in(tmp_path / "files") == {theirs: b"mine"}


def test_without_its_manifest_an_export_knows_its_tracks_by_their_bytes(catalog, tmp_path, capsys):
    catalog.add({"title": "a", "seed": 1})
    assert catalog.export() == 0
    for name in (".orchestrion/export.json", "tracks.csv", "playlist.m3u8"):
        (tmp_path / "files" / name).unlink()
    capsys.readouterr()

    assert catalog.export() == 0
    assert "0 copied" in capsys.readouterr().out


def test_the_sidecar_is_a_record_that_verifies_and_tells_nothing_of_its_caller(catalog, tmp_path):
    kept = {"isrc": "DE-A01-26-00001", "note": "=1\n2"}
    catalog.add({"title": "A \u202e title", "row_id": "7", "seed": 1, "requester": "studio-3", "kept": kept})

    assert catalog.export("--sidecars", "json", "--name", "{model}/{seed}.{format}") == 0

    text = files_in(tmp_path / "files")["tone/1.flac.json"]
    told = json.loads(text)
    [listed] = table(files_in(tmp_path / "files"))
    assert (listed["isrc"], listed["kept: note"]) == ("DE-A01-26-00001", "'=1 2")
    assert {name: told[name] for name in ("file", "title", "row_id", "kept")} == {
        "kept": kept,
        "file": "1.flac",
        "title": "A \u202e title",
        "row_id": "7",
    }
    assert b"studio-3" not in text and told["signed"].keys() == {"record", "signature"}
    signed = SignedRecord.from_bytes(rfc8785.dumps(told["signed"]))
    verify(signed, (tmp_path / "files/tone/1.flac").read_bytes(), catalog.renderer.trusted_keys)


def test_scores_go_out_when_they_are_asked_for_and_go_when_they_are_not(catalog, tmp_path):
    catalog.add({"title": "a", "seed": 1})
    assert catalog.export("--midi") == 0
    assert files_in(tmp_path / "files")["a-1.flac.mid"] == MIDI

    assert catalog.export() == 0
    assert "a-1.flac.mid" not in files_in(tmp_path / "files")


def test_the_playlist_names_what_a_player_finds_beside_it(catalog, tmp_path):
    catalog.add({"title": "Für\nElise", "seed": 1}, {"row_id": "r2", "seed": 2, "duration_s": 3})

    assert catalog.export("--name", "{model}/{title|row_id}.{format}") == 0

    files = files_in(tmp_path / "files")
    lines = files["playlist.m3u8"].decode().splitlines()
    assert lines == ["#EXTM3U", "#EXTINF:2,Für Elise", "tone/Für Elise.flac", "#EXTINF:3,r2", "tone/r2.flac"]
    assert all(name in files for name in lines if not name.startswith("#"))


def test_the_limit_counts_rows_from_the_first(catalog, tmp_path):
    catalog.add(*({"title": f"t{seed}", "seed": seed} for seed in range(4)))

    assert catalog.export("--limit", "2") == 0
    assert files_in(tmp_path / "files").keys() == {"t0-0.flac", "t1-1.flac"} | OWN


def test_a_ledger_that_moved_with_its_store_is_found(catalog, tmp_path):
    catalog.add({"title": "a", "seed": 1}, store=str(tmp_path / "elsewhere"))
    assert catalog.export() == 2
    assert not (tmp_path / "elsewhere").exists(), "a store that is not there was made"
    (tmp_path / "store").rename(tmp_path / "ledger" / "store")

    assert catalog.export() == 0
    assert "a-1.flac" in files_in(tmp_path / "files")
    # What is named is meant.
    assert catalog.export("--store", str(tmp_path / "elsewhere")) == 2


def test_the_public_key_is_enough(catalog, tmp_path, capsys):
    catalog.add({"title": "a", "seed": 1})
    (tmp_path / "key.pem").unlink()

    assert catalog.export() == 0
    (tmp_path / "key.pub.pem").rename(tmp_path / "theirs.pem")
    assert catalog.export() == 2
    assert "the keys whose records count with --trusted-keys" in capsys.readouterr().err
    assert catalog.export("--trusted-keys", str(tmp_path / "theirs.pem"), to=tmp_path / "again") == 0
    assert "a-1.flac" in files_in(tmp_path / "again")


@pytest.mark.parametrize("to", ["ledger", "store", "store/blobs", "."])
def test_a_destination_that_others_use_is_refused(catalog, tmp_path, capsys, to):
    catalog.add({"title": "a", "seed": 1})
    before = files_in(tmp_path)

    assert catalog.export(to=tmp_path / to) == 2

    assert "to: " in capsys.readouterr().err
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--job", "job-7"], "no job 'job-7'"),
        (["--ledger", "nowhere"], "no ledger"),
        (["--store", "nowhere"], "--store"),
    ],
)
def test_what_cannot_be_used_is_said(catalog, capsys, arguments, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    catalog.add({"title": "a", "seed": 1})

    assert catalog.export(*arguments) == 2
    assert said in capsys.readouterr().err


def test_a_manifest_that_is_none_stops_the_export(catalog, tmp_path, capsys):
    catalog.add({"title": "a", "seed": 1})
    manifest = tmp_path / "files/.orchestrion/export.json"
    manifest.parent.mkdir(parents=True)
    file = {"track_id": "", "sha256": None, "bytes": 0}
    for text in (
        "[]",
        '{"export_version": 2, "files": {}}',
        json.dumps({"export_version": 1, "files": {"../../key.pem": file}}),
        json.dumps({"export_version": 1, "files": {"a": file | {"track_id": "../x"}}}),
    ):
        manifest.write_text(text)
        assert catalog.export("--delete") == 2
        assert ".orchestrion/export.json" in capsys.readouterr().err


def test_progress_as_json_is_json_from_its_first_line_to_its_last(catalog, capsys):
    damaged, refused, _ = catalog.add(*({"title": f"t{seed}", "seed": seed} for seed in range(3)))
    catalog.damage(damaged)
    catalog.withdraw(refused)

    assert catalog.export("--progress", "json") == 5

    first, second, *_, last = lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (first["state"], first["left_s"]) == ("reading", None)
    assert (second["state"], second["tracks"]) == ("copying", 3)
    counted = {"state": "complete", "tracks": 3, "copied": 1, "there": 0, "withheld": 1, "failed": 1, "exit_code": 5}
    assert counted.items() <= last.items() and last["bytes"] > 0
    assert any("verification-failed" in line.get("note", "") for line in lines)


def test_an_unknown_column_is_refused_with_the_list(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--ledger", "l", "--to", "t", "--name", "{nonsense}.{format}"])

    assert ended.value.code == 2
    assert "is no column of a track; there are job_id, run_id, line, row_id, title" in capsys.readouterr().err


def test_a_track_of_two_rows_is_one_file_for_each_of_its_names(catalog, tmp_path):
    rows = [{"title": title, "seed": 1} for title in ("a", "a", "b")]
    [track, *_] = catalog.add(*rows)

    assert catalog.export() == 0

    files = files_in(tmp_path / "files")
    assert files.keys() == {"a-1.flac", "b-1.flac"} | OWN
    assert files["a-1.flac"] == files["b-1.flac"] == audio_of(catalog, track)
    tracks = catalog.ledger.dataset("tracks").to_table().to_pylist()
    assert len(name_tracks(Template.parse("{title}-{seed}.{format}"), tracks)) == 2
