"""A Ray cluster of real raylets on this machine, whose nodes can be drained and killed as a cloud does it.

A head without CPUs and some spot nodes of one CPU each, started by `ray start`, each in a session of its own. Ray's
workers leave the process group of the node that started them, so a node is killed with all processes that descend from
it. Only processes that this cluster started are ever touched.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from batch_jobs.rendering.preemption import MACHINE_LABEL
from cluster.ray_internals import MANY_NODES, token_environment
from tests.servers.seaweedfs import free_ports

RAY = str(Path(sys.executable).with_name("ray"))
START_TIMEOUT_S = 90
#: A dead node is known to be dead after about three seconds; Ray's own defaults take half a minute.
FAST_DEATH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
#: A few megabytes of rows pass through it; the default is a third of the memory for each raylet.
OBJECT_STORE_BYTES = 100_000_000
#: What runs below a raylet and is no worker.
AGENTS = ("DashboardAgent", "RuntimeEnvAgent", "dashboard/agent.py", "runtime_env/agent")
#: One for all commands of a run, which is the one that this process has if it has any.
TOKEN = token_environment(os.environ)
_NODE_ID = re.compile(r"--node_id=([0-9a-f]+)")


def environment() -> dict[str, str]:
    """For every command that makes or talks to the cluster.

    One thread a process: a node here is one core. Ray gives its workers a niceness of 15; where anything else runs,
    that would be a job that stands still.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", MANY_NODES)}
    return (
        inherited
        | TOKEN
        | {
            "RAY_DISABLE_IMPORT_WARNING": "1",
            "RAY_worker_niceness": "0",
            "OMP_NUM_THREADS": "1",
        }
    )


def kill_trees(roots: list[psutil.Process]) -> None:
    """SIGKILL for these processes and all of their descendants; returns when they are dead."""
    found = {}
    for root in roots:
        with suppress(psutil.NoSuchProcess):
            found |= {process.pid: process for process in (root, *root.children(recursive=True))}
    for process in found.values():
        with suppress(psutil.NoSuchProcess):
            process.kill()
    # Not `wait_procs`: orphans stay zombies until process 1 looks, which in a container may be seconds later.
    deadline_s = time.monotonic() + 20
    while not all(map(_is_dead, found.values())) and time.monotonic() < deadline_s:
        time.sleep(0.02)


def _is_dead(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


@dataclass(slots=True)
class RayNode:
    """One `ray start`: its processes are those of the session that the command leads."""

    starter: subprocess.Popen[bytes]
    log: Path
    #: As the bill calls it.
    machine: str
    _node_id: str = ""

    def is_up(self) -> bool:
        """Whether the command has ended well."""
        return self.starter.poll() == 0

    def is_gone(self) -> bool:
        """Whether it did not start or has left: where a machine is too busy for Ray's patience, both happen."""
        return self.starter.poll() is not None and self.raylet() is None

    def processes(self) -> list[psutil.Process]:
        """What is alive of it: raylet, agents, on the head also the GCS, and below them Ray's workers."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getsid(process.pid) == self.starter.pid:
                    found.append(process)
        return found

    def raylet(self) -> psutil.Process | None:
        """The process that is the node for the rest of the cluster."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                if process.name() == "raylet" and process.status() != psutil.STATUS_ZOMBIE:
                    return process
        return None

    def workers(self) -> list[psutil.Process]:
        """Ray's workers on it, idle ones included."""
        raylet = self.raylet()
        with suppress(psutil.NoSuchProcess):
            return [child for child in raylet.children(recursive=True) if _is_worker(child)] if raylet else []
        return []

    def node_id(self) -> str:
        """As Ray calls it; "" for a node that is gone and was never asked."""
        if not self._node_id and (raylet := self.raylet()):
            match = _NODE_ID.search(" ".join(raylet.cmdline()))
            self._node_id = match[1] if match else ""
        return self._node_id

    def kill(self) -> None:
        """As when a machine is taken away: no process is told and nothing is flushed."""
        self.starter.kill()
        self.starter.wait()
        kill_trees(self.processes())


def _is_worker(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return not any(agent in " ".join(process.cmdline()) for agent in AGENTS)
    return False


def machine_name(number: int) -> str:
    """Of the node that this process started as its so many-th; two clusters have none in common."""
    return f"spot-{os.getpid()}-{number}"


class SpotCluster:
    """Head and nodes. `start` after `kill_head` makes a new cluster, which knows nothing of the old one."""

    def __init__(self) -> None:
        # Short, because Ray puts Unix sockets below it, whose paths end at 107 characters.
        self._folder = tempfile.TemporaryDirectory(prefix="spot-", dir="/tmp", ignore_cleanup_errors=True)
        self._started = 0
        self.head: RayNode | None = None
        self.nodes: list[RayNode] = []
        self.address = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill_head()
        self._folder.cleanup()

    def start(self) -> None:
        """A new head; returns when nodes and drivers may come."""
        port, dashboard, client = free_ports(3)
        self.address = f"127.0.0.1:{port}"
        self.head = self._start_node(
            "--head", f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}",
            "--num-cpus=0", "--include-dashboard=false", "--no-monitor",
            f"--system-config={json.dumps(FAST_DEATH)}",
        )  # fmt: skip
        self.head.starter.wait(START_TIMEOUT_S)
        if not self.head.is_up():
            raise RuntimeError(f"the head did not start:\n{self.head.log.read_text()[-3000:]}")

    def add_node(self) -> RayNode:
        """Begin to start a spot node; it is ready a few seconds later, when `is_up` says so."""
        node = self._start_node(
            f"--address={self.address}", "--num-cpus=1", "--resources={\"spot\": 1}",
            # Each node plays a machine.
            f"--labels=ray.io/market-type=spot,{MACHINE_LABEL}={machine_name(self._started + 1)}",
        )  # fmt: skip
        self.nodes.append(node)
        return node

    def processes_named(self, part: str) -> list[tuple[str, psutil.Process]]:
        """The processes of nodes that have this in their title, each with its node's machine."""
        machines = {node.starter.pid: node.machine for node in list(self.nodes)}
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                machine = machines.get(os.getsid(process.pid))
                if machine is not None and part in " ".join(process.cmdline()):
                    found.append((machine, process))
        return found

    def drain(self, node: RayNode, deadline_s: int) -> subprocess.Popen[bytes]:
        """Give notice, as a cloud does some time before it takes a spot machine away; it is given when this ends."""
        return subprocess.Popen(
            [
                RAY, "drain-node", f"--address={self.address}", f"--node-id={node.node_id()}",
                "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot notice",
                f"--deadline-remaining-seconds={deadline_s}",
            ],
            env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def kill_node(self, node: RayNode) -> None:
        """Take a node away."""
        self.nodes.remove(node)
        node.kill()

    def kill_head(self) -> None:
        """Take the head away, and with it the cluster: its nodes can do nothing without it."""
        for node in [*([self.head] if self.head else []), *self.nodes]:
            node.kill()
        self.head, self.nodes = None, []

    def _start_node(self, *arguments: str) -> RayNode:
        self._started += 1
        # Of its own, because raylets that start at the same moment in one folder take the same socket and die of it.
        session = Path(self._folder.name) / str(self._started)
        session.mkdir()
        log = session / "start.log"
        with log.open("wb") as out:
            starter = subprocess.Popen(
                [
                    RAY, "start", "--node-ip-address=127.0.0.1", "--disable-usage-stats", "--include-log-monitor=false",
                    f"--object-store-memory={OBJECT_STORE_BYTES}", "--min-worker-port=0", "--max-worker-port=0",
                    f"--temp-dir={session}", *arguments,
                ],
                env=environment(), stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        return RayNode(starter, log, machine_name(self._started))
