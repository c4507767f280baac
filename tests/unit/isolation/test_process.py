"""A process that reads strangers' files: whatever becomes of it is said in words, and it has nothing of ours."""

import json
import os
import select
import subprocess
import sys
from contextlib import suppress

import pytest

from orchestrion.isolation.process import IsolatedProcess, ProcessEndedError, ProcessLostError
from tests.test_imports import ROOT

LIMITED = """
import json, os, socket, sys
from orchestrion.isolation import limits
limits.leave_nothing(); limits.limit_memory(64 << 20); limits.limit_cpu_time(1); limits.forbid_files()
for line in sys.stdin:
    try: exec(line); said = "did it"
    except BaseException as error: said = type(error).__name__ + " " + str(error)
    print(json.dumps(said), flush=True)
"""


@pytest.fixture
def start():
    """Starts a process that runs this text, and ends it after the test."""
    started = []

    def start(text, **environment):
        started.append(IsolatedProcess((sys.executable, "-c", text), environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def ask(process, line):
    process.write(line.encode() + b"\n", 20.0)
    return process.read_line(20.0, 10_000)


def test_lines_and_bytes_go_back_and_forth(start):
    process = start("import sys\nfor line in sys.stdin: print(len(line), line[:2], flush=True)")

    assert ask(process, "ab") == b"3 ab"
    # More than a pipe holds at a time.
    assert ask(process, "x" * 3_000_000) == b"3000001 xx"
    assert not process.has_ended


def test_it_knows_nothing_of_our_environment_but_what_it_is_given(start, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    process = start(
        "import json, os, sys\nsys.stdin.readline()\nprint(json.dumps(dict(os.environ)), flush=True)", MINE="1"
    )

    known = json.loads(ask(process, ""))

    assert known["MINE"] == "1" and "secret" not in known.values()
    assert known.keys() <= {
        "PYTHONPATH",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "MINE",
        "LC_CTYPE",
    }


@pytest.mark.parametrize(
    "does, said", [("os.abort()", "was ended by SIGABRT"), ("sys.exit(3)", "ended with 3"), ("1 / 0", "ended with 1")]
)
def test_how_it_ended_is_said(start, does, said):
    process = start(f"import os, sys\nsys.stdin.readline()\n{does}")

    with pytest.raises(ProcessEndedError, match=said):
        ask(process, "go")
    assert process.has_ended


def test_ctrl_c_in_a_terminal_is_for_the_one_who_asks(start):
    process = start("import sys\nfor line in sys.stdin: print('here', flush=True)")
    assert ask(process, "a") == b"here"

    assert os.getpgid(process.pid) == process.pid != os.getpgid(0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells of the end of a stranger's process")
def test_it_ends_with_the_one_who_asks(tmp_path):
    """Whatever ended that one: nobody is left to kill it."""
    script = (
        "import os, sys\nfrom orchestrion.isolation.process import IsolatedProcess\n"
        "process = IsolatedProcess((sys.executable, '-c', 'import sys; sys.stdin.read()'))\n"
        "print(process.pid, flush=True)\nos.kill(os.getpid(), 9)"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    pid = int(told.stdout)

    with suppress(ProcessLookupError):
        ended = select.poll()
        ended.register(os.pidfd_open(pid), select.POLLIN)
        assert ended.poll(20_000)


def test_one_that_does_not_answer_or_does_not_listen_or_says_too_much_is_lost(start):
    deaf = start("while True: pass")
    with pytest.raises(ProcessLostError, match=r"took more than 0\.2 s"):
        deaf.read_line(0.2, 100)
    with pytest.raises(ProcessLostError, match=r"took more than 0\.2 s"):
        deaf.write(b"x" * 3_000_000, 0.2)
    talking = start("while True: print('x' * 1000, end='')")
    with pytest.raises(ProcessLostError, match="answers with more than 5000 bytes"):
        talking.read_line(20.0, 5000)


@pytest.mark.skipif(sys.platform != "linux", reason="the other limits are refused elsewhere")
@pytest.mark.parametrize(
    "does, said",
    [
        ("open('/etc/hosts')", "OSError [Errno 24] Too many open files: '/etc/hosts'"),
        ("open('/tmp/x', 'w')", "OSError [Errno 24] Too many open files: '/tmp/x'"),
        ("socket.socket()", "OSError [Errno 24] Too many open files"),
        ("os.pipe()", "OSError [Errno 24] Too many open files"),
        ("bytes(200 << 20)", "MemoryError "),
        ("bytes(16 << 20)", "did it"),
    ],
)  # fmt: skip
def test_what_is_forbidden_there_cannot_be_done(start, does, said):
    assert json.loads(ask(start(LIMITED), does)) == said


def test_the_kernel_ends_one_that_nobody_waits_for_any_more(start):
    process = start(LIMITED)

    with pytest.raises(ProcessEndedError, match="SIGXCPU"):
        ask(process, "while True: pass")
