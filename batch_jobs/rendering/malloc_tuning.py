"""How a driver that runs for days keeps its memory small: all threads allocate from one arena, and free pages go back.

Each Ray Data execution starts threads. glibc and Arrow give each thread an arena of its own, which stays when the
thread has ended and is never quite empty: without this, memory grows by one MiB and more with each execution, although
nothing leaks. Other C libraries than glibc give pages back in their own way, and are left alone.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

import pyarrow as pa

#: Of `mallopt`: how many arenas there may be (glibc's malloc.h).
_M_ARENA_MAX: Final = -8

_libc: Final = ctypes.CDLL(None)


def share_one_arena() -> None:
    """Have the threads that this process starts from now on share one arena, also for Arrow's buffers.

    It cannot be taken back, and it slows down threads that allocate much at the same time. So it is for whoever owns
    the process, a command's `main`, and never called in a library.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_ARENA_MAX, 1)


def release_free_memory() -> None:
    """Collect what only cycles hold, and give the system every page that is free."""
    gc.collect()
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
