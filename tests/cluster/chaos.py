"""A catalog job while everything around it dies: what `tests/cluster/test_chaos.py` and `benchmarks/chaos.py` share.

A seed gives the catalog and the order and moments of the faults: spot nodes are drained and killed, the driver and the
head node are killed, the S3 server is killed or falls silent. After a driver's death the same command is run again, as
a user would. Faults are timed by the number of tracks in the store, not by seconds, so the same seed hits the job at
the same places on a fast machine and on a slow one.
"""

from __future__ import annotations

import heapq
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any

import psutil

from orchestrion.errors import StoreUnavailable
from orchestrion.storage.track_store import TrackStore
from orchestrion.tracks.vocabulary import STYLES
from orchestrion.trust.signing import Signer
from tests.cluster.job_audit import Audit, Job, audit_job, paid_hours
from tests.cluster.lifetimes import Lifetimes
from tests.cluster.slow_proxy import SlowProxy
from tests.cluster.spot_cluster import RayNode, SpotCluster, environment
from tests.servers.seaweedfs import SeaweedFS, options_argument

ROOT = Path(__file__).resolve().parents[2]
FORMATS = ("wav", "flac", "ogg")
#: Two devices, of which a worker holds one: the other half of each machine's price is no worker's.
PRICES = """
node_types:
  local-cpu:
    device: cpu-core
    devices: 2
    markets:
      on-demand: {usd_per_node_hour: 0.16, as_of: 2026-11-22, source: for this test}
      spot: {usd_per_node_hour: 0.05, as_of: 2026-11-22, source: for this test}
"""
#: The workers of a dead driver are given so long to die.
ORPHANS_S = 30.0
POLL_S = 0.25
MAX_RUNS = 30


#: Exit codes of the command: every row has its outcome; run it again.
DONE = (0, 5)
AGAIN = (1, 3)


class FaultKind(StrEnum):
    """What can happen to a job."""

    KILL_NODE = "kill-node"
    DRAIN_NODE = "drain-node"
    KILL_DRIVER = "kill-driver"
    KILL_HEAD = "kill-head"
    KILL_STORE = "kill-store"
    STALL_STORE = "stall-store"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that happens as soon as so many tracks are in the store."""

    kind: FaultKind
    at_tracks: int


@dataclass(frozen=True, slots=True)
class Catalog:
    """Rows, and which lines cannot become a track."""

    rows: tuple[dict[str, Any], ...]
    bad_lines: frozenset[int]

    @property
    def distinct_tracks(self) -> int:
        """Tracks that the job has to make."""
        good = [row for line, row in enumerate(self.rows, 1) if line not in self.bad_lines]
        asked = [{name: value for name, value in row.items() if name not in ("row_id", "requester")} for row in good]
        return len({json.dumps(one, sort_keys=True) for one in asked})


@dataclass(frozen=True, slots=True)
class Chaos:
    """What to do to which job."""

    seed: int
    rows: int
    #: How often each kind of fault happens.
    faults: Mapping[FaultKind, int]
    nodes: int
    deadline_s: float
    #: Tracks that the audit renders once more.
    compared: int
    drain_s: int = 8
    #: How long it takes until another machine is asked for in place of one that went.
    replacement_s: float = 2.0
    store_down_s: float = 5.0
    stall_s: float = 4.0
    #: On the way to the S3 server and back, each.
    store_delay_s: float = 0.01


def chaos_catalog(seed: int, count: int) -> Catalog:
    """Mostly tracks of one to two seconds; 1 % of 20 s, 3 % that ask for what another row asks for, 2 % unusable."""
    random = Random(seed)
    kinds = ["again"] * round(0.03 * count) + ["bad"] * max(2, round(0.02 * count)) + ["long"] * max(1, count // 100)
    kinds += ["short"] * (count - len(kinds))
    random.shuffle(kinds)
    rows: list[dict[str, Any]] = []
    bad = set()
    for line, kind in enumerate(kinds, 1):
        row: dict[str, Any] = {
            "row_id": f"row-{line}",
            "prompt": f"{random.choice(sorted(STYLES))} sketch",
            "seed": random.randrange(2**32),
            "duration_s": 20.0 if kind == "long" else random.choice([1.0, 1.25, 1.5, 2.0]),
            "format": random.choice(FORMATS),
            "requester": random.choice(["amir", "bela", "chen"]),
        }
        good = [other for other, earlier in enumerate(rows, 1) if other not in bad and earlier["duration_s"] < 20.0]
        if kind == "again" and good:
            row = rows[random.choice(good) - 1] | {"row_id": row["row_id"], "requester": "somebody-else"}
        elif kind == "bad":
            bad.add(line)
            # The first is refused when the catalog is read, the second only where it would be rendered.
            row |= random.choice([{"prompt": " "}, {"theme": f"sha256:{line:064x}"}])
        rows.append(row)
    return Catalog(tuple(rows), frozenset(bad))


def schedule(chaos: Chaos, tracks: int) -> list[Fault]:
    """The faults in their order, one in each of as many equal parts of the job's first nine tenths."""
    random = Random(chaos.seed)
    kinds = [kind for kind, count in chaos.faults.items() for _ in range(count)]
    random.shuffle(kinds)
    part = 0.9 * tracks / len(kinds)
    return [Fault(kind, 1 + int(part * (number + random.random()))) for number, kind in enumerate(kinds)]


@dataclass(slots=True)
class Outcome:
    """How it went."""

    finished: bool
    wall_s: float
    events: list[dict[str, Any]]
    #: Exit code of each run of the command, in order; None for those that a fault killed.
    exit_codes: list[int | None]
    job: Job
    audit: Audit
    #: The end of the command's log.
    last_words: str

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "finished": self.finished,
            "faults": dict(Counter(event["what"] for event in self.events if event.get("fault"))),
            "wall_s": round(self.wall_s, 1),
            "runs_of_the_command": len(self.exit_codes),
            "exit_codes": self.exit_codes,
            **self.audit.figures,
            "problems": self.audit.problems,
            "events": self.events,
        }


def run_chaos(chaos: Chaos, folder: Path, on_s3: bool, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Run one catalog job to its end through all the faults, then audit it. Leaves no process behind.

    Args:
        chaos: what to do.
        folder: for catalog, ledger, store and logs.
        on_s3: ledger and store lie in an S3 server behind a slow proxy, not in the folder.
        say: told what happens.
    """
    with ExitStack() as stack:
        server, proxy = None, None
        if on_s3:
            server = SeaweedFS(folder / "s3")
            stack.callback(server.kill)
            server.start()
            port = int(server.endpoint.rpartition(":")[2])
            proxy = stack.enter_context(SlowProxy(port, chaos.store_delay_s))
        cluster = stack.enter_context(SpotCluster())
        run = _Run(chaos, folder, cluster, server, proxy, say)
        stack.enter_context(run.lifetimes)
        stack.callback(run.stop)
        return run.through()


@dataclass(order=True, slots=True)
class _Later:
    at_s: float
    number: int
    do: Callable[[], None] = field(compare=False)
    #: The head that it belongs to: what was to happen to a cluster that is gone does not happen.
    head: RayNode | None = field(compare=False, default=None)


class _Run:
    """One job, one loop: what is due happens, then the driver is looked at."""

    def __init__(
        self,
        chaos: Chaos,
        folder: Path,
        cluster: SpotCluster,
        server: SeaweedFS | None,
        proxy: SlowProxy | None,
        say: Callable[[str], None],
    ):
        self._chaos = chaos
        self._folder = folder
        self._cluster = cluster
        self._server = server
        self._proxy = proxy
        self._say = say
        self._started_s = time.monotonic()
        self._catalog = chaos_catalog(chaos.seed, chaos.rows)
        self._faults = schedule(chaos, self._catalog.distinct_tracks)
        self._later: list[_Later] = []
        self._laters = 0
        self._draining: list[RayNode] = []
        self._driver: subprocess.Popen[bytes] | None = None
        self._exit_codes: list[int | None] = []
        self._events: list[dict[str, Any]] = []
        self._problems: list[str] = []
        self._deaths: list[tuple[datetime, str]] = []
        self._tracks = 0
        self._tracks_at_start = 0
        self._log = folder / "driver.log"
        self._catalog_path = folder / "catalog.jsonl"
        self._catalog_path.write_text("".join(json.dumps(row) + "\n" for row in self._catalog.rows), encoding="utf-8")
        (folder / "prices.yaml").write_text(PRICES)
        Signer.create(folder / ".keys" / "signing-key.pem")
        place = server.new_url() if server else str(folder)
        self._job = Job(
            out_url=f"{place}/ledger",
            store_url=f"{place}/store",
            storage_options=server.storage_options if server else {},
            public_key=folder / ".keys" / "signing-key.pub.pem",
            rows=self._catalog.rows,
            bad_lines=self._catalog.bad_lines,
            deaths=self._deaths,
        )
        self._store = TrackStore.open(self._job.store_url, self._job.storage_options)
        #: Of the render processes. The driver stands on the head, which is not the job's.
        self.lifetimes = Lifetimes(self._render_processes)

    # The loop

    def through(self) -> Outcome:
        """From the start of the cluster to the audit."""
        self._start_cluster()
        finished = False
        while not finished and not self._is_over():
            if self._driver is None:
                self._start_driver()
            finished = self._watch() in DONE
        self.stop()
        wall_s = self._elapsed_s()
        for fault in self._faults:
            self._problems.append(f"the job was over before {fault.kind} at {fault.at_tracks} tracks")
        audit = audit_job(self._job, self._chaos.compared, self._chaos.seed) if finished else Audit()
        audit.problems = [*self._problems, *audit.problems]
        if finished:
            audit.figures |= self._bill_from_outside()
            audit.expect(audit.figures["measured_s"] > 0.0, "no render process was seen from outside")
        audit.expect(finished, f"the job was not done after {len(self._exit_codes)} runs and {wall_s:.0f} s")
        words = self._log.read_text(encoding="utf-8", errors="replace")[-4000:]
        return Outcome(finished, wall_s, self._events, self._exit_codes, self._job, audit, words)

    def stop(self) -> None:
        """Let nothing that was started for the job run on."""
        if self._driver is not None:
            self._kill_driver()
        self._later.clear()
        self._cluster.kill_head()

    def _bill_from_outside(self) -> dict[str, float]:
        """What the machines are billed for, beside how long their render processes lived."""
        billed_s = 3600.0 * sum(paid_hours(self._job).values())
        measured_s = sum(self.lifetimes.seconds().values())
        return {
            "billed_s": round(billed_s, 2),
            "measured_s": round(measured_s, 2),
            "bill_differs_by": round((billed_s - measured_s) / max(measured_s, 1e-9), 4),
        }

    def _render_processes(self) -> list[tuple[str, psutil.Process, float]]:
        """Those of the run that goes on, since they were created: or since they are there, if they were before it."""
        driver, found = self._driver, []
        with suppress(psutil.NoSuchProcess):
            run_began = psutil.Process(driver.pid).create_time() if driver is not None else time.time()
            for machine, process in self._cluster.processes_named("RenderStage"):
                created = process.create_time()
                found.append((machine, process, created if created >= run_began else time.time()))
        return found

    def _watch(self) -> int | None:
        """Until the driver ends or is killed; returns its exit code, None for one that died of a fault."""
        while self._driver is not None and not self._is_over():
            self._do_what_is_due()
            self._replace_lost()
            counting_s = self._count_tracks()
            if self._faults and self._tracks >= self._faults[0].at_tracks and self._can_happen(self._faults[0]):
                self._happen(self._faults.pop(0))
                continue
            if self._driver.poll() is not None:
                code = self._driver.returncode
                self._driver_ended()
                # With anything else there is no point in going on.
                if code not in (*DONE, *AGAIN):
                    self._problems.append(f"the command ended with {code}")
                return code
            # Looking must not take a core from the workers that it looks at.
            time.sleep(max(POLL_S, 10 * counting_s))
        return None

    def _is_over(self) -> bool:
        return (
            self._elapsed_s() > self._chaos.deadline_s
            or len(self._exit_codes) >= MAX_RUNS
            or any(code not in (None, *DONE, *AGAIN) for code in self._exit_codes)
        )

    def _count_tracks(self) -> float:
        """Look how far the job is; returns the seconds that it took."""
        began_s = time.monotonic()
        # A store that is down is one of the faults; the count stays as it was.
        with suppress(StoreUnavailable):
            self._tracks = len(self._store.listings())
        return time.monotonic() - began_s

    def _do_what_is_due(self) -> None:
        while self._later and self._later[0].at_s <= time.monotonic():
            later = heapq.heappop(self._later)
            if later.head is None or later.head is self._cluster.head:
                later.do()

    def _after(self, delay_s: float, do: Callable[[], None], of_cluster: bool = True) -> None:
        self._laters += 1
        head = self._cluster.head if of_cluster else None
        heapq.heappush(self._later, _Later(time.monotonic() + delay_s, self._laters, do, head))

    # What happens

    def _replace_lost(self) -> None:
        for node in [node for node in self._cluster.nodes if node not in self._draining and node.is_gone()]:
            self._note("node-gone-by-itself", node=node.node_id(), log=node.log.read_text()[-200:])
            self._cluster.kill_node(node)
            self._add_node()

    def _can_happen(self, fault: Fault) -> bool:
        if fault.kind in (FaultKind.KILL_NODE, FaultKind.DRAIN_NODE):
            return bool(self._victims())
        if fault.kind in (FaultKind.KILL_DRIVER, FaultKind.KILL_HEAD):
            # One that has just started would lose nothing.
            return self._tracks > self._tracks_at_start
        return fault.kind is not FaultKind.KILL_STORE or self._server_is_up()

    def _happen(self, fault: Fault) -> None:
        match fault.kind:
            case FaultKind.KILL_NODE:
                self._note(fault.kind, fault=True, node=self._lose(Random(fault.at_tracks).choice(self._victims())))
            case FaultKind.DRAIN_NODE:
                self._drain(Random(fault.at_tracks).choice(self._victims()))
            case FaultKind.KILL_DRIVER:
                assert self._driver is not None
                orphans = [worker for node in self._cluster.nodes for worker in node.workers()]
                nodes = self._note_deaths(self._cluster.nodes)
                self._note(fault.kind, fault=True, pid=self._driver.pid, nodes=nodes)
                self._kill_driver()
                self._after(ORPHANS_S, lambda: self._look_for(orphans))
            case FaultKind.KILL_HEAD:
                self._kill_head()
            case FaultKind.KILL_STORE:
                assert self._server is not None
                self._note(fault.kind, fault=True, down_s=self._chaos.store_down_s)
                self._server.kill()
                self._after(self._chaos.store_down_s, self._restart_store, of_cluster=False)
            case FaultKind.STALL_STORE:
                assert self._proxy is not None
                self._note(fault.kind, fault=True, stalled_s=self._chaos.stall_s)
                self._proxy.stall(self._chaos.stall_s)

    def _victims(self) -> list[RayNode]:
        return [node for node in self._cluster.nodes if node not in self._draining and node.is_up() and node.node_id()]

    def _lose(self, node: RayNode) -> str:
        node_id = node.node_id()
        self._note_deaths([node])
        self._cluster.kill_node(node)
        self._after(self._chaos.replacement_s, self._add_node)
        return node_id

    def _drain(self, node: RayNode) -> None:
        self._note(FaultKind.DRAIN_NODE, fault=True, node=node.node_id(), deadline_s=self._chaos.drain_s)
        self._draining.append(node)
        notice = self._cluster.drain(node, self._chaos.drain_s)

        def when_given() -> None:
            if notice.poll() is None:
                self._after(POLL_S, when_given)
                return
            if notice.returncode:
                self._problems.append(f"ray drain-node ended with {notice.returncode}")
            self._after(self._chaos.drain_s, at_the_deadline)

        def at_the_deadline() -> None:
            self._note("drained-node-killed", node=self._lose(node))

        when_given()

    def _kill_head(self) -> None:
        """The driver stands on the head and goes with it; the nodes can do nothing without it."""
        assert self._driver is not None
        self._note(FaultKind.KILL_HEAD, fault=True, pid=self._driver.pid, nodes=self._note_deaths(self._cluster.nodes))
        self._cluster.kill_head()
        self._kill_driver()
        self._draining.clear()
        self._start_cluster()

    def _note_deaths(self, nodes: list[RayNode]) -> list[str]:
        """Their render processes die now; returns the ids of those nodes that have any."""
        node_ids = [node.node_id() for node in nodes if node.is_up() and node.workers()]
        self._deaths += [(datetime.now(UTC), node_id) for node_id in node_ids]
        return node_ids

    def _restart_store(self) -> None:
        assert self._server is not None
        self._server.start()
        self._note("store-is-back")

    def _server_is_up(self) -> bool:
        with suppress(StoreUnavailable):
            self._store.listings()
            return True
        return False

    def _look_for(self, orphans: list[psutil.Process]) -> None:
        alive = [worker.pid for worker in orphans if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]
        if alive:
            self._problems.append(f"{len(alive)} workers of a dead driver were alive after {ORPHANS_S:.0f} s")

    # What is started

    def _start_cluster(self) -> None:
        self._cluster.start()
        for _ in range(self._chaos.nodes):
            self._cluster.add_node()
        self._note("cluster-is-up")

    def _add_node(self) -> None:
        self._cluster.add_node()
        self._note("replacement-starts")

    def _start_driver(self) -> None:
        self._count_tracks()
        self._tracks_at_start = self._tracks
        options = self._job.storage_options
        if self._proxy:
            options = {**options, "endpoint_url": f"http://127.0.0.1:{self._proxy.port}"}
        command = [
            sys.executable, "-m", "batch_jobs.render_catalog", f"--catalog={self._catalog_path}",
            f"--out={self._job.out_url}", f"--store={self._job.store_url}",
            f"--storage-options={options_argument(options, self._folder)}",
            f"--signing-key={self._folder / '.keys/signing-key.pem'}", f"--prices={self._folder / 'prices.yaml'}",
            f"--workers={self._chaos.nodes}", "--market=spot", "--progress=json",
            f"--address={self._cluster.address}",
        ]  # fmt: skip
        with self._log.open("ab") as log:
            log.write(f"--- run {len(self._exit_codes) + 1}\n".encode())
            self._driver = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=log, stderr=log)
        self._note("driver-starts", pid=self._driver.pid)

    def _kill_driver(self) -> None:
        assert self._driver is not None
        self._driver.kill()
        self._driver.wait()
        self._driver_ended(killed=True)

    def _driver_ended(self, killed: bool = False) -> None:
        assert self._driver is not None
        code = self._driver.returncode
        self._exit_codes.append(None if killed else code)
        self._driver = None
        self._note("driver-ended", code=code)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    def _note(self, what: str, **more: Any) -> None:
        event = {"at_s": round(self._elapsed_s(), 1), "tracks": self._tracks, "what": str(what), **more}
        self._events.append(event)
        self._say(" ".join(f"{name}={value}" for name, value in event.items()))
