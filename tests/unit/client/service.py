"""Services for the client to talk to: one of prepared answers, and the real HTTP app in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import httpx

from orchestrion.client import Client


class Waiting:
    """A clock that moves with each sleep, and the lengths of these."""

    def __init__(self) -> None:
        self.reading_s = 0.0
        self.slept_s: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.reading_s += seconds

    def monotonic_s(self) -> float:
        return self.reading_s


class Prepared(httpx.BaseTransport):
    """Gives its answers one after another, the last one for ever; an exception is raised. Keeps what was asked."""

    def __init__(self, *answers: httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]) -> None:
        self._answers = list(answers)
        self.asked: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        answer = self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer


class InProcess(httpx.BaseTransport):
    """An ASGI app as a synchronous client sees it: httpx's own transport for them is asynchronous only."""

    def __init__(self, app: object) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def ask() -> tuple[httpx.Response, bytes]:
            body = request.read()
            asked = httpx.Request(request.method, request.url, headers=request.headers, content=body)
            answer = await self._transport.handle_async_request(asked)
            return answer, await answer.aread()

        answer, body = asyncio.run(ask())
        return httpx.Response(answer.status_code, headers=answer.headers, stream=Whole(body))


class Whole(httpx.SyncByteStream):
    """A body that is there."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body


class Broken(httpx.SyncByteStream):
    """A body whose connection breaks after its first bytes."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"RIFF"
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def client_of(transport: httpx.BaseTransport, waiting: Waiting | None = None, **options: object) -> Client:
    waiting = waiting or Waiting()
    return Client(
        "http://localhost",
        transport=transport,
        clock=waiting,
        sleep=waiting.sleep,
        **{"chance": lambda: 0.0, **options},
    )


def problem(status: int, reason: str, detail: str = "so it is", **fields: object) -> httpx.Response:
    retry_after_s = fields.pop("retry_after_s", None)
    body = {"type": f"urn:orchestrion:problem:{reason}", "title": "T", "status": status, "detail": detail, **fields}
    headers = {"Content-Type": "application/problem+json"}
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    return httpx.Response(status, json=body, headers=headers)
