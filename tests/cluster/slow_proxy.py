"""A TCP proxy that is as slow as it is told to be, for a server that is fast: delays on the way, and stalls.

It does not look at what it carries. While it stalls it still accepts connections, as an overloaded server does: a
client sees only silence.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

CHUNK_BYTES = 256 * 1024


class SlowProxy:
    """Listens on a free loopback port while it is entered, in a thread of its own."""

    def __init__(self, target_port: int, delay_s: float):
        self._target_port = target_port
        self._delay_s = delay_s
        self._stalled_until_s = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="slow-proxy", daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        ).result()
        self.port = server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def stall(self, seconds: float) -> None:
        """Carry nothing for so long, in either direction."""
        self._stalled_until_s = time.monotonic() + seconds

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A server that is down refuses; so does this, by hanging up.
        with suppress(OSError):
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            await asyncio.gather(self._carry(reader, to_writer), self._carry(to_reader, writer))
        writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await asyncio.sleep(max(self._delay_s, self._stalled_until_s - time.monotonic()))
                writer.write(data)
                await writer.drain()
        writer.close()
