"""How many batch replicas there should be: enough for the backlog, added slowly and released when the backlog is gone.

No person waits for a single track here, so what counts is the price of the whole backlog: a replica is only worth its
cold start when the need lasts, growth is at most twofold at a time, and an empty pool gives its (preemptible) nodes
back. Ray pickles this function without its imports, so this file uses only the standard library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Protocol

#: A larger backlog must last this long before replicas are added; shorter bursts are left to those that are there.
PATIENCE_S: Final = 20.0
#: A smaller need must last this long before replicas are given up.
IDLE_S: Final = 60.0


class Target(Protocol):
    """The one setting that is read of Ray's AutoscalingConfig."""

    @property
    def target_ongoing_requests(self) -> float:
        """Requests that one replica should have at a time."""
        ...


class Context(Protocol):
    """What is read of Ray's AutoscalingContext."""

    @property
    def total_num_requests(self) -> float:
        """Requests running in replicas and waiting for one."""
        ...

    @property
    def target_num_replicas(self) -> int:
        """Replicas that were asked for last."""
        ...

    @property
    def capacity_adjusted_min_replicas(self) -> int:
        """Replicas at least."""
        ...

    @property
    def capacity_adjusted_max_replicas(self) -> int:
        """Replicas at most."""
        ...

    @property
    def policy_state(self) -> Mapping[str, Any]:
        """What this function returned last time."""
        ...

    @property
    def current_time(self) -> float | None:
        """Seconds."""
        ...

    @property
    def config(self) -> Target:
        """The deployment's autoscaling settings."""
        ...


def batch_policy(context: Context) -> tuple[int, dict[str, Any]]:
    """Replicas wanted now, and since when the need has been above or below what is there as state."""
    low, high = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
    there = context.target_num_replicas
    needed = math.ceil(context.total_num_requests / context.config.target_ongoing_requests)
    needed = max(low, min(high, needed))
    direction = (needed > there) - (needed < there)
    if direction == 0:
        return there, {}
    now_s = context.current_time or 0.0
    since_s = now_s
    if context.policy_state.get("direction") == direction:
        since_s = context.policy_state["since_s"]
    if direction > 0 and (there == 0 or now_s - since_s >= PATIENCE_S):
        return min(needed, max(1, 2 * there)), {}
    if direction < 0 and now_s - since_s >= IDLE_S:
        return needed, {}
    return there, {"direction": direction, "since_s": since_s}
