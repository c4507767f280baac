"""What is gathered while a prompt is read, before it becomes an intent."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrion.tracks.intent.intent import Conflict, NotFollowed, Reading, Value, Words
from orchestrion.tracks.intent.passage import Passage

Span = tuple[int, int]


@dataclass(slots=True)
class Findings:
    """Readings so far, and the tokens that they are from."""

    passage: Passage
    readings: list[Reading] = field(default_factory=list)
    not_followed: list[NotFollowed] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    #: Tokens that say something already: what else they could mean is not asked.
    used: set[int] = field(default_factory=set)

    def read(self, name: str, value: Value, span: Span, sure: float = 0.9) -> None:
        """Note what was understood, and that its words are used."""
        self.readings.append(Reading(name, value, self.words(span), sure))
        self.used.update(range(*span))

    def refuse(self, kind: str, why: str, span: Span) -> None:
        """Note what cannot be followed."""
        self.not_followed.append(NotFollowed(self.words(span), kind, why))
        self.used.update(range(*span))

    def conflict(self, name: str, one: Span, other: Span) -> None:
        """Note that two parts say different things."""
        self.conflicts.append(Conflict(name, (self.words(one), self.words(other))))

    def is_free(self, span: Span) -> bool:
        """Whether none of its tokens is used."""
        return self.used.isdisjoint(range(*span))

    def words(self, span: Span) -> Words:
        """The words of some tokens."""
        return self.passage.words(*span)
