"""Request bodies, read strictly and within a time limit: what two readers could understand differently is refused.

A body is cut off at its limit while it arrives and is unpacked, because what a client declares may be wrong.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from typing import Any, Final

from orchestrion.errors import InvalidRequest, shown
from orchestrion.tracks import strict_json
from serve_app.errors import HttpProblem

MAX_JSON_BYTES: Final = 64 * 1024
#: What any page may send anywhere without asking first: HTML forms. The empty one is a body without a type.
FORM_TYPES: Final = frozenset({"", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
#: Bytes of an unpacked body that exist at a time.
_BLOCK_BYTES: Final = 64 * 1024
#: zlib's own number for "a gzip member, and nothing else".
_GZIP: Final = 16 + zlib.MAX_WBITS
_IDENTITY: Final = ("", "identity")


async def body_blocks(
    chunks: AsyncIterable[bytes], headers: Mapping[str, str], *, max_bytes: int, timeout_s: float
) -> AsyncIterator[bytes]:
    """The body in blocks as it comes, unpacked if it is sent as gzip.

    Args:
        chunks: what arrives.
        headers: of the request, names in lower case.
        max_bytes: both of what is sent and of what it unpacks to.
        timeout_s: seconds in which all of it must be here.

    Raises:
        HttpProblem: it is, or says it is, longer; it takes longer; it has another encoding, or is no gzip.
    """
    declared = headers.get("content-length", "")
    if declared.isascii() and declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise _too_large(max_bytes)
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in (*_IDENTITY, "gzip", "x-gzip"):
        raise HttpProblem(
            "unsupported-media-type",
            f"the body is encoded as {shown(encoding)}; send it as it is, or as gzip",
            headers={"Accept-Encoding": "gzip, identity"},
        )
    unpacker = None if encoding in _IDENTITY else zlib.decompressobj(_GZIP)
    received = unpacked = 0
    arriving = aiter(chunks)
    ends_at = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            async with asyncio.timeout_at(ends_at):
                chunk = await anext(arriving, None)
        except TimeoutError:
            raise HttpProblem(
                "request-timeout",
                f"the body was not here after {timeout_s:g} s; send it faster",
                headers={"Connection": "close"},
            ) from None
        if chunk is None:
            break
        received += len(chunk)
        if received > max_bytes:
            raise _too_large(max_bytes)
        for block in [chunk] if unpacker is None else _unpacked(unpacker, chunk):
            unpacked += len(block)
            if unpacked > max_bytes:
                raise _too_large(max_bytes)
            yield block
    if unpacker is not None and not unpacker.eof:
        raise HttpProblem("malformed", "the gzip body ends before its end; send all of it")


async def read_body(
    chunks: AsyncIterable[bytes], headers: Mapping[str, str], *, max_bytes: int, timeout_s: float
) -> bytes:
    """The whole body; see `body_blocks`."""
    body = bytearray()
    async for block in body_blocks(chunks, headers, max_bytes=max_bytes, timeout_s=timeout_s):
        body += block
    return bytes(body)


def parse_json_object(body: bytes, content_type: str | None) -> dict[str, Any]:
    """The JSON object in `body`.

    Raises:
        HttpProblem: not said to be JSON, bytes that are not UTF-8 or not JSON, NaN, a repeated key, or deep nesting.
    """
    media_type = media_type_of(content_type)
    # Without a type of its own, any page on the web could send this in its reader's name: see decision 0018.
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise HttpProblem(
            "unsupported-media-type",
            f"the body is said to be {shown(media_type) if media_type else 'nothing'}; send JSON and say so with "
            "'Content-Type: application/json'",
        )
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise HttpProblem(
            "malformed", f"the body is not UTF-8: byte {error.start} is {body[error.start]:#04x}"
        ) from None
    try:
        return strict_json.parse_json_object(text, "body")
    except InvalidRequest as error:
        raise HttpProblem("malformed", str(error), error.problems) from None


def refuse_form(content_type: str | None) -> None:
    """Do nothing, unless a body could come from a form of any page on the web.

    Raises:
        HttpProblem: its type is one that browsers send without asking the service first.
    """
    media_type = media_type_of(content_type)
    if media_type in FORM_TYPES:
        raise HttpProblem(
            "unsupported-media-type",
            "send the file itself as the body and say what it is, for example with "
            "'Content-Type: application/octet-stream' or 'audio/midi'",
        )


def media_type_of(content_type: str | None) -> str:
    """The media type without its parameters, in lower case; empty if none is given."""
    return (content_type or "").split(";")[0].strip().lower()


def _unpacked(unpacker: zlib._Decompress, chunk: bytes) -> Iterator[bytes]:
    """What `chunk` unpacks to, block by block, so that the caller can stop before the rest exists."""
    try:
        while chunk:
            if unpacker.eof:
                raise HttpProblem("malformed", "the body goes on after the end of its gzip data; send only that")
            yield unpacker.decompress(chunk, _BLOCK_BYTES)
            chunk = unpacker.unconsumed_tail or unpacker.unused_data
    except zlib.error:
        raise HttpProblem("malformed", "the body is said to be gzip and is not; send it as it is") from None


def _too_large(max_bytes: int) -> HttpProblem:
    return HttpProblem("too-large", f"the body is longer than {max_bytes} bytes", headers={"Connection": "close"})
