"""Named objects in a folder or an S3 bucket, each whole or not there: what the track store and the ledger stand on.

`create` takes a name that is free and tells who won; `replace` overwrites. Both make all of the bytes safe before the
name shows them. The surprising thing: locally `create` needs hard links, not renames. `rename` replaces what another
writer has just published; `link` refuses, and so two writers of one name cannot both win.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

import fsspec
from aiohttp import ClientError as HttpClientError
from botocore.exceptions import BotoCoreError
from botocore.exceptions import ClientError as S3ClientError

from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable, shown

_BUCKET_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/(?!\.\.)[A-Za-z0-9._=-]*)*)")

#: Seconds to connect, and seconds without an answer (an upload included), before one try counts as failed.
S3_CONNECT_TIMEOUT_S: Final = 3
S3_READ_TIMEOUT_S: Final = 30
#: Tries of one call, with growing random pauses between them: broken connections, time-outs, 5xx, throttling.
S3_TRIES: Final = 3


class Objects:
    """The objects below one address. Safe to share between threads, and to pickle: a copy opens its own connections.

    Every method raises StoreUnavailable when the folder or bucket does not answer, and those that read one object
    raise NotFound when it is not there.
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

    def read(self, key: str) -> bytes:
        """All bytes of an object."""
        with self._errors(key):
            return self._backend.read(key)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start` up to, not including, `end`; what lies beyond the object's end is left out."""
        with self._errors(key):
            return self._backend.read_range(key, start, end)

    def size(self, key: str) -> int:
        """Bytes of an object."""
        with self._errors(key):
            return self._backend.size(key)

    def exists(self, key: str) -> bool:
        """Whether there is an object of this name."""
        try:
            self.size(key)
        except NotFound:
            return False
        return True

    def keys(self, folder: str) -> list[str]:
        """Every name below `folder`; empty if there is none."""
        with self._errors(folder):
            return self._backend.keys(folder)

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """What goes wrong inside, in this project's terms."""
        try:
            yield
        except FileNotFoundError as error:
            if self._backend.is_gone(error):
                raise StoreUnavailable(f"store {self.url} is not there; {self._backend.remedy}") from error
            raise NotFound(f"{key} is not in the store {self.url}; render or upload it first") from error
        except (OSError, BotoCoreError, S3ClientError, HttpClientError) as error:
            reason = shown(str(error) or repr(error))
            raise StoreUnavailable(f"store {self.url}: {reason}; {self._backend.remedy}") from error


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

    def keys(self, folder: str) -> list[str]:
        """Every key below `folder`; empty if there is none."""
        ...


class _Folder:
    """Keys as files below a folder, on a file system with hard links."""

    remedy = "check that the folder exists, has room, may be written to and is on a file system with hard links"

    def __init__(self, root: Path) -> None:
        self.url = str(root)
        self._root = root
        self._tmp = root / "tmp"
        _make_folders(self._tmp)

    def is_gone(self, error: FileNotFoundError) -> bool:
        return not self._root.is_dir()

    def create(self, key: str, data: bytes) -> bool:
        target = self._root / key
        with self._aside(data) as aside:
            _make_folders(target.parent)
            try:
                os.link(aside, target)
            except FileExistsError:
                return False
            _sync_folder(target.parent)
        return True

    def replace(self, key: str, data: bytes) -> None:
        target = self._root / key
        with self._aside(data) as aside:
            _make_folders(target.parent)
            aside.replace(target)
            _sync_folder(target.parent)

    @contextmanager
    def _aside(self, data: bytes) -> Iterator[Path]:
        """A file with these bytes, safe on disk, that is gone afterwards unless it was moved."""
        aside = self._tmp / f"{uuid.uuid4().hex}.part"
        try:
            self._tmp.mkdir(exist_ok=True)
            _write_durably(aside, data)
            if aside.read_bytes() != data:
                raise OSError(errno.EIO, "what was read back is not what was written", str(aside))
            yield aside
        finally:
            aside.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        target = self._root / key
        with suppress(FileNotFoundError):
            target.unlink()
            _sync_folder(target.parent)

    def read(self, key: str) -> bytes:
        return (self._root / key).read_bytes()

    def read_range(self, key: str, start: int, end: int) -> bytes:
        with (self._root / key).open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def size(self, key: str) -> int:
        return (self._root / key).stat().st_size

    def keys(self, folder: str) -> list[str]:
        found = []
        for path, _, names in os.walk(self._root / folder, onerror=self._cannot_list):
            found += [Path(path, name).relative_to(self._root).as_posix() for name in names]
        return found

    def _cannot_list(self, error: OSError) -> None:
        """A folder that was never made holds no keys; any other reason must be told."""
        if not isinstance(error, FileNotFoundError) or self.is_gone(error):
            raise error


def _make_folders(folder: Path) -> None:
    """`mkdir -p`, with each new name safe on disk: a record in a folder that a crash removes is no record."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
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
