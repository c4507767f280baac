"""A store or a ledger that takes nothing: nothing is rendered that cannot be kept, and nothing finished is lost."""

import threading

import pytest

from batch_jobs.rendering.worker import COMMITTED, GIVEN_UP
from orchestrion.errors import StoreUnavailable
from orchestrion.rendering.policy import CATALOG_UPLOADS, MAX_COMPLETING
from orchestrion.resilience.store_retry import STORE_RETRY_S
from tests.unit.batch_jobs.rendering.test_worker import HeldClock, Workplace

ROWS = 40
#: Finished and held in memory, and in the slot when the first of them is refused.
IN_HAND = MAX_COMPLETING + 1


class FullDisk:
    """A store whose disk has no room for audio from the third blob on, until `room_at_s`; for notes there is room."""

    def __init__(self, store, model, clock, room_at_s):
        self.store, self.model, self.clock, self.room_at_s = store, model, clock, room_at_s
        self.blobs = 0
        #: Pieces begun when a blob was refused, and when it was.
        self.begun = []

    def __getattr__(self, name):
        return getattr(self.store, name)

    def put_blob(self, data, suffix):
        self.blobs += 1
        if self.blobs > 2 and self.clock.at_s < self.room_at_s:
            self.begun.append((self.clock.at_s, self.model.performed))
            raise StoreUnavailable("no space left on device")
        return self.store.put_blob(data, suffix)

    def probe(self, size):
        if self.clock.at_s < self.room_at_s:
            raise StoreUnavailable("no space left on device")


@pytest.fixture
def workplace(tmp_path, renderer):
    made = []

    def make(room_at_s):
        clock = HeldClock()
        renderer.store = FullDisk(renderer.store, renderer.models["tone"], clock, room_at_s)
        made.append(Workplace(tmp_path, renderer, clock, "w-1"))
        return made[-1]

    yield make
    for each in made:
        each.executor.close()


@pytest.fixture
def shards(plan_of):
    return list(plan_of(*({"seed": seed} for seed in range(ROWS)), requests_per_shard=ROWS // 2).open_shards())


def test_a_full_disk_stops_rendering_at_once_and_goes_on_when_there_is_room(shards, workplace):
    here = workplace(room_at_s=300.0)
    disk = here.renderer.store

    summary = here.take(shards[0])

    assert (summary["state"], summary["tracks"]) == (COMMITTED, ROWS // 2)
    assert max(begun for _, begun in disk.begun) <= 2 + IN_HAND, "rendered what could not be kept"
    assert here.renderer.models["tone"].performed == ROWS // 2, "rendered something twice"
    begin = HeldClock().now()
    began_s = [(row["started_at"] - begin).total_seconds() for row in here.rows(shards[0], "attempt")]
    # One may have had its turn when the first was refused.
    assert sum(disk.begun[0][0] < at_s < 300.0 for at_s in began_s) <= 1


def test_a_disk_that_stays_full_ends_every_shard_after_one_time_of_waiting(shards, workplace):
    here = workplace(room_at_s=1e9)

    summaries = [here.take(shard) for shard in shards]

    assert {(each["state"], each["reason"]) for each in summaries} == {(GIVEN_UP, "no space left on device")}
    assert here.renderer.models["tone"].performed <= 2 + IN_HAND
    assert sum(here.pauses) <= (CATALOG_UPLOADS + 1) * STORE_RETRY_S
    assert here.folder.claims(shards[1].name) == {}, "a shard that this worker cannot make is another's"


def test_a_ledger_that_takes_no_journal_holds_up_what_is_not_begun(shards, workplace):
    here = workplace(room_at_s=0.0)

    def refuse():
        raise StoreUnavailable("the ledger is read-only")

    with pytest.raises(StoreUnavailable):
        here.ledger.writing.try_once("journal", refuse, size=1)
    states = []
    taken = threading.Thread(target=lambda: states.append(here.worker._render(*rendered_rows(here, shards[0]))))
    taken.start()
    taken.join(0.3)
    assert taken.is_alive() and here.renderer.models["tone"].performed == 0

    here.ledger.writing.try_once("journal", lambda: None, size=1)
    taken.join()
    assert len(states[0]) == here.renderer.models["tone"].performed == ROWS // 2


def rendered_rows(here, shard):
    """What `_render` is given of a shard that is claimed."""
    rows = [here.worker._row(row) for row in shard.block().to_pylist()]
    return shard.name, {row.track_id: row for row in rows}, here.worker._previous(shard.name)
