"""What people call music beyond our styles, and what they make it for: what suits it where nothing else is asked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any


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
    #: What is its own, where it differs from its nearest style; as in a `Suggestion`.
    tempo_bpm: tuple[float, float] | None
    metre: str | None
    instruments: tuple[str, ...]
    exclude: tuple[str, ...]
    mode: str | None
    moods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """What suits a use."""

    #: English words for it beside its own name and those of the language's file.
    names: tuple[str, ...]
    #: The likeliest first, as the moods.
    styles: tuple[str, ...]
    moods: tuple[str, ...]
    tempo_bpm: tuple[float, float] | None
    energy: str | None


@lru_cache(maxsize=1)
def genres() -> Mapping[str, Genre]:
    """All genres by their English names."""
    return {
        name: Genre(
            names=(name, *table.get("names", ())),
            in_context=tuple(table.get("in_context", ())),
            nearest=tuple(table["nearest"]),
            distance=table["distance"],
            tempo_bpm=_range(table),
            metre=table.get("metre"),
            instruments=tuple(table.get("instruments", ())),
            exclude=tuple(table.get("exclude", ())),
            mode=table.get("key_mode"),
            moods=tuple(table.get("mood", ())),
        )
        for name, table in _tables("genres.toml").items()
    }


@lru_cache(maxsize=1)
def uses() -> Mapping[str, Use]:
    """All uses by their English nouns."""
    return {
        name: Use(
            tuple(table.get("names", ())),
            tuple(table.get("styles", ())),
            tuple(table.get("mood", ())),
            _range(table),
            table.get("energy"),
        )
        for name, table in _tables("uses.toml").items()
    }


def _range(table: Mapping[str, Any]) -> tuple[float, float] | None:
    if "tempo_bpm" not in table:
        return None
    low, high = table["tempo_bpm"]
    return float(low), float(high)


def _tables(file: str) -> dict[str, dict[str, Any]]:
    return tomllib.loads(resources.files("orchestrion.tracks.intent").joinpath(file).read_text("utf-8"))
