"""A ledger of three jobs with random figures that add up, and its rows, to be summed in another way.

job-0 is of an older release (no shares, no attempts, no nodes); job-1 and job-2 are settled.
"""

import hashlib
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.snapshot import TABLES, Change
from batch_jobs.ledger.tables import ATTEMPTS_SCHEMA, FAILURES_SCHEMA, NODES_SCHEMA, TRACKS_SCHEMA
from orchestrion.storage.object_store import Objects

HOSTILE = '<script>alert("1")</script> & <img src=http://example.com/x onerror=alert(2)> piano'
START = datetime(2026, 1, 1, tzinfo=UTC)
#: A theme and a continuation.
REFERENCES = ("sha256:" + "aa" * 32, "sha256:" + "bb" * 32)
#: Of the catalog's own columns.
KEPT = ([("label", "Blue"), ("isrc", "DE-1")], [("label", "=Red")], [("isrc", "DE-2")], None)
PROMPTS = [HOSTILE, "slow sad piano", "[bold]funky disco[/x]", "ein Lied für Ægir"]


@dataclass(frozen=True)
class SampleLedger:
    url: str
    tracks: list[dict]
    failures: list[dict]
    attempts: list[dict]
    nodes: list[dict]

    @property
    def rendered(self):
        return [row for row in self.tracks if not row["cache_hit"]]


def any_row(schema, **values):
    """A row of this schema that says nothing but `values`."""
    nothing = {pa.string(): "", pa.int64(): 0, pa.float64(): 0.0, pa.bool_(): False}
    row = {
        field.name: None if field.nullable else [] if pa.types.is_nested(field.type) else nothing.get(field.type, START)
        for field in schema
    }
    return row | values


def node(job, node_id, node_type, market, hourly, on_demand):
    return any_row(
        NODES_SCHEMA, job_id=job, run_id=f"run-{job}", node_id=node_id, node_type=node_type, market=market,
        device="gpu", devices=1, workers=1, usd_per_node_hour=hourly, on_demand_usd_per_node_hour=on_demand,
        price_source="a test", up_from=START, up_to=START + timedelta(hours=1),
    )  # fmt: skip


#: What a ledger says of tracks that were withdrawn.
WITHDRAWN = ("withdrawn_at", "withdrawn_reason")


def track(dice, job, line, machine, earlier):
    prompt = dice.choice(PROMPTS)
    cost = 10.0 ** dice.uniform(-7, 1)
    row = any_row(
        TRACKS_SCHEMA, schema_version=2, job_id=job, run_id=None if job == "job-0" else f"run-{job}", line=line,
        title=f"Take {line}", attempts=1, prompt=prompt, kept=KEPT[line % len(KEPT)] if job == "job-2" else None,
        settled_at=START + timedelta(days=dice.randrange(3), seconds=line), created_at=START,
        prompt_sha256=hashlib.sha256(prompt.encode()).hexdigest(), track_id=f"trk_{job}{line}",
        requester=dice.choice(["a", "b"]), requested_by=dice.choice(["a", "b", "<i>c</i>", "[/red]\x1b[2J"]),
        purpose="commercial",
        style=dice.choice(["jazz", "rock", None]), model=dice.choice(["composer", "lab/large"]),
        model_revision=dice.choice(["r1", "r2"]), theme=dice.choice([None, REFERENCES[0]]),
        continuation=dice.choice([None, REFERENCES[1]]), pool=dice.choice(["batch", "low-latency"]),
        node_id=machine["node_id"], node_type=machine["node_type"], market=machine["market"], device="gpu",
        price_usd_per_device_hour=machine["usd_per_node_hour"], price_source="a test", format="flac",
        duration_s=dice.uniform(1, 600), device_seconds=dice.uniform(0.1, 9), generate_s=dice.uniform(0.1, 5),
        finish_s=dice.uniform(0.1, 2), cost_usd=cost, charged_usd=cost, cache_hit=False,
    )  # fmt: skip
    if line % 7 == 0:
        row |= {"withdrawn_at": START + timedelta(days=9), "withdrawn_reason": f"claim {line % 2}"}
    if earlier and dice.random() < 0.3:
        first = dice.choice(earlier)
        same = ("track_id", "model", "model_revision", "prompt", "prompt_sha256", "theme", "continuation", "requester")
        row |= {name: first[name] for name in same} | {"cache_hit": True, "charged_usd": 0.0}
    return row


def attempt(dice, job, line, machine, **values):
    return any_row(
        ATTEMPTS_SCHEMA, attempt_id=f"{job}/{line}/{dice.random()}", job_id=job, run_id=f"run-{job}", line=line,
        node_id=machine["node_id"], node_type=machine["node_type"], market=machine["market"], model="composer",
        started_at=START, ended_at=START,
    ) | values  # fmt: skip


def share_out(dice, rows, tries, machines):
    """Give machines a bill, and each rendered track its part of what gave no track."""
    charged, wasted = sum(row["charged_usd"] for row in rows), sum(row["cost_usd"] for row in tries)
    for machine in machines:
        machine["cost_usd"] = (charged + wasted) * dice.uniform(0.6, 0.9)
        machine["unallocated_usd"] = machine["cost_usd"] * dice.uniform(0.0, 0.02)
    idle = sum(machine["cost_usd"] - machine["unallocated_usd"] for machine in machines) - charged - wasted
    for row in rows:
        part = row["charged_usd"] / charged
        row |= {"waste_usd": wasted * part, "idle_usd": idle * part}
        row["total_usd"] = row["charged_usd"] + row["waste_usd"] + row["idle_usd"]


class StillClock:
    def now(self):
        return START


def write(root, tables: dict[str, list[dict]], storage_options=None, rows_per_file=200) -> None:
    """One commit of these rows, in several files."""
    ledger = Ledger(Objects(str(root), storage_options), StillClock())
    added = {}
    for name, rows in tables.items():
        parts = [rows[start : start + rows_per_file] for start in range(0, len(rows), rows_per_file)]
        schema = TABLES[name].schema
        added[name] = [file for part in parts for file in ledger.write(name, pa.Table.from_pylist(part, schema=schema))]
    ledger.commit(lambda _: Change(added=added))


def sample_ledger(root, storage_options=None, rows_per_job=120, withdrawn=True) -> SampleLedger:
    dice = random.Random(7)
    machines = {
        "job-0": [node("job-0", "old", "local-cpu", "on-demand", 0.16, 0.16)],
        "job-1": [
            node("job-1", "n1", "local-cpu", "on-demand", 0.16, 0.16),
            node("job-1", "n2", "g5.xlarge", "spot", 0.45, 1.006),
        ],
        "job-2": [
            node("job-2", "n2", "g5.xlarge", "spot", 0.40, 1.006),
            node("job-2", "n3", "<b>lab</b>", "spot", 0.2, None),
        ],
    }
    tables = {"tracks": [], "failures": [], "attempts": [], "nodes": []}
    for job in machines:
        rows, tries, wasted = [], [], []
        for line in range(1, rows_per_job + 1):
            machine = dice.choice(machines[job])
            if dice.random() < 0.1:
                tables["failures"].append(
                    any_row(
                        FAILURES_SCHEMA, job_id=job, line=line, reason=dice.choice(["invalid-request", "check-failed"]),
                        stage="catalog", message="bad <b>row</b>", settled_at=START + timedelta(days=dice.randrange(3)),
                    )
                )  # fmt: skip
                continue
            row = track(dice, job, line, machine, [row for row in rows if not row["cache_hit"]])
            rows.append(row)
            if not row["cache_hit"]:
                same = {"device_seconds": row["device_seconds"], "cost_usd": row["charged_usd"]}
                tries.append(attempt(dice, job, line, machine, ended="track", track_id=row["track_id"], **same))
            if dice.random() < 0.2:
                ended = dice.choice(["failed", "preempted", "kept", "stopped", "twin"])
                reason = dice.choice(["check-failed", "model-failed"]) if ended == "failed" else None
                seconds, cost = dice.uniform(0.1, 9), 10.0 ** dice.uniform(-6, -1)
                wasted.append(
                    attempt(
                        dice, job, line, machine, ended=ended, reason=reason, device_seconds=seconds, cost_usd=cost
                    )
                )  # fmt: skip
        tables["tracks"] += rows
        if job != "job-0":
            share_out(dice, rows, wasted, machines[job])
            tables["attempts"] += tries + wasted
            tables["nodes"] += machines[job]
    if not withdrawn:
        tables["tracks"] = [row | dict.fromkeys(WITHDRAWN) for row in tables["tracks"]]
    write(root, tables, storage_options)
    return SampleLedger(str(root), **tables)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return sample_ledger(tmp_path_factory.mktemp("sample") / "ledger")
