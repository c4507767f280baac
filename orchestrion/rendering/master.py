"""The master: a piece in the form in which it is delivered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrion.finding import Finding


@dataclass(frozen=True, slots=True)
class Master:
    """A piece as it will be delivered, checked and encoded; the store does not have it yet."""

    data: bytes
    midi: bytes | None
    choices: Mapping[str, object]
    findings: tuple[Finding, ...]
