"""How many low-latency replicas there should be: up at once, down only after a quiet while.

A listener feels a missing replica immediately and an idle one only costs money, so the answer is the largest need of
the last `HOLD_S` seconds. Ray pickles this function without its imports, so this file uses only the standard library
and shares nothing with its neighbour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Protocol

#: A replica is given up when it was not needed for this long; at a cold start a listener waits about 15 s.
HOLD_S: Final = 120.0
#: When requests are expected to wait longer than this inside a replica, one more is wanted than the count says.
MAX_QUEUE_S: Final = 1.0


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
    def current_num_replicas(self) -> int:
        """Replicas that are running."""
        ...

    @property
    def aggregated_metrics(self) -> Mapping[str, Mapping[Any, float]] | None:
        """Metric name → replica → value, as `record_autoscaling_stats` reports them."""
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


def low_latency_policy(context: Context) -> tuple[int, dict[str, Any]]:
    """Replicas wanted now, and the needs of the last `HOLD_S` seconds as state."""
    needed = math.ceil(context.total_num_requests / context.config.target_ongoing_requests)
    waits = (context.aggregated_metrics or {}).get("queue_seconds", {})
    if max(waits.values(), default=0.0) > MAX_QUEUE_S:
        # The count looks fine and people wait all the same: the tracks are longer than the target assumes. One more
        # than what runs, not than what was asked for, or each tick of a 15 s cold start would ask for yet another.
        needed = max(needed, context.current_num_replicas + 1)
    now_s = context.current_time or 0.0
    recent = [(t, n) for t, n in context.policy_state.get("recent", ()) if now_s - t <= HOLD_S]
    recent.append((now_s, min(needed, context.capacity_adjusted_max_replicas)))
    # A need that a later and larger one outlives can never be the maximum again: dropping it keeps the state small.
    kept: list[tuple[float, int]] = []
    for t, n in recent:
        while kept and kept[-1][1] <= n:
            kept.pop()
        kept.append((t, n))
    wanted = max(kept[0][1], context.capacity_adjusted_min_replicas)
    return wanted, {"recent": kept}
