"""An upload's way in: received to disk block by block, checked in another process, kept in the store."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from orchestrion.clock import Clock
from orchestrion.errors import Overloaded
from orchestrion.storage.object_store import Objects
from orchestrion.storage.track_store import TrackStore
from orchestrion.storage.upload_retention import KeptUploads
from serve_app.config import ServeConfig
from serve_app.http.bodies import body_blocks
from serve_app.uploads.checks import RETRY_AFTER_S
from serve_app.uploads.found import UploadReading, UploadUse

MAX_UPLOAD_BYTES: Final = 20 * 1024 * 1024
#: Has a file read through for its use and says what it is; raises what is wrong with it.
Check = Callable[[Path, UploadUse], Awaitable[UploadReading]]
#: Uploads that may be arriving at once; what has arrived of them lies on disk.
MAX_ARRIVING: Final = 32


class Uploads:
    """All that an ingress replica does with uploads. Nothing of it shares a thread with what is read."""

    def __init__(self, config: ServeConfig, store: TrackStore, clock: Clock, check: Check) -> None:
        self._timeout_s = config.body_timeout_s
        self._check = check
        self._kept = KeptUploads(
            store,
            Objects(config.store_url, config.storage_options),
            clock,
            max_bytes=round(config.uploads_gb * 1e9),
            keep_days=config.upload_days,
        )
        #: One at a time: the store is given whole files.
        self._keeping = asyncio.Lock()
        self._arriving = 0

    async def accept(
        self, chunks: AsyncIterable[bytes], headers: Mapping[str, str], use: UploadUse
    ) -> tuple[str, UploadReading]:
        """Receive, read and keep an upload; returns its reference, and what was read of it.

        Raises:
            HttpProblem: the body is too large, too slow or not as its headers say.
            InvalidRequest: it cannot be used so.
            Overloaded: too many arrive or wait to be checked, or all uploads together are too large.
        """
        if self._arriving >= MAX_ARRIVING:
            raise Overloaded("as many uploads are arriving as may", RETRY_AFTER_S)
        self._arriving += 1
        try:
            with tempfile.NamedTemporaryFile(prefix="orchestrion-upload-") as file:
                async for block in body_blocks(chunks, headers, max_bytes=MAX_UPLOAD_BYTES, timeout_s=self._timeout_s):
                    file.write(block)
                file.flush()
                path = Path(file.name)
                reading = await self._check(path, use)
                async with self._keeping:
                    return await asyncio.to_thread(lambda: self._kept.put(path.read_bytes())), reading
        finally:
            self._arriving -= 1
