"""Words → intent: the one reader of prompts.

It works in steps, each of which takes the words that it understood away from those behind it: phrases of the vocabulary
are found in all languages; what is unwanted; what cannot be had; figures; keys; and last what is wanted.
"""

from __future__ import annotations

from functools import lru_cache

from orchestrion.tracks.intent.intent import Intent
from orchestrion.tracks.intent.passage import Passage
from orchestrion.tracks.intent.rules.amounts import amounts
from orchestrion.tracks.intent.rules.cannot import Cannot, not_understood
from orchestrion.tracks.intent.rules.findings import Findings
from orchestrion.tracks.intent.rules.keys import read_keys
from orchestrion.tracks.intent.rules.measures import Measures
from orchestrion.tracks.intent.rules.negations import Negations
from orchestrion.tracks.intent.rules.wishes import Wishes
from orchestrion.tracks.intent.text import Form


@lru_cache(maxsize=256)  # A request is resolved more than once.
def read_intent(prompt: str) -> Intent:
    """Read a prompt of any length; never fails, and judges no figure."""
    return read(prompt)[0]


def read(prompt: str) -> tuple[Intent, bool]:
    """The intent of a prompt, and whether its figures say nothing, so that it is that of any others of their length."""
    passage = Passage(prompt)
    findings = Findings(passage)
    negations = Negations(passage)
    cannot = Cannot(findings, negations)
    cannot.read_early()
    negations.read(findings)
    Measures(findings, amounts(passage), negations).read()
    read_keys(findings)
    Wishes(findings, negations).read()
    cannot.read_late()
    intent = Intent(
        readings=tuple(sorted(findings.readings, key=lambda reading: reading.words.start)),
        not_followed=tuple(findings.not_followed),
        conflicts=tuple(findings.conflicts),
        not_understood=tuple(findings.words(span) for span in not_understood(findings)),
        languages=passage.languages,
    )
    return intent, not passage.looks_at_figures and not _quotes_figures(intent, passage)


def _quotes_figures(intent: Intent, passage: Passage) -> bool:
    """Whether some figure stands in words that the intent names."""
    figures = [token for token in passage.text.exact if token.form is Form.NUMBER]
    quoted = [*(reading.words for reading in intent.readings), *(one.words for one in intent.not_followed)]
    quoted += [*intent.not_understood, *(words for conflict in intent.conflicts for words in conflict.words)]
    return any(words.start < token.end and token.start < words.end for token in figures for words in quoted)
