"""Processes that plan rows end with the process that they plan for."""

import subprocess
import sys

DRIVER = """
import sys
from batch_jobs.planning.planned_rows import RowSettings
from batch_jobs.planning.planners import Planners
with Planners(RowSettings("composer", 1.0)) as planners:
    planners.plan([])
    print(planners.count, flush=True)
    sys.stdin.read()
"""


def test_planners_end_when_their_driver_is_killed():
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    started = driver.stdout.readline()

    driver.kill()
    # Standard error is also theirs, and ends when the last of them has.
    _, said = driver.communicate(timeout=60)

    assert int(started) >= 1 and said == b""
