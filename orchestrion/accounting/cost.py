"""What a render costs: seconds on a device times the price of that device, both written down where they came from.

There is no default price: a node type or market that the table does not know stops the process at its start, because a
track that says it cost 0 USD is worse than no track.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrion.accounting.dated_table import DatedTable
from orchestrion.errors import InvalidRequest

Market = Literal["on-demand", "spot"]
SECONDS_PER_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Node:
    """The machine a process renders on, as records name it."""

    node_id: str
    node_type: str
    #: What a device-second is a second of: "cpu-core" or "gpu".
    device: str
    market: str
    price_usd_per_device_hour: float
    #: Where the price comes from and as of when.
    price_source: str


def cost_usd(device_seconds: float, price_usd_per_device_hour: float) -> float:
    """USD for `device_seconds` on one device at that hourly price; both finite and not negative."""
    for name, value in (("device_seconds", device_seconds), ("price_usd_per_device_hour", price_usd_per_device_hour)):
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"{name} is {value}; it must be finite and not negative")
    return device_seconds * price_usd_per_device_hour / SECONDS_PER_HOUR


class Price(BaseModel):
    """Price of one whole node in one market."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    usd_per_node_hour: float = Field(gt=0.0, allow_inf_nan=False, description="USD per hour for the whole node.")
    as_of: date = Field(description="The day on which this price was true.")
    source: str = Field(min_length=1, description="Where the figure comes from.")

    @property
    def dated_source(self) -> str:
        """Where it comes from and as of when."""
        return f"{self.source} (as of {self.as_of.isoformat()})"


class NodeType(BaseModel):
    """A kind of machine: what its devices are, how many it has, and its price in each market it is had in."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    device: Literal["cpu-core", "gpu"]
    devices: int = Field(ge=1, description="Devices that share the node's price.")
    markets: Mapping[Market, Price] = Field(min_length=1)


class PriceTable(DatedTable):
    """Prices by node type; those that ship with the project are examples."""

    shipped_as = "prices.yaml"
    named_by = "prices_path"

    node_types: Annotated[Mapping[str, NodeType], Field(min_length=1)]

    def price(self, node_type: str, market: str) -> Price:
        """What a whole node of this type costs in this market.

        Raises:
            InvalidRequest: the table does not say.
        """
        row = self.node_types.get(node_type)
        if row is None:
            known = ", ".join(sorted(self.node_types))
            raise InvalidRequest.of(
                "node_type", node_type, f"has no price; add it to the price table or use one of {known}"
            )
        for name, price in row.markets.items():
            if name == market:
                return price
        raise InvalidRequest.of(
            "market", market, f"has no price for {node_type}; add it to the price table or use {', '.join(row.markets)}"
        )

    def usd_per_node_hour(self) -> dict[tuple[str, str], float]:
        """Every price of the table, by node type and market."""
        return {
            (node_type, market): price.usd_per_node_hour
            for node_type, row in self.node_types.items()
            for market, price in row.markets.items()
        }


def describe_node(node_type: str, market: str, prices: PriceTable, node_id: str | None = None) -> Node:
    """The machine we run on as records name it, with what a device of it costs.

    Args:
        node_type: a row of the table.
        market: "on-demand" or "spot".
        prices: the table.
        node_id: what the scheduler calls this machine; its host name when there is no scheduler.

    Raises:
        InvalidRequest: the table has no price for this node type in this market.
    """
    price = prices.price(node_type, market)
    row = prices.node_types[node_type]
    return Node(
        node_id=node_id or platform.node() or "unknown",
        node_type=node_type,
        device=row.device,
        market=market,
        price_usd_per_device_hour=price.usd_per_node_hour / row.devices,
        price_source=price.dated_source,
    )
