"""Uploads are read through in processes of their own: few, bounded in time and memory, behind a short queue.

Reading MIDI holds the interpreter and decoding audio takes memory; in the process that answers requests, a dozen files
stopped all other requests. Threads would not help, and a file that breaks a decoder ends the process that reads it.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TextIO, cast

from orchestrion.errors import InvalidRequest, Overloaded, Problem

#: What to suggest when the queue is full: about what a check of a large file takes.
RETRY_AFTER_S: Final = 5.0
COMMAND: Final = (sys.executable, "-m", "serve_app.uploads.worker")


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
        self._process: subprocess.Popen[str] | None = None

    def problems_of(self, path: Path) -> list[Problem]:
        """What is wrong with a file."""
        answer = self._ask(path)
        if answer == "":
            # It may have ended for lack of work just when this was sent: a second one says more.
            self.kill()
            answer = self._ask(path)
        if answer is None or answer == "":
            self.kill()
            complaint = (
                f"reading it took more than {self._timeout_s:g} s"
                if answer is None
                else "it breaks what reads it, or needs too much memory"
            )
            return [Problem("theme", f"{path.stat().st_size} bytes", f"{complaint}; send a shorter or simpler file")]
        return [Problem(*found) for found in json.loads(answer)]

    def kill(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, path: Path) -> str | None:
        """A line of its answer; empty when the process has ended, None when it is late."""
        process = self._started()
        requests, answers = cast("TextIO", process.stdin), cast("TextIO", process.stdout)
        try:
            requests.write(f"{path}\n")
            requests.flush()
        except BrokenPipeError:
            return ""
        ready, _, _ = select.select([answers], [], [], self._timeout_s)
        return answers.readline() if ready else None

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is not None:
            self.kill()
        if self._process is None:
            # What reads strangers' files gets none of this process's environment: tokens and credentials are in it.
            environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
            environment |= {"OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
            self._process = subprocess.Popen(  # noqa: S603
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
        return self._process
