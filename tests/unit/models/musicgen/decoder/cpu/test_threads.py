"""Threads fit the cores that the process may use, and a forked child is told that it has none."""

import logging
import os
import signal

import pytest

from orchestrion.clock import SystemClock
from orchestrion.models.musicgen.decoder.cpu.crew import Crew
from orchestrion.models.musicgen.decoder.cpu.threads import available_cores, threads_that_run
from orchestrion.models.musicgen.model import MusicGen
from orchestrion.models.protocol import Conditioning
from orchestrion.models.settings import ModelSettings
from tests.musicgen_checkpoints import TINY, TINY_CODEC, write_hugging_face


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine of 64 cores with these files."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(64)), raising=False)

    def make(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


V1 = "12:cpu,cpuacct:{0}\n3:memory:{0}\n1:name=systemd:{0}\n"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 64),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 64),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "350000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        # A limit of the pod, above one of the container.
        (
            {
                "proc/self/cgroup": "0::/pod/container\n",
                "sys/fs/cgroup/pod/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/pod/container/cpu.max": "800000 100000\n",
            },
            4,
        ),
        # A container that is shown the host's path, and its own group at the root.
        ({"proc/self/cgroup": "0::/kubepods/pod1/c1\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        (
            {
                "proc/self/cgroup": V1.format("/docker/1"),
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us": "600000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000\n",
            },
            6,
        ),
        (
            {
                "proc/self/cgroup": V1.format("/docker/1"),
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": V1.format("/"),
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            64,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "not what we know\n"}, 64),
    ],
)
def test_a_quota_counts_as_so_many_cores(system, files, cores):
    assert available_cores(system(files)) == cores


def test_more_threads_than_cores_are_clamped_with_a_warning(system, caplog):
    root = system({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"})
    with caplog.at_level(logging.WARNING):
        assert threads_that_run(2, root) == 2
        assert not caplog.records
        assert threads_that_run(8, root) == 2
    assert "8 wanted" in caplog.text
    assert "2 cores" in caplog.text


def test_cores_that_the_process_is_kept_from_do_not_count(system, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {5, 7}, raising=False)
    assert available_cores(system({})) == 2


def in_a_forked_child(work) -> str:
    """What `work` returns there, or the error that it raises. A child that hangs is ended, and says so."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # An alarm ends the child whatever it waits for.
        signal.alarm(20)
        try:
            said = str(work())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    _, status = os.waitpid(child, 0)
    return said if status == 0 else "hung"


if hasattr(os, "fork"):
    pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

    def test_a_crew_whose_threads_stayed_behind_says_so_instead_of_waiting_for_them():
        crew = Crew(2)
        crew.run(lambda *_: None)
        assert "ModelFailed: this model was loaded before the process was forked" in in_a_forked_child(
            lambda: crew.run(lambda *_: None)
        )
        crew.run(lambda *_: None)
        crew.close()

    def test_a_model_in_a_forked_child_fails_with_the_remedy_and_closes_and_goes_on_in_its_own_process(tmp_path):
        folder = write_hugging_face(tmp_path, TINY, TINY_CODEC)
        model = MusicGen.load("tiny", str(folder), ModelSettings("int8", "cpu", slots=2), SystemClock())
        piece = Conditioning("rock", "", None, None, None, None, duration_s=0.5, seed=3, theme=None)
        performance = model.perform(piece)
        next(performance.chunks)
        for use in (lambda: model.perform(piece), lambda: model.prepare(piece), lambda: next(performance.chunks)):
            said = in_a_forked_child(use)
            assert said.startswith("ModelFailed: "), said
            assert "multiprocessing's 'spawn'" in said
        assert in_a_forked_child(model.close) == "None"
        assert list(performance.chunks)
        model.close()
