"""Objects in an S3 bucket, by botocore: one PUT makes an object whole or not at all, if and only if its name is free.

docs/decisions/0026-object-store-library.md says which other libraries were tried.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import chain
from typing import Any, Final, Protocol

from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.model import OperationModel
from botocore.session import Session

from orchestrion.errors import InvalidRequest, shown
from orchestrion.storage.folder import ASIDE
from orchestrion.storage.purged import Purged

#: Seconds to connect, and seconds in which an upload must move on.
S3_CONNECT_TIMEOUT_S: Final = 10
#: Seconds without an answer before one try counts as failed.
S3_READ_TIMEOUT_S: Final = 30
#: Tries of one call, with growing random pauses between them: broken connections, time-outs, 5xx, throttling.
S3_TRIES: Final = 3
#: As many as the threads of an event loop's pool; more would each open a connection for one call.
_CONNECTIONS: Final = 32
_SENT_AT_ONCE_BYTES: Final = 1 << 20
#: Pieces of a listing that are asked for at the same time.
_LISTERS: Final = 8

#: What is understood of s3fs's arguments, with the type that JSON gives them.
OPTIONS: Final[Mapping[str, type]] = {
    "anon": bool,
    "endpoint_url": str,
    "key": str,
    "secret": str,
    "token": str,
    "profile": str,
    "use_ssl": bool,
    "requester_pays": bool,
    "client_kwargs": dict,
    "config_kwargs": dict,
    "s3_additional_kwargs": dict,
}
#: Those that botocore has under a name of its own.
_ARGUMENTS: Final[Mapping[str, str]] = {
    "endpoint_url": "endpoint_url",
    "use_ssl": "use_ssl",
    "key": "aws_access_key_id",
    "secret": "aws_secret_access_key",
    "token": "aws_session_token",
}
#: How s3fs reads a file for others: a catalog or a ledger is read with the same options.
_FOR_S3FS_ONLY: Final = frozenset(
    {"cache_regions", "default_block_size", "default_cache_type", "default_fill_cache", "listings_expiry_time"}
    | {"max_concurrency", "max_paths", "skip_instance_cache", "use_listings_cache"}
)


class NoSuchBucketError(FileNotFoundError):
    """Not a key is missing but the bucket."""


class _Body(Protocol):
    def read(self) -> bytes: ...


class _Pages(Protocol):
    def paginate(self, **arguments: object) -> Iterable[Mapping[str, Any]]: ...


class _S3(Protocol):
    """What is used of botocore's S3 client."""

    def put_object(self, **arguments: object) -> Mapping[str, Any]: ...

    def get_object(self, **arguments: object) -> Mapping[str, Any]: ...

    def head_object(self, **arguments: object) -> Mapping[str, Any]: ...

    def delete_object(self, **arguments: object) -> Mapping[str, Any]: ...

    def list_objects_v2(self, **arguments: object) -> Mapping[str, Any]: ...
    def get_bucket_versioning(self, **arguments: object) -> Mapping[str, Any]: ...

    def get_paginator(self, operation_name: str) -> _Pages: ...


class Bucket:
    """Keys as S3 objects below a prefix ("" or "…/"). The server checks an object's MD5 before anybody sees it."""

    remedy = "check that the bucket exists, that the endpoint answers and that the credentials may read and write"

    def __init__(self, bucket: str, prefix: str, options: Mapping[str, Any]) -> None:
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = prefix
        self._options = _checked(options)
        self._config = _config(self._options)
        #: By process id: two processes must not talk through one connection.
        self._clients: dict[int, _S3] = {}

    def is_gone(self, error: FileNotFoundError) -> bool:
        """Whether the server has said that it has no such bucket; to a HEAD it does not say so."""
        return isinstance(error, NoSuchBucketError)

    def create(self, key: str, data: bytes) -> bool:
        """PUT an object if its name is free."""
        try:
            self._put(key, data, IfNoneMatch="*")
        except FileExistsError:
            return False
        return True

    def replace(self, key: str, data: bytes) -> None:
        """PUT an object."""
        self._put(key, data)

    def _put(self, key: str, data: bytes, **condition: str) -> None:
        md5 = hashlib.md5(data, usedforsecurity=False)
        with self._s3() as s3:
            answer = s3.put_object(
                **self._at(key),
                # Bytes must all be sent in S3_CONNECT_TIMEOUT_S, of a file each piece; but with a file botocore asks
                # first whether it may send.
                Body=data if len(data) <= _SENT_AT_ONCE_BYTES else io.BytesIO(data),
                ContentMD5=base64.b64encode(md5.digest()).decode("ascii"),
                **condition,
            )
        # With SSE-KMS the ETag is no MD5: then what was written is read back.
        if answer["ETag"].strip('"') != md5.hexdigest() and self.read(key) != data:
            raise OSError(errno.EIO, f"what was read back from {key} is not what was written")

    def delete(self, key: str) -> None:
        """DELETE an object; S3 says the same when there was none."""
        with self._s3() as s3:
            s3.delete_object(**self._at(key))

    def purge(self, key: str) -> Purged:
        """DELETE an object, then every version of it and every mark of its deletion, as far as that is allowed."""
        was_there = self.exists(key)
        # First of all nobody finds it any more who does not know a version's id.
        self.delete(key)
        try:
            versions, marks = self._versions(key)
        except NoSuchBucketError:
            raise
        except OSError as error:
            return Purged(was_there, unknown=self._why_unknown(error))
        left = []
        for version in versions:
            try:
                self._delete_version(key, version)
            except OSError as error:
                left.append(f"{key}?versionId={version} ({shown(str(error))})")
        if not left:
            for mark in marks:
                self._delete_version(key, mark)
        return Purged(was_there or bool(versions), tuple(left))

    def _versions(self, key: str) -> tuple[list[str], list[str]]:
        """Ids of all versions of an object, and of the marks of its deletion."""
        versions: list[str] = []
        marks: list[str] = []
        with self._s3() as s3:
            pages = s3.get_paginator("list_object_versions")
            # A prefix: other objects' names may begin with this one's.
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + key):
                for kind, found in (("Versions", versions), ("DeleteMarkers", marks)):
                    found += [each["VersionId"] for each in page.get(kind, ()) if each["Key"] == self._prefix + key]
        return versions, marks

    def _delete_version(self, key: str, version: str) -> None:
        with self._s3() as s3:
            s3.delete_object(**self._at(key), VersionId=version)

    def _why_unknown(self, error: OSError) -> str:
        """Why it is not known what is left, where `error` is why versions cannot be listed; "" if there are none."""
        with suppress(OSError), self._s3() as s3:
            if "Status" not in s3.get_bucket_versioning(Bucket=self._bucket):
                return ""
        return f"versions of the bucket's objects cannot be listed: {shown(str(error))}"

    def read(self, key: str) -> bytes:
        """GET an object."""
        with self._s3() as s3:
            body: _Body = s3.get_object(**self._at(key))["Body"]
            return body.read()

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """GET bytes `start` up to, not including, `end`, as far as the object goes."""
        if end <= start:
            self.size(key)
            return b""
        try:
            with self._s3() as s3:
                body: _Body = s3.get_object(**self._at(key), Range=f"bytes={start}-{end - 1}")["Body"]
                return body.read()
        except _BeyondTheEndError:
            return b""

    def read_dated(self, key: str, at_most: int) -> tuple[bytes, datetime | None, datetime | None]:
        """GET the first bytes of an object; the answer says when it was written and what time it is there."""
        try:
            with self._s3() as s3:
                answer = s3.get_object(**self._at(key), Range=f"bytes=0-{at_most - 1}")
                body: _Body = answer["Body"]
                return body.read(), answer.get("LastModified"), _date(answer)
        except _BeyondTheEndError:
            return b"", None, None

    def size(self, key: str) -> int:
        """Bytes of an object, by a HEAD."""
        with self._s3() as s3:
            return int(s3.head_object(**self._at(key))["ContentLength"])

    def exists(self, key: str) -> bool:
        """Whether a HEAD finds the object."""
        try:
            self.size(key)
        except NoSuchBucketError:
            raise
        except FileNotFoundError:
            return False
        return True

    def keys(self, folder: str, cuts: Sequence[str] = ()) -> list[str]:
        """Every key below `folder`, page by page; what the first page leaves, side by side between the cuts."""
        with self._s3() as s3:
            first = s3.list_objects_v2(Bucket=self._bucket, Prefix=f"{self._prefix}{folder}/")
        found = self._keys_of(first)
        if not first.get("IsTruncated") or not found:
            return found
        bounds = [found[-1], *(cut for name in cuts if (cut := f"{folder}/{name}") > found[-1])]
        with ThreadPoolExecutor(min(_LISTERS, len(bounds)), thread_name_prefix="listing") as pool:
            pieces = pool.map(partial(self._keys_between, folder), bounds, [*bounds[1:], None])
            return [*found, *chain.from_iterable(pieces)]

    def _keys_between(self, folder: str, after: str, last: str | None) -> list[str]:
        """The keys of a folder from behind `after` up to `last`; None: up to the end."""
        found: list[str] = []
        with self._s3() as s3:
            pages = s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=f"{self._prefix}{folder}/", StartAfter=self._prefix + after
            )
            for page in pages:
                found += self._keys_of(page)
                if last is not None and found and found[-1] >= last:
                    return [key for key in found if key <= last]
        return found

    def _keys_of(self, page: Mapping[str, Any]) -> list[str]:
        return [entry["Key"].removeprefix(self._prefix) for entry in page.get("Contents", ())]

    def ages(self, folder: str) -> dict[str, float]:
        """Seconds since each object below `folder` was written, by the server's clock."""
        found = {}
        with self._s3() as s3:
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=f"{self._prefix}{folder}/")
            for page in pages:
                if (now := _date(page)) is None:
                    continue
                for entry in page.get("Contents", ()):
                    found[entry["Key"].removeprefix(self._prefix)] = (now - entry["LastModified"]).total_seconds()
        return found

    def probe(self, size: int) -> None:
        """PUT and DELETE an object of so many bytes; a DELETE that is refused leaves it to the sweep."""
        key = f"{ASIDE}/{uuid.uuid4().hex}.part"
        self.replace(key, os.urandom(size))
        with suppress(OSError):
            self.delete(key)

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    @contextmanager
    def _s3(self) -> Iterator[_S3]:
        """The connections of this process; what goes wrong inside is an OSError."""
        try:
            # Opened without a lock, which a fork could copy while it is held.
            client = self._clients.get(os.getpid())
            yield client or self._clients.setdefault(os.getpid(), _client(self._options, self._config))
        except ClientError as error:
            raise _in_terms_of_files(error) from error
        except BotoCoreError as error:
            raise OSError(str(error)) from error


def _date(answer: Mapping[str, Any]) -> datetime | None:
    """The server's clock, from its answer."""
    try:
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return None


class _BeyondTheEndError(OSError):
    """The range begins where the object has ended."""


def _in_terms_of_files(error: ClientError) -> OSError:
    # A HEAD is answered without a body, and then the code is the status.
    match str(error.response.get("Error", {}).get("Code", "")):
        case "NoSuchBucket":
            return NoSuchBucketError(str(error))
        case "NoSuchKey" | "404":
            return FileNotFoundError(str(error))
        # The second: S3 is busy with another writer's PUT of the same key. Whoever is first, the answer is the same.
        case "PreconditionFailed" | "ConditionalRequestConflict":
            return FileExistsError(str(error))
        case "InvalidRange" | "416":
            return _BeyondTheEndError(str(error))
    return OSError(str(error))


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that are for the bucket; of the type they must have, and none that would have no effect."""
    for name, value in options.items():
        if name not in OPTIONS.keys() | _FOR_S3FS_ONLY:
            known = ", ".join(OPTIONS)
            raise InvalidRequest.of("storage_options", name, f"is no option of an S3 store; it has {known}")
        if value is not None and name in OPTIONS and not isinstance(value, OPTIONS[name]):
            # Not the value: it may be a secret.
            raise InvalidRequest.of("storage_options", name, f"must be of type {OPTIONS[name].__name__}")
    return {name: value for name, value in options.items() if name in OPTIONS and value is not None}


def _config(options: Mapping[str, Any]) -> Config:
    ours = {
        "connect_timeout": S3_CONNECT_TIMEOUT_S,
        "read_timeout": S3_READ_TIMEOUT_S,
        "retries": {"mode": "standard", "total_max_attempts": S3_TRIES},
        "max_pool_connections": _CONNECTIONS,
    }
    given = dict(options.get("config_kwargs", {}))
    if options.get("anon"):
        given["signature_version"] = UNSIGNED
    try:
        return Config(**(ours | given))
    except (TypeError, BotoCoreError) as error:
        raise InvalidRequest.of(
            "storage_options", "config_kwargs", f"is no configuration of botocore: {error}"
        ) from None


def _client(options: Mapping[str, Any], config: Config) -> _S3:
    given = {argument: options[name] for name, argument in _ARGUMENTS.items() if name in options}
    try:
        client = Session(profile=options.get("profile")).create_client(
            "s3", config=config, **(given | options.get("client_kwargs", {}))
        )
    except (TypeError, ValueError) as error:
        raise InvalidRequest.of("storage_options", "…", f"make no client of botocore: {error}") from None
    more = dict(options.get("s3_additional_kwargs", {}))
    if options.get("requester_pays"):
        more["RequestPayer"] = "requester"
    client.meta.events.register("provide-client-params.s3", partial(_with_more, more))
    return client  # type: ignore[no-any-return]


def _with_more(
    more: Mapping[str, Any], params: Mapping[str, Any], model: OperationModel, **_: object
) -> dict[str, Any]:
    """A call's arguments, and beside them those of `more` that such a call can have."""
    return {name: value for name, value in more.items() if name in model.input_shape.members} | dict(params)
