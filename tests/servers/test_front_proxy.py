"""cluster/serve/haproxy.cfg as it is, in front of a small service, with times that a test can wait for."""

import asyncio
import socket
import threading
import time
from contextlib import contextmanager, suppress

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from cluster.serve.front_proxy import CONFIGURATION, haproxy, start_front_proxy
from serve_app.uploads.uploads import MAX_UPLOAD_BYTES
from tests.servers.seaweedfs import free_ports

pytestmark = pytest.mark.skipif(haproxy() is None, reason="no HAProxy here; Ray brings one on Linux")

BODY_BYTES = 100_000


class SmallService:
    """Says what it got; its stream ends only when the test has had the beginning."""

    def __init__(self):
        self.go_on = threading.Event()
        self.served = []

    async def echo(self, request):
        body = await request.body()
        self.served.append(request.url.path)
        return JSONResponse({"body_bytes": len(body), "headers": dict(request.headers)})

    async def stream(self, request):
        async def pieces():
            yield b"first"
            while not self.go_on.is_set():
                await asyncio.sleep(0.01)
            yield b"second"

        return StreamingResponse(pieces())

    def app(self):
        routes = [Route("/stream", self.stream), Route("/{path:path}", self.echo, methods=["GET", "POST"])]
        return Starlette(routes=routes)


@contextmanager
def proxied(**settings):
    """A small service behind the proxy; yields the service and the proxy's port."""
    listen, serve = free_ports(2)
    service = SmallService()
    # With the parser that Serve's own proxy uses.
    server = uvicorn.Server(uvicorn.Config(service.app(), port=serve, http="h11", log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    names = {f"ORCHESTRION_FRONT_{name}": value for name, value in settings.items()}
    proxy = start_front_proxy(f"127.0.0.1:{listen}", f"127.0.0.1:{serve}", names)
    try:
        deadline_s = time.monotonic() + 30
        while not answers(listen) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        yield service, listen
    finally:
        proxy.terminate()
        proxy.wait(10)
        service.go_on.set()
        server.should_exit = True
        thread.join(10)


def answers(port):
    with suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
    return False


@pytest.fixture(scope="module")
def quick():
    with proxied(HEAD_TIME="1s", BODY_TIME="1s", IDLE_TIME="2s", BODY_BYTES=str(BODY_BYTES)) as running:
        yield running


@pytest.fixture
def port(quick):
    return quick[1]


def exchange(port, *parts):
    """Send raw bytes; what comes back until the other side closes, which it may do at once."""
    answer = b""
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
        while data := connection.recv(65536):
            answer += data
    return answer


def status(answer):
    return int(answer.split()[1]) if answer else None


def test_a_head_without_an_end_is_cut_off_and_others_are_answered(port):
    answer = exchange(port, b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ", *[b"a" * 65536] * 64)

    assert status(answer) in (400, 431, None)
    assert answers(port)


def test_a_large_head_is_431(port):
    answer = httpx.get(f"http://127.0.0.1:{port}/", headers={"x-large": "a" * 20_000})

    assert answer.status_code == 431
    assert answer.headers["content-type"] == "application/problem+json" and answer.json()["status"] == 431


def test_a_slow_head_and_a_slow_body_are_closed_and_never_reach_the_service(quick):
    service, port = quick
    before = len(service.served)

    head = exchange(port, b"GET /slow HTTP/1.1\r\nHost: a\r\nX-")
    body = exchange(port, b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\nMThd")

    assert (status(head), status(body)) == (408, 408)
    assert len(service.served) == before


def test_a_body_that_stops_after_the_buffer_is_closed(port):
    answer = exchange(port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n" + b"a" * 60_000)

    assert status(answer) in (408, 400, None)
    assert answers(port)


def test_a_body_that_is_too_large_is_413_and_one_without_a_length_411(port):
    def post(size):
        return httpx.post(f"http://127.0.0.1:{port}/", content=b"a" * size)

    chunked = exchange(
        port,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nMThd\r\n0\r\n\r\n",
    )

    assert post(BODY_BYTES).json()["body_bytes"] == BODY_BYTES
    assert exchange(port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\n\r\n")[9:12] == b"413"
    assert status(chunked) == 411


def test_the_largest_body_is_the_largest_theme():
    assert f"presetenv ORCHESTRION_FRONT_BODY_BYTES {MAX_UPLOAD_BYTES}\n" in CONFIGURATION.read_text(encoding="utf-8")


def test_four_hundred_half_requests_keep_nobody_out(port):
    heads = (
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\nMThd",
    )
    half = []
    try:
        for number in range(400):
            half.append(socket.create_connection(("127.0.0.1", port), timeout=30))
            half[-1].sendall(heads[number % 2])

        assert answers(port)
        assert {status(connection.recv(1000)) for connection in half} == {408}
    finally:
        for connection in half:
            connection.close()


def test_one_client_cannot_take_all_connections():
    with proxied(CLIENT_CONNECTIONS="5") as (_, port):
        # Idle connections of the start are closed by their client.
        held = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(5)]
        for connection in held:  # What has been answered is counted, and stays open.
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert status(connection.recv(1000)) == 200
        over = exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        for connection in held:
            connection.close()

        assert over == b""
        assert answers(port)


def test_a_stream_is_handed_on_as_it_comes(quick):
    service, port = quick
    service.go_on.clear()

    with httpx.stream("GET", f"http://127.0.0.1:{port}/stream", timeout=30) as answer:
        pieces = answer.iter_raw()
        first = next(pieces)  # The service waits with the second for this.
        service.go_on.set()

        assert first == b"first"
        assert b"".join(pieces) == b"second"


def test_a_stream_to_http_1_0_ends_with_its_connection_and_has_no_chunks(quick):
    service, port = quick
    service.go_on.set()

    head, _, body = exchange(port, b"GET /stream HTTP/1.0\r\nHost: a\r\n\r\n").partition(b"\r\n\r\n")

    assert b"transfer-encoding" not in head.lower()
    assert body == b"firstsecond"


def test_host_is_handed_on_and_what_a_client_could_pretend_is_not(port):
    invented = {
        "Host": "music.example:8443", "X-Forwarded-For": "10.9.9.9", "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example", "Forwarded": "for=10.9.9.9", "X-Request-Timeout-Seconds": "0.001",
        "X-Request-Disconnect-Disabled": "?1", "X-Request-Id": "a<script>", "Upgrade": "websocket",
        "Authorization": "Bearer mine", "Origin": "https://a.example",
    }  # fmt: skip

    seen = httpx.get(f"http://127.0.0.1:{port}/", headers=invented).json()["headers"]

    assert seen["host"] == "music.example:8443"
    assert (seen["x-forwarded-for"], seen["x-forwarded-proto"]) == ("127.0.0.1", "http")
    assert (seen["authorization"], seen["origin"]) == ("Bearer mine", "https://a.example")
    gone = {"x-forwarded-host", "forwarded", "upgrade", "x-request-timeout-seconds", "x-request-disconnect-disabled"}
    assert not (gone | {"x-request-id"}) & seen.keys()


@pytest.mark.parametrize("path", [b"/-/routes", b"/-/healthz", b"/%2D/routes", b"http://a/-/routes"])
def test_serves_own_pages_are_hidden(quick, path):
    service, port = quick
    before = len(service.served)

    answer = exchange(port, b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path)

    assert status(answer) == 404 and len(service.served) == before


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 44\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\nabc",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["space before colon", "two lengths", "length and chunks", "unknown coding", "HTTP/2 by surprise"],
)
def test_what_two_readers_could_read_differently_is_refused(quick, request_bytes):
    service, port = quick
    before = len(service.served)

    assert status(exchange(port, request_bytes)) in (400, 411, 422, 501)
    assert len(service.served) == before


def test_without_the_service_there_is_a_503_that_says_when_to_return():
    listen, serve = free_ports(2)
    proxy = start_front_proxy(f"127.0.0.1:{listen}", f"127.0.0.1:{serve}")
    try:
        answer = None
        deadline_s = time.monotonic() + 30
        while answer is None and time.monotonic() < deadline_s:
            with suppress(httpx.TransportError):
                answer = httpx.get(f"http://127.0.0.1:{listen}/readyz", timeout=30)
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
        assert answer.json()["type"] == "urn:orchestrion:problem:not-ready"
    finally:
        proxy.terminate()
        proxy.wait(10)
