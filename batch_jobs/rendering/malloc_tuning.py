"""How a driver that lives for days keeps its heap small: one heap for all threads, and free pages go back.

Each Ray Data execution starts threads, and glibc and Arrow give threads heaps of their own, which stay when they are
gone and are never quite empty: nothing is leaked, and still the process grows by one MiB an execution and more.
Elsewhere than on glibc pages go back when the C library pleases.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

import pyarrow as pa

#: Of `mallopt`: how many heaps there may be (glibc's malloc.h).
_M_ARENA_MAX: Final = -8

_libc: Final = ctypes.CDLL(None)


def share_one_arena() -> None:
    """Have the threads that this process starts from now on share one heap, also for Arrow's buffers.

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
