"""What a notice means, and what the watcher does with answers, silence and nonsense of metadata servers."""

import json
import signal
import sys
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.preemption import watcher as preemption_watcher
from cluster.preemption.drain_node import nodes_to_drain
from cluster.preemption.watcher import Aws, Azure, File, Gcp, Notice, Terminated, drain, watch
from cluster.ray_internals import RayNode
from orchestrion.errors import NotFound

NOW = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
INSTANCE_ACTION = "/latest/meta-data/spot/instance-action"
REBALANCE = "/latest/meta-data/events/recommendations/rebalance"
GCP = "/computeMetadata/v1/instance/"


class FakeClock:
    def __init__(self, now=NOW):
        self.at = now

    def now(self):
        return self.at

    def monotonic_s(self):
        return self.at.timestamp()

    def sleep(self, seconds):
        self.at += timedelta(seconds=seconds)


class MetadataServer:
    """Paths and what they answer: text, a status, or an exception. Demands the headers that the real ones demand."""

    def __init__(self, answers, date=None):
        self.answers = answers
        self.date = date
        self.tokens = 0

    def client(self):
        return httpx.Client(base_url="http://metadata", transport=httpx.MockTransport(self.answer))

    def answer(self, request):
        path = request.url.path
        if path == "/latest/api/token":
            if request.method != "PUT" or not 0 < int(request.headers["X-aws-ec2-metadata-token-ttl-seconds"]) <= 21600:
                return httpx.Response(400)
            self.tokens += 1
            return self.said(f"token-{self.tokens}")
        if path.startswith("/latest/") and request.headers.get("X-aws-ec2-metadata-token") != f"token-{self.tokens}":
            return httpx.Response(401)
        if path.startswith("/computeMetadata/") and request.headers.get("Metadata-Flavor") != "Google":
            return httpx.Response(403)
        if path.startswith("/metadata/") and (
            request.headers.get("Metadata") != "true" or "api-version" not in request.url.params
        ):
            return httpx.Response(400)
        said = self.answers.get(path, 404)
        if isinstance(said, Exception):
            raise said
        return self.said(said)

    def said(self, said):
        headers = {"date": self.date} if self.date else {}
        return (
            httpx.Response(said, headers=headers)
            if isinstance(said, int)
            else httpx.Response(200, text=said, headers=headers)
        )


def left_s(notice):
    return (notice.deadline - NOW).total_seconds()


def azure_events(*events):
    defaults = {"EventStatus": "Scheduled", "Resources": ["render_3"], "NotBefore": "Sun, 22 Nov 2026 10:00:40 GMT"}
    return json.dumps({"DocumentIncarnation": 2, "Events": [defaults | event for event in events]})


def azure(body):
    answers = {"/metadata/instance/compute/name": "render_3", "/metadata/scheduledevents": body}
    return Azure(MetadataServer(answers).client())


# AWS


def test_aws_has_nothing_to_say_most_of_the_time():
    assert Aws(MetadataServer({}).client(), rebalance=True).poll(NOW) is None


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
def test_aws_says_until_when(action):
    body = json.dumps({"action": action, "time": "2026-11-22T10:01:50Z"})

    notice = Aws(MetadataServer({INSTANCE_ACTION: body}).client(), rebalance=False).poll(NOW)

    assert (left_s(notice), action in notice.reason) == (110, True)


@pytest.mark.parametrize(
    "said, seconds",
    [
        ("2026-11-22T09:59:00Z", 1),  # it should be over already
        ("2031-01-01T00:00:00Z", 120),  # longer than EC2 ever gives
        ("2026-11-22T11:01:00+01:00", 60),
        ("2026-11-22T10:00:20", 20),
        ("soon", 30),
        (None, 30),
        (17, 30),
    ],
)
def test_a_time_that_cannot_be_is_brought_to_one_that_can(said, seconds):
    body = json.dumps({"action": "terminate", "time": said})

    assert left_s(Aws(MetadataServer({INSTANCE_ACTION: body}).client(), rebalance=False).poll(NOW)) == seconds


@pytest.mark.parametrize("action", ["\0stop", "\ud800", "x" * 10_000])
def test_a_reason_can_be_handed_to_a_command_whatever_was_said(action):
    body = json.dumps({"action": action})

    notice = Aws(MetadataServer({INSTANCE_ACTION: body}).client(), rebalance=False).poll(NOW)

    assert notice.reason.isascii() and notice.reason.isprintable() and len(notice.reason) < 200


def test_seconds_left_are_right_on_a_machine_whose_clock_is_wrong():
    body = json.dumps({"action": "terminate", "time": "2026-11-22T08:02:00Z"})
    two_hours_behind = MetadataServer({INSTANCE_ACTION: body}, date="Sun, 22 Nov 2026 08:00:30 GMT")

    assert left_s(Aws(two_hours_behind.client(), rebalance=False).poll(NOW)) == 90


def test_a_rebalance_recommendation_counts_only_where_it_is_asked_for():
    server = MetadataServer({REBALANCE: '{"noticeTime": "2026-11-22T09:59:58Z"}'})

    assert Aws(server.client(), rebalance=False).poll(NOW) is None
    assert left_s(Aws(server.client(), rebalance=True).poll(NOW)) == 120


def test_a_token_that_has_expired_is_fetched_anew():
    server = MetadataServer({})
    aws = Aws(server.client(), rebalance=False)
    aws.poll(NOW)
    server.tokens += 1  # the server now expects another one

    with pytest.raises(httpx.HTTPStatusError):
        aws.poll(NOW)

    assert aws.poll(NOW) is None


# Google Cloud


@pytest.mark.parametrize(
    "preempted, maintenance, seconds",
    [
        ("FALSE", "NONE", None),
        ("FALSE\n", "MIGRATE_ON_HOST_MAINTENANCE", None),
        ("FALSE", "TERMINATE_ON_HOST_MAINTENANCE", 60),
        ("TRUE\n", "NONE", 30),
        ("TRUE", "TERMINATE_ON_HOST_MAINTENANCE", 30),
    ],
)
def test_google_says_true_or_names_its_maintenance(preempted, maintenance, seconds):
    server = MetadataServer({f"{GCP}preempted": preempted, f"{GCP}maintenance-event": maintenance})

    notice = Gcp(server.client()).poll(NOW)

    assert (notice and left_s(notice)) == seconds


def test_a_preemption_is_heard_also_where_maintenance_is_not_told():
    server = MetadataServer({f"{GCP}preempted": "TRUE", f"{GCP}maintenance-event": 503})

    assert left_s(Gcp(server.client()).poll(NOW)) == 30


# Azure


@pytest.mark.parametrize(
    "event, seconds",
    [
        ({"EventType": "Preempt"}, 40),
        ({"EventType": "Terminate"}, 40),
        ({"EventType": "Preempt", "NotBefore": "", "EventStatus": "Started"}, 30),
        ({"EventType": "Preempt", "NotBefore": "Sun, 22 Nov 2026 09:00:00 GMT"}, 1),
        ({"EventType": "Preempt", "Resources": ["render_2", "render_3"]}, 40),
        ({"EventType": "Preempt", "Resources": ["render_2", "render_31"]}, None),
        ({"EventType": "Preempt", "Resources": "render_31"}, None),
        ({"EventType": "Freeze"}, None),
    ],
)
def test_azure_tells_a_whole_scale_set_and_only_the_named_machine_goes(event, seconds):
    notice = azure(azure_events({"EventType": "Reboot"}, event)).poll(NOW)

    assert (notice and left_s(notice)) == seconds


def test_azure_without_events_is_quiet():
    assert azure('{"DocumentIncarnation": 1, "Events": []}').poll(NOW) is None


# A file


@pytest.mark.parametrize(
    "text, seconds", [("", 30), ("90\n", 90), ("nan", 30), ("-5", 1), ("1e300", 30), ("x" * 999, 30)]
)
def test_a_file_that_appears_is_a_notice(tmp_path, text, seconds):
    path = tmp_path / "preempted"
    assert File(path).poll(NOW) is None

    path.write_text(text)

    assert left_s(File(path).poll(NOW)) == seconds


# Nonsense


TROUBLE = [
    500,
    503,
    403,
    302,
    httpx.ReadTimeout("slow"),
    httpx.ConnectError("refused"),
    "<html>login</html>",
    "[]",
    "{",
]


def providers(trouble):
    answers = dict.fromkeys(
        [INSTANCE_ACTION, REBALANCE, f"{GCP}preempted", f"{GCP}maintenance-event", "/metadata/scheduledevents"], trouble
    )
    server = MetadataServer(answers | {"/metadata/instance/compute/name": "render_3"})
    return [Aws(server.client(), rebalance=True), Gcp(server.client()), Azure(server.client())]


@pytest.mark.parametrize("trouble", TROUBLE, ids=str)
@pytest.mark.parametrize("which", [0, 1, 2], ids=["aws", "gcp", "azure"])
def test_a_metadata_server_in_trouble_is_asked_again_and_no_notice(which, trouble, caplog):
    provider = providers(trouble)[which]
    pauses = iter([False] * 4 + [True])

    assert watch(provider, FakeClock(), lambda _: next(pauses), 2.0) is None
    assert len(caplog.records) == 1, "trouble is told once, not at each question"


def test_a_notice_after_trouble_is_heard():
    server = MetadataServer({INSTANCE_ACTION: 503})
    polls = iter([503, httpx.ReadTimeout("slow"), '{"action": "stop", "time": "2026-11-22T10:02:00Z"}'])

    def pause(_seconds):
        server.answers[INSTANCE_ACTION] = next(polls)
        return False

    assert left_s(watch(Aws(server.client(), rebalance=False), FakeClock(), pause, 2.0)) == 120


@given(st.text() | st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=5).map(json.dumps))
def test_no_answer_breaks_the_watcher(text):
    for provider in providers(text):
        watch(provider, FakeClock(), lambda _: True, 2.0)


@pytest.mark.parametrize("token", ["tok\nen", "t\u00f6ken", "\x00"])
def test_a_token_that_is_none_is_not_kept(token):
    server = MetadataServer({})
    right, server.said = server.said, lambda _: httpx.Response(200, text=token)
    aws = Aws(server.client(), rebalance=False)
    with pytest.raises(ValueError):
        aws.poll(NOW)

    server.said = right

    assert aws.poll(NOW) is None


# SIGTERM


def test_a_signal_at_any_instant_of_a_wait_is_heard_and_the_wait_goes_on():
    def stuck(*_):
        raise TimeoutError("the wait never ended")

    def interrupt(frame, event, _):
        # `raise_signal` runs the handler before the next line: once at each line of the wait and of what it calls.
        if event == "line" and frame.f_code.co_name != "_heard":
            signal.raise_signal(signal.SIGTERM)
        return interrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    signal.signal(signal.SIGALRM, stuck)
    signal.alarm(20)
    try:
        terminated = Terminated()
        assert not terminated.wait(0)
        sys.settrace(interrupt)
        try:
            heard = terminated.wait(0)
        finally:
            sys.settrace(None)
        assert heard and terminated.wait(0)
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


# Draining


def test_a_drain_is_tried_until_ray_takes_it():
    clock, tries = FakeClock(), []

    def taken_at_the_third(notice):
        tries.append(clock.now())
        return len(tries) == 3

    assert drain(Notice("test", NOW + timedelta(seconds=30)), taken_at_the_third, clock, clock.sleep)
    assert tries[1] > tries[0], "a head that is away is not hammered"


def test_a_drain_is_given_up_when_the_machine_should_be_gone():
    clock = FakeClock()

    assert not drain(Notice("test", NOW + timedelta(seconds=30)), lambda _: False, clock, clock.sleep)
    assert timedelta(seconds=30) <= clock.now() - NOW < timedelta(seconds=35)


def test_a_drain_is_tried_once_even_when_time_is_over():
    clock = FakeClock()

    assert drain(Notice("test", NOW - timedelta(seconds=1)), lambda _: True, clock, clock.sleep)


A, B, DEAD = RayNode("a", "10.0.0.7", True), RayNode("b", "10.0.0.7", True), RayNode("d", "10.0.0.9", False)


def test_all_living_nodes_of_the_machine_are_drained():
    assert nodes_to_drain([A, B, DEAD], "10.0.0.7") == ("a", "b")
    assert nodes_to_drain([A, B, DEAD], "10.0.0.7", node_id="b") == ("b",)


def test_a_node_that_is_dead_needs_no_drain():
    assert nodes_to_drain([A, DEAD], "10.0.0.9") == ()


@pytest.mark.parametrize("ip, node_id", [("10.0.0.1", None), ("10.0.0.7", "x")])
def test_a_node_that_ray_has_never_seen_is_not_taken_for_drained(ip, node_id):
    with pytest.raises(NotFound, match=node_id or "--node-ip"):
        nodes_to_drain([A, DEAD], ip, node_id)


# The command


@pytest.mark.parametrize(
    "arguments, remedy",
    [
        (["--provider", "file", "--address", "h:1"], "--file PATH"),
        (["--provider", "aws", "--file", "x", "--address", "h:1"], "--file PATH"),
        (["--provider", "aws"], "--address"),
        (["--provider", "aws", "--address", "h:1", "--poll-s", "0"], "above 0"),
        (["--provider", "aws", "--address", "h:1", "--on-sigterm", "nan"], "above 0"),
        (["--provider", "ibm", "--address", "h:1"], "aws"),
    ],
)
def test_unusable_arguments_end_in_2_and_say_what_is_missing(arguments, remedy, monkeypatch, capsys):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    with pytest.raises(SystemExit) as ended:
        preemption_watcher.main(arguments)

    assert ended.value.code == 2
    assert remedy in capsys.readouterr().err
