"""Whatever is thrown at any call that a catalog job makes costs one row, with its reason, and the shard commits.

The same fault-injection as for Serve (`tests/fault_injection.py`), in one render process without Ray.
"""

import threading

import pytest
from prometheus_client import CollectorRegistry

from batch_jobs.rendering.worker import COMMITTED
from orchestrion.accounting.cost import Node
from orchestrion.errors import InvalidRequest, Overloaded, StoreUnavailable
from orchestrion.rendering.checkpoints import KEEP_EVERY_S
from orchestrion.rendering.renderer import Renderer
from orchestrion.storage.track_store import TrackStore
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.tracks.spec import TrackSpec
from orchestrion.trust.signing import Signer
from tests.fake_model import ToneModel
from tests.fault_injection import EARLY_END_SEAMS, ERRORS, MODEL_SEAMS, OTHER_SEAMS, SEAMS, STAGE_SEAMS, fault
from tests.unit.batch_jobs.committed_job import CommittedJob
from tests.unit.batch_jobs.rendering.test_attempts import SharedSteps
from tests.unit.batch_jobs.rendering.test_worker import HeldClock, Workplace

ROWS = [{"seed": seed, "duration_s": 1.0} for seed in range(3)]
RECORDER_SEAMS = ("recorder.count", "recorder.observe")


@pytest.fixture
def workplace(tmp_path, renderer):
    made = []

    def make(name="here", **values):
        made.append(Workplace(tmp_path / name, renderer, HeldClock(), f"w-{len(made)}", **values))
        return made[-1]

    yield make
    for each in made:
        each.executor.close()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The audio of each line where nothing goes wrong."""
    root = tmp_path_factory.mktemp("undisturbed")
    renderer = Renderer(
        models={"tone": ToneModel()},
        store=TrackStore.open(str(root / "store")),
        signer=Signer.create(root / "key.pem"),
        node=Node("node-1", "local-cpu", "cpu-core", "on-demand", 0.36, "a test"),
        pool="batch",
        recorder=PrometheusRecorder(CollectorRegistry()),
        clock=HeldClock(),
    )
    tone = {"prompt": "a tone", "model": "tone", "duration_s": 2.0, "format": "flac"}
    tracks = [renderer.render(TrackSpec.from_json(tone | row).resolve()) for row in ROWS]
    return {line: track.record.audio_sha256 for line, track in enumerate(tracks, start=1)}


def reason(seam, error):
    """How a fault is told; None where it costs no row."""
    if seam in RECORDER_SEAMS:
        return None
    if error == "foreign" or (error != "memory" and seam in MODEL_SEAMS):
        return "model-failed"
    return "out-of-memory" if error == "memory" else "internal"


def stages(seam):
    """Where the fault is told to have been; a look-up lists a track and asks for a tombstone, as does publishing."""
    if seam in STAGE_SEAMS:
        # A stage that says before anything is made that the model failed is told of as the model is.
        return {STAGE_SEAMS[seam], *(["generate"] if seam == "stage.admit" else [])}
    if seam in MODEL_SEAMS:
        return {"generate"}
    return {"request", "store"} if seam in ("store.listing", "store.tombstone") else {"store"}


def check_books(here, shard, tracks, failures):
    """Each row is in one table, and the money that machines cost is told to the last cent."""
    here.clock.at_s += 1000
    here.journal.write(left=True)
    job = CommittedJob(here.folder.objects.url, here.clock)
    totals = job.close(rows=tracks + failures)

    assert (totals.tracks, totals.failures) == (tracks, failures)
    lines = [row["line"] for name in ("tracks", "failures") for row in job.rows(name)]
    assert sorted(lines) == list(range(1, tracks + failures + 1))
    assert totals.node_usd > 0 and totals.charged_usd > 0
    job.assert_reconciled()
    tries = {row["ended"] for row in job.rows("attempts")}
    assert tries <= {"track", "failed"}


CASES = [(seam, error, 0) for seam in SEAMS for error in ERRORS] + [(seam, "exception", 1) for seam in SEAMS]


@pytest.mark.parametrize("seam, error, mastering_threads", CASES)
def test_whatever_is_thrown_costs_its_row_and_no_other(
    plan_of, workplace, renderer, expected, seam, error, mastering_threads
):
    [shard] = plan_of(*ROWS).open_shards()
    [later] = plan_of({"seed": 99, "duration_s": 1.0}).open_shards()
    here = workplace(mastering_threads=mastering_threads)

    with fault(renderer, seam, ERRORS[error](), at_call=2) as struck:
        summary = here.take(shard)

    assert struck.is_set()
    expected_reason = reason(seam, error)
    # What may pass is tried again; a lack of memory passes here.
    failed = expected_reason is not None and error != "memory"
    assert (summary["state"], summary["tracks"], summary["failures"]) == (COMMITTED, 3 - failed, int(failed))
    audio = {row["line"]: row["audio_sha256"] for row in here.rows(shard, "track")}
    assert audio.items() <= expected.items() and len(audio) == 3 - failed
    if failed:
        [row] = here.rows(shard, "failure")
        assert (row["reason"], row["transient"]) == (expected_reason, False) and row["stage"] in stages(seam)
        assert row["message"] and (error == "foreign" or "nobody" not in row["message"])
    elif expected_reason is not None:
        assert sorted(row["attempts"] for row in here.rows(shard, "track")) == [1, 1, 2]
    # The threads live, and the next shard is made as ever.
    assert here.take(later)["tracks"] == 1
    check_books_of_first(here, shard, failed)


def check_books_of_first(here, shard, failed):
    here.folder.discard(next(name for name in here.folder.committed() if name != shard.name))
    check_books(here, shard, 3 - failed, int(failed))


@pytest.mark.parametrize(
    "seam, error", [*((seam, "exception") for seam in SEAMS if seam not in RECORDER_SEAMS), ("model.perform", "memory")]
)
def test_a_shard_whose_every_row_fails_commits_too(plan_of, workplace, renderer, seam, error):
    [shard] = plan_of(*ROWS).open_shards()
    here = workplace()

    with fault(renderer, seam, ERRORS[error](), every=True):
        summary = here.take(shard)

    assert (summary["state"], summary["tracks"], summary["failures"]) == (COMMITTED, 0, 3)
    assert {row["reason"] for row in here.rows(shard, "failure")} == {reason(seam, error)}
    assert {row["transient"] for row in here.rows(shard, "failure")} == {error == "memory"}


@pytest.mark.parametrize("error", ERRORS)
def test_a_piece_that_fails_and_then_breaks_when_it_is_closed_is_one_failure(plan_of, workplace, renderer, error):
    [shard] = plan_of({"seed": 1}, {"prompt": "break"}, {"seed": 2}).open_shards()
    here = workplace()

    with fault(renderer, "model.close", ERRORS[error](), every=True) as struck:
        summary = here.take(shard)

    assert struck.is_set() and (summary["tracks"], summary["failures"]) == (2, 1)
    [row] = here.rows(shard, "failure")
    assert (row["line"], row["reason"], row["stage"]) == (2, "model-failed", "generate")


@pytest.mark.parametrize("seam", EARLY_END_SEAMS)
@pytest.mark.parametrize("error", ERRORS)
def test_a_stopped_line_gives_a_piece_up_whatever_its_model_throws(plan_of, workplace, renderer, seam, error):
    renderer.models = {"tone": SharedSteps()}
    shared = renderer.models["tone"]
    [shard] = plan_of({"seed": 1}).open_shards()
    here = workplace()

    with fault(renderer, seam, ERRORS[error](), every=True) as struck:
        taken = threading.Thread(target=lambda: states.append(here.take(shard)["state"]))
        states = []
        taken.start()
        shared.waits.wait()
        here.executor.stop(within_s=0.0)
        shared.go_on()
        taken.join()

    assert struck.is_set() and states == ["left"]
    assert shared.open_now == 0


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("broken", ["checkpoint", "keep_partial", "drop_partial"])
def test_parts_that_cannot_be_kept_or_deleted_cost_no_piece(plan_of, workplace, renderer, monkeypatch, broken, error):
    renderer.models = {"tone": SharedSteps()}
    shared = renderer.models["tone"]
    [shard] = plan_of({"seed": 1}).open_shards()
    here = workplace()
    struck = threading.Event()

    def throw(*_):
        struck.set()
        raise ERRORS[error]()

    def take():
        states.append(here.take(shard))

    if broken != "checkpoint":
        monkeypatch.setattr(here.partials, broken, throw)
    states = []
    with fault(renderer, "model.checkpoint" if broken == "checkpoint" else "model.none", ERRORS[error]()) as thrown:
        taken = threading.Thread(target=take)
        taken.start()
        shared.waits.wait()
        here.clock.at_s += KEEP_EVERY_S
        shared.go_on()
        taken.join()

    assert states[0]["tracks"] == 1 and (thrown if broken == "checkpoint" else struck).is_set()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, None])
def test_a_model_that_does_not_know_its_device_time_costs_no_shard(plan_of, workplace, renderer, monkeypatch, value):
    tone, [shard] = renderer.models["tone"], plan_of(*ROWS[:2]).open_shards()
    perform = tone.perform

    def broken():
        if value is None:
            raise RuntimeError("no clock")
        return value

    def performs(*arguments, **options):
        performance = perform(*arguments, **options)
        performance.device_s = broken
        return performance

    monkeypatch.setattr(tone, "perform", performs)
    here = workplace()

    assert here.take(shard)["state"] == COMMITTED
    here.journal.write()
    assert all(row["device_seconds"] >= 0.0 for row in here.rows(shard, "attempt"))


@pytest.mark.parametrize("seam", ["model.perform", "model.chunk", "stage.encode", "store.put_blob", "store.listing"])
@pytest.mark.parametrize(
    "error", [StoreUnavailable("away"), Overloaded("busy", 1.0), InvalidRequest.of("x", 1, "is bad")]
)
def test_errors_on_purpose_are_told_as_they_are(plan_of, workplace, renderer, seam, error):
    [shard] = plan_of(*ROWS).open_shards()
    here = workplace()

    with fault(renderer, seam, error) as struck:
        summary = here.take(shard)

    assert struck.is_set() and summary["state"] == COMMITTED
    failed = [(row["reason"], row["transient"]) for row in here.rows(shard, "failure")]
    if isinstance(error, InvalidRequest):
        assert failed == [("invalid-request", False)]
    elif isinstance(error, StoreUnavailable) and seam in ("model.chunk", "stage.encode"):
        # The store was not asked there, so it is not waited for, and other rows are answered.
        assert failed == [("store-unavailable", True)]
    else:
        assert failed == []


@pytest.mark.parametrize("seam", ["store.listing", "model.perform", "model.chunk", "stage.encode", "store.put_blob"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_is_to_end_the_process_is_not_swallowed_and_nobody_is_left_waiting(plan_of, workplace, renderer, seam):
    [shard] = plan_of(*ROWS).open_shards()
    here = workplace()

    with fault(renderer, seam, SystemExit(3), every=True), pytest.raises(SystemExit):
        here.take(shard)
    assert not here.folder.is_committed(shard.name)

    if seam.startswith("model"):
        # The thread that generates has ended; later requests are told at once.
        [later] = plan_of({"seed": 99}).open_shards()
        with pytest.raises(SystemExit):
            here.take(later)


def test_a_message_that_no_column_takes_does_not_keep_its_shard_from_committing(plan_of, workplace, renderer):
    [shard] = plan_of(*ROWS).open_shards()
    here = workplace()

    with fault(renderer, "stage.quality", ERRORS["foreign"]().__class__("\ud800 " + "x" * 10**6), at_call=2):
        here.take(shard)

    [row] = here.rows(shard, "failure")
    assert row["message"].startswith("\\ud800 x") and len(row["message"]) < 5000


def test_a_process_that_throws_in_every_way_at_once_still_commits(plan_of, workplace, renderer):
    shards = list(
        plan_of(*({"seed": seed, "duration_s": 1.0} for seed in range(15)), requests_per_shard=3).open_shards()
    )
    here = workplace()

    for shard, seam in zip(shards, (*OTHER_SEAMS, *STAGE_SEAMS), strict=False):
        with fault(renderer, seam, OSError(5, "Input/output error"), at_call=2):
            assert here.take(shard)["state"] == COMMITTED
    assert here.folder.committed() == sorted(shard.name for shard in shards)
