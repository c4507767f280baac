"""What a stage of the pipeline says of a track: part of its record, so that it shows why the track was let through."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What becomes of a track after a stage. One that blocks a track raises an error, and there is no record."""

    ALLOW = "allow"
    #: It is made and stored, and given to nobody until a person has decided.
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Attestation:
    """What one stage found, and by what it decided."""

    #: Name of the stage, as in `orchestrion.rendering.pipeline`.
    stage: str
    verdict: Verdict
    #: What it measured and what that may be, where it measures: how like another melody, how many checks failed.
    figure: float | None
    limit: float | None
    #: What decided, or where to look it up: a licence, a policy and its version, a field of the record.
    reference: str
