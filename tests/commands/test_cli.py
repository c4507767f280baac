"""The command as a user at a terminal meets it; the model is the real composer, on a few seconds of music."""

import io
import json
import shutil
import stat

import pytest

from orchestrion.cli.main import main


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRION_SIGNING_KEY", str(tmp_path / "keys" / "mine.pem"))
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
    line, piece = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{track_id}: withdrawn on 2") and line.endswith("by ann: claim 17; 2 files deleted")
    assert piece.startswith("pce_") and piece.endswith("claim 17; with 1 track, and no other is made of it")
    assert list((here / "out" / "store" / "blobs").glob("*/*")) == []

    code, complaint = render(capsys)
    assert code == 1 and complaint.startswith("withdrawn at request: ")
    assert main(["verify", track_id]) == 1
    assert "by ann: claim 17 (key " in capsys.readouterr().err

    assert main(["takedown", "--from", "ids.txt", "--reason", "another", "--actor", "bob"]) == 0
    first, second, _ = capsys.readouterr().out.splitlines()
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
        (["render", "piano", "--exclude", "drums, doom"], "exclude.1: is not an instrument"),
        (["render", "piano", "--sections", "intro 8"], "write for example 'intro 8 s, verse 16 bars, outro'"),
        (["render", "piano", "--bars", "8", "--tempo-bpm", "120", "--duration-s", "60"], "8 bars of 4/4 at 120 bpm"),
        (["render", "piano", "--theme", "no-such.mid"], "theme: cannot be read"),
        (["render", "piano", "--continuation", "no-such.wav"], "continuation: cannot be read"),
        (["render", "piano", "--guidance", "4"], "guidance: composer cannot follow this"),
        (["takedown", "--reason", "x", "--actor", "y"], "ID: give ids"),
        (["takedown", "--actor", "y", "trk_" + "a" * 32], "--reason: is needed"),
        (["takedown", "--requester", "ann", "trk_" + "a" * 32], "--requester: give ids or conditions"),
        (["takedown", "--reindex", "trk_" + "a" * 32], "--reindex: withdraws nothing"),
        (["takedown", "--dry-run", "--reference", "theme.mid"], "reference: is not sha256:"),
        (["takedown", "--dry-run", "--model-revision", "4f1c"], "model_revision: is the revision of no track"),
        (["takedown", "--reason", "", "--actor", "y", "trk_1"], "reason: must be one line"),
        (["takedown", "--reason", "x", "--actor", "y", "--from", "no-such.txt"], "--from: cannot be read"),
        (["takedown", "--reason", "x", "--actor", "y", "trk_" + "a" * 32], "make a key with: orchestrion signing init"),
        (["render", "piano", "--signing-key", "s3://bucket/key.pem"], "keys are not read from URLs"),
        (["render", "piano", "--signing-key", "out/store/key.pem"], "is in the store"),
        (["render", "piano", "--trusted-keys", "out/store/keys"], "is in the store"),
        (["signing", "show"], "make a key with: orchestrion signing init"),
        (["verify"], "track: give a track id"),
        (["verify", "../../etc"], ""),
    ],
)
def test_what_is_wrong_is_said_in_words(here, capsys, arguments, complaint):
    if "signing init" not in complaint:
        assert main(["signing", "init"]) == 0
    assert main(arguments) in (1, 2)

    printed = capsys.readouterr()
    assert complaint in printed.err and "Traceback" not in printed.err


def test_styles_and_moods_are_listed(capsys):
    assert main(["styles"]) == 0
    assert "bossa-nova" in capsys.readouterr().out


def test_a_signing_key_is_made_shown_and_never_overwritten(here, capsys):
    assert main(["signing", "init", "--key", "keys/own.pem"]) == 0
    made = capsys.readouterr().out
    assert main(["signing", "show", "--key", "keys/own.pem"]) == 0
    shown = capsys.readouterr().out

    private, public = here / "keys" / "own.pem", here / "keys" / "own.pub.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    key_id = made.split()[2]
    for text in (made, shown):
        assert key_id in text and str(private) in text and str(public) in text
    assert "keep a copy" in made and "give it to all who are to verify" in made
    before = private.read_bytes()
    assert main(["signing", "init", "--key", "keys/own.pem"]) == 2
    assert "is there already; a key is never overwritten" in capsys.readouterr().err
    assert private.read_bytes() == before
    code, track = render(capsys, "--signing-key", "keys/own.pem")
    assert code == 0 and track["signed_by"] == key_id


def test_the_first_render_tells_of_the_key_that_it_makes(here, capsys):
    assert main(["render", "piano, 1 second"]) == 0
    first = capsys.readouterr()
    assert main(["render", "piano, 1 second"]) == 0

    assert f"made a signing key, {json.loads(first.out)['signed_by']}, in {here / 'keys' / 'mine.pem'}" in first.err
    assert capsys.readouterr().err == ""


def test_a_genuine_record_of_another_track_does_not_verify(here, capsys):
    track_id, other = render(capsys)[1]["track_id"], render(capsys, "--seed", "4")[1]["track_id"]
    folder, others = (here / "out/store/tracks" / one[4:6] / one for one in (track_id, other))
    shutil.copy(others / "000001.json", folder / "000002.json")
    capsys.readouterr()

    assert main(["verify", track_id]) == 1
    assert f"{track_id}, version 2: this is the record of another track, '{other}'" in capsys.readouterr().err
    assert main(["verify", track_id, "--record", str(others / "000001.json")]) == 1
    assert "the record of another track" in capsys.readouterr().err
    assert main(["verify", "--record", str(others / "000001.json")]) == 0
    assert main(["verify", other]) == 0
    # What is rendered next is the newest, and verifies.
    capsys.readouterr()
    code, again = render(capsys)
    assert (code, again["track_id"], again["cache_hit"]) == (0, track_id, False)
    assert main(["verify", track_id]) == 0


def test_an_empty_tombstone_is_none(here, capsys, caplog):
    track_id = render(capsys)[1]["track_id"]
    (here / "out/store/tracks" / track_id[4:6] / track_id / "withdrawn.json").touch()

    assert main(["verify", track_id]) == 0
    assert "is not withdrawn by what lies" in caplog.text
    capsys.readouterr()
    assert render(capsys)[1]["cache_hit"] is True


def test_whoever_verifies_needs_the_public_key_alone(here, capsys):
    track_id = render(capsys)[1]["track_id"]
    (here / "keys" / "mine.pem").rename(here / "away.pem")

    assert main(["verify", track_id]) == 0
    assert main(["verify", track_id, "--keys", "keys"]) == 0
