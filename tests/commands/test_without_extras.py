"""The command where only the client's extra is installed, and rendering at a service."""

import json
import os
import subprocess
import sys

import pytest

from orchestrion.cli.main import COMMANDS, main
from orchestrion.client import client as client_module
from tests.ingress_app import Service
from tests.test_imports import ROOT, WITHOUT
from tests.unit.client.service import InProcess

#: What a client does not install. A program that imports httpx may well have them all the same.
RENDER_ONLY = {"numpy", "scipy", "soundfile", "soxr", "fsspec", "s3fs", "aiohttp", "botocore", "prometheus_client"}


def command_without(refused, *arguments, folder):
    """The command in a process of its own, where these packages cannot be imported."""
    script = WITHOUT.format(refused=sorted(refused))
    script += f"from orchestrion.cli.main import main\nsys.exit(main({list(arguments)!r}))"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ORCHESTRION_SIGNING_KEY": str(folder / "mine.pem")}
    return subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def service(tmp_path):
    return Service(tmp_path)


@pytest.fixture
def files(service, tmp_path):
    """Audio, record and public key of a track, as a service gave them."""
    track_id = service.make(format="flac")["id"]
    (tmp_path / "a.flac").write_bytes(service.get(f"/v1/tracks/{track_id}/audio").content)
    (tmp_path / "a.json").write_bytes(service.get(f"/v1/tracks/{track_id}/provenance").content)
    return track_id


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_says_what_it_takes(name, tmp_path):
    done = command_without(RENDER_ONLY, name, "--help", folder=tmp_path)

    assert done.returncode == 0, done.stderr
    assert f"usage: orchestrion {name}" in done.stdout


@pytest.mark.parametrize("wrong", [[], ["no-such-command"], ["render"]])
def test_a_wrong_call_is_explained(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        main(wrong)

    assert ended.value.code == 2
    assert "usage: orchestrion" in capsys.readouterr().err


def test_files_are_verified_with_the_client_alone(files, tmp_path):
    arguments = ("verify", "--record", "a.json", "--audio", "a.flac", "--keys", "key.pub.pem")
    good = command_without(RENDER_ONLY, *arguments, folder=tmp_path)
    audio = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(audio[:-1] + bytes([audio[-1] ^ 1]))
    forged = command_without(RENDER_ONLY, *arguments, folder=tmp_path)

    assert (good.returncode, good.stderr) == (0, "") and files in good.stdout
    assert forged.returncode == 1 and "SHA-256" in forged.stderr


@pytest.mark.parametrize(
    ("refused", "arguments", "extra"),
    [
        (RENDER_ONLY, ("render", "piano"), "render"),
        (RENDER_ONLY, ("takedown", "trk_1", "--reason", "r", "--actor", "a"), "render"),
        (RENDER_ONLY, ("verify", "trk_1", "--keys", "key.pub.pem"), "render"),
        ({"httpx"}, ("render", "piano", "--server", "http://localhost"), "client"),
        ({"torch"}, ("render", "piano", "--model", "checkpoint/small"), "musicgen"),
    ],
)
def test_what_is_not_installed_is_named_with_the_way_to_get_it(service, tmp_path, refused, arguments, extra):
    (tmp_path / "checkpoint" / "small").mkdir(parents=True)

    done = command_without(refused, *arguments, folder=tmp_path)

    assert done.returncode == 2, done.stderr
    assert f"needs orchestrion[{extra}]" in done.stderr and f"pip install 'orchestrion[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_pip_does_not_bring_with_an_extra_is_named_too(tmp_path):
    done = command_without({"tinysoundfont"}, "render", "piano", folder=tmp_path)

    assert (done.returncode, "pip install --no-deps tinysoundfont" in done.stderr) == (2, True)


@pytest.fixture
def at_the_service(service, monkeypatch):
    """The command's client talks to the app in this process."""
    http = client_module.httpx.Client
    monkeypatch.setattr(
        client_module.httpx, "Client", lambda **options: http(**options | {"transport": InProcess(service.app)})
    )
    return ["render", "calm", "--server", "http://localhost", "--duration-s", "1", "--sample-rate-hz", "8000"]


def test_a_service_renders_and_its_audio_is_verified(service, at_the_service, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert main([*at_the_service, "--trusted-keys", "key.pub.pem", "--output", "calm.wav"]) == 0

    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert printed.err == ""
    assert (told["cache_hit"], told["audio"], told["signed_by"]) == (False, "calm.wav", service.renderer.signer.key_id)
    assert (tmp_path / "calm.wav").read_bytes() == service.get(f"/v1/tracks/{told['track_id']}/audio").content
    assert not (tmp_path / "mine.pem").exists(), "a client that renders elsewhere needs no key"


def test_without_trusted_keys_it_is_said_that_nothing_was_verified(at_the_service, capsys):
    assert main(at_the_service) == 0

    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told["audio"] == f"http://localhost/v1/tracks/{told['track_id']}/audio"
    assert "nothing was verified" in printed.err


def test_a_stranger_s_track_is_refused(at_the_service, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["signing", "init", "--key", "other.pem"]) == 0

    assert main([*at_the_service, "--trusted-keys", "other.pub.pem", "--output", "calm.wav"]) == 1

    assert "not trusted here" in capsys.readouterr().err
    assert not (tmp_path / "calm.wav").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint", "code"),
    [
        (["--tempo-bpm", "fast"], "tempo_bpm: ", 2),
        (["--theme", "no-such.mid"], "theme: cannot be read", 2),
        (["--model", "other"], "model: ", 2),
        (["--trusted-keys", "no-such.pem"], "trusted keys: cannot be read", 2),
    ],
)
def test_what_is_wrong_is_said_in_words(at_the_service, capsys, arguments, complaint, code):
    assert main([*at_the_service, *arguments]) == code
    assert complaint in capsys.readouterr().err


def test_an_address_and_a_store_exclude_each_other(at_the_service, capsys):
    with pytest.raises(SystemExit):
        main([*at_the_service, "--store", "out/store"])

    assert "not allowed with" in capsys.readouterr().err
