"""Stored audio on its way to a client: read and decoded block by block, and no faster than a reader is likely to read.

Ray Serve takes what a route yields as fast as it comes, however slow the client is, and keeps what the client has not
read. So the whole of a file must never be handed over at once, and the rate is set here
(docs/decisions/0019-uploads-and-slow-readers.md).
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final, Protocol, TypeVar

from orchestrion.audio.encode import BlockDecoder
from orchestrion.audio.stream_encode import StreamEncoder
from orchestrion.storage.block_digests import BLOCK_BYTES
from orchestrion.storage.track_store import TrackStore
from serve_app.delivery.pace import Pace

T = TypeVar("T")
#: Runs blocking work in the threads that are kept for reading.
InThread = Callable[[Callable[[], T]], Awaitable[T]]

#: Bytes sent at a time. Above 100 kB Ray puts a block into its shared object store, which others need.
SENT_BYTES: Final = 96 * 1024


async def paced(blocks: AsyncIterator[bytes], pace: Pace) -> AsyncIterator[bytes]:
    """The same blocks at that pace."""
    clock = asyncio.get_running_loop().time
    started_s, sent_bytes = clock(), 0
    async for block in blocks:
        wait_s = pace.wait_s(sent_bytes + len(block), clock() - started_s)
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        sent_bytes += len(block)
        yield block


async def file_blocks(
    store: TrackStore, key: str, start: int, end: int, in_thread: InThread[bytes]
) -> AsyncIterator[bytes]:
    """Bytes [start, end) of a stored file."""
    while start < end:
        # Up to the end of a block of the store's: each is read and checked once.
        block_end = min(end, (start // BLOCK_BYTES + 1) * BLOCK_BYTES)
        block = await in_thread(partial(store.read_range, key, start, block_end))
        for at in range(0, len(block), SENT_BYTES):
            yield block[at : at + SENT_BYTES]
        start = block_end


async def pcm_blocks(store: TrackStore, key: str, size_bytes: int, in_thread: InThread[bytes]) -> AsyncIterator[bytes]:
    """A stored file as 16-bit little-endian samples, interleaved; as much of it is in memory as is being sent."""
    decoder = _PcmDecoder(store, key, size_bytes)
    try:
        while block := await in_thread(decoder.next_block):
            yield block
    finally:
        decoder.close()


class _PcmDecoder:
    """Used by one thread at a time."""

    def __init__(self, store: TrackStore, key: str, size_bytes: int) -> None:
        self._file = io.BufferedReader(_StoredFile(store, key, size_bytes))
        self._audio: BlockDecoder | None = None

    def next_block(self) -> bytes:
        """The next samples; empty after the last."""
        if self._audio is None:
            self._audio = BlockDecoder(self._file)
        samples = self._audio.read(SENT_BYTES // (2 * self._audio.channels))
        return StreamEncoder("pcm", self._audio.sample_rate_hz, self._audio.channels, None).push(samples)

    def close(self) -> None:
        if self._audio is not None:
            self._audio.close()
        self._file.close()


class _StoredFile(io.RawIOBase):
    """A stored file that can be read from anywhere, as libsndfile needs it."""

    def __init__(self, store: TrackStore, key: str, size_bytes: int) -> None:
        self._store, self._key, self._size_bytes, self._at = store, key, size_bytes, 0
        #: The block of the store's that was read last, and its number.
        self._block, self._number = b"", -1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size_bytes}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: _Writable, /) -> int:  # type: ignore[override]
        if self._at >= self._size_bytes:
            return 0
        number, start = divmod(self._at, BLOCK_BYTES)
        if number != self._number:
            end = min(self._size_bytes, (number + 1) * BLOCK_BYTES)
            self._block, self._number = self._store.read_range(self._key, number * BLOCK_BYTES, end), number
        data = self._block[start : start + len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class _Writable(Protocol):
    def __len__(self) -> int: ...

    def __setitem__(self, part: slice, data: bytes, /) -> None: ...
