"""What a pool answers when it does not answer with a track.

Refusals cross process boundaries as values: an exception that Ray pickles loses what its constructor was given, and a
value can be tested for in the ingress without knowing how Ray wraps errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orchestrion.errors import CheckFailed, InvalidRequest, Overloaded, Problem, Transient, as_ours, reason_of
from orchestrion.finding import Finding
from orchestrion.tracks.outcome import Failure

#: Seconds to suggest when something that may pass went wrong and nobody can say for how long.
DEFAULT_RETRY_AFTER_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no track. `reason` is one of `orchestrion.errors.REASONS`; `retry_after_s` None: do not repeat."""

    reason: str
    message: str
    problems: tuple[Problem, ...] = ()
    findings: tuple[Finding, ...] = ()
    retry_after_s: float | None = None

    @classmethod
    def of_error(cls, error: Exception) -> Refusal:
        """The refusal that this error, whatever it is, means to a client."""
        ours = as_ours(error)
        retry_after_s = DEFAULT_RETRY_AFTER_S if isinstance(ours, Transient) else None
        return cls(
            reason=reason_of(ours),
            message=str(ours),
            problems=ours.problems if isinstance(ours, InvalidRequest) else (),
            findings=ours.findings if isinstance(ours, CheckFailed) else (),
            retry_after_s=ours.retry_after_s if isinstance(ours, Overloaded) else retry_after_s,
        )

    @classmethod
    def of_failure(cls, failure: Failure) -> Refusal:
        """The refusal that a failed render means to a client."""
        return cls(
            reason=failure.reason,
            message=failure.message,
            findings=failure.findings,
            retry_after_s=DEFAULT_RETRY_AFTER_S if failure.transient else None,
        )
