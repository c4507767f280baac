"""Drain one machine's Ray node.

    python -m cluster.preemption.drain_node --node-ip 10.0.0.7 --deadline 2026-11-22T10:00:00Z

Ray then starts nothing new there, and what runs there can see until when it may go on. It is a process of its own
because Ray's client waits up to 40 s for a head that is away, and only a kill ends that: `cluster.preemption.watcher`
runs it with a time limit. Ray's own `ray drain-node` is hidden from its help and wants an id that the machine does not
know.

Exit codes: 0 the node is draining, or had gone already · 1 Ray did not take it; try again · 2 unusable arguments.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import ray
from ray.exceptions import RayError

from cluster.ray_internals import ControlService, RayNode
from orchestrion.errors import NotFound

RPC_TIMEOUT_S: Final = 5.0


def nodes_to_drain(nodes: Iterable[RayNode], node_ip: str, node_id: str | None = None) -> tuple[str, ...]:
    """Ids of the living nodes of one machine: all of them go with it. Empty if they have gone already.

    Args:
        nodes: every node that Ray knows.
        node_ip: the machine's address, as Ray was told.
        node_id: instead of `node_ip`: one node alone, on a machine that has several.

    Raises:
        NotFound: Ray has never seen it.
    """
    mine = [node for node in nodes if (node.node_id == node_id if node_id else node.ip == node_ip)]
    if not mine:
        which = f"the id {node_id}" if node_id else f"the address {node_ip}; give its --node-ip or --node-id"
        raise NotFound(f"Ray knows no node with {which}")
    return tuple(node.node_id for node in mine if node.alive)


def drain(address: str, node_ip: str, node_id: str | None, deadline: datetime, message: str) -> tuple[str, ...]:
    """Drain the machine's nodes and return their ids; empty if they had gone already.

    Raises:
        NotFound: Ray has never seen such a node.
        RayError: Ray did not answer, or did not take it.
    """
    control = ControlService(address, RPC_TIMEOUT_S)
    going = nodes_to_drain(control.nodes(), node_ip, node_id)
    control.drain(going, deadline, message)
    return going


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring for the exit codes."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster.preemption.drain_node", description="Drain one machine's Ray node."
    )
    parser.add_argument("--address", default=os.environ.get("RAY_ADDRESS"), help="HOST:PORT of the head (RAY_ADDRESS)")
    parser.add_argument("--node-ip", default=None, help="the machine's address, as Ray was told (default: found out)")
    parser.add_argument("--node-id", default=None, help="one node alone, on a machine that has several")
    parser.add_argument("--deadline", type=_moment, required=True, help="when the machine goes, ISO 8601 with a zone")
    parser.add_argument("--message", default="drained by hand", help="shown in Ray's list of nodes")
    arguments = parser.parse_args(argv)
    if not arguments.address:
        parser.error("say where Ray's head is: --address HOST:6379, or RAY_ADDRESS")
    node_ip: str = arguments.node_ip or ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    try:
        ids = drain(arguments.address, node_ip, arguments.node_id, arguments.deadline, arguments.message)
    except (RayError, NotFound) as error:
        print(f"drain_node: {error}", file=sys.stderr)
        return 1
    print("draining " + ", ".join(ids) if ids else "the node had gone already")
    return 0


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no time zone; end it in Z")
    return moment.astimezone(UTC)


if __name__ == "__main__":
    sys.exit(main())
