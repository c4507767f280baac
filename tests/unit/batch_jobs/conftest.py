"""A renderer with the tone model, and work for it, as a catalog job has them."""

import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from batch_jobs.catalog import RefusedRow, read_catalog
from batch_jobs.ledger import Ledger
from batch_jobs.outcomes import outcomes_table, refused_row
from batch_jobs.plan import Plan
from batch_jobs.render_stage import render_block
from batch_jobs.retry import RetryBudget
from orchestrion.cost import Node
from orchestrion.metrics import PrometheusRecorder
from orchestrion.provenance import Signer
from orchestrion.render import Renderer
from orchestrion.store import TrackStore
from tests.fake_model import ToneModel


class SteppingClock:
    """Each reading is a second after the last."""

    def __init__(self, start=datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self.start = start
        self.reading_s = 0.0

    def monotonic_s(self) -> float:
        self.reading_s += 1.0
        return self.reading_s

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.reading_s)


@pytest.fixture
def clock():
    return SteppingClock()


@pytest.fixture
def renderer(tmp_path, clock):
    return Renderer(
        models={"tone": ToneModel()},
        store=TrackStore.open(str(tmp_path / "store")),
        signer=Signer.load_or_create(tmp_path / "key.pem"),
        node=Node("node-1", "local-cpu", "cpu-core", "on-demand", 0.36, "a test"),
        pool="batch",
        recorder=PrometheusRecorder(CollectorRegistry()),
        clock=clock,
    )


@pytest.fixture
def plan_of(tmp_path):
    """A plan of these rows; each is a tone of two seconds unless it says otherwise."""

    def make(*rows):
        path = tmp_path / "catalog.jsonl"
        tone = {"prompt": "a tone", "model": "tone", "duration_s": 2.0, "format": "flac"}
        path.write_text("".join(json.dumps(tone | row) + "\n" for row in rows), encoding="utf-8")
        plan = Plan()
        for row in read_catalog(str(path), {}, lambda _: pytest.fail("no themes here")):
            plan.add(row)
        return plan

    return make


HOSTILE = '<script>alert("1")</script> & <img src=http://example.com/x onerror=alert(2)> piano'


@pytest.fixture
def ledger(tmp_path, plan_of, renderer, clock):
    """Two jobs of 300 rows over three days, with random figures, cache hits and failures; returns (url, rows)."""
    [block] = plan_of({"prompt": HOSTILE, "seed": 1}).blocks(1)
    template = render_block(block, renderer, "job-1", RetryBudget(), clock, lambda _: None).to_pylist()[0]["track"]
    dice = random.Random(7)
    rows, failures = [], []
    for number in range(600):
        job = f"job-{1 + number // 300}"
        moment = template["settled_at"] + timedelta(days=dice.randrange(3))
        if dice.random() < 0.1:
            failures.append(refused_row(job, RefusedRow(number, None, None, "bad"), moment))
            continue
        cost = 10.0 ** dice.uniform(-7, 1)
        hit = dice.random() < 0.3
        rows.append(
            template
            | {
                "job_id": job, "line": number, "settled_at": moment, "cache_hit": hit, "cost_usd": cost,
                "charged_usd": 0.0 if hit else cost, "device_seconds": dice.uniform(0.1, 9),
                "duration_s": dice.uniform(1, 600), "style": dice.choice(["jazz", "rock", None]),
                "model": dice.choice(["composer", "lab/large"]), "market": dice.choice(["spot", "on-demand"]),
                "pool": dice.choice(["batch", "low-latency"]), "requested_by": dice.choice(["a", "b", "<i>c</i>"]),
            }
        )  # fmt: skip
    writer = Ledger(str(tmp_path / "ledger"), {}, clock)
    for start in range(0, len(rows), 200):
        writer.add(outcomes_table(rows[start : start + 200]))
        writer.commit()
    writer.add(outcomes_table(failures))
    writer.close({"job_id": "job-2", "state": "complete"})
    return str(tmp_path / "ledger"), rows, failures
