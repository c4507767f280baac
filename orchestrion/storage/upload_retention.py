"""Uploads in a store share a size limit, and each is deleted on a certain day: any client may send them.

    uploads/<day>/<sha256>-<bytes>      beside each upload that came over HTTP, empty

The names hold all there is to know, so one listing tells what lies there and since when. An upload that comes again
stays longer. A track's record keeps the hash of what it was made from; the track itself needs the upload no more.
"""

from __future__ import annotations

import hashlib
import re
import threading
from datetime import date, timedelta
from typing import Final

from orchestrion.clock import Clock
from orchestrion.errors import Overloaded
from orchestrion.storage.object_store import Objects
from orchestrion.storage.track_store import TrackStore

#: Between two looks at what is there, which also remove what is too old. Other processes' uploads are seen then.
SWEEP_EVERY_S: Final = 3600.0
_FOLDER: Final = "uploads"
_MARK: Final = re.compile(
    _FOLDER + r"/(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})/(?P<sha256>[0-9a-f]{64})-(?P<bytes>[0-9]{1,12})"
)


class KeptUploads:
    """The uploads of one store. Any thread may use it; a call may take as long as a listing of the store does."""

    def __init__(
        self, store: TrackStore, objects: Objects, clock: Clock, *, max_bytes: int, keep_days: int | None
    ) -> None:
        """The uploads in `store`, whose bare objects are `objects`.

        Args:
            store: where uploads are kept, and requests look for them.
            objects: the same place, for the marks beside them.
            clock: decides what is too old.
            max_bytes: that all uploads together may have.
            keep_days: after which an upload is removed; None: never.
        """
        self._store = store
        self._objects = objects
        self._clock = clock
        self._max_bytes = max_bytes
        self._keep_days = keep_days
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._swept_at_s: float | None = None

    def put(self, data: bytes) -> str:
        """Keep an upload; returns the reference that requests name it by.

        Raises:
            Overloaded: all uploads together would be larger than they may be.
            StoreUnavailable: the store did not answer.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        with self._lock:
            self._sweep_if_due()
            used = sum(self._sizes.values())
            if sha256 not in self._sizes and used + len(data) > self._max_bytes:
                until = f"; the oldest go after {self._keep_days} days" if self._keep_days is not None else ""
                raise Overloaded(f"there is no room for more uploads{until}", SWEEP_EVERY_S)
            self._sizes[sha256] = len(data)
        # First the mark: a sweep elsewhere that sees it leaves the upload alone.
        self._objects.create(f"{_FOLDER}/{self._today().isoformat()}/{sha256}-{len(data)}", b"")
        return self._store.put_theme(data)

    def _sweep_if_due(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._swept_at_s is not None and now_s - self._swept_at_s < SWEEP_EVERY_S:
            return
        marks = [mark for mark in map(_MARK.fullmatch, self._objects.keys(_FOLDER)) if mark]
        newest: dict[str, str] = {}
        for mark in marks:
            newest[mark["sha256"]] = max(mark["day"], newest.get(mark["sha256"], ""))
        expired = {sha256 for sha256, day in newest.items() if self._is_too_old(day)}
        for sha256 in expired:
            self._store.delete_theme(f"sha256:{sha256}")
        for mark in marks:
            if mark["sha256"] in expired or mark["day"] < newest[mark["sha256"]]:
                self._objects.delete(mark[0])
        self._sizes = {mark["sha256"]: int(mark["bytes"]) for mark in marks if mark["sha256"] not in expired}
        self._swept_at_s = now_s

    def _is_too_old(self, day: str) -> bool:
        return self._keep_days is not None and day < (self._today() - timedelta(days=self._keep_days)).isoformat()

    def _today(self) -> date:
        return self._clock.now().date()
