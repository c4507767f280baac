"""A spot node's whole end, for real: the metadata server's notice, the watcher's drain, what an actor sees and does."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "test-token"


class Imds(BaseHTTPRequestHandler):
    """EC2's metadata service, version 2: without a token nothing, without a notice 404."""

    notice: str | None = None
    asked = threading.Event()

    def do_PUT(self):
        ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        self.say(200, TOKEN) if self.path == "/latest/api/token" and ttl else self.say(400)

    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            self.say(401)
        elif self.path == "/latest/meta-data/spot/instance-action" and Imds.notice:
            self.say(200, Imds.notice)
        else:
            self.say(404)
            Imds.asked.set()

    def say(self, status, text=""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def imds():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Imds)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes that can render; the second one is a spot machine."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Ray wants its own folder to be there, also when it is told another one.
    Path("/tmp/ray").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ray-drain-", dir="/tmp") as folder:
        head = {"num_cpus": 0, "include_dashboard": False, "resources": {"spot": 1}, "temp_dir": folder}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        labels = {"ray.io/market-type": "spot", "orchestrion/node-type": "g6.xlarge"}
        spot = cluster.add_node(num_cpus=0, resources={"spot": 1}, labels=labels)
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster, spot
        ray.shutdown()
        cluster.shutdown()


@ray.remote(num_cpus=0, resources={"spot": 1}, max_restarts=-1)
class Renderer:
    """As a render process: knows its node, asks once in a while, and goes when the node goes."""

    def __init__(self):
        from batch_jobs.rendering.preemption import NodeDrain, node_of_this_process

        self.node = node_of_this_process()
        self.drain = NodeDrain.of_this_process()

    def where(self):
        return self.node

    def deadline(self):
        return self.drain.deadline()

    def go(self):
        os._exit(0)


@contextmanager
def watcher(*arguments):
    command = [sys.executable, "-m", "cluster.preemption.watcher", "--poll-s", "0.2", *arguments]
    # A proxy of the environment must not come between a machine and its metadata server.
    environment = os.environ | {"http_proxy": "http://127.0.0.1:9", "all_proxy": "http://127.0.0.1:9"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(answer, timeout_s=20):
    """The first answer that is not empty; asked again while the actor is between two lives."""
    give_up_at = time.monotonic() + timeout_s
    while time.monotonic() < give_up_at:
        try:
            if found := answer():
                return found
        except ray.exceptions.RayActorError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"no answer within {timeout_s} s")


def test_a_notice_drains_the_node_and_its_actor_goes_on_elsewhere(cluster, imds):
    cluster, spot = cluster
    on_spot = {"label_selector": {"ray.io/market-type": "spot"}}
    elsewhere = [{"label_selector": {"ray.io/market-type": "!in(spot)"}}]
    renderer = Renderer.options(**on_spot, fallback_strategy=elsewhere).remote()
    node = ray.get(renderer.where.remote())
    assert (node.node_id, node.node_type, node.market) == (spot.node_id, "g6.xlarge", "spot")
    assert ray.get(renderer.deadline.remote()) is None
    mine = ["--address", cluster.gcs_address, "--node-id", spot.node_id]

    # The notice, 100 s ahead.
    goes_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=100)
    with watcher("--provider", "aws", "--metadata-url", imds, *mine) as watching:
        assert Imds.asked.wait(20)
        assert watching.poll() is None
        Imds.notice = json.dumps({"action": "terminate", "time": goes_at.strftime("%Y-%m-%dT%H:%M:%SZ")})
        assert watching.wait(30) == 0, watching.stderr.read()
    deadline = wait_for(lambda: ray.get(renderer.deadline.remote()))
    assert abs((deadline - goes_at).total_seconds()) < 5

    # Kubernetes ends the pod: the time that is left is shorter now.
    with watcher("--provider", "file", "--file", "/nonexistent", "--on-sigterm", "20", *mine) as watching:
        assert "watching" in watching.stderr.readline()
        ended_at = datetime.now(UTC)
        watching.send_signal(signal.SIGTERM)
        assert watching.wait(30) == 0, watching.stderr.read()
    deadline = wait_for(lambda: ray.get(renderer.deadline.remote()))
    assert 19.9 < (deadline - ended_at).total_seconds() < 30

    # The actor ends its process, and Ray starts it on a node that stays.
    renderer.go.remote()
    node = wait_for(lambda: (found := ray.get(renderer.where.remote())).node_id != spot.node_id and found)
    assert (node.node_type, node.market) == (None, None)
    assert ray.get(renderer.deadline.remote()) is None

    # With its last actor gone, the drained node leaves by itself: no bill for a machine that does nothing.
    wait_for(lambda: not next(each for each in ray.nodes() if each["NodeID"] == spot.node_id)["Alive"])
