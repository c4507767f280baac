"""Torch's work on one thread of the CPU: how a product is split among threads decides how its sums round.

The number of threads belongs to the process, and conditions are prepared by several threads of it at the same time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_inside = 0
_outside_threads = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """While any thread is inside, torch computes on one thread; the last one that leaves restores what was before."""
    global _inside, _outside_threads
    with _lock:
        if not _inside:
            _outside_threads = torch.get_num_threads()
        _inside += 1
        # A part of the setting is each thread's own, so each thread that enters makes it.
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                torch.set_num_threads(_outside_threads)
