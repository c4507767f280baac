"""What becomes of a request: a track or a failure, as a value that crosses processes.

An exception that Ray pickles loses what its constructor was given, and a value can be tested for without knowing how
Ray wraps errors. A process that only passes outcomes on (a job's driver, the HTTP front) loads no signal processing for
it.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrion.errors import Problem, as_ours, code_of
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
    """Why there is no track: what an error of `orchestrion.errors` says, and where it stopped the request."""

    #: One of `errors.CODES`.
    code: str
    message: str
    stage: str
    #: None if the request was not valid.
    track_id: str | None = None
    #: Whether the same request may succeed later, and after how many seconds.
    retryable: bool = False
    retry_after_s: float | None = None
    problems: tuple[Problem, ...] = ()
    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, error: Exception, stage: str, track_id: str | None = None) -> Failure:
        """The failure that `error`, whatever it is, means when it stops a request at `stage`."""
        ours = as_ours(error)
        return cls(
            code=code_of(ours),
            message=str(ours),
            stage=stage,
            track_id=track_id,
            retryable=ours.retryable,
            retry_after_s=ours.retry_after_s,
            problems=ours.problems,
            findings=ours.findings,
        )
