"""What one render process needs to know. It is data: it opens nothing and reads no environment."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _absolute_or_url(value: str) -> str:
    if "://" not in value and not PurePosixPath(value).is_absolute():
        raise ValueError("must be an absolute path or a URL such as s3://bucket/prefix: replicas run in other folders")
    return value


AbsoluteLocation = Annotated[str, AfterValidator(_absolute_or_url)]


class RenderConfig(BaseModel):
    """The part that is the same for both Serve pools and for catalog jobs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    store_url: AbsoluteLocation = Field(description="Folder or s3:// URL where tracks and records are kept.")
    storage_options: dict[str, Any] = Field(default_factory=dict, description="Passed to fsspec, e.g. an endpoint URL.")
    signing_key_path: AbsoluteLocation = Field(description="Ed25519 private key (PEM); made on first use if absent.")
    models: tuple[str, ...] = Field(default=("composer",), min_length=1, description="Models a replica loads.")
    node_type: str = Field(default="local-cpu", description="Row of the price table that this process runs on.")
    market: str = Field(default="on-demand", pattern="^(on-demand|spot)$")
    prices_path: str | None = Field(default=None, description="Price table; the project's own if not given.")
