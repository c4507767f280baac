"""Request headers with the lines of one name joined, as RFC 9110 §5.3 says that they mean the same."""

from __future__ import annotations

from collections.abc import Iterable


def joined_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Names in lower case; the values of a name that is sent several times with ", " between them."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers
