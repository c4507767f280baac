"""A driver that runs for days must not grow with every thread that Ray Data starts."""

import subprocess
import sys

import pytest

from batch_jobs.rendering.malloc_tuning import release_free_memory

NEW_HEAPS = """
import ctypes, sys, tempfile, threading
from batch_jobs.rendering.malloc_tuning import share_one_arena

libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p

def heaps():
    with tempfile.NamedTemporaryFile() as file:
        stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        return file.read().count(b"<heap nr=")

if sys.argv[1] == "shared":
    share_one_arena()
here = threading.Barrier(8)

def allocate():
    ctypes.create_string_buffer(100_000)
    here.wait()

before = heaps()
threads = [threading.Thread(target=allocate) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(heaps() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="heaps for each thread are glibc's")
def test_threads_share_one_heap_once_asked_to():
    new = {
        way: int(subprocess.run([sys.executable, "-c", NEW_HEAPS, way], capture_output=True, check=True).stdout)
        for way in ("own", "shared")
    }
    assert new["own"] > 0
    assert new["shared"] == 0


def test_cycles_are_collected():
    class Node:
        alive = 0

        def __init__(self):
            Node.alive += 1
            self.self = self

        def __del__(self):
            Node.alive -= 1

    Node()
    release_free_memory()
    assert Node.alive == 0
