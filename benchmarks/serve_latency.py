"""What Ray Serve adds to a stream, compared with calling the core directly; what continuous batching gives.

The composer: the same tracks (distinct seeds, PCM) are streamed at 1, 4 and 16 concurrent clients
  - core:   a plain loop in one process: one track after the other, chunk by chunk, no queue, no threads;
  - direct: the service's own `Executor` on the core in one process, without Ray and HTTP; clients are its threads;
  - serve:  the whole application with one replica, over HTTP on the loopback.
The last two use the same render thread, mastering, encoding and store, so their difference is what Ray and HTTP add:
the proxy, the ingress, and the hops between processes. Every stream is compared byte for byte between all three.

A tiny MusicGen, in one process: the same list of requests of different lengths, in the same order, on the same engine
  - continuous: each slot is taken by the next request as soon as it is free;
  - fixed:      batches as `generate` of audiocraft and transformers makes them: as many requests as there are slots,
                all as long as the longest and cut to what each asked for; the next batch when the longest is over.
The audio is compared sample for sample. Then what a newcomer waits for its first audio while others are running: in
both ways, and through Ray Serve.

What is compared is up at the same time and takes turns, so that whatever else the machine does falls on all of them;
absolute times depend on it, ratios less so.

Ends in one JSON document: `serve_latency.py [--quick] [--only PART] [--out FILE]`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import cast

import httpx
import numpy as np
import ray
import torch
from prometheus_client import CollectorRegistry
from ray import serve

from benchmarks.document import about, publish
from cluster.ray_internals import start_private_ray
from orchestrion.audio.pcm import Pcm
from orchestrion.clock import SystemClock
from orchestrion.models.musicgen.loop import Chunks
from orchestrion.models.protocol import Conditioning, MusicModel
from orchestrion.models.registry import load_model
from orchestrion.models.settings import ModelSettings
from orchestrion.rendering.executor import Executor
from orchestrion.rendering.policy import Policy
from orchestrion.rendering.renderer import Renderer, build_renderer
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.tracks.outcome import Failure
from orchestrion.tracks.request import TrackRequest
from orchestrion.tracks.spec import TrackSpec
from orchestrion.trust.signing import Signer
from serve_app.app import wire
from serve_app.config import ServeConfig, read_config
from serve_app.delivery.proxy import PROXY_ENVIRONMENT
from serve_app.deployments.render_pool import StreamMaster
from tests.musicgen_checkpoints import TINY, TINY_CODEC, write_hugging_face

CLIENTS = (1, 4, 16)
STYLES = ("lofi", "piano", "house", "jazz", "folk", "synthwave", "celtic", "reggae")
PORT = 18_977
WARM_UP_SEED = 999_983
#: Seconds that 16 requests to the MusicGen ask for: sounds and loops mostly, a few clips, one piece of some length.
#: Many short ones and few long ones is how such lengths are spread where users choose them; what the spread alone
#: allows is in the document as `ceiling`. Twice as long would be as likely, and the same but for the benchmark's time.
LENGTHS_S = (2.0,) * 6 + (3.0,) * 4 + (5.0,) * 3 + (10.0, 15.0, 45.0)
STREAMS = (4, 16)
#: Seconds that the others still have to go when a newcomer comes.
RUNNING_S = (5.0, 30.0, 120.0)
NEWCOMER_S = 4.0
#: The codes of a piece's last frames are drawn beside what comes after them, if anything does, and the codec looks a
#: few frames ahead: at its end, a piece that was made longer and cut is another one.
END_S = 0.2
#: One thread per library, as the replicas have it; numpy reads this when it is imported.
ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1") | {
    **PROXY_ENVIRONMENT,
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
    rendering = renderer.open(wanted)
    master, pieces, first_audio_s, digest = StreamMaster(rendering, "pcm"), 0, 0.0, hashlib.sha256()
    while (chunk := rendering.advance()) is not None:
        data = master.push([chunk])
        if data:
            first_audio_s = first_audio_s or time.perf_counter() - started_s
            pieces += 1
            digest.update(data)
    digest.update(master.flush())
    rendering.master()
    rendering.publish()
    return Stream(seed, first_audio_s, time.perf_counter() - started_s, pieces, digest.hexdigest())


def stream_direct(executor: Executor, renderer: Renderer, duration_s: float, seed: int) -> Stream:
    """What `RenderPool.stream` does, in a plain thread."""
    started_s = time.perf_counter()
    wanted = request(seed, duration_s)
    news = threading.Event()
    renderer.find(wanted)
    listener = executor.join(wanted, renderer.track_id(wanted), streaming=True, wake=news.set)
    task, digest = listener.task, hashlib.sha256()
    master, pieces, first_audio_s = None, 0, 0.0
    while True:
        whole = task.whole
        chunks = executor.take(listener)
        if chunks:
            master = master or StreamMaster(task.opened, "pcm")
            data = master.push(chunks)
            executor.sent(listener, sum(map(len, chunks)) / task.opened.source_rate_hz)
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
    while task.outcome is None:
        news.wait()
        news.clear()
    if isinstance(task.outcome, Failure):
        raise RuntimeError(f"seed {seed}: {task.outcome.message}")
    executor.leave(listener)
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
    """The service's executor without Ray."""
    profile, renderer = config.low_latency, renderer_of(config)
    policy = Policy(profile.slots, profile.queue_limit, profile.slots, profile.max_queue_s, config.stall_s)
    executor = Executor(renderer, policy, SystemClock())
    executor.start()
    yield partial(stream_direct, executor, renderer, duration_s)
    executor.close()


@contextmanager
def service(config: ServeConfig) -> Iterator[httpx.Client]:
    """The service, and a client of it."""
    start_private_ray(num_cpus=os.cpu_count())
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": PORT}, logging_config={"enable_access_log": False})
        serve.run(wire(config), name="orchestrion", route_prefix="/")
        limits = httpx.Limits(max_keepalive_connections=max(CLIENTS))
        with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=300, limits=limits) as client:
            yield client
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


def compare(duration_s: float, rounds: int, per_round: dict[int, int]) -> dict[str, object]:
    """All levels; in each round the ways take turns, so that whatever else the machine does falls on all of them."""
    with tempfile.TemporaryDirectory(prefix="serve-latency-") as folder, ExitStack() as running:
        Signer.create(f"{folder}/key.pem")

        def config(name: str) -> ServeConfig:
            # A store for each way: with one, the second would only find what the first one made.
            places = {"store_url": f"{folder}/{name}", "signing_key_path": f"{folder}/key.pem"}
            return read_config({**places, "low_latency": {"slots": 16, "queue_limit": 16}}, {})

        ways: dict[str, Callable[[int], Stream]] = {
            "core": partial(stream_core, renderer_of(config("core")), duration_s),
            "direct": running.enter_context(direct_loop(config("direct"), duration_s)),
            "serve": partial(stream_http, running.enter_context(service(config("serve"))), duration_s),
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


def tiny_musicgen(folder: str, slots: int) -> MusicModel:
    """Random weights of the tiny geometry, warmed up."""
    model = load_model(folder, ModelSettings(slots=slots), SystemClock())
    play(model, [wish(WARM_UP_SEED, 2.0)] * slots, slots)
    return model


def wish(seed: int, duration_s: float) -> Conditioning:
    """What the MusicGen is asked for."""
    return Conditioning(
        prompt=STYLES[seed % len(STYLES)],
        negative_prompt="",
        style=None,
        mood=None,
        tempo_bpm=None,
        key=None,
        duration_s=duration_s,
        seed=seed,
        theme=None,
    )


def play(model: MusicModel, wishes: Sequence[Conditioning], streams: int) -> list[Pcm]:
    """All of them, to the end."""
    audio: list[Pcm] = []
    for _ in playing(model, wishes, streams, audio):
        pass
    return audio


def playing(model: MusicModel, wishes: Sequence[Conditioning], streams: int, audio: list[Pcm]) -> Iterator[float]:
    """Puts the pieces into `audio`, made in the order of the list as slots are free.

    Listeners take a chunk of each running piece in turn; each time around gives the seconds that came.
    """
    sources = [model.perform(one).chunks for one in wishes]
    heard: list[list[Pcm]] = [[] for _ in wishes]
    waiting = list(range(len(wishes)))
    running: list[int] = []
    while running or waiting:
        while waiting and len(running) < streams:
            running.append(waiting.pop(0))
        samples = 0
        for number in list(running):
            chunk = next(sources[number], None)
            if chunk is None:
                running.remove(number)
            else:
                heard[number].append(chunk)
                samples += len(chunk)
        yield samples / model.info.sample_rate_hz
    audio += [np.concatenate(chunks) for chunks in heard]


def playing_in_batches(
    model: MusicModel, wishes: Sequence[Conditioning], streams: int, audio: list[Pcm]
) -> Iterator[float]:
    """The same, so many at a time, all as long as the longest of them; each cut to its own length."""
    for batch in batches(wishes, streams):
        longest_s = max(one.duration_s for one in batch)
        made: list[Pcm] = []
        yield from playing(model, [replace(one, duration_s=longest_s) for one in batch], streams, made)
        samples = [round(one.duration_s * model.info.sample_rate_hz) for one in batch]
        audio += [pcm[:count] for pcm, count in zip(made, samples, strict=True)]


def batches(wishes: Sequence[Conditioning], streams: int) -> list[Sequence[Conditioning]]:
    """The list, so many at a time."""
    return [wishes[begin : begin + streams] for begin in range(0, len(wishes), streams)]


def check_same(model: MusicModel, continuous: Sequence[Pcm], fixed: Sequence[Pcm]) -> None:
    """Both ways made the same music, but for the last moments of each piece."""
    end = round(END_S * model.info.sample_rate_hz)
    for number, (one, other) in enumerate(zip(continuous, fixed, strict=True)):
        if len(one) != len(other) or not np.array_equal(one[:-end], other[:-end]):
            raise SystemExit(f"request {number} is not the same audio in both ways: the comparison is void")


@dataclass(slots=True)
class Runner:
    """One way of working a list off, and what it took so far."""

    total_s: float
    steps: Iterator[float]
    made_s: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    is_over: bool = False

    def go_on(self) -> None:
        """A little further."""
        begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
        made_s = next(self.steps, None)
        self.wall_s += time.perf_counter() - begin_s
        self.cpu_s += time.process_time() - begin_cpu_s
        self.made_s += made_s or 0.0
        self.is_over = made_s is None


@dataclass(frozen=True, slots=True)
class Turn:
    """One list of requests, made in both ways."""

    audio_s: float
    continuous: Runner
    fixed: Runner
    #: Of the slots' time in the fixed batches, the share in which a slot makes what somebody asked for.
    fixed_occupancy: float
    #: Steps of the fixed batches through those of a slot list that is worked off in the same order.
    steps_ratio: float


def turn_of(model: MusicModel, other: MusicModel, streams: int, requests: int, order: int) -> Turn:
    """A list in an order of its own, both ways side by side: it is the turn of whichever has done less of its work."""
    lengths_s = list(LENGTHS_S) * (requests // len(LENGTHS_S))
    random.Random(order).shuffle(lengths_s)
    wishes = [wish(1000 * order + number, length_s) for number, length_s in enumerate(lengths_s)]
    batches_s = sum(max(one.duration_s for one in batch) for batch in batches(wishes, streams))
    audio: list[Pcm] = []
    audio_in_batches: list[Pcm] = []
    continuous = Runner(sum(lengths_s), playing(model, wishes, streams, audio))
    fixed = Runner(streams * batches_s, playing_in_batches(other, wishes, streams, audio_in_batches))
    while unfinished := [way for way in (continuous, fixed) if not way.is_over]:
        min(unfinished, key=lambda way: way.made_s / way.total_s).go_on()
    check_same(model, audio, audio_in_batches)
    free_s = [0.0] * streams
    for length_s in lengths_s:
        free_s[free_s.index(min(free_s))] += length_s
    return Turn(
        audio_s=sum(lengths_s),
        continuous=continuous,
        fixed=fixed,
        fixed_occupancy=sum(lengths_s) / (streams * batches_s),
        steps_ratio=batches_s / max(free_s),
    )


def continuous_vs_fixed(turns: Sequence[Turn]) -> dict[str, float]:
    """Medians over the lists."""

    def median(value: Callable[[Turn], float]) -> float:
        return round(statistics.median(map(value, turns)), 2)

    return {
        "audio_s": round(turns[0].audio_s),
        "continuous_audio_seconds_per_s": median(lambda turn: turn.audio_s / turn.continuous.wall_s),
        "fixed_audio_seconds_per_s": median(lambda turn: turn.audio_s / turn.fixed.wall_s),
        "throughput_ratio": median(lambda turn: turn.fixed.wall_s / turn.continuous.wall_s),
        "cpu_ratio": median(lambda turn: turn.fixed.cpu_s / turn.continuous.cpu_s),
        "ceiling": median(lambda turn: 1 / turn.fixed_occupancy),
        "ceiling_of_a_list_that_ends": median(lambda turn: turn.steps_ratio),
    }


def newcomer_s(model: MusicModel, running_s: float, number: int, *, fixed: bool) -> float:
    """Seconds to the first audio of one who comes while three others have `running_s` to go, and a slot is free."""
    others = [model.perform(wish(10 * number + other, running_s)).chunks for other in range(3)]
    for chunks in others:
        next(chunks)
    begin_s = time.perf_counter()
    if fixed:
        while others:
            others = [chunks for chunks in others if next(chunks, None) is not None]
        play(model, [wish(number, NEWCOMER_S)], 1)
        return time.perf_counter() - begin_s
    newcomer = model.perform(wish(number, NEWCOMER_S)).chunks
    next(newcomer)
    waited_s = time.perf_counter() - begin_s
    for chunks in [*others, newcomer]:
        # `Performance` says that they can be closed, their type does not.
        cast("Chunks", chunks).close()
    return waited_s


def newcomer_over_http_s(client: httpx.Client, running_s: float, number: int) -> float:
    """The same through Ray Serve, as its client sees it."""

    def first_audio(seed: int, duration_s: float) -> None:
        wanted = body(seed, duration_s) | {"purpose": "research"}
        answer = running.enter_context(client.stream("POST", "/v1/tracks/stream?format=pcm", json=wanted))
        answer.raise_for_status()
        next(answer.iter_raw())

    with ExitStack() as running:
        seed = 10 * number + round(1000 * running_s)
        for other in range(3):
            first_audio(seed + other, running_s)
        begin_s = time.perf_counter()
        first_audio(seed + 3, NEWCOMER_S)
        return time.perf_counter() - begin_s


def by_running_s(newcomer: Callable[[float, int], float], tries: int) -> dict[float, float]:
    """Median milliseconds to a newcomer's first audio by what the others have to go; they take turns."""
    waited_s: dict[float, list[float]] = {running_s: [] for running_s in RUNNING_S}
    for number in range(tries):
        for running_s, waits_s in waited_s.items():
            waits_s.append(newcomer(running_s, number))
    return {running_s: round(1000 * statistics.median(waits_s), 1) for running_s, waits_s in waited_s.items()}


def newcomers(model: MusicModel, checkpoint: str, tries: int) -> dict[str, dict[str, float]]:
    """What newcomers wait: in this process, for a fixed batch (tried once, it is long), and through Ray Serve."""
    for seed in range(len(STYLES)):
        play(model, [wish(seed, 1.0)], 1)  # Texts are encoded once; here it is the others that count.
    ways = {
        "continuous": by_running_s(partial(newcomer_s, model, fixed=False), tries),
        "fixed": by_running_s(partial(newcomer_s, model, fixed=True), 1),
    }
    with tempfile.TemporaryDirectory(prefix="serve-latency-") as folder:
        Signer.create(f"{folder}/key.pem")
        places = {"store_url": f"{folder}/store", "signing_key_path": f"{folder}/key.pem"}
        config = read_config({**places, "models": checkpoint, "low_latency": {"slots": 4, "queue_limit": 16}}, {})
        with service(config) as client:
            newcomer_over_http_s(client, NEWCOMER_S, 0)
            ways["serve"] = by_running_s(partial(newcomer_over_http_s, client), tries)
    return {f"{running_s:g}": {name: ms[running_s] for name, ms in ways.items()} for running_s in RUNNING_S}


def musicgen(requests: dict[int, int], turns: int, tries: int) -> dict[str, object]:
    """Continuous against fixed batches, and newcomers, on the engine in this process."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="serve-latency-") as folder:
        checkpoint = str(write_hugging_face(Path(folder) / "musicgen-tiny", TINY, TINY_CODEC))
        models = {
            streams: (tiny_musicgen(checkpoint, streams), tiny_musicgen(checkpoint, streams)) for streams in STREAMS
        }
        lists: dict[int, list[Turn]] = {streams: [] for streams in STREAMS}
        for order in range(turns):
            for streams, (model, other) in models.items():
                lists[streams].append(turn_of(model, other, streams, requests[streams], order))
        return {
            "model": "tiny random weights: 2 layers of width 64, 4 codebooks, int8",
            "lengths_s": {f"{length_s:g}": LENGTHS_S.count(length_s) for length_s in sorted(set(LENGTHS_S))},
            "turns": turns,
            "same_audio": True,
            "continuous_vs_fixed": {str(streams): continuous_vs_fixed(lists[streams]) for streams in STREAMS},
            "newcomer_first_audio_ms": newcomers(models[4][0], checkpoint, tries),
        }


def main() -> None:
    """Measure, compare, print."""
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(sys.executable, sys.orig_argv, os.environ | ENVIRONMENT)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few and short streams: minutes become seconds")
    parser.add_argument("--only", choices=["composer", "musicgen"], help="one part alone")
    parser.add_argument("--out", type=Path, help="also write the JSON document here")
    options = parser.parse_args()
    duration_s, rounds, per_round = (4.0, 2, {1: 2, 4: 4, 16: 16}) if options.quick else (8.0, 4, {1: 4, 4: 8, 16: 16})
    requests, turns, tries = ({4: 16, 16: 32}, 1, 5) if options.quick else ({4: 48, 16: 64}, 3, 21)
    parts: dict[str, object] = {}
    if options.only != "musicgen":
        parts |= {"track_s": duration_s, "same_audio": True} | compare(duration_s, rounds, per_round)
    if options.only != "composer":
        parts["musicgen"] = musicgen(requests, turns, tries)
    document = about(__doc__.splitlines()[0], quick=options.quick) | parts
    publish(document, options.out)


if __name__ == "__main__":
    main()
