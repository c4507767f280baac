"""What a render process learns about its own node, without Ray."""

from datetime import UTC, datetime

import pytest
from ray.exceptions import RpcError

from batch_jobs.rendering.preemption import NO_DEADLINE, NodeDrain, NodeIdentity, node_of_this_process

MINE, OTHER = "ab" * 28, "cd" * 28


class FakeGcs:
    """Answers with what `draining` says, or raises it."""

    def __init__(self, draining):
        self.draining = draining

    def get_draining_nodes(self, *, timeout):
        assert 0 < timeout <= 5, "a process that renders may not hang on Ray's control service"
        if isinstance(self.draining, Exception):
            raise self.draining
        return self.draining


def test_a_node_that_stays_has_no_deadline_also_when_others_go():
    assert NodeDrain(MINE, FakeGcs({})).deadline() is None
    assert NodeDrain(MINE, FakeGcs({OTHER: 1_800_000_000_000})).deadline() is None


def test_a_draining_node_says_when_it_goes():
    drain = NodeDrain(MINE, FakeGcs({OTHER: 1, MINE: 1_800_000_000_500}))

    assert drain.deadline() == datetime(2027, 1, 15, 8, 0, 0, 500_000, tzinfo=UTC)


@pytest.mark.parametrize("unix_ms", [0, 2**63 - 1])
def test_a_drain_without_a_deadline_is_a_drain_all_the_same(unix_ms):
    assert NodeDrain(MINE, FakeGcs({MINE: unix_ms})).deadline() == NO_DEADLINE


def test_a_later_notice_may_move_the_deadline():
    gcs = FakeGcs({MINE: 1_800_000_060_000})
    drain = NodeDrain(MINE, gcs)
    first = drain.deadline()

    gcs.draining = {MINE: 1_800_000_000_000}

    assert (first - drain.deadline()).total_seconds() == 60


def test_nobody_knows_is_none():
    assert NodeDrain(MINE, FakeGcs(RpcError("Deadline Exceeded"))).deadline() is None


def test_a_known_deadline_outlives_rays_silence():
    gcs = FakeGcs({MINE: 1_800_000_000_000})
    drain = NodeDrain(MINE, gcs)
    known = drain.deadline()

    gcs.draining = RpcError("Timed out while waiting for GCS to become available.")

    assert known is not None
    assert drain.deadline() == known


def test_rays_silence_is_told_once_and_not_each_second(caplog):
    gcs = FakeGcs(RpcError("Deadline Exceeded"))
    drain = NodeDrain(MINE, gcs)

    for _ in range(3):
        drain.deadline()

    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    "labels, expected",
    [
        ({"ray.io/market-type": "spot", "orchestrion/node-type": "g6.xlarge"}, NodeIdentity(MINE, "g6.xlarge", "spot")),
        ({"ray.io/node-id": MINE}, NodeIdentity(MINE, None, None, None)),
        ({"orchestrion/machine": "box-7"}, NodeIdentity(MINE, None, None, "box-7")),
    ],
)
def test_a_node_is_what_its_labels_say(monkeypatch, labels, expected):
    class Context:
        def get_node_id(self):
            return MINE

        def get_node_labels(self):
            return labels

    monkeypatch.setattr("ray.get_runtime_context", Context)

    assert node_of_this_process() == expected
