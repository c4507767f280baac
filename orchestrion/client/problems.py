"""What went wrong at the service, as the errors of this project: problem+json (RFC 9457) read back.

The code at the end of `type` decides. One that this release does not know, or an answer of whatever stands in front
of the service, is judged by its status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrion.errors import (
    KINDS,
    CheckFailed,
    Internal,
    InvalidRequest,
    NotFound,
    OrchestrionError,
    Overloaded,
    Problem,
    Transient,
    Withdrawn,
    shown,
)
from orchestrion.finding import Finding

_TYPE: Final = "urn:orchestrion:problem:"
_KIND_OF_CODE: Final = {kind.code: kind for kind in KINDS}
#: Codes that HTTP alone has and that the caller can mend, and what of the call they are about.
_TO_MEND: Final = {
    "malformed": "request",
    "method-not-allowed": "request",
    "not-acceptable": "format",
    "too-large": "body",
    "unsupported-media-type": "body",
    "range-not-satisfiable": "range",
    "precondition-failed": "request",
    "foreign-origin": "headers",
    "misdirected": "base_url",
}


class Unreachable(Transient):
    """The service did not answer in time, or broke the connection off. Only clients raise it."""

    code = "unreachable"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no answer, and after how many seconds the service wants to be asked again; None: it does not say."""

    error: OrchestrionError
    retry_after_s: float | None = None


class _ProblemAnswer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: str = ""
    title: str = ""
    detail: str = ""
    problems: tuple[Problem, ...] = ()
    findings: tuple[Finding, ...] = ()


def refusal_of(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """What an answer other than 2xx means to the caller.

    Args:
        status: of the answer.
        headers: of the answer, by lower-case name.
        body: all of it; anything at all.
    """
    try:
        answer = _ProblemAnswer.model_validate_json(body)
    except ValidationError:
        answer = _ProblemAnswer()
    retry_after_s = _seconds(headers.get("retry-after", ""))
    detail = answer.detail or answer.title or f"HTTP {status} {_phrase(status)}, with {shown(body)}"
    code = answer.type.removeprefix(_TYPE) if answer.type.startswith(_TYPE) else ""
    return Refusal(_error(code, status, detail, answer, retry_after_s), retry_after_s)


def _error(
    code: str, status: int, detail: str, answer: _ProblemAnswer, retry_after_s: float | None
) -> OrchestrionError:
    kind = _KIND_OF_CODE.get(code)
    if kind is InvalidRequest:
        return InvalidRequest(answer.problems or [Problem("request", f"HTTP {status}", detail)])
    if kind is CheckFailed and answer.findings:
        return CheckFailed(answer.findings)
    if kind is Overloaded:
        return Overloaded(detail, retry_after_s or 1.0)
    if code == "request-timeout":
        return Unreachable(detail)
    if code in _TO_MEND:
        return InvalidRequest(answer.problems or [Problem(_TO_MEND[code], f"HTTP {status}", detail)])
    if kind is not None and kind is not CheckFailed:
        return kind(detail)
    return _by_status(status, detail, retry_after_s)


def _by_status(status: int, detail: str, retry_after_s: float | None) -> OrchestrionError:
    match status:
        case HTTPStatus.NOT_FOUND:
            return NotFound(detail)
        case HTTPStatus.GONE:
            return Withdrawn(detail)
        case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.SERVICE_UNAVAILABLE:
            return Overloaded(detail, retry_after_s or 1.0)
        case HTTPStatus.REQUEST_TIMEOUT | HTTPStatus.BAD_GATEWAY | HTTPStatus.GATEWAY_TIMEOUT:
            return Unreachable(detail)
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return InvalidRequest([Problem("request", f"HTTP {status}", detail)])
    return Internal(detail)


def _seconds(text: str) -> float | None:
    # A date is allowed too, and needs two clocks that agree.
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "of an unknown kind"
