"""What handlers are given, as a handler sees it."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import JSONResponse

from serve_app.dependencies import AskedPriority, AskedWireFormat, Caller, Headers, JsonBody
from serve_app.errors import answer_errors
from tests.ingress_app import Service


@pytest.fixture
def ask(tmp_path):
    """POST to a handler that answers with all that it was given."""
    app = FastAPI()
    app.state.ingress = Service(tmp_path).ingress
    answer_errors(app)

    @app.post("/")
    async def tell(
        caller: Caller, headers: Headers, body: JsonBody, priority: AskedPriority, format: AskedWireFormat
    ) -> JSONResponse:
        return JSONResponse([caller.id, caller.is_authenticated, headers.get("x-word"), body, priority, format])

    async def post(query, options):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return await client.post(f"/{query}", **options)

    return lambda query="", **options: asyncio.run(post(query, options))


def test_a_request_without_a_key_is_anonymous_and_what_the_query_leaves_out_has_a_default(ask):
    assert ask(json={"a": 1}).json() == ["anonymous", False, None, {"a": 1}, "interactive", None]


def test_what_the_request_says_is_what_the_handler_is_given(ask):
    headers = [("X-Word", "one"), ("x-word", "two")]

    answer = ask("?priority=batch&format=pcm", json={}, headers=headers)

    assert answer.json() == ["anonymous", False, "one, two", {}, "batch", "pcm"]


@pytest.mark.parametrize(
    "query, options, status, word",
    [
        ("", {"content": "{}"}, 415, "Content-Type"),
        ("", {"json": []}, 400, "object"),
        ("", {"content": " " * 70_000, "headers": {"Content-Type": "application/json"}}, 413, "65536"),
        ("?priority=soon", {"json": {}}, 422, "interactive, batch"),
        ("?format=aiff", {"json": {}}, 422, "flac"),
        ("?priority=soon", {"json": []}, 400, "object"),
    ],
)
def test_what_cannot_be_given_never_reaches_the_handler(ask, query, options, status, word):
    answer = ask(query, **options)

    assert answer.status_code == status
    assert word in answer.json()["detail"]
