"""What a client accepts, and which bytes it wants: the `Accept` and `Range` headers of RFC 9110, as pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from serve_app.errors import HttpProblem

_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA_RANGE: Final = re.compile(rf"(?P<type>{_NAME})/(?P<subtype>{_NAME})")
#: One `;name=value`, where the value may be quoted and the name may stand alone.
_PARAMETER: Final = re.compile(rf'\s*;\s*(?:(?P<name>{_NAME})\s*(?:=\s*(?P<value>{_NAME}|"(?:[^"\\]|\\.)*"))?)?\s*')
#: As RFC 9110 §12.4.2 has it, and as Java, Perl and many by hand write it: without the leading or with a bare point.
_QUALITY: Final = re.compile(r"(?=\.?\d)\d{0,9}(\.\d{0,9})?", re.ASCII)
_RANGE: Final = re.compile(r"bytes=\s*(?P<first>\d{0,18})-(?P<last>\d{0,18})\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MediaType:
    """`type/subtype; name=value`, in lower case; as a range, each of both may be `*`."""

    type: str
    subtype: str
    parameters: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> MediaType | None:
        """The media type or range that `text` is, None if it is none. A lone `*` is `*/*`, as Java sends it."""
        text = text.strip()
        if text.split(";")[0].strip() == "*":
            text = "*/" + text
        match = _MEDIA_RANGE.match(text)
        if match is None:
            return None
        parameters: dict[str, str] = {}
        end = match.end()
        while end < len(text):
            parameter = _PARAMETER.match(text, end)
            if parameter is None:
                return None
            end = parameter.end()
            if parameter["name"]:
                parameters[parameter["name"].lower()] = _unquoted(parameter["value"] or "").lower()
        return cls(match["type"].lower(), match["subtype"].lower(), parameters)

    def fit(self, offer: MediaType) -> int | None:
        """How closely this range names `offer` (RFC 9110 §12.5.1), the larger the closer; None: not at all."""
        if (self.type, self.subtype) == ("*", "*"):
            return 0
        if self.type != offer.type or self.subtype not in ("*", offer.subtype):
            return None
        if self.subtype == "*":
            return 1
        wanted = {name: value for name, value in self.parameters.items() if name != "q"}
        if any(offer.parameters.get(name) != value for name, value in wanted.items()):
            return None
        return 2 + len(wanted)

    @property
    def quality(self) -> float:
        """The weight `q`, 0 to 1; one that is no number refuses, as 0 does."""
        text = self.parameters.get("q", "1")
        return min(1.0, float(text)) if _QUALITY.fullmatch(text) else 0.0


def choose_media_type(accept: str | None, offers: Sequence[str]) -> str | None:
    """The offer that the client likes best; at equal liking the earliest offer. None: it takes none of them.

    Args:
        accept: the `Accept` header, its lines joined; without one everything is welcome.
        offers: media types in the order that the server prefers.
    """
    ranges = _media_ranges(accept)
    best, best_quality = None, 0.0
    for offer in offers:
        quality = _quality(ranges, offer)
        if quality > best_quality:
            best, best_quality = offer, quality
    return best


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


def list_items(header: str) -> list[str]:
    """The items of a comma-separated header; a comma inside a quoted string separates nothing."""
    return [item for item in (part.strip() for part in _split_outside_quotes(header)) if item]


def _split_outside_quotes(header: str) -> list[str]:
    parts, start, quoted, escaped = [], 0, False, False
    for at, character in enumerate(header):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            parts.append(header[start:at])
            start = at + 1
    return [*parts, header[start:]]


def _media_ranges(accept: str | None) -> list[MediaType]:
    if accept is None or not accept.strip():
        return [MediaType("*", "*", {})]
    return [found for found in map(MediaType.parse, list_items(accept)) if found is not None]


def _quality(ranges: list[MediaType], offer: str) -> float:
    """What the range that names the offer most closely says of it; of two as close, the kinder."""
    offered = MediaType.parse(offer)
    fits = [
        (fit, media_range.quality)
        for media_range in ranges
        if offered and (fit := media_range.fit(offered)) is not None
    ]
    return max(fits, default=(0, 0.0))[1]


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
