"""A driver that is killed takes its Ray with it, and what its machine cost is on the bill to the last moment."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from batch_jobs.job_store.job_folder import JobFolder, WorkerJournal, WorkerNode
from orchestrion.storage.object_store import Objects
from tests.cluster.killed_driver import GONE_S, Moment, run_killed
from tests.cluster.lifetimes import is_dead

ROOT = Path(__file__).resolve().parents[2]
MOST_DIFFERENCE = 0.03


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run_killed(tmp_path_factory.mktemp("killed"), 24, [Moment.STARTING, Moment.RENDERING])


def test_the_command_goes_on_after_its_deaths_and_the_books_are_right(outcome):
    assert outcome.exit_code == 5, outcome.last_words
    assert outcome.audit.problems == [], outcome.last_words


def test_what_is_billed_is_what_its_processes_lived(outcome):
    assert abs(outcome.difference) <= MOST_DIFFERENCE, (outcome.billed_s, outcome.measured_s)


def test_nothing_of_a_dead_drivers_ray_is_left_after_five_seconds(outcome):
    assert len(outcome.gone_after_s) == 2 and None not in outcome.gone_after_s


# The guardian, without Ray

#: A process that starts a guardian and, marked, one that leaves its session, hides its title and hears no signal.
DRIVER = """
import subprocess, sys, time
from cluster.guardian import Guardian, Will

guardian = Guardian(Will(["-c", sys.argv[1]], "a secret") if sys.argv[1] else None)
with guardian.marking():
    child = subprocess.Popen(
        [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"],
        start_new_session=True,
    )
unmarked = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, unmarked.pid, guardian.pid, flush=True)
if sys.argv[2] == "dismiss":
    guardian.dismiss()
    print("dismissed", flush=True)
time.sleep(600)
"""
WRITES = "import pathlib, sys; pathlib.Path({path!r}).write_text(sys.argv[1] + ' ' + sys.stdin.read())"


@pytest.fixture
def guarded():
    """Starts `DRIVER`; returns it and its marked child, its unmarked child and its guardian."""
    started: list[psutil.Process] = []

    def start(will="", then="stay"):
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, will, then], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        pids = driver.stdout.readline().split()
        others = [psutil.Process(int(pid)) for pid in pids]
        started.extend([psutil.Process(driver.pid), *others])
        return driver, *others

    yield start
    for process in started:
        if not is_dead(process):
            process.kill()


def gone(process, within_s=GONE_S):
    deadline_s = time.monotonic() + within_s
    while not is_dead(process) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return is_dead(process)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_what_is_marked_ends_with_the_process_and_what_is_not_marked_does_not(guarded, sent):
    driver, marked, unmarked, guardian = guarded()

    driver.send_signal(sent)
    driver.wait()

    assert gone(marked) and gone(guardian)
    assert not is_dead(unmarked)


def test_the_will_is_fulfilled_after_a_death_with_its_secret_and_the_moment(guarded, tmp_path):
    path = tmp_path / "written"
    driver, marked, _, guardian = guarded(WRITES.format(path=str(path)))
    assert "a secret" not in " ".join(guardian.cmdline())

    killed_at = datetime.now(UTC)
    driver.kill()
    driver.wait()
    assert gone(guardian, 30.0)

    moment, _, secret = path.read_text().partition(" ")
    assert secret == "a secret" and is_dead(marked)
    assert timedelta(0) <= datetime.fromisoformat(moment) - killed_at <= timedelta(seconds=GONE_S)


def test_a_dismissed_guardian_ends_what_is_marked_and_fulfils_no_will(guarded, tmp_path):
    driver, marked, _, guardian = guarded(WRITES.format(path=str(tmp_path / "written")), "dismiss")

    assert driver.stdout.readline() == "dismissed\n"

    assert gone(marked) and gone(guardian) and not (tmp_path / "written").exists()


def test_a_fork_that_holds_the_pipe_open_does_not_keep_a_death_secret(guarded):
    driver, marked, _, _ = guarded()
    # As a fork of the driver would have it.
    fds = [fd for fd in Path(f"/proc/{driver.pid}/fd").iterdir() if str(fd.readlink()).startswith("pipe:")]
    held = [os.open(fd, os.O_WRONLY | os.O_NONBLOCK) for fd in fds if os.access(fd, os.W_OK)]

    driver.kill()
    driver.wait()

    assert held and gone(marked)
    for fd in held:
        os.close(fd)


def test_the_journal_of_a_dead_driver_ends_when_its_last_process_was_gone(tmp_path):
    """The command of the will, as the guardian runs it."""
    folder = JobFolder(Objects(str(tmp_path)), "job-1")
    began = datetime(2026, 1, 1, tzinfo=UTC)
    node = WorkerNode("m-1", "local-cpu", "on-demand", "m-1")
    folder.write_journal(WorkerJournal("driver-1", "run-1", node, 0.0, began, began + timedelta(seconds=8)))
    moment = began + timedelta(seconds=9.5)
    secret = {
        "url": str(tmp_path), "storage_options": {}, "job_id": "job-1", "run_id": "run-1", "worker_id": "driver-1"
    }  # fmt: skip

    subprocess.run(
        [sys.executable, "-m", "batch_jobs.rendering.driver_journal", moment.isoformat()],
        input=json.dumps(secret), text=True, cwd=ROOT, check=True,
    )  # fmt: skip

    journal = folder.journal("driver-1")
    assert (journal.seen_at, journal.left) == (moment, True)
    assert folder.has_ended("run-1")
