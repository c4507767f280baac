"""Named objects in a folder or an S3 bucket, each whole or not there: what the track store and the ledger stand on.

`create` takes a name that is free and tells who won; `replace` overwrites. Both make all of the bytes safe before the
name shows them. In a folder `create` needs hard links: `rename` replaces what another writer has just published, `link`
refuses.

Whoever else may write the folder or bucket must not lead a reader out of it: a name is plain words between slashes, and
below the folder no link is followed and nothing but plain files is opened.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol
from urllib.parse import unquote, urlsplit

import fsspec
from aiohttp import ClientError as HttpClientError
from botocore.exceptions import BotoCoreError
from botocore.exceptions import ClientError as S3ClientError

from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable, VerificationFailed, shown

_BUCKET_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/(?!\.\.)[A-Za-z0-9._=-]*)*)")

#: One word of a name: printable ASCII without space, slash and backslash; file systems end at 255 bytes, S3 at 1,024.
_WORD = re.compile(r"(?!\.{1,2}$)[!-.0-\[\]-~]{1,255}")
MAX_KEY_BYTES: Final = 900

#: Seconds to connect, and seconds without an answer (an upload included), before one try counts as failed.
S3_CONNECT_TIMEOUT_S: Final = 3
S3_READ_TIMEOUT_S: Final = 30
#: Tries of one call, with growing random pauses between them: broken connections, time-outs, 5xx, throttling.
S3_TRIES: Final = 3


class Objects:
    """The objects below one address. Safe to share between threads, and to pickle: a copy opens its own connections.

    Every method raises StoreUnavailable when the folder or bucket does not answer, and InvalidRequest for a key that
    no object can have (`../x`). Those that read one object raise NotFound when it is not there, and VerificationFailed
    when there is something else in its place: a link, or a folder.
    """

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        """The objects at `url`: a folder (made if absent), file:///folder or s3://bucket[/prefix].

        Args:
            url: where the objects are.
            storage_options: arguments of s3fs's `S3FileSystem`, e.g. {"endpoint_url": …, "key": …, "secret": …}.

        Raises:
            InvalidRequest: the URL is of another kind.
            StoreUnavailable: the folder cannot be made. A bucket is contacted only when it is first used.
        """
        #: As given: other libraries open the same address with them.
        self.storage_options = dict(storage_options or {})
        self._backend = _backend_for(url, self.storage_options)
        #: The address in its one spelling, absolute.
        self.url = self._backend.url

    def __reduce__(self) -> tuple[Callable[..., Objects], tuple[str, dict[str, Any]]]:
        return (Objects, (self.url, self.storage_options))

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
            return [key for key in self._backend.keys(folder) if is_key(key)]

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """What goes wrong inside, in this project's terms."""
        if not is_key(key):
            raise InvalidRequest.of(
                "key", key, "is not the name of an object: plain words between single slashes, none of them . or .."
            )
        try:
            yield
        except _NotPlainError:
            raise VerificationFailed(
                f"{key} in {self.url} is no plain file, or lies behind a link; it is not read. Find out who put it "
                "there, and delete it"
            ) from None
        except FileNotFoundError as error:
            if self._backend.is_gone(error):
                raise StoreUnavailable(f"store {self.url} is not there; {self._backend.remedy}") from error
            raise NotFound(f"{key} is not in the store {self.url}; render or upload it first") from error
        except (OSError, BotoCoreError, S3ClientError, HttpClientError) as error:
            reason = shown(str(error) or repr(error))
            raise StoreUnavailable(f"store {self.url}: {reason}; {self._backend.remedy}") from error


def is_key(text: str) -> bool:
    """Whether an object could have this name."""
    return len(text) <= MAX_KEY_BYTES and all(map(_WORD.fullmatch, text.split("/")))


class _NotPlainError(OSError):
    """In the place of a file or folder is something else."""


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

    def read(self, key: str) -> bytes: ...

    def read_range(self, key: str, start: int, end: int) -> bytes: ...

    def size(self, key: str) -> int: ...

    def exists(self, key: str) -> bool: ...

    def keys(self, folder: str) -> list[str]:
        """Every key below `folder`; empty if there is none."""
        ...


_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY
#: Opening a pipe that nobody writes to would wait for ever.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class _Folder:
    """Keys as files below a folder, on a file system with hard links.

    The folder itself may be a link; everything below it is opened name by name from there, and no link is followed.
    """

    remedy = "check that the folder exists, has room, may be written to and is on a file system with hard links"

    def __init__(self, root: Path) -> None:
        self.url = str(root)
        self._root = root
        _make_folders(root / "tmp")

    def is_gone(self, error: FileNotFoundError) -> bool:
        return not self._root.is_dir()

    def create(self, key: str, data: bytes) -> bool:
        with self._aside(data) as (tmp, aside), self._place(key, make=True) as (folder, name):
            try:
                os.link(aside, name, src_dir_fd=tmp, dst_dir_fd=folder)
            except FileExistsError:
                return False
            os.fsync(folder)
        return True

    def replace(self, key: str, data: bytes) -> None:
        with self._aside(data) as (tmp, aside), self._place(key, make=True) as (folder, name):
            os.replace(aside, name, src_dir_fd=tmp, dst_dir_fd=folder)
            os.fsync(folder)

    @contextmanager
    def _aside(self, data: bytes) -> Iterator[tuple[int, str]]:
        """A file with these bytes, safe on disk, that is gone afterwards unless it was moved: its folder and name."""
        with self._place(f"tmp/{uuid.uuid4().hex}.part", make=True) as (folder, name):
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
        with suppress(FileNotFoundError), self._place(key) as (folder, name):
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)

    def read(self, key: str) -> bytes:
        with self._place(key) as place, _opened(*place) as file:
            return file.read()

    def read_range(self, key: str, start: int, end: int) -> bytes:
        with self._place(key) as place, _opened(*place) as file:
            file.seek(start)
            return file.read(end - start)

    def size(self, key: str) -> int:
        with self._place(key) as place, _opened(*place) as file:
            return os.fstat(file.fileno()).st_size

    def exists(self, key: str) -> bool:
        try:
            with self._place(key) as (folder, name):
                os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError as error:
            if self.is_gone(error):
                raise
            return False
        return True

    def keys(self, folder: str) -> list[str]:
        found: list[str] = []
        try:
            with self._place(f"{folder}/x") as (top, _):
                for path, _, names, _ in os.fwalk(".", onerror=self._cannot_list, dir_fd=top):
                    prefix = folder if path == "." else f"{folder}/{path[2:]}"
                    found += [f"{prefix}/{name}" for name in names]
        except FileNotFoundError as error:
            self._cannot_list(error)
        return found

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
            raise _NotPlainError(error.errno, "a link", name) from error
        raise


@contextmanager
def _opened(folder: int, name: str) -> Iterator[BinaryIO]:
    """A plain file in an open folder, for reading."""
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise _NotPlainError(error.errno, "a link or a socket", name) from error
        raise
    # A file object made of a folder's descriptor raises, and leaves the descriptor open.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _NotPlainError(errno.EINVAL, "not a plain file", name)
    with os.fdopen(descriptor, "rb") as file:
        yield file


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


class _S3(Protocol):
    """What is used of `s3fs.S3FileSystem`."""

    retries: int

    def call_s3(self, method: str, **arguments: object) -> Mapping[str, Any]: ...

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, max_concurrency: int | None = None
    ) -> bytes: ...


class _Bucket:
    """Keys as S3 objects. One PUT makes an object whole or not at all; the server checks its MD5 before that."""

    remedy = "check that the bucket exists, that the endpoint answers and that the credentials may read and write"

    def __init__(self, bucket: str, prefix: str, options: Mapping[str, Any]) -> None:
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = prefix
        self._options = options
        #: By process id: s3fs keeps an event loop in a thread, which a fork does not copy.
        self._filesystems: dict[int, _S3] = {}

    def is_gone(self, error: FileNotFoundError) -> bool:
        return _s3_code(error) == "NoSuchBucket"

    def _filesystem(self) -> _S3:
        """The connections of this process; opened without a lock, which a fork could copy while it is held."""
        found = self._filesystems.get(os.getpid())
        return found or self._filesystems.setdefault(os.getpid(), _s3_filesystem(self._options))

    def create(self, key: str, data: bytes) -> bool:
        try:
            self._put(key, data, IfNoneMatch="*")
        except OSError as error:
            # 409: S3 is busy with another writer's PUT of the same key. Whoever is first, the answer is the same.
            if _s3_code(error) in ("PreconditionFailed", "ConditionalRequestConflict"):
                return False
            raise
        return True

    def replace(self, key: str, data: bytes) -> None:
        self._put(key, data)

    def _put(self, key: str, data: bytes, **condition: str) -> None:
        md5 = hashlib.md5(data, usedforsecurity=False)
        answer = self._filesystem().call_s3(
            "put_object",
            Bucket=self._bucket,
            Key=self._prefix + key,
            Body=data,
            ContentMD5=base64.b64encode(md5.digest()).decode("ascii"),
            **condition,
        )
        # With SSE-KMS the ETag is no MD5: then what was written is read back.
        if answer["ETag"].strip('"') != md5.hexdigest() and self.read(key) != data:
            raise OSError(errno.EIO, f"what was read back from {key} is not what was written")

    def delete(self, key: str) -> None:
        self._filesystem().call_s3("delete_object", Bucket=self._bucket, Key=self._prefix + key)

    def read(self, key: str) -> bytes:
        return self._filesystem().cat_file(self._path(key), max_concurrency=1)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        try:
            return self._filesystem().cat_file(self._path(key), start=start, end=end)
        except OSError as error:
            if _s3_code(error) in ("InvalidRange", "416"):
                return b""
            raise

    def size(self, key: str) -> int:
        answer = self._filesystem().call_s3("head_object", Bucket=self._bucket, Key=self._prefix + key)
        return int(answer["ContentLength"])

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except FileNotFoundError as error:
            if self.is_gone(error):
                raise
            return False
        return True

    def keys(self, folder: str) -> list[str]:
        # Not s3fs's own `find`: it takes a bucket that is not there for an empty one.
        found: list[str] = []
        page: Mapping[str, Any] = {"NextContinuationToken": None}
        while "NextContinuationToken" in page:
            token = page["NextContinuationToken"]
            page = self._filesystem().call_s3(
                "list_objects_v2",
                Bucket=self._bucket,
                Prefix=f"{self._prefix}{folder}/",
                **({"ContinuationToken": token} if token else {}),
            )
            found += [entry["Key"].removeprefix(self._prefix) for entry in page.get("Contents", ())]
        return found

    def _path(self, key: str) -> str:
        return f"{self._bucket}/{self._prefix}{key}"


def _s3_filesystem(options: Mapping[str, Any]) -> _S3:
    config = {
        "connect_timeout": S3_CONNECT_TIMEOUT_S,
        "read_timeout": S3_READ_TIMEOUT_S,
        "retries": {"mode": "standard", "total_max_attempts": S3_TRIES},
    } | dict(options.get("config_kwargs", {}))
    filesystem: _S3 = fsspec.filesystem(
        "s3", **{**options, "config_kwargs": config}, skip_instance_cache=True, use_listings_cache=False
    )
    # s3fs has a second retry loop around botocore's, which does not know of refused connections: one is enough.
    filesystem.retries = 1
    return filesystem


def _s3_code(error: OSError) -> str:
    """The server's own error code, which s3fs keeps in the cause of the OSError that it makes of it."""
    cause = error.__cause__
    return str(cause.response.get("Error", {}).get("Code", "")) if isinstance(cause, S3ClientError) else ""


def _backend_for(url: str, options: Mapping[str, Any]) -> _Backend:
    parts = urlsplit(url)
    if bucket_url := _BUCKET_URL.fullmatch(url):
        prefix = (bucket_url["prefix"] or "").strip("/")
        return _Bucket(bucket_url["bucket"], f"{prefix}/" if prefix else "", options)
    if "://" in url and (parts.scheme != "file" or parts.netloc not in ("", "localhost") or parts.query):
        raise InvalidRequest.of("store_url", url, "use a folder, file:///folder, s3://bucket or s3://bucket/prefix")
    root = Path(unquote(parts.path) if "://" in url else url)
    try:
        return _Folder(root.expanduser().absolute())
    except OSError as error:
        raise StoreUnavailable(f"store {url}: {error}; {_Folder.remedy}") from error
