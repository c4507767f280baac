"""Prompts that differ in figures that say nothing, as "…, take 12" and "…, take 13" do, are read once.

Catalogs number what they ask for. Which figures say nothing is not guessed: the reader tells whether it has looked at
them (`Passage.figures`), and of what it has not, others of the same length give the same intent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from orchestrion.tracks.intent.lexicon import is_in_a_phrase

T = TypeVar("T")

#: As `text` has them.
_FIGURES: Final = re.compile(r"\d+(?:[.,]\d+)*")
_DIGIT: Final = re.compile(r"\d")
#: Stands for a digit.
_ANY: Final = "\0"


class OncePerNumber(Generic[T]):
    """What is made of prompts, kept for those that come next."""

    def __init__(self, make: Callable[[str], tuple[T, bool]], most_characters: int) -> None:
        """Keep some.

        Args:
            make: called with a prompt; with what it makes of it comes whether that holds for other figures as well.
            most_characters: of the prompts whose results are kept, together.
        """
        self._make, self._most_characters = make, most_characters
        self._kept: dict[str, T] = {}
        self._characters = 0

    def __call__(self, prompt: str) -> T:
        """What is made of a prompt."""
        if _ANY in prompt:
            # No request has it.
            return self._make(prompt)[0]
        if (known := self._kept.get(prompt)) is not None:
            return known
        is_numbered = _DIGIT.search(prompt) is not None
        if is_numbered and (known := self._kept.get(_unnumbered(prompt))) is not None:
            return known
        made, is_of_any = self._make(prompt)
        # A vocabulary that was read meanwhile may have these figures in a phrase: so the name is found now.
        self._keep(_unnumbered(prompt) if is_numbered and is_of_any else prompt, made)
        return made

    def clear(self) -> None:
        """Keep nothing of what was made so far."""
        self._kept, self._characters = {}, 0

    def _keep(self, name: str, made: T) -> None:
        if self._characters + len(name) > self._most_characters:
            self.clear()
        self._kept[name] = made
        self._characters += len(name)


def _unnumbered(prompt: str) -> str:
    """The prompt without those of its figures that no phrase has."""
    return _FIGURES.sub(lambda found: found[0] if is_in_a_phrase(found[0]) else _DIGIT.sub(_ANY, found[0]), prompt)
