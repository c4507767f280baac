"""What Ray keeps private, in the one file that touches it: a change of Ray's version is looked for here.

A Ray of our own on this machine is closed to others: it listens on loopback alone and wants a random token. Without
both, anything that reaches one of Ray's ports can run commands as the user who started it. Nothing is written to the
home folder: a token there would lock later `ray start` commands out of their own cluster.

Ray is imported where it is used: the token must be in the environment before, and some importers of this file never
need Ray.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol, cast

from cluster.guardian import Guardian
from orchestrion.errors import InvalidRequest

LOOPBACK: Final = "127.0.0.1"
#: Names of environment variables, which every process of Ray reads.
MODE: Final = "RAY_AUTH_MODE"
TOKEN: Final = "RAY_AUTH_TOKEN"  # noqa: S105 - a variable's name
TOKEN_FILE: Final = "RAY_AUTH_TOKEN_PATH"  # noqa: S105
#: With "0" a node's own address is 127.0.0.1, on Linux as it always is on macOS. Ray replaces a loopback address that
#: it is given by the machine's own (`_node_ip_address`, `--node-ip-address`), and then listens on all of them.
MANY_NODES: Final = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
#: Of Rays that were started without one. A guardian that nothing holds any more is dismissed.
_GUARDIANS: Final[list[Guardian]] = []


def token_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What to add to an environment so that Ray, started or joined with it, wants a token: a new one, or its own.

    For processes that are to be started, or for this one before it imports Ray, which reads the mode only then.

    Raises:
        InvalidRequest: the environment switches tokens off.
    """
    mode = environment.get(MODE, "token").lower()
    if mode != "token":
        raise InvalidRequest.of(
            MODE,
            mode,
            "lets everybody who reaches Ray's ports run commands; unset it, and a token is made for this run",
        )
    if environment.get(TOKEN) or environment.get(TOKEN_FILE):
        return {MODE: "token"}
    return {MODE: "token", TOKEN: secrets.token_hex(32)}


def start_private_ray(guardian: Guardian | None = None, **options: Any) -> None:  # noqa: ANN401 - Ray's own
    """Start a Ray for this process and its children, and connect to it; `ray.shutdown` ends it.

    It also ends with this process, however that ends. The token stays in this process's environment, where its
    children find it.

    Args:
        guardian: ends it if this process is killed; by default one that is there for nothing else.
        options: of `ray.init`.

    Raises:
        InvalidRequest: the environment switches tokens off.
    """
    import ray
    from ray._private import ray_constants

    added = token_environment(os.environ)
    if TOKEN in added:
        # Not the mode: Ray has read it already, and where it is not set, `ray.init` switches tokens on everywhere.
        os.environ[TOKEN] = added[TOKEN]
    # The variable for Ray's own processes, the constant for this one, which has read the variable already.
    os.environ[MANY_NODES] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    if guardian is None:
        guardian = Guardian()
        _GUARDIANS.append(guardian)
    with guardian.marking():
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address=LOOPBACK,
            **options,
        )


class DrainingNodes(Protocol):
    """The one question to Ray's control service (GCS) that a worker asks."""

    def get_draining_nodes(self, *, timeout: float) -> dict[str, int]:
        """Each draining node's id with its deadline in milliseconds since 1970, 0 for none. Raises RayError."""
        ...


def gcs_of_this_process() -> DrainingNodes:
    """The control service of the Ray that this process is connected to."""
    import ray

    return cast("DrainingNodes", ray._private.worker.global_worker.gcs_client)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class RayNode:
    """A node as Ray lists it; dead ones stay in the list for a while."""

    node_id: str
    ip: str
    alive: bool


class ControlService:
    """Ray's control service at an address, for one who is no part of the cluster.

    Every call ends within `timeout_s` or raises RayError.
    """

    def __init__(self, address: str, timeout_s: float) -> None:
        from ray._raylet import GcsClient  # type: ignore[attr-defined]

        self._client = GcsClient(address=address)
        self._timeout_s = timeout_s

    def nodes(self) -> list[RayNode]:
        """Every node that it knows."""
        from ray.core.generated import gcs_pb2

        alive = gcs_pb2.GcsNodeInfo.ALIVE  # type: ignore[attr-defined]
        listed = self._client.get_all_node_info(timeout=self._timeout_s)
        return [
            RayNode(node_id.hex(), node.node_manager_address, node.state == alive) for node_id, node in listed.items()
        ]

    def drain(self, node_ids: Iterable[str], deadline: datetime, message: str) -> None:
        """Drain these nodes as preempted. Raises RayError when one is not taken."""
        from ray.core.generated import autoscaler_pb2
        from ray.exceptions import RayError

        preemption = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")  # type: ignore[attr-defined]
        unix_ms = int(deadline.timestamp() * 1000)
        for node_id in node_ids:
            taken, why_not = self._client.drain_node(node_id, preemption, message, unix_ms, timeout=self._timeout_s)
            if not taken:
                raise RayError(f"Ray refused to drain node {node_id}: {why_not}")
