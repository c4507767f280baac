"""When a call is made again: only what may pass, after the pause that was asked for, and not for ever."""

import httpx
import pytest

from orchestrion.client import Unreachable
from orchestrion.errors import Internal, InvalidRequest, ModelFailed, Overloaded, RightsRefused, Stalled, Withdrawn
from orchestrion.tracks.spec import TrackSpec
from tests.unit.client.service import Prepared, Waiting, client_of, problem

SUMMARY = {"id": "trk_1", "cache": "miss", "version": 1, "links": {"self": "/v1/tracks/trk_1"}, "record": {"seed": 7}}
MADE = httpx.Response(201, json=SUMMARY)
SPEC = TrackSpec(prompt="calm piano", seed=7)


def test_who_is_refused_comes_back_when_told_and_asks_for_the_same():
    service, waiting = Prepared(problem(503, "overloaded", retry_after_s=7), MADE), Waiting()

    made = client_of(service, waiting).create(SPEC)

    assert (made.track_id, made.cache_hit, made.record["seed"]) == ("trk_1", False, 7)
    assert waiting.slept_s == [7.0]
    first, second = service.asked
    assert first.content == second.content and first.url == second.url


def test_chance_only_makes_a_pause_longer():
    service, waiting = Prepared(problem(503, "stalled", retry_after_s=8), MADE), Waiting()

    client_of(service, waiting, chance=lambda: 0.5).create(SPEC)

    assert waiting.slept_s == [9.0]


def test_a_service_that_does_not_answer_is_asked_again_after_growing_pauses():
    service, waiting = Prepared(httpx.ConnectError("refused")), Waiting()

    with pytest.raises(Unreachable, match=r"http://localhost.* did not answer: ConnectError"):
        client_of(service, waiting).models()

    assert len(service.asked) == 3
    assert waiting.slept_s == [0.5, 1.0]


def test_the_last_refusal_is_the_error():
    service = Prepared(problem(503, "overloaded", retry_after_s=1), problem(503, "stalled", "a step hangs"))

    with pytest.raises(Stalled, match="a step hangs"):
        client_of(service, retries=1).create(SPEC)

    assert len(service.asked) == 2


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (400, "malformed", InvalidRequest),
        (403, "rights-refused", RightsRefused),
        (410, "withdrawn", Withdrawn),
        (422, "invalid-request", InvalidRequest),
        (500, "internal", Internal),
        (500, "model-failed", ModelFailed),
    ],
)
def test_what_would_be_refused_again_is_not_asked_again(status, reason, kind):
    service, waiting = Prepared(problem(status, reason)), Waiting()

    with pytest.raises(kind, match="so it is"):
        client_of(service, waiting).create(SPEC)

    assert (len(service.asked), waiting.slept_s) == (1, [])


def test_nobody_waits_for_what_would_be_too_late():
    service, waiting = Prepared(problem(503, "overloaded", retry_after_s=40)), Waiting()

    with pytest.raises(Overloaded) as refused:
        client_of(service, waiting, retries=9, deadline_s=100.0).create(SPEC)

    assert waiting.slept_s == [40.0, 40.0]
    assert refused.value.retry_after_s == 40.0


def test_a_try_may_take_what_is_left_of_the_deadline():
    service, waiting = Prepared(problem(503, "overloaded", retry_after_s=40), MADE), Waiting()

    client_of(service, waiting, deadline_s=100.0).create(SPEC)

    last_s = service.asked[-1].extensions["timeout"]
    assert (last_s["connect"], last_s["read"]) == (5.0, 60.0)


def test_readiness_is_asked_once():
    service, waiting = Prepared(problem(503, "not-ready", retry_after_s=5), httpx.Response(200, json={})), Waiting()
    client = client_of(service, waiting)

    assert [client.ready(), client.ready()] == [False, True]
    assert waiting.slept_s == []
    assert client_of(Prepared(httpx.ConnectTimeout("late"))).ready() is False
