"""The command as somebody at a terminal meets it; the model is the real composer, on a few seconds of music."""

import io
import json

import pytest

from orchestrion.cli import main


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def render(capsys, *arguments):
    code = main(["render", "calm piano in C major, 2 seconds", "--format", "flac", *arguments])
    printed = capsys.readouterr()
    return code, json.loads(printed.out) if code == 0 else printed.err


def test_a_track_is_rendered_verified_and_found_again(here, capsys):
    code, track = render(capsys, "--output", "calm.flac", "--seed", "4")
    assert code == 0 and (here / "calm.flac").read_bytes()[:4] == b"fLaC"

    assert main(["verify", track["track_id"]]) == 0
    assert "belong together" in capsys.readouterr().out
    assert render(capsys, "--seed", "4")[1]["cache_hit"] is True

    audio = bytearray((here / "calm.flac").read_bytes())
    audio[-1] ^= 1
    (here / "forged.flac").write_bytes(audio)
    assert main(["verify", track["track_id"], "--audio", "forged.flac"]) == 1
    assert "SHA-256" in capsys.readouterr().err


def test_a_track_that_is_taken_down_is_not_made_again_and_verify_says_why(here, capsys, monkeypatch):
    track_id = render(capsys)[1]["track_id"]
    absent = "trk_" + "a" * 32
    (here / "ids.txt").write_text(f"{absent}\n\n {track_id} \n")
    why = ("--reason", "claim 17", "--actor", "ann")

    assert main(["takedown", track_id, *why]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{track_id}: withdrawn on 2") and line.endswith("by ann: claim 17; 2 files deleted")
    assert list((here / "out" / "store" / "blobs").glob("*/*")) == []

    code, complaint = render(capsys)
    assert code == 1 and complaint.startswith("withdrawn at request: ")
    assert main(["verify", track_id]) == 1
    assert "by ann: claim 17 (key " in capsys.readouterr().err

    assert main(["takedown", "--from", "ids.txt", "--reason", "another", "--actor", "bob"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{absent}: withdrawn on ") and first.endswith(
        "another; there was no such track, and there will be none"
    )
    assert second.startswith(f"{track_id}: already withdrawn on ") and second.endswith("claim 17; 0 files deleted")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{track_id}\n"))
    assert main(["takedown", "--from", "-", *why]) == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["render", "piano", "--tempo-bpm", "fast"], "tempo_bpm: "),
        (["render", "piano", "--theme", "no-such.mid"], "theme: cannot be read"),
        (["render", "piano", "--continuation", "no-such.wav"], "continuation: cannot be read"),
        (["render", "piano", "--guidance", "4"], "guidance: composer cannot follow this"),
        (["takedown", "--reason", "x", "--actor", "y"], "TRACK_ID: give track ids"),
        (["takedown", "--reason", "", "--actor", "y", "trk_1"], "reason: must be one line"),
        (["takedown", "--reason", "x", "--actor", "y", "--from", "no-such.txt"], "--from: cannot be read"),
        (["verify"], "track: give a track id"),
        (["verify", "../../etc"], ""),
    ],
)
def test_what_is_wrong_is_said_in_words(here, capsys, arguments, complaint):
    assert main(arguments) in (1, 2)

    printed = capsys.readouterr()
    assert complaint in printed.err and "Traceback" not in printed.err


def test_styles_and_moods_are_listed(capsys):
    assert main(["styles"]) == 0
    assert "bossa-nova" in capsys.readouterr().out
