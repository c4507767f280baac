"""A renderer with the tone model, and work for it, as a catalog job has them."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from batch_jobs.catalog import read_catalog
from batch_jobs.plan import Plan
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
