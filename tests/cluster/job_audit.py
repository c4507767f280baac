"""Does a catalog job's output add up? Looked at from outside: with pyarrow, the track store and plain Python.

Nothing of `batch_jobs` is used, so a mistake in its writing cannot be repeated in the reading. An audit does not stop
at the first problem: each is one sentence in `problems`, and a sound job has none.
"""

from __future__ import annotations

import io
import json
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from prometheus_client import CollectorRegistry

from orchestrion.errors import VerificationFailed
from orchestrion.rendering.config import RenderConfig
from orchestrion.rendering.renderer import build_renderer
from orchestrion.storage.object_store import Objects
from orchestrion.storage.track_store import TrackStore
from orchestrion.storage.verified_tracks import VerifiedTracks
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.tracks.outcome import Track
from orchestrion.tracks.spec import TrackSpec
from orchestrion.trust.signature import load_trusted_keys
from orchestrion.trust.signed_record import verify
from orchestrion.trust.signing import Signer

TABLES = ("tracks", "failures", "attempts", "nodes")
#: Attempts that gave no track and that no row failed with.
LOST_WORK = ("preempted", "stopped", "twin")
#: What an encoder may add or leave out.
LENGTH_TOLERANCE_S = 0.05


@dataclass(frozen=True, slots=True)
class Job:
    """Where a job's output is, and what it was to do."""

    out_url: str
    store_url: str
    storage_options: Mapping[str, Any]
    public_key: Path
    #: The catalog's rows, in order: the first one is line 1.
    rows: Sequence[Mapping[str, Any]]
    #: Lines that cannot become a track.
    bad_lines: frozenset[int]
    #: When render processes were killed, and on which node.
    deaths: Sequence[tuple[datetime, str]]


@dataclass(slots=True)
class Audit:
    """What was found; `problems` is empty if the job is as it should be."""

    problems: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def expect(self, holds: bool, problem: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self.problems.append(problem)


def audit_job(job: Job, compared: int, seed: int = 0) -> Audit:
    """Look at everything that a complete job left.

    Args:
        job: which one.
        compared: tracks that are rendered once more, by the renderer alone, and compared by hash.
        seed: which ones.
    """
    audit = Audit()
    objects = Objects(job.out_url, job.storage_options)
    manifest = json.loads(objects.read("manifest.json"))
    tables = {name: _table(objects, manifest, name) for name in TABLES}
    rows = {name: table.to_pylist() for name, table in tables.items()}
    _check_rows(job, rows, audit)
    _check_attempts(job, rows, audit)
    _check_money(rows, audit)
    store = TrackStore.open(job.store_url, job.storage_options)
    _check_tracks(job, rows["tracks"], store, audit)
    _check_renderer_alone(job, rows["tracks"], compared, seed, audit)
    _check_leftovers(job, objects, manifest, audit)
    return audit


def _table(objects: Objects, manifest: Mapping[str, Any], name: str) -> pa.Table:
    files = [pq.ParquetFile(io.BytesIO(objects.read(file["path"]))).read() for file in manifest["tables"][name]]
    return pa.concat_tables(files) if files else pa.table({})


def _check_rows(job: Job, rows: Mapping[str, list[dict[str, Any]]], audit: Audit) -> None:
    tracks, failures = rows["tracks"], rows["failures"]
    jobs = {row["job_id"] for table in rows.values() for row in table}
    audit.expect(len(jobs) == 1, f"the ledger has {len(jobs)} jobs: {sorted(jobs)}")
    settled = Counter(row["line"] for row in (*tracks, *failures))
    lost = sorted(set(range(1, len(job.rows) + 1)) - settled.keys())
    twice = sorted(line for line, count in settled.items() if count > 1)
    unknown = sorted(settled.keys() - set(range(1, len(job.rows) + 1)))
    failed = {row["line"] for row in failures}
    audit.expect(not lost, f"{len(lost)} lines have no outcome: {lost[:10]}")
    audit.expect(not twice, f"{len(twice)} lines have several outcomes: {twice[:10]}")
    audit.expect(not unknown, f"lines that the catalog does not have: {unknown[:10]}")
    audit.expect(job.bad_lines <= failed, f"bad lines became tracks: {sorted(job.bad_lines - failed)[:10]}")
    for row in failures:
        if row["line"] not in job.bad_lines:
            audit.problems.append(
                f"line {row['line']} failed for no fault of its own: {row['reason']}, {row['message']}"
            )
    for row in tracks:
        asked = job.rows[row["line"] - 1]
        differs = [name for name, value in asked.items() if name in row and name != "requester" and row[name] != value]
        differs += ["requester"] if asked.get("requester", "anonymous") != row["requested_by"] else []
        audit.expect(not differs, f"line {row['line']}'s track differs from what was asked in {differs}")
    paid = Counter(row["track_id"] for row in tracks if not row["cache_hit"])
    twice_paid = [track_id for track_id, count in paid.items() if count > 1]
    audit.expect(not twice_paid, f"{len(twice_paid)} tracks are charged for twice: {twice_paid[:5]}")
    audit.figures |= {
        "rows": len(job.rows),
        "tracks": len(tracks),
        "distinct_tracks": len({row["track_id"] for row in tracks}),
        "failures": len(failures),
        "cache_hits": sum(row["cache_hit"] for row in tracks),
        "lost": len(lost),
        "duplicates": len(twice),
    }


def _check_attempts(job: Job, rows: Mapping[str, list[dict[str, Any]]], audit: Audit) -> None:
    attempts = rows["attempts"]
    ids = Counter(row["attempt_id"] for row in attempts)
    again = [each for each, count in ids.items() if count > 1]
    audit.expect(not again, f"{len(again)} attempts are in the ledger twice: {again[:5]}")
    lines = {row["line"] for row in (*rows["tracks"], *rows["failures"])}
    strays = {row["line"] for row in attempts} - lines
    audit.expect(not strays, f"attempts at lines without an outcome: {sorted(strays)[:10]}")
    made = Counter(row["track_id"] for row in attempts if row["ended"] == "track")
    twice = [track_id for track_id, count in made.items() if count > 1]
    audit.expect(not twice, f"{len(twice)} tracks have several attempts that count as theirs: {twice[:5]}")
    device_s = math.fsum(row["device_seconds"] for row in attempts)
    failed = {row["line"] for row in rows["failures"]}
    lost = [
        row for row in attempts if row["ended"] in LOST_WORK or (row["ended"] == "failed" and row["line"] not in failed)
    ]
    lost_s = math.fsum(row["device_seconds"] for row in lost)
    unseen_s = math.fsum(_in_hand_s(attempts, moment, node_id) for moment, node_id in job.deaths)
    audit.expect(device_s > 0.0, "no attempt held a device")
    audit.figures |= {
        "attempts": dict(sorted(Counter(row["ended"] for row in attempts).items())),
        "device_seconds": round(device_s, 3),
        "re_rendered_device_seconds": round(lost_s, 3),
        "re_rendered_share": round(lost_s / device_s, 5) if device_s else None,
        "re_rendered_share_at_most": round(max(lost_s, unseen_s) / device_s, 5) if device_s else None,
    }


def _in_hand_s(attempts: Sequence[Mapping[str, Any]], moment: datetime, node_id: str) -> float:
    """The most that a node can have worked for nothing when it died: since the last attempt that it finished.

    An attempt that is shorter than the beat of its worker's journal may die unseen; this bounds it without the journal.
    No attempt in progress was longer than the longest that there is.
    """
    before = [row["ended_at"] for row in attempts if row["node_id"] == node_id and row["ended_at"] <= moment]
    longest_s = max((float(row["device_seconds"]) for row in attempts), default=0.0)
    return min((moment - max(before)).total_seconds(), longest_s) if before else longest_s


def _check_money(rows: Mapping[str, list[dict[str, Any]]], audit: Audit) -> None:
    nodes = rows["nodes"]
    for row in nodes:
        by_hours = _hours(row) * row["usd_per_node_hour"]
        audit.expect(
            row["cost_usd"] == 0.0 or math.isclose(row["cost_usd"], by_hours, rel_tol=1e-6, abs_tol=1e-12),
            f"node {row['node_id']} costs {row['cost_usd']}, but its hours come to {by_hours}",
        )
    for row, other in combinations([row for row in nodes if row["cost_usd"] > 0.0], 2):
        audit.expect(
            row["machine_id"] != other["machine_id"]
            or row["up_to"] <= other["up_from"]
            or other["up_to"] <= row["up_from"],
            f"machine {row['machine_id']} is paid twice for what is both in {row['run_id']} and in {other['run_id']}",
        )
    bill = math.fsum(row["cost_usd"] for row in nodes)
    carried = math.fsum(row["total_usd"] for row in rows["tracks"])
    unallocated = math.fsum(row["unallocated_usd"] for row in nodes)
    difference = carried + unallocated - bill
    audit.expect(bill > 0.0, "no node cost anything")
    audit.expect(
        abs(difference) <= 1e-6 * bill,
        f"tracks carry {carried} USD and {unallocated} are unallocated, but the nodes cost {bill}",
    )
    audit.figures |= {
        "nodes": len({row["node_id"] for row in nodes}),
        "bill_usd": bill,
        "tracks_usd": carried,
        "unallocated_usd": unallocated,
        "reconciliation_difference_usd": difference,
    }


def _hours(row: Mapping[str, Any]) -> float:
    return float((row["up_to"] - row["up_from"]).total_seconds()) / 3600.0


def paid_hours(job: Job) -> dict[str, float]:
    """For how many hours of each machine the ledger has paid."""
    objects = Objects(job.out_url, job.storage_options)
    hours: dict[str, float] = {}
    for row in _table(objects, json.loads(objects.read("manifest.json")), "nodes").to_pylist():
        if row["cost_usd"] > 0.0:
            hours[row["machine_id"]] = hours.get(row["machine_id"], 0.0) + _hours(row)
    return hours


def _check_tracks(job: Job, tracks: list[dict[str, Any]], store: TrackStore, audit: Audit) -> None:
    """Every track can be had: its record verifies, is what the row says, and its audio has the length asked for."""
    keys = load_trusted_keys(job.public_key)
    tracks_there = VerifiedTracks(store, keys, PrometheusRecorder(CollectorRegistry()))
    versions = {}
    extra_s = 0.0
    for row in tracks:
        if row["track_id"] in versions:
            continue
        numbers = versions[row["track_id"]] = store.listing(row["track_id"]).versions
        envelopes = [tracks_there.version(row["track_id"], number).signed for number in numbers]
        extra_s += math.fsum(envelope.record.device_seconds for envelope in envelopes[1:])
        audio = store.get_blob(row["audio_key"])
        same = [one for one in envelopes if one.record.audio_sha256 == row["audio_sha256"]]
        audit.expect(
            any(one.record.cost_usd == row["cost_usd"] for one in same),
            f"line {row['line']}'s row is no record of {row['track_id']} in the store",
        )
        for envelope in same:
            try:
                verify(envelope, audio, keys)
            except VerificationFailed as error:
                audit.problems.append(f"{row['track_id']} does not verify: {error}")
        decoded, rate = soundfile.read(io.BytesIO(audio))
        audit.expect(
            rate == row["sample_rate_hz"] and abs(len(decoded) / rate - row["duration_s"]) <= LENGTH_TOLERANCE_S,
            f"{row['track_id']} has {len(decoded) / rate:.3f} s at {rate} Hz instead of {row['duration_s']} s",
        )
    unclaimed = store.listings().keys() - versions.keys()
    audit.expect(not unclaimed, f"tracks in the store that no row names: {sorted(unclaimed)[:5]}")
    audit.figures |= {
        "tracks_rendered_more_than_once": sum(len(numbers) > 1 for numbers in versions.values()),
        "device_seconds_of_further_versions": round(extra_s, 3),
    }


def _check_renderer_alone(job: Job, tracks: list[dict[str, Any]], compared: int, seed: int, audit: Audit) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = RenderConfig(store_url=f"{folder}/store", signing_key_path=f"{folder}/key.pem", threads=1)
        Signer.create(config.signing_key_path)
        renderer = build_renderer(config, "audit", PrometheusRecorder(CollectorRegistry()))
        sample = Random(seed).sample(tracks, min(compared, len(tracks)))
        for row in sample:
            asked = {
                name: value for name, value in job.rows[row["line"] - 1].items() if name not in ("row_id", "title")
            }
            alone = renderer.render(TrackSpec.from_json(asked).resolve())
            audit.expect(
                isinstance(alone, Track)
                and (alone.track_id, alone.record.audio_sha256) == (row["track_id"], row["audio_sha256"]),
                f"line {row['line']}'s audio is not what the renderer alone makes",
            )
    audit.figures["tracks_as_the_renderer_alone_makes_them"] = len(sample)


def _check_leftovers(job: Job, objects: Objects, manifest: Mapping[str, Any], audit: Audit) -> None:
    """What the dead left is not part of any table. How much there is of it is worth knowing, and no problem."""
    newest = max(key for key in objects.keys("manifests") if key.endswith(".json"))
    audit.expect(json.loads(objects.read(newest)) == manifest, f"manifest.json is not a copy of {newest}")
    named = {file["path"] for name in TABLES for file in manifest["tables"][name]}
    found = {key for name in TABLES for key in objects.keys(name)}
    store = Objects(job.store_url, job.storage_options)
    audit.figures |= {
        "files_that_no_manifest_names": len(found - named),
        "unfinished_files": sum(len(place.keys("tmp")) for place in (objects, store)),
    }
