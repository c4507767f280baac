"""A ledger as a small studio would have one: three jobs in nine days, GPUs on spot and one CPU machine, two models.

Prices are those of prices.yaml, speeds are of the order that the models have there; the books add up.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from batch_jobs.ledger.tables import FAILURES_SCHEMA, TRACKS_SCHEMA
from tests.unit.batch_jobs.sample_ledger import any_row, attempt, node, write

#: Each style: its share of the requests, and how much longer than others it takes.
STYLES = {
    "lofi": (24, 1.0), "cinematic": (16, 1.9), "ambient": (14, 0.8), "house": (10, 1.1), "pop": (9, 1.2),
    "jazz": (7, 1.4), "techno": (6, 1.0), "synthwave": (5, 1.1), "classical": (4, 1.7), "drum-and-bass": (3, 1.3),
    "hip-hop": (3, 1.0), "trap": (2, 1.0), "bossa-nova": (2, 1.2), "chiptune": (1, 0.5),
}  # fmt: skip
REQUESTERS = {"studio@example.org": 5, "games@example.org": 3, "radio@example.org": 2, "museum@example.org": 1}
LENGTHS_S = (15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0)
PRICES = {"g5.xlarge": (0.45, 1.006, 1), "g6.xlarge": (0.36, 0.8048, 1), "c7i.4xlarge": (0.714, 0.714, 16)}
#: Device seconds for one second of audio.
SPEEDS = {"musicgen-medium": 0.9, "composer": 0.06}
FIRST = datetime(2026, 11, 12, 6, tzinfo=UTC)
#: job, run, machine, type, market, begins after so many hours, its part of the job's rows.
RUNS = [
    ("night-shop-1", "r1", "i-0a51", "g5.xlarge", "spot", 0, 3),
    ("night-shop-1", "r1", "i-0b72", "g5.xlarge", "spot", 1, 3),
    ("night-shop-1", "r2", "i-0a51", "g5.xlarge", "spot", 30, 2),
    ("games-q4", "r3", "i-0c93", "g6.xlarge", "spot", 54, 4),
    ("games-q4", "r3", "i-0d14", "g6.xlarge", "spot", 55, 3),
    ("games-q4", "r4", "i-0c93", "g6.xlarge", "spot", 100, 4),
    ("museum-loops", "r5", "i-0e35", "c7i.4xlarge", "on-demand", 150, 3),
    ("museum-loops", "r6", "i-0a51", "g5.xlarge", "spot", 176, 2),
    ("museum-loops", "r6", "i-0e35", "c7i.4xlarge", "on-demand", 198, 2),
]
LOST = [("preempted", None), ("stopped", None), ("failed", "check-failed"), ("failed", "out-of-memory"), ("twin", None)]


@dataclass
class MachineRun:
    node: dict
    tracks: list[dict]
    attempts: list[dict]


def chosen(dice, weights):
    return dice.choices(list(weights), list(weights.values()))[0]


def machine_run(dice, run, first_line, rows, tables) -> MachineRun:
    """One machine in one run, with its rows; its hours follow from their work."""
    job, run_id, node_id, node_type, market, begins_h, _ = run
    hourly, on_demand, devices = PRICES[node_type]
    machine = node(job, node_id, node_type, market, hourly, on_demand)
    begins = FIRST + timedelta(hours=begins_h)
    machine |= {"run_id": run_id, "devices": devices, "workers": devices, "up_from": begins}
    device = "cpu-core" if devices > 1 else "gpu"
    model = "composer" if devices > 1 else "musicgen-medium"
    usd_per_s = hourly / devices / 3600
    tracks, attempts, busy_s = [], [], 0.0
    for line in range(first_line, first_line + rows):
        style = chosen(dice, {name: share for name, (share, _) in STYLES.items()})
        duration_s = dice.choice(LENGTHS_S)
        seconds = duration_s * SPEEDS[model] * STYLES[style][1] * dice.lognormvariate(0, 0.22) + 0.4
        at = begins + timedelta(seconds=120 + busy_s / devices)
        place = {"run_id": run_id, "started_at": at, "ended_at": at + timedelta(seconds=seconds), "model": model}
        if dice.random() < 0.045:
            ended, reason = dice.choices(LOST, (10, 3, 5, 1, 1))[0]
            lost_s = seconds * dice.uniform(0.3, 1.0)
            busy_s += lost_s
            lost = {"ended": ended, "reason": reason, "device_seconds": lost_s, "cost_usd": lost_s * usd_per_s}
            attempts.append(attempt(dice, job, line, machine, **place, **lost))
        who = {"job_id": job, "run_id": run_id, "line": line, "settled_at": place["ended_at"]}
        if dice.random() < 0.012:
            reason, stage, message = dice.choice(
                [
                    ("invalid-request", "catalog", "tempo_bpm: 900 is more than 300"),
                    ("check-failed", "check", "true peak 0.4 dBTP is above -1.0 dBTP"),
                ]
            )
            said = {"reason": reason, "stage": stage, "message": message, "style": style, "model": model}
            tables["failures"].append(
                any_row(FAILURES_SCHEMA, **who, **said, requested_by=chosen(dice, REQUESTERS), attempts=1)
            )
            continue
        hit = dice.random() < 0.08
        cost = seconds * usd_per_s
        row = any_row(
            TRACKS_SCHEMA, **who, schema_version=4, title=f"{style.title()} {line}", attempts=0 if hit else 1,
            prompt=f"{style}, {duration_s:g} seconds, for the {job} shelf", prompt_sha256="00", purpose="commercial",
            requested_by=chosen(dice, REQUESTERS), style=style, model=model, pool="batch", node_id=node_id,
            track_id=f"trk_{job}{line}", node_type=node_type, market=market, device=device, format="flac",
            price_usd_per_device_hour=hourly / devices, price_source="prices.yaml", duration_s=duration_s,
            device_seconds=seconds, cost_usd=cost, charged_usd=0.0 if hit else cost, cache_hit=hit, created_at=at,
        )  # fmt: skip
        tracks.append(row)
        if not hit:
            busy_s += seconds
            made = {"ended": "track", "track_id": row["track_id"], "device_seconds": seconds, "cost_usd": cost}
            attempts.append(attempt(dice, job, line, machine, **place, **made))
    idle, nobody_s = dice.uniform(0.06, 0.18), 150.0 * devices + busy_s * (0.25 if devices > 1 else 0.02)
    reserved_s = busy_s * (1 + idle)
    machine["up_to"] = begins + timedelta(seconds=(reserved_s + nobody_s) / devices)
    machine["cost_usd"] = (reserved_s + nobody_s) * usd_per_s
    machine["unallocated_usd"] = nobody_s * usd_per_s
    machine["reserved_device_seconds"] = reserved_s
    return MachineRun(machine, tracks, attempts)


def realistic_tables(rows_per_part=130, seed=11) -> dict[str, list[dict]]:
    dice = random.Random(seed)
    tables = {"tracks": [], "failures": [], "attempts": [], "nodes": []}
    jobs = {}
    for run in RUNS:
        job, rows = run[0], run[-1] * rows_per_part
        parts = jobs.setdefault(job, [])
        done = sum(len(part.tracks) for part in parts)
        parts.append(machine_run(dice, run, done + 1, rows, tables))
    for parts in jobs.values():
        tracks = [row for part in parts for row in part.tracks]
        charged = sum(row["charged_usd"] for row in tracks)
        wasted = sum(row["cost_usd"] for part in parts for row in part.attempts if row["ended"] != "track")
        reserved = sum(part.node["cost_usd"] - part.node["unallocated_usd"] for part in parts)
        for row in tracks:
            share = row["charged_usd"] / charged
            row |= {"waste_usd": wasted * share, "idle_usd": (reserved - charged - wasted) * share}
            row["total_usd"] = row["charged_usd"] + row["waste_usd"] + row["idle_usd"]
        tables["tracks"] += tracks
        tables["attempts"] += [row for part in parts for row in part.attempts]
        tables["nodes"] += [part.node for part in parts]
    return tables


def realistic_ledger(root) -> str:
    write(root, realistic_tables(), rows_per_file=2000)
    return str(root)
