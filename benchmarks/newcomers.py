"""How long a stream is interrupted while other clients ask for tracks with prompts that the service has not seen.

A tiny MusicGen with a text encoder of t5-base's size, behind Ray Serve. The largest gap between two pieces of one
stream is taken while
  - alone: there is no other client;
  - known: 20 requests come, a few a second, with prompts whose text was encoded before: what sharing the steps costs;
  - new:   20 requests come in the same way with prompts of some 250 tokens that are new: what opening them adds.
The three take turns. The first seconds that the stream plays are compared between all of them: the same audio.

Each is done in two ways:
  - as_listened: the stream goes out at the default pace, after its lead: what a listener has;
  - flat_out: it goes out as fast as it is made, so that it alone takes all cores of a small machine. Any other work
    takes some of them from it, and its pieces come later by as much: that is the ceiling.

Ends in one JSON document: `newcomers.py [--quick] [--out FILE]`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from benchmarks.document import about, publish
from benchmarks.serve_latency import ENVIRONMENT, percentile, service
from orchestrion.trust.signing import Signer
from serve_app.config import read_config
from tests.musicgen_checkpoints import TINY_CODEC, WORDS, lm_geometry, write_hugging_face

NEWCOMERS: Final = 20
#: Of what newcomers ask for; short, so that all of them get a slot while the stream goes on.
NEWCOMER_S: Final = 1.0
#: Between two newcomers, as a rush of listeners would come.
APART_S: Final = 0.2
#: Long enough not to end while newcomers come: at its end a stream waits until its track is mastered and stored.
STREAM_S: Final = 600.0
END_S: Final = 10.0
#: What is compared. Gaps before it are not counted: a stream's first chunks are shorter.
HEAD_S: Final = 8.0
#: The default lead of a stream, and a second for it to settle at its pace.
LED_S: Final = 61.0
#: How long the stream is listened to while nobody comes: as long as newcomers with new prompts take, because the
#: largest of more gaps is larger.
ALONE_S: Final = 20.0
#: Bytes of a second of the model's audio as PCM.
BYTES_PER_S: Final = 2 * TINY_CODEC.sample_rate_hz
#: What the stream may be interrupted at most, in gaps of the same stream where nobody asks anything new.
TARGET: Final = 1.2
PROMPT_WORDS: Final = 240
PHASES: Final = ("alone", "known", "new")


@dataclass(frozen=True, slots=True)
class Heard:
    """One stream as its client saw it. Gaps are seconds between two of its pieces, while the others came."""

    gaps_s: list[float]
    sha256: str
    newcomers_s: list[float]


def prompt(number: int) -> str:
    """Some 250 tokens, the same for the same number."""
    draw = random.Random(number)
    return " ".join(draw.choices(WORDS, k=PROMPT_WORDS))


def body(prompt: str, seed: int, duration_s: float) -> dict[str, object]:
    """One request. Its store is empty of it: seeds are used once."""
    return {"prompt": prompt, "seed": seed, "duration_s": duration_s, "purpose": "research"}


def ask(client: httpx.Client, words: str, seed: int) -> float:
    """One newcomer; seconds to its finished track."""
    begin_s = time.perf_counter()
    client.post("/v1/tracks", json=body(words, seed, NEWCOMER_S)).raise_for_status()
    return time.perf_counter() - begin_s


def rush(client: httpx.Client, prompts: Iterator[str], first_seed: int, end: threading.Event) -> list[float]:
    """All newcomers, one after the other; what each waited."""
    with ThreadPoolExecutor(NEWCOMERS) as threads:
        waits: list[Future[float]] = []
        for number, words in enumerate(prompts):
            waits.append(threads.submit(ask, client, words, first_seed + number))
            time.sleep(APART_S)
        waited_s = [wait.result() for wait in waits]
    end.set()
    return waited_s


def hear(client: httpx.Client, phase: str, turn: int, settled_s: float) -> Heard:
    """One stream, and what comes meanwhile, once so many seconds of it are there."""
    end, head, gaps_s = threading.Event(), bytearray(), []
    head_bytes, made = round(HEAD_S * BYTES_PER_S), 0
    seed = 1000 * (3 * turn + PHASES.index(phase))
    prompts = {
        "alone": iter(()),
        "known": (prompt(number) for number in range(NEWCOMERS)),
        "new": (prompt(10_000 + 1000 * turn + number) for number in range(NEWCOMERS)),
    }[phase]
    came: Future[list[float]] | None = None
    with (
        ThreadPoolExecutor(1) as threads,
        client.stream(
            "POST",
            "/v1/tracks/stream?format=pcm",
            json=body("calm piano", 77_000 + turn, STREAM_S) | {"requester": phase},
        ) as answer,
    ):
        answer.raise_for_status()
        last_s = begun_s = 0.0
        for data in answer.iter_raw():
            now_s = time.perf_counter()
            made += len(data)
            if made > (STREAM_S - END_S) * BYTES_PER_S:
                break
            if len(head) < head_bytes:
                head += data
            if made < settled_s * BYTES_PER_S:
                continue
            if came is None:
                begun_s = now_s
                came = threads.submit(rush, client, prompts, seed, end)
            else:
                gaps_s.append(now_s - last_s)
            last_s = now_s
            if end.is_set() and now_s - begun_s >= ALONE_S:
                break
    if came is None or not end.is_set():
        raise SystemExit("the stream was over before the last newcomer had come: the measurement is void")
    return Heard(gaps_s, hashlib.sha256(head[:head_bytes]).hexdigest(), came.result())


def measure(turns: int, serving: dict[str, object], settled_s: float) -> dict[str, object]:
    """All phases in turn, of a service with these settings."""
    heard: dict[str, list[Heard]] = {phase: [] for phase in PHASES}
    with tempfile.TemporaryDirectory(prefix="newcomers-") as folder:
        checkpoint = write_hugging_face(Path(folder) / "musicgen-tiny", lm_geometry(64, 4, 2, text_dim=768), TINY_CODEC)
        Signer.create(f"{folder}/key.pem")
        settings = {
            "models": str(checkpoint),
            "signing_key_path": f"{folder}/key.pem",
            "store_url": f"{folder}/store",
            "low_latency": {"slots": 8, "queue_limit": 32},
        } | serving
        with service(read_config(settings, {})) as client:
            for number in range(NEWCOMERS):
                ask(client, prompt(number), 500_000 + number)
            for turn in range(turns):
                for phase in PHASES:
                    heard[phase].append(hear(client, phase, turn, settled_s))
                    sys.stderr.write(f"{phase}: {1000 * max(heard[phase][-1].gaps_s):.0f} ms at most\n")
                    forget(Path(folder) / "store")
    for turn in range(turns):
        if len({heard[phase][turn].sha256 for phase in PHASES}) > 1:
            raise SystemExit("the streams are not the same audio: the comparison is void")
    largest_ms = {
        phase: round(1000 * statistics.median(max(one.gaps_s) for one in heard[phase]), 1) for phase in PHASES
    }
    return {
        "streams": turns,
        "same_audio": True,
        "largest_gap_ms": largest_ms,
        "p95_gap_ms": {
            phase: percentile([1000 * gap_s for one in heard[phase] for gap_s in one.gaps_s], 95) for phase in PHASES
        },
        "median_gap_ms": {
            phase: percentile([1000 * gap_s for one in heard[phase] for gap_s in one.gaps_s], 50) for phase in PHASES
        },
        "newcomer_p50_ms": {
            phase: percentile([1000 * wait_s for one in heard[phase] for wait_s in one.newcomers_s], 50)
            for phase in ("known", "new")
        },
        "new_through_known": round(largest_ms["new"] / largest_ms["known"], 3),
        "new_through_alone": round(largest_ms["new"] / largest_ms["alone"], 3),
    }


def forget(store: Path) -> None:
    """Empty the store of tracks, so that the next stream is made and not found."""
    shutil.rmtree(store / "tracks", ignore_errors=True)


def main() -> None:
    """Measure, compare, print."""
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(sys.executable, sys.orig_argv, os.environ | ENVIRONMENT)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one turn of each")
    parser.add_argument("--out", type=Path, help="also write the JSON document here")
    options = parser.parse_args()
    turns = 1 if options.quick else 3
    document = about(__doc__.splitlines()[0], quick=options.quick) | {
        "target": TARGET,
        "as_listened": measure(turns, {}, LED_S),
        "flat_out": measure(turns, {"stream_lead_s": STREAM_S}, HEAD_S),
    }
    publish(document, options.out)


if __name__ == "__main__":
    main()
