"""Full queues, clients that leave, replicas that die, and what the metrics say of it all."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.app.hanging_pool import HANG

#: Seconds in which Serve begins to replace a replica that is stuck, after `STALL_S`; and what a new one takes to start.
REPLACED_S, STARTED_S = 20, 60


def until(condition, timeout_s):
    """The first true answer of `condition`, asked a few times a second."""
    deadline_s = time.monotonic() + timeout_s
    while not (answer := condition()) and time.monotonic() < deadline_s:
        time.sleep(0.2)
    return answer


def make(url, **fields):
    return httpx.post(f"{url}/v1/tracks", json={"prompt": "techno", **fields}, timeout=120)


def test_a_full_queue_answers_503_and_says_when_to_return(service):
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda seed: make(service.tiny_url, duration_s=15, seed=seed), range(6)))

    made = [answer for answer in answers if answer.status_code == 201]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(made) + len(refused) == 6
    # One slot and one place: at least two are made, and six at once are more than fit.
    assert len(made) >= 2
    assert refused
    for answer in refused:
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["type"] == "urn:orchestrion:problem:overloaded"


def test_links_stay_below_the_prefix_of_the_application(service):
    answer = make(service.tiny_url, duration_s=1)

    assert answer.headers["location"].startswith("/tiny/v1/tracks/trk_")
    assert httpx.get(service.tiny_url + answer.json()["links"]["audio"].removeprefix("/tiny")).status_code == 200


def test_a_client_that_disconnects_frees_its_slot_and_nothing_is_stored(service):
    body = {"prompt": "trance", "duration_s": 170}
    with httpx.stream("POST", f"{service.tiny_url}/v1/tracks/stream", json=body, timeout=60) as left:
        assert left.status_code == 200, left.read()
        next(left.iter_raw())
        track_id = left.headers["x-track-id"]

    # There is one slot: this one is made only once the abandoned track has let go of it.
    assert until(lambda: make(service.tiny_url, duration_s=1, seed=77).status_code in (200, 201), timeout_s=30)
    assert httpx.get(f"{service.tiny_url}/v1/tracks/{track_id}").status_code == 404


def test_a_stream_is_sent_at_its_pace_however_fast_it_is_made(service):
    body = {"prompt": "ambient", "duration_s": 26, "seed": 5}
    with httpx.stream("POST", f"{service.tiny_url}/v1/tracks/stream?format=pcm", json=body, timeout=60) as answer:
        pieces = answer.iter_raw()
        first = next(pieces)
        started_s = time.monotonic()
        rest = b"".join(pieces)

    # 26 s less 2 s of lead at 8 times their speed are 3 s, however fast the machine is; the pieces are about 0.5 s.
    assert time.monotonic() - started_s > 2.5
    assert len(first) + len(rest) == 26 * 44_100 * 4


def test_a_killed_replica_is_replaced_and_the_next_request_succeeds(service):
    (victim,) = service.replica_pids("tiny", "low-latency")

    os.kill(victim, signal.SIGKILL)

    answer = make(service.tiny_url, duration_s=1, seed=99)
    assert answer.status_code == 201, answer.text
    assert service.replica_pids("tiny", "low-latency") != [victim]


def test_a_hung_replica_is_replaced_and_those_who_wait_for_it_are_told(service):
    (hung,) = service.replica_pids("tiny", "low-latency")

    with ThreadPoolExecutor(1) as threads, pytest.raises(httpx.RemoteProtocolError):
        body = {"prompt": f"lofi, {HANG}", "duration_s": 20}
        with httpx.stream("POST", f"{service.tiny_url}/v1/tracks/stream", json=body, timeout=60) as stream:
            assert stream.status_code == 200, stream.read()
            beside = threads.submit(make, service.tiny_url, duration_s=1, seed=100)
            for _ in stream.iter_raw():
                pass
        # It is broken off: that it ends well would say that the track is whole.

    assert beside.result().status_code == 503
    assert beside.result().json()["type"] == "urn:orchestrion:problem:stalled"
    assert int(beside.result().headers["retry-after"]) >= 1
    assert until(lambda: not psutil.pid_exists(hung), timeout_s=REPLACED_S)
    assert until(lambda: make(service.tiny_url, duration_s=1, seed=101).status_code in (200, 201), timeout_s=STARTED_S)
    (replica,) = service.replica_pids("tiny", "low-latency")
    assert replica != hung


def test_rays_prometheus_endpoint_shows_the_declared_metrics(service, client, track):
    wanted = {
        "ray_orchestrion_requests_total{": 'outcome="ok"',
        "ray_orchestrion_time_to_first_audio_seconds_bucket{": 'pool="low-latency"',
        "ray_orchestrion_queue_depth{": 'pool="low-latency"',
        "ray_orchestrion_device_seconds_total{": 'model="composer"',
        "ray_orchestrion_cost_usd_total{": 'market="on-demand"',
        "ray_orchestrion_failures_total{": 'reason="invalid-request"',
    }
    client.post("/v1/tracks", json={"prompt": "calm", "model": "no-such-model"})

    def all_shown():
        lines = httpx.get(service.metrics_url).text.splitlines()
        return all(any(line.startswith(name) and label in line for line in lines) for name, label in wanted.items())

    assert until(all_shown, timeout_s=30)
    assert "no-such-model" not in httpx.get(service.metrics_url).text
