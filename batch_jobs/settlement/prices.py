"""What the machines of a job cost: the price table of the command that runs it, whatever a journal says.

Workers render at these prices, and runs are settled at them. A journal only names its machine.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from batch_jobs.job_store.job_folder import WorkerJournal, WorkerNode
from orchestrion.accounting.cost import Market, Price, PriceTable

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PricedNode:
    """A machine and its price."""

    node_id: str
    #: A row of the price table.
    node_type: str
    market: str
    #: "cpu-core" or "gpu".
    device: str
    devices: int
    usd_per_node_hour: float
    on_demand_usd_per_node_hour: float | None
    price_source: str

    @property
    def usd_per_device_second(self) -> float:
        """Price of one device for a second."""
        return self.usd_per_node_hour / self.devices / 3600.0


class JobPrices:
    """The prices of a job. Travels to its workers."""

    def __init__(self, table: PriceTable, node_type: str, market: str) -> None:
        """Prices from a table.

        Args:
            table: of the driver.
            node_type: of the driver's command: stands for a type that the table does not know.
            market: the same.

        Raises:
            InvalidRequest: the table has no price for these.
        """
        table.price(node_type, market)
        self.table = table
        self._node_type = node_type
        self._market = market
        self._told: set[tuple[str, str]] = set()

    def of(self, node: WorkerNode) -> PricedNode:
        """A machine with its price. One that the table does not know is billed as the driver's, and said."""
        node_type = node.node_type if node.node_type in self.table.node_types else self._node_type
        row = self.table.node_types[node_type]
        market = _market(row.markets, node.market, self._market)
        if (node_type, market) != (node.node_type, node.market):
            self._tell(node, node_type, market)
        price, on_demand = row.markets[market], row.markets.get("on-demand")
        return PricedNode(
            node_id=node.node_id,
            node_type=node_type,
            market=market,
            device=row.device,
            devices=row.devices,
            usd_per_node_hour=price.usd_per_node_hour,
            on_demand_usd_per_node_hour=on_demand.usd_per_node_hour if on_demand else None,
            price_source=price.dated_source,
        )

    def reserved_devices(self, worker: WorkerJournal) -> float:
        """Devices that a process kept from others: no more than its machine has."""
        return min(worker.reserved_devices, self.of(worker.node).devices)

    def _tell(self, node: WorkerNode, node_type: str, market: str) -> None:
        if (node.node_type, node.market) not in self._told:
            self._told.add((node.node_type, node.market))
            logger.warning(
                "the price table does not know %.80r (%.80r), on which a worker says it runs; it is billed as %s (%s). "
                "Add it to the table of --prices",
                node.node_type, node.market, node_type, market,
            )  # fmt: skip


def _market(markets: Mapping[Market, Price], said: str, of_driver: str) -> Market:
    """The market that is billed: the one that is said, the driver's, or the dearest that there is."""
    known: dict[str, Market] = {name: name for name in markets}
    dearest = max(markets, key=lambda name: markets[name].usd_per_node_hour)
    return known.get(said) or known.get(of_driver) or dearest
