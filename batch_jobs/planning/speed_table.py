"""`speeds.yaml`: what tracks and runs took where they were measured, for ledgers that do not know better yet."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orchestrion.accounting.dated_table import DatedTable
from orchestrion.tracks.request import AudioFormat

_Amount = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
_Factor = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    as_of: date = Field(description="The day on which it was measured.")
    source: str = Field(min_length=1, description="How it was measured.")

    @property
    def dated_source(self) -> str:
        """Where it comes from and as of when."""
        return f"{self.source} (as of {self.as_of.isoformat()})"


class ShippedSpeed(_Row):
    """What a track of a model holds of a device of a node type."""

    track_s: _Amount = Field(description="Device-seconds for each track, however long it is.")
    audio: Mapping[str, _Factor] = Field(description="By format: device-seconds for each second of audio.")
    low: float = Field(gt=0.0, le=1.0, description="Other machines of the kind may take so many times as long,")
    high: float = Field(ge=1.0, allow_inf_nan=False, description="up to so many times.")

    @model_validator(mode="after")
    def _has_every_format(self) -> Self:
        if set(self.audio) != set(AudioFormat):
            raise ValueError(f"audio must have each of {', '.join(AudioFormat)}, and nothing else")
        return self


class Range(BaseModel):
    """A mean, and what most runs are within."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    low: _Amount
    middle: _Amount
    high: _Amount

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low <= self.middle <= self.high:
            raise ValueError("low, middle and high are not in this order")
        return self


class ShippedRun(_Row):
    """What a run takes besides its tracks."""

    start_s: Range = Field(description="Seconds from the start of the first machine to the first track begun.")
    end_s: Range = Field(description="Seconds from the end of the last track to the end of the last machine.")
    held: Range = Field(description="Seconds of a worker for each device-second of tracks, while there are some.")


class SpeedTable(DatedTable):
    """Speeds by model and node type, and what a run takes besides."""

    shipped_as = "speeds.yaml"
    named_by = "speeds"

    models: Annotated[Mapping[str, Mapping[str, ShippedSpeed]], Field(min_length=1)]
    run: ShippedRun
