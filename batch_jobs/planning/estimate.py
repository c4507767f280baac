"""What a catalog will take before it is rendered: what its tracks will carry, the bill, and time on the clock.

What the tracks of a model take is known by `paces`, what a run takes besides by `run_costs`. A model whose speed is not
known is named with its tracks, and every sum then says that it is without them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batch_jobs.formatting import usd
from batch_jobs.planning.paces import Paces, Work
from batch_jobs.planning.run_costs import RunCosts
from batch_jobs.planning.spans import NOTHING, Span
from batch_jobs.settlement.prices import PricedNode

#: Rows that are enough to measure a model: some of them will have other lengths or fail.
TO_MEASURE = 40


@dataclass(frozen=True, slots=True)
class Workers:
    """How many render processes a run has, and on how many machines."""

    count: int
    machines: int
    #: What each has of a machine to itself.
    devices: float

    def describe(self, node_type: str) -> str:
        """In words: "2 workers on 1 local-cpu"."""
        workers = "1 worker" if self.count == 1 else f"{self.count:,} workers"
        return f"{workers} on {self.machines:,} {node_type}"


@dataclass(frozen=True, slots=True)
class ModelEstimate:
    """What the tracks of one model will take; None where its speed is not known."""

    model: str
    tracks: float
    audio_s: float
    device_seconds: Span | None
    source: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job will take, without the models whose speed is not known."""

    models: tuple[ModelEstimate, ...]
    node: PricedNode
    workers: Workers
    run: RunCosts
    #: Of renders that give tracks.
    device_seconds: Span
    #: What that costs; what tracks carry: the same with waste and idle time; and what the machines cost.
    render_usd: Span
    carried_usd: Span
    bill_usd: Span
    wall_s: Span

    @property
    def unknown(self) -> tuple[ModelEstimate, ...]:
        """The models whose speed is not known."""
        return tuple(each for each in self.models if each.device_seconds is None)

    def describe(self) -> str:
        """The lines that a person reads."""
        lines = [self._of_model(each) for each in self.models]
        if len(self.unknown) < len(self.models) or not self.models:
            without = f"without {_named(self.unknown)}: " if self.unknown else ""
            started = self.run.start_s.plus(self.run.end_s).middle if self.wall_s.middle else 0.0
            lines += [
                f"{without}tracks carry {self.carried_usd.describe(usd)}: "
                f"{usd(self.render_usd.middle)} for their renders, the rest for waste and idle time",
                f"{without}the bill is {self.bill_usd.describe(usd)}: "
                f"{self.workers.describe(self.node.node_type)} at {usd(self.node.usd_per_node_hour)} an hour each, "
                f"{self.node.market}: {self.node.price_source}; "
                f"of it {usd(self.bill_usd.middle - self.carried_usd.middle)} is carried by no track",
                f"{without}it takes {self.wall_s.describe(duration)}, of which {duration(started)} to start and to end",
                f"start, end, waste and idle time: {self.run.source}; in brackets: where eight of ten runs end",
            ]
        if self.unknown:
            lines.append(
                f"NOT THE TOTAL: {_named(self.unknown)} was never measured on {self.node.node_type} and comes on top; "
                f"render a few of its rows first (--limit {TO_MEASURE}), then ask again"
            )
        return "\n".join(lines)

    def _of_model(self, each: ModelEstimate) -> str:
        what = f"{each.model}: {tracks(each.tracks)}, {duration(each.audio_s)} of audio"
        if each.device_seconds is None:
            return f"{what}; its speed is not known"
        cost = each.device_seconds.times(self.node.usd_per_device_second)
        device = "cores" if self.node.device == "cpu-core" else "GPUs"
        return f"{what}: {each.device_seconds.describe(duration)} of {device}, {cost.describe(usd)}\n  {each.source}"


def estimate(
    work: Sequence[Work], paces: Mapping[str, Paces], run: RunCosts, node: PricedNode, workers: Workers
) -> Estimate:
    """What this work will take.

    Args:
        work: tracks to render, by kind.
        paces: by model, where they are known.
        run: what the run takes besides.
        node: the machines, with their price.
        workers: how many there will be; those without a track to render do not count.
    """
    of_models = []
    for model in sorted({each.kind.model for each in work}):
        of_model = [each for each in work if each.kind.model == model]
        known = paces.get(model)
        of_models.append(
            ModelEstimate(
                model,
                math.fsum(each.tracks for each in of_model),
                math.fsum(each.audio_s for each in of_model),
                known.device_seconds(of_model) if known else None,
                known.describe(of_model) if known else "",
            )
        )
    rendered = NOTHING.plus(*(each.device_seconds for each in of_models if each.device_seconds is not None))
    count = math.fsum(each.tracks for each in of_models if each.device_seconds is not None)
    at_work = max(1, min(workers.count, math.ceil(count)))
    wall_s = carried_s = NOTHING
    if rendered.middle > 0:
        rendering_s = rendered.times(run.attempts / at_work).times_span(run.held)
        wall_s = run.start_s.plus(run.end_s, rendering_s)
        with_worker_s = Span(*(max(0.0, s - run.without_worker_s) for s in (wall_s.low, wall_s.middle, wall_s.high)))
        carried_s = with_worker_s.times(at_work * workers.devices)
    machines = min(workers.machines, at_work)
    bill_usd = wall_s.times(machines * node.usd_per_node_hour / 3600.0)
    return Estimate(
        models=tuple(of_models),
        node=node,
        workers=Workers(at_work, machines, workers.devices),
        run=run,
        device_seconds=rendered,
        render_usd=rendered.times(node.usd_per_device_second),
        carried_usd=_at_most(carried_s.times(node.usd_per_device_second), bill_usd),
        bill_usd=bill_usd,
        wall_s=wall_s,
    )


def _at_most(span: Span, other: Span) -> Span:
    return Span(min(span.low, other.low), min(span.middle, other.middle), min(span.high, other.high))


def _named(models: Sequence[ModelEstimate]) -> str:
    return " and ".join(f"{tracks(each.tracks)} of {each.model}" for each in models)


def tracks(count: float) -> str:
    """A number of tracks in words."""
    return "1 track" if round(count) == 1 else f"{count:,.0f} tracks"


def duration(seconds: float) -> str:
    """A length in the unit that fits: "45 s", "12.3 min", "4.5 h"."""
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.3g} s"
