"""Faults that last, on a real command: said within seconds, nothing rendered in vain, and an end as it was said.

Each test starts the command in a process of its own, with a Ray of its own, as a person does.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from batch_jobs.ledger.dataset import ledger_dataset
from tests.cluster.refusing_proxy import RefusingProxy
from tests.cluster.slow_proxy import SlowProxy
from tests.servers.seaweedfs import SeaweedFS, options_argument

ROOT = Path(__file__).resolve().parents[2]
#: Of WAV at 44.1 kHz in 16 bits: a little more than a megabyte.
SECONDS, TRACK_BYTES = 6.0, 6 * 44100 * 4
SAID_WITHIN = timedelta(seconds=10)
#: Nothing here takes so long; a test that waits longer has missed what it waits for.
PATIENCE_OF_THE_TEST_S = 300.0


class Run:
    """The command in a process; what it says, line by line, with the moment at which it said it."""

    def __init__(self, tmp_path: Path, rows: int, *arguments: str, form: str = "json", out: str | None = None):
        catalog = tmp_path / "songs.jsonl"
        catalog.write_text(
            "".join(
                json.dumps({"prompt": "piano sketch", "duration_s": SECONDS, "seed": seed, "format": "wav"}) + "\n"
                for seed in range(rows)
            )
        )
        self.out = out or str(tmp_path / "out")
        command = [
            sys.executable, "-m", "batch_jobs.render_catalog", "--catalog", str(catalog), "--out", self.out,
            "--workers", "1", "--batch-size", "1", "--progress", form, *arguments,
        ]  # fmt: skip
        said_on = {"stdout" if form == "json" else "stderr": subprocess.PIPE}
        self._log = (tmp_path / "log").open("ab")
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
            start_new_session=True,
            text=True,
            **({"stdout": self._log, "stderr": self._log} | said_on),
        )
        self._form = form
        self._changed = threading.Condition()
        self._said: list[tuple[datetime, str]] = []
        self._at = 0
        self._over = False
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        stream = self.process.stdout if self._form == "json" else self.process.stderr
        for line in stream:
            with self._changed:
                self._said.append((datetime.now(UTC), line.rstrip("\n")))
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def hears(self, pattern: str) -> tuple[datetime, str]:
        """Wait for the next line in which the pattern is, and when it was said."""
        with self._changed:
            while True:
                while self._at < len(self._said):
                    at, line = self._said[self._at]
                    self._at += 1
                    if re.search(pattern, line):
                        return at, line
                if self._over or not self._changed.wait(PATIENCE_OF_THE_TEST_S):
                    said = "\n".join(line for _, line in self._said[-20:])
                    pytest.fail(f"the command never said {pattern!r}; its last words:\n{said}")

    def ends(self) -> int:
        """Wait for its end; the exit code."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._over, PATIENCE_OF_THE_TEST_S), "the command does not end"
        return self.process.wait()

    @property
    def last_line(self) -> str:
        with self._changed:
            return self._said[-1][1]

    def kill(self) -> None:
        """All of its processes, at once and without notice."""
        with suppress(psutil.NoSuchProcess):
            # Of one that has ended, the number may be another's by now.
            running = [psutil.Process(self.process.pid)] if self.process.poll() is None else []
            for process in [process for driver in running for process in (driver, *driver.children(recursive=True))]:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._log.close()


@pytest.fixture
def run(tmp_path):
    made = []

    def start(*arguments, **values):
        made.append(Run(tmp_path, *arguments, **values))
        return made[-1]

    yield start
    for each in made:
        each.kill()


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for five tracks; `make_room` makes it large."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "disk"
    place.mkdir()
    size = 5 * TRACK_BYTES + TRACK_BYTES // 2
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small file system is refused here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def make_room(place):
    subprocess.run(["mount", "-o", "remount,size=256m", place], check=True)


def since(said_at, line):
    """When the outage began that a line speaks of."""
    hours, minutes, seconds = map(int, re.search(r"since (\d\d):(\d\d):(\d\d) UTC", line).groups())
    return said_at.replace(hour=hours, minute=minutes, second=seconds, microsecond=0)


def attempts(out):
    return ledger_dataset(out, {}, "attempts").to_table().to_pylist()


def tracks(out):
    return ledger_dataset(out, {}, "tracks").count_rows()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    made.start()
    yield made
    made.kill()


def options_of(server, endpoint):
    return options_argument(server.storage_options | {"endpoint_url": endpoint}, server.folder)


def test_a_full_disk_stops_rendering_and_room_lets_it_go_on(run, small_disk):
    rows = 12
    here = run(rows, "--store", str(small_disk))

    said_at, line = here.hears("No space left on device")
    assert said_at - since(said_at, line) <= SAID_WITHIN
    assert json.loads(line)["waiting"].startswith("1 of 1 render processes wait: the store") and "given up at" in line
    # It goes on waiting, and saying so.
    waited_until, _ = [here.hears("No space left on device") for _ in range(2)][-1]
    make_room(small_disk)

    assert here.ends() == 0 and tracks(here.out) == rows
    found = attempts(here.out)
    assert [row["ended"] for row in found] == ["track"] * rows, "something was rendered twice, or for nothing"
    assert not [row for row in found if said_at < row["started_at"] < waited_until], "rendered what had no place"


def test_a_revoked_key_ends_the_run_after_the_time_that_is_said_and_nothing_is_rendered_meanwhile(run, server):
    with RefusingProxy(server.endpoint) as proxy:
        here = run(
            60, "--store", server.new_url(), "--storage-options", options_of(server, proxy.endpoint),
            "--patience", "12", form="lines",
        )  # fmt: skip
        here.hears(r"[1-9]\d*/60 rows")
        proxy.revoke()

        said_at, line = here.hears("(InvalidAccessKeyId|Forbidden).*given up at")
        assert said_at - since(said_at, line) <= SAID_WITHIN
        assert here.ends() == 3

    found = attempts(here.out)
    assert not [row for row in found if row["started_at"] > said_at], "rendered what had no place"
    assert tracks(here.out) == sum(row["ended"] == "track" for row in found) >= 1
    assert "Run the same command again to go on." in here.last_line
    assert len(list(Path(here.out).glob("jobs/*/workers/w-*.json"))) == 1, "others waited once more"


def test_a_server_that_hangs_is_said_to_hang_and_its_answer_lets_the_run_go_on(run, server):
    rows, port = 8, int(server.endpoint.rpartition(":")[2])
    with SlowProxy(port, delay_s=0.0) as proxy:
        url = server.new_url()
        options = options_of(server, f"http://127.0.0.1:{proxy.port}")
        here = run(rows, "--storage-options", options, out=url)
        here.hears(r'"done": [1-9]')
        proxy.stall(20.0)

        said_at, line = here.hears("no answer yet")
        assert said_at - since(said_at, line) <= SAID_WITHIN
        assert here.ends() == 0

    end = json.loads(here.last_line)
    assert (end["event"], end["tracks"], end["exit_code"]) == ("end", rows, 0)


def test_a_run_with_a_clock_two_hours_ahead_is_left_its_shards_while_it_lives_and_no_longer(run):
    rows = 24
    journal = killed_at_work(run, rows)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[0-9.]*(Z|\+00:00)", two_hours_later, journal.read_text())
    dies = threading.Event()

    def live():
        # As a process would write whose clock is ahead; what it writes is whole or not there.
        while not dies.wait(1.0):
            journal.with_suffix(".new").write_text(text)
            journal.with_suffix(".new").replace(journal)

    living = threading.Thread(target=live)
    living.start()
    try:
        second = run(rows)
        said_at, line = second.hears("waiting for .*, which works on [0-9]+ shards")
        assert said_at - since(said_at, line) <= SAID_WITHIN and json.loads(text)["run_id"] in line
    finally:
        dies.set()
        living.join()

    assert second.ends() == 0 and tracks(second.out) == rows
    assert len({row["track_id"] for row in attempts(second.out) if row["ended"] == "track"}) == rows


def killed_at_work(run, rows):
    """Kill a run while it works on a shard; gives the journal of the worker that did."""
    # Between two shards a worker has none: then another run is killed.
    for _ in range(5):
        killed = run(rows, form="lines")
        killed.hears(rf"[1-9]\d*/{rows} rows")
        killed.kill()
        [job] = Path(killed.out).glob("jobs/*")
        done = {shard.stem for shard in job.glob("shards/*.parquet")}
        for claim in job.glob("claims/*/w-*.json"):
            if claim.parent.name not in done:
                return job / "workers" / claim.name
    pytest.fail("no run was killed while it worked on a shard")


def two_hours_later(moment):
    later = datetime.fromisoformat(moment[0].replace("Z", "+00:00")) + timedelta(hours=2)
    return later.isoformat().replace("+00:00", "Z")
