"""The whole system on this machine, for `make demo` (play once, then stop) and `make serve` (stay up).

It starts Ray and Serve, streams one track over HTTP, renders the supplied catalog as a Ray Data job on the same
cluster, reports what each track cost, and leaves audio, MIDI, Parquet and the report in `out/`. The environment is
read here and handed on as configuration. Everything listens on loopback only; docs/operations.md lists it.

Exit codes of `--serve`: 0 after Ctrl-C · 143 after SIGTERM · 3 the cluster died; start it again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# Ray reads this when it is imported.
# Ray Data keeps its actors' arguments in the object store, and Ray's C++ core complains of that on the terminal.
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

import httpx
import pyarrow.dataset as ds
import ray
from ray import serve
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from batch_jobs.cost_report import write_report
from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.options import RenderOptions
from batch_jobs.render_catalog import Summary, render_catalog
from batch_jobs.run.progress import progress_view
from cluster.ray_internals import start_private_ray
from cluster.serve.front_proxy import haproxy, start_front_proxy
from cluster.supervision import OwnProcesses, await_death
from orchestrion.clock import SystemClock
from orchestrion.errors import InvalidRequest
from orchestrion.storage.track_store import TrackStore
from orchestrion.trust.signed_record import SignedRecord, verify
from orchestrion.trust.signing import Signer
from orchestrion.trust.signing_keys import default_signing_key, have_signing_key, trusted_keys
from serve_app.app import build_app
from serve_app.delivery.proxy import PROXY_ENVIRONMENT

CATALOG: Final = Path(__file__).parent / "demo-catalog.csv"
PROMPT: Final = "warm lofi hip hop for a rainy evening, mellow Rhodes and vinyl, 78 bpm, in D minor, 30 seconds"
HOST: Final = "127.0.0.1"
PREFERRED_PORT: Final = 8000
READY_TIMEOUT_S: Final = 180.0
#: The cluster died; a supervisor may start it again.
EXIT_DIED: Final = 3
WAV_HEADER_BYTES: Final = 44
PLAYERS: Final = (
    ("afplay",),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "quiet"),
    ("mpv", "--no-video", "--really-quiet"),
    ("paplay",),
    ("aplay", "-q"),
)

# In a log there is no width to fit, and a table cut at 80 columns says nothing.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


@dataclass(frozen=True, slots=True)
class StreamedTrack:
    """One track as a listener got it."""

    track_id: str
    path: Path
    time_to_first_sound_s: float
    cache_hit: bool
    charged_usd: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo, or serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m cluster.demo", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="stay up: web page and HTTP API until Ctrl-C")
    parser.add_argument("--out", type=Path, default=Path("out"), help="where everything goes (default: %(default)s)")
    parser.add_argument("--port", type=int, help=f"HTTP port (default: {PREFERRED_PORT}, or a free one if it is taken)")
    arguments = parser.parse_args(argv)
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    # Without this, SIGTERM would leave Ray's processes behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    key_path = default_signing_key(os.environ)
    try:
        signer = have_signing_key(key_path, lambda text: console.print(f"  {text}"))
        console.print(f"tracks are signed with key {signer.key_id}, {key_path}")
        with local_service(out, arguments.port or _free_port(PREFERRED_PORT), key_path) as service:
            if not arguments.serve:
                return _play(service.url, out, key_path)
            return _stay_up(service)
    except InvalidRequest as error:
        raise SystemExit(str(error)) from None


@dataclass(frozen=True, slots=True)
class LocalService:
    """A service that is up: its base URL, and the front proxy if there is one."""

    url: str
    front: subprocess.Popen[bytes] | None


@contextmanager
def local_service(out: Path, port: int, key_path: Path) -> Iterator[LocalService]:
    """Ray, the Serve application and a proxy in front of it on this machine, once they are ready."""
    console.print("[bold]1[/] starting Ray and Serve on this machine …")
    started_s = time.perf_counter()
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    os.environ.update(PROXY_ENVIRONMENT)
    with ExitStack() as running:
        front, serve_port = None, port
        if haproxy() is not None:
            serve_port = _free_port()
            front = start_front_proxy(f"{HOST}:{port}", f"{HOST}:{serve_port}")
            running.callback(_end, front)
        else:
            console.print("  no HAProxy here, so slow requests and their number are not limited")
        start_private_ray(num_cpus=os.cpu_count())
        running.callback(_shut_down)
        serve.start(http_options={"host": HOST, "port": serve_port}, logging_config={"log_level": "ERROR"})
        arguments: dict[str, Any] = {"store_url": str(out / "store"), "signing_key_path": str(key_path)}
        if model := os.environ.get("ORCHESTRION_MODEL"):
            arguments["models"] = model
        serve.run(build_app(arguments), name="orchestrion", route_prefix="/", blocking=False)
        url = f"http://{HOST}:{port}"
        _wait_until_ready(url, front)
        console.print(f"  ready after {time.perf_counter() - started_s:.1f} s at {url}")
        yield LocalService(url, front)


def _play(url: str, out: Path, key_path: Path) -> int:
    streamed = _stream(url, out)
    _verify(url, streamed, key_path)
    summary = _render_catalog(out, key_path)
    console.print("[bold]5[/] what it cost")
    report = write_report(str(out / "catalog"), out / "report", console)
    audio = [streamed.path, *_copy_out(out, summary.job_id)]
    rendered = summary.run_totals.tracks - summary.run_totals.cache_hits + int(not streamed.cache_hit)
    result = {
        "time_to_first_sound_s": round(streamed.time_to_first_sound_s, 3),
        "tracks": summary.totals.tracks + 1,
        "failures": summary.totals.failures,
        "rendered": rendered,
        "cost_usd": summary.run_totals.charged_usd + streamed.charged_usd,
        "audio": [str(path) for path in audio],
        "parquet": str(out / "catalog"),
        "report": str(report),
    }
    (out / "summary.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    console.print(
        f"\nlisten   {streamed.path}\n         {len(audio) - 1} more tracks, and their MIDI, in {out / 'audio'}"
    )
    console.print(f"costs    {report}\nParquet  {out / 'catalog'}\nsummary  {out / 'summary.json'}")
    if rendered < len(audio):
        console.print(f"{rendered} of {len(audio)} tracks were rendered now; the others were there already")
    _play_aloud(streamed.path)
    return summary.exit_code


def _stream(url: str, out: Path) -> StreamedTrack:
    """Ask for one track and take it chunk by chunk, as a listener would."""
    console.print(f"[bold]2[/] streaming over HTTP: [italic]{PROMPT}[/]")
    path = out / "first-track.wav"
    started_s = time.perf_counter()
    first_sound_s: float | None = None
    bar = Progress(TextColumn("  "), BarColumn(), TextColumn("{task.fields[figures]}"), console=console)
    with (
        httpx.stream("POST", f"{url}/v1/tracks/stream", json={"prompt": PROMPT}, timeout=120.0) as answer,
        path.open("wb") as file,
        bar,
    ):
        if answer.status_code >= 400:
            raise SystemExit(f"the service refused: {answer.status_code} {answer.read().decode()}")
        task = bar.add_task("stream", total=None, figures="waiting for the first sound")
        for data in answer.iter_bytes():
            file.write(data)
            if first_sound_s is None and file.tell() > WAV_HEADER_BYTES:
                first_sound_s = time.perf_counter() - started_s
            bar.update(task, completed=file.tell(), figures=f"{file.tell() / 2**20:.1f} MiB")
        bar.update(task, total=file.tell())
    if first_sound_s is None:
        raise SystemExit("the stream ended without audio")
    total_s = time.perf_counter() - started_s
    track_id, cache_hit = answer.headers["x-track-id"], answer.headers.get("x-cache") == "hit"
    charged_usd = 0.0 if cache_hit else _record(url, track_id).record.cost_usd
    source = "from the store (cache hit)" if cache_hit else "while it was being made"
    console.print(f"  first sound after {first_sound_s:.2f} s, whole after {total_s:.1f} s, {source}: {path}")
    return StreamedTrack(track_id, path, first_sound_s, cache_hit, charged_usd)


def _verify(url: str, streamed: StreamedTrack, key_path: Path) -> None:
    """Hold the stored track against its signed record, with the public key of this installation."""
    console.print("[bold]3[/] verifying the stored track against its signed record")
    audio = httpx.get(f"{url}/v1/tracks/{streamed.track_id}/audio", timeout=60.0).raise_for_status().content
    signed = _record(url, streamed.track_id)
    verify(signed, audio, trusted_keys(Signer.load(key_path), None))
    record = signed.record
    console.print(
        f"  {record.track_id}: {record.choices['key']}, {record.choices['tempo_bpm']} bpm, "
        f"{record.measured_loudness_lufs:.1f} LUFS, ${record.cost_usd:.6f}; signature and audio fit"
    )


def _record(url: str, track_id: str) -> SignedRecord:
    answer = httpx.get(f"{url}/v1/tracks/{track_id}/provenance", timeout=60.0).raise_for_status()
    return SignedRecord.from_bytes(answer.content)


def _render_catalog(out: Path, key_path: Path) -> Summary:
    console.print(f"[bold]4[/] rendering {CATALOG.name} as a Ray Data job on the same cluster")
    options = RenderOptions(
        catalog=str(CATALOG),
        out=str(out / "catalog"),
        store_url=str(out / "store"),
        signing_key_path=str(key_path),
    )
    with progress_view("auto", time.perf_counter) as view:
        summary = render_catalog(options, view)
    console.print("  " + summary.describe().replace("\n", "\n  "))
    return summary


def _copy_out(out: Path, job_id: str) -> list[Path]:
    """The job's audio and MIDI under names that a person can read, beside the store's hashes."""
    folder = out / "audio"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    store = TrackStore.open(str(out / "store"))
    columns = ["line", "title", "audio_key", "midi_key"]
    tracks = ledger_dataset(str(out / "catalog"), {}, "tracks")
    rows = tracks.to_table(columns=columns, filter=ds.field("job_id") == job_id).to_pylist()
    copied = []
    for number, row in enumerate(sorted(rows, key=lambda row: row["line"]), start=1):
        name = f"{number:02}-{re.sub(r'[^a-z0-9]+', '-', (row['title'] or 'track').lower()).strip('-')}"
        audio = folder / (name + Path(row["audio_key"]).suffix)
        audio.write_bytes(store.get_blob(row["audio_key"]))
        copied.append(audio)
        if row["midi_key"]:
            (folder / f"{name}.mid").write_bytes(store.get_blob(row["midi_key"]))
    return copied


def _play_aloud(path: Path) -> None:
    """Play the track if a person sits at the terminal and the machine has a player."""
    player = next((player for player in PLAYERS if shutil.which(player[0])), None)
    if player is None or not sys.stdout.isatty():
        return
    console.print(f"playing it with {player[0]} (Ctrl-C stops)")
    with suppress(KeyboardInterrupt):
        subprocess.run([*player, str(path)], check=False)


def _stay_up(service: LocalService) -> int:
    """Until Ctrl-C, or until the service is dead for good: then a supervisor may start it again."""
    console.print(f"\n[bold]web page[/] {service.url}/    [bold]API[/] {service.url}/docs    Ctrl-C stops")
    processes = OwnProcesses()
    try:
        died = await_death(
            lambda: processes.what_died() or _died(service.front),
            lambda: _answers(f"{service.url}/healthz"),
            SystemClock(),
        )
    except KeyboardInterrupt:
        return 0
    sys.stderr.write(f"make serve: {died}, so this ends. Ray's logs are in /tmp/ray/session_latest/logs\n")
    sys.stderr.flush()
    processes.end()
    # Not by an exception: Ray's own clean-up waits for the cluster that is no more.
    os._exit(EXIT_DIED)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=10.0).status_code == 200
    except httpx.TransportError:
        return False


def _died(front: subprocess.Popen[bytes] | None) -> str | None:
    return None if front is None or front.poll() is None else f"HAProxy ended with {front.returncode}"


def _end(front: subprocess.Popen[bytes]) -> None:
    front.terminate()
    front.wait()


def _shut_down() -> None:
    # The cluster is this process's own: ending it ends Serve too, and needs no draining.
    console.print("  shutting Serve and Ray down …")
    ray.shutdown()


def _wait_until_ready(url: str, front: subprocess.Popen[bytes] | None) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if died := _died(front):
            raise SystemExit(died)
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", timeout=10.0).status_code == 200:
                return
        time.sleep(0.2)
    raise SystemExit(f"the service was not ready within {READY_TIMEOUT_S:.0f} s")


def _free_port(preferred: int = 0) -> int:
    """The preferred port, or any free one when something else has it."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SystemExit(f"no free port on {HOST}")


if __name__ == "__main__":
    sys.exit(main())
