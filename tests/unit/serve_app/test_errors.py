"""Every code has its status, and every error answer is a problem document."""

import json
import pickle

import pytest

from orchestrion.errors import CODES, CheckFailed, InvalidRequest, ModelFailed, Overloaded, StoreUnavailable
from orchestrion.finding import Finding
from orchestrion.tracks.outcome import Failure
from serve_app.errors import STATUS_OF_CODE, failure_response, framework_response, problem_response
from serve_app.middleware import request_id_for

FINDING = Finding("loudness", -20.0, -14.5, -13.5, "LUFS", False)


@pytest.mark.parametrize("code", CODES)
def test_every_error_of_the_core_has_a_status(code):
    assert STATUS_OF_CODE[code][0] >= 400


@pytest.mark.parametrize(
    "error, status, retry_after",
    [
        (InvalidRequest.of("seed", -1, "is negative"), 422, None),
        (Overloaded("full", 2.2), 503, "3"),
        (StoreUnavailable("no answer"), 503, "5"),
        (ModelFailed("broke"), 500, None),
        (CheckFailed([FINDING]), 500, None),
    ],
)
def test_errors_become_problem_documents(error, status, retry_after):
    answer = failure_response(pickle.loads(pickle.dumps(Failure.of(error, "request"))))

    body = json.loads(answer.body)
    assert answer.status_code == body["status"] == status
    assert answer.media_type == "application/problem+json"
    assert answer.headers.get("retry-after") == retry_after
    assert body["detail"] == str(error)
    assert {"type", "title", "status", "detail", "problems"} <= body.keys()


def test_an_invalid_request_lists_each_problem():
    body = json.loads(failure_response(Failure.of(InvalidRequest.of("seed", -1, "is negative"), "request")).body)

    assert body["problems"] == [{"field": "seed", "value": "-1", "message": "is negative"}]


def test_failed_checks_show_their_figures():
    failure = Failure("check-failed", "too quiet", "check", findings=(FINDING,))

    body = json.loads(failure_response(failure).body)

    assert body["findings"][0]["measured"] == -20.0


def test_a_transient_failure_says_when_to_return():
    failure = Failure.of(StoreUnavailable("no answer"), "store")

    assert "retry-after" in failure_response(failure).headers


@pytest.mark.parametrize("status, reason", [(404, "not-found"), (405, "method-not-allowed"), (400, "malformed")])
def test_the_frameworks_own_errors_have_the_same_form(status, reason):
    answer = framework_response(status, {"Allow": "POST"})

    assert answer.status_code == status
    assert json.loads(answer.body)["type"] == f"urn:orchestrion:problem:{reason}"


def test_headers_of_a_problem_are_sent():
    assert (
        problem_response("range-not-satisfiable", "x", headers={"Content-Range": "bytes */5"}).headers["content-range"]
        == "bytes */5"
    )


@pytest.mark.parametrize("given", [None, "", "a" * 129, "a b", "a\r\nSet-Cookie: x", "é"])
def test_request_ids_that_cannot_be_logged_are_replaced(given):
    assert request_id_for(given) != given


def test_a_sane_request_id_is_kept():
    assert request_id_for("trace-7:a.b_c") == "trace-7:a.b_c"
