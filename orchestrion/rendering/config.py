"""What one render process needs to know. It is data: it opens nothing and reads no environment."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from orchestrion.models.settings import ModelSettings


def _absolute_or_url(value: str) -> str:
    if "://" not in value and not PurePosixPath(value).is_absolute():
        raise ValueError("must be an absolute path or a URL such as s3://bucket/prefix: replicas run in other folders")
    return value


def _absolute_path(value: str) -> str:
    if "://" in value or not PurePosixPath(value).is_absolute():
        raise ValueError("must be the absolute path of a file: keys are not read from URLs; mount the file as a secret")
    return value


def lies_in(path: str, place: str) -> bool:
    """Whether an absolute path is that of a folder, or of something in it; nothing lies in a URL but file://."""
    folder = unquote(place.removeprefix("file://")) if place.startswith("file://") else place
    return "://" not in folder and PurePosixPath(os.path.normpath(path)).is_relative_to(os.path.normpath(folder))


PrecisionName = Literal["auto", "fp32", "bf16", "int8", "int4", "fp8"]
AbsoluteLocation = Annotated[str, AfterValidator(_absolute_or_url)]
AbsolutePath = Annotated[str, AfterValidator(_absolute_path)]


class SharedRenderConfig(BaseModel):
    """What all render processes of a deployment have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    store_url: AbsoluteLocation = Field(description="Folder or s3:// URL where tracks and records are kept.")
    storage_options: dict[str, Any] = Field(
        default_factory=dict, description="Where a bucket is and with which credentials, e.g. an endpoint URL."
    )
    signing_key_path: AbsolutePath = Field(
        description="Ed25519 private key (PEM), made by `orchestrion signing init`; not in the store."
    )
    trusted_keys_path: AbsolutePath | None = Field(
        default=None,
        description="Public keys (a PEM file or a folder of them) whose records and takedowns count, besides that of "
        "the signing key: earlier ones, and those of others who render into the same store.",
    )
    models: tuple[str, ...] = Field(
        default=("composer",),
        min_length=1,
        description="Models a replica loads: 'composer', a hub name, a folder, 'audiocraft:' and either, 'raw:' and a "
        "MusicGen that is to hear prompts as they are, or 'name=' and any of these. A request that names none gets the "
        "first.",
    )
    resident_models: int | None = Field(
        default=None,
        ge=1,
        description="Of several MusicGen checkpoints, how many a process keeps in memory; all if not given.",
    )
    precision: PrecisionName = Field(
        default="auto",
        description="Of the models' weights; auto: int8 on most CPUs, bf16 on a GPU. Other precision, other music.",
    )
    device: str = Field(default="auto", pattern="^(auto|cpu|cuda(:[0-9]+)?)$", description="Where the models run.")
    memory_gib: float | None = Field(
        default=None,
        gt=0,
        description="What each model may use, weights included; what the device has free if not given.",
    )
    piece_cache_mib: int = Field(
        default=256,
        ge=0,
        description="Memory for pieces as they were made, so that the same piece in another form is not made again.",
    )
    node_type: str = Field(default="local-cpu", description="Row of the price table that this process runs on.")
    market: str = Field(default="on-demand", pattern="^(on-demand|spot)$")
    prices_path: str | None = Field(default=None, description="Price table; the project's own if not given.")

    @model_validator(mode="after")
    def _keys_are_not_in_the_store(self) -> Self:
        for name, path in (("signing_key_path", self.signing_key_path), ("trusted_keys_path", self.trusted_keys_path)):
            if path is not None and lies_in(path, self.store_url):
                raise ValueError(f"{name} {path} is in the store {self.store_url}, which others may write; move it")
        return self


class RenderConfig(SharedRenderConfig):
    """Everything that one render process is built from; the same for both Serve pools and for catalog jobs."""

    slots: int = Field(default=4, ge=1, le=256, description="Tracks that one process makes at the same time.")
    threads: int = Field(default=1, ge=1, description="Threads of numeric code (models, OMP, MKL) per process.")
    chunk_s: float = Field(
        default=1.0, ge=0.1, le=30.0, description="Length of the chunks that a running track comes in."
    )

    def model_settings(self) -> ModelSettings:
        """How its models are run."""
        return ModelSettings(self.precision, self.device, self.slots, self.threads, self.memory_gib, self.chunk_s)
