"""What a process that reads strangers' files takes from itself before it does."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import Final

#: Renders and readers come first.
NICENESS: Final = 10


def limit_memory(more_bytes: int) -> None:
    """From now on this process maps at most so much more than it has mapped now.

    What it has is libraries for the most part: some 400 MB of addresses, of which little is ever touched.
    """
    # Elsewhere than on Linux nobody says how much there is, and macOS knows the limit and refuses to set it.
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        at_most = pages * resource.getpagesize() + more_bytes
        resource.setrlimit(resource.RLIMIT_AS, (at_most, at_most))


def limit_cpu_time(more_s: int) -> None:
    """The kernel ends this process when it has used so much more of a core: also when nobody is left to end it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + more_s, hard))


def forbid_files() -> None:
    """From now on this process opens no file and no connection; what it has open stays open."""
    with suppress(OSError, ValueError):
        # Descriptors are the lowest that are free, and all below the limit are taken.
        duplicate = os.dup(0)
        os.close(duplicate)
        resource.setrlimit(resource.RLIMIT_NOFILE, (duplicate, duplicate))


def leave_nothing() -> None:
    """It writes no files, and none of its memory is written to disk when it breaks."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def step_back() -> None:
    """Let everybody else go first."""
    os.nice(NICENESS)
