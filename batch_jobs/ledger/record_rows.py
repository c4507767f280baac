"""A record as a row: the Arrow schema of Parquet tables, and the way there and back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from orchestrion.finding import Finding
from orchestrion.tracks.attestation import Attestation
from orchestrion.tracks.record import (
    RECORD_FIELDS,
    RecordField,
    TrackRecord,
    fields_of_version,
    from_json_values,
    json_values,
    utc_timestamp,
)
from orchestrion.tracks.section import Section

_ARROW_TYPES: Final[dict[object, pa.DataType]] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    Mapping[str, str]: pa.map_(pa.string(), pa.string()),
    tuple[str, ...]: pa.list_(pa.string()),
    tuple[Section, ...]: pa.list_(
        pa.struct(
            [
                pa.field("name", pa.string(), nullable=False),
                pa.field("duration_s", pa.float64()),
                pa.field("bars", pa.int64()),
            ]
        )
    ),
    tuple[Finding, ...]: pa.list_(
        pa.struct(
            [
                pa.field("name", pa.string(), nullable=False),
                pa.field("measured", pa.float64(), nullable=False),
                pa.field("lowest", pa.float64()),
                pa.field("highest", pa.float64(), nullable=False),
                pa.field("unit", pa.string(), nullable=False),
                pa.field("passed", pa.bool_(), nullable=False),
            ]
        )
    ),
    tuple[Attestation, ...]: pa.list_(
        pa.struct(
            [
                pa.field("stage", pa.string(), nullable=False),
                pa.field("verdict", pa.string(), nullable=False),
                pa.field("figure", pa.float64()),
                pa.field("limit", pa.float64()),
                pa.field("reference", pa.string(), nullable=False),
            ]
        )
    ),
}


def arrow_type(field: RecordField) -> pa.DataType:
    """The type of a field's column in Parquet."""
    return pa.timestamp("us", tz="UTC") if field.name == "created_at" else _ARROW_TYPES[field.type]


#: One row per track. The metadata key "description" of each field says what it is.
RECORD_SCHEMA: Final = pa.schema(
    [
        pa.field(field.name, arrow_type(field), field.nullable, {"description": field.description})
        for field in RECORD_FIELDS
    ]
)


def to_row(record: TrackRecord) -> dict[str, Any]:
    """The record as a row that `pa.Table.from_pylist(rows, schema=RECORD_SCHEMA)` takes."""
    return json_values(record) | {
        "created_at": datetime.fromisoformat(record.created_at),
        "choices": list(record.choices.items()),
    }


def from_row(row: Mapping[str, Any]) -> TrackRecord:
    """The record of a row that `Table.to_pylist()` gave; `from_row(to_row(record)) == record`, also through Parquet.

    Rows of older versions may lack the columns that came later.
    """
    values = {field.name: row[field.name] for field in fields_of_version(row["schema_version"])}
    values["created_at"] = utc_timestamp(row["created_at"])
    values["choices"] = dict(row["choices"])
    return from_json_values(values)
