"""What a card's memory, launches and barriers cost: what decides how a step is best cut into kernels."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.gpu.bench import Bench, timing_event

ROOT: Final = Path(__file__).resolve().parents[2]
COPY_BYTES: Final = 1 << 31
LAUNCHES: Final = 300
BARRIERS: Final = 1000
#: A card on which the programs of a barrier do not run together never ends it; nor does its process.
BARRIER_LIMIT_S: Final = 30


def bandwidth(bench: Bench) -> dict[str, float]:
    """GB/s of copying (bytes read and written) and of summing: the best of ten."""
    count = bench.sized(COPY_BYTES, 1 << 20)
    source = torch.ones(count, dtype=torch.uint8, device=bench.device)
    target, floats = torch.empty_like(source), source.view(torch.float32)
    return {
        "copy": 2 * count / _best_s(bench, lambda: target.copy_(source)) / 1e9,
        "read": count / _best_s(bench, lambda: floats.sum()) / 1e9,
    }


def _best_s(bench: Bench, work: Callable[[], Any]) -> float:
    times_s = []
    for _ in range(11):
        bench.synchronise()
        started_s = time.perf_counter()
        work()
        bench.synchronise()
        times_s.append(time.perf_counter() - started_s)
    return min(times_s[1:])


def measure(bench: Bench) -> Iterator[tuple[str, Any]]:
    """See `engine_gpu.Section`."""
    yield "bandwidth_gb_per_s", {name: round(value, 1) for name, value in bandwidth(bench).items()}
    if sys.platform != "linux":
        return
    from benchmarks.gpu import probes

    launches = bench.sized(LAUNCHES, 3)
    for name, early in (("us_per_launch", False), ("us_per_launch_before_the_one_before_ends", True)):
        if early and not bench.dry and torch.cuda.get_device_capability() < (9, 0):
            continue
        options = {"EARLY": early and not bench.dry, "launch_pdl": early}

        def launch(options: dict[str, bool] = options) -> None:
            for _ in range(launches):
                probes.nothing_kernel[(1,)](**options)

        yield name, round(bench.graph_us(launch, launches), 3)
    if not bench.dry:
        # In a process of its own, which can be ended.
        command = [sys.executable, "-m", "benchmarks.gpu.card"]
        try:
            said = subprocess.run(
                command, capture_output=True, text=True, timeout=BARRIER_LIMIT_S, check=True, cwd=ROOT
            ).stdout
            yield "us_per_barrier_of_all_multiprocessors", float(said)
        except (subprocess.SubprocessError, ValueError) as error:
            yield "us_per_barrier_of_all_multiprocessors", f"none: {error!r}"[:500]


def barrier_us() -> float:
    """Microseconds of a barrier of one program on each multiprocessor."""
    from benchmarks.gpu import probes

    programs = torch.cuda.get_device_properties(0).multi_processor_count
    times_ms: list[float] = []
    for _ in range(6):
        arrived = torch.zeros(1, dtype=torch.int32, device="cuda")
        begin, end = timing_event(), timing_event()
        begin.record()
        probes.barrier_kernel[(programs,)](arrived, BARRIERS, PROGRAMS=programs, launch_cooperative_grid=True)
        end.record()
        torch.cuda.synchronize()
        times_ms.append(begin.elapsed_time(end))
    return 1e3 * min(times_ms[1:]) / BARRIERS


if __name__ == "__main__":
    print(barrier_us())
