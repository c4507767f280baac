"""The record of a track that was just made: what was asked, what made it, where, and what it cost."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import Final

from orchestrion.accounting.cost import Node, cost_usd
from orchestrion.audio.mastering import RECIPE_VERSION
from orchestrion.audio.quality import LOUDNESS, TRUE_PEAK
from orchestrion.rendering.pipeline import Work
from orchestrion.rendering.suitability import told_intent
from orchestrion.tracks.record import SCHEMA_VERSION, TrackRecord, caller_sha256, utc_timestamp
from orchestrion.version import __version__

#: Fields of a composition that a record holds as they are, not as JSON has them.
_LISTS: Final = ("exclude", "instruments", "sections")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a track was made and where it lies: the machine, the pool, and keys of the store."""

    node: Node
    pool: str
    audio_key: str
    midi_key: str | None


def record_of(work: Work, device_seconds: float, place: Place) -> TrackRecord:
    """All of the record but its version, which is known when it is published; `work` has been through every stage."""
    node, seconds, request, info = place.node, work.watch.seconds, work.request, work.info
    measured = {finding.name: finding.measured for finding in work.findings}
    salt = secrets.token_hex(16)
    return TrackRecord(
        schema_version=SCHEMA_VERSION,
        track_id=work.track_id,
        version=1,
        piece_id=work.piece_id,
        created_at=utc_timestamp(work.watch.clock.now()),
        **request.values() | {name: getattr(request.composition, name) for name in _LISTS},
        caller_salt=salt,
        caller_sha256=caller_sha256(request.requester, request.purpose.value, salt),
        prompt_sha256=hashlib.sha256(request.composition.prompt.encode()).hexdigest(),
        model_revision=info.revision,
        weights_licence=info.weights_licence,
        commercial_use=info.commercial_use,
        recipe_version=RECIPE_VERSION,
        code_version=__version__,
        intent=json.dumps(told_intent(request, info).values(), ensure_ascii=False, separators=(",", ":")),
        choices={name: str(choice) for name, choice in work.choices.items()},
        node_id=node.node_id,
        node_type=node.node_type,
        device=node.device,
        market=node.market,
        pool=place.pool,
        batch_size=1,
        piece_reused=work.piece_reused,
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
        audio_sha256=hashlib.sha256(work.data).hexdigest(),
        audio_bytes=len(work.data),
        midi_key=place.midi_key,
        midi_sha256=hashlib.sha256(work.midi).hexdigest() if work.midi else None,
        measured_loudness_lufs=measured[LOUDNESS],
        measured_true_peak_dbtp=measured[TRUE_PEAK],
        findings=tuple(work.findings),
        attestations=tuple(work.attestations),
    )
