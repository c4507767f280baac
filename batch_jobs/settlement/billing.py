"""The arithmetic of the bill: which track pays for what. Plain figures in, plain figures out.

    node_usd  =  what machines cost from their first worker's start to their last one's end
              =  reserved (devices that workers had to themselves)                      +  unallocated (the others)
    reserved  =  direct (renders of tracks)  +  waste (attempts without a track)  +  idle (the rest)

Tracks carry waste and idle in proportion to what their own render cost; a cache hit carries nothing. Idle is what is
left over, so it can be a little less than nothing: a process that masters one track while it generates the next holds
its device once, and charges both.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.job_store.job_folder import WorkerJournal
from batch_jobs.settlement.prices import JobPrices, PricedNode

#: A machine in one run: run id and node id.
RunNode = tuple[str, str]


@dataclass(frozen=True, slots=True)
class NodeBill:
    """What one machine cost in one run."""

    run_id: str
    node: PricedNode
    up_from: datetime
    up_to: datetime
    workers: int
    reserved_device_seconds: float
    cost_usd: float
    #: The part of `cost_usd` that no track carries.
    unallocated_usd: float = 0.0

    @property
    def reserved_usd(self) -> float:
        """What the reserved devices cost."""
        return self.reserved_device_seconds * self.node.usd_per_device_second


@dataclass(frozen=True, slots=True)
class Bill:
    """A bill, split. direct + waste + idle + unallocated = node_usd."""

    #: Sum of `charged_usd` of the tracks.
    direct_usd: float
    #: What the tracks carry besides; both 0 if no track can carry anything.
    waste_usd: float
    idle_usd: float
    nodes: tuple[NodeBill, ...]

    @property
    def node_usd(self) -> float:
        """The bill."""
        return math.fsum(bill.cost_usd for bill in self.nodes)

    @property
    def unallocated_usd(self) -> float:
        """What no track carries."""
        return math.fsum(bill.unallocated_usd for bill in self.nodes)

    def shares(self, charged_usd: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
        """The waste and the idle time, in USD, that tracks with these `charged_usd` carry."""
        if self.direct_usd == 0.0:
            nothing = pc.multiply(charged_usd, 0.0)
            return nothing, nothing
        part = pc.divide(charged_usd, self.direct_usd)
        return pc.multiply(part, self.waste_usd), pc.multiply(part, self.idle_usd)


def split_bill(direct_usd: float, waste_usd: float, bills: Iterable[NodeBill]) -> Bill:
    """Split a bill.

    Args:
        direct_usd: sum of `charged_usd` of the tracks.
        waste_usd: cost of the attempts that no track is charged for.
        bills: of the machines, from `node_bills`.
    """
    nodes = tuple(bills)
    if direct_usd == 0.0:
        return Bill(0.0, 0.0, 0.0, tuple(replace(bill, unallocated_usd=bill.cost_usd) for bill in nodes))
    reserved_usd = math.fsum(bill.reserved_usd for bill in nodes)
    return Bill(
        direct_usd,
        waste_usd,
        reserved_usd - direct_usd - waste_usd,
        tuple(replace(bill, unallocated_usd=bill.cost_usd - bill.reserved_usd) for bill in nodes),
    )


def node_bills(
    workers: Iterable[WorkerJournal], prices: JobPrices, paid_up_to: Mapping[RunNode, datetime]
) -> list[NodeBill]:
    """What the machines of these workers cost.

    Args:
        workers: each is counted in one bill of its ledger only.
        prices: of the job.
        paid_up_to: until when earlier bills have paid for a machine; it is not paid for twice.
    """
    together: dict[RunNode, list[WorkerJournal]] = defaultdict(list)
    for worker in workers:
        together[worker.run_id, worker.node.node_id].append(worker)
    bills = []
    for (run_id, node_id), those in sorted(together.items()):
        node = max((prices.of(worker.node) for worker in those), key=lambda each: each.usd_per_node_hour)
        up_from = min(worker.up_from for worker in those)
        up_from = max(up_from, paid_up_to.get((run_id, node_id), up_from))
        up_to = max(up_from, *(worker.seen_at for worker in those))
        bills.append(
            NodeBill(
                run_id=run_id,
                node=node,
                up_from=up_from,
                up_to=up_to,
                workers=sum(worker.renders for worker in those),
                reserved_device_seconds=math.fsum(map(prices.reserved_device_seconds, those)),
                cost_usd=(up_to - up_from).total_seconds() / 3600.0 * node.usd_per_node_hour,
            )
        )
    return bills
