"""How long processes lived, seen from outside: what a bill is held against that the processes themselves have written.

A process's begin is the kernel's; its end is seen by looking, twenty times a second. Nothing of `batch_jobs` is used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self

import psutil

#: How often it is looked who has died, and who is new.
LOOK_S = 0.05
FIND_S = 0.25


class Lifetimes:
    """Watches processes in a thread of its own, by the machine that they count for."""

    def __init__(self, find: Callable[[], Iterable[tuple[str, psutil.Process, float]]]) -> None:
        """Watch what `find` gives: machine, process, and since when (seconds since 1970) it counts."""
        self._find = find
        self._lives: dict[psutil.Process, tuple[str, float, float | None]] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lifetimes", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def alive(self) -> list[psutil.Process]:
        """Those that were found and have not died."""
        with self._lock:
            return [process for process, (_, _, ended) in self._lives.items() if ended is None]

    def seconds(self) -> dict[str, float]:
        """For how long each machine had at least one of the processes."""
        now = time.time()
        with self._lock:
            lives = sorted((machine, began, ended or now) for machine, began, ended in self._lives.values())
        covered, until = dict.fromkeys((machine for machine, _, _ in lives), 0.0), dict[str, float]()
        for machine, began, ended in lives:
            begins = max(began, until.get(machine, began))
            covered[machine] += max(0.0, ended - begins)
            until[machine] = max(ended, begins)
        return covered

    def _watch(self) -> None:
        find_at_s = 0.0
        while not self._over.wait(LOOK_S):
            if time.monotonic() >= find_at_s:
                self._meet()
                find_at_s = time.monotonic() + FIND_S
            for process in self.alive():
                if is_dead(process):
                    with self._lock:
                        machine, began, _ = self._lives[process]
                        self._lives[process] = machine, began, time.time()

    def _meet(self) -> None:
        for machine, process, began in self._find():
            with self._lock:
                self._lives.setdefault(process, (machine, began, None))


def is_dead(process: psutil.Process) -> bool:
    """Whether it has ended; one that nobody has waited for has."""
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def family(root: psutil.Process) -> list[psutil.Process]:
    """A process and what descends from it, without the guardian, which has to outlive them."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                if not any(part.endswith("guardian.py") for part in process.cmdline()):
                    found.append(process)
    return found
