"""The bans of this folder's conftest hold: a unit test cannot reach outside its process unnoticed."""

import asyncio
import socket
import time
import types

import pytest
import ray


def banned(match):
    # The ban is a BaseException, so that code under test cannot swallow it.
    return pytest.raises(BaseException, match=f"a unit test may not {match}")


def test_sleeping_is_banned():
    with banned("sleep"):
        time.sleep(0)


def test_starting_ray_is_banned():
    with banned("start Ray"):
        ray.init()


def test_ray_cannot_start_itself_on_first_use():
    with banned("start Ray"):
        ray.put(1)


@pytest.mark.parametrize(
    "family, address", [(socket.AF_INET, ("127.0.0.1", 9)), (socket.AF_INET6, ("::1", 9))], ids=["ipv4", "ipv6"]
)
@pytest.mark.parametrize("method", ["connect", "connect_ex"])
def test_connecting_is_banned(family, address, method):
    with socket.socket(family) as connection, banned("connect to"):
        getattr(connection, method)(address)


def test_looking_up_a_host_is_banned():
    with banned("look up a host"):
        socket.create_connection(("localhost", 9))


def test_sockets_inside_the_machine_are_allowed(tmp_path):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()

        client.connect(str(tmp_path / "s"))


@pytest.mark.parametrize("clock", ["time", "monotonic", "perf_counter"])
def test_our_own_code_may_not_read_the_real_clock(clock):
    module = types.ModuleType("orchestrion.something")
    exec(f"import time\ndef read(): return time.{clock}()", module.__dict__)

    with pytest.raises(BaseException, match=r"orchestrion\.something reads the real clock"):
        module.read()


def test_libraries_may_read_the_clock():
    assert asyncio.run(asyncio.sleep(0, "done")) == "done"
    assert time.monotonic() > 0
