"""What the sections of `engine_gpu.py` share: the device, the sizes of a real or a dry run, and how time is taken."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from orchestrion.models.musicgen.decoder.decoder import Precision
from orchestrion.models.musicgen.decoder.pytorch.torch_arithmetic import Arithmetic
from orchestrion.models.musicgen.decoder.pytorch.torch_decoder import best_arithmetic
from orchestrion.models.musicgen.geometry import CodecGeometry, LmGeometry
from orchestrion.models.musicgen.weights import LmWeights
from tests.musicgen_checkpoints import PUBLISHED_CODEC, SMALL, TINY, TINY_CODEC, lm_geometry, random_lm

DONE: Final = "done"
STARTED_S: Final = time.perf_counter()


class OutOfTimeError(Exception):
    """The section's time is over."""


def timing_event() -> torch.cuda.Event:
    """A moment on the card."""
    event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    return event


@dataclass(slots=True)
class Bench:
    """Where and how large."""

    dry: bool
    device: str
    #: Name, memory and so on; None in a dry run.
    card: dict[str, Any] | None
    small: LmGeometry
    large: LmGeometry
    codec: CodecGeometry
    #: For what sections write, gone at the end.
    folder: Path
    #: When the present section should have ended.
    deadline_s: float = 0.0

    @classmethod
    def of_this_machine(cls, dry: bool, folder: Path) -> Bench:
        """On the card, or dry."""
        if dry:
            return cls(dry, "cpu", None, TINY, replace(TINY, layers=1), TINY_CODEC, folder)
        properties = torch.cuda.get_device_properties(0)
        card = {
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
            "l2_mib": round(properties.L2_cache_size / 2**20, 1),
        }
        return cls(dry, "cuda", card, SMALL, lm_geometry(2048, 32, 48), PUBLISHED_CODEC, folder)

    def sized(self, real: int, dry: int) -> int:
        """A size of the real run, or of the dry one."""
        return dry if self.dry else real

    @property
    def precision(self) -> Precision:
        """What is measured first."""
        return Precision.FP32 if self.dry else Precision.BF16

    @property
    def dtype(self) -> torch.dtype:
        """Of its activations and weights."""
        return torch.float32 if self.dry else torch.bfloat16

    def arithmetic(self) -> Arithmetic:
        """The kernels; in a dry run in Triton's interpreter, or torch's own where there is no Triton."""
        if self.dry and sys.platform == "linux":
            from tests.triton_interpreter import interpreted

            kernels: Arithmetic = interpreted(self.precision)
            return kernels
        return best_arithmetic(self.precision, torch.device(self.device))

    def weights(self, geometry: LmGeometry) -> LmWeights:
        """Layers that are all alike, on the device: a decoder copies each of them, and a step reads all copies."""

        def moved(part: Any) -> Any:  # noqa: ANN401 (a tensor, or dataclasses and tuples of such)
            if isinstance(part, torch.Tensor):
                return part.to(self.device)
            if is_dataclass(part) and not isinstance(part, type):
                return replace(part, **{field.name: moved(getattr(part, field.name)) for field in fields(part)})
            return part

        weights = random_lm(replace(geometry, layers=1))
        (layer,) = weights.layers
        on_device: LmWeights = moved(weights)
        return replace(on_device, layers=(moved(layer),) * geometry.layers)

    def time_left(self) -> bool:
        """Whether the section may begin another part."""
        return self.dry or time.perf_counter() < self.deadline_s

    def synchronise(self) -> None:
        """Waits until the device has nothing to do."""
        if not self.dry:
            torch.cuda.synchronize()

    def graph_us(self, work: Callable[[], Any], launches: int, replays: int = 20) -> float:
        """Microseconds of each of the `launches` that `work` makes, replayed from a graph; once, without, when dry."""
        work()
        if self.dry:
            started_s = time.perf_counter()
            work()
            return 1e6 * (time.perf_counter() - started_s) / launches
        self.synchronise()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        times_ms: list[float] = []
        for _ in range(replays + 2):
            begin, end = timing_event(), timing_event()
            begin.record()
            graph.replay()
            end.record()
            self.synchronise()
            times_ms.append(begin.elapsed_time(end))
        return 1e3 * statistics.median(times_ms[2:]) / launches

    def free(self) -> None:
        """Lets go of what a section has left behind."""
        gc.collect()
        if not self.dry:
            torch.cuda.empty_cache()

    def say(self, text: str) -> None:
        """How far it is, with the seconds since the start, on standard error."""
        print(f"{time.perf_counter() - STARTED_S:6.1f} s  {text}", file=sys.stderr, flush=True)
