"""Downloading as the hub's own client does it, from a hub of our own on this machine."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from orchestrion.models.musicgen.checkpoint.checkpoint import open_checkpoint

COMMIT = "c0ffee" + "0" * 34


class Hub(ThreadingHTTPServer):
    """Serves folders as repositories of one commit each, and keeps what was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.repositories: dict[str, Path] = {}
        self.asked: list[str] = []

    @property
    def downloads(self) -> set[str]:
        """Names of the files that were sent."""
        return {path.rpartition(f"/resolve/{COMMIT}/")[2] for path in self.asked if "/resolve/" in path}


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = urlsplit(self.path).path
        if self.command == "GET":
            self.server.asked.append(path)
        for name, folder in self.server.repositories.items():
            files = [file for file in folder.rglob("*") if file.is_file()]
            if path.startswith(f"/api/models/{name}/revision/"):
                return self.send(json.dumps({"id": name, "sha": COMMIT, "siblings": []}).encode())
            if path == f"/api/models/{name}/tree/{COMMIT}":
                entries = [
                    {
                        "type": "file",
                        "path": str(file.relative_to(folder)),
                        "size": file.stat().st_size,
                        "oid": hashlib.sha1(file.read_bytes()).hexdigest(),
                    }
                    for file in files
                ]
                return self.send(json.dumps(entries).encode())
            if path.startswith(f"/{name}/resolve/{COMMIT}/"):
                return self.send((folder / path.rpartition(f"{COMMIT}/")[2]).read_bytes())
        self.send_response(404)
        self.send_header("Content-Length", "0")
        return self.end_headers()

    def send(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@pytest.fixture
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


OPEN = """
import json, sys
from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.checkpoint.checkpoint import open_checkpoint
try:
    found = open_checkpoint(sys.argv[1])
    print(json.dumps([found.name, found.commit, found.revision, found.licence]))
except InvalidRequest as error:
    print(json.dumps(str(error)))
"""


def opened(name: str, hub: Hub, home: Path):
    """What a process of its own finds, for the hub's client reads where the hub is when it is imported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}
    ran = subprocess.run(
        [sys.executable, "-c", OPEN, name], env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=120
    )
    return json.loads(ran.stdout)


def test_only_what_is_needed_is_downloaded_and_only_once(hub, checkpoints, tmp_path):
    folder = Path(shutil.copytree(checkpoints("text", "hugging_face"), tmp_path / "served"))
    (folder / "pytorch_model.bin").write_bytes(b"not wanted")
    (folder / "sample.wav").write_bytes(b"not wanted")
    hub.repositories["facebook/musicgen-tiny"] = folder
    revision = open_checkpoint(str(folder)).revision

    first = opened("facebook/musicgen-tiny", hub, tmp_path)
    assert first == ["facebook/musicgen-tiny", COMMIT, revision, "CC-BY-NC-4.0"]
    needed = {"config.json", "generation_config.json", "model.safetensors", "README.md"}
    assert hub.downloads == needed | {"tokenizer.json", "tokenizer_config.json"}

    hub.asked.clear()
    assert opened(f"facebook/musicgen-tiny@{COMMIT}", hub, tmp_path) == first
    assert hub.downloads == set()


def test_an_audiocraft_model_brings_its_text_encoder(hub, checkpoints, tmp_path):
    folder = checkpoints("text", "audiocraft")
    hub.repositories |= {"someone/finetuned": folder, "t5-small": folder / "t5"}
    _, _, revision, _ = opened("someone/finetuned", hub, tmp_path)
    assert revision == open_checkpoint(str(folder)).revision
    assert {"state_dict.bin", "compression_state_dict.bin", "model.safetensors"} <= hub.downloads


def test_what_the_hub_has_not_is_told_with_the_remedy(hub, tmp_path):
    assert "HF_TOKEN (got 'no/such')" in opened("no/such", hub, tmp_path)
