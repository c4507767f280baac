"""Genres beyond our styles: the nearest style of each, how far it is, and what is its own."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Genre:
    """What is known of a genre."""

    names: tuple[str, ...]
    #: Of its names, those that everyday words have, too.
    in_context: tuple[str, ...]
    #: Styles, the nearest first.
    nearest: tuple[str, ...]
    #: 0: what we play is that genre; 1: there is none like it.
    distance: float


@lru_cache(maxsize=1)
def genres() -> Mapping[str, Genre]:
    """All genres by their English names."""
    source = resources.files("orchestrion.tracks.intent") / "genres.toml"
    if not source.is_file():
        return {}
    tables = tomllib.loads(source.read_text("utf-8"))
    return {
        name: Genre(
            names=(name, *table.get("names", ())),
            in_context=tuple(table.get("in_context", ())),
            nearest=tuple(table["nearest"]),
            distance=table["distance"],
        )
        for name, table in tables.items()
    }
