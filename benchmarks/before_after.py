"""Time to first audio over HTTP, catalog rate and engine speed of this checkout against another revision's.

The other revision is laid out as a git worktree in a temporary folder and runs on the same installed packages. Both are
up at the same time and take turns, so that whatever else the machine does falls on both:
  - serve:   both services of `make serve`, one stream after the other in turn, at 1 and 4 clients; the composer;
  - catalog: the job command, one whole run after the other in turn; tracks a second between the first and the last;
  - engine:  both engines in a process each, the same pieces in turn, alone and four at once, by precision.
Each figure is the median over the turns of after / before: above 1 is faster for rates, slower for times. What the two
make is compared too: the same audio from both, or the JSON says that it differs.

Ends in one JSON document: `before_after.py --before REVISION [--quick] [--only PART] [--out FILE]`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import httpx

if TYPE_CHECKING:
    from orchestrion.models.protocol import Conditioning, MusicModel

ROOT: Final = Path(__file__).resolve().parents[1]
SIDES: Final = ("before", "after")
STYLES: Final = ("lofi", "piano", "house", "jazz", "folk", "synthwave", "celtic", "reggae")
#: As the replicas have it; and Ray's niceness of 15 for its workers would be measured wherever anything else runs.
ENVIRONMENT: Final = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1") | {
    "RAY_worker_niceness": "0"
}
READY_TIMEOUT_S: Final = 240.0
#: Only in a checkout from before the rooms; seen from a probe's working folder. A failed import does not tell: what the
#: old checkout lacks is found in the installed one. What only the old one has
#: is imported by name, because mypy sees this one.
BEFORE_THE_ROOMS: Final = Path("orchestrion/request.py")


@dataclass(frozen=True, slots=True)
class Checkout:
    """One side: its code, and a folder for what it makes."""

    name: str
    code: Path
    folder: Path

    def environment(self) -> dict[str, str]:
        """Of its processes: its own code comes before what is installed."""
        own = {
            "PYTHONPATH": str(self.code),
            "ORCHESTRION_SIGNING_KEY": str(self.folder.with_name(f"{self.name}-key.pem")),
        }
        return os.environ | ENVIRONMENT | own

    def popen(
        self, *arguments: str, stdin: int | None = None, stdout: int | TextIO | None = None, stderr: int | None = None
    ) -> subprocess.Popen[str]:
        """A Python of this side in a session of its own, so that all it starts can be ended with it."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.code,
            env=self.environment(),
            text=True,
            start_new_session=True,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )


@contextmanager
def worktree(revision: str) -> Iterator[Path]:
    """The code of another revision, as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="revision-") as name:
        code = Path(name) / "code"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(code), revision], check=True)
        try:
            yield code
        finally:
            subprocess.run([*git, "remove", "--force", str(code)], check=True)


@contextmanager
def checkouts(revision: str) -> Iterator[tuple[Checkout, Checkout]]:
    """Both sides, each with an empty folder."""
    with tempfile.TemporaryDirectory(prefix="before-after-") as name, worktree(revision) as code:
        sides = Checkout("before", code, Path(name) / "before"), Checkout("after", ROOT, Path(name) / "after")
        for side in sides:
            side.folder.mkdir()
        yield sides


def ratio(after: Sequence[float], before: Sequence[float]) -> float:
    """Median of after / before over the turns."""
    return round(statistics.median(a / b for a, b in zip(after, before, strict=True)), 3)


# Over HTTP


@contextmanager
def service(side: Checkout) -> Iterator[httpx.Client]:
    """`make serve` of one side."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (side.folder / "serve.log").open("w", encoding="utf-8")
    process = side.popen(
        "-m", "cluster.demo", "--serve", "--port", str(port), "--out", str(side.folder / "serve"),
        stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            deadline_s = time.monotonic() + READY_TIMEOUT_S
            while not _is_ready(client):
                if process.poll() is not None or time.monotonic() > deadline_s:
                    raise SystemExit(f"{side.name} did not start:\n{Path(log.name).read_text()[-3000:]}")
                time.sleep(0.5)
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)
        log.close()


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def first_audio(client: httpx.Client, seed: int, duration_s: float) -> tuple[float, str]:
    """Milliseconds to the first audio of one stream, and the hash of all of it."""
    body = {"prompt": STYLES[seed % len(STYLES)], "duration_s": duration_s, "seed": seed}
    started_s, first_s, digest = time.perf_counter(), 0.0, hashlib.sha256()
    with client.stream("POST", "/v1/tracks/stream?format=pcm", json=body) as answer:
        for data in answer.iter_raw():
            first_s = first_s or time.perf_counter() - started_s
            digest.update(data)
        if answer.status_code != 200:
            raise SystemExit(f"seed {seed}: {answer.status_code}")
    return 1000 * first_s, digest.hexdigest()


def compare_services(sides: tuple[Checkout, Checkout], turns: int, duration_s: float) -> dict[str, object]:
    """Time to first audio at 1 and 4 clients."""
    with ExitStack() as running:
        clients = {side.name: running.enter_context(service(side)) for side in sides}
        for client in clients.values():
            for seed in range(4):
                first_audio(client, 900_000 + seed, duration_s)
        levels: dict[str, object] = {}
        same = True
        for level in (1, 4):
            first_ms: dict[str, list[float]] = {name: [] for name in SIDES}
            medians: dict[str, list[float]] = {name: [] for name in SIDES}
            with ThreadPoolExecutor(level) as threads:
                for turn in range(turns):
                    seeds = range(1000 * level + level * turn, 1000 * level + level * (turn + 1))
                    heard = {}
                    for name in SIDES if turn % 2 else SIDES[::-1]:
                        heard[name] = list(
                            threads.map(lambda seed, name=name: first_audio(clients[name], seed, duration_s), seeds)
                        )
                        first_ms[name] += [ms for ms, _ in heard[name]]
                        medians[name].append(statistics.median(ms for ms, _ in heard[name]))
                    same &= [sha for _, sha in heard["before"]] == [sha for _, sha in heard["after"]]
            levels[f"{level} clients"] = {
                "first_audio_p50_ms": {name: round(statistics.median(ms), 1) for name, ms in first_ms.items()},
                "ratio": ratio(medians["after"], medians["before"]),
            }
    return {"track_s": duration_s, "turns": turns, "same_audio": same, "first_audio": levels}


# A catalog


def compare_catalogs(sides: tuple[Checkout, Checkout], turns: int, tracks: int, duration_s: float) -> dict[str, object]:
    """The rate of one render process in a whole job of its own."""
    rates: dict[str, list[float]] = {name: [] for name in SIDES}
    walls: dict[str, list[float]] = {name: [] for name in SIDES}
    found: dict[str, set[str]] = {name: set() for name in SIDES}
    for turn in range(turns):
        for side in sides if turn % 2 else sides[::-1]:
            out = side.folder / f"catalog-{turn}"
            catalog = side.folder / f"catalog-{turn}.jsonl"
            rows = (
                {"prompt": f"{STYLES[n % len(STYLES)]} sketch", "seed": n, "duration_s": duration_s}
                for n in range(tracks)
            )
            catalog.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            started_s = time.perf_counter()
            job = side.popen(
                "-m", "batch_jobs.render_catalog", "--catalog", str(catalog), "--out", str(out), "--workers", "1",
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            said, _ = job.communicate(timeout=900)
            if job.returncode != 0:
                raise SystemExit(f"{side.name}: the job ended with {job.returncode}:\n{said[-3000:]}")
            walls[side.name].append(time.perf_counter() - started_s)
            moments, audio = _asked(side, "catalog", str(out))
            rates[side.name].append((len(moments) - 3) / (moments[-1] - moments[2]))
            found[side.name] |= set(audio)
    return {
        "tracks": tracks,
        "track_s": duration_s,
        "turns": turns,
        "same_audio": found["before"] == found["after"],
        "tracks_per_s": {name: round(statistics.median(values), 3) for name, values in rates.items()},
        "ratio": ratio(rates["after"], rates["before"]),
        "job_s": {name: round(statistics.median(values), 1) for name, values in walls.items()},
        "job_s_ratio": ratio(walls["after"], walls["before"]),
    }


def probe_catalog(out: str) -> None:
    """Run in a side's own process: when its tracks were made, and their hashes."""
    from datetime import datetime

    if not BEFORE_THE_ROOMS.exists():
        from batch_jobs.ledger.dataset import ledger_dataset
    else:
        ledger_dataset = import_module("batch_jobs.books.ledger").ledger_dataset

    table = ledger_dataset(out, {}, "tracks").to_table(columns=["created_at", "audio_sha256"])
    made = sorted(
        moment.timestamp() if isinstance(moment, datetime) else datetime.fromisoformat(moment).timestamp()
        for moment in table["created_at"].to_pylist()
    )
    print(json.dumps([made, sorted(table["audio_sha256"].to_pylist())]))


def _asked(side: Checkout, probe: str, *arguments: str) -> list[list[Any]]:
    process = side.popen(__file__, "--probe", probe, *arguments, stdout=subprocess.PIPE)
    answer, _ = process.communicate(timeout=300)
    if process.returncode != 0:
        raise SystemExit(f"{side.name}: the probe {probe} ended with {process.returncode}")
    found: list[list[Any]] = json.loads(answer)
    return found


# The engine


def compare_engines(sides: tuple[Checkout, Checkout], turns: int, size: str, piece_s: float) -> dict[str, object]:
    """Seconds of computing for a second of audio."""
    checkpoint = sides[1].folder / f"musicgen-{size}"
    made = sides[1].popen(
        "-m", "tests.musicgen_checkpoints", str(checkpoint), "--size", size, stdout=subprocess.DEVNULL
    )
    if made.wait(timeout=300) != 0:
        raise SystemExit("the checkpoint could not be made")
    compared: dict[str, object] = {}
    same = True
    for precision in ("int8", "bf16", "int4"):
        with ExitStack() as running:
            engines = {side.name: running.enter_context(engine(side, checkpoint, precision)) for side in sides}
            for ask in engines.values():
                ask(1, 900_000, piece_s)
            for pieces in (1, 4):
                took: dict[str, list[float]] = {name: [] for name in SIDES}
                for turn in range(turns):
                    heard = {}
                    for name in SIDES if turn % 2 else SIDES[::-1]:
                        seconds, heard[name] = engines[name](pieces, 100 * pieces + turn, piece_s)
                        took[name].append(seconds)
                    same &= heard["before"] == heard["after"]
                compared[f"{precision}, {pieces} at once"] = {
                    "ms_per_frame": {name: round(statistics.median(s) * 20 / piece_s, 2) for name, s in took.items()},
                    "ratio": ratio(took["after"], took["before"]),
                }
    return {"size": size, "piece_s": piece_s, "turns": turns, "same_audio": same, "engine": compared}


@contextmanager
def engine(
    side: Checkout, checkpoint: Path, precision: str
) -> Iterator[Callable[[int, int, float], tuple[float, str]]]:
    """A process with the model loaded; asked for so many pieces at once, it says how long they took and their hash."""
    process = side.popen(
        __file__, "--probe", "engine", str(checkpoint), precision, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("both are pipes")
    stdin, stdout = process.stdin, process.stdout

    def ask(pieces: int, seed: int, duration_s: float) -> tuple[float, str]:
        stdin.write(json.dumps([pieces, seed, duration_s]) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise SystemExit(f"{side.name}: the engine ended with {process.wait()}")
        seconds, sha256 = json.loads(line)
        return seconds, sha256

    try:
        yield ask
    finally:
        stdin.close()
        process.wait(timeout=60)


def _model_and_wish(checkpoint: str, precision: str) -> tuple[MusicModel, Conditioning]:
    """Of a side, in its own process."""
    from orchestrion.clock import SystemClock
    from orchestrion.models.protocol import Conditioning

    model: MusicModel
    if BEFORE_THE_ROOMS.exists():
        models, request = import_module("orchestrion.models"), import_module("orchestrion.request")
        model = models.load_model(checkpoint, models.ModelSettings(precision=precision, slots=4), SystemClock())
        asked = request.TrackSpec(prompt="slow piano", duration_s=5).resolve()
    else:
        from orchestrion.models.registry import load_model
        from orchestrion.models.settings import ModelSettings
        from orchestrion.tracks.spec import TrackSpec

        model = load_model(checkpoint, ModelSettings(precision=precision, slots=4), SystemClock())
        asked = TrackSpec(prompt="slow piano", duration_s=5).resolve()
    return model, Conditioning.of(getattr(asked, "composition", asked), None, None)


def probe_engine(checkpoint: str, precision: str) -> None:
    """Run in a side's own process."""
    model, base = _model_and_wish(checkpoint, precision)
    for line in sys.stdin:
        pieces, seed, duration_s = json.loads(line)
        wanted = [replace(base, duration_s=duration_s, seed=10 * seed + number) for number in range(pieces)]
        started_s = time.perf_counter()
        running = [model.perform(one).chunks for one in wanted]
        heard = [hashlib.sha256() for _ in running]
        going = set(range(pieces))
        while going:
            for number in sorted(going):
                chunk = next(running[number], None)
                if chunk is None:
                    going.discard(number)
                else:
                    heard[number].update(chunk.tobytes())
        seconds = time.perf_counter() - started_s
        print(json.dumps([seconds, "".join(one.hexdigest() for one in heard)]), flush=True)


PROBES: Final[dict[str, Callable[..., None]]] = {"catalog": probe_catalog, "engine": probe_engine}
PARTS: Final = ("serve", "catalog", "engine")


def main() -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="HEAD", help="the revision to compare with (default: the last commit)")
    parser.add_argument("--quick", action="store_true", help="few turns and a tiny model: shows that it works")
    parser.add_argument("--only", choices=PARTS, help="one part alone")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    parser.add_argument("--probe", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        PROBES[options.probe[0]](*options.probe[1:])
        return 0
    # Here, because the other revision, in which probes run too, need not have it.
    from benchmarks.document import publish

    parts: dict[str, object] = {}
    with checkouts(options.before) as sides:
        if options.only in (None, "serve"):
            parts["serve"] = compare_services(sides, *((4, 4.0) if options.quick else (20, 6.0)))
        if options.only in (None, "catalog"):
            parts["catalog"] = compare_catalogs(sides, *((1, 6, 5.0) if options.quick else (3, 20, 20.0)))
        if options.only in (None, "engine"):
            parts["engine"] = compare_engines(sides, *((2, "tiny", 2.0) if options.quick else (5, "small", 2.0)))
    revisions = (options.before, "HEAD")
    named = [
        subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "--short", one], check=True, capture_output=True, text=True
        )
        for one in revisions
    ]
    document = {
        "question": __doc__.splitlines()[0],
        "before": named[0].stdout.strip(),
        "after": named[1].stdout.strip(),
        "machine": {"cpus": os.cpu_count(), "load_average": os.getloadavg(), "python": platform.python_version()},
        "quick": options.quick,
    } | parts
    publish(document, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
