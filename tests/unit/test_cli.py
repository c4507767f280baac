"""The command as somebody at a terminal meets it; the model is the real composer, on a few seconds of music."""

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


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["render", "piano", "--tempo-bpm", "fast"], "tempo_bpm: "),
        (["render", "piano", "--theme", "no-such.mid"], "theme: cannot be read"),
        (["render", "piano", "--continuation", "no-such.wav"], "continuation: cannot be read"),
        (["render", "piano", "--guidance", "4"], "guidance: composer cannot follow this"),
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
