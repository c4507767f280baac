"""The command as it is under `ray job submit`, on a cluster of its own; and the exit code that a scheduler sees."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from cluster.ray_internals import token_environment

ROOT = Path(__file__).resolve().parents[2]
RAY = str(Path(sys.executable).with_name("ray"))


def free_ports(count: int) -> list[int]:
    with_sockets = [socket.socket() for _ in range(count)]
    try:
        for one in with_sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in with_sockets]
    finally:
        for one in with_sockets:
            one.close()


def processes_of(session: str) -> list[psutil.Process]:
    """The processes of the cluster that lives in this temporary folder, and of no other."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.pid != os.getpid() and any(session in part for part in process.info["cmdline"] or ())
    ]


@pytest.fixture
def dashboard():
    """`ray start --head` with ports and a folder of its own; yields the address that jobs are submitted to."""
    gcs, dashboard, agent, client = free_ports(4)
    # Short, because Ray puts Unix sockets below it, whose paths end at 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray-submit-", dir="/tmp") as session:
        environment = os.environ | token_environment(os.environ) | {"RAY_DISABLE_IMPORT_WARNING": "1"}
        environment.pop("RAY_ADDRESS", None)
        command = [
            RAY, "start", "--head", f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1",
            f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}",
            "--node-ip-address=127.0.0.1",
            "--num-cpus=2", f"--temp-dir={session}", "--disable-usage-stats",
        ]  # fmt: skip
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=90)
        try:
            yield f"http://127.0.0.1:{dashboard}", environment
        finally:
            ours = processes_of(session)
            ours += [child for process in ours for child in process.children(recursive=True)]
            for process in ours:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(ours, timeout=20)


def submit(address, environment, *arguments):
    command = [RAY, "job", "submit", "--address", address, "--working-dir", str(ROOT), "--"]
    return subprocess.run(
        [*command, sys.executable, "-m", "batch_jobs.render_catalog", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_ray_job_submit_runs_the_command_as_it_is(dashboard, tmp_path):
    address, environment = dashboard
    rows = [{"prompt": "calm piano", "duration_s": 2.0, "format": "flac"}, {"prompt": ""}]
    (tmp_path / "catalog.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    done = submit(address, environment, "--catalog", str(tmp_path / "catalog.jsonl"), "--out", str(tmp_path / "out"))

    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    [job] = manifest["jobs"].values()
    assert (job["totals"]["tracks"], job["totals"]["failures"], job["state"]) == (1, 1, "complete"), done.stdout
    assert "2/2 rows" in done.stdout
    # One bad row is exit code 5, which makes the job FAILED: a scheduler must notice.
    assert done.returncode != 0 and "exit code 5" in done.stdout + done.stderr
