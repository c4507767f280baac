"""Every metric of the system, declared once: name, kind, unit, meaning, labels, buckets.

Code counts through a `Recorder` and never learns whether Prometheus or Ray is behind it. Labels name pools, models and
outcomes only: one that holds a prompt, a user or an id makes a new time series for each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Kind = Literal["counter", "gauge", "histogram"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `name` is what Prometheus shows; inside Ray it is shown with "ray_" before it."""

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...]
    #: Upper bounds of a histogram's buckets, in `unit`, rising; Prometheus adds +Inf.
    buckets: tuple[float, ...] = ()


REQUESTS: Final = Metric(
    "orchestrion_requests_total",
    "counter",
    "requests",
    "Requests that ended, by outcome: ok, cache_hit, failed, refused or cancelled.",
    ("pool", "model", "outcome"),
)
CACHE_HITS: Final = Metric(
    "orchestrion_cache_hits_total",
    "counter",
    "requests",
    "Requests answered by a track that was already in the store; nothing was rendered.",
    ("pool", "model"),
)
PIECES_REUSED: Final = Metric(
    "orchestrion_pieces_reused_total",
    "counter",
    "tracks",
    "Tracks whose piece another track had made, in another form: it was mastered, and not generated again.",
    ("pool", "model"),
)
FAILURES: Final = Metric(
    "orchestrion_failures_total",
    "counter",
    "requests",
    "Requests that ended without a track, by reason (the reasons of failure rows).",
    ("pool", "model", "reason"),
)
TIME_TO_FIRST_AUDIO: Final = Metric(
    "orchestrion_time_to_first_audio_seconds",
    "histogram",
    "seconds",
    "From the request's arrival to the first audio of it that is ready to be sent.",
    ("pool", "model"),
    (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0),
)
RENDER_SECONDS_PER_AUDIO_SECOND: Final = Metric(
    "orchestrion_render_seconds_per_audio_second",
    "histogram",
    "ratio",
    "Device time spent on a track per second of its audio; below 1 is faster than real time.",
    ("pool", "model"),
    (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0),
)
QUEUE_DEPTH: Final = Metric(
    "orchestrion_queue_depth",
    "gauge",
    "requests",
    "Requests accepted by a pool's process and not yet being rendered.",
    ("pool",),
)
DEVICE_SECONDS: Final = Metric(
    "orchestrion_device_seconds_total",
    "counter",
    "seconds",
    "Seconds that renders held a CPU core or GPU, wasted work included.",
    ("pool", "model", "market"),
)
COST_USD: Final = Metric(
    "orchestrion_cost_usd_total",
    "counter",
    "USD",
    "Device seconds times the price of the device.",
    ("pool", "model", "market"),
)
UNVERIFIED: Final = Metric(
    "orchestrion_unverified_total",
    "counter",
    "objects",
    "Records, tombstones and index entries in the store that no trusted key has signed: somebody else writes there.",
    ("kind",),
)

METRICS: Final = (
    REQUESTS,
    CACHE_HITS,
    PIECES_REUSED,
    FAILURES,
    TIME_TO_FIRST_AUDIO,
    RENDER_SECONDS_PER_AUDIO_SECOND,
    QUEUE_DEPTH,
    DEVICE_SECONDS,
    COST_USD,
    UNVERIFIED,
)


def model_label(name: str, loaded: Container[str]) -> str:
    """A model's name if it is loaded, else "unknown": clients could otherwise make up any number of time series."""
    return name if name in loaded else "unknown"


class Recorder(Protocol):
    """Takes measurements. Labels are given by name and must be exactly those that the metric declares."""

    def count(self, metric: Metric, amount: float = 1.0, /, **labels: str) -> None:
        """Add `amount` >= 0 to a counter."""
        ...

    def observe(self, metric: Metric, value: float, /, **labels: str) -> None:
        """Put `value` into a histogram."""
        ...

    def set(self, metric: Metric, value: float, /, **labels: str) -> None:
        """Set a gauge to `value`."""
        ...


class Uncounted:
    """A recorder that keeps nothing: for a process that ends before its metrics could be read."""

    def count(self, metric: Metric, amount: float = 1.0, /, **labels: str) -> None:
        """Nothing."""

    def observe(self, metric: Metric, value: float, /, **labels: str) -> None:
        """Nothing."""

    def set(self, metric: Metric, value: float, /, **labels: str) -> None:
        """Nothing."""


class TolerantRecorder:
    """Hands measurements on to another recorder. What that throws is logged: no track is lost for a figure."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def count(self, metric: Metric, amount: float = 1.0, /, **labels: str) -> None:
        """Add `amount` >= 0 to a counter."""
        self._tried(metric, lambda: self._recorder.count(metric, amount, **labels))

    def observe(self, metric: Metric, value: float, /, **labels: str) -> None:
        """Put `value` into a histogram."""
        self._tried(metric, lambda: self._recorder.observe(metric, value, **labels))

    def set(self, metric: Metric, value: float, /, **labels: str) -> None:
        """Set a gauge to `value`."""
        self._tried(metric, lambda: self._recorder.set(metric, value, **labels))

    def _tried(self, metric: Metric, record: Callable[[], None]) -> None:
        try:
            record()
        except Exception:
            logger.exception("%s could not be recorded", metric.name)


class PrometheusRecorder:
    """Records into a `prometheus_client` registry: for processes outside Ray."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counters = {
            metric: Counter(metric.name, metric.help, metric.labels, registry=registry) for metric in _of("counter")
        }
        self._gauges = {
            metric: Gauge(metric.name, metric.help, metric.labels, registry=registry) for metric in _of("gauge")
        }
        self._histograms = {
            metric: Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=registry)
            for metric in _of("histogram")
        }

    def count(self, metric: Metric, amount: float = 1.0, /, **labels: str) -> None:
        """Add `amount` >= 0 to a counter."""
        _check(metric, "counter", labels)
        self._counters[metric].labels(**labels).inc(amount)

    def observe(self, metric: Metric, value: float, /, **labels: str) -> None:
        """Put `value` into a histogram."""
        _check(metric, "histogram", labels)
        self._histograms[metric].labels(**labels).observe(value)

    def set(self, metric: Metric, value: float, /, **labels: str) -> None:
        """Set a gauge to `value`."""
        _check(metric, "gauge", labels)
        self._gauges[metric].labels(**labels).set(value)


class RayCounter(Protocol):
    """`ray.util.metrics.Counter`."""

    def inc(self, value: float, tags: dict[str, str]) -> None: ...  # noqa: D102


class RayGauge(Protocol):
    """`ray.util.metrics.Gauge`."""

    def set(self, value: float, tags: dict[str, str]) -> None: ...  # noqa: D102


class RayHistogram(Protocol):
    """`ray.util.metrics.Histogram`."""

    def observe(self, value: float, tags: dict[str, str]) -> None: ...  # noqa: D102


class RayMetrics(Protocol):
    """The part of the module `ray.util.metrics` that is used; passed in, because the core imports no Ray."""

    Counter: Callable[..., RayCounter]
    Gauge: Callable[..., RayGauge]
    Histogram: Callable[..., RayHistogram]


class RayRecorder:
    """Records through Ray's metrics agent, inside a Ray worker: `RayRecorder(ray.util.metrics)`."""

    def __init__(self, ray_metrics: RayMetrics) -> None:
        self._counters = {
            metric: ray_metrics.Counter(metric.name, metric.help, metric.labels) for metric in _of("counter")
        }
        self._gauges = {metric: ray_metrics.Gauge(metric.name, metric.help, metric.labels) for metric in _of("gauge")}
        self._histograms = {
            metric: ray_metrics.Histogram(metric.name, metric.help, list(metric.buckets), metric.labels)
            for metric in _of("histogram")
        }

    def count(self, metric: Metric, amount: float = 1.0, /, **labels: str) -> None:
        """Add `amount` >= 0 to a counter."""
        _check(metric, "counter", labels)
        # Ray refuses an increment of 0 and less; Prometheus takes 0.
        if amount != 0:
            self._counters[metric].inc(amount, labels)

    def observe(self, metric: Metric, value: float, /, **labels: str) -> None:
        """Put `value` into a histogram."""
        _check(metric, "histogram", labels)
        self._histograms[metric].observe(value, labels)

    def set(self, metric: Metric, value: float, /, **labels: str) -> None:
        """Set a gauge to `value`."""
        _check(metric, "gauge", labels)
        self._gauges[metric].set(value, labels)


def _of(kind: Kind) -> Sequence[Metric]:
    return [metric for metric in METRICS if metric.kind == kind]


def _check(metric: Metric, kind: Kind, labels: Mapping[str, str]) -> None:
    """Both recorders refuse the same mistakes: Ray itself would fill a forgotten label with an empty value."""
    if metric.kind != kind:
        raise ValueError(f"{metric.name} is a {metric.kind}, used as a {kind}")
    if labels.keys() != set(metric.labels):
        raise ValueError(f"{metric.name} takes the labels {', '.join(metric.labels)}; got {', '.join(labels)}")
