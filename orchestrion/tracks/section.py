"""A section of a piece as a request names it: what it is, and how long it lasts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

_TEXT: Final = re.compile(
    r"(?P<name>[^\d,]*[^\d,\s])(?:\s+(?P<figure>\d{1,6}(?:\.\d{1,6})?)\s*(?P<unit>s|sec|seconds?|bars?))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Section:
    """One of the sections that a piece consists of, in the order in which they are played.

    Its length is given in seconds or in bars, never in both; with neither it takes its share of what the others leave.
    """

    #: One of `vocabulary.SECTION_NAMES`.
    name: str
    duration_s: float | None = None
    bars: int | None = None

    def __str__(self) -> str:
        if self.bars is not None:
            return f"{self.name} {self.bars} bars"
        return self.name if self.duration_s is None else f"{self.name} {self.duration_s:g} s"


def text_of_sections(sections: Iterable[Section]) -> str:
    """The sections as `sections_of_text` reads them, up to six digits of a length."""
    return ", ".join(map(str, sections))


def sections_of_text(text: str) -> list[dict[str, Any]]:
    """The sections that a cell of text lists, as JSON has them: "intro 8 s, verse 16 bars, outro".

    Raises:
        ValueError: one of them is not a name, or a name and a length.
    """
    return [_section_of_text(part.strip()) for part in text.split(",")]


def _section_of_text(text: str) -> dict[str, Any]:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError("is not a list of sections; write for example 'intro 8 s, verse 16 bars, outro'")
    if match["figure"] is None:
        return {"name": match["name"]}
    if match["unit"].lower().startswith("bar"):
        # A figure that is not whole stays one, for the field to refuse.
        return {
            "name": match["name"],
            "bars": float(match["figure"]) if "." in match["figure"] else int(match["figure"]),
        }
    return {"name": match["name"], "duration_s": float(match["figure"])}
