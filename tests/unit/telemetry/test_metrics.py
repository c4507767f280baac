import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from orchestrion.telemetry.metrics import (
    COST_USD,
    METRICS,
    QUEUE_DEPTH,
    REQUESTS,
    TIME_TO_FIRST_AUDIO,
    PrometheusRecorder,
    RayRecorder,
)

DOCS = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


class FakeRayMetrics:
    """`ray.util.metrics` as far as it is used: it keeps what it was given, and checks tags as Ray does."""

    def __init__(self):
        self.made = {}

    def _make(self, name, description, boundaries_or_tags, tag_keys=None):
        assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name)
        assert isinstance(tag_keys or boundaries_or_tags, tuple)
        return self.made.setdefault(name, FakeRayMetric(tag_keys or boundaries_or_tags))

    Counter = Gauge = Histogram = property(lambda self: self._make)


class FakeRayMetric:
    def __init__(self, tag_keys):
        self.tag_keys = tag_keys
        self.given = []

    def _record(self, value, tags):
        assert set(tags) == set(self.tag_keys)
        self.given.append((value, tags))

    def inc(self, value, tags):
        if value <= 0:
            raise ValueError("value must be >0")
        self._record(value, tags)

    observe = set = _record


@pytest.fixture
def registry():
    return CollectorRegistry()


def measure(recorder):
    recorder.count(REQUESTS, pool="batch", model="composer", outcome="ok")
    recorder.count(REQUESTS, 2, pool="batch", model="composer", outcome="ok")
    recorder.count(COST_USD, 0.0, pool="batch", model="composer", market="spot")
    recorder.count(COST_USD, 0.25, pool="batch", model="composer", market="spot")
    recorder.observe(TIME_TO_FIRST_AUDIO, 0.4, pool="batch", model="composer")
    recorder.set(QUEUE_DEPTH, 3, pool="batch")
    recorder.set(QUEUE_DEPTH, 1, pool="batch")


def test_prometheus_shows_the_declared_names_and_what_was_measured(registry):
    measure(PrometheusRecorder(registry))

    shown = generate_latest(registry).decode().splitlines()
    assert 'orchestrion_requests_total{model="composer",outcome="ok",pool="batch"} 3.0' in shown
    assert 'orchestrion_cost_usd_total{market="spot",model="composer",pool="batch"} 0.25' in shown
    assert 'orchestrion_time_to_first_audio_seconds_bucket{le="0.3",model="composer",pool="batch"} 0.0' in shown
    assert 'orchestrion_time_to_first_audio_seconds_bucket{le="0.5",model="composer",pool="batch"} 1.0' in shown
    assert 'orchestrion_queue_depth{pool="batch"} 1.0' in shown
    for metric in METRICS:
        assert f"# TYPE {metric.name} {metric.kind}" in shown


def test_ray_is_given_the_same_measurements():
    ray_metrics = FakeRayMetrics()

    measure(RayRecorder(ray_metrics))

    labels = {"pool": "batch", "model": "composer"}
    given = {name: metric.given for name, metric in ray_metrics.made.items() if metric.given}
    assert given == {
        "orchestrion_requests_total": [(1.0, labels | {"outcome": "ok"}), (2, labels | {"outcome": "ok"})],
        "orchestrion_cost_usd_total": [(0.25, labels | {"market": "spot"})],
        "orchestrion_time_to_first_audio_seconds": [(0.4, labels)],
        "orchestrion_queue_depth": [(3, {"pool": "batch"}), (1, {"pool": "batch"})],
    }
    assert set(ray_metrics.made) == {metric.name for metric in METRICS}


@pytest.mark.parametrize(
    "recorder", [lambda: PrometheusRecorder(CollectorRegistry()), lambda: RayRecorder(FakeRayMetrics())]
)
@pytest.mark.parametrize(
    "use",
    [
        lambda r: r.count(REQUESTS, pool="batch", model="composer"),
        lambda r: r.count(REQUESTS, pool="batch", model="composer", outcome="ok", user="eve"),
        lambda r: r.count(QUEUE_DEPTH, pool="batch"),
        lambda r: r.observe(REQUESTS, 1, pool="batch", model="composer", outcome="ok"),
        lambda r: r.set(TIME_TO_FIRST_AUDIO, 1, pool="batch", model="composer"),
    ],
    ids=["label missing", "label unknown", "gauge counted", "counter observed", "histogram set"],
)
def test_both_recorders_refuse_the_same_mistakes(recorder, use):
    with pytest.raises(ValueError, match=r"takes the labels|used as a"):
        use(recorder())


def test_no_label_can_hold_a_prompt_a_user_or_an_id():
    assert {label for metric in METRICS for label in metric.labels} <= {
        "pool",
        "model",
        "outcome",
        "reason",
        "market",
        "kind",
    }


def test_the_document_describes_every_metric_and_no_other():
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in DOCS.read_text().splitlines()
        if line.startswith("| `")
    ]

    documented = {row[0].strip("` "): tuple(row[1:]) for row in rows}
    assert documented == {
        metric.name: (metric.kind, metric.unit, ", ".join(metric.labels), metric.help) for metric in METRICS
    }
