"""Whatever is thrown, at whatever call: it costs the piece it happens to, with a reason, and nothing else.

Once through `Renderer.render`, as Python and the command line call it, and once through Serve's render loop.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from orchestrion.accounting.cost import Node
from orchestrion.errors import Transient, as_ours
from orchestrion.rendering.renderer import Renderer
from orchestrion.storage.track_store import TrackStore
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.tracks.outcome import Failure, Track
from orchestrion.tracks.spec import TrackSpec
from orchestrion.trust.signing import Signer
from serve_app.deployments.outcomes import Refusal
from serve_app.deployments.render_loop import RenderLoop
from serve_app.deployments.stall import Stage
from tests.fake_model import ToneModel
from tests.fault_injection import ERRORS, MODEL_SEAMS, OTHER_SEAMS, STEP_SEAMS, STORE_SEAMS, fault
from tests.unit.rendering.test_renderer import SteppingClock
from tests.unit.serve_app.deployments.test_render_loop import InlineExecutor

CPU = Node("node-1", "local-cpu", "cpu-core", "on-demand", 0.36, "a test")
#: A figure that cannot be recorded costs no track.
LOSE_NOTHING = ("recorder.count", "recorder.observe")


def request(prompt: str):
    return TrackSpec.from_json({"prompt": prompt, "model": "tone", "duration_s": 1.0, "format": "flac"}).resolve()


@pytest.fixture(scope="module")
def signer(tmp_path_factory):
    return Signer.create(tmp_path_factory.mktemp("key") / "key.pem")


@pytest.fixture
def renderer(tmp_path, signer):
    return new_renderer(tmp_path / "store", signer, CollectorRegistry())


def new_renderer(folder, signer, registry) -> Renderer:
    store = TrackStore.open(str(folder))
    recorder = PrometheusRecorder(registry)
    return Renderer({"tone": ToneModel()}, store, signer, CPU, "test", recorder, SteppingClock())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, signer) -> str:
    """The hash of the neighbour's audio where nothing goes wrong."""
    quiet = new_renderer(tmp_path_factory.mktemp("quiet") / "store", signer, CollectorRegistry())
    [track] = quiet.render([request("the neighbour")])
    return track.record.audio_sha256


def reasons(error: BaseException, seam: str) -> set[str]:
    """What may be said of `error`: what a model raises is the model's fault, unless it is memory."""
    of_model = seam.startswith("model.") and not isinstance(error, Transient | MemoryError)
    return {"model-failed"} if of_model else {Failure.of(error, "", None).reason}


def audio_hash(outcome) -> str:
    assert isinstance(outcome, Track)
    return outcome.record.audio_sha256


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("seam", ["model.generate", *STEP_SEAMS, *STORE_SEAMS, *OTHER_SEAMS])
def test_in_a_batch(renderer, undisturbed, seam, make: Callable[[], Exception]):
    error = make()
    with fault(renderer, seam, error) as struck:
        broken, neighbour = renderer.render([request("the broken one"), request("the neighbour")])

    assert struck.is_set()
    assert audio_hash(neighbour) == undisturbed
    if seam in LOSE_NOTHING or seam == "model.generate":  # Which is asked once more, for each piece alone.
        assert isinstance(broken, Track)
    else:
        assert isinstance(broken, Failure) and {broken.reason} == reasons(error, seam)
        assert broken.transient == isinstance(as_ours(error), Transient)


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("seam", [*MODEL_SEAMS, *STEP_SEAMS, *STORE_SEAMS[1:], *OTHER_SEAMS])
def test_in_the_render_loop(tmp_path, signer, undisturbed, seam, make: Callable[[], Exception]):
    error, registry = make(), CollectorRegistry()
    renderer = new_renderer(tmp_path / "store", signer, registry)
    with fault(renderer, seam, error) as struck:
        loop = new_loop(renderer)
        broken, also_broken, neighbour = (
            join(loop, renderer, prompt) for prompt in ("the broken one", "the broken one", "the neighbour")
        )
        while loop.step():
            pass

    assert struck.is_set()
    assert audio_hash(neighbour.job.outcome) == undisturbed
    outcome = broken.job.outcome
    assert also_broken.job.outcome == outcome
    if seam in LOSE_NOTHING:
        assert isinstance(outcome, Track)
    else:
        assert isinstance(outcome, Refusal) and {outcome.reason} == reasons(error, seam)
        labels = {"pool": "test", "model": "tone", "reason": outcome.reason}
        assert registry.get_sample_value("orchestrion_failures_total", labels) == 1
    assert loop.queue_state().active == 0


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
def test_while_it_is_prepared(tmp_path, signer, undisturbed, make):
    error, registry = make(), CollectorRegistry()
    renderer = new_renderer(tmp_path / "store", signer, registry)
    model = renderer.models["tone"]
    model.info = replace(model.info, shares_steps=True)  # Such a model's pieces are prepared beside the others.
    with fault(renderer, "model.prepare", error) as struck:
        loop = new_loop(renderer)
        broken, neighbour = (join(loop, renderer, prompt) for prompt in ("the broken one", "the neighbour"))
        while loop.step():
            pass

    assert struck.is_set()
    assert {broken.job.outcome.reason} == reasons(error, "model.prepare")
    assert audio_hash(neighbour.job.outcome) == undisturbed
    labels = {"pool": "test", "model": "tone", "reason": broken.job.outcome.reason}
    assert registry.get_sample_value("orchestrion_failures_total", labels) == 1


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
def test_a_piece_that_cannot_be_closed_is_given_up_all_the_same(renderer, undisturbed, make):
    with fault(renderer, "model.close", make()) as struck:
        loop = new_loop(renderer)
        leaving = join(loop, renderer, "the broken one")
        loop.step()
        neighbour = join(loop, renderer, "the neighbour")
        loop.leave(leaving)
        while loop.step():
            pass

    assert struck.is_set()
    assert renderer.models["tone"].open_performances == 0
    assert audio_hash(neighbour.job.outcome) == undisturbed


def new_loop(renderer: Renderer) -> RenderLoop:
    return RenderLoop(
        renderer,
        slots=2,
        queue_limit=2,
        long_limit=1,
        max_queue_s=1e9,
        stall_s=1e9,
        clock=SteppingClock(),
        executors=dict.fromkeys(Stage, InlineExecutor()),
        on_queue_change=lambda depth: None,
    )


def join(loop: RenderLoop, renderer: Renderer, prompt: str):
    wanted = request(prompt)
    return loop.join(wanted, renderer.track_id(wanted), streaming=True, wake=lambda: None)
