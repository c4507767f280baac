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
from serve_app.uploads.found import UploadReading, UploadUse

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

    async def check(self, path: Path, use: UploadUse) -> UploadReading:
        """Have the file read through; returns what it is.

        Raises:
            InvalidRequest: it cannot be used, or took too long or too much memory.
            Overloaded: as many files as may wait are waiting.
        """
        if self._inside >= self._limit:
            raise Overloaded("as many uploads are being checked as fit", RETRY_AFTER_S)
        self._inside += 1
        work = self._threads.submit(self._check, path, use)
        # Counted until it is done: a client that leaves does not stop a check that has begun.
        loop = asyncio.get_running_loop()
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._left))
        return await asyncio.wrap_future(work)

    def close(self) -> None:
        """End the processes."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().kill()

    def _left(self) -> None:
        self._inside -= 1

    def _check(self, path: Path, use: UploadUse) -> UploadReading:
        checker = self._idle.get()
        try:
            return checker.reading_of(path, use)
        finally:
            self._idle.put(checker)


class _Checker:
    """One process, used by one thread at a time."""

    def __init__(self, command: Sequence[str], timeout_s: float) -> None:
        self._command = command
        self._timeout_s = timeout_s
        self._process: IsolatedProcess | None = None

    def reading_of(self, path: Path, use: UploadUse) -> UploadReading:
        """What a file is; raises what is wrong with it."""
        try:
            try:
                answer = self._ask(path, use)
            except ProcessEndedError:
                # It may have ended for lack of work just when this was sent: a second one says more.
                self.kill()
                answer = self._ask(path, use)
        except ProcessEndedError:
            raise self._broken(path, use, "it breaks what reads it, or needs too much memory") from None
        except ProcessLostError as error:
            raise self._broken(path, use, f"reading it {error}") from None
        found = json.loads(answer)
        if "problems" in found:
            raise InvalidRequest([Problem(*problem) for problem in found["problems"]])
        return UploadReading(**found["read"])

    def kill(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def _ask(self, path: Path, use: UploadUse) -> bytes:
        if self._process is not None and self._process.has_ended:
            self.kill()
        if self._process is None:
            self._process = IsolatedProcess(self._command)
        self._process.write(json.dumps([use, str(path)]).encode() + b"\n", self._timeout_s)
        return self._process.read_line(self._timeout_s, MAX_ANSWER_BYTES)

    def _broken(self, path: Path, use: UploadUse, complaint: str) -> InvalidRequest:
        self.kill()
        complaint += "; send a shorter or simpler file"
        return InvalidRequest([Problem(use, f"{path.stat().st_size} bytes", complaint)])
