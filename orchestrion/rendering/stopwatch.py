"""How long each stage of one track took: on the clock, and on the thread's core."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from orchestrion.clock import Clock


@dataclass(slots=True)
class Stopwatch:
    """Seconds spent in each stage, summed over its visits."""

    clock: Clock
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    #: The stage entered last: where it went wrong, if it did.
    stage_now: str = "request"

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the block to `name`, also when it raises."""
        self.stage_now = name
        started_s, cpu_started_s = self.clock.monotonic_s(), self.clock.thread_cpu_s()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self.clock.monotonic_s() - started_s
            self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + self.clock.thread_cpu_s() - cpu_started_s

    def set(self, name: str, seconds: float, cpu_seconds: float) -> None:
        """Say how long a stage took, where the model knows better."""
        self.seconds[name], self.cpu_seconds[name] = seconds, cpu_seconds
