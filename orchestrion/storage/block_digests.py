"""Any part of a blob, checked: the whole blob is hashed once, and each block of it has a digest from then on.

A hash proves a whole file and says nothing of a part. So the first read of a blob goes through all of it, and what is
remembered is small: 32 bytes for each MiB.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from orchestrion.errors import VerificationFailed
from orchestrion.storage.object_store import Objects

logger = logging.getLogger(__name__)

BLOCK_BYTES: Final = 1 << 20
#: Blocks that are read at once while a blob is hashed: fewer round trips to S3, and 8 MiB of memory.
BLOCKS_AT_ONCE: Final = 8
#: Digests that one process keeps: of 64 GiB of audio, in some 6 MB of memory.
MAX_DIGESTS: Final = 1 << 16
#: Blobs that are hashed for the first time wait for each other by twos or not at all, never all for one.
LOCKS: Final = 16


@dataclass(frozen=True, slots=True)
class Digests:
    """What is known of a blob that was hashed."""

    size: int
    #: SHA-256 of each block of `BLOCK_BYTES`, the last one shorter.
    blocks: tuple[bytes, ...]


class BlockDigests:
    """The digests of the blobs that this process has read lately. Threads share it."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._known: OrderedDict[str, Digests] = OrderedDict()
        self._count = 0
        self._changing = threading.Lock()
        self._hashing = tuple(threading.Lock() for _ in range(LOCKS))

    def of(self, key: str, sha256: str) -> Digests:
        """The digests of a blob, of which all has been read once.

        Raises:
            NotFound: there is no such blob.
            VerificationFailed: its SHA-256 is another one.
        """
        with self._hashing[int(sha256[:2], 16) % LOCKS]:
            with self._changing:
                known = self._known.get(key)
                if known is not None:
                    self._known.move_to_end(key)
                    return known
            digests = self._hash(key, sha256)
            with self._changing:
                self._known[key] = digests
                self._count += len(digests.blocks)
                while self._count > MAX_DIGESTS and len(self._known) > 1:
                    _, oldest = self._known.popitem(last=False)
                    self._count -= len(oldest.blocks)
            return digests

    def _hash(self, key: str, sha256: str) -> Digests:
        whole, blocks, size = hashlib.sha256(), [], 0
        at_once = BLOCKS_AT_ONCE * BLOCK_BYTES
        while len(part := self._objects.read_range(key, size, size + at_once)) > 0:
            whole.update(part)
            view = memoryview(part)
            blocks += [hashlib.sha256(view[at : at + BLOCK_BYTES]).digest() for at in range(0, len(part), BLOCK_BYTES)]
            size += len(part)
            if len(part) < at_once:
                break
        if whole.hexdigest() != sha256:
            logger.warning("%s: %s is damaged; it is not given out", self._objects.url, key)
            raise VerificationFailed(
                f"{self._objects.url}: {key} is damaged ({size} bytes, wrong SHA-256); delete it and render the track "
                "again"
            )
        return Digests(size, tuple(blocks))

    def read_range(self, key: str, sha256: str, start: int, end: int) -> bytes:
        """Bytes `start` up to, not including, `end`; what lies beyond the end is left out.

        Raises:
            NotFound: there is no such blob.
            VerificationFailed: the blob is not what its hash says, or no longer.
        """
        digests = self.of(key, sha256)
        end = min(end, digests.size)
        if start >= end:
            return b""
        first, last = start // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
        data = self._objects.read_range(key, first * BLOCK_BYTES, min((last + 1) * BLOCK_BYTES, digests.size))
        view = memoryview(data)
        for number in range(first, last + 1):
            at = (number - first) * BLOCK_BYTES
            if hashlib.sha256(view[at : at + BLOCK_BYTES]).digest() != digests.blocks[number]:
                self._forget(key)
                logger.warning("%s: %s was changed while it was read; it is not given out", self._objects.url, key)
                raise VerificationFailed(
                    f"{self._objects.url}: {key} was changed while it was read; see who writes there"
                )
        return data[start - first * BLOCK_BYTES : end - first * BLOCK_BYTES]

    def _forget(self, key: str) -> None:
        with self._changing:
            forgotten = self._known.pop(key, None)
            self._count -= len(forgotten.blocks) if forgotten else 0
