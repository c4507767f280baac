"""The record of a track that was just made: what was asked, what made it, where, and what it cost."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from orchestrion.accounting.cost import Node, cost_usd
from orchestrion.audio.mastering import RECIPE_VERSION
from orchestrion.audio.quality import LOUDNESS, TRUE_PEAK
from orchestrion.models.protocol import ModelInfo
from orchestrion.rendering.master import Master
from orchestrion.rendering.stopwatch import Stopwatch
from orchestrion.tracks.record import SCHEMA_VERSION, TrackRecord, utc_timestamp
from orchestrion.tracks.request import TrackRequest
from orchestrion.version import __version__


@dataclass(frozen=True, slots=True)
class Place:
    """Where a track was made and where it lies: the machine, the pool, and keys of the store."""

    node: Node
    pool: str
    audio_key: str
    midi_key: str | None


def record_of(
    request: TrackRequest,
    track_id: str,
    info: ModelInfo,
    master: Master,
    watch: Stopwatch,
    device_seconds: float,
    place: Place,
) -> TrackRecord:
    """All of the record but its version, which is known when it is published; `watch` has seen every stage."""
    node, seconds = place.node, watch.seconds
    measured = {finding.name: finding.measured for finding in master.findings}
    return TrackRecord(
        schema_version=SCHEMA_VERSION,
        track_id=track_id,
        version=1,
        created_at=utc_timestamp(watch.clock.now()),
        **request.values(),
        prompt_sha256=hashlib.sha256(request.composition.prompt.encode()).hexdigest(),
        model_revision=info.revision,
        weights_licence=info.weights_licence,
        commercial_use=info.commercial_use,
        recipe_version=RECIPE_VERSION,
        code_version=__version__,
        choices={name: str(choice) for name, choice in master.choices.items()},
        node_id=node.node_id,
        node_type=node.node_type,
        device=node.device,
        market=node.market,
        pool=place.pool,
        batch_size=1,
        generate_s=seconds["generate"],
        finish_s=seconds["finish"],
        check_s=seconds["check"],
        encode_s=seconds["encode"],
        store_s=seconds["store"],
        device_seconds=device_seconds,
        price_usd_per_device_hour=node.price_usd_per_device_hour,
        price_source=node.price_source,
        cost_usd=cost_usd(device_seconds, node.price_usd_per_device_hour),
        audio_key=place.audio_key,
        audio_sha256=hashlib.sha256(master.data).hexdigest(),
        audio_bytes=len(master.data),
        midi_key=place.midi_key,
        midi_sha256=hashlib.sha256(master.midi).hexdigest() if master.midi else None,
        measured_loudness_lufs=measured[LOUDNESS],
        measured_true_peak_dbtp=measured[TRUE_PEAK],
        findings=master.findings,
    )
