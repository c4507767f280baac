"""What a listener waits for: the first audio among other streams, a long piece, the codec, and a piece alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from benchmarks.gpu.bench import Bench
from orchestrion.clock import SystemClock
from orchestrion.models.musicgen.codec.codec import Codec
from orchestrion.models.musicgen.loop import Chunks
from orchestrion.models.musicgen.model import MusicGen
from orchestrion.models.protocol import Conditioning, MusicModel, Performance
from orchestrion.models.registry import load_model
from orchestrion.models.settings import ModelSettings
from tests.musicgen_checkpoints import random_codec, write_audiocraft

STREAMS: Final = 64
NEWCOMERS: Final = 60
PIECE_S: Final = 10.0
LONG_PIECE_S: Final = 60.0
#: Words of a prompt that is as long as may be: the made-up tokenizer takes two or more tokens for each.
LONG_PROMPT_WORDS: Final = 60
LANES: Final = (1, 8, 64)
FRAMES: Final = (14, 50)


def piece(seed: int, duration_s: float, words: int = 10) -> Conditioning:
    """A request with a text that is new: what was encoded once is remembered."""
    names = np.random.default_rng(seed).integers(10, 99, words)
    prompt = f"take {seed}: " + " ".join(f"{name}" for name in names)
    return Conditioning(prompt, "", None, None, None, None, duration_s, seed, None)


def loaded(bench: Bench, folder: Path, *, official: bool, slots: int) -> MusicModel:
    """The checkpoint in ours or in the official audiocraft."""
    entry = f"audiocraft:{folder}" if official else str(folder)
    return load_model(entry, ModelSettings(device=bench.device, slots=slots, threads=4), SystemClock())


def ours(bench: Bench, slots: int) -> MusicGen:
    """The checkpoint in ours, which can be closed."""
    model = loaded(bench, checkpoint(bench), official=False, slots=slots)
    assert isinstance(model, MusicGen)
    return model


def give_up(performance: Performance) -> None:
    """Stop a piece early. `Performance` says that its chunks can be closed, their type does not."""
    cast("Chunks", performance.chunks).close()


def checkpoint(bench: Bench) -> Path:
    """Of the small model's size, written once a run."""
    folder = bench.folder / "checkpoint"
    if not folder.exists():
        write_audiocraft(folder, bench.small, bench.codec)
        bench.say("  a checkpoint is written")
    return folder


def figures_ms(times_ms: list[float]) -> dict[str, Any]:
    """Median, 95th percentile and how many."""
    return {
        "median": round(statistics.median(times_ms), 2),
        "p95": round(float(np.percentile(times_ms, 95)), 2),
        "count": len(times_ms),
    }


def measure_first_audio(bench: Bench) -> Iterator[tuple[str, Any]]:
    """What each newcomer waits for while all other slots play: for its text to be encoded, and then for its audio."""
    streams = bench.sized(STREAMS, 2)
    model = ours(bench, slots=streams)
    length_s = bench.sized(30, 1)
    seeds = iter(range(1_000_000))

    def playing(words: int) -> tuple[Performance, float, float]:
        wish = piece(next(seeds), length_s, words)
        started_s = time.perf_counter()
        prepared = model.prepare(wish)
        ready_s = time.perf_counter()
        performance = model.perform(wish, prepared=prepared)
        next(performance.chunks)
        return performance, 1e3 * (ready_s - started_s), 1e3 * (time.perf_counter() - ready_s)

    alone, encoding_ms, drawing_ms = playing(10)
    yield "alone", {"text_ms": round(encoding_ms, 2), "first_audio_ms": round(drawing_ms, 2)}
    others = [alone, *(playing(10)[0] for _ in range(streams - 2))]
    for name, words in (("prompts of ten words", 10), ("prompts as long as may be", LONG_PROMPT_WORDS)):
        text_ms, audio_ms = [], []
        for n in range(bench.sized(NEWCOMERS, 2)):
            # Somebody leaves, somebody comes, so that all are at different places.
            place = n % len(others)
            give_up(others[place])
            others[place], encoding_ms, drawing_ms = playing(words)
            text_ms.append(encoding_ms)
            audio_ms.append(drawing_ms)
            if not bench.time_left():
                break
        found = {"streams": streams, "text_ms": figures_ms(text_ms), "then_first_audio_ms": figures_ms(audio_ms)}
        yield f"among others, {name}", found
    started_s = time.perf_counter()
    samples = sum(len(next(other.chunks, ())) for _ in range(bench.sized(3, 1)) for other in others)
    audio_s = samples / model.info.sample_rate_hz
    factor = audio_s / (time.perf_counter() - started_s)
    yield "all of them, with engine and codec", {"audio_s": round(audio_s, 1), "real_time_factor": round(factor, 1)}
    for other in others:
        give_up(other)
    model.close()


def measure_long_piece_and_codec(bench: Bench) -> Iterator[tuple[str, Any]]:
    """A piece of several windows among short ones, and one call of the codec by lanes and frames."""
    streams = bench.sized(8, 2)
    model = ours(bench, slots=streams)
    length_s = bench.sized(int(LONG_PIECE_S), 1)
    others = [model.perform(piece(seed, length_s)) for seed in range(streams - 1)]
    started_s = time.perf_counter()
    longest_gap_s, samples, last_s = 0.0, 0, started_s
    for chunk in model.perform(piece(streams, length_s)).chunks:
        now_s = time.perf_counter()
        longest_gap_s, last_s = max(longest_gap_s, now_s - last_s), now_s
        samples += len(chunk)
    took_s = time.perf_counter() - started_s
    yield (
        f"a piece of {length_s} s among {streams}",
        {"took_s": round(took_s, 2), "longest_gap_ms": round(1e3 * longest_gap_s, 1)},
    )
    for other in others:
        give_up(other)
    model.close()
    bench.free()
    weights, lanes_of = random_codec(bench.codec), LANES[: bench.sized(len(LANES), 1)]
    for lanes in lanes_of:
        codec = Codec(bench.codec, weights, slots=lanes, threads=1, device=bench.device)
        open_lanes = [codec.open() for _ in range(lanes)]
        for frames in FRAMES[: bench.sized(len(FRAMES), 1)]:
            codes = np.zeros((codec.codebooks, frames), np.int64)
            times_ms = []
            for _ in range(bench.sized(12, 2)):
                started_s = time.perf_counter()
                codec.push([(lane, codes, False) for lane in open_lanes])
                times_ms.append(1e3 * (time.perf_counter() - started_s))
            yield f"codec, {lanes} lanes of {frames} frames", {"ms": round(statistics.median(times_ms[1:]), 2)}
        for lane in open_lanes:
            lane.close()


def piece_s(model: MusicModel, duration_s: float) -> float:
    """Seconds for one piece alone, from the prompt to the audio; the second of two."""
    for seed in range(2):
        started_s = time.perf_counter()
        list(model.perform(piece(seed, duration_s), interactive=False).chunks)
        took_s = time.perf_counter() - started_s
    return took_s


def measure_audiocraft(bench: Bench) -> Iterator[tuple[str, Any]]:
    """A piece of ten seconds alone, ours and theirs. Last, because theirs takes longest: half a minute on an H100."""
    duration_s = bench.sized(int(PIECE_S), 1) if not bench.dry else 0.3
    ours_s = piece_s(ours(bench, slots=1), duration_s)
    yield "ours", {"piece_s": duration_s, "took_s": round(ours_s, 3)}
    bench.free()
    theirs = loaded(bench, checkpoint(bench), official=True, slots=1)
    started_s = time.perf_counter()
    list(theirs.perform(piece(1, duration_s), interactive=False).chunks)
    theirs_s = time.perf_counter() - started_s
    yield "audiocraft", {"piece_s": duration_s, "took_s": round(theirs_s, 3), "speedup": round(theirs_s / ours_s, 1)}
