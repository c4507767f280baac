"""Which of our columns each column of a catalog is, whatever its author calls it, and which are not read at all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from orchestrion.errors import InvalidRequest
from orchestrion.tracks.spec import TrackSpec

#: Columns that are the caller's own and go to the ledger as they are.
LABELS: Final = ("row_id", "title")
COLUMNS: Final = (*LABELS, *TrackSpec.model_fields)
#: What pandas and Arrow call an index that its author never named.
_INDEX: Final = re.compile(r"unnamed:_\d+|__index_level_\d+__")
#: Keys of JSON rows whose meaning is remembered.
_REMEMBERED_KEYS: Final = 1000


@dataclass(frozen=True, slots=True)
class Header:
    """The columns of one file, in its own order."""

    #: Ours; None for a column that is not read; "" for one without a name, which must be empty in every row.
    names: tuple[str | None, ...]
    #: What was not taken literally, for people: renamed and ignored columns.
    said: tuple[str, ...]


class ColumnNames:
    """The names that a catalog may use: ours, in any case and with blanks, and those that the caller maps to ours."""

    def __init__(self, column_map: Mapping[str, str]) -> None:
        """Take a map from our names to the catalog's own.

        Raises:
            InvalidRequest: it names a column that we do not have, or one of the catalog's for two of ours.
        """
        self._theirs = dict(column_map)
        self._ours: dict[str, str] = {}
        for ours, theirs in column_map.items():
            if ours not in COLUMNS:
                raise InvalidRequest.of("map", ours, "is none of our columns: " + ", ".join(COLUMNS))
            if _plain(theirs) in self._ours:
                raise InvalidRequest.of(
                    "map", theirs, f"is mapped to {self._ours[_plain(theirs)]} already; map it once"
                )
            self._ours[_plain(theirs)] = ours

    def header(self, names: Sequence[str], may_have_empty: bool = False) -> Header:
        """What the columns of these names are.

        Args:
            names: As they stand in the file.
            may_have_empty: Whether columns without a name may follow that hold nothing, as spreadsheets write them.

        Raises:
            InvalidRequest: one is unknown, or there twice, or missing that must be there.
        """
        ours = [self._ours_of(name, at == 0) for at, name in enumerate(names)]
        given = f"its columns are {', '.join(names)}"
        unknown = [
            name for name, our in zip(names, ours, strict=True) if our is _UNKNOWN or (our == "" and not may_have_empty)
        ]
        if unknown:
            message = (
                f"has unknown columns; say what they are with --map OURS=THEIRS; known columns: {', '.join(COLUMNS)}"
            )
            raise InvalidRequest.of("catalog", ", ".join(unknown), message)
        known = [our for our in ours if our]
        if twice := sorted({our for our in known if known.count(our) > 1}):
            raise InvalidRequest.of("catalog", ", ".join(twice), f"names a column twice; {given}")
        if missing := [our for our in self._theirs if our not in known]:
            wanted = ", ".join(f"{our}={self._theirs[our]}" for our in missing)
            raise InvalidRequest.of("catalog", wanted, f"has no such column to map; {given}")
        if "prompt" not in known:
            remedy = f"give one, or say which it is with --map prompt=THEIRS; known columns: {', '.join(COLUMNS)}"
            raise InvalidRequest.of("catalog", ", ".join(names), f"has no column 'prompt'; {remedy}")
        return Header(tuple(ours), tuple(_said(names, ours)))

    def _ours_of(self, name: str, is_first: bool) -> str | None:
        plain = _plain(name)
        if plain in self._ours:
            return self._ours[plain]
        if _INDEX.fullmatch(plain) or (not plain and is_first):
            return None
        return plain if plain in COLUMNS or not plain else _UNKNOWN


class JsonKeys:
    """The same of JSON, where each row has its own names. An unknown key is left, to be refused as a field."""

    def __init__(self, columns: ColumnNames) -> None:
        self._columns = columns
        self._known: dict[tuple[str, bool], str | None] = {}
        self._met: set[str] = set()

    def row(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """The cells under our names.

        Raises:
            InvalidRequest: two keys of the row mean the same column.
        """
        named: dict[str, Any] = {}
        for at, (key, cell) in enumerate(cells.items()):
            ours = self._ours_of(key, at == 0)
            if ours is None:
                continue
            if ours in named:
                raise InvalidRequest.of(ours, cell, "is given twice; give it once")
            named[ours] = cell
        return named

    def check_map(self) -> None:
        """After the last row.

        Raises:
            InvalidRequest: a key of the map was in none of them.
        """
        if never := [pair for pair in self._columns._theirs.items() if pair[0] not in self._met]:
            wanted = ", ".join("=".join(pair) for pair in never)
            raise InvalidRequest.of("catalog", wanted, "has no such key to map, in none of its rows")

    def _ours_of(self, key: str, is_first: bool) -> str | None:
        if (key, is_first) not in self._known:
            if len(self._known) >= _REMEMBERED_KEYS:
                self._known.clear()
            ours = self._columns._ours_of(key, is_first)
            self._known[key, is_first] = key if ours is _UNKNOWN else ours
            if ours:
                self._met.add(ours)
        return self._known[key, is_first]


_UNKNOWN: Final = "?"


def _plain(name: str) -> str:
    return "_".join(name.split()).casefold()


def _said(names: Sequence[str], ours: Sequence[str | None]) -> list[str]:
    renamed = [f"'{name}' is {our}" for name, our in zip(names, ours, strict=True) if our and our != name.strip()]
    ignored = [
        f"'{name}'" if name.strip() else "the one without a name"
        for name, our in zip(names, ours, strict=True)
        if our is None
    ]
    empty = sum(our == "" for our in ours)
    said = ["columns: " + ", ".join(renamed)] if renamed else []
    said += ["ignored columns: " + ", ".join(ignored)] if ignored else []
    return said + ([f"{empty} columns without a name, which must be empty"] if empty else [])
