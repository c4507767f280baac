"""A renderer with the tone model, and work for it, as a catalog job has them."""

import json
import os
import random
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from batch_jobs.catalog.rows import catalog_reads
from batch_jobs.planning.parts import planned_parts
from batch_jobs.planning.plan import Plan
from batch_jobs.planning.planned_rows import RowSettings
from batch_jobs.settlement.outcomes import shard_table
from orchestrion.accounting.cost import Node
from orchestrion.rendering.renderer import Renderer
from orchestrion.storage.track_store import TrackStore
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.trust.signing import Signer
from tests.fake_model import ToneModel
from tests.unit.batch_jobs.committed_job import START, CommittedJob, attempt, failure, node, track, worker


class SteppingClock:
    """Each reading is a second after the last."""

    def __init__(self, start=datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self.start = start
        self.reading_s = 0.0
        self.cpu_reading_s = 0.0

    def monotonic_s(self) -> float:
        self.reading_s += 1.0
        return self.reading_s

    def thread_cpu_s(self) -> float:
        self.cpu_reading_s += 1.0
        return self.cpu_reading_s

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.reading_s)


@pytest.fixture
def clock():
    return SteppingClock()


@pytest.fixture(autouse=True)
def _nobody_pulls_the_plug(monkeypatch):
    """Waiting for the disk would be most of these tests' time, and no test here can tell."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def renderer(tmp_path, clock):
    return Renderer(
        models={"tone": ToneModel()},
        store=TrackStore.open(str(tmp_path / "store")),
        signer=Signer.create(tmp_path / "key.pem"),
        node=Node("node-1", "local-cpu", "cpu-core", "on-demand", 0.36, "a test"),
        pool="batch",
        recorder=PrometheusRecorder(CollectorRegistry()),
        clock=clock,
    )


@pytest.fixture
def plan_of(tmp_path):
    """A plan of these rows; each is a tone of two seconds unless it says otherwise."""

    def make(*rows, requests_per_shard=10, requests_in_the_last=None, keep=()):
        path = tmp_path / "catalog.jsonl"
        tone = {"prompt": "a tone", "model": "tone", "duration_s": 2.0, "format": "flac"}
        path.write_text("".join(json.dumps(tone | row) + "\n" for row in rows), encoding="utf-8")
        plan = Plan()
        for part in planned_parts(lambda: catalog_reads(str(path), {}, {}, keep), RowSettings("tone", 1.0), None):
            plan.add(part)
        plan.refuse_repeated_ids(1.0)
        plan.requests_per_shard = requests_per_shard
        plan.requests_in_the_last = requests_in_the_last or requests_per_shard
        return plan

    return make


@pytest.fixture
def ledger(tmp_path, clock):
    """Two jobs of 300 rows over three days, with random figures, cache hits and failures.

    Returns (url, rows of tracks, rows of failures), both as the ledger has them, in order of jobs and lines.
    """
    dice = random.Random(7)
    url = str(tmp_path / "ledger")
    for job_id in ("job-1", "job-2"):
        job = CommittedJob(url, clock, job_id)
        for shard in (f"01-{number:02}" for number in range(6)):
            rows, tries = [], []
            for line in range(int(shard[-2:]) * 50 + 1, int(shard[-2:]) * 50 + 51):
                moment = START + timedelta(days=dice.randrange(3), seconds=line)
                if dice.random() < 0.1:
                    rows.append(failure(line, job_id, settled_at=moment, reason="invalid-request", stage="catalog"))
                    continue
                usd = 10.0 ** dice.uniform(-7, 1)
                hit = dice.random() < 0.3
                values = {
                    "settled_at": moment, "cache_hit": hit, "cost_usd": usd, "duration_s": dice.uniform(1, 600),
                    "device_seconds": dice.uniform(0.1, 9), "style": dice.choice(["jazz", "rock", None]),
                    "model": dice.choice(["composer", "lab/large"]), "market": dice.choice(["spot", "on-demand"]),
                    "pool": dice.choice(["batch", "low-latency"]), "requested_by": dice.choice(["a", "b", "<i>c</i>"]),
                }  # fmt: skip
                rows.append(track(line, 0.0 if hit else usd, job_id, **values))
                if not hit:
                    tries.append(attempt(f"{job_id}/{line}", shard, line, usd, job_id=job_id))
                if dice.random() < 0.1:
                    wasted = {"ended": "preempted", "job_id": job_id}
                    tries.append(attempt(f"{job_id}/{line}/lost", shard, line, dice.uniform(0, 1), **wasted))
            job.folder.commit(shard, shard_table(rows, tries))
        # Each job has machines of its own.
        n1, n2 = node("n1", 2, machine_id=f"{job_id}-n1"), node("n2", 4, machine_id=f"{job_id}-n2")
        job.folder.write_journal(worker("w1", "run-1", n1, to_s=2000.0))
        job.folder.write_journal(worker("w2", "run-1", n2, to_s=1500.0, devices=4))
        job.close(rows=300)
    tracks, failures = (
        job.ledger.dataset(name).to_table().sort_by([("job_id", "ascending"), ("line", "ascending")]).to_pylist()
        for name in ("tracks", "failures")
    )
    return url, tracks, failures
