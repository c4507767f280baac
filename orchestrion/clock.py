"""Time as an argument, so that records and timings can be tested with a fake clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The times that a render needs."""

    def now(self) -> datetime:
        """Wall-clock time, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never run backwards, for durations."""
        ...

    def thread_cpu_s(self) -> float:
        """Seconds that this thread has held a core."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Wall-clock time, UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Seconds of the performance counter."""
        return time.perf_counter()

    def thread_cpu_s(self) -> float:
        """CPU seconds of this thread, also those in the kernel."""
        return time.thread_time()
