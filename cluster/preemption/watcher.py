"""Tell Ray before the cloud takes a spot machine away: `python -m cluster.preemption.watcher --provider aws`.

It runs on each spot node, asks the provider's metadata server every two seconds, and drains the machine's Ray node once
there is a notice: 120 s ahead on AWS, 30 s on Google Cloud and Azure. Nothing that ships with Ray or KubeRay does this.
It never imports Ray: the drain is a process of its own (`cluster.preemption.drain_node`), because Ray's client blocks
for 40 s when the head is away, and a notice may be shorter than that.

Exit codes: 0 the node is draining · 2 unusable arguments · 3 Ray had not taken the drain when the time was over ·
143 ended by SIGTERM without --on-sigterm.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from orchestrion.clock import Clock, SystemClock
from orchestrion.errors import shown

logger = logging.getLogger("preemption_watcher")

EXIT_DRAINED: Final = 0
EXIT_NOT_DRAINED: Final = 3
EXIT_TERMINATED: Final = 128 + signal.SIGTERM

#: Where all three keep their metadata server.
METADATA_URL: Final = "http://169.254.169.254"
#: A metadata server on the same machine answers in milliseconds; Azure's first answer may take two minutes.
METADATA_TIMEOUT_S: Final = 2.0
#: A notice whose time is missing or unreadable is taken for the shortest that any of the three gives.
UNTIMED_S: Final = 30.0
#: A deadline in the past still leaves the render processes this long to hear of it.
SHORTEST_S: Final = 1.0
AWS_LONGEST_S: Final = 120.0
GCP_PREEMPTION_S: Final = 30.0
#: Google announces host maintenance 60 s ahead, for machines with GPUs an hour: then it is only sooner than need be.
GCP_MAINTENANCE_S: Final = 60.0
AZURE_LONGEST_S: Final = 900.0
FILE_LONGEST_S: Final = 3600.0
AWS_TOKEN_LIFE_S: Final = 21_600
#: One call to drain: starting Python and Ray's client takes one to three seconds on a busy machine.
TRY_TIMEOUT_S: Final = 15.0
TRY_PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Notice:
    """That this machine will be taken away. `deadline` is UTC by this machine's own clock."""

    reason: str
    deadline: datetime


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant by two clocks, so that a machine whose clock is wrong still counts the seconds that are left."""

    own: datetime
    provider: datetime

    def notice(self, reason: str, at: datetime | None, longest_s: float) -> Notice:
        """A notice for `at` on the provider's clock, kept within what this provider is known to give."""
        left_s = UNTIMED_S if at is None else (at - self.provider).total_seconds()
        return Notice(reason, self.own + timedelta(seconds=min(max(left_s, SHORTEST_S), longest_s)))


# What the answers mean


def aws_notice(body: str, moment: Moment) -> Notice:
    """A notice from `spot/instance-action`: {"action": "terminate", "time": "2026-11-22T08:22:00Z"}.

    Raises:
        ValueError: this is no answer of EC2's.
    """
    answer = _json_object(body)
    if not isinstance(answer.get("action"), str):
        raise ValueError(f"no 'action' in {shown(body)}")
    return moment.notice(f"AWS: {shown(answer['action'])}", _iso_time(answer.get("time")), AWS_LONGEST_S)


def gcp_notice(preempted: str, moment: Moment) -> Notice | None:
    """A notice from `instance/preempted`, or None.

    Raises:
        ValueError: this is no answer of Google's.
    """
    if preempted.strip() not in ("TRUE", "FALSE"):
        raise ValueError(f"neither TRUE nor FALSE but {shown(preempted)}")
    if preempted.strip() == "FALSE":
        return None
    return moment.notice("Google Cloud: preempted", None, GCP_PREEMPTION_S)


def gcp_maintenance_notice(event: str, moment: Moment) -> Notice | None:
    """A notice from `instance/maintenance-event`, or None: a machine that is migrated stays."""
    if event.strip() != "TERMINATE_ON_HOST_MAINTENANCE":
        return None
    ends_at = moment.provider + timedelta(seconds=GCP_MAINTENANCE_S)
    return moment.notice("Google Cloud: host maintenance", ends_at, GCP_MAINTENANCE_S)


def azure_notice(body: str, vm_name: str, moment: Moment) -> Notice | None:
    """A notice from `scheduledevents` that names this machine, or None. A scale set hears of all of its machines.

    Raises:
        ValueError: this is no answer of Azure's.
    """
    events = _json_object(body).get("Events")
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise ValueError(f"no list of 'Events' in {shown(body)}")
    for event in events:
        named = event.get("Resources")
        if event.get("EventType") in ("Preempt", "Terminate") and isinstance(named, list) and vm_name in named:
            return moment.notice(f"Azure: {event['EventType']}", _http_time(event.get("NotBefore")), AZURE_LONGEST_S)
    return None


def file_notice(text: str, moment: Moment) -> Notice:
    """A notice from a file, for tests and for other clouds; it may say how many seconds are left."""
    try:
        ends_at = moment.provider + timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        ends_at = None
    return moment.notice("file", ends_at, FILE_LONGEST_S)


def _json_object(body: str) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(answer, dict):
        raise ValueError(f"not a JSON object: {shown(body)}")
    return answer


def _iso_time(value: object) -> datetime | None:
    return _utc(datetime.fromisoformat, value)


def _http_time(value: object) -> datetime | None:
    return _utc(parsedate_to_datetime, value)


def _utc(parse: Callable[[str], datetime], value: object) -> datetime | None:
    """The time that `value` says, UTC where it names no zone; None where it says none."""
    try:
        moment = parse(value) if isinstance(value, str) else None
        return moment and (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)
    except (ValueError, OverflowError):
        return None


# Who is asked


class Provider(Protocol):
    """A source of notices: it knows whether this machine will be taken away."""

    def poll(self, now: datetime) -> Notice | None:
        """A notice, or None; raises `httpx.HTTPError`, `ValueError` or `OSError` when there is no sensible answer."""
        ...


class Aws:
    """EC2's instance metadata service, version 2."""

    def __init__(self, client: httpx.Client, rebalance: bool) -> None:
        self._client = client
        self._rebalance = rebalance
        self._token: str | None = None

    def poll(self, now: datetime) -> Notice | None:
        """A spot interruption; where asked for, also the recommendation that comes before some of them."""
        if answer := self._get("/latest/meta-data/spot/instance-action"):
            return aws_notice(answer.text, _moment(answer, now))
        if self._rebalance and (answer := self._get("/latest/meta-data/events/recommendations/rebalance")):
            # It says since when, not until when.
            _json_object(answer.text)
            return Notice("AWS: rebalance recommendation", now + timedelta(seconds=AWS_LONGEST_S))
        return None

    def _get(self, path: str) -> httpx.Response | None:
        """The answer, or None where there is nothing to say."""
        if self._token is None:
            life = {"X-aws-ec2-metadata-token-ttl-seconds": str(AWS_TOKEN_LIFE_S)}
            token = self._client.put("/latest/api/token", headers=life).raise_for_status().text.strip()
            if not (token.isascii() and token.isprintable()):
                raise ValueError(f"no token but {shown(token)}")
            self._token = token
        answer = self._client.get(path, headers={"X-aws-ec2-metadata-token": self._token})
        if answer.status_code == 401:
            self._token = None
        return None if answer.status_code == 404 else answer.raise_for_status()


class Gcp:
    """Google Cloud's metadata server. Asked again and again: `wait_for_change` misses a change that was before it."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def poll(self, now: datetime) -> Notice | None:
        """A preemption, or maintenance that ends the machine."""
        preempted = self._get("preempted")
        if notice := gcp_notice(preempted.text, _moment(preempted, now)):
            return notice
        maintenance = self._get("maintenance-event")
        return gcp_maintenance_notice(maintenance.text, _moment(maintenance, now))

    def _get(self, name: str) -> httpx.Response:
        path = f"/computeMetadata/v1/instance/{name}"
        return self._client.get(path, headers={"Metadata-Flavor": "Google"}).raise_for_status()


class Azure:
    """Azure's scheduled events."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._vm_name: str | None = None

    def poll(self, now: datetime) -> Notice | None:
        """An event that takes this machine away."""
        if self._vm_name is None:
            name = self._get("/metadata/instance/compute/name?api-version=2021-02-01&format=text").text.strip()
            if not name:
                raise ValueError("the machine has no name")
            self._vm_name = name
        answer = self._get("/metadata/scheduledevents?api-version=2020-07-01")
        return azure_notice(answer.text, self._vm_name, _moment(answer, now))

    def _get(self, path: str) -> httpx.Response:
        return self._client.get(path, headers={"Metadata": "true"}).raise_for_status()


class File:
    """A file that appears: for other schedulers, hooks and tests."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def poll(self, now: datetime) -> Notice | None:
        """A notice as soon as the file is there."""
        try:
            with self._path.open("rb") as file:
                return file_notice(file.read(100).decode(errors="replace"), Moment(now, now))
        except FileNotFoundError:
            return None


def _moment(answer: httpx.Response, now: datetime) -> Moment:
    return Moment(now, _http_time(answer.headers.get("date")) or now)


# Watching and draining


def watch(provider: Provider, clock: Clock, pause: Callable[[float], bool], poll_s: float) -> Notice | None:
    """The first notice; None when `pause` says, by True, that this process is to end.

    A provider without a sensible answer is asked again for ever, and complained of once for each kind of trouble.
    """
    trouble = ""
    while True:
        try:
            notice = provider.poll(clock.now())
            trouble = ""
        except (httpx.HTTPError, ValueError, OSError) as error:
            notice = None
            before, trouble = trouble, f"{type(error).__name__}: {error}"
            if trouble != before:
                logger.warning("no sensible answer, asking on: %s", trouble)
        if notice is not None:
            return notice
        if pause(poll_s):
            return None


def drain(notice: Notice, try_once: Callable[[Notice], bool], clock: Clock, sleep: Callable[[float], None]) -> bool:
    """Try to drain until it is taken or the deadline has passed, but at least once; whether it was taken."""
    while not try_once(notice):
        if clock.now() >= notice.deadline:
            return False
        sleep(TRY_PAUSE_S)
    return True


def run_drain_node(arguments: Sequence[str], notice: Notice) -> bool:
    """One call, in a process that is killed when it hangs."""
    command = [
        sys.executable, "-m", "cluster.preemption.drain_node", *arguments,
        "--deadline", notice.deadline.isoformat(), "--message", notice.reason,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, timeout=TRY_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        logger.warning("Ray's head did not answer within %.0f s", TRY_TIMEOUT_S)
        return False
    return done.returncode == 0


class Terminated:
    """SIGTERM, to be waited for by the main thread.

    Not an `Event`: its lock is the main thread's for an instant of each wait, and a handler that comes just then and
    sets it waits for ever for the thread that it has interrupted.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        signal.signal(signal.SIGTERM, self._heard)

    def _heard(self, *_: object) -> None:
        with suppress(BlockingIOError):
            os.write(self._writer, b"\0")

    def wait(self, timeout_s: float) -> bool:
        """Whether the signal has come, at the latest after `timeout_s`."""
        return bool(select.select([self._reader], [], [], timeout_s)[0])


# Command line


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring for the exit codes."""
    made = parser()
    arguments = made.parse_args(argv)
    if (arguments.provider == "file") != (arguments.file is not None):
        made.error("--provider file and --file PATH belong together")
    if not arguments.address:
        made.error("say where Ray's head is: --address HOST:6379, or RAY_ADDRESS")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    # httpx would write a line for every question.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    node = ["--address", arguments.address]
    node += ["--node-ip", arguments.node_ip] if arguments.node_ip else []
    node += ["--node-id", arguments.node_id] if arguments.node_id else []

    terminated = Terminated()
    clock = SystemClock()
    logger.info("watching %s for the Ray cluster at %s", arguments.provider, arguments.address)
    notice = watch(_provider(arguments), clock, terminated.wait, arguments.poll_s)
    if notice is None:
        if arguments.on_sigterm is None:
            return EXIT_TERMINATED
        notice = Notice("SIGTERM", clock.now() + timedelta(seconds=arguments.on_sigterm))
    logger.warning("%s: this machine goes at %s", notice.reason, notice.deadline.isoformat(timespec="seconds"))
    if not drain(notice, lambda it: run_drain_node(node, it), clock, time.sleep):
        logger.error("Ray did not take the drain in time; what runs here will be cut off")
        return EXIT_NOT_DRAINED
    return EXIT_DRAINED


def _provider(arguments: argparse.Namespace) -> Provider:
    if arguments.provider == "file":
        return File(arguments.file)
    # The environment's proxies are for the outside; a metadata server answers its own machine only.
    client = httpx.Client(base_url=arguments.metadata_url, timeout=METADATA_TIMEOUT_S, trust_env=False)
    if arguments.provider == "aws":
        return Aws(client, arguments.rebalance)
    return Gcp(client) if arguments.provider == "gcp" else Azure(client)


def parser() -> argparse.ArgumentParser:
    """The command line of the watcher."""
    made = argparse.ArgumentParser(
        prog="python -m cluster.preemption.watcher",
        description="Drain this machine's Ray node when the cloud announces that it will take the machine away.",
        epilog="Exit codes: 0 draining, 2 unusable arguments, 3 not drained in time, 143 ended by SIGTERM.",
    )
    made.add_argument("--provider", required=True, choices=("aws", "gcp", "azure", "file"))
    made.add_argument("--file", type=Path, help="with --provider file: what to wait for; may hold the seconds left")
    made.add_argument("--rebalance", action="store_true", help="AWS: drain on a rebalance recommendation already")
    made.add_argument("--metadata-url", default=METADATA_URL, help="for tests (default: %(default)s)")
    made.add_argument("--poll-s", type=_seconds, default=2.0, help="pause between questions (default: %(default)s)")
    made.add_argument(
        "--on-sigterm", type=_seconds, metavar="SECONDS", help="drain when SIGTERM comes, which leaves so many seconds"
    )
    made.add_argument("--address", default=os.environ.get("RAY_ADDRESS"), help="HOST:PORT of the head (RAY_ADDRESS)")
    made.add_argument("--node-ip", help="this machine's address, as Ray was told (default: found out)")
    made.add_argument("--node-id", help="one node alone, on a machine that has several")
    return made


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0 and below a day")
    return value


if __name__ == "__main__":
    sys.exit(main())
