"""What a catalog will take before it is rendered: device time, hours on the clock, USD, each with a range.

A model's speed is looked up where it was measured: in the tracks that the same ledger holds, else in `speeds.yaml`. A
model whose speed is not known leaves the whole estimate without a total: one that leaves a model out would be read as
the total.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Annotated, Any, Final, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pydantic import BaseModel, ConfigDict, Field, model_validator

from batch_jobs.formatting import usd
from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.ledger.snapshot import Snapshot
from orchestrion.accounting.cost import Node, cost_usd
from orchestrion.accounting.dated_table import DatedTable
from orchestrion.errors import NotFound

#: Fewer tracks say little about the next thousand.
ENOUGH_TRACKS: Final = 20
#: What is read of a ledger for one model: its newest files, until there are so many tracks or so many files were read.
TRACKS_READ: Final = 2_000
FILES_READ: Final = 20


@dataclass(frozen=True, slots=True)
class Work:
    """What a plan has for one model: tracks to render (not those that are there) and their audio in seconds."""

    model: str
    tracks: int
    audio_s: float


@dataclass(frozen=True, slots=True)
class Span:
    """A figure that is not known exactly."""

    low: float
    middle: float
    high: float

    def times(self, factor: float) -> Span:
        """Each of the three, times a factor that is not negative."""
        return Span(self.low * factor, self.middle * factor, self.high * factor)

    def describe(self, show: Callable[[float], str]) -> str:
        """The middle, and the others in brackets."""
        return f"{show(self.middle)} ({show(self.low)} to {show(self.high)})"


@dataclass(frozen=True, slots=True)
class Speed:
    """Device-seconds for a second of audio: the median of tracks, and their 10th and 90th percentile."""

    device_seconds: Span
    source: str


@dataclass(frozen=True, slots=True)
class Overhead:
    """What a track costs with its share of waste and idle time, over its own render."""

    factor: float
    source: str


@dataclass(frozen=True, slots=True)
class ModelEstimate:
    """What the tracks of one model will take. Without a speed nothing is known."""

    work: Work
    speed: Speed | None
    #: With waste and idle time.
    device_seconds: Span | None
    usd: Span | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job will take. The sums are None if one model's speed is not known."""

    models: tuple[ModelEstimate, ...]
    node: Node
    workers: int
    overhead: Overhead
    device_seconds: Span | None
    wall_s: Span | None
    usd: Span | None

    def describe(self) -> str:
        """The lines a person reads."""
        lines = []
        for each in self.models:
            work = each.work
            what = f"{work.model}: {work.tracks:,} tracks, {_duration(work.audio_s)} of audio"
            if each.speed is None or each.device_seconds is None or each.usd is None:
                lines.append(
                    f"{what}; it was never measured on {self.node.node_type}: render a few of the rows first "
                    f"(--limit {2 * ENOUGH_TRACKS}), then ask again"
                )
                continue
            lines.append(f"{what}: {each.device_seconds.describe(_duration)} of devices, {each.usd.describe(usd)}")
            pace = each.speed.device_seconds.describe(lambda value: f"{value:.3g}")
            lines.append(f"  {pace} device-seconds a second of audio: {each.speed.source}")
        if self.usd is None or self.wall_s is None:
            lines.append("in all: not known, because the speed of a model is not")
        else:
            workers = "1 worker" if self.workers == 1 else f"{self.workers:,} workers"
            lines.append(f"in all: {self.usd.describe(usd)}, {self.wall_s.describe(_duration)} on {workers}")
        lines.append(
            f"price: {usd(self.node.price_usd_per_device_hour)} an hour for a {self.node.device} of "
            f"{self.node.node_type}, {self.node.market}: {self.node.price_source}; "
            "devices that no worker has come on top"
        )
        lines.append(f"waste and idle time: × {self.overhead.factor:.2f}, {self.overhead.source}")
        return "\n".join(lines)


def estimate(
    work: Sequence[Work], speeds: Mapping[str, Speed], overhead: Overhead, node: Node, workers: int
) -> Estimate:
    """What this work will take on so many workers with one device each.

    Args:
        work: one entry a model.
        speeds: by model; see `known_speeds`.
        overhead: see `known_overhead`.
        node: the machines, with their price.
        workers: render processes, at least 1; those without a track to render do not count.
    """
    models = []
    for each in work:
        speed = speeds.get(each.model)
        if speed is None:
            models.append(ModelEstimate(each, None, None, None))
            continue
        seconds = speed.device_seconds.times(each.audio_s * overhead.factor)
        models.append(ModelEstimate(each, speed, seconds, _cost(seconds, node)))
    total = _sum([each.device_seconds for each in models])
    at_once = max(1, min(workers, sum(each.tracks for each in work)))
    return Estimate(
        models=tuple(models),
        node=node,
        workers=workers,
        overhead=overhead,
        device_seconds=total,
        wall_s=total.times(1 / at_once) if total else None,
        usd=_cost(total, node) if total else None,
    )


def _cost(device_seconds: Span, node: Node) -> Span:
    return device_seconds.times(cost_usd(1.0, node.price_usd_per_device_hour))


def _sum(spans: Sequence[Span | None]) -> Span | None:
    known = [span for span in spans if span is not None]
    if len(known) < len(spans):
        return None
    return Span(*(math.fsum(getattr(span, name) for span in known) for name in ("low", "middle", "high")))


def _duration(seconds: float) -> str:
    """A length in the unit that fits: "45 s", "12.3 min", "4.5 h"."""
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.3g} s"


# What is known


def known_speeds(
    ledger_url: str, storage_options: Mapping[str, Any], models: Collection[str], node_type: str
) -> dict[str, Speed]:
    """The speed of each of these models on this node type, where it is known: from the ledger, else `speeds.yaml`."""
    measured = ledger_speeds(ledger_url, storage_options, models, node_type)
    shipped = SpeedTable.load().speeds(node_type)
    return {name: speed for name, speed in {**shipped, **measured}.items() if name in models}


def ledger_speeds(
    ledger_url: str, storage_options: Mapping[str, Any], models: Collection[str], node_type: str
) -> dict[str, Speed]:
    """The speed of models as the newest tracks of a ledger have it; models with few tracks there are left out.

    Reads two columns of at most `FILES_READ` files for each model. No ledger is a ledger that knows nothing.

    Raises:
        StoreUnavailable: the bucket does not answer.
    """
    try:
        snapshot = read_snapshot(ledger_url, storage_options)
    except NotFound:
        return {}
    speeds = {}
    for model in models:
        paces = _newest_paces(ledger_url, storage_options, snapshot, model, node_type)
        if len(paces) >= ENOUGH_TRACKS:
            low, middle, high = pc.quantile(paces, q=[0.1, 0.5, 0.9]).to_pylist()
            speeds[model] = Speed(Span(low, middle, high), f"{len(paces):,} tracks of this ledger on {node_type}")
    return speeds


def _newest_paces(
    url: str, storage_options: Mapping[str, Any], snapshot: Snapshot, model: str, node_type: str
) -> pa.ChunkedArray:
    """Device-seconds a second of audio, of rendered tracks."""
    of_model = [file for file in snapshot.tables["tracks"] if file.model == model]
    newest_first = sorted(of_model, key=lambda file: (file.day, file.path), reverse=True)
    rendered = ~ds.field("cache_hit") & (ds.field("node_type") == node_type) & (ds.field("duration_s") > 0)
    chunks: list[pa.Array] = []
    for file in newest_first[:FILES_READ]:
        one = replace(snapshot, tables={**snapshot.tables, "tracks": (file,)})
        rows = ledger_dataset(url, storage_options, "tracks", one).to_table(
            columns=["device_seconds", "duration_s"], filter=rendered
        )
        chunks += pc.divide(rows["device_seconds"], rows["duration_s"]).chunks
        if sum(map(len, chunks)) >= TRACKS_READ:
            break
    return pa.chunked_array(chunks, pa.float64())


def known_overhead(ledger_url: str, storage_options: Mapping[str, Any]) -> Overhead:
    """What waste and idle time added to the tracks of this ledger's jobs; 1, with a note, where there are none yet.

    Raises:
        StoreUnavailable: the bucket does not answer.
    """
    unknown = Overhead(1.0, "as if there were none: no job in this ledger has been settled yet")
    try:
        snapshot = read_snapshot(ledger_url, storage_options)
    except NotFound:
        return unknown
    sums = [job.totals for job in snapshot.jobs.values() if job.totals.charged_usd > 0]
    if not sums:
        return unknown
    charged = math.fsum(each.charged_usd for each in sums)
    total = charged + math.fsum(each.waste_usd + each.idle_usd for each in sums)
    return Overhead(total / charged, f"as in {'1 job' if len(sums) == 1 else f'{len(sums)} jobs'} of this ledger")


class ShippedSpeed(BaseModel):
    """The speed of a model on a node type, as it was measured."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    low: float = Field(gt=0.0, allow_inf_nan=False, description="10th percentile.")
    middle: float = Field(gt=0.0, allow_inf_nan=False, description="Device-seconds for a second of audio.")
    high: float = Field(gt=0.0, allow_inf_nan=False, description="90th percentile.")
    as_of: date = Field(description="The day on which it was measured.")
    source: str = Field(min_length=1, description="How it was measured.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low <= self.middle <= self.high:
            raise ValueError("low, middle and high are not in this order")
        return self


class SpeedTable(DatedTable):
    """Speeds by model and node type."""

    shipped_as = "speeds.yaml"
    named_by = "speeds"

    models: Annotated[Mapping[str, Mapping[str, ShippedSpeed]], Field(min_length=1)]

    def speeds(self, node_type: str) -> dict[str, Speed]:
        """By model, what is known on this node type."""
        return {
            model: Speed(Span(row.low, row.middle, row.high), f"{row.source} (as of {row.as_of.isoformat()})")
            for model, by_node_type in self.models.items()
            if (row := by_node_type.get(node_type)) is not None
        }
