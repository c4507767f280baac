"""One table from codes to HTTP statuses, and one form of error: problem+json of RFC 9457.

Every answer with a status of 400 or above has this form, also those that the web framework would word itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as FrameworkError

from orchestrion.errors import OrchestrionError, Problem, shown
from orchestrion.tracks.outcome import Failure

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"

#: Code → (status, title). The first are the codes of `orchestrion.errors`, the others belong to HTTP alone.
STATUS_OF_CODE: Final[dict[str, tuple[int, str]]] = {
    "invalid-request": (422, "The request cannot be used"),
    "not-found": (404, "There is no such thing here"),
    "withdrawn": (410, "The track was withdrawn"),
    "on-hold": (409, "A person is to decide about the track"),
    "rights-refused": (403, "The licence does not allow this use"),
    "check-failed": (500, "The rendered audio did not pass its checks"),
    "verification-failed": (500, "Audio, record and signature do not belong together"),
    "model-failed": (500, "The model could not make this track"),
    "internal": (500, "Something went wrong here"),
    "overloaded": (503, "No room at the moment"),
    "not-ready": (503, "The service is starting"),
    "out-of-memory": (503, "There was not enough memory"),
    "stalled": (503, "The work got stuck"),
    "store-unavailable": (503, "The track store does not answer"),
    "malformed": (400, "The request cannot be read"),
    "method-not-allowed": (405, "This address does not take that method"),
    "not-acceptable": (406, "None of the accepted media types can be given"),
    "too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body has a type that is not taken here"),
    "range-not-satisfiable": (416, "The range lies outside the audio"),
    "foreign-origin": (403, "Pages of that origin may not use this service"),
    "request-timeout": (408, "The body took too long"),
    "precondition-failed": (412, "It is another version now"),
    "misdirected": (421, "This service does not go by that name"),
}


@dataclass(slots=True, eq=False)
class HttpProblem(Exception):
    """Raised by a route to end it with an error answer. `headers` are added to the answer."""

    code: str
    detail: str
    problems: Sequence[Problem] = ()
    headers: Mapping[str, str] | None = None


def problem_response(
    code: str,
    detail: str,
    *,
    problems: Sequence[Problem] = (),
    extra: Mapping[str, Any] | None = None,
    retry_after_s: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error answer: `{type, title, status, detail, problems, …}` with `Retry-After` where repeating makes sense."""
    status, title = STATUS_OF_CODE[code]
    body = {
        "type": f"urn:orchestrion:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "problems": [asdict(problem) for problem in problems],
    } | dict(extra or {})
    all_headers = dict(headers or {})
    if retry_after_s is not None:
        all_headers["Retry-After"] = str(math.ceil(retry_after_s))
    return Response(json.dumps(body), status, all_headers, PROBLEM_MEDIA_TYPE)


def failure_response(failure: Failure) -> Response:
    """The answer for a failure; failed checks carry every measured figure."""
    extra = {"findings": [asdict(finding) for finding in failure.findings]} if failure.findings else None
    return problem_response(
        failure.code,
        failure.message,
        problems=failure.problems,
        extra=extra,
        retry_after_s=failure.retry_after_s,
    )


def framework_response(status: int, headers: Mapping[str, str] | None) -> Response:
    """The answer for a 404 or 405 that the router gave, and for any other status the framework raises."""
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        # HEAD is answered wherever GET is, by `SecurityHeaders`, so the router does not know of it.
        allowed = (headers or {}).get("Allow", "").replace("GET", "GET, HEAD")
        return problem_response("method-not-allowed", f"use {allowed}; see /docs", headers={"Allow": allowed})
    if status == HTTPStatus.NOT_FOUND:
        return problem_response("not-found", "there is nothing at this address; see /docs for those that exist")
    if 400 <= status < 500:
        return problem_response("malformed", "the request cannot be read; see /docs for what is expected")
    return problem_response("internal", "the request could not be answered")


def answer_errors(app: FastAPI) -> None:
    """Have the app answer what its routes and the framework raise with problems.

    What nobody foresaw is not among it: `SecurityHeaders` is around everything and tells the client of that.
    """
    app.exception_handler(HttpProblem)(_on_problem)
    app.exception_handler(OrchestrionError)(_on_own_error)
    app.exception_handler(FrameworkError)(_on_framework_error)
    app.exception_handler(RequestValidationError)(_on_framework_validation)


async def _on_problem(_: Request, error: HttpProblem) -> Response:
    return problem_response(error.code, error.detail, problems=error.problems, headers=error.headers)


async def _on_own_error(_: Request, error: OrchestrionError) -> Response:
    return failure_response(Failure.of(error, "request"))


async def _on_framework_error(_: Request, error: FrameworkError) -> Response:
    return framework_response(error.status_code, error.headers)


async def _on_framework_validation(_: Request, error: RequestValidationError) -> Response:
    problems = [
        Problem(".".join(map(str, detail["loc"])), shown(detail.get("input")), detail["msg"])
        for detail in error.errors()
    ]
    return problem_response("invalid-request", "the query cannot be used", problems=problems)
