"""What a client accepts, and which bytes it wants: the `Accept` and `Range` headers of RFC 9110, as pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from serve_app.http_errors import HttpProblem

_RANGE = re.compile(r"bytes=\s*(?P<first>\d{0,18})-(?P<last>\d{0,18})\s*", re.ASCII | re.IGNORECASE)


def choose_media_type(accept: str | None, offers: Sequence[str]) -> str | None:
    """The offer that the client likes best; at equal liking the earliest offer. None: it takes none of them.

    Args:
        accept: value of the `Accept` header; without one everything is welcome.
        offers: media types in the order that the server prefers.
    """
    ranges = _media_ranges(accept)
    best, best_quality = None, 0.0
    for offer in offers:
        quality = _quality(ranges, offer)
        if quality > best_quality:
            best, best_quality = offer, quality
    return best


def names_media_type(accept: str | None, media_type: str) -> bool:
    """Whether `Accept` asks for exactly this type, not merely through a wildcard."""
    return any(name == media_type and quality > 0 for name, quality in _media_ranges(accept))


def parse_range(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """The single byte range [start, end) that is asked for; None: send everything.

    A header that is malformed or asks for several ranges is ignored, as RFC 9110 §14.2 allows.

    Raises:
        HttpProblem: the range begins beyond the last byte, or is an empty suffix (416).
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match["first"] == match["last"] == "":
        return None
    if match["first"] == "":
        start, end = max(0, size_bytes - int(match["last"])), size_bytes
    else:
        start = int(match["first"])
        end = min(size_bytes, int(match["last"]) + 1) if match["last"] else size_bytes
        if match["last"] and int(match["last"]) < start:
            return None
    if start >= size_bytes or start == end:
        raise HttpProblem(
            "range-not-satisfiable",
            f"the audio has {size_bytes} bytes, so {header} lies outside it",
            headers={"Content-Range": f"bytes */{size_bytes}", "Accept-Ranges": "bytes"},
        )
    return start, end


def matches_etag(if_none_match: str | None, etag: str) -> bool:
    """Whether the client already has this version (weak comparison, as `If-None-Match` demands)."""
    if if_none_match is None:
        return False
    candidates = [candidate.strip().removeprefix("W/") for candidate in if_none_match.split(",")]
    return "*" in candidates or etag in candidates


def _media_ranges(accept: str | None) -> list[tuple[str, float]]:
    if accept is None or not accept.strip():
        return [("*/*", 1.0)]
    ranges = []
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                quality = _q_value(parameter.removeprefix("q="))
        ranges.append((name, quality))
    return ranges


def _q_value(text: str) -> float:
    return float(text) if re.fullmatch(r"[01](\.\d{0,3})?", text, re.ASCII) else 0.0


def _quality(ranges: list[tuple[str, float]], offer: str) -> float:
    # The most specific range that fits decides: type/subtype before type/* before */*.
    for candidate in (offer, offer.split("/")[0] + "/*", "*/*"):
        qualities = [quality for name, quality in ranges if name == candidate]
        if qualities:
            return max(qualities)
    return 0.0
