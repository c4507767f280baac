"""A command that starts Ray on its own machine and is killed again and again.

Its processes are watched from outside, and what the ledger has of the machine in the end is held against that. For
`tests/cluster/test_dead_driver.py` and `benchmarks/chaos.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from orchestrion.errors import StoreUnavailable
from orchestrion.storage.track_store import TrackStore
from orchestrion.trust.signing import Signer
from tests.cluster.chaos import PRICES, ROOT, chaos_catalog
from tests.cluster.job_audit import Audit, Job, audit_job, paid_hours
from tests.cluster.lifetimes import Lifetimes, family
from tests.cluster.spot_cluster import environment, kill_trees

POLL_S = 0.1
#: A run that has not come so far is given up.
RUN_S = 240.0
#: After so long all that a dead driver has started must be gone.
GONE_S = 5.0


class Moment(StrEnum):
    """When a driver is killed."""

    STARTING = "Ray is starting"
    RENDERING = "it has rendered two more tracks"


@dataclass(slots=True)
class Outcome:
    """How it went."""

    billed_s: float
    measured_s: float
    exit_code: int | None
    #: For each kill, seconds until all processes were gone; None if some were not after `GONE_S`.
    gone_after_s: list[float | None]
    audit: Audit
    #: The end of the command's log.
    last_words: str

    @property
    def difference(self) -> float:
        """Of the bill from the outside measurement, as a part of that."""
        return (self.billed_s - self.measured_s) / self.measured_s

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "kills": len(self.gone_after_s),
            "exit_code": self.exit_code,
            "billed_s": round(self.billed_s, 2),
            "measured_s": round(self.measured_s, 2),
            "bill_differs_by": round(self.difference, 4),
            "processes_gone_after_s": [None if one is None else round(one, 2) for one in self.gone_after_s],
            **self.audit.figures,
            "problems": self.audit.problems,
        }


def run_killed(
    folder: Path, rows: int, kills: Sequence[Moment], say: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Run one command to its end through these deaths, in a folder. Leaves no process behind.

    Args:
        folder: for catalog, ledger, store and log.
        rows: of the catalog.
        kills: the moments, in order; then it runs to its end.
        say: told what happens.
    """
    return _Command(folder, rows, say).through(kills)


class _Command:
    def __init__(self, folder: Path, rows: int, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._catalog = chaos_catalog(0, rows)
        (folder / "catalog.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self._catalog.rows))
        (folder / "prices.yaml").write_text(PRICES)
        Signer.create(folder / ".keys" / "signing-key.pem")
        self._log = folder / "driver.log"
        self._store = TrackStore.open(str(folder / "store"))
        self._driver: subprocess.Popen[bytes] | None = None
        self._lifetimes = Lifetimes(self._found)

    def through(self, kills: Sequence[Moment]) -> Outcome:
        gone_after_s = []
        with self._lifetimes:
            try:
                for moment in kills:
                    self._start()
                    self._await(moment)
                    gone_after_s.append(self._kill())
                    self._say(f"killed when {moment}: gone after {gone_after_s[-1]} s")
                driver = self._start()
                with suppress(subprocess.TimeoutExpired):
                    driver.wait(RUN_S)
                exit_code = driver.poll()
            finally:
                kill_trees(self._lifetimes.alive())
        measured_s = sum(self._lifetimes.seconds().values())
        job = Job(
            out_url=str(self._folder / "ledger"),
            store_url=str(self._folder / "store"),
            storage_options={},
            public_key=self._folder / ".keys" / "signing-key.pub.pem",
            rows=self._catalog.rows,
            bad_lines=self._catalog.bad_lines,
            deaths=(),
        )
        words = self._log.read_text(encoding="utf-8", errors="replace")[-4000:]
        billed_s = sum(paid_hours(job).values()) * 3600.0
        return Outcome(billed_s, measured_s, exit_code, gone_after_s, audit_job(job, compared=2), words)

    def _found(self) -> list[tuple[str, psutil.Process, float]]:
        driver = self._driver
        found = []
        if driver is not None:
            with suppress(psutil.NoSuchProcess):
                for process in family(psutil.Process(driver.pid)):
                    with suppress(psutil.NoSuchProcess):
                        found.append(("here", process, process.create_time()))
        return found

    def _start(self) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "batch_jobs.render_catalog", f"--catalog={self._folder / 'catalog.jsonl'}",
            f"--out={self._folder / 'ledger'}", f"--store={self._folder / 'store'}",
            f"--signing-key={self._folder / '.keys/signing-key.pem'}", f"--prices={self._folder / 'prices.yaml'}",
            "--workers=1", "--progress=json",
        ]  # fmt: skip
        with self._log.open("ab") as log:
            self._driver = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=log, stderr=log)
        return self._driver

    def _await(self, moment: Moment) -> None:
        before = self._tracks()
        deadline_s = time.monotonic() + RUN_S
        while not self._has_come(moment, before):
            assert self._driver is not None and self._driver.poll() is None, f"it ended by itself before {moment}"
            assert time.monotonic() < deadline_s, f"{RUN_S:.0f} s were not enough until {moment}"
            time.sleep(POLL_S)

    def _has_come(self, moment: Moment, tracks_before: int) -> bool:
        if moment is Moment.RENDERING:
            return self._tracks() >= tracks_before + 2
        names = set()
        for process in self._lifetimes.alive():
            with suppress(psutil.NoSuchProcess):
                names.add(process.name())
        return "gcs_server" in names

    def _tracks(self) -> int:
        with suppress(StoreUnavailable):
            return len(self._store.listings())
        return 0

    def _kill(self) -> float | None:
        """SIGKILL for the driver alone; seconds until the last of its processes was gone."""
        assert self._driver is not None
        began_s = time.monotonic()
        self._driver.kill()
        self._driver.wait()
        while self._lifetimes.alive():
            if time.monotonic() - began_s > GONE_S:
                return None
            time.sleep(POLL_S)
        return time.monotonic() - began_s
