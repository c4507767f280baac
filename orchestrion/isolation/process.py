"""A process that reads what strangers send, from the side of the process that asks it.

Whatever a file does there, it ends or delays that process only. It has two pipes and nothing of our environment, where
tokens and credentials are.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import IO, Final, cast

from orchestrion.clock import Clock, SystemClock

#: Numeric libraries would start a thread for each core.
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_BLOCK_BYTES: Final = 1 << 20


def bare_environment() -> dict[str, str]:
    """What a Python of ours needs to find our code, and nothing else of this process's environment."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | _ONE_THREAD


class ProcessLostError(Exception):
    """The process ended, or did not do in time what it was asked for; the message says which."""


class ProcessEndedError(ProcessLostError):
    """It ended."""


class IsolatedProcess:
    """One process. Used by one thread at a time."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] = _NOTHING, clock: Clock | None = None
    ) -> None:
        """Start `command`, with these variables beside Python's path; what it says on standard error is dropped."""
        self._clock = clock or SystemClock()
        self._read = bytearray()
        self._process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            # Ctrl-C in a terminal is for the process that asks; this one ends when its pipes are closed.
            start_new_session=True,
            env=bare_environment() | dict(environment),
        )
        self._stdin = cast("IO[bytes]", self._process.stdin)
        self._stdout = cast("IO[bytes]", self._process.stdout)
        for pipe in (self._stdin, self._stdout):
            os.set_blocking(pipe.fileno(), False)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def write(self, data: bytes, timeout_s: float) -> None:
        """Hand it bytes.

        Raises:
            ProcessLostError: it has ended, or does not take them in time.
        """
        until_s = self._clock.monotonic_s() + timeout_s
        rest = memoryview(data)
        while rest:
            self._wait(self._stdin, select.POLLOUT, until_s, timeout_s)
            try:
                rest = rest[os.write(self._stdin.fileno(), rest) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._ended() from None

    def read_line(self, timeout_s: float, at_most_bytes: int) -> bytes:
        """The next line that it writes, without its end.

        Raises:
            ProcessLostError: it has ended, took more time than that, or the line is longer.
        """
        until_s = self._clock.monotonic_s() + timeout_s
        searched = 0
        while (end := self._read.find(b"\n", searched)) < 0:
            searched = len(self._read)
            if searched > at_most_bytes:
                raise ProcessLostError(f"answers with more than {at_most_bytes} bytes")
            self._fill(until_s, timeout_s)
        line = bytes(self._read[:end])
        del self._read[: end + 1]
        return line

    def read_bytes(self, count: int, timeout_s: float) -> bytearray:
        """The next `count` bytes that it writes.

        Raises:
            ProcessLostError: it has ended before, or took more time than that.
        """
        until_s = self._clock.monotonic_s() + timeout_s
        while len(self._read) < count:
            self._fill(until_s, timeout_s)
        if len(self._read) == count:
            taken, self._read = self._read, bytearray()
            return taken
        taken = self._read[:count]
        del self._read[:count]
        return taken

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self._stdout.close()

    def _fill(self, until_s: float, timeout_s: float) -> None:
        """Take what it has written, once there is something."""
        self._wait(self._stdout, select.POLLIN, until_s, timeout_s)
        try:
            block = os.read(self._stdout.fileno(), _BLOCK_BYTES)
        except BlockingIOError:
            return
        if not block:
            raise self._ended()
        self._read += block

    def _wait(self, pipe: IO[bytes], event: int, until_s: float, timeout_s: float) -> None:
        # Not `select`, which takes no descriptor above 1023: a server has more.
        ready = select.poll()
        ready.register(pipe.fileno(), event)
        left_s = until_s - self._clock.monotonic_s()
        if left_s <= 0 or not ready.poll(left_s * 1000):
            raise ProcessLostError(f"took more than {timeout_s:g} s")

    def _ended(self) -> ProcessEndedError:
        """Say how; its pipe is closed, so that it is gone, or as good as gone."""
        # Of one that is ending by itself this changes nothing.
        self._process.kill()
        code = self._process.wait()
        return ProcessEndedError(f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}")
