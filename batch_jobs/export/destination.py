"""Where files are exported to: a folder or a bucket, and what in it is this export's own.

A file that an earlier export has not written is never written over. Names are claimed in the manifest before anything
is written, so that an export that is killed between any two writes finds its own files again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Executor
from threading import Lock
from typing import Final

from batch_jobs.export.manifest import ExportedFile, read_manifest, write_manifest
from batch_jobs.in_order import in_order
from orchestrion.errors import InvalidRequest, NotFound, VerificationFailed
from orchestrion.storage.folder import HIDDEN_ASIDE
from orchestrion.storage.object_store import Objects

#: Files up to this size are compared byte by byte, which costs no more than asking for their size.
COMPARED_BYTES: Final = 64 * 1024


class NameTaken(InvalidRequest):
    """Under this name lies something that no export wrote."""


class Destination:
    """The files of one export. `put` may be called by several threads; everything else by one."""

    def __init__(self, objects: Objects) -> None:
        """What the last export left in `objects`, whose names are readable ones.

        Raises:
            InvalidRequest: there is a manifest that is none.
            StoreUnavailable: the folder or bucket did not answer.
        """
        self.url = objects.url
        self._objects = objects
        #: What the last export wrote.
        self.before = read_manifest(objects)
        self._files = dict(self.before)
        #: Names under which there is nothing yet, and those under which there is something of others.
        self._free: set[str] = set()
        self._taken: set[str] = set()
        self._stands: set[str] = set()
        self._lock = Lock()

    def refuse_if_taken(self, names: Iterable[str]) -> None:
        """Do nothing, unless under one of these names lies something that no export wrote.

        Raises:
            NameTaken: so it is.
        """
        for name in names:
            if name not in self.before and self._exists(name):
                raise self._name_taken(name)

    def claim(self, unwritten: Iterable[tuple[str, str]], pool: Executor, on_progress: Callable[[], None]) -> None:
        """Take names for files that are to be written, or written over.

        Args:
            unwritten: of each its name and its track's id.
            pool: looks at what is there.
            on_progress: called every now and then.

        Raises:
            StoreUnavailable: the folder or bucket did not answer.
        """
        for unfinished in self._objects.keys(HIDDEN_ASIDE):
            # Of an export that was killed: two at a time there are not.
            self._objects.delete(unfinished)
        claimed = list(unwritten)
        new = [name for name, _ in claimed if name not in self.before]
        for name, is_there in zip(new, in_order(pool, self._exists, new, on_progress), strict=True):
            (self._taken if is_there else self._free).add(name)
            on_progress()
        for name, track_id in claimed:
            if name not in self._taken:
                self._files[name] = ExportedFile(track_id, None, 0)
        self.save()

    def put(self, name: str, track_id: str, sha256: str, at_most: int, data: Callable[[], bytes]) -> int:
        """Have these bytes under a name.

        Args:
            name: of the file.
            track_id: whose it is.
            sha256: of the bytes.
            at_most: how many they are, at most.
            data: gives the bytes; asked only if they are not there.

        Returns:
            How many bytes were written; 0 if they were there.

        Raises:
            NameTaken: there is something else that no export wrote.
            StoreUnavailable: the folder or bucket did not take it.
        """
        size = self._size_if_there(name, sha256, at_most)
        written = 0
        if size is None:
            if name in self._taken:
                raise self._name_taken(name)
            content = data()
            self._objects.replace(name, content)
            size = written = len(content)
        with self._lock:
            self._files[name] = ExportedFile(track_id, sha256, size)
            self._stands.add(name)
        return written

    def give_up(self, names: Iterable[str], track_id: str, elsewhere: Collection[str]) -> None:
        """Know again what was known before of those names that were claimed for a track, and not written after all.

        A file of another track that was to be written over is removed if that track is `elsewhere` by now.
        """
        for name in names:
            if name in self._stands:
                continue
            before = self.before.get(name)
            if before is None:
                self._files.pop(name, None)
            elif before.track_id != track_id and before.track_id in elsewhere:
                self.remove(name)
            else:
                self._files[name] = before

    def names_of(self, track_ids: Collection[str]) -> list[str]:
        """Names of this export's files of these tracks."""
        return self.still_there(sorted(name for name, file in self._files.items() if file.track_id in track_ids))

    def still_there(self, names: Iterable[str]) -> list[str]:
        """Those of the names under which this export has a file. What was claimed and never written is forgotten."""
        found = []
        for name in names:
            file = self._files.get(name)
            if file is None:
                continue
            if file.sha256 is None and not self._objects.exists(name):
                del self._files[name]
            else:
                found.append(name)
        return found

    def remove(self, name: str) -> None:
        """Delete a file of this export; one that is gone is forgotten."""
        self._objects.delete(name)
        self._files.pop(name, None)

    def save(self) -> None:
        """Write the manifest."""
        with self._lock:
            files = dict(self._files)
        write_manifest(self._objects, files)

    def _name_taken(self, name: str) -> InvalidRequest:
        return NameTaken.of("to", f"{self.url}/{name}", "is no file of an export; move it, or name another folder")

    def _exists(self, name: str) -> bool:
        return self._objects.exists(name)

    def _size_if_there(self, name: str, sha256: str, at_most: int) -> int | None:
        """How many bytes the file has, if it is there and has this hash; None if not."""
        if name in self._free:
            return None
        known = self.before.get(name)
        try:
            if known is not None and known.sha256 == sha256 and known.bytes > COMPARED_BYTES:
                return known.bytes if self._objects.size(name) == known.bytes else None
            content = self._objects.read(name, at_most)
        except (NotFound, VerificationFailed):
            # Not there; larger; or a link, which is not read.
            return None
        return len(content) if hashlib.sha256(content).hexdigest() == sha256 else None
