"""A renderer whose store is a folder."""

import pytest
from prometheus_client import CollectorRegistry

from orchestrion.rendering.renderer import Renderer
from orchestrion.storage.track_store import TrackStore
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.trust.signing import Signer
from tests.fake_model import ToneModel
from tests.unit.rendering.test_renderer import CPU, SteppingClock


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def renderer(tmp_path, registry):
    return Renderer(
        models={"tone": ToneModel()},
        store=TrackStore.open(str(tmp_path / "store")),
        signer=Signer.create(tmp_path / "key.pem"),
        node=CPU,
        pool="test",
        recorder=PrometheusRecorder(registry),
        clock=SteppingClock(),
    )
