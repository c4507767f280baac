"""One Serve instance for all tests of this folder: as a laptop runs it, one with tiny limits, one with a MusicGen."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from orchestrion.trust.signing import Signer
from tests.musicgen_checkpoints import TINY, TINY_CODEC, TINY_STEREO, codec_geometry, write_hugging_face

ROOT = Path(__file__).resolve().parents[2]
#: Of the tiny service: long beside a chunk or a mastering on a busy machine, short beside a test.
STALL_S = 8.0


@dataclass(frozen=True)
class Service:
    url: str
    #: One slot, one place in the queue; streams are sent 2 s ahead and then at 8 times their speed. What has not moved
    #: for `STALL_S` counts as stuck.
    tiny_url: str
    #: Two tiny MusicGens with random weights, "mono" and "stereo", of which one is in memory at a time.
    musicgen_url: str
    musicgen_store: Path
    #: The entry of "mono" in the list of models.
    musicgen_entry: str
    metrics_url: str
    store: Path
    signing_key: Path
    process_id: int

    def replica_pids(self, app: str, deployment: str) -> list[int]:
        """Of the replicas of a deployment of this instance and no other."""
        title = f"ray::ServeReplica:{app}:{deployment}"
        children = psutil.Process(self.process_id).children(recursive=True)
        return [child.pid for child in children if title in command_line(child)]


def command_line(process: psutil.Process) -> str:
    """Of one that may end meanwhile: then it is empty."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="package")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    store, signing_key = folder / "store", folder / "signing-key.pem"
    Signer.create(signing_key)
    port, metrics_port = free_port(), free_port()
    places = {"store_url": str(store), "signing_key_path": str(signing_key)}
    tiny = places | {
        "store_url": str(folder / "tiny"),
        "low_latency": {"slots": 1, "queue_limit": 1},
        "stream_lead_s": 2,
        "stream_pace": 8,
        "stall_s": STALL_S,
    }
    mono = f"mono={write_hugging_face(folder / 'one', TINY, TINY_CODEC)}"
    stereo = f"stereo={write_hugging_face(folder / 'two', TINY_STEREO, codec_geometry(8, channels=2))}"
    musicgen = places | {"store_url": str(folder / "musicgen"), "models": [mono, stereo], "resident_models": 1}
    settings = {
        "port": port,
        "metrics_port": metrics_port,
        "apps": {"orchestrion": ["/", places], "tiny": ["/tiny", tiny], "musicgen": ["/musicgen", musicgen]},
    }
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (folder / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.app.service"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        process.stdin.write(json.dumps(settings) + "\n")
        process.stdin.flush()
        if not any(line == "ready\n" for line in process.stdout):
            process.wait(timeout=30)
            pytest.fail(f"the service did not start:\n{(folder / 'service.log').read_text()[-4000:]}")
        url = f"http://127.0.0.1:{port}"
        try:
            yield Service(
                url=url,
                tiny_url=f"{url}/tiny",
                musicgen_url=f"{url}/musicgen",
                musicgen_store=folder / "musicgen",
                musicgen_entry=mono,
                metrics_url=f"http://127.0.0.1:{metrics_port}/metrics",
                store=store,
                signing_key=signing_key,
                process_id=process.pid,
            )
        finally:
            children = psutil.Process(process.pid).children(recursive=True)
            process.stdin.close()
            try:
                process.wait(timeout=60)
            finally:
                for child in [*children, process]:
                    if child.pid and psutil.pid_exists(child.pid):
                        child.kill()


@pytest.fixture(scope="package")
def client(service):
    with httpx.Client(base_url=service.url, timeout=90) as session:
        yield session


@pytest.fixture(scope="package")
def track(client):
    """One finished track that tests may read: its summary."""
    answer = client.post(
        "/v1/tracks", json={"prompt": "calm solo piano in D minor, 70 bpm", "duration_s": 6, "seed": 11}
    )
    assert answer.status_code == 201, answer.text
    return answer.json()
