"""What a unit test may not touch: Ray, the network, sleeping, and the wall clock as read by our own code.

A test that needs one of them belongs in tests/servers, tests/app or tests/cluster. `test_unit_test_bans.py` tests the
bans.
"""

import socket
import sys
import time

import pytest
import ray

OURS = ("orchestrion", "serve_app", "batch_jobs", "autoscaling", "cluster")


class ForbiddenInUnitTest(BaseException):
    """Not an Exception, so that no code under test can swallow it."""


def forbidden(what: str, instead: str):
    def refuse(*args, **kwargs):
        raise ForbiddenInUnitTest(f"a unit test may not {what}; {instead}")

    return refuse


def wall_clock_for_libraries_only(real):
    """hypothesis, logging and pytest may read the clock; our packages are given one."""

    def read():
        caller = sys._getframe(1).f_globals.get("__name__", "")
        # orchestrion.clock is the one place where the real clock is kept.
        if caller.split(".")[0] in OURS and caller != "orchestrion.clock":
            raise ForbiddenInUnitTest(f"{caller} reads the real clock in a unit test; take the time as an argument")
        return real()

    return read


def local_only(real):
    def connect(self, address):
        if self.family != socket.AF_UNIX:
            raise ForbiddenInUnitTest(
                f"a unit test may not connect to {address!r}; use a fake, or move the test to tests/servers"
            )
        return real(self, address)

    return connect


@pytest.fixture(autouse=True)
def _nothing_outside_the_process(monkeypatch):
    monkeypatch.setattr(time, "sleep", forbidden("sleep", "give the code a fake clock"))
    for clock in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(time, clock, wall_clock_for_libraries_only(getattr(time, clock)))
    monkeypatch.setattr(socket.socket, "connect", local_only(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", local_only(socket.socket.connect_ex))
    monkeypatch.setattr(
        socket, "getaddrinfo", forbidden("look up a host", "use a fake, or move the test to tests/servers")
    )
    monkeypatch.setattr(ray, "init", forbidden("start Ray", "move the test to tests/cluster"))
