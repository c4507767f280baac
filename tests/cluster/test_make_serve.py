"""`make serve` as a stranger on the network meets it, and its end when its cluster dies. One start for all tests."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from cluster.ray_internals import MANY_NODES, MODE, TOKEN, TOKEN_FILE
from tests.servers.seaweedfs import free_ports

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 180
#: Paths at which Ray's agent and dashboard take jobs.
JOB_PATHS = ("/api/job_agent/jobs/", "/api/jobs/")


@dataclass(frozen=True)
class MakeServe:
    process: subprocess.Popen
    port: int
    home: Path
    log: Path

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def tree(self):
        here = psutil.Process(self.process.pid)
        return [here, *here.children(recursive=True)]

    def child(self, name):
        [found] = [process for process in self.tree() if process.name() == name]
        return found

    def listeners(self):
        """(kind of process, address, port) of every listening TCP socket."""
        found = set()
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                for connection in process.net_connections(kind="tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        found.add((kind_of(process), connection.laddr.ip, connection.laddr.port))
        return found


def kind_of(process):
    """As docs/operations.md calls it."""
    words = process.cmdline()
    if words[0].startswith("ray::"):
        return words[0].split()[0].removeprefix("ray::").split(":")[0]
    for part, kind in (("monitor.py", "monitor"), ("dashboard.py", "dashboard"), ("cluster.demo", "driver")):
        if any(word.endswith(part) for word in words):
            return kind
    return process.name()


def is_loopback(address):
    """Also of an IPv4 address that is written as one of IPv6: Python 3.11 says no there."""
    return ip_address(address.removeprefix("::ffff:")).is_loopback


@pytest.fixture(scope="module")
def make_serve(tmp_path_factory):
    folder = tmp_path_factory.mktemp("make-serve")
    home, log = folder / "home", folder / "serve.log"
    home.mkdir()
    [port] = free_ports(1)
    own = (MODE, TOKEN, TOKEN_FILE, MANY_NODES, "RAY_ADDRESS")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "cluster.demo", "--serve", "--out", str(folder / "out"), "--port", str(port)],
            cwd=ROOT, env=environment | {"HOME": str(home), "PYTHONUNBUFFERED": "1"}, stdout=out, stderr=out,
        )  # fmt: skip
        try:
            deadline_s = time.monotonic() + START_TIMEOUT_S
            while b"web page" not in log.read_bytes() and process.poll() is None and time.monotonic() < deadline_s:
                time.sleep(0.2)
            assert b"web page" in log.read_bytes(), log.read_text()
            yield MakeServe(process, port, home, log)
        finally:
            with suppress(psutil.NoSuchProcess):
                for child in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
                    with suppress(psutil.NoSuchProcess):
                        child.kill()
            process.wait(timeout=20)


def post_job(address, port, path, token=None):
    """Ask for a harmless command to be run, as any program could; the status, or None where nothing answers in HTTP."""
    host = f"[{address}]" if ":" in address else address
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    body = json.dumps({"entrypoint": "true"}).encode()
    try:
        request = urllib.request.Request(f"http://{host}:{port}{path}", body, headers)
        return urllib.request.urlopen(request, timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError, urllib.error.URLError, http.client.HTTPException):
        return None


def exchange(port, *parts, limit=1 << 22):
    """Send raw bytes and take all that comes back until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        answer = b""
        with suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
        with suppress(ConnectionError):
            while (data := connection.recv(65536)) and len(answer) < limit:
                answer += data
        return answer


def test_nothing_of_ours_listens_off_loopback_and_every_listener_is_documented(make_serve):
    listeners = make_serve.listeners()

    # The port at which a replica takes calls of others is Serve's to bind; it wants the token, as the next test shows.
    assert {kind for kind, address, _ in listeners if not is_loopback(address)} <= {"ServeReplica"}
    kinds = {kind for kind, _, _ in listeners}
    documented = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert {kind for kind in kinds if f"`{kind}`" not in documented} == set()
    assert {"haproxy", "raylet", "gcs_server", "DashboardAgent", "ProxyActor"} <= kinds


def test_nobody_without_the_token_gets_a_command_run_at_any_address_and_port(make_serve):
    families = (socket.AF_INET, socket.AF_INET6)
    addresses = {one.address for all_of in psutil.net_if_addrs().values() for one in all_of if one.family in families}
    ports = {port for _, _, port in make_serve.listeners()}

    taken = {
        (address, port, path): status
        for address in addresses
        for port in ports
        for path in JOB_PATHS
        if (status := post_job(address, port, path)) is not None and status < 400
    }

    assert len(addresses) >= 1 and len(ports) >= 5
    assert taken == {}


def test_rays_agent_answers_401_and_with_the_token_it_works(make_serve):
    ports = [port for kind, _, port in make_serve.listeners() if kind == "DashboardAgent"]
    token = make_serve.child("raylet").environ()[TOKEN]

    without = {post_job("127.0.0.1", port, JOB_PATHS[0]) for port in ports}
    wrong = {post_job("127.0.0.1", port, JOB_PATHS[0], "0" * 64) for port in ports}
    right = {post_job("127.0.0.1", port, JOB_PATHS[0], token) for port in ports}

    assert len(token) == 64
    assert 401 in without and 403 in wrong and 200 in right
    assert not {200} & (without | wrong)


@pytest.mark.parametrize("method", ["HandleRequest", "HandleRequestStreaming"])
def test_a_replica_takes_no_call_without_the_token(make_serve, method):
    """What stands in such a call is unpickled, so a program that may make one can run anything."""
    ports = [
        port for kind, address, port in make_serve.listeners() if kind == "ServeReplica" and not is_loopback(address)
    ]
    token = make_serve.child("raylet").environ()[TOKEN]

    def call(port, metadata):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            kind = channel.unary_stream if method.endswith("Streaming") else channel.unary_unary
            try:
                answer = kind(f"/ray.serve.ASGIService/{method}")(b"", metadata=metadata, timeout=20)
                list(answer)
            except grpc.RpcError as error:
                return error.code()
        return grpc.StatusCode.OK

    assert len(ports) >= 2
    for port in ports:
        assert call(port, ()) is grpc.StatusCode.UNAUTHENTICATED
        assert call(port, [("authorization", "Bearer " + "0" * 64)]) is grpc.StatusCode.UNAUTHENTICATED
        assert call(port, [("authorization", f"Bearer {token}")]) is not grpc.StatusCode.UNAUTHENTICATED


def test_no_token_is_left_in_the_home_folder(make_serve):
    assert not (make_serve.home / ".ray").exists()


def test_a_head_without_an_end_is_cut_off_by_both_proxies_and_others_are_answered(make_serve):
    [serve_port] = [port for kind, _, port in make_serve.listeners() if kind == "ProxyActor" and is_http(port)]
    for port in (make_serve.port, serve_port):
        answer = exchange(port, b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ", *[b"a" * 65536] * 64)

        assert answer == b"" or answer.split()[1] in (b"400", b"431")
        assert httpx.get(f"{make_serve.url}/healthz", timeout=10).status_code == 200


def is_http(port):
    with suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/-/healthz", timeout=5).status_code == 200
    return False


def test_a_stream_to_http_1_0_has_no_chunks_in_it(make_serve):
    body = b'{"prompt": "calm piano, 1 second"}'

    answer = exchange(
        make_serve.port,
        b"POST /v1/tracks/stream HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body,
    )

    head, _, audio = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0]
    assert b"transfer-encoding" not in head.lower()
    assert audio[:4] == b"RIFF" and len(audio) > 44_100


@pytest.mark.parametrize("path", ["/-/routes", "/-/healthz", "/%2d/routes"])
def test_serves_own_pages_are_hidden(make_serve, path):
    answer = exchange(make_serve.port, b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode())

    assert answer.split()[1] == b"404" and b"problem+json" in answer and b"orchestrion:problem" in answer


def test_it_ends_with_a_message_and_takes_all_with_it_when_the_raylet_dies(make_serve):
    tree = make_serve.tree()[1:]

    make_serve.child("raylet").kill()

    assert make_serve.process.wait(timeout=60) == 3
    assert "Ray's raylet died" in make_serve.log.read_text()
    assert [process for process in tree if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{make_serve.url}/healthz")
