"""What is left to render: the open requests of a plan by kind, without tracks that the store has from elsewhere.

A track's id is a hash of its request, of the model's revision and of the finishing recipe. The last two are taken from
the newest track that the ledger has of the model, so nothing has to be loaded to ask the store for a track.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from batch_jobs.planning.paces import Kind, Work
from batch_jobs.planning.plan import Plan
from orchestrion.storage.track_store import TrackStore
from orchestrion.tracks.identity import track_id
from orchestrion.tracks.request import TrackRequest
from orchestrion.tracks.spec import TrackSpec

#: Of more requests than this, one of so many is looked at, evenly over all lengths.
LOOKED_AT: Final = 5_000
#: Lookups at the same time: a bucket answers slowly.
LOOKUPS: Final = 32


@dataclass(slots=True)
class OpenWork:
    """What is left to render."""

    work: list[Work] = field(default_factory=list)
    #: Requests of shards that are not done: by model, all of them.
    requests: Counter[str] = field(default_factory=Counter)
    #: Of those, by model, tracks that the store has, or that were withdrawn.
    stored: dict[str, float] = field(default_factory=dict)
    withdrawn: dict[str, float] = field(default_factory=dict)
    #: Requests looked at, where these are not all.
    sample: int | None = None


@dataclass(slots=True)
class _OfModel:
    """Sums over one model: all requests, and those that were looked at."""

    requests: int = 0
    audio_s: float = 0.0
    looked_at: int = 0
    looked_at_s: float = 0.0
    stored: int = 0
    withdrawn: int = 0
    kinds: dict[Kind, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))


def open_work(
    plan: Plan, models: Collection[str], versions: Mapping[str, tuple[str, str]], store: TrackStore
) -> OpenWork:
    """Count what is left to render of these models.

    Args:
        plan: without what is committed.
        models: rows of others cannot be rendered.
        versions: revision and recipe version, of models of which they are known.
        store: where tracks may be already.

    Raises:
        StoreUnavailable: the store did not answer.
    """
    step = max(1, math.ceil(plan.requests / LOOKED_AT))
    sums: dict[str, _OfModel] = defaultdict(_OfModel)
    with ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lookups") as pool:
        look = partial(_look, versions=versions, store=store)
        for request, is_stored, is_withdrawn in pool.map(look, _every(step, plan, models, sums)):
            asked = request.composition
            of_model = sums[asked.model]
            of_model.looked_at += 1
            of_model.looked_at_s += asked.duration_s
            of_model.stored += is_stored
            of_model.withdrawn += is_withdrawn
            if not (is_stored or is_withdrawn):
                kind = Kind.of(asked.model, asked.style, request.delivery.format.value, asked.duration_s)
                of_model.kinds[kind][0] += 1
                of_model.kinds[kind][1] += asked.duration_s
    left = OpenWork(sample=sum(each.looked_at for each in sums.values()) if step > 1 else None)
    for model, each in sorted(sums.items()):
        left.requests[model] = each.requests
        of_tracks = each.requests / each.looked_at if each.looked_at else 0.0
        of_audio = each.audio_s / each.looked_at_s if each.looked_at_s else 0.0
        left.stored[model], left.withdrawn[model] = each.stored * of_tracks, each.withdrawn * of_tracks
        left.work += [Work(kind, n * of_tracks, s * of_audio) for kind, (n, s) in each.kinds.items()]
    return left


def _every(step: int, plan: Plan, models: Collection[str], sums: dict[str, _OfModel]) -> Iterator[TrackRequest]:
    """One request of so many, in the order of the plan; all of them are counted."""
    for shard in plan.open_shards():
        if shard.model not in models:
            continue
        of_model = sums[shard.model]
        for number, row in enumerate(shard.to_render, start=of_model.requests):
            if number % step == 0:
                yield TrackSpec.model_validate_json(row["spec"]).resolve()
        of_model.requests += shard.requests
        of_model.audio_s += shard.audio_s


def _look(
    request: TrackRequest, versions: Mapping[str, tuple[str, str]], store: TrackStore
) -> tuple[TrackRequest, bool, bool]:
    """The request, whether the store has its track, and whether that was withdrawn."""
    known = versions.get(request.composition.model)
    if known is None:
        return request, False, False
    listing = store.listing(track_id(request, *known))
    return request, bool(listing.versions) and not listing.has_tombstone, listing.has_tombstone
