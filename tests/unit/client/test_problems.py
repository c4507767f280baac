"""What the service refuses reaches the caller as the error that it was."""

import httpx
import pytest

from orchestrion import errors
from orchestrion.client import Unreachable
from orchestrion.client.problems import refusal_of
from orchestrion.errors import (
    KINDS,
    CheckFailed,
    Internal,
    InvalidRequest,
    NotFound,
    Overloaded,
    Problem,
    Withdrawn,
)
from orchestrion.finding import Finding
from orchestrion.tracks.outcome import Failure
from serve_app.errors import STATUS_OF_CODE, failure_response, problem_response

PROBLEMS = (Problem("tempo_bpm", "900", "is too fast"), Problem("mood", "'x'", "is not known"))
FINDINGS = (
    Finding("true peak", -0.2, None, -1.0, "dBTP", False),
    Finding("loudness", -14.0, -14.5, -13.5, "LUFS", True),
)


def error_of(response):
    return refusal_of(response.status_code, dict(response.headers), bytes(response.body)).error


def error_for(kind: type[errors.OrchestrionError]) -> errors.OrchestrionError:
    if kind is InvalidRequest:
        return InvalidRequest(PROBLEMS)
    if kind is CheckFailed:
        return CheckFailed(FINDINGS)
    return kind("no room", 7.0) if kind is Overloaded else kind("said so")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_of_the_service_is_the_same_error_at_the_client(kind):
    sent = error_for(kind)

    got = error_of(failure_response(Failure.of(sent, "request")))

    assert (type(got), str(got), vars(got)) == (type(sent), str(sent), vars(sent))


@pytest.mark.parametrize("code", STATUS_OF_CODE)
def test_every_code_has_an_error_that_fits_its_status(code):
    status, _ = STATUS_OF_CODE[code]
    got = error_of(problem_response(code, "the detail", retry_after_s=3.0 if status == 503 else None))

    assert "the detail" in str(got)
    assert isinstance(got, errors.Transient) == (status in (408, 503))
    if 400 <= status < 500 and status != 408:
        assert isinstance(got, InvalidRequest | NotFound | Withdrawn | errors.OnHold | errors.RightsRefused)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, InvalidRequest),
        (400, InvalidRequest),
        (401, InvalidRequest),
        (404, NotFound),
        (408, Unreachable),
        (410, Withdrawn),
        (429, Overloaded),
        (500, Internal),
        (502, Unreachable),
        (503, Overloaded),
        (504, Unreachable),
        (599, Internal),
    ],
)
@pytest.mark.parametrize(
    "body",
    [b"<html>no</html>", b"", b"[1]", b'{"type": "urn:orchestrion:problem:of-tomorrow"}', b'{"type": 3}', b"\xff"],
)
def test_what_is_not_known_is_judged_by_its_status(status, kind, body):
    got = refusal_of(status, {}, body).error

    assert type(got) is kind
    assert str(status) in str(got)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("0", 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None), ("9" * 400, None)],
)
def test_retry_after_is_read_in_seconds(text, seconds):
    assert refusal_of(503, httpx.Headers({"Retry-After": text}), b"").retry_after_s == seconds
