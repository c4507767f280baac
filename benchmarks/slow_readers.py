"""What clients that read nothing, or stored streams of long tracks, cost in memory and what others wait meanwhile.

Against the whole service on this machine, with one long stored track (WAV):
  - nobody: what a fast client gets of the file, in MB/s;
  - idle: eight connections ask for the file and read nothing;
  - pcm: five clients stream the track as PCM and read it as fast as it comes.
Meanwhile two clients ask for `/healthz` and for a stored track's summary, over and over (see `attacks.py`).

Baseline, in the same run: `before`, Serve's own proxy as Ray starts it, where nobody reports how far a client has read
and answers keep to a pace. `after` has the reports, and HAProxy in front, as `make serve` has.

Ends in one JSON document: `slow_readers.py [--quick] [--out FILE]`.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import httpx

from benchmarks.attacks import HOST, Bystanders, Service, before_and_after, memory_mib
from benchmarks.document import about, publish

IDLE_CLIENTS: Final = 8
PCM_CLIENTS: Final = 5
#: Seconds that idle clients stay: well below the minute after which HAProxy closes them.
IDLE_S: Final = 20.0


def make(of: Service, body: dict[str, object]) -> str:
    """A stored track; the address of its audio."""
    answer = httpx.post(f"http://{HOST}:{of.port}/v1/tracks", json=body, timeout=300).raise_for_status()
    return f"{answer.json()['links']['audio']}"


def fast(of: Service, address: str, _body: dict[str, object]) -> dict[str, object]:
    """One client that reads as fast as it can, three times."""
    rates = []
    for _ in range(3):
        began_s = time.perf_counter()
        size = len(httpx.get(f"http://{HOST}:{of.port}{address}", timeout=300).raise_for_status().content)
        rates.append(size / (time.perf_counter() - began_s) / 1e6)
    return {"file_mb": round(size / 1e6, 1), "mb_per_s": [round(rate, 1) for rate in rates]}


def idle(of: Service, address: str, _body: dict[str, object]) -> dict[str, object]:
    """Clients that read nothing."""
    connections = []
    for _ in range(IDLE_CLIENTS):
        connection = socket.create_connection((HOST, of.port))
        connection.sendall(f"GET {address} HTTP/1.1\r\nHost: {HOST}:{of.port}\r\n\r\n".encode())
        connections.append(connection)
    time.sleep(IDLE_S)
    for connection in connections:
        connection.close()
    return {"clients": IDLE_CLIENTS}


def pcm(of: Service, _: str, body: dict[str, object]) -> dict[str, object]:
    """Clients that stream it all as PCM at once."""

    def stream(_: int) -> tuple[float, int]:
        began_s = time.perf_counter()
        address = f"http://{HOST}:{of.port}/v1/tracks/stream?format=pcm"
        with httpx.stream("POST", address, json=body, timeout=600) as answer:
            pieces = answer.iter_raw()
            size = len(next(pieces))
            first_s = time.perf_counter() - began_s
            return first_s, size + sum(map(len, pieces))

    began_s = time.perf_counter()
    with ThreadPoolExecutor(PCM_CLIENTS) as threads:
        streams = list(threads.map(stream, range(PCM_CLIENTS)))
    whole_s = time.perf_counter() - began_s
    (size,) = {size for _, size in streams}
    return {
        "clients": PCM_CLIENTS,
        "mb_each": round(size / 1e6, 1),
        "first_bytes_s": round(max(first for first, _ in streams), 2),
        "whole_s": round(whole_s, 1),
    }


KINDS: Final[dict[str, Callable[[Service, str, dict[str, object]], dict[str, object]]]] = {
    "fast": fast,
    "idle": idle,
    "pcm": pcm,
}


def measured(of: Service, body: dict[str, object]) -> dict[str, object]:
    """Each kind of client in turn."""
    address = make(of, body)
    time.sleep(5.0)
    at_rest = memory_mib(of)
    results: dict[str, object] = {}
    for name, clients in KINDS.items():
        print(f"  {name} …", file=sys.stderr)
        with Bystanders(of) as bystanders:
            told = clients(of, address, body)
        results[name] = {
            "told": told,
            "worst_healthz_s": round(bystanders.worst_s("/healthz"), 2),
            "worst_read_s": round(bystanders.worst_s(of.read_path), 2),
            "more_mib": {group: round(mib - at_rest[group]) for group, mib in bystanders.peak_mib.items()},
        }
        time.sleep(2.0)
    return results


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a track of three minutes instead of ten")
    parser.add_argument("--out", type=Path, help="also write the JSON document here")
    options = parser.parse_args()
    body: dict[str, object] = {"prompt": "ambient", "duration_s": 170 if options.quick else 600, "seed": 3}
    columns = before_and_after("slow-readers-", lambda running: measured(running, body))
    document = about(__doc__.splitlines()[0], quick=options.quick) | {
        "track_s": body["duration_s"],
        "clients": {name: {column: columns[column][name] for column in columns} for name in KINDS},
    }
    publish(document, options.out)


if __name__ == "__main__":
    main()
