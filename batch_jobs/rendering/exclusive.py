"""Which shards of one process may run beside others, and which must be alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class SharedExclusiveLock:
    """Shards run side by side, unless one of them may kill the process: that one runs alone."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    beside: int = 0
    alone: bool = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Beside other shards."""
        with self.changed:
            self.changed.wait_for(lambda: not self.alone)
            self.beside += 1
        try:
            yield
        finally:
            with self.changed:
                self.beside -= 1
                self.changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """With nothing beside it."""
        with self.changed:
            self.changed.wait_for(lambda: not self.alone and not self.beside)
            self.alone = True
        try:
            yield
        finally:
            with self.changed:
                self.alone = False
                self.changed.notify_all()
