"""What Ray Serve adds to a stream, compared with calling the core directly.

The same tracks (distinct seeds, PCM) are streamed at 1, 4 and 16 concurrent clients
  - core:   a plain loop in one process: one track after the other, chunk by chunk, no queue, no threads;
  - direct: the service's own `RenderLoop` on the core in one process, without Ray and HTTP; clients are its threads;
  - serve:  the whole application with one replica, over HTTP on the loopback.
The last two use the same render thread, mastering, encoding and store, so their difference is what Ray and HTTP add:
the proxy, the ingress, and the hops between processes. Every stream is compared byte for byte between all three.

All three are up at the same time and take turns, so that whatever else the machine does falls on all of them; absolute
times depend on it, ratios less so. Ends in one JSON document: `serve_latency.py [--quick] [--out FILE]`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import httpx
import ray
from prometheus_client import CollectorRegistry
from ray import serve

from orchestrion.clock import SystemClock
from orchestrion.metrics import PrometheusRecorder
from orchestrion.render import Failure, Renderer, build_renderer
from orchestrion.request import TrackRequest, TrackSpec
from serve_app.app import wire
from serve_app.config import ServeConfig, read_config
from serve_app.outcomes import Refusal
from serve_app.pools import StreamMaster
from serve_app.render_loop import Job, RenderLoop

CLIENTS = (1, 4, 16)
STYLES = ("lofi", "piano", "house", "jazz", "folk", "synthwave", "celtic", "reggae")
PORT = 18_977
WARM_UP_SEED = 999_983
#: One thread per library, as the replicas have it; numpy reads this when it is imported.
ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1") | {
    "RAY_AUTH_MODE": "disabled",
    # Ray gives its workers a niceness of 15. Where anything else runs, that would be measured instead of Ray.
    "RAY_worker_niceness": "0",
}


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream as its client saw it; times in seconds from the request."""

    seed: int
    first_audio_s: float
    total_s: float
    #: Pieces of audio as the renderer gives them; over HTTP as the socket does.
    pieces: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Level:
    """All streams at one number of clients."""

    clients: int
    streams: int
    first_audio_p50_ms: float
    first_audio_p95_ms: float
    first_audio_p99_ms: float
    total_p50_ms: float
    requests_per_s: float
    audio_seconds_per_s: float
    pieces_per_stream: float


def body(seed: int, duration_s: float) -> dict[str, object]:
    """The request of a seed; the style goes round so that no single recipe is measured."""
    return {"prompt": STYLES[seed % len(STYLES)], "duration_s": duration_s, "seed": seed}


def request(seed: int, duration_s: float) -> TrackRequest:
    """The same, resolved."""
    return TrackSpec.from_json(body(seed, duration_s)).resolve()


def stream_core(renderer: Renderer, duration_s: float, seed: int) -> Stream:
    """One track with nothing around the core."""
    started_s = time.perf_counter()
    wanted = request(seed, duration_s)
    renderer.find(wanted)
    job = Job("", wanted, rendering=renderer.open(wanted))
    master, pieces, first_audio_s, digest = StreamMaster(job, "pcm"), 0, 0.0, hashlib.sha256()
    while (chunk := job.opened.advance()) is not None:
        data = master.push([chunk])
        if data:
            first_audio_s = first_audio_s or time.perf_counter() - started_s
            pieces += 1
            digest.update(data)
    digest.update(master.flush())
    outcome = job.opened.complete()
    if isinstance(outcome, Failure):
        raise RuntimeError(f"seed {seed}: {outcome.message}")
    return Stream(seed, first_audio_s, time.perf_counter() - started_s, pieces, digest.hexdigest())


def stream_direct(loop: RenderLoop, renderer: Renderer, duration_s: float, seed: int) -> Stream:
    """What `RenderPool.stream` does, in a plain thread."""
    started_s = time.perf_counter()
    wanted = request(seed, duration_s)
    news = threading.Event()
    renderer.find(wanted)
    listener = loop.join(wanted, renderer.track_id(wanted), streaming=True, wake=news.set)
    job, digest = listener.job, hashlib.sha256()
    master, taken, pieces, first_audio_s = None, 0, 0, 0.0
    while True:
        whole, made = job.whole, len(job.chunks)
        if taken < made:
            master = master or StreamMaster(job, "pcm")
            data = master.push(job.chunks[taken:made])
            loop.sent(listener, sum(map(len, job.chunks[taken:made])) / job.opened.source_rate_hz)
            taken = made
            if data:
                first_audio_s = first_audio_s or time.perf_counter() - started_s
                pieces += 1
                digest.update(data)
        elif whole:
            break
        else:
            news.wait()
            news.clear()
    if master is None:
        raise RuntimeError(f"seed {seed} made no audio")
    digest.update(master.flush())
    while job.outcome is None:
        news.wait()
        news.clear()
    if isinstance(job.outcome, Refusal):
        raise RuntimeError(f"seed {seed}: {job.outcome.message}")
    loop.leave(listener)
    return Stream(seed, first_audio_s, time.perf_counter() - started_s, pieces, digest.hexdigest())


def stream_http(client: httpx.Client, duration_s: float, seed: int) -> Stream:
    """One stream of the running service."""
    started_s, first_audio_s, pieces, digest = time.perf_counter(), 0.0, 0, hashlib.sha256()
    with client.stream("POST", "/v1/tracks/stream?format=pcm", json=body(seed, duration_s)) as answer:
        for data in answer.iter_raw():
            first_audio_s = first_audio_s or time.perf_counter() - started_s
            pieces += 1
            digest.update(data)
        if answer.status_code != 200 or answer.headers["x-cache"] != "miss":
            raise RuntimeError(f"seed {seed}: {answer.status_code} {answer.headers}")
    return Stream(seed, first_audio_s, time.perf_counter() - started_s, pieces, digest.hexdigest())


@dataclass(slots=True)
class Tally:
    """Streams of one way at one number of clients, over all rounds."""

    streams: list[Stream] = field(default_factory=list)
    wall_s: float = 0.0

    def run(self, one: Callable[[int], Stream], clients: int, seeds: range) -> None:
        """One round, closed loop: each client sends its next request when its last stream has ended."""
        started_s = time.perf_counter()
        with ThreadPoolExecutor(clients) as threads:
            streams = list(threads.map(one, seeds))
        wall_s = time.perf_counter() - started_s
        for stream in streams:
            if not 0 < stream.first_audio_s <= stream.total_s <= wall_s:
                raise RuntimeError(f"times are not in order: {stream} within {wall_s} s")
        self.streams += streams
        self.wall_s += wall_s

    def level(self, clients: int, duration_s: float) -> Level:
        """The figures."""
        first_ms = [1000 * stream.first_audio_s for stream in self.streams]
        return Level(
            clients=clients,
            streams=len(self.streams),
            first_audio_p50_ms=percentile(first_ms, 50),
            first_audio_p95_ms=percentile(first_ms, 95),
            first_audio_p99_ms=percentile(first_ms, 99),
            total_p50_ms=percentile([1000 * stream.total_s for stream in self.streams], 50),
            requests_per_s=round(len(self.streams) / self.wall_s, 3),
            audio_seconds_per_s=round(len(self.streams) * duration_s / self.wall_s, 2),
            pieces_per_stream=round(statistics.mean(stream.pieces for stream in self.streams), 2),
        )


def percentile(values: list[float], percent: int) -> float:
    """The smallest value that `percent` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return round(ordered[max(0, -(-len(ordered) * percent // 100) - 1)], 1)


def overhead(direct: Level, through_serve: Level) -> dict[str, float]:
    """What Ray adds at this number of clients."""
    added_ms = through_serve.total_p50_ms - direct.total_p50_ms
    return {
        "clients": direct.clients,
        "first_audio_ms": round(through_serve.first_audio_p50_ms - direct.first_audio_p50_ms, 1),
        "request_ms": round(added_ms, 1),
        "chunk_ms": round(added_ms / direct.pieces_per_stream, 2),
        "request_ratio": round(through_serve.total_p50_ms / direct.total_p50_ms, 3),
        "throughput_ratio": round(through_serve.requests_per_s / direct.requests_per_s, 3),
    }


def renderer_of(config: ServeConfig) -> Renderer:
    """What a replica of the low-latency pool builds."""
    recorder = PrometheusRecorder(CollectorRegistry())
    return build_renderer(config.render_config(config.low_latency), "low-latency", recorder)


@contextmanager
def direct_loop(config: ServeConfig, duration_s: float) -> Iterator[Callable[[int], Stream]]:
    """The service's render loop without Ray."""
    profile, renderer = config.low_latency, renderer_of(config)
    with ThreadPoolExecutor(1) as completion:
        loop = RenderLoop(
            renderer,
            slots=profile.slots,
            queue_limit=profile.queue_limit,
            clock=SystemClock(),
            completion=completion,
            on_queue_change=lambda depth: None,
        )
        loop.start()
        yield partial(stream_direct, loop, renderer, duration_s)
        loop.stop()


@contextmanager
def service(config: ServeConfig, duration_s: float) -> Iterator[Callable[[int], Stream]]:
    """The service."""
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": PORT}, logging_config={"enable_access_log": False})
        serve.run(wire(config), name="orchestrion", route_prefix="/")
        limits = httpx.Limits(max_keepalive_connections=max(CLIENTS))
        with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=300, limits=limits) as client:
            yield partial(stream_http, client, duration_s)
    finally:
        serve.shutdown()
        ray.shutdown()


def compare(duration_s: float, rounds: int, per_round: dict[int, int]) -> dict[str, object]:
    """All levels; in each round the ways take turns, so that whatever else the machine does falls on all of them."""
    with tempfile.TemporaryDirectory(prefix="serve-latency-") as folder, ExitStack() as running:

        def config(name: str) -> ServeConfig:
            # A store for each way: with one, the second would only find what the first one made.
            places = {"store_url": f"{folder}/{name}", "signing_key_path": f"{folder}/key.pem"}
            return read_config({**places, "low_latency": {"slots": 16, "queue_limit": 16}}, {})

        ways = {
            "core": partial(stream_core, renderer_of(config("core")), duration_s),
            "direct": running.enter_context(direct_loop(config("direct"), duration_s)),
            "serve": running.enter_context(service(config("serve"), duration_s)),
        }
        for one in ways.values():
            one(WARM_UP_SEED)
        tallies = {(name, clients): Tally() for clients in CLIENTS for name in ways if name != "core" or clients == 1}
        for clients, streams in per_round.items():
            for turn in range(rounds):
                first = 10_000 * clients + turn * streams
                for name, one in ways.items():
                    if (name, clients) in tallies:
                        tallies[name, clients].run(one, clients, range(first, first + streams))
    for clients in CLIENTS:
        if len({tuple(s.sha256 for s in tally.streams) for (_, n), tally in tallies.items() if n == clients}) > 1:
            raise SystemExit("the streams are not the same audio: the comparison is void")
    levels = {key: tally.level(key[1], duration_s) for key, tally in tallies.items()}
    return {
        "core": [asdict(levels["core", 1])],
        "direct": [asdict(levels["direct", clients]) for clients in CLIENTS],
        "serve": [asdict(levels["serve", clients]) for clients in CLIENTS],
        "added_by_ray": [overhead(levels["direct", clients], levels["serve", clients]) for clients in CLIENTS],
    }


def main() -> None:
    """Measure, compare, print."""
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ENVIRONMENT)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few and short streams: minutes become seconds")
    parser.add_argument("--out", type=Path, help="also write the JSON document here")
    options = parser.parse_args()
    duration_s, rounds, per_round = (4.0, 2, {1: 2, 4: 4, 16: 16}) if options.quick else (8.0, 4, {1: 4, 4: 8, 16: 16})
    document = {
        "question": __doc__.splitlines()[0],
        "machine": {"cpus": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "python": platform.python_version(),
        "ray": ray.__version__,
        "quick": options.quick,
        "track_s": duration_s,
        "same_audio": True,
    } | compare(duration_s, rounds, per_round)
    text = json.dumps(document, indent=2)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
