"""Records as earlier releases wrote them."""

from dataclasses import replace

from orchestrion.tracks.record import RECORD_FIELDS, TrackRecord


def as_of_version(record: TrackRecord, version: int) -> TrackRecord:
    """The same record, without the fields that came after this version of it."""
    later = [field.name for field in RECORD_FIELDS if field.since > version]
    return replace(record, **dict.fromkeys(later), schema_version=version)
