"""Conditional requests (RFC 9110 §13): whether a client's copy still stands, decided from headers alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

from serve_app.errors import HttpProblem

_ETAG: Final = re.compile(r'\s*(?P<weak>W/)?(?P<tag>"[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')
#: The one form of a date that clients must send (RFC 9110 §5.6.7); others are ignored, as §13.1.3 asks.
_HTTP_DATE: Final = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one version of a resource from another: a strong ETag in its quotes, and a time to the second."""

    etag: str
    last_modified: datetime | None = None

    def headers(self) -> dict[str, str]:
        """As an answer carries them."""
        headers = {"ETag": self.etag}
        if self.last_modified is not None:
            headers["Last-Modified"] = format_datetime(self.last_modified.astimezone(UTC), usegmt=True)
        return headers


def has_current_copy(headers: Mapping[str, str], validators: Validators) -> bool:
    """Whether a GET or HEAD with these headers is answered with 304.

    Args:
        headers: of the request, names in lower case; several lines of one name joined by commas.
        validators: of what would be sent.

    Raises:
        HttpProblem: `If-Match` or `If-Unmodified-Since` names another version (412).
    """
    modified = validators.last_modified.replace(microsecond=0) if validators.last_modified else None
    if (expected := headers.get("if-match")) is not None:
        if not _lists(expected, validators.etag, weakly=False):
            raise _failed(validators)
    elif modified and (since := _http_date(headers.get("if-unmodified-since"))) and modified > since:
        raise _failed(validators)
    if (known := headers.get("if-none-match")) is not None:
        return _lists(known, validators.etag, weakly=True)
    since = _http_date(headers.get("if-modified-since"))
    return bool(modified and since and modified <= since)


def range_still_fits(if_range: str | None, validators: Validators) -> bool:
    """Whether a part may be sent: the parts that the client has are of this version, or it does not say."""
    if if_range is None:
        return True
    if (date := _http_date(if_range)) is not None:
        return validators.last_modified is not None and date == validators.last_modified.replace(microsecond=0)
    return if_range.strip() == validators.etag


def _lists(header: str, etag: str, *, weakly: bool) -> bool:
    if header.strip() == "*":
        return True
    return any(match["tag"] == etag and (weakly or not match["weak"]) for match in _ETAG.finditer(header))


def _http_date(text: str | None) -> datetime | None:
    if text is None or not _HTTP_DATE.fullmatch(text.strip()):
        return None
    try:
        return parsedate_to_datetime(text.strip())
    except ValueError:
        return None


def _failed(validators: Validators) -> HttpProblem:
    return HttpProblem(
        "precondition-failed",
        f"this is {validators.etag} now, another version than the one named; get it again",
        headers=validators.headers(),
    )
