"""What becomes of a request: a track or a failure, as a value.

Apart from `render`, which makes them: whoever only hands outcomes on (a job's driver, the HTTP front) loads no signal
processing for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrion.errors import CheckFailed, Transient, as_ours, reason_of
from orchestrion.finding import Finding
from orchestrion.tracks.record import TrackRecord


@dataclass(frozen=True, slots=True)
class Track:
    """A finished track: its record says everything, its audio lies in the store under `record.audio_key`."""

    track_id: str
    record: TrackRecord
    version: int
    cache_hit: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no track. `reason` is one of `errors.REASONS`; `track_id` is None if the request was not valid."""

    track_id: str | None
    reason: str
    stage: str
    message: str
    transient: bool
    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, error: Exception, stage: str, track_id: str | None) -> Failure:
        """The failure that `error`, whatever it is, means when it stops a request at `stage`."""
        ours = as_ours(error)
        findings = ours.findings if isinstance(ours, CheckFailed) else ()
        return cls(track_id, reason_of(ours), stage, str(ours), isinstance(ours, Transient), findings)
