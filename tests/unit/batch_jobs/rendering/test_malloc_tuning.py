"""A driver that runs for days must not grow with every thread that Ray Data starts."""

import os
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

WRITE_AFTER_THE_COMMAND = """
import runpy, sys
from contextlib import suppress

sys.argv = ["render_catalog", "--help"]
with suppress(SystemExit):
    runpy.run_module("batch_jobs.render_catalog", run_name="__main__", alter_sys=True)

import pyarrow as pa
import pyarrow.parquet as pq

pq.write_table(pa.table({"line": list(range(10_000))}), pa.BufferOutputStream())
print(pa.mimalloc_memory_pool().max_memory())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="heaps for each thread are glibc's")
def test_threads_share_one_heap_once_asked_to():
    new = {
        way: int(subprocess.run([sys.executable, "-c", NEW_HEAPS, way], capture_output=True, check=True).stdout)
        for way in ("own", "shared")
    }
    assert new["own"] > 0
    assert new["shared"] == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mimalloc is not part of every Arrow")
def test_files_are_written_from_the_arena_of_the_command_as_well():
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    command = [sys.executable, "-c", WRITE_AFTER_THE_COMMAND]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"


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
