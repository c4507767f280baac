"""Which of our columns each column of a catalog is, whatever its author calls it, and which are not read at all."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from orchestrion.errors import InvalidRequest, shown
from orchestrion.tracks.spec import TrackSpec

#: Columns that are the caller's own and go to the ledger as they are.
LABELS: Final = ("row_id", "title")
COLUMNS: Final = (*LABELS, *TrackSpec.model_fields)
#: What pandas and Arrow call an index that its author never named.
_INDEX: Final = re.compile(r"unnamed:_\d+|__index_level_\d+__")
#: Stands for a name that means nothing to us; as a name it would mean nothing too.
UNKNOWN: Final = "?"
#: Keys of JSON rows whose meaning is remembered. None of ours, nor anybody's word for one, is longer.
_REMEMBERED_KEYS: Final = 1000
_REMEMBERED_CHARACTERS: Final = 200


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
        ours = [self.ours_of(name, at == 0) for at, name in enumerate(names)]
        pairs = list(zip(names, ours, strict=True))
        if unknown := [name for name, our in pairs if our == UNKNOWN or (our == "" and not may_have_empty)]:
            remedy = f"say what they are with --map OURS=THEIRS; known columns: {', '.join(COLUMNS)}"
            raise InvalidRequest.of("catalog", ", ".join(unknown), f"has unknown columns; {remedy}")
        known = [our for our in ours if our]
        if twice := [name for name, our in pairs if our and known.count(our) > 1]:
            raise InvalidRequest.of("catalog", ", ".join(twice), "names a column twice")
        if missing := self.unused(known):
            message = f"has no such column to map; its columns are {shown(', '.join(names))}"
            raise InvalidRequest.of("catalog", missing, message)
        if "prompt" not in known:
            remedy = f"give one, or say which it is with --map prompt=THEIRS; known columns: {', '.join(COLUMNS)}"
            raise InvalidRequest.of("catalog", ", ".join(names), f"has no column 'prompt'; {remedy}")
        return Header(tuple(ours), tuple(_said(pairs)))

    def ours_of(self, name: str, is_first: bool) -> str | None:
        """Our name of a column; `UNKNOWN`; "" if it has no name; None if it is the index of whoever wrote the file."""
        plain = _plain(name)
        if plain in self._ours:
            return self._ours[plain]
        if _INDEX.fullmatch(plain) or (not plain and is_first):
            return None
        return plain if plain in COLUMNS or not plain else UNKNOWN

    def unused(self, met: Collection[str]) -> str:
        """What the map says of columns that are none of these, as it was given; "" if there is nothing."""
        return ", ".join(f"{our}={theirs}" for our, theirs in self._theirs.items() if our not in met)


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
        if missing := self._columns.unused(self._met):
            raise InvalidRequest.of("catalog", missing, "has no such key to map, in none of its rows")

    def _ours_of(self, key: str, is_first: bool) -> str | None:
        if len(key) > _REMEMBERED_CHARACTERS:
            return key
        if (key, is_first) not in self._known:
            if len(self._known) >= _REMEMBERED_KEYS:
                self._known.clear()
            ours = self._columns.ours_of(key, is_first)
            self._known[key, is_first] = key if ours == UNKNOWN else ours
            self._met |= {ours} if ours else set()
        return self._known[key, is_first]


def _plain(name: str) -> str:
    return "_".join(name.split()).casefold()


def _said(pairs: Sequence[tuple[str, str | None]]) -> list[str]:
    renamed = [f"{name!r} is {our}" for name, our in pairs if our and our != name.strip()]
    ignored = [repr(name) if name.strip() else "the one without a name" for name, our in pairs if our is None]
    empty = sum(our == "" for _, our in pairs)
    said = ["columns: " + ", ".join(renamed)] if renamed else []
    said += ["ignored columns: " + ", ".join(ignored)] if ignored else []
    return said + ([f"{empty} columns without a name, which must be empty"] if empty else [])
