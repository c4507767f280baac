"""Ray and Serve in a process of their own, so that no other test of the session meets their `ray.init`.

Runs until its standard input closes: then Serve and Ray are shut down, also when the tests were killed.
"""

import json
import os
import sys
from typing import Any
from unittest import mock

import ray
from ray import serve
from ray.serve import Application

from cluster.ray_internals import start_private_ray
from serve_app.app import build_app
from serve_app.delivery.proxy import PROXY_ENVIRONMENT
from serve_app.deployments.render_pool import RenderPool
from tests.app.hanging_pool import HangingPool


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    os.environ.update(PROXY_ENVIRONMENT)
    start_private_ray(num_cpus=2, _metrics_export_port=settings["metrics_port"])
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": settings["port"]})
        targets = [
            serve.RunTarget(application(name, arguments), name=name, route_prefix=prefix)
            for name, (prefix, arguments) in settings["apps"].items()
        ]
        serve.run_many(targets)
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        serve.shutdown()
        ray.shutdown()


def application(name: str, arguments: dict[str, Any]) -> Application:
    """As the product builds it; the replicas of "tiny" can be made to hang."""
    with mock.patch("serve_app.app.RenderPool", HangingPool if name == "tiny" else RenderPool):
        return build_app(arguments)


if __name__ == "__main__":
    main()
