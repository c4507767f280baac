"""A command whose reader has gone, as `| head` goes, ends quietly: no traceback, no complaint, and not with success."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrion.cli.reader_gone import EXIT_READER_GONE
from tests.unit.batch_jobs.committed_job import CommittedJob
from tests.unit.batch_jobs.rendering.test_worker import HeldClock

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A ledger of one job, and a catalog."""
    folder = tmp_path_factory.mktemp("place")
    job = CommittedJob(folder / "out", HeldClock())
    job.commit("01-a", *((line, 1.0) for line in range(1, 200)))
    job.close(rows=199)
    (folder / "songs.jsonl").write_text(json.dumps({"prompt": "a waltz"}) + "\n")
    return folder


def run(place, module, *arguments):
    """Run a command into a pipe that nobody reads; its exit code and what it said on standard error."""
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as nobody:
        done = subprocess.run(
            [sys.executable, "-m", f"batch_jobs.{module}", *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert str(place) not in done.stderr and "Error" not in done.stderr and "Traceback" not in done.stderr
    return done.returncode


@pytest.mark.parametrize("form", ["ids", "jsonl", "table"])
def test_lineage_into_a_closed_pipe(place, form):
    assert run(place, "lineage", "--ledger", str(place / "out"), "--job", "job-1", "--format", form) != 0


def test_a_cost_report_into_a_closed_pipe(place):
    assert run(place, "cost_report", "--ledger", str(place / "out"), "--report", str(place / "report")) != 0


def test_a_dry_run_into_a_closed_pipe(place):
    arguments = ["--catalog", str(place / "songs.jsonl"), "--out", str(place / "new"), "--dry-run"]

    assert run(place, "render_catalog", *arguments) == EXIT_READER_GONE
