"""What a few abusive clients cost all others, with Serve's own proxy alone and as `make serve` protects it.

Four kinds of client, one after the other, against the whole service on this machine:
  - head: one connection sends a head without an end;
  - half: 400 connections send half a head or half a body, and wait;
  - midi: 12 uploads of MIDI files with as many events as fit into the largest that is taken;
  - flac: 24 uploads of a few kilobytes that are two minutes of eight channels.
Meanwhile two clients ask for `/healthz` and for a stored track's summary, over and over; their longest wait counts, and
the most memory that Serve's proxy (with HAProxy, where there is one) and the ingress (with its children) take, compared
with the same processes before anything began.

Baseline, in the same run: `before`, Serve's own proxy with uvicorn's preferred parser and nothing in front. `after` is
h11 in Serve's proxy and HAProxy in front. Uploads are the application's to bear: both columns show what it does today.
The cost of the protection is measured without attacks: first audio through HAProxy and past it, in turns.

Ends in one JSON document: `attacks.py [--quick] [--out FILE]`.
"""

from __future__ import annotations

import argparse
import io
import os
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import httpx
import numpy as np
import psutil
import ray
import soundfile
from ray import serve

from benchmarks.document import about, publish
from cluster.ray_internals import start_private_ray
from cluster.serve.front_proxy import haproxy, start_front_proxy
from orchestrion.trust.signing import Signer
from serve_app.app import wire
from serve_app.config import read_config
from serve_app.delivery.proxy import PROXY_ENVIRONMENT

HOST: Final = "127.0.0.1"
HALF_REQUESTS: Final = 400
MIDI_UPLOADS: Final = 12
FLAC_UPLOADS: Final = 24
#: What must hold under each attack.
MOST_WAIT_S: Final = 1.0
MOST_MEMORY_RATIO: Final = 2.0
PROBE_EVERY_S: Final = 0.05
MEMORY_EVERY_S: Final = 0.25
MIB: Final = 2**20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Service:
    """A service that is up."""

    #: Where clients go.
    port: int
    #: Serve's own proxy; the same where nothing is in front of it.
    serve_port: int
    front_pid: int | None
    #: A stored track's summary.
    read_path: str

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Those that a client's bytes pass through: the proxies, and the ingress with its children."""
        found: dict[str, list[psutil.Process]] = {"proxy": [], "ingress": []}
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                title = " ".join(process.cmdline())
                if "ProxyActor" in title or process.pid == self.front_pid:
                    found["proxy"].append(process)
                elif "ServeReplica:" in title and ":ingress" in title:
                    found["ingress"] += [process, *process.children(recursive=True)]
        return found


@contextmanager
def service(folder: str, *, protected: bool) -> Iterator[Service]:
    """The service as `make serve` runs it, or as Serve alone would."""
    serve_port = free_port()
    port, front_pid = serve_port, None
    for name, value in PROXY_ENVIRONMENT.items():
        if protected:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)
    Signer.create(f"{folder}/key.pem")
    with ExitStack() as running:
        if protected:
            port = free_port()
            front = start_front_proxy(f"{HOST}:{port}", f"{HOST}:{serve_port}")
            running.callback(front.wait)
            running.callback(front.terminate)
            front_pid = front.pid
        start_private_ray(num_cpus=os.cpu_count())
        running.callback(ray.shutdown)
        serve.start(http_options={"host": HOST, "port": serve_port}, logging_config={"enable_access_log": False})
        places = {"store_url": f"{folder}/store", "signing_key_path": f"{folder}/key.pem"}
        serve.run(wire(read_config(places, {})), name="orchestrion", route_prefix="/")
        url = f"http://{HOST}:{port}"
        while httpx.get(f"{url}/readyz", timeout=30).status_code != 200:
            time.sleep(0.2)
        made = httpx.post(f"{url}/v1/tracks", json={"prompt": "calm piano", "duration_s": 1, "seed": 1}, timeout=120)
        yield Service(port, serve_port, front_pid, f"/v1/tracks/{made.raise_for_status().json()['id']}")


def free_port() -> int:
    """A port that nothing listens at now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Bystanders:
    """Clients who only want to read, and a look at the memory, while something else goes on."""

    service: Service
    waits_s: dict[str, list[float]] = field(default_factory=dict)
    failures: int = 0
    peak_mib: dict[str, float] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Bystanders:
        """Begin."""
        asking = [partial(self._ask, path) for path in ("/healthz", self.service.read_path)]
        targets: list[Callable[[], None]] = [*asking, self._weigh]
        self._threads = [threading.Thread(target=target) for target in targets]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; a question that waits for its answer is waited for."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, path: str) -> None:
        waits_s = self.waits_s.setdefault(path, [])
        while not self._stop.wait(PROBE_EVERY_S):
            began_s = time.perf_counter()
            try:
                # A connection for each, as a load balancer's check has it.
                if httpx.get(f"http://{HOST}:{self.service.port}{path}", timeout=120).status_code != 200:
                    self.failures += 1
            except httpx.TransportError:
                self.failures += 1
            waits_s.append(time.perf_counter() - began_s)

    def _weigh(self) -> None:
        while True:
            for name, mib in memory_mib(self.service).items():
                self.peak_mib[name] = max(mib, self.peak_mib.get(name, 0.0))
            if self._stop.wait(MEMORY_EVERY_S):
                return

    def worst_s(self, path: str) -> float:
        """The longest wait."""
        return max(self.waits_s[path])


def memory_mib(of: Service) -> dict[str, float]:
    """Own and fairly shared pages of each group."""
    sums = {}
    for name, processes in of.processes().items():
        sums[name] = 0.0
        for process in processes:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                sums[name] += process.memory_full_info().pss / MIB
    return sums


# The attacks


def nothing(_: Service, seconds: float) -> dict[str, object]:
    """What the bystanders see on a quiet day."""
    time.sleep(seconds)
    return {}


def endless_head(of: Service, seconds: float) -> dict[str, object]:
    """One head without an end, for so long or until it is cut off."""
    sent, piece, stop_s = 0, b"a" * 65536, time.monotonic() + seconds
    cut_off = False
    with socket.create_connection((HOST, of.port), timeout=seconds) as connection:
        try:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ")
            while time.monotonic() < stop_s:
                connection.sendall(piece)
                sent += len(piece)
        except TimeoutError:
            pass
        except OSError:
            cut_off = True
    # Whoever is cut off comes back; what is left of the time shows what that costs.
    again = 0
    while cut_off and time.monotonic() < stop_s:
        again += 1
        with suppress(OSError), socket.create_connection((HOST, of.port), timeout=5) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 1_000_000)
            connection.recv(1000)
    return {"sent_mb": round(sent / 1e6, 1), "cut_off": cut_off, "came_back": again}


def half_requests(of: Service, seconds: float) -> dict[str, object]:
    """Half of them half a head, half of them half a body, held for so long."""
    head = b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-"
    body = (
        b"POST /v1/themes HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: audio/midi\r\nContent-Length: 20000000\r\n\r\n"
    )
    with ExitStack() as held:
        half = [held.enter_context(socket.create_connection((HOST, of.port), timeout=60)) for _ in range(HALF_REQUESTS)]
        for number, connection in enumerate(half):
            connection.sendall(body + b"MThd" if number % 2 else head)
        time.sleep(seconds)
        return {"connections": HALF_REQUESTS, "closed": sum(map(is_closed, half)), "held_s": seconds}


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has answered or hung up."""
    connection.setblocking(False)
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def midi_uploads(of: Service, _: float) -> dict[str, object]:
    """Different files, all at once."""
    return uploads(of, [midi(seed) for seed in range(MIDI_UPLOADS)], "audio/midi")


def midi(seed: int) -> bytes:
    """One track of 174,000 control changes, three bytes each, and a note."""
    events = b"\x00\xb0\x07" + bytes([seed]) + b"\x00\x07\x40" * 174_000
    events += b"\x00\x90\x3c\x40" + b"\x83\x60\x80\x3c\x00" + b"\x00\xff\x2f\x00"
    head = b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480)
    return head + b"MTrk" + struct.pack(">I", len(events)) + events


def flac_uploads(of: Service, _: float) -> dict[str, object]:
    """Silence packs well."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros((48_000 * 120, 8), "int16"), 48_000, format="FLAC", subtype="PCM_16")
    return uploads(of, [file.getvalue() + bytes(number) for number in range(FLAC_UPLOADS)], "audio/flac")


def uploads(of: Service, bodies: Sequence[bytes], media_type: str) -> dict[str, object]:
    """All at once; how they were answered."""
    statuses: Counter[str] = Counter()

    def post(body: bytes) -> None:
        try:
            answer = client.post("/v1/themes", content=body, headers={"content-type": media_type})
            statuses[str(answer.status_code)] += 1
        except httpx.TransportError as error:
            statuses[type(error).__name__] += 1

    threads = [threading.Thread(target=post, args=(body,)) for body in bodies]
    began_s = time.perf_counter()
    # One client for all: making one takes a core for 30 ms, and bystanders are timed in this process.
    with httpx.Client(
        base_url=f"http://{HOST}:{of.port}", timeout=180, limits=httpx.Limits(max_connections=len(bodies))
    ) as client:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    taken_s = time.perf_counter() - began_s
    return {"bytes_each": len(bodies[0]), "statuses": dict(statuses), "took_s": round(taken_s, 1)}


ATTACKS: Final[dict[str, Callable[[Service, float], dict[str, object]]]] = {
    "none": nothing,
    "head": endless_head,
    "half": half_requests,
    "midi": midi_uploads,
    "flac": flac_uploads,
}


# What is measured


def under_attack(of: Service, seconds: float) -> dict[str, dict[str, object]]:
    """Each attack in turn, with a pause in which the service comes to rest."""
    idle_mib = memory_mib(of)
    results = {}
    for name, attack in ATTACKS.items():
        print(f"  {name} …", file=sys.stderr)
        with Bystanders(of) as bystanders:
            told = attack(of, seconds)
        peak_mib = bystanders.peak_mib
        results[name] = {
            "attack": told,
            "worst_healthz_s": round(bystanders.worst_s("/healthz"), 2),
            "worst_read_s": round(bystanders.worst_s(of.read_path), 2),
            "failed_reads": bystanders.failures,
            "idle_mib": {group: round(mib) for group, mib in idle_mib.items()},
            "peak_mib": {group: round(mib) for group, mib in peak_mib.items()},
            "peak_through_idle": {group: round(mib / idle_mib[group], 2) for group, mib in peak_mib.items()},
        }
        time.sleep(1.0)
    return results


def holds(result: dict[str, object]) -> bool:
    """Whether nobody waited long, nobody was refused, and no group of processes doubled."""
    waits = (result["worst_healthz_s"], result["worst_read_s"])
    ratios: dict[str, float] = result["peak_through_idle"]  # type: ignore[assignment]
    return (
        all(isinstance(wait, float) and wait < MOST_WAIT_S for wait in waits)
        and max(ratios.values()) < MOST_MEMORY_RATIO
        and not result["failed_reads"]
    )


def cost(of: Service, rounds: int) -> dict[str, dict[str, float]]:
    """Median milliseconds to a health check and to a stream's first audio, through the front proxy and past it."""
    waits_ms: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as open_clients:
        clients = {
            name: open_clients.enter_context(httpx.Client(base_url=f"http://{HOST}:{port}", timeout=60))
            for name, port in (("through_front_proxy", of.port), ("past_it", of.serve_port))
        }
        for number in range(rounds):
            # The first of a round finds caches colder; each way is first as often as the other.
            for name, client in sorted(clients.items(), reverse=bool(number % 2)):
                own = waits_ms.setdefault(name, {"healthz_ms": [], "first_audio_ms": []})
                began_s = time.perf_counter()
                client.get("/healthz").raise_for_status()
                own["healthz_ms"].append(1000 * (time.perf_counter() - began_s))
                wish = {"prompt": "lofi", "duration_s": 2, "seed": 2 * number + (name == "past_it")}
                began_s = time.perf_counter()
                with client.stream("POST", "/v1/tracks/stream?format=pcm", json=wish) as answer:
                    pieces = answer.iter_raw()
                    next(pieces)
                    own["first_audio_ms"].append(1000 * (time.perf_counter() - began_s))
                    for _ in pieces:
                        pass
    return {
        name: {what: round(statistics.median(ms[1:]), 2) for what, ms in own.items()} for name, own in waits_ms.items()
    }


def before_and_after(prefix: str, measure: Callable[[Service], T]) -> dict[str, T]:
    """What `measure` finds of Serve's own proxy alone ("before"), and as `make serve` protects it ("after")."""
    if haproxy() is None:
        raise SystemExit("there is no HAProxy here, so there is nothing to compare")
    columns = {}
    for column, protected in (("before", False), ("after", True)):
        print(f"{column}:", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix=prefix) as folder, service(folder, protected=protected) as running:
            columns[column] = measure(running)
    return columns


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter attacks")
    parser.add_argument("--out", type=Path, help="also write the JSON document here")
    options = parser.parse_args()
    seconds, rounds = (5.0, 6) if options.quick else (15.0, 21)
    columns = before_and_after("attacks-", lambda running: (cost(running, rounds), under_attack(running, seconds)))
    (cost_before, before), (cost_after, after) = columns["before"], columns["after"]
    document = about(__doc__.splitlines()[0], quick=options.quick) | {
        "attacks": {name: {"before": before[name], "after": after[name]} for name in ATTACKS},
        "holds_after": {name: holds(result) for name, result in after.items()},
        "cost": {"before": cost_before["past_it"], **cost_after},
        "target": {"wait_s": MOST_WAIT_S, "peak_through_idle": MOST_MEMORY_RATIO},
    }
    publish(document, options.out)


if __name__ == "__main__":
    main()
