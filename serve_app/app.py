"""The whole service on one page: two pools of one replica class, and the ingress in front of them.

    serve run serve_app.app:build_app store_url=/data/tracks signing_key_path=/data/signing-key.pem
    serve run cluster/serve/serve-local.yaml

No future annotations import here: Ray looks at the builder's signature.
"""

import os
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from autoscaling.policies.batch import batch_policy
from autoscaling.policies.low_latency import low_latency_policy
from orchestrion.rendering.admission import Pool
from serve_app.config import PoolProfile, ServeConfig, read_config
from serve_app.deployments.ingress import Ingress
from serve_app.deployments.render_pool import RenderPool
from serve_app.routes import build_routes

#: Calls beyond slots and queue that still reach a replica, to be told there when to come back, to join a render that
#: is under way, or to get a stored track. Beyond them Serve's own, blind back-pressure begins.
HEADROOM_REQUESTS: Final = 16
#: Calls that may wait in front of a pool because no replica takes them; short, because the replica's queue decides.
MAX_QUEUED_IN_SERVE: Final = 64
#: Requests that one ingress replica handles at once. Most of them are streams that wait for their next chunk.
INGRESS_ONGOING_REQUESTS: Final = 512
#: Serve asks each replica so often how it is, and replaces one that three answers in a row were bad of.
HEALTH_CHECK_PERIOD_S: Final = 5.0

_POLICIES: Final = {Pool.LOW_LATENCY: low_latency_policy, Pool.BATCH: batch_policy}
#: What a policy sees of the look-back window: a rush of listeners counts at once, a backlog when it lasts.
_AGGREGATIONS: Final = {Pool.LOW_LATENCY: "max", Pool.BATCH: "mean"}


class HttpIngress(Ingress):
    """The ingress with its routes."""

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve in the replica."""
        return build_routes(self)


def build_app(config: dict[str, Any]) -> Application:
    """The service for `serve run` and for the `args:` of a Serve config file: a profile and what differs from it.

    Args:
        config: fields of `ServeConfig` as YAML or the command line gives them; the environment fills what is missing.

    Raises:
        ValueError: an unknown field, or a value out of range.
    """
    return wire(read_config(config, os.environ))


def wire(config: ServeConfig) -> Application:
    """The service for a complete configuration."""
    low_latency = _pool(Pool.LOW_LATENCY, config, config.low_latency)
    batch = _pool(Pool.BATCH, config, config.batch)
    deploy = serve.deployment(
        name="ingress",
        num_replicas=config.ingress_replicas,
        max_ongoing_requests=INGRESS_ONGOING_REQUESTS,
        ray_actor_options={"num_cpus": 0, "runtime_env": {"env_vars": _thread_limits(1)}},
        graceful_shutdown_timeout_s=config.longest_drain_s,
    )
    return deploy(serve.ingress()(HttpIngress)).bind(config, low_latency, batch)


def _pool(pool: Pool, config: ServeConfig, profile: PoolProfile) -> Application:
    actor_options: dict[str, Any] = {
        "num_cpus": profile.num_cpus,
        "num_gpus": profile.num_gpus,
        "resources": profile.resources,
        "runtime_env": {"env_vars": _thread_limits(profile.threads)},
    }
    if profile.label_selector:
        actor_options["label_selector"] = profile.label_selector
    deploy = serve.deployment(
        name=pool.value,
        ray_actor_options=actor_options,
        max_ongoing_requests=profile.slots + profile.queue_limit + HEADROOM_REQUESTS,
        max_queued_requests=MAX_QUEUED_IN_SERVE,
        graceful_shutdown_timeout_s=config.longest_drain_s,
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        autoscaling_config=AutoscalingConfig(
            min_replicas=profile.min_replicas,
            max_replicas=profile.max_replicas,
            target_ongoing_requests=profile.target_ongoing_requests,
            # The policies remember what they need to; Ray's own delays would only add to theirs.
            upscale_delay_s=0,
            downscale_delay_s=0,
            look_back_period_s=15,
            aggregation_function=_AGGREGATIONS[pool],
            policy=AutoscalingPolicy.model_validate({"policy_function": _POLICIES[pool]}),
        ),
    )
    return deploy(RenderPool).bind(pool, config, profile)


def _thread_limits(threads: int) -> Mapping[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    return dict.fromkeys(names, str(threads))
