"""What is said while an export runs, and while it waits."""

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from batch_jobs.export.progress import Counts, ExportProgress
from batch_jobs.in_order import AHEAD, in_order


def nothing():
    pass


def test_results_come_in_order_however_long_each_takes():
    first = threading.Event()

    def work(number):
        if number == 0:
            assert first.wait(30)
        elif number == 3:
            first.set()
        return number * number

    with ThreadPoolExecutor(4) as pool:
        assert list(in_order(pool, work, range(200), nothing)) == [number * number for number in range(200)]


def test_no_more_is_begun_than_is_ahead():
    taken = []
    with ThreadPoolExecutor(1) as pool:
        results = in_order(
            pool, lambda number: number, (taken.append(number) or number for number in range(500)), nothing
        )
        assert next(results) == 0
        assert len(taken) == AHEAD
        results.close()
    assert len(taken) == AHEAD


def test_what_the_work_raises_is_raised_and_nothing_more_is_begun():
    done = []

    def work(number):
        if number == 1:
            raise KeyError("one")
        done.append(number)

    with ThreadPoolExecutor(1) as pool, pytest.raises(KeyError, match="one"):
        list(in_order(pool, work, range(10**9), nothing))
    assert len(done) <= AHEAD


def test_whoever_waits_is_told_so():
    waited, release = [], threading.Event()

    def while_waiting():
        waited.append(True)
        if len(waited) == 3:
            release.set()

    with ThreadPoolExecutor(1) as pool:
        assert list(in_order(pool, lambda _: release.wait(30), [1], while_waiting, silence_s=0.01)) == [True]
    assert len(waited) >= 3


def test_lines_say_what_was_done_every_few_seconds_and_at_the_end():
    out, now = io.StringIO(), iter(range(0, 1000, 2))
    progress = ExportProgress("lines", lambda: next(now), lambda: out)
    counts = Counts(tracks=4)
    for _ in range(4):
        counts.copied += 1
        counts.bytes += 500_000
        progress.tick(counts)
    progress.say("complete", counts, 0)

    lines = out.getvalue().splitlines()
    assert lines[0].startswith("export: reading: 0/0") and lines[1].startswith("export: copying: 1/4 tracks · 1 copied")
    assert lines[-1] == "export: complete: 4/4 tracks · 4 copied, 0 there already, 0 withheld, 0 failed · 2.0 MB"
    assert 3 < len(lines) < 6


def test_the_time_left_is_unknown_until_something_is_done():
    out, now = io.StringIO(), iter(range(0, 1000, 10))
    progress = ExportProgress("json", lambda: next(now), lambda: out)
    progress.say("copying", Counts(tracks=4))
    progress.say("copying", Counts(tracks=4, there=1, failed=1))

    _, before, after = map(json.loads, out.getvalue().splitlines())
    assert (before["left_s"], after["left_s"]) == (None, after["elapsed_s"])
