"""The tables of the ledger: `tracks`, `failures`, `attempts` and `nodes`, column by column.

A catalog row ends as one row of `tracks` or one of `failures`; each attempt at it is a row of `attempts`. Money is in
USD. A track has four sums: `charged_usd` is what its own render held of a device; `waste_usd` and `idle_usd` are its
share of what gave no track; `total_usd` is all three, and only that adds up to the bill.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from batch_jobs.ledger.record_rows import RECORD_SCHEMA
from orchestrion.errors import CODES

#: Grows by one when a table gains a column. Columns are only ever added, and may be null: what an older release wrote
#: reads as null in them, so every file of every release is read by the newest schema.
LEDGER_SCHEMA_VERSION: Final = 6

#: How an attempt ended.
TRACK: Final = "track"
FAILED: Final = "failed"
#: Its process or node vanished.
PREEMPTED: Final = "preempted"
#: Its node was drained; what it had made was kept, and another attempt goes on from there.
KEPT: Final = "kept"
#: The same on a drained node, or in a run that was stopped, where nothing could be kept.
STOPPED: Final = "stopped"
#: Another attempt at the same row was faster.
TWIN: Final = "twin"
ENDINGS: Final = (TRACK, FAILED, PREEMPTED, KEPT, STOPPED, TWIN)


def _field(name: str, kind: pa.DataType, description: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable, {"description": description})


_MOMENT: Final = pa.timestamp("us", tz="UTC")


def day_field(of: str) -> pa.Field:
    """The column `day`, which each file has besides the columns of its rows."""
    return _field("day", pa.date32(), f"UTC day of `{of}`.")


_ROW_FIELDS: Final = (
    _field("job_id", pa.string(), "The job that this row is from."),
    _field(
        "run_id",
        pa.string(),
        "The run of the command that came to this outcome, at `settled_at`: not always the one that made the track, "
        "nor the one whose settlement published the row. Null in rows of older releases.",
        nullable=True,
    ),
    _field("line", pa.int64(), "Line of the catalog, from 1 (in Parquet, Arrow and `.json`: row)."),
    _field("row_id", pa.string(), "The catalog's own id of the row, as given.", nullable=True),
    _field("title", pa.string(), "The catalog's own title of the row, as given.", nullable=True),
    _field(
        "kept",
        pa.map_(pa.string(), pa.string()),
        "Columns of the catalog's own that `--keep-columns` names, by their names; null where none has a value, and in "
        "rows of older releases.",
        nullable=True,
    ),
    _field("settled_at", _MOMENT, "When this job knew the row's outcome."),
    _field("attempts", pa.int64(), "Attempts that this job made; 0 for a row that could not be read."),
)
TRACKS_SCHEMA: Final = pa.schema(
    [
        *_ROW_FIELDS,
        _field(
            "requested_by",
            pa.string(),
            "Requester of this row (`requester` is the same, or null where the track was made for another).",
        ),
        _field("cache_hit", pa.bool_(), "The track was there already, or another row of this job rendered it."),
        _field("charged_usd", pa.float64(), "Its own render: `cost_usd` if this job rendered the track, else 0."),
        _field("waste_usd", pa.float64(), "Its share of the attempts that gave no track.", nullable=True),
        _field("idle_usd", pa.float64(), "Its share of the time that workers were not rendering.", nullable=True),
        _field("total_usd", pa.float64(), "charged_usd + waste_usd + idle_usd.", nullable=True),
        _field(
            "withdrawn_at",
            _MOMENT,
            "When the track was withdrawn, as its tombstone says; null: it stands, or was not looked for since.",
            nullable=True,
        ),
        _field("withdrawn_reason", pa.string(), "Why, as its tombstone says.", nullable=True),
        *RECORD_SCHEMA,
    ]
)
FAILURES_SCHEMA: Final = pa.schema(
    [
        *_ROW_FIELDS,
        _field("requested_by", pa.string(), "Requester of this row; null if it could not be read.", nullable=True),
        _field("model", pa.string(), "Model asked for; null if the row could not be read.", nullable=True),
        _field("style", pa.string(), "Style asked for or read from the prompt.", nullable=True),
        _field("track_id", pa.string(), "The id that the track would have had, where it was known.", nullable=True),
        _field("reason", pa.string(), "One of " + ", ".join(CODES) + "."),
        _field(
            "stage", pa.string(), "Where it failed: catalog, request, generate, finish, check, encode, store, worker."
        ),
        _field("message", pa.string(), "What is wrong and how to mend it."),
        _field("transient", pa.bool_(), "The same row may succeed when it is tried again."),
        pa.field("findings", RECORD_SCHEMA.field("findings").type, nullable=False),
    ]
)
ATTEMPTS_SCHEMA: Final = pa.schema(
    [
        _field("attempt_id", pa.string(), "Names this attempt: worker and number."),
        _field("job_id", pa.string(), "The job that it was for."),
        _field("run_id", pa.string(), "The run of the command that it was made in."),
        _field("shard", pa.string(), "The shard that its row is in."),
        _field("line", pa.int64(), "Line of the catalog."),
        _field("track_id", pa.string(), "The track that it was to make, where that was known.", nullable=True),
        _field("model", pa.string(), "Model asked for."),
        _field("worker_id", pa.string(), "The process that made it."),
        _field("node_id", pa.string(), "The machine, as its scheduler calls it."),
        _field("node_type", pa.string(), "Kind of machine: a row of the price table."),
        _field("market", pa.string(), "How the machine was bought: on-demand or spot."),
        _field("started_at", _MOMENT, "When the attempt began."),
        _field("ended_at", _MOMENT, "When it ended, or was last seen alive."),
        _field("device_seconds", pa.float64(), "Seconds that it held a device."),
        _field("cost_usd", pa.float64(), "device_seconds at the price of the machine."),
        _field("ended", pa.string(), "How it ended: " + ", ".join(ENDINGS) + "."),
        _field("reason", pa.string(), "Of a failed attempt, the failure's code.", nullable=True),
    ]
)
NODES_SCHEMA: Final = pa.schema(
    [
        _field("job_id", pa.string(), "The job that the machine worked for."),
        _field("run_id", pa.string(), "The run of the command."),
        _field(
            "node_id",
            pa.string(),
            "The machine, as its scheduler calls it: a command that starts Ray itself has a new name each time.",
        ),
        _field(
            "machine_id",
            pa.string(),
            "The machine, under one name in all runs and jobs. Null in rows of older releases.",
            nullable=True,
        ),
        _field("node_type", pa.string(), "Kind of machine: a row of the price table."),
        _field("market", pa.string(), "How the machine was bought: on-demand or spot."),
        _field("device", pa.string(), "What is paid for by the second: cpu-core or gpu."),
        _field("devices", pa.int64(), "Devices of the machine; they share its price."),
        _field("usd_per_node_hour", pa.float64(), "Price of the whole machine for an hour."),
        _field("on_demand_usd_per_node_hour", pa.float64(), "The same on demand; null if not in the table.", True),
        _field("price_source", pa.string(), "Where the price comes from and as of when."),
        _field(
            "up_from",
            _MOMENT,
            "When its first process of this run was created, or these hours of it begin: they end at midnight, and "
            "where those of another run begin or end.",
        ),
        _field("up_to", _MOMENT, "When the last of them was last seen, or these hours end."),
        _field("workers", pa.int64(), "Render processes that ran on it in this run; in the first of its rows."),
        _field("reserved_device_seconds", pa.float64(), "Seconds of devices that workers had to themselves."),
        _field("cost_usd", pa.float64(), "These hours, times its price; 0 where another row has paid for them."),
        _field(
            "unallocated_usd",
            pa.float64(),
            "The part of it that no track of this job is charged for. Less than 0 where the row that has paid for "
            "these hours called devices nobody's that were this run's.",
        ),
    ]
)
#: What a shard's commit holds: the rows of three tables.
SHARD_KINDS: Final = {"track": TRACKS_SCHEMA, "failure": FAILURES_SCHEMA, "attempt": ATTEMPTS_SCHEMA}
#: Exactly one of the three columns of each row is not null.
SHARD_SCHEMA: Final = pa.schema(
    [(kind, pa.struct([field.with_nullable(True) for field in schema])) for kind, schema in SHARD_KINDS.items()]
)
