"""The arithmetic of the bill: which track pays for what. Plain figures in, plain figures out.

    node_usd  =  what machines cost from the first process of a run to its last, each moment of a machine once
              =  reserved (devices that workers had to themselves)                      +  unallocated (the others)
    reserved  =  direct (renders of tracks)  +  waste (attempts without a track)  +  idle (the rest)

Where runs of a ledger share a machine, the first settlement pays for it, and calls the devices of the others
unallocated. The others' settlements pay nothing for that time and take their own devices off again, by hours whose
`unallocated_usd` is below zero. So what a track carries does not depend on whose settlement came first.

Tracks carry waste and idle in proportion to what their own render cost; a cache hit carries nothing. Idle is what is
left over, so it can be a little less than nothing: a process that masters one track while it generates the next holds
its device once, and charges both.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.job_store.job_folder import WorkerJournal
from batch_jobs.settlement.prices import JobPrices, PricedNode


@dataclass(frozen=True, slots=True, order=True)
class Hours:
    """A stretch of one machine's time that a bill has."""

    machine: str
    up_from: datetime
    up_to: datetime
    #: Seconds of devices that its workers had to themselves.
    reserved_device_seconds: float
    #: Whether this bill pays for it, and not one before.
    is_paid: bool

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.up_to - self.up_from).total_seconds()

    def overlap_s(self, begins: datetime, ends: datetime) -> float:
        """How much of it lies between two moments."""
        return _overlap_s(self.up_from, self.up_to, begins, ends)

    def reserved_s(self, begins: datetime, ends: datetime) -> float:
        """Of its reserved seconds those between two moments, as if they were spread evenly."""
        return self.reserved_device_seconds * self.overlap_s(begins, ends) / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class NodeBill:
    """What some hours of one machine cost in one run."""

    run_id: str
    #: Its name in all runs and jobs.
    machine: str
    node: PricedNode
    up_from: datetime
    up_to: datetime
    #: Render processes that ran on it in the run; counted in the first of its hours.
    workers: int
    reserved_device_seconds: float
    #: 0 where another bill has paid for these hours.
    cost_usd: float
    #: The part of `cost_usd` that no track carries. Below zero, it takes back what an earlier bill of these hours
    #: called nobody's.
    unallocated_usd: float = 0.0

    @property
    def hours(self) -> Hours:
        """As later bills see it."""
        return Hours(self.machine, self.up_from, self.up_to, self.reserved_device_seconds, self.cost_usd > 0.0)

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


def node_bills(workers: Iterable[WorkerJournal], prices: JobPrices, known: Iterable[Hours] = ()) -> list[NodeBill]:
    """What the machines of these workers cost: each moment of a machine once, whoever else was on it.

    Args:
        workers: each is counted in one bill of its ledger only.
        prices: of the job.
        known: hours of these machines that are in the ledger already.

    Returns:
        For each machine of each run its hours, cut at midnight and where hours of others begin or end. Those that
        others have paid for cost nothing.
    """
    on_machine: dict[str, list[Hours]] = defaultdict(list)
    for hours in known:
        on_machine[hours.machine].append(hours)
    together: dict[tuple[str, str], list[WorkerJournal]] = defaultdict(list)
    for worker in workers:
        together[worker.run_id, worker.node.machine].append(worker)
    bills: list[NodeBill] = []
    # Of runs that share a machine, the one that was there first pays.
    for (_, machine), those in sorted(together.items(), key=lambda each: (min(w.up_from for w in each[1]), each[0])):
        new = _bills_of_run(machine, those, prices, on_machine[machine])
        on_machine[machine] += [bill.hours for bill in new]
        bills += new
    return bills


def _bills_of_run(
    machine: str, workers: Sequence[WorkerJournal], prices: JobPrices, known: Sequence[Hours]
) -> list[NodeBill]:
    """The hours of one machine in one run."""
    priced = [prices.of(worker.node) for worker in workers]
    dearest = max(priced, key=lambda each: each.usd_per_node_hour)
    # A driver that has just begun does not know yet what Ray will call its machine.
    named = next((node for node, worker in zip(priced, workers, strict=True) if worker.renders), dearest)
    node = replace(dearest, node_id=named.node_id)
    up_from = min(worker.up_from for worker in workers)
    up_to = max(up_from, *(worker.seen_at for worker in workers))
    bills: list[NodeBill] = []
    for begins, ends in _cut(up_from, up_to, known):
        seconds = (ends - begins).total_seconds()
        others = [hours for hours in known if hours.overlap_s(begins, ends) > 0.0]
        taken = math.fsum(hours.reserved_s(begins, ends) for hours in others)
        wanted = math.fsum(prices.reserved_devices(w) * _overlap_s(w.up_from, w.seen_at, begins, ends) for w in workers)
        is_paid = any(hours.is_paid for hours in others)
        bills.append(
            NodeBill(
                run_id=workers[0].run_id,
                machine=machine,
                node=node,
                up_from=begins,
                up_to=ends,
                workers=0 if bills else sum(worker.renders for worker in workers),
                reserved_device_seconds=min(wanted, max(0.0, node.devices * seconds - taken)),
                cost_usd=0.0 if is_paid else seconds / 3600.0 * node.usd_per_node_hour,
            )
        )
    return bills


def _cut(up_from: datetime, up_to: datetime, known: Sequence[Hours]) -> list[tuple[datetime, datetime]]:
    """A stretch of time, cut at each midnight and where hours of others begin or end."""
    edges = {edge for hours in known if hours.seconds > 0.0 for edge in (hours.up_from, hours.up_to)}
    midnight = datetime.combine(up_from.date(), time(), UTC)
    edges.update(midnight + timedelta(days=number) for number in range(1, (up_to - midnight).days + 1))
    inside = sorted(edge for edge in edges if up_from < edge < up_to)
    return list(pairwise([up_from, *inside, up_to]))


def _overlap_s(begins: datetime, ends: datetime, other_begins: datetime, other_ends: datetime) -> float:
    return max(0.0, (min(ends, other_ends) - max(begins, other_begins)).total_seconds())
