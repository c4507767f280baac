"""Whatever is thrown, at whatever call: it costs the piece it happens to, with a reason, and nothing else.

Once through `Renderer.render`, as Python and the command line call it, and once through Serve's render executor.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from orchestrion.accounting.cost import Node
from orchestrion.errors import Transient, as_ours
from orchestrion.rendering.executor import Executor
from orchestrion.rendering.policy import Policy
from orchestrion.rendering.renderer import Renderer
from orchestrion.rendering.stall import Stage
from orchestrion.storage.track_store import TrackStore
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.tracks.outcome import Failure, Track
from orchestrion.tracks.spec import TrackSpec
from orchestrion.trust.signing import Signer
from tests.fake_model import ToneModel
from tests.fault_injection import ERRORS, MODEL_SEAMS, OTHER_SEAMS, STAGE_SEAMS, STORE_SEAMS, fault
from tests.unit.rendering.test_executor import InlineThreads
from tests.unit.rendering.test_renderer import SteppingClock

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
    track = quiet.render(request("the neighbour"))
    return track.record.audio_sha256


def reasons(error: BaseException, seam: str) -> set[str]:
    """What may be said of `error`: what a model raises is the model's fault, unless it is memory."""
    of_model = seam.startswith("model.") and not isinstance(error, Transient | MemoryError)
    return {"model-failed"} if of_model else {Failure.of(error, "", None).code}


def audio_hash(outcome) -> str:
    assert isinstance(outcome, Track)
    return outcome.record.audio_sha256


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("seam", [*MODEL_SEAMS, *STAGE_SEAMS, *STORE_SEAMS, *OTHER_SEAMS])
def test_in_one_thread(renderer, undisturbed, seam, make: Callable[[], Exception]):
    error = make()
    with fault(renderer, seam, error) as struck:
        broken, neighbour = renderer.render(request("the broken one")), renderer.render(request("the neighbour"))

    assert struck.is_set()
    assert audio_hash(neighbour) == undisturbed
    if seam in LOSE_NOTHING:
        assert isinstance(broken, Track)
    else:
        assert isinstance(broken, Failure) and {broken.code} == reasons(error, seam)
        assert broken.retryable == isinstance(as_ours(error), Transient)


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("seam", [*MODEL_SEAMS, *STAGE_SEAMS, *STORE_SEAMS[1:], *OTHER_SEAMS])
def test_in_the_executor(tmp_path, signer, undisturbed, seam, make: Callable[[], Exception]):
    error, registry = make(), CollectorRegistry()
    renderer = new_renderer(tmp_path / "store", signer, registry)
    with fault(renderer, seam, error) as struck:
        executor = new_executor(renderer)
        broken, also_broken, neighbour = (
            join(executor, renderer, prompt) for prompt in ("the broken one", "the broken one", "the neighbour")
        )
        while executor.step():
            pass

    assert struck.is_set()
    assert audio_hash(neighbour.task.outcome) == undisturbed
    outcome = broken.task.outcome
    assert also_broken.task.outcome == outcome
    if seam in LOSE_NOTHING:
        assert isinstance(outcome, Track)
    else:
        assert isinstance(outcome, Failure) and {outcome.code} == reasons(error, seam)
        labels = {"pool": "test", "model": "tone", "reason": outcome.code}
        assert registry.get_sample_value("orchestrion_failures_total", labels) == 1
    assert executor.queue_state().active == 0


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
def test_while_it_is_prepared(tmp_path, signer, undisturbed, make):
    error, registry = make(), CollectorRegistry()
    renderer = new_renderer(tmp_path / "store", signer, registry)
    model = renderer.models["tone"]
    model.info = replace(model.info, shares_steps=True)  # Such a model's pieces are prepared beside the others.
    with fault(renderer, "model.prepare", error) as struck:
        executor = new_executor(renderer)
        broken, neighbour = (join(executor, renderer, prompt) for prompt in ("the broken one", "the neighbour"))
        while executor.step():
            pass

    assert struck.is_set()
    assert {broken.task.outcome.code} == reasons(error, "model.prepare")
    assert audio_hash(neighbour.task.outcome) == undisturbed
    labels = {"pool": "test", "model": "tone", "reason": broken.task.outcome.code}
    assert registry.get_sample_value("orchestrion_failures_total", labels) == 1


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
def test_a_piece_that_cannot_be_closed_is_given_up_all_the_same(renderer, undisturbed, make):
    with fault(renderer, "model.close", make()) as struck:
        executor = new_executor(renderer)
        leaving = join(executor, renderer, "the broken one")
        executor.step()
        neighbour = join(executor, renderer, "the neighbour")
        executor.leave(leaving)
        while executor.step():
            pass

    assert struck.is_set()
    assert renderer.models["tone"].open_performances == 0
    assert audio_hash(neighbour.task.outcome) == undisturbed


def new_executor(renderer: Renderer, slots: int = 2) -> Executor:
    policy = Policy(slots=slots, queue_limit=2, long_limit=1)
    return Executor(renderer, policy, SteppingClock(), threads=dict.fromkeys(Stage, InlineThreads()))


def join(executor: Executor, renderer: Renderer, prompt: str):
    wanted = request(prompt)
    return executor.join(wanted, renderer.track_id(wanted), streaming=True, wake=lambda: None)
