"""Where tracks are kept: content-addressed blobs and numbered, signed records, in a folder or an S3 bucket.

    blobs/<2 hex>/<sha256>.<suffix>                audio, MIDI and uploads, named by what is in them
    tracks/<2 characters>/<track id>/<version>.json  a track exists once its record does
    tmp/                                             (folders only) files being written; old ones may be deleted

Nothing half-written is ever seen: a name appears only after all of its bytes are safe, and a record is published only
after the blobs it names. The surprising thing: locally this needs hard links, not renames. `rename` replaces what
another writer has just published; `link` refuses, and so two writers of one version cannot both win.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

import fsspec
from aiohttp import ClientError as HttpClientError
from botocore.exceptions import BotoCoreError
from botocore.exceptions import ClientError as S3ClientError

from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable, shown

_BLOB_KEY = re.compile(r"blobs/(?P<shard>[0-9a-f]{2})/(?P<sha256>(?P=shard)[0-9a-f]{62})\.[a-z0-9]{1,8}")
_SUFFIX = re.compile(r"\.?([a-z0-9]{1,8})")
_TRACK_ID = re.compile(r"trk_[a-z2-7]{32}")
_RECORD_KEY = re.compile(r"tracks/[a-z2-7]{2}/(?P<track_id>trk_[a-z2-7]{32})/(?P<version>[0-9]{6})\.json")
_THEME_REF = re.compile(r"sha256:(?P<sha256>[0-9a-f]{64})")
_BUCKET_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/(?!\.\.)[A-Za-z0-9._=-]*)*)")

#: Seconds to connect, and seconds without an answer (an upload included), before one try counts as failed.
S3_CONNECT_TIMEOUT_S: Final = 3
S3_READ_TIMEOUT_S: Final = 30
#: Tries of one call, with growing random pauses between them: broken connections, time-outs, 5xx, throttling.
S3_TRIES: Final = 3


class TrackStore:
    """Tracks in one place. Safe to share between threads, and to pickle: a copy opens its own connections."""

    def __init__(self, url: str, storage_options: Mapping[str, Any], backend: _Backend) -> None:
        self.url = url
        self._storage_options = dict(storage_options)
        self._backend = backend

    @classmethod
    def open(cls, url: str, storage_options: Mapping[str, Any] | None = None) -> TrackStore:
        """The store at `url`: a folder (made if absent), file:///folder or s3://bucket[/prefix].

        Args:
            url: where the tracks are.
            storage_options: arguments of s3fs's `S3FileSystem`, e.g. {"endpoint_url": …, "key": …, "secret": …}.

        Raises:
            InvalidRequest: the URL is of another kind.
            StoreUnavailable: the folder cannot be made. A bucket is contacted only when it is first used.
        """
        options = dict(storage_options or {})
        backend = _backend_for(url, options)
        return cls(backend.url, options, backend)

    def __reduce__(self) -> tuple[Callable[..., TrackStore], tuple[str, dict[str, Any]]]:
        return (TrackStore.open, (self.url, self._storage_options))

    def put_blob(self, data: bytes, suffix: str) -> str:
        """Keep `data` and return its key. Putting the same bytes again is a no-op with the same key.

        Args:
            data: the whole content.
            suffix: of the file name, "flac" or ".flac": 1 to 8 lower-case letters and digits.
        """
        match = _SUFFIX.fullmatch(suffix)
        if match is None:
            raise InvalidRequest.of("suffix", suffix, "must be 1 to 8 lower-case letters or digits, e.g. 'flac'")
        return self._put(data, match[1])

    def get_blob(self, key: str) -> bytes:
        """The bytes under `key`, checked against the hash in it.

        Raises:
            NotFound: there is no such blob.
            StoreUnavailable: what was read is not what was written.
        """
        sha256 = _blob_sha256(key)
        with self._errors(key):
            data = self._backend.read(key)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreUnavailable(
                f"{self.url}: {key} is damaged ({len(data)} bytes, wrong SHA-256); delete it and render the track again"
            )
        return data

    def blob_size(self, key: str) -> int:
        """Bytes under `key`.

        Raises:
            NotFound: there is no such blob.
        """
        _blob_sha256(key)
        with self._errors(key):
            return self._backend.size(key)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start` up to, not including, `end` of a blob; what lies beyond its end is left out.

        The hash cannot be checked on a part: a reader who needs that takes `get_blob`.
        """
        _blob_sha256(key)
        if not 0 <= start <= end:
            raise InvalidRequest.of("range", f"{start}-{end}", "a range needs 0 <= start <= end")
        if start == end:
            return b""
        with self._errors(key):
            return self._backend.read_range(key, start, end)

    def put_theme(self, data: bytes) -> str:
        """Keep a theme or a continuation; returns the reference that a request names it by, "sha256:<hex>"."""
        return "sha256:" + _blob_sha256(self._put(data, "theme"))

    def theme(self, ref: str) -> bytes:
        """The bytes of a theme or a continuation.

        Raises:
            NotFound: nobody has uploaded it here.
        """
        match = _THEME_REF.fullmatch(ref)
        if match is None:
            raise NotFound(
                f"the upload {shown(ref)} is not 'sha256:' and 64 hex digits; upload it and use the reference given"
            )
        try:
            return self.get_blob(_blob_key(match["sha256"], "theme"))
        except NotFound:
            raise NotFound(f"the upload {ref} is not in the store {self.url}; upload it first") from None

    def publish(self, track_id: str, record: bytes) -> int:
        """Make `record` the newest version of a track, which makes the track visible. Its blobs must be in the store.

        Publishing the newest version again is a no-op. Of two writers at the same moment one wins; the other's record
        is dropped and it gets the winner's version.

        Returns:
            The version, 1 for the first.
        """
        versions = self.versions(track_id)
        newest = versions[-1] if versions else 0
        if newest and self.record(track_id, newest) == record:
            return newest
        key = _record_key(track_id, newest + 1)
        with self._errors(key):
            self._backend.create(key, record)
        return newest + 1

    def latest(self, track_id: str) -> bytes | None:
        """The newest record of a track, None if it was never published."""
        versions = self.versions(track_id)
        return self.record(track_id, versions[-1]) if versions else None

    def versions(self, track_id: str) -> list[int]:
        """Published versions of a track, oldest first; empty if there is none."""
        folder = _track_folder(track_id)
        with self._errors(folder):
            return sorted(int(match["version"]) for match in _records_in(self._backend.keys(folder)))

    def track_ids(self) -> Iterator[str]:
        """Every published track, in order of id."""
        with self._errors("tracks"):
            found = {match["track_id"] for match in _records_in(self._backend.keys("tracks"))}
        yield from sorted(found)

    def record(self, track_id: str, version: int) -> bytes:
        """One published record of a track.

        Raises:
            NotFound: the track has no such version.
        """
        key = _record_key(track_id, version)
        with self._errors(key):
            return self._backend.read(key)

    def _put(self, data: bytes, suffix: str) -> str:
        key = _blob_key(hashlib.sha256(data).hexdigest(), suffix)
        with self._errors(key):
            try:
                size = self._backend.size(key)
            except FileNotFoundError:
                self._backend.create(key, data)
                return key
        if size != len(data):
            raise StoreUnavailable(
                f"{self.url}: {key} has {size} bytes instead of {len(data)}; delete it and try again"
            )
        return key

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

    def create(self, key: str, data: bytes) -> None:
        """Write all of `data` under a new key, verified before it is seen; an existing key is left as it is."""
        ...

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

    def create(self, key: str, data: bytes) -> None:
        aside = self._tmp / f"{uuid.uuid4().hex}.part"
        target = self._root / key
        try:
            self._tmp.mkdir(exist_ok=True)
            _write_durably(aside, data)
            if aside.read_bytes() != data:
                raise OSError(errno.EIO, "what was read back is not what was written", str(aside))
            _make_folders(target.parent)
            try:
                os.link(aside, target)
            except FileExistsError:
                return
            _sync_folder(target.parent)
        finally:
            aside.unlink(missing_ok=True)

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

    def create(self, key: str, data: bytes) -> None:
        md5 = hashlib.md5(data, usedforsecurity=False)
        try:
            answer = self._filesystem().call_s3(
                "put_object",
                Bucket=self._bucket,
                Key=self._prefix + key,
                Body=data,
                ContentMD5=base64.b64encode(md5.digest()).decode("ascii"),
                IfNoneMatch="*",
            )
        except OSError as error:
            # 409: S3 is busy with another writer's PUT of the same key. Whoever is first, the answer is the same.
            if _s3_code(error) in ("PreconditionFailed", "ConditionalRequestConflict"):
                return
            raise
        # With SSE-KMS the ETag is no MD5: then what was written is read back.
        if answer["ETag"].strip('"') != md5.hexdigest() and self.read(key) != data:
            raise OSError(errno.EIO, f"what was read back from {key} is not what was written")

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


def _blob_key(sha256: str, suffix: str) -> str:
    return f"blobs/{sha256[:2]}/{sha256}.{suffix}"


def _blob_sha256(key: str) -> str:
    """The hash in a blob's key. A key of any other shape names nothing, so that no key is a path out of the store."""
    match = _BLOB_KEY.fullmatch(key)
    if match is None:
        raise NotFound(f"{shown(key)} is not the key of a blob; use one that put_blob or a record gave")
    return match["sha256"]


def _track_folder(track_id: str) -> str:
    if _TRACK_ID.fullmatch(track_id) is None:
        raise NotFound(f"{shown(track_id)} is not a track id; ids are 'trk_' and 32 of the characters a-z and 2-7")
    return f"tracks/{track_id[4:6]}/{track_id}"


def _record_key(track_id: str, version: int) -> str:
    return f"{_track_folder(track_id)}/{version:06d}.json"


def _records_in(keys: list[str]) -> Iterator[re.Match[str]]:
    return (match for match in map(_RECORD_KEY.fullmatch, keys) if match)
