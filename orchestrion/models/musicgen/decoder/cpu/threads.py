"""Threads of a model: no more than there are cores for, and only in the process that started them."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from orchestrion.errors import ModelFailed

logger = logging.getLogger(__name__)

_SYSTEM: Final = Path("/")


def threads_that_run(wanted: int, root: Path = _SYSTEM) -> int:
    """As many of the `wanted` threads as can run at the same time; a warning where those are fewer.

    Threads of one step wait for each other, so those without a core make it several times slower, not quicker.
    """
    cores = available_cores(root)
    if wanted <= cores:
        return wanted
    logger.warning("threads: %d wanted, but this process may use %d cores; it runs %d", wanted, cores, cores)
    return cores


def available_cores(root: Path = _SYSTEM) -> int:
    """Cores that this process may keep busy: its affinity mask, and the CPU quota of its cgroup and those above.

    Args:
        root: where `proc` and `sys` are.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([affinity, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Cores that each cgroup of this process has, where it is limited (cgroups(7), version 1 and 2)."""
    mounted = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            folders = [mounted, mounted / "unified"]
        elif "cpu" in controllers.split(","):
            folders = [mounted / controllers, mounted / "cpu"]
        else:
            continue
        # Inside a container the path may be the host's, of which only the last folder is mounted, as the root.
        names = [name for name in group.split("/") if name not in ("", "..")]
        for folder in folders:
            for depth in range(len(names) + 1):
                yield from _quota(folder.joinpath(*names[:depth]))


def _quota(group: Path) -> Iterator[float]:
    quota, _, period = _text(group / "cpu.max").strip().partition(" ")
    if not quota:
        quota, period = (_text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    # Without a limit it is "max" or -1.
    if quota.isdigit() and period.isdigit() and int(period):
        yield int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


class Home:
    """The process that something with threads was made in. A forked child has its memory, but none of its threads."""

    def __init__(self) -> None:
        self._process = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this is that process."""
        return os.getpid() == self._process

    def require(self) -> None:
        """Returns in the process that this was made in.

        Raises:
            ModelFailed: in any other, where it would wait for ever.
        """
        if not self.is_here:
            raise ModelFailed(
                "this model was loaded before the process was forked, and its threads stayed behind: load it in the "
                "process that uses it, or start processes with multiprocessing's 'spawn'"
            )
