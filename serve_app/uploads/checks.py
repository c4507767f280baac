"""Uploads are read through in processes of their own: few, bounded in time and memory, behind a short queue.

Reading MIDI holds the interpreter and decoding audio takes memory; in the process that answers requests, a dozen files
stopped all other requests. Threads would not help, and a file that breaks a decoder ends the process that reads it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from orchestrion.errors import InvalidRequest, Overloaded, Problem
from orchestrion.isolation.process import IsolatedProcess, ProcessEndedError, ProcessLostError

#: What to suggest when the queue is full: about what a check of a large file takes.
RETRY_AFTER_S: Final = 5.0
COMMAND: Final = (sys.executable, "-m", "serve_app.uploads.worker")
#: Problems of one file take some hundred.
MAX_ANSWER_BYTES: Final = 64 * 1024


class UploadChecks:
    """A few processes that check files, started when they are needed."""

    def __init__(self, *, processes: int, queue_limit: int, timeout_s: float, command: Sequence[str] = COMMAND) -> None:
        """At most `processes` at a time, `queue_limit` files waiting, and `timeout_s` for each."""
        self._limit = processes + queue_limit
        self._inside = 0
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="upload-check")
        self._idle: SimpleQueue[_Checker] = SimpleQueue()
        for _ in range(processes):
            self._idle.put(_Checker(command, timeout_s))

    async def check(self, path: Path) -> None:
        """Wait until the file has been read through.

        Raises:
            InvalidRequest: it cannot be used, or took too long or too much memory.
            Overloaded: as many files as may wait are waiting.
        """
        if self._inside >= self._limit:
            raise Overloaded("as many uploads are being checked as fit", RETRY_AFTER_S)
        self._inside += 1
        work = self._threads.submit(self._check, path)
        # Counted until it is done: a client that leaves does not stop a check that has begun.
        loop = asyncio.get_running_loop()
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._left))
        await asyncio.wrap_future(work)

    def close(self) -> None:
        """End the processes."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().kill()

    def _left(self) -> None:
        self._inside -= 1

    def _check(self, path: Path) -> None:
        checker = self._idle.get()
        try:
            problems = checker.problems_of(path)
        finally:
            self._idle.put(checker)
        if problems:
            raise InvalidRequest(problems)


class _Checker:
    """One process, used by one thread at a time."""

    def __init__(self, command: Sequence[str], timeout_s: float) -> None:
        self._command = command
        self._timeout_s = timeout_s
        self._process: IsolatedProcess | None = None

    def problems_of(self, path: Path) -> list[Problem]:
        """What is wrong with a file."""
        try:
            try:
                answer = self._ask(path)
            except ProcessEndedError:
                # It may have ended for lack of work just when this was sent: a second one says more.
                self.kill()
                answer = self._ask(path)
        except ProcessEndedError:
            return [self._broken(path, "it breaks what reads it, or needs too much memory")]
        except ProcessLostError as error:
            return [self._broken(path, f"reading it {error}")]
        return [Problem(*found) for found in json.loads(answer)]

    def kill(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def _ask(self, path: Path) -> bytes:
        if self._process is not None and self._process.has_ended:
            self.kill()
        if self._process is None:
            self._process = IsolatedProcess(self._command)
        self._process.write(f"{path}\n".encode(), self._timeout_s)
        return self._process.read_line(self._timeout_s, MAX_ANSWER_BYTES)

    def _broken(self, path: Path, complaint: str) -> Problem:
        self.kill()
        return Problem("theme", f"{path.stat().st_size} bytes", f"{complaint}; send a shorter or simpler file")
