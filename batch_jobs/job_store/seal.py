"""A seal on bytes that a job leaves in a folder that others may write: only holders of the signing key can make it."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

_SEAL_BYTES: Final = hashlib.sha256().digest_size


class Seal:
    """Seals of one kind of object of one job."""

    def __init__(self, head: bytes, key: bytes) -> None:
        """Take what a sealed object begins with, and the key, which is derived from the signing key and lies nowhere.

        Args:
            head: says what it is, and in which version.
            key: see `Signer.derived_key`.
        """
        self._head = head
        self._key = key

    def sealed(self, name: str, data: bytes) -> bytes:
        """The bytes under a seal that holds for this name alone."""
        return self._head + self._seal(name, data) + data

    def opened(self, name: str, sealed: bytes) -> bytes:
        """The bytes in it.

        Raises:
            ValueError: they do not carry our seal for this name.
        """
        head, rest = sealed[: len(self._head)], sealed[len(self._head) :]
        seal, data = rest[:_SEAL_BYTES], rest[_SEAL_BYTES:]
        if head != self._head or not hmac.compare_digest(seal, self._seal(name, data)):
            raise ValueError("it does not carry the seal of this job's signing key")
        return data

    def _seal(self, name: str, data: bytes) -> bytes:
        # A name has no NUL, so that no other pair of name and bytes is the same message.
        return hmac.digest(self._key, name.encode() + b"\0" + data, "sha256")
