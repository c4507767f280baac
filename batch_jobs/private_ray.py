"""A Ray of our own on this machine, closed to everybody else: it listens on loopback alone and wants a random token.

Without both, whoever reaches one of Ray's ports runs commands as the user who started it. Nothing is written to the
home folder: a token there would lock later `ray start` commands out of their own cluster.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Mapping
from typing import Any, Final

from orchestrion.errors import InvalidRequest

LOOPBACK: Final = "127.0.0.1"
#: Names of environment variables, which every process of Ray reads.
MODE: Final = "RAY_AUTH_MODE"
TOKEN: Final = "RAY_AUTH_TOKEN"  # noqa: S105 - a variable's name
TOKEN_FILE: Final = "RAY_AUTH_TOKEN_PATH"  # noqa: S105
#: With "0" a node's own address is 127.0.0.1, on Linux as it always is on macOS. Ray replaces a loopback address that
#: it is given by the machine's own (`_node_ip_address`, `--node-ip-address`), and then listens on all of them.
MANY_NODES: Final = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def token_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What to add to an environment so that Ray, started or joined with it, wants a token: a new one, or its own.

    For processes that are to be started, or for this one before it imports Ray, which reads the mode only then.

    Raises:
        InvalidRequest: the environment switches tokens off.
    """
    mode = environment.get(MODE, "token").lower()
    if mode != "token":
        raise InvalidRequest.of(
            MODE,
            mode,
            "lets everybody who reaches Ray's ports run commands; unset it, and a token is made for this run",
        )
    if environment.get(TOKEN) or environment.get(TOKEN_FILE):
        return {MODE: "token"}
    return {MODE: "token", TOKEN: secrets.token_hex(32)}


def start_private_ray(**options: Any) -> None:  # noqa: ANN401 - Ray's own
    """Start a Ray for this process and its children, and connect to it; `ray.shutdown` ends it.

    The token stays in this process's environment, where its children find it.

    Args:
        options: of `ray.init`.

    Raises:
        InvalidRequest: the environment switches tokens off.
    """
    # Here, so that `token_environment` can be asked before Ray is imported.
    import ray
    from ray._private import ray_constants

    added = token_environment(os.environ)
    if TOKEN in added:
        # Not the mode: Ray has read it already, and where it is not set, `ray.init` switches tokens on everywhere.
        os.environ[TOKEN] = added[TOKEN]
    # The variable for Ray's own processes, the constant for this one, which has read the variable already.
    os.environ[MANY_NODES] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address=LOOPBACK,
        **options,
    )
