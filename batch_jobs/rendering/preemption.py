"""What a render process asks about the machine it runs on: which one it is, and whether it will be taken away.

Ray does nothing at a drain's deadline. It starts nothing new on a draining node, and Ray Data hands no more work to
actors there, but it neither moves nor replaces them. An actor that wants to go on elsewhere has to end its own process;
it is restarted on another node, and such a restart does not count against `max_restarts`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import ray
from ray.exceptions import RayError

from cluster.ray_internals import DrainingNodes, gcs_of_this_process

logger = logging.getLogger(__name__)

#: Ray's own label of a node's market, "spot" or "on-demand".
MARKET_LABEL: Final = "ray.io/market-type"
#: Our label of a node's row in the price table.
NODE_TYPE_LABEL: Final = "orchestrion/node-type"
#: Our label for a node that is a machine to the bill, although it is not one: several Ray nodes on one host.
MACHINE_LABEL: Final = "orchestrion/machine"
#: How long an answer of Ray's control service (GCS) is waited for. It usually takes half a millisecond.
GCS_TIMEOUT_S: Final = 1.0
#: A deadline that never comes: a node that is drained without one goes when its last actor has gone.
NO_DEADLINE: Final = datetime.max.replace(tzinfo=UTC)
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """One Ray node, as its labels describe it. None: it has no such label."""

    node_id: str
    node_type: str | None
    market: str | None
    machine: str | None = None


def node_of_this_process() -> NodeIdentity:
    """The node that this actor, task or driver runs on."""
    context = ray.get_runtime_context()
    # Ray's annotation promises lists; the values are strings.
    labels: Mapping[str, Any] = context.get_node_labels()
    node_id: str = context.get_node_id()
    return NodeIdentity(node_id, labels.get(NODE_TYPE_LABEL), labels.get(MARKET_LABEL), labels.get(MACHINE_LABEL))


class NodeDrain:
    """Whether one node is being drained, and until when. Cheap enough to ask each second."""

    def __init__(self, node_id: str, gcs: DrainingNodes) -> None:
        self._node_id = node_id
        self._gcs = gcs
        self._deadline: datetime | None = None
        self._answered = True

    @classmethod
    def of_this_process(cls) -> NodeDrain:
        """About the node that this process runs on. Ray must be running."""
        return cls(ray.get_runtime_context().get_node_id(), gcs_of_this_process())

    def deadline(self) -> datetime | None:
        """When the node goes, UTC, or None while it stays.

        `NO_DEADLINE` is a drain without one. Where Ray does not answer within a second, what was known before holds: a
        drain cannot be undone, and None may then mean that it is not known.
        """
        try:
            draining = self._gcs.get_draining_nodes(timeout=GCS_TIMEOUT_S)
        except RayError as error:
            if self._answered:
                logger.warning("Ray does not say whether node %s is draining: %s", self._node_id, error)
            self._answered = False
            return self._deadline
        self._answered = True
        if self._node_id in draining:
            self._deadline = _moment(draining[self._node_id])
        return self._deadline


def _moment(unix_ms: int) -> datetime:
    try:
        return _EPOCH + timedelta(milliseconds=unix_ms) if unix_ms > 0 else NO_DEADLINE
    except OverflowError:
        return NO_DEADLINE
