"""Named objects in a folder or an S3 bucket, each whole or not there: what the track store and the ledger stand on.

`create` takes a name that is free and tells who won; `replace` overwrites. Both make all of the bytes safe before the
name shows them. Whoever else may write the folder or bucket must not lead a reader out of it: a name is plain words
between slashes, with spaces and letters of any language where people look for files by their titles.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable, VerificationFailed, shown
from orchestrion.storage.folder import ASIDE, HIDDEN_ASIDE, Folder, NotPlainError
from orchestrion.storage.purged import Purged

_BUCKET_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/(?!\.\.)[A-Za-z0-9._=-]*)*)")

#: One word of a name: printable ASCII without space, slash and backslash; file systems end at 255 bytes, S3 at 1,024.
_WORD = re.compile(r"(?!\.{1,2}$)[!-.0-\[\]-~]{1,255}")
_MAX_WORD_BYTES: Final = 255
MAX_KEY_BYTES: Final = 900
#: What a file is called while it is written.
UNFINISHED: Final = re.compile(r"[0-9a-f]{32}\.part")


@dataclass(frozen=True, slots=True)
class Dated:
    """The bytes of an object, when it was written, and when they were read: both by the store's own clock.

    The moments are None where the store does not tell.
    """

    data: bytes
    written_at: datetime | None = None
    read_at: datetime | None = None


class Objects:
    """The objects below one address. Safe to share between threads, and to pickle: a copy opens its own connections.

    Every method raises StoreUnavailable when the folder or bucket does not answer, and InvalidRequest for a key that
    no object can have (`../x`). Those that read one object raise NotFound when it is not there, and VerificationFailed
    when there is something else in its place: a link, or a folder.
    """

    def __init__(
        self,
        url: str,
        storage_options: Mapping[str, Any] | None = None,
        readable_names: bool = False,
        read_only: bool = False,
    ) -> None:
        """The objects at `url`: a folder (made if absent), file:///folder or s3://bucket[/prefix].

        Args:
            url: where the objects are.
            storage_options: where and who, in the words of s3fs, e.g. {"endpoint_url": …, "key": …, "secret": …};
                `orchestrion.storage.bucket.OPTIONS` lists them. A folder needs none, and ignores them.
            readable_names: names may have spaces and letters of any language, and what a folder's files are made of
                lies in a hidden folder: for a place that people look into.
            read_only: write nothing, not even the folder: one that is absent holds no objects.

        Raises:
            InvalidRequest: the URL is of another kind, or a bucket has no such option.
            StoreUnavailable: the folder cannot be made. A bucket is contacted only when it is first used.
        """
        #: As given: other libraries open the same address with them.
        self.storage_options = dict(storage_options or {})
        self._readable_names = readable_names
        self._read_only = read_only
        self._aside = HIDDEN_ASIDE if readable_names else ASIDE
        self._backend = _backend_for(url, self.storage_options, self._aside, make_folder=not read_only)
        #: The address in its one spelling, absolute.
        self.url = self._backend.url

    def __reduce__(self) -> tuple[Callable[..., Objects], tuple[str, dict[str, Any], bool, bool]]:
        return (Objects, (self.url, self.storage_options, self._readable_names, self._read_only))

    def create(self, key: str, data: bytes) -> bool:
        """Write all of `data` under a new name; an object that is there is left as it is.

        Returns:
            Whether this call made the object. A call whose answer was lost on the way may say False of its own.
        """
        with self._errors(key):
            self._check_writable()
            return self._backend.create(key, data)

    def replace(self, key: str, data: bytes) -> None:
        """Write all of `data` under a name, in place of what is there: readers see the old bytes or the new."""
        with self._errors(key):
            self._check_writable()
            self._backend.replace(key, data)

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is removed already."""
        with self._errors(key):
            self._check_writable()
            self._backend.delete(key)

    def purge(self, key: str) -> Purged:
        """Remove an object for good: in a bucket that keeps versions, every version of it, as far as that is allowed.

        An object that was deleted before may have versions still; they are removed, too.
        """
        with self._errors(key):
            return self._backend.purge(key)

    def read(self, key: str, at_most: int | None = None) -> bytes:
        """All bytes of an object.

        Raises:
            VerificationFailed: it has more than `at_most` bytes; so many are not read into memory.
        """
        with self._errors(key):
            data = self._backend.read(key) if at_most is None else self._backend.read_range(key, 0, at_most + 1)
        return self._checked_length(key, data, at_most)

    def read_dated(self, key: str, at_most: int) -> Dated:
        """All bytes of an object, and when they were written by the store's clock: those of its writers may be wrong.

        Raises:
            VerificationFailed: it has more than `at_most` bytes.
        """
        with self._errors(key):
            data, written_at, read_at = self._backend.read_dated(key, at_most + 1)
        return Dated(self._checked_length(key, data, at_most), written_at, read_at)

    def _checked_length(self, key: str, data: bytes, at_most: int | None) -> bytes:
        if at_most is not None and len(data) > at_most:
            raise VerificationFailed(f"{key} in {self.url} has more than {at_most} bytes; it is not what was written")
        return data

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start` up to, not including, `end`; what lies beyond the object's end is left out."""
        with self._errors(key):
            return self._backend.read_range(key, start, end)

    def size(self, key: str) -> int:
        """Bytes of an object."""
        with self._errors(key):
            return self._backend.size(key)

    def exists(self, key: str) -> bool:
        """Whether this name is taken, by an object or by what cannot be read as one."""
        with self._errors(key):
            return self._backend.exists(key)

    def keys(self, folder: str, cuts: Sequence[str] = ()) -> list[str]:
        """Every name below `folder` that an object can have; empty if there is none.

        Args:
            folder: the names' beginning, without the slash.
            cuts: beginnings of names in it, in order: a bucket that gives a long listing page by page is asked for what
                is between them at the same time.
        """
        with self._errors(folder):
            return [key for key in self._backend.keys(folder, cuts) if is_key(key, self._readable_names)]

    def _check_writable(self) -> None:
        if self._read_only:
            raise OSError(errno.EROFS, "it was opened to be read only")

    def ages(self, folder: str) -> dict[str, float]:
        """Seconds since each object below `folder` was written, by the store's clock; those it tells of, by name."""
        with self._errors(folder):
            ages = self._backend.ages(folder)
        return {key: age_s for key, age_s in ages.items() if is_key(key, self._readable_names)}

    def sweep_unfinished(self, kept: timedelta, below: str = "") -> list[str]:
        """Delete the unfinished files of writers that have died; returns their names.

        Args:
            kept: what is younger is left: its writer may be at work.
            below: in this folder, which is a store of its own, and not here.
        """
        aside = f"{below}/{self._aside}" if below else self._aside
        dead = [
            key
            for key, age_s in self.ages(aside).items()
            if UNFINISHED.fullmatch(key.removeprefix(f"{aside}/")) and age_s >= kept.total_seconds()
        ]
        for key in dead:
            self.delete(key)
        return dead

    def probe(self, size: int) -> None:
        """Write so many bytes where unfinished files lie, and remove them: whether there is room, and permission."""
        with self._errors(self._aside):
            self._backend.probe(size)

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """What goes wrong inside, in this project's terms."""
        if not is_key(key, self._readable_names):
            raise InvalidRequest.of(
                "key", key, "is not the name of an object: plain words between single slashes, none of them . or .."
            )
        try:
            yield
        except NotPlainError:
            raise VerificationFailed(
                f"{key} in {self.url} is no plain file, or lies behind a link; it is not read. Find out who put it "
                "there, and delete it"
            ) from None
        except FileNotFoundError as error:
            if self._backend.is_gone(error):
                raise StoreUnavailable(f"store {self.url} is not there; {self._backend.remedy}") from error
            raise NotFound(f"{key} is not in the store {self.url}; render or upload it first") from error
        except OSError as error:
            reason = shown(str(error) or repr(error))
            raise StoreUnavailable(f"store {self.url}: {reason}; {self._backend.remedy}") from error


def is_key(text: str, readable: bool = False) -> bool:
    """Whether an object could have this name; `readable`: where names may have spaces and letters of any language."""
    if not readable:
        return len(text) <= MAX_KEY_BYTES and all(map(_WORD.fullmatch, text.split("/")))
    # What cannot be printed is looked for first: a lone surrogate has no bytes to count.
    return all(map(_is_readable_word, text.split("/"))) and len(text.encode()) <= MAX_KEY_BYTES


def _is_readable_word(word: str) -> bool:
    """Neither empty, `.` nor `..`, and nothing in it that is invisible or parts folders on any system."""
    is_visible = word.isprintable() and "\\" not in word and word.strip(" ") not in ("", ".", "..")
    return is_visible and len(word.encode()) <= _MAX_WORD_BYTES


class _Backend(Protocol):
    """A flat space of keys. Methods raise FileNotFoundError for a missing key and OSError kinds for the rest."""

    #: The store's address in its one spelling, absolute.
    url: str
    #: What to look at when it does not answer.
    remedy: str

    def is_gone(self, error: FileNotFoundError) -> bool:
        """Whether not only a key is missing but the folder or bucket itself."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Write all of `data` under a new key, verified before it is seen; False if the key is taken."""
        ...

    def replace(self, key: str, data: bytes) -> None: ...

    def delete(self, key: str) -> None: ...

    def purge(self, key: str) -> Purged: ...

    def read(self, key: str) -> bytes: ...

    def read_range(self, key: str, start: int, end: int) -> bytes: ...

    def read_dated(self, key: str, at_most: int) -> tuple[bytes, datetime | None, datetime | None]:
        """The first `at_most` bytes, when the object was written, and what the store's clock says now."""
        ...

    def size(self, key: str) -> int: ...

    def exists(self, key: str) -> bool: ...

    def keys(self, folder: str, cuts: Sequence[str] = ()) -> list[str]:
        """Every key below `folder`; empty if there is none. Between the cuts a listing may be made side by side."""
        ...

    def ages(self, folder: str) -> dict[str, float]:
        """Seconds since each object below `folder` was written, by the clock of the place."""
        ...

    def probe(self, size: int) -> None:
        """Write so many bytes that nothing compresses, and remove them."""
        ...


def _backend_for(url: str, options: Mapping[str, Any], aside: str, make_folder: bool) -> _Backend:
    parts = urlsplit(url)
    if bucket_url := _BUCKET_URL.fullmatch(url):
        prefix = (bucket_url["prefix"] or "").strip("/")
        # Imported where it is needed: botocore costs a process with a folder 0.5 s and 30 MiB.
        from orchestrion.storage.bucket import Bucket

        return Bucket(bucket_url["bucket"], f"{prefix}/" if prefix else "", options)
    if "://" in url and (parts.scheme != "file" or parts.netloc not in ("", "localhost") or parts.query):
        raise InvalidRequest.of("store_url", url, "use a folder, file:///folder, s3://bucket or s3://bucket/prefix")
    root = Path(unquote(parts.path) if "://" in url else url)
    try:
        return Folder(root.expanduser().absolute(), aside, make_folder)
    except OSError as error:
        raise StoreUnavailable(f"store {url}: {error}; {Folder.remedy}") from error
