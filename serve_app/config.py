"""The configuration of the service: what both pools render with, and a profile for each pool.

A deployment names a profile (`local` or `gpu`, one YAML file each) and overrides what differs. The
environment is an argument of `read_config`; nothing here reads it by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from orchestrion.models.registry import absolute_entry
from orchestrion.rendering.config import RenderConfig, SharedRenderConfig
from orchestrion.tracks.request import MAX_DURATION_S

#: Of a drain: time to render what a stream is sent at once, and to master and store the track at its end.
DRAIN_MARGIN_S: Final = 60.0
#: The environment's names for settings; `serve run` arguments and a config file's `args` come before them.
ENVIRONMENT: Final[dict[str, str]] = {
    "ORCHESTRION_PROFILE": "profile",
    "ORCHESTRION_STORE_URL": "store_url",
    "ORCHESTRION_SIGNING_KEY": "signing_key_path",
    "ORCHESTRION_TRUSTED_KEYS": "trusted_keys_path",
    "ORCHESTRION_MODEL": "models",
    "ORCHESTRION_PRECISION": "precision",
    "ORCHESTRION_NODE_TYPE": "node_type",
    "ORCHESTRION_MARKET": "market",
    "ORCHESTRION_PRICES": "prices_path",
    "ORCHESTRION_ALLOWED_HOSTS": "allowed_hosts",
    "ORCHESTRION_ALLOWED_ORIGINS": "allowed_origins",
}
#: Settings that the environment and the command line give as names with commas between them.
_LISTS: Final = ("models", "allowed_hosts", "allowed_origins")
_HOST: Final = r"^(\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)$"
_ORIGIN: Final = r"^(\*|[a-z][a-z0-9+.-]*://[^/?#@\s]+)$"


class PoolProfile(BaseModel):
    """One pool of replicas: how much each renders at once, how many there may be, and where they are placed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slots: int = Field(ge=1, le=256, description="Tracks that one replica renders at the same time, chunk by chunk.")
    chunk_s: float = Field(default=1.0, ge=0.1, le=30.0, description="Length of the chunks that models make audio in.")
    queue_limit: int = Field(ge=0, le=10_000, description="Requests that may wait in one replica; the next gets 503.")
    max_queue_s: float = Field(
        default=120.0, gt=0, description="A request that has waited for a slot for so long is refused with 503."
    )
    min_replicas: int = Field(ge=0, description="Replicas kept when idle; with 0 the first request waits for a start.")
    max_replicas: int = Field(ge=1, description="Replicas at most.")
    target_ongoing_requests: float = Field(gt=0, description="Requests per replica that autoscaling aims at.")
    num_cpus: float = Field(default=1.0, ge=0, description="CPUs reserved for one replica.")
    num_gpus: float = Field(default=0.0, ge=0, description="GPUs, or the fraction of one, reserved for one replica.")
    resources: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="Custom Ray resources that a node of this pool must offer."
    )
    label_selector: dict[str, str] = Field(
        default_factory=dict, description="Ray node labels that a node of this pool must have."
    )
    node_type: str | None = Field(default=None, description="Row of the price table, if not the service's `node_type`.")
    market: Literal["on-demand", "spot"] | None = Field(
        default=None, description="How this pool's nodes are bought, if not as the service's `market` says."
    )
    threads: int = Field(default=1, ge=1, description="Threads of numeric libraries (OMP, MKL, OpenBLAS) per replica.")

    @model_validator(mode="after")
    def _bounds_fit(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        return self


class ServeConfig(SharedRenderConfig):
    """Everything that `build_app` needs; the fields of `SharedRenderConfig` and these."""

    profile: Literal["local", "gpu"] = Field(default="local", description="The named profile this was made from.")
    low_latency: PoolProfile = Field(description="The pool for listeners who wait.")
    batch: PoolProfile = Field(description="The pool for long tracks and for requests with priority=batch.")
    ingress_replicas: int = Field(default=1, ge=1, description="Processes that parse, answer and serve stored audio.")
    stream_lead_s: float = Field(
        default=60.0, ge=1.0, description="Seconds of audio that a stream is sent at once, as fast as they are made."
    )
    stream_pace: float = Field(
        default=4.0, ge=1.0, description="After the lead, audio is sent at most this many times as fast as it plays."
    )
    download_mb_per_s: float = Field(
        default=16.0,
        gt=0.0,
        description="A stored file is sent at most this fast after its first 4 MB, where Serve's proxy does not report "
        "how far its client has read.",
    )
    allowed_hosts: tuple[Annotated[str, Field(pattern=_HOST)], ...] = Field(
        default=(),
        description="Names that the service goes by besides localhost and IP addresses: `music.example.com`, "
        "`*.example.com`, or `*` for any.",
    )
    allowed_origins: tuple[Annotated[str, Field(pattern=_ORIGIN)], ...] = Field(
        default=(),
        description="Origins whose web pages may use the service, `https://app.example`, or `*` for all; its own may.",
    )
    body_timeout_s: float = Field(default=60.0, gt=0.0, description="Seconds in which a request's body must be here.")
    upload_processes: int = Field(default=2, ge=1, le=64, description="Uploads that one ingress checks at a time.")
    upload_queue_limit: int = Field(
        default=8, ge=0, le=1000, description="Uploads that may wait to be checked; the next gets 503."
    )
    upload_timeout_s: float = Field(default=20.0, gt=0.0, description="Seconds that checking one upload may take.")
    uploads_gb: float = Field(
        default=10.0, gt=0.0, description="Size of all uploads in the store together; the next gets 503."
    )
    upload_days: int | None = Field(
        default=30, ge=1, description="Days after which an upload that did not come again is removed; null: never."
    )

    stall_s: float = Field(
        default=120.0,
        gt=0,
        description="A step of a model, a mastering or a call to the store that has not moved on for so long is given "
        "up, and its requests are told; a replica that it leaves unable to go on is replaced.",
    )
    drain_s: float | None = Field(
        default=None,
        gt=0,
        description="How long a replica that is to go away may finish its streams; computed from lead and pace, so "
        "that the longest stream comes to its end, if not given.",
    )

    @property
    def longest_drain_s(self) -> float:
        """`drain_s`, or what the longest stream takes at its pace, and a minute to begin and to store it."""
        if self.drain_s is not None:
            return self.drain_s
        return DRAIN_MARGIN_S + max(0.0, MAX_DURATION_S - self.stream_lead_s) / self.stream_pace

    def render_config(self, pool: PoolProfile) -> RenderConfig:
        """What the renderer of a replica in that pool is built from."""
        settings = {name: getattr(self, name) for name in SharedRenderConfig.model_fields}
        settings["node_type"] = pool.node_type or self.node_type
        settings["market"] = pool.market or self.market
        settings |= {"slots": pool.slots, "threads": pool.threads, "chunk_s": pool.chunk_s}
        return RenderConfig(**settings)


def read_config(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> ServeConfig:
    """Profile, then environment, then arguments; the later wins, and mappings are merged key by key.

    Args:
        arguments: what `serve run app key=value` or a config file's `args:` gave; `~` in a path is the home folder.
        environment: the process's environment; only the names in `ENVIRONMENT` are read.

    Raises:
        ValueError: an unknown key or profile, or a value out of range (pydantic's ValidationError is one).
    """
    settings = {field: environment[name] for name, field in ENVIRONMENT.items() if environment.get(name)}
    settings |= arguments
    profile = settings.get("profile", "local")
    source = files("serve_app") / "profiles" / f"{profile}.yaml"
    if profile not in ("local", "gpu"):
        raise ValueError(f"profile {profile!r} does not exist; use 'local' or 'gpu'")
    merged = _merged(yaml.safe_load(source.read_text(encoding="utf-8")), settings)
    for field in ("store_url", "signing_key_path", "trusted_keys_path", "prices_path"):
        if isinstance(merged.get(field), str) and merged[field].startswith("~"):
            merged[field] = str(Path(merged[field]).expanduser())
    for field in _LISTS:
        if isinstance(merged.get(field), str):
            merged[field] = [name.strip() for name in merged[field].split(",")]
    if isinstance(merged.get("models"), list):
        merged["models"] = [absolute_entry(str(entry)) for entry in merged["models"]]
    return ServeConfig.model_validate(merged)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if nested else value
    return merged
