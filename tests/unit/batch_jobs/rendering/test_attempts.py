"""What keeps a process busy: slots that are filled again at once, and pieces that are kept when it has to go."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from batch_jobs.job_store.job_folder import JobFolder, WorkerJournal
from batch_jobs.job_store.partial_pieces import PartialPieces
from batch_jobs.rendering.attempt import Attempt
from batch_jobs.rendering.journal import Journal
from orchestrion.errors import StoreUnavailable
from orchestrion.models.protocol import Performance
from orchestrion.rendering.checkpoints import KEEP_EVERY_S
from orchestrion.rendering.executor import Executor
from orchestrion.rendering.policy import MAX_COMPLETING, OPEN_AHEAD, catalog_policy
from orchestrion.rendering.renderer import Rendering
from orchestrion.storage.object_store import Objects
from orchestrion.tracks.outcome import Failure, Track
from orchestrion.tracks.spec import TrackSpec
from tests.fake_model import ToneModel
from tests.unit.batch_jobs.committed_job import node
from tests.unit.batch_jobs.rendering.test_worker import HeldClock


class SharedSteps(ToneModel):
    """A model that makes several pieces at once and can go on with what was kept of one. Waits before each chunk."""

    def __init__(self):
        super().__init__("shared")
        self.info = replace(self.info, shares_steps=True)
        self.open_now = self.most_open = 0
        self.resumed_at = []
        self.may_go_on = threading.Semaphore(0)
        #: Of pieces over ten seconds.
        self.long_may_go_on = threading.Semaphore(5)
        self.waits = threading.Event()

    def perform(self, conditioning, *, interactive=True, resume=None, prepared=None):
        whole = list(super().perform(conditioning).chunks)
        done = int(resume) if resume else 0
        self.resumed_at.append(done)
        at = [done]
        may_go_on = self.long_may_go_on if conditioning.duration_s > 10 else self.may_go_on

        def chunks():
            self.open_now += 1
            self.most_open = max(self.most_open, self.open_now)
            try:
                yield from whole[: at[0]]
                while at[0] < len(whole):
                    self.waits.set()
                    may_go_on.acquire()
                    at[0] += 1
                    yield whole[at[0] - 1]
            finally:
                self.open_now -= 1

        return Performance(
            chunks(),
            checkpoint=lambda: str(at[0]).encode() if at[0] else None,
            # A step for one piece moves all of them that may go on.
            work=lambda: may_go_on is self.may_go_on or may_go_on._value > 0,
            is_ready=lambda: may_go_on._value > 0,
        )

    def go_on(self, chunks=10_000):
        self.may_go_on.release(chunks)


def request(seed=0, model="shared", prompt="a tone"):
    values = {"prompt": prompt, "model": model, "duration_s": 2.0, "format": "flac", "seed": seed}
    return TrackSpec.from_json(values).resolve()


@pytest.fixture
def shared(renderer):
    renderer.models = {**renderer.models, "shared": SharedSteps()}
    return renderer.models["shared"]


@pytest.fixture
def clock():
    return HeldClock()


@pytest.fixture
def partials(tmp_path, renderer):
    return PartialPieces(Objects(str(tmp_path / "ledger")), "job-1", renderer.signer)


def running(renderer, partials, clock, mastering_threads):
    executor = Executor(renderer, catalog_policy(2, mastering_threads), clock, checkpoints=partials, sleep=clock.sleep)
    executor.start()
    return executor


@pytest.fixture(params=[0, 1], ids=["one-core", "a-core-beside-the-model"])
def executor(request, renderer, partials, clock, shared):
    executor = running(renderer, partials, clock, request.param)
    yield executor
    shared.go_on()
    executor.close()


def submit(executor, renderer, *requests):
    return [Attempt.begin(executor, one, renderer.track_id(one)) for one in requests]


def test_a_model_with_shared_steps_has_its_slots_full_and_no_more_open_than_one_ahead(executor, renderer, shared):
    shared.go_on()

    attempts = submit(executor, renderer, *(request(seed) for seed in range(7)))

    assert all(isinstance(one.outcome.result(), Track) for one in attempts)
    assert shared.most_open == 2 + OPEN_AHEAD


def test_an_attempt_is_news_for_the_journal_when_its_model_begins_and_is_noted_before_it_ends(
    executor, renderer, shared, tmp_path, clock
):
    folder = JobFolder(Objects(str(tmp_path / "ledger")), "job-1")
    journal = Journal(folder, WorkerJournal("w-1", "run-1", node(), 1.0, clock.now(), clock.now()), clock)
    attempts = [
        Attempt.begin(executor, one, renderer.track_id(one), journal.tell_begun) for one in (request(1), request(2))
    ]
    for line, one in enumerate(attempts, 1):
        journal.note("01-a", line, one)

    assert shared.waits.wait(10), "the model is at work"
    assert journal.wait_for_news(10)
    journal.write()

    begun = folder.journal("w-1").attempts
    assert begun and {(one.shard, one.ended) for one in begun} == {("01-a", None)}
    shared.go_on()
    assert all(isinstance(one.outcome.result(), Track) for one in attempts)


def test_many_attempts_that_begin_are_one_piece_of_news(tmp_path, clock):
    folder = JobFolder(Objects(str(tmp_path / "ledger")), "job-1")
    journal = Journal(folder, WorkerJournal("w-1", "run-1", node(), 1.0, clock.now(), clock.now()), clock)
    for _ in range(32):
        journal.tell_begun()

    assert journal.wait_for_news(0.0)
    journal.write()
    assert not journal.wait_for_news(0.0)


def test_a_short_piece_makes_room_for_the_next_while_a_long_one_goes_on(executor, renderer, shared):
    long = TrackSpec.from_json({"prompt": "a tone", "model": "shared", "duration_s": 60.0, "format": "flac"}).resolve()
    shared.go_on()

    first, *short = submit(executor, renderer, long, *(request(seed) for seed in range(1, 6)))

    assert all(isinstance(one.outcome.result(), Track) for one in short)
    assert not first.outcome.done()


def test_the_audio_is_what_the_renderer_alone_makes(executor, renderer, shared):
    shared.go_on()
    [one] = submit(executor, renderer, request(3))

    audio = renderer.store.get_blob(one.outcome.result().record.audio_key)

    alone = renderer.render(request(3, model="tone"))
    assert audio == renderer.store.get_blob(alone.record.audio_key)


def test_what_is_there_already_is_found_and_is_no_attempt(executor, renderer):
    renderer.render(request(model="tone"))

    [one] = submit(executor, renderer, request(model="tone"))

    assert one.outcome.result().cache_hit
    assert (one.started_at, one.ended, one.device_seconds) == (None, None, 0.0)


@pytest.mark.parametrize(
    "prompt, reason", [("fail", "model-failed"), ("break", "model-failed"), ("silence", "check-failed")]
)
def test_a_piece_that_fails_fails_alone(executor, renderer, prompt, reason):
    bad, good = submit(executor, renderer, request(model="tone", prompt=prompt), request(1, model="tone"))

    assert isinstance(bad.outcome.result(), Failure) and bad.outcome.result().code == reason
    assert isinstance(good.outcome.result(), Track)
    assert (bad.ended, good.ended) == ("failed", "track")


@pytest.mark.parametrize("step", ["find", "shares_steps", "open", "master", "publish"])
def test_an_error_that_nobody_foresaw_fails_its_piece_and_the_executor_goes_on(executor, renderer, monkeypatch, step):
    owner = Rendering if step in ("master", "publish") else renderer
    real, broken = getattr(owner, step), [True]

    def break_once(*arguments, **options):
        if broken and broken.pop():
            raise ZeroDivisionError
        return real(*arguments, **options)

    monkeypatch.setattr(owner, step, break_once)
    [bad] = submit(executor, renderer, request(1, model="tone"))
    assert (bad.outcome.result().code, bad.outcome.result().retryable) == ("internal", False)

    [good] = submit(executor, renderer, request(2, model="tone"))
    assert isinstance(good.outcome.result(), Track)


@pytest.mark.parametrize("mastering_threads, in_one", [(0, True), (1, False)])
def test_a_process_with_one_core_masters_where_it_generates(
    renderer, partials, clock, monkeypatch, mastering_threads, in_one
):
    threads = {}

    def noted(owner, step):
        real = getattr(owner, step)

        def note(*arguments, **options):
            threads[step] = threading.current_thread()
            return real(*arguments, **options)

        monkeypatch.setattr(owner, step, note)

    noted(renderer, "open")
    noted(Rendering, "master")
    noted(Rendering, "publish")
    executor = running(renderer, partials, clock, mastering_threads)
    submit(executor, renderer, request(model="tone"))[0].outcome.result()
    executor.close()

    assert (threads["master"] is threads["open"]) == in_one
    assert threads["publish"] not in (threads["open"], threads["master"])


def test_the_model_goes_on_while_the_store_is_slow_until_enough_wait_for_it(executor, renderer, monkeypatch):
    model, answers, asked = renderer.models["tone"], threading.Event(), threading.Semaphore(0)
    put_blob, opened = renderer.store.put_blob, renderer.open

    def slow(*arguments):
        answers.wait()
        return put_blob(*arguments)

    def noted(*arguments, **options):
        asked.release()
        return opened(*arguments, **options)

    monkeypatch.setattr(renderer.store, "put_blob", slow)
    monkeypatch.setattr(renderer, "open", noted)
    attempts = submit(executor, renderer, *(request(seed, model="tone") for seed in range(3 * MAX_COMPLETING)))
    for _ in range(MAX_COMPLETING):
        asked.acquire()
    # Then there is no room: nothing more is begun, however long the store takes.
    assert not asked.acquire(timeout=0.2) and model.performed == MAX_COMPLETING

    answers.set()
    assert all(isinstance(one.outcome.result(), Track) for one in attempts)


def test_a_stopped_executor_begins_nothing_and_finishes_what_is_open_within_its_time(executor, renderer, shared):
    attempts = submit(executor, renderer, *(request(seed) for seed in range(6)))
    shared.waits.wait()
    executor.stop(within_s=60.0)
    shared.go_on()

    outcomes = [one.outcome.result() for one in attempts]

    begun = [one for one in attempts if one.started_at is not None]
    assert 1 <= len(begun) <= 2 + OPEN_AHEAD
    assert [isinstance(one, Track) for one in outcomes] == [one in begun for one in attempts]
    assert submit(executor, renderer, request(9))[0].outcome.result() is None


def test_what_is_open_when_the_time_is_over_is_kept_and_another_process_goes_on_from_there(
    executor, renderer, shared, partials, clock
):
    [one] = submit(executor, renderer, request(1))
    shared.waits.wait()
    shared.go_on(2)
    executor.stop(within_s=0.0)
    shared.go_on(1)
    assert one.outcome.result() is None and one.ended == "kept"
    kept_chunks = int(partials.partial(one.track_id))

    fresh = running(renderer, partials, clock, 1)
    shared.go_on()
    [again] = submit(fresh, renderer, request(1))
    track = again.outcome.result()
    fresh.close()

    assert kept_chunks > 0 and shared.resumed_at == [0, kept_chunks]
    alone = renderer.render(request(1, model="tone"))
    assert track.record.audio_sha256 == alone.record.audio_sha256
    assert partials.partial(one.track_id) is None


def test_a_stopped_line_waits_for_the_store_within_its_time_and_leaves_the_piece_to_others(
    executor, renderer, clock, monkeypatch
):
    def away(*_):
        executor.stop(within_s=20.0)
        raise StoreUnavailable("away")

    monkeypatch.setattr(renderer.store, "put_blob", away)

    [one] = submit(executor, renderer, request(1, model="tone"))

    assert one.outcome.result() is None and one.ended == "stopped"
    assert 20.0 <= clock.at_s < 40.0


def test_a_piece_that_cannot_be_kept_is_given_up_as_stopped(executor, renderer, shared, partials, monkeypatch):
    def away(*_):
        raise StoreUnavailable("away")

    monkeypatch.setattr(partials, "keep_partial", away)
    [one] = submit(executor, renderer, request(1))
    shared.waits.wait()
    executor.stop(within_s=0.0)
    shared.go_on(1)

    assert one.outcome.result() is None and one.ended == "stopped"


def test_a_long_piece_is_kept_now_and_then_against_a_sudden_death(executor, renderer, shared, partials, clock):
    [one] = submit(executor, renderer, request(1))
    shared.waits.wait()
    clock.at_s += KEEP_EVERY_S
    shared.waits.clear()
    shared.go_on(1)
    shared.waits.wait()

    assert partials.partial(one.track_id) == b"1"
    shared.go_on()
    assert isinstance(one.outcome.result(), Track)
    assert partials.partial(one.track_id) is None


def test_closing_twice_ends_the_threads(renderer, partials, clock):
    executor = running(renderer, partials, clock, 1)
    executor.close()
    executor.close()

    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith(("render", "prepare", "master", "store"))
    ]


def test_the_numbers_of_a_piece_are_finite(executor, renderer):
    [one] = submit(executor, renderer, request(5, model="tone"))
    one.outcome.result()

    assert np.isfinite(one.device_seconds) and one.started_at <= one.ended_at
