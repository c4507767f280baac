"""How far a client has read: told by Serve's proxy, which has its connection, to the replica, which has the audio.

Serve takes what a replica sends as fast as it comes and holds what the client has not read. But its proxy hands all
that it receives on to the replica. So a middleware in the proxy receives reports of what it could send, and an answer
made here waits for them. Where the middleware is missing, an answer keeps to a pace instead
(docs/decisions/0019-uploads-and-slow-readers.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.delivery.pace import Pace
from serve_app.delivery.stored_audio import paced

#: In a scope's `extensions` where reports come, and the type of a report's message.
EXTENSION: Final = "orchestrion.taken"
#: Each report is a call from one process to another.
REPORT_EVERY_BYTES: Final = 256 * 1024
#: What one answer may have under way: enough for the way to the proxy and back at the speed of a disk.
WINDOW_BYTES: Final = 2 * 1024 * 1024


class ReportProgress:
    """ASGI middleware of Serve's proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and report what the client's connection took of the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = {**scope, "extensions": {**(scope.get("extensions") or {}), EXTENSION: {}}}
        reports = _Reports(receive)

        async def send_and_count(message: Message) -> None:
            # Waits while the connection has no room: that is what the replica does not see.
            await send(message)
            reports.count(len(message.get("body", b"")))

        try:
            await self._app(scope, reports.receive, send_and_count)
        finally:
            reports.close()


class _Reports:
    """What is received, with reports between it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._taken = self._reported = 0
        self._due = asyncio.Event()
        self._receiving: asyncio.Future[Message] | None = None

    def count(self, sent_bytes: int) -> None:
        self._taken += sent_bytes
        if self._taken - self._reported >= REPORT_EVERY_BYTES:
            self._due.set()

    async def receive(self) -> Message:
        """The next message from the client, or a report if that comes sooner."""
        if self._receiving is None:
            self._receiving = asyncio.ensure_future(self._receive())
        due = asyncio.ensure_future(self._due.wait())
        try:
            await asyncio.wait((self._receiving, due), return_when=asyncio.FIRST_COMPLETED)
        finally:
            due.cancel()
        if self._receiving.done():
            message, self._receiving = self._receiving.result(), None
            return message
        self._due.clear()
        self._reported = self._taken
        return {"type": EXTENSION, "bytes": self._reported}

    def close(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()


class ReaderPacedResponse(StreamingResponse):
    """Blocks that are made as they are read: no more than a window of them is under way."""

    def __init__(
        self, blocks: AsyncIterator[bytes], status_code: int, headers: Mapping[str, str], media_type: str, pace: Pace
    ) -> None:
        """An answer of these blocks.

        Args:
            blocks: the body.
            status_code: of the answer.
            headers: of the answer.
            media_type: of the body.
            pace: kept where nothing is reported.
        """
        super().__init__(blocks, status_code, headers, media_type)
        self._blocks = blocks
        self._pace = pace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        if EXTENSION not in (scope.get("extensions") or {}):
            self.body_iterator = paced(self._blocks, self._pace)
            await super().__call__(scope, receive, send)
            return
        reader = _Reader(receive)
        listening = asyncio.ensure_future(reader.listen())
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for block in self._blocks:
                if not await reader.has_room_for(len(block)):
                    return
                await send({"type": "http.response.body", "body": block, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            listening.cancel()


class _Reader:
    """What is known of the client while it is answered."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._sent = self._taken = 0
        self._has_left = False
        self._news = asyncio.Event()

    async def listen(self) -> None:
        """Until the client has left."""
        while not self._has_left:
            message = await self._receive()
            self._taken = message.get("bytes", self._taken)
            self._has_left = message["type"] == "http.disconnect"
            self._news.set()

    async def has_room_for(self, block_bytes: int) -> bool:
        """Wait for room. False: the client has left, and nothing more need be sent."""
        while self._sent - self._taken >= WINDOW_BYTES and not self._has_left:
            self._news.clear()
            await self._news.wait()
        self._sent += block_bytes
        return not self._has_left
