"""Objects as files below a folder that others may write to as well: what is seen is whole, and nothing leads out of it.

`create` needs hard links: `rename` replaces what another writer has just published, `link` refuses. Below the folder no
link is followed and nothing but plain files is opened.
"""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from orchestrion.storage.purged import Purged

#: Where unfinished files lie, below the folder; and where they lie in one that people look into.
ASIDE: Final = "tmp"
HIDDEN_ASIDE: Final = ".orchestrion/tmp"

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY
#: Opening a pipe that nobody writes to would wait for ever.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class NotPlainError(OSError):
    """In the place of a file or folder is something else."""


class Folder:
    """Keys as files below a folder, on a file system with hard links.

    The folder itself may be a link; everything below it is opened name by name from there, and no link is followed.
    """

    remedy = "check that the folder exists, has room, may be written to and is on a file system with hard links"

    def __init__(self, root: Path, aside: str = ASIDE, make: bool = True) -> None:
        """The folder, made if it is absent; without `make` it stays absent, and holds nothing."""
        self.url = str(root)
        self._root = root
        self._aside_folder = aside
        self._may_be_absent = not make
        if make:
            _make_folders(root / aside)

    def is_gone(self, error: FileNotFoundError) -> bool:
        """Whether the folder itself is not there, and should be."""
        return not (self._may_be_absent or self._root.is_dir())

    def create(self, key: str, data: bytes) -> bool:
        """Link the finished file to its name, which fails if there is one."""
        if not data:
            return self._create_empty(key)
        with self._aside(data) as (tmp, aside), self._place(key, make=True) as (folder, name):
            try:
                os.link(aside, name, src_dir_fd=tmp, dst_dir_fd=folder)
            except FileExistsError:
                return False
            os.fsync(folder)
        return True

    def _create_empty(self, key: str) -> bool:
        """The same of a file that is whole as soon as it has its name."""
        with self._place(key, make=True) as (folder, name):
            try:
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder))
            except FileExistsError:
                return False
            os.fsync(folder)
        return True

    def replace(self, key: str, data: bytes) -> None:
        """Move the finished file over what has its name."""
        with self._aside(data) as (tmp, aside), self._place(key, make=True) as (folder, name):
            os.replace(aside, name, src_dir_fd=tmp, dst_dir_fd=folder)
            os.fsync(folder)

    @contextmanager
    def _aside(self, data: bytes) -> Iterator[tuple[int, str]]:
        """A file with these bytes, safe on disk, that is gone afterwards unless it was moved: its folder and name."""
        with self._place(f"{self._aside_folder}/{uuid.uuid4().hex}.part", make=True) as (folder, name):
            try:
                descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(descriptor)
                with _opened(folder, name) as file:
                    if file.read() != data:
                        raise OSError(errno.EIO, "what was read back is not what was written", name)
                yield folder, name
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)

    def delete(self, key: str) -> None:
        """Unlink the file, if there is one."""
        with suppress(FileNotFoundError), self._place(key) as (folder, name):
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)

    def purge(self, key: str) -> Purged:
        """The same; a folder keeps no versions."""
        was_there = self.exists(key)
        self.delete(key)
        return Purged(was_there)

    def read(self, key: str) -> bytes:
        """All of a file."""
        with self._place(key) as place, _opened(*place) as file:
            return file.read()

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start` up to, not including, `end`, as far as the file goes."""
        with self._place(key) as place, _opened(*place) as file:
            file.seek(start)
            return file.read(end - start)

    def read_dated(self, key: str, at_most: int) -> tuple[bytes, datetime | None, datetime | None]:
        """The first bytes of a file, when it was last written, and what time its file system says it is now."""
        with self._place(key) as place, _opened(*place) as file:
            written_at = _moment(os.fstat(file.fileno()).st_mtime)
            return file.read(at_most), written_at, self._now()

    def _now(self) -> datetime | None:
        """The time of the file system, which may be another machine's; None where no file can be made to ask it."""
        try:
            with self._place(f"{self._aside_folder}/{uuid.uuid4().hex}.part", make=True) as (folder, name):
                descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
                try:
                    return _moment(os.fstat(descriptor).st_mtime)
                finally:
                    os.close(descriptor)
                    os.unlink(name, dir_fd=folder)
        except OSError:
            return None

    def size(self, key: str) -> int:
        """Bytes of a file."""
        with self._place(key) as place, _opened(*place) as file:
            return os.fstat(file.fileno()).st_size

    def exists(self, key: str) -> bool:
        """Whether there is anything of this name."""
        try:
            with self._place(key) as (folder, name):
                os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError as error:
            if self.is_gone(error):
                raise
            return False
        return True

    def keys(self, folder: str, cuts: Sequence[str] = ()) -> list[str]:
        """Every file below `folder`, links included; a disk lists them fast enough as a whole."""
        found: list[str] = []
        try:
            with self._place(f"{folder}/x") as (top, _):
                for path, _, names, _ in os.fwalk(".", onerror=self._cannot_list, dir_fd=top):
                    prefix = folder if path == "." else f"{folder}/{path[2:]}"
                    found += [f"{prefix}/{name}" for name in names]
        except FileNotFoundError as error:
            self._cannot_list(error)
        return found

    def ages(self, folder: str) -> dict[str, float]:
        """Seconds since each plain file below `folder` was written, by the clock of the file system."""
        if (now := self._now()) is None:
            return {}
        found = {}
        for key in self.keys(folder):
            with suppress(FileNotFoundError, NotPlainError), self._place(key) as (place, name):
                status = os.stat(name, dir_fd=place, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    found[key] = (now - _moment(status.st_mtime)).total_seconds()
        return found

    def probe(self, size: int) -> None:
        """Write an unfinished file of so many bytes and leave it unfinished."""
        with self._aside(os.urandom(size)):
            pass

    def _cannot_list(self, error: OSError) -> None:
        """A folder that was never made holds no keys; any other reason must be told."""
        if not isinstance(error, FileNotFoundError) or self.is_gone(error):
            raise error

    @contextmanager
    def _place(self, key: str, make: bool = False) -> Iterator[tuple[int, str]]:
        """The open folder in which a key's file is or will be, and the file's name there."""
        *folders, name = key.split("/")
        folder = os.open(self._root, _FOLDER)
        try:
            for inner in folders:
                opened = _inner_folder(folder, inner, make)
                os.close(folder)
                folder = opened
            yield folder, name
        finally:
            os.close(folder)


def _inner_folder(folder: int, name: str, make: bool) -> int:
    """Open a folder in an open one; made if need be, safe on disk: with a folder its records would go."""
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)
        os.fsync(folder)
        return _inner_folder(folder, name, make=False)
    except OSError as error:
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise NotPlainError(error.errno, "a link", name) from error
        raise


@contextmanager
def _opened(folder: int, name: str) -> Iterator[BinaryIO]:
    """A plain file in an open folder, for reading."""
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise NotPlainError(error.errno, "a link or a socket", name) from error
        raise
    # A file object made of a folder's descriptor raises, and leaves the descriptor open.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotPlainError(errno.EINVAL, "not a plain file", name)
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _make_folders(folder: Path) -> None:
    """`mkdir -p`, with each new name safe on disk."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder.parent, _FOLDER)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
