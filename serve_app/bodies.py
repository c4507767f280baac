"""Request bodies, read strictly: what two readers could understand differently is refused.

The surprising thing: a body is cut off at its limit while it arrives, because what a client declares may be wrong.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any, Final

from orchestrion import strict_json
from orchestrion.errors import InvalidRequest, shown
from serve_app.http_errors import HttpProblem

MAX_JSON_BYTES: Final = 64 * 1024


async def read_body(chunks: AsyncIterable[bytes], max_bytes: int, declared_bytes: str | None) -> bytes:
    """The whole body.

    Raises:
        HttpProblem: it is, or says it is, longer than `max_bytes`.
    """
    if declared_bytes is not None and declared_bytes.isdecimal() and int(declared_bytes) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def parse_json_object(body: bytes, content_type: str | None) -> dict[str, Any]:
    """The JSON object in `body`.

    Raises:
        HttpProblem: another content type, bytes that are not UTF-8 or not JSON, NaN, a repeated key, or deep nesting.
    """
    media_type = (content_type or "application/json").split(";")[0].strip().lower()
    if media_type != "application/json":
        raise HttpProblem("unsupported-media-type", f"send application/json, not {shown(media_type)}")
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


def _too_large(max_bytes: int) -> HttpProblem:
    return HttpProblem("too-large", f"the body is longer than {max_bytes} bytes", headers={"Connection": "close"})
