"""Processes that plan rows: the driver reads a catalog while they validate what it has read.

Not `multiprocessing`: its ways to start a process either copy one that runs Ray's threads, or run the program of
whoever calls us again.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import BinaryIO, Final, Self, cast

from batch_jobs.planning.planned_rows import RowSettings, plan_rows
from orchestrion.isolation.process import bare_environment

#: One process reads a catalog for about four that plan it.
MAX_PLANNERS: Final = 4
_SIZE: Final = struct.Struct(">Q")


def pack_rows(reads: Sequence[object]) -> bytes:
    """Rows as they travel to a planner: between a process and its own child, nobody else can write there."""
    return pickle.dumps(reads, pickle.HIGHEST_PROTOCOL)


class Planners:
    """As many processes as this one may use cores. They end with this one, however it ends."""

    def __init__(self, settings: RowSettings) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.count = min(MAX_PLANNERS, cores)
        self._settings = settings
        self._idle: SimpleQueue[_Planner] = SimpleQueue()
        for _ in range(self.count):
            self._idle.put(_Planner(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for _ in range(self.count):
            self._idle.get().end()

    def plan(self, blocks: Sequence[bytes]) -> bytes:
        """What `planned_rows.plan_rows` makes of these rows. Called by as many threads as there are processes."""
        planner = self._idle.get()
        try:
            return planner.plan(blocks)
        finally:
            self._idle.put(planner)


class _Planner:
    """One process, used by one thread at a time."""

    def __init__(self, settings: RowSettings) -> None:
        self._settings = settings
        self._process = subprocess.Popen(
            [sys.executable, "-m", "batch_jobs.planning.planners"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=bare_environment(),
        )
        self._requests = cast("BinaryIO", self._process.stdin)
        self._answers = cast("BinaryIO", self._process.stdout)
        _send(self._requests, pickle.dumps(settings))

    def plan(self, blocks: Sequence[bytes]) -> bytes:
        """The answer of the process; if it has died, the rows are planned here."""
        try:
            _send(self._requests, pickle.dumps(blocks))
            answer = _received(self._answers)
        except BrokenPipeError:
            answer = None
        return plan_blocks(blocks, self._settings) if answer is None else answer

    def end(self) -> None:
        """End the process, whatever it is at."""
        self._process.kill()
        self._process.communicate()


def plan_blocks(blocks: Sequence[bytes], settings: RowSettings) -> bytes:
    """The plan of rows that were packed."""
    return plan_rows([read for block in blocks for read in pickle.loads(block)], settings)  # noqa: S301


def _send(to: BinaryIO, message: bytes) -> None:
    to.write(_SIZE.pack(len(message)))
    to.write(message)
    to.flush()


def _received(of: BinaryIO) -> bytes | None:
    """A message; None if the other side has ended."""
    size = of.read(_SIZE.size)
    if len(size) < _SIZE.size:
        return None
    message = of.read(_SIZE.unpack(size)[0])
    return message if len(message) == _SIZE.unpack(size)[0] else None


def main() -> None:
    """Plan what comes on standard input until it ends, which it does with the process that has started this one."""
    # Ctrl-C is for that process, which ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    first = _received(requests)
    if first is None:
        return
    settings: RowSettings = pickle.loads(first)  # noqa: S301
    # An answer that nobody takes: that process has ended meanwhile.
    with suppress(BrokenPipeError):
        while (message := _received(requests)) is not None:
            _send(answers, plan_blocks(pickle.loads(message), settings))  # noqa: S301


if __name__ == "__main__":
    main()
