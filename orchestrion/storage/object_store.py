"""Named objects in a folder or an S3 bucket, each whole or not there: what the track store and the ledger stand on.

`create` takes a name that is free and tells who won; `replace` overwrites. Both make all of the bytes safe before the
name shows them. Whoever else may write the folder or bucket must not lead a reader out of it: a name is plain words
between slashes, with spaces and letters of any language where people look for files by their titles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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


class Objects:
    """The objects below one address. Safe to share between threads, and to pickle: a copy opens its own connections.

    Every method raises StoreUnavailable when the folder or bucket does not answer, and InvalidRequest for a key that
    no object can have (`../x`). Those that read one object raise NotFound when it is not there, and VerificationFailed
    when there is something else in its place: a link, or a folder.
    """

    def __init__(
        self, url: str, storage_options: Mapping[str, Any] | None = None, readable_names: bool = False
    ) -> None:
        """The objects at `url`: a folder (made if absent), file:///folder or s3://bucket[/prefix].

        Args:
            url: where the objects are.
            storage_options: where and who, in the words of s3fs, e.g. {"endpoint_url": …, "key": …, "secret": …};
                `orchestrion.storage.bucket.OPTIONS` lists them. A folder needs none, and ignores them.
            readable_names: names may have spaces and letters of any language, and what a folder's files are made of
                lies in a hidden folder: for a place that people look into.

        Raises:
            InvalidRequest: the URL is of another kind, or a bucket has no such option.
            StoreUnavailable: the folder cannot be made. A bucket is contacted only when it is first used.
        """
        #: As given: other libraries open the same address with them.
        self.storage_options = dict(storage_options or {})
        self._readable_names = readable_names
        self._backend = _backend_for(url, self.storage_options, HIDDEN_ASIDE if readable_names else ASIDE)
        #: The address in its one spelling, absolute.
        self.url = self._backend.url

    def __reduce__(self) -> tuple[Callable[..., Objects], tuple[str, dict[str, Any], bool]]:
        return (Objects, (self.url, self.storage_options, self._readable_names))

    def create(self, key: str, data: bytes) -> bool:
        """Write all of `data` under a new name; an object that is there is left as it is.

        Returns:
            Whether this call made the object. A call whose answer was lost on the way may say False of its own.
        """
        with self._errors(key):
            return self._backend.create(key, data)

    def replace(self, key: str, data: bytes) -> None:
        """Write all of `data` under a name, in place of what is there: readers see the old bytes or the new."""
        with self._errors(key):
            self._backend.replace(key, data)

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is removed already."""
        with self._errors(key):
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

    def keys(self, folder: str) -> list[str]:
        """Every name below `folder` that an object can have; empty if there is none."""
        with self._errors(folder):
            return [key for key in self._backend.keys(folder) if is_key(key, self._readable_names)]

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

    def size(self, key: str) -> int: ...

    def exists(self, key: str) -> bool: ...

    def keys(self, folder: str) -> list[str]:
        """Every key below `folder`; empty if there is none."""
        ...


def _backend_for(url: str, options: Mapping[str, Any], aside: str) -> _Backend:
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
        return Folder(root.expanduser().absolute(), aside)
    except OSError as error:
        raise StoreUnavailable(f"store {url}: {error}; {Folder.remedy}") from error
