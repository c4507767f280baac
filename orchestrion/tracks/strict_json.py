"""JSON from outside, read strictly: what two readers could understand differently is refused.

Python's reader accepts NaN, keeps the last of two equal keys and overflows its stack on deep nesting. A track's id is a
hash of its request's values, so none of that may pass unnoticed.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from orchestrion.errors import InvalidRequest, shown

#: A request is an object with lists of objects in it; anything this deep is an accident or an attack.
MAX_DEPTH: Final = 16
#: Python converts at most 4,300 digits, and no field takes more than 16.
MAX_INTEGER_DIGITS: Final = 32
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{}\]]', re.DOTALL)


def parse_json_object(text: str, what: str) -> dict[str, Any]:
    """The JSON object in `text`; `what` is how messages call the text, e.g. "body" or "row".

    Raises:
        InvalidRequest: it is not JSON, not an object, holds NaN, a key given twice, a number of absurd length, or is
            nested too deeply.
    """
    value = _parsed(text, what)
    if not isinstance(value, dict):
        raise InvalidRequest.of(what, value, 'is not a JSON object; write for example {"prompt": "calm piano"}')
    return value


def parse_json_list(text: str, what: str) -> list[Any]:
    """The JSON list in `text`, read as strictly.

    Raises:
        InvalidRequest: as for an object.
    """
    value = _parsed(text, what)
    if not isinstance(value, list):
        raise InvalidRequest.of(what, value, 'is not a JSON list; write for example ["piano", "drums"]')
    return value


def _parsed(text: str, what: str) -> object:
    try:
        _check_depth(text)
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_int=_integer)
    except json.JSONDecodeError as error:
        message = f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise InvalidRequest.of(what, text, message) from None
    except ValueError as error:
        raise InvalidRequest.of(what, text, str(error)) from None


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > MAX_DEPTH:
            raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, member in pairs:
        if key in value:
            raise InvalidRequest.of(shown(key).strip("'"), member, "is given twice; give it once")
        value[key] = member
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which is not JSON; give a finite number")


def _integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise ValueError(f"holds a number of {len(digits)} digits; no field takes that many")
    return int(digits)
