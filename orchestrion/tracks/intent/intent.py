"""What was understood of a prompt, what cannot be followed, and what says two things at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

#: A number, a text, a range of two numbers, or a list or table of these: as JSON has them.
Value: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Words:
    """A part of the prompt, as it was given."""

    text: str
    #: Of the first character, and after the last one.
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Reading:
    """One thing that was understood."""

    #: A field of a request, or `use`, which says what the music is for.
    field: str
    value: Value
    words: Words
    #: From 0 to 1.
    sure: float


@dataclass(frozen=True, slots=True)
class NotFollowed:
    """Words that ask for what cannot be had."""

    words: Words
    #: `artist`, `lyrics`, `vocals`, `language`, `metre`, `instrument`, `range`, `style`, `field`, `model` or `other`.
    kind: str
    #: Why, and what may be asked instead; a sentence for people.
    why: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two things that do not go together."""

    field: str
    words: tuple[Words, Words]


@dataclass(frozen=True, slots=True)
class Intent:
    """All that a prompt was understood to say."""

    readings: tuple[Reading, ...]
    not_followed: tuple[NotFollowed, ...]
    conflicts: tuple[Conflict, ...]
    #: Words of content that mean nothing to the reader.
    not_understood: tuple[Words, ...]
    #: The languages that it is in, by ISO 639-1, the most likely first.
    languages: tuple[str, ...]

    def values(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)

    def of(self, field: str) -> list[Reading]:
        """All that was understood for a field, in the order of its words."""
        return [reading for reading in self.readings if reading.field == field]

    def first(self, field: str) -> Reading | None:
        """What was understood for a field: of several the surest, of those the first."""
        found = self.of(field)
        return min(found, key=lambda reading: (-reading.sure, reading.words.start)) if found else None
