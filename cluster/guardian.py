"""The end of a private Ray whose driver is killed: a small process outlives the driver and ends the rest.

Linux ends raylet and GCS with the process that started them, and Ray's workers notice it some time later, each in its
own time; one that is inside a native call does not. Nobody else can tell them: a driver that is killed by SIGKILL does
nothing any more. The guardian finds them by a variable in their environment, also those whose parent is gone.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil

#: Every process of a guarded Ray has this in its environment, with a value of its own for each guardian.
MARK: Final = "ORCHESTRION_GUARDED"
#: Ray's workers write their title over their arguments, and over their environment, too, unless this is set.
KEEP_ENVIRONMENT: Final = "SPT_NOENV"
#: The pipe tells of a death at once. A fork that holds it open does not keep it secret for longer than this.
LOOK_EVERY_S: Final = 1.0
END_S: Final = 10.0
#: For the command of a will, which may have to reach a bucket.
WILL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Will:
    """A command that is run if the process dies before its guardian is dismissed, when all the others are gone, too.

    It is given the moment at which they were, ISO 8601, as its last argument, and `secret` as its input: what it needs
    and nobody may see in a list of processes.
    """

    arguments: Sequence[str]
    secret: str


class Guardian:
    """Ends what is marked when this process dies, or when it is dismissed."""

    def __init__(self, will: Will | None = None) -> None:
        self._mark = secrets.token_hex(16)
        # By its path: it loads nothing but the standard library and psutil, until there is a will to fulfil. A session
        # of its own: what ends this process by its terminal or its group does not end the guardian.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, self._mark, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if will is not None:
            # Where this process finds its modules, that one does, too.
            paths = [str(Path(path).absolute()) for path in sys.path]
            self._tell({"arguments": [sys.executable, *will.arguments], "secret": will.secret, "paths": paths})

    @property
    def pid(self) -> int:
        """Of the guardian."""
        return self._process.pid

    @contextmanager
    def marking(self) -> Iterator[None]:
        """While entered, processes that this one starts are marked, and all that they start later."""
        added = {MARK: self._mark, KEEP_ENVIRONMENT: "1"}
        before = {name: os.environ.get(name) for name in added}
        os.environ.update(added)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def dismiss(self) -> None:
        """Have what is marked and still there ended, and the guardian, too; its will is not fulfilled.

        It is not waited for: what it does takes no more than it did for a process that is dead.
        """
        if self._process.stdin is not None:
            with suppress(OSError):
                self._tell(None)
                self._process.stdin.close()

    def _tell(self, will: dict[str, object] | None) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps(will).encode() + b"\n")
            self._process.stdin.flush()


def _await_death(parent: int) -> bytes:
    """Return when the parent is dead or has dismissed us: the last line that it wrote."""
    said, is_alive = b"", True
    while is_alive:
        # Of one that has died before we looked, what it wrote is read all the same.
        is_alive = os.getppid() == parent
        while select.select([0], [], [], LOOK_EVERY_S if is_alive else 0.0)[0]:
            new = os.read(0, 65_536)
            said += new
            if not new:
                is_alive = False
                break
    # A line that was not finished does not count.
    lines = said.split(b"\n")[:-1]
    return lines[-1] if lines else b"null"


def _end_marked(mark: str) -> None:
    """Kill what is marked until nothing is: a raylet that lives a moment longer starts new workers."""
    deadline_s = time.monotonic() + END_S
    while (found := list(_marked(mark))) and time.monotonic() < deadline_s:
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(0.02)


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        # Other users' processes do not tell, and are not ours. The dead that nobody has waited for have no environment.
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _main() -> None:
    mark, parent = sys.argv[1], int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    will = json.loads(_await_death(parent))
    _end_marked(mark)
    if will is not None:
        moment = datetime.now(UTC).isoformat()
        subprocess.run(
            [*will["arguments"], moment],
            input=will["secret"].encode(),
            env=os.environ | {"PYTHONPATH": os.pathsep.join(will["paths"])},
            timeout=WILL_S,
            check=False,
        )


if __name__ == "__main__":
    _main()
