"""`orchestrion takedown` as an operator meets it: by what tracks came from, first without doing it."""

import argparse
import json

import pytest

from orchestrion.cli.arguments import add_storage_options
from orchestrion.cli.main import main
from orchestrion.storage.selection import prompt_sha256
from orchestrion.tracks.identity import piece_id_of
from tests.unit.storage.test_piece_takedown import forget_the_index
from tests.unit.storage.test_takedown import made, request

WHY = ("--reason", "claim 17", "--actor", "ann")


@pytest.fixture
def command(renderer, tmp_path, capsys):
    def run(*arguments):
        place = ("--store", renderer.store.url, "--signing-key", str(tmp_path / "key.pem"))
        return main(["takedown", *place, *arguments]), capsys.readouterr()

    return run


def ids_in(text):
    return {line.split(":")[0] for line in text.splitlines()}


def files_in(renderer, tmp_path):
    return {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}


@pytest.mark.parametrize("indexed", [True, False])
def test_a_dry_run_lists_what_would_go_and_writes_nothing(renderer, command, tmp_path, indexed):
    wav, mp3, other = made(renderer), made(renderer, format="mp3"), made(renderer, "another", seed=1)
    if not indexed:
        forget_the_index(renderer)
    before = files_in(renderer, tmp_path)
    piece = piece_id_of(wav.record)

    for conditions in (
        ["--prompt", "a tone"], ["--prompt-sha256", prompt_sha256("a tone")], ["--piece", piece], [piece],
        [mp3.track_id], ["--model-revision", "sha256:tone-1", "--prompt", " a tone "],
    ):  # fmt: skip
        code, said = command("--dry-run", *conditions)
        assert (code, ids_in(said.out)) == (0, {wav.track_id, mp3.track_id})
        assert "2 tracks of 1 pieces would be withdrawn; nothing was done" in said.err
        assert all(f"{piece}, model tone-1, prompt " in line for line in said.out.splitlines())
    assert ids_in(command("--dry-run", "--track-only", mp3.track_id)[1].out) == {mp3.track_id}
    assert files_in(renderer, tmp_path) == before
    assert made(renderer, "another", seed=1).track_id == other.track_id


def test_what_was_selected_goes_with_its_pieces_and_nothing_else(renderer, command):
    theme = renderer.store.put_theme(b"MThd a theme")
    with_theme = made(renderer, theme=theme, requester="ann")
    same_piece = made(renderer, theme=theme, format="mp3", requester="ben")
    made(renderer, seed=1)

    code, said = command("--reference", theme, "--requester", "ann", *WHY)

    assert code == 0 and ids_in(said.out) == {
        with_theme.track_id, same_piece.track_id, piece_id_of(with_theme.record),
    }  # fmt: skip
    assert renderer.render(request(theme=theme, format="ogg")).code == "withdrawn"
    assert made(renderer, seed=1).cache_hit
    code, said = command("--dry-run", "--reference", theme)
    assert said.out.count(", already withdrawn") == 2
    assert command("--reference", "sha256:" + "0" * 64, *WHY)[0] == 0


def test_an_unknown_revision_is_an_error_and_not_silence(renderer, command):
    made(renderer)

    code, said = command("--model-revision", "tone-2", *WHY)

    assert code == 2 and "is the revision of no track; the nearest are tone-1" in said.err


def test_an_index_is_made_for_an_older_store_by_one_command(renderer, command):
    tracks = [made(renderer, seed=seed) for seed in range(3)]
    forget_the_index(renderer)

    code, said = command("--reindex")

    assert code == 0 and "the records of 3 tracks were read" in said.out
    assert renderer.tracks.index_is_whole
    assert {one.track_id for one in renderer.store.index.all()} == {track.track_id for track in tracks}
    assert "the records of 0 tracks" in command("--reindex")[1].out


@pytest.mark.parametrize(
    "options, said",
    [
        ({"secret": "s3cret"}, "must not stand on a command line"),
        ({"token": ["s3cret"]}, "must not stand on a command line"),
        ({"secret": {"env": "NO_SUCH_VARIABLE"}}, "the variable NO_SUCH_VARIABLE is not set"),
        ({"secret": {"file": "/no/such/file"}}, "cannot be read"),
        (["s3cret"], "is not a JSON object"),
    ],
)
def test_a_secret_is_named_and_never_shown(command, capsys, options, said):
    with pytest.raises(SystemExit) as ended:
        command("--storage-options", json.dumps(options), "--dry-run", "pce_" + "a" * 32)

    told = capsys.readouterr().err
    assert ended.value.code == 2 and said in told and "s3cret" not in told


def test_a_secret_is_taken_from_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("STORE_SECRET", "from the environment")
    (tmp_path / "token").write_text("from a file\n")
    options = {"key": "k", "secret": {"env": "STORE_SECRET"}, "token": {"file": str(tmp_path / "token")}}

    parser = argparse.ArgumentParser()
    add_storage_options(parser)
    given = parser.parse_args(["--storage-options", json.dumps(options)])
    assert given.storage_options == {
        "key": "k", "secret": "from the environment", "token": "from a file",
    }  # fmt: skip
