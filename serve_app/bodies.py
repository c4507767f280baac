"""Request bodies, read strictly: what two readers could understand differently is refused.

The surprising thing: Python's JSON reader takes NaN, keeps the last of two equal keys and overflows its stack on deep
nesting. A request's id is a hash of its values, so none of that may pass unnoticed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable
from typing import Any, Final, NoReturn

from orchestrion.errors import Problem, shown
from serve_app.http_errors import HttpProblem

MAX_JSON_BYTES: Final = 64 * 1024
#: A request is one flat object; anything this deep is an accident or an attack.
MAX_JSON_DEPTH: Final = 16


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
    _check_depth(text)
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_integer)
    except json.JSONDecodeError as error:
        detail = f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise HttpProblem("malformed", detail) from None
    if not isinstance(value, dict):
        raise HttpProblem(
            "malformed", f'the body must be a JSON object like {{"prompt": "calm piano"}}, not {shown(value)}'
        )
    return value


def _too_large(max_bytes: int) -> HttpProblem:
    return HttpProblem("too-large", f"the body is longer than {max_bytes} bytes", headers={"Connection": "close"})


def _check_depth(text: str) -> None:
    depth, in_string, escaped = 0, False, False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            if depth > MAX_JSON_DEPTH:
                raise HttpProblem("malformed", f"the JSON is nested deeper than {MAX_JSON_DEPTH} levels")
        elif character in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, member in pairs:
        if key in value:
            problem = Problem(shown(key).strip("'"), shown(member), "is given twice; give it once")
            raise HttpProblem("malformed", f"the field {shown(key)} is given twice", [problem])
        value[key] = member
    return value


def _no_constant(name: str) -> NoReturn:
    raise HttpProblem("malformed", f"{name} is not JSON; give a finite number")


def _integer(digits: str) -> int:
    # Python converts at most 4300 digits, and no field takes more than 16.
    if len(digits) > 32:
        raise HttpProblem("malformed", f"the number {digits[:16]}… has {len(digits)} digits; no field takes that many")
    return int(digits)
