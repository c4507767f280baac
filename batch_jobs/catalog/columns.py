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
#: In place of names: keep every column that is none of ours.
KEEP_ALL: Final = "all"
MAX_KEPT_COLUMNS: Final = 64
MAX_KEPT_NAME_CHARACTERS: Final = 100
#: What pandas and Arrow call an index that its author never named.
_INDEX: Final = re.compile(r"unnamed:_\d+|__index_level_\d+__")
#: Stands for a name that means nothing to us; as a name it would mean nothing too.
UNKNOWN: Final = "?"
#: Keys of JSON rows whose meaning is remembered. None of ours, nor anybody's word for one, is longer.
_REMEMBERED_KEYS: Final = 1000
_REMEMBERED_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class Kept:
    """A column that is none of ours and is carried into the ledger under this name."""

    name: str


#: What a column that is read is to us.
Name = str | Kept


@dataclass(frozen=True, slots=True)
class Header:
    """The columns of one file, in its own order."""

    #: Ours or kept; None for a column that is not read; "" for one without a name, which must be empty in every row.
    names: tuple[Name | None, ...]
    #: What was not taken literally, for people: renamed and ignored columns.
    said: tuple[str, ...]


class ColumnNames:
    """The names that a catalog may use: ours, in any case and with blanks, those mapped to ours, and those kept."""

    def __init__(self, column_map: Mapping[str, str], keep: Collection[str] = ()) -> None:
        """Take a map from our names to the catalog's own, and the names of columns to keep, or `KEEP_ALL`.

        Raises:
            InvalidRequest: the map names a column that we do not have, or one of the catalog's for two of ours; or a
                column that is kept is one of ours.
        """
        #: Whether no column is unknown.
        self.keeps_all = KEEP_ALL in keep
        self._kept: dict[str, Kept] = {}
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
        for name in keep if not self.keeps_all else ():
            if _plain(name) in self._ours or _plain(name) in COLUMNS:
                raise InvalidRequest.of("keep_columns", name, "is one of our columns, which the ledger has anyway")
            self._kept[_plain(name)] = _kept(name)
        _check_kept(self._kept.values())

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
            remedy = "say what they are with --map OURS=THEIRS, or carry them into the ledger with --keep-columns"
            known_ones = f"known columns: {', '.join(COLUMNS)}"
            raise InvalidRequest.of("catalog", ", ".join(unknown), f"has unknown columns; {remedy}; {known_ones}")
        known = [our for our in ours if our]
        _check_kept([our for our in known if isinstance(our, Kept)])
        if twice := [name for name, our in pairs if our and known.count(our) > 1]:
            raise InvalidRequest.of("catalog", ", ".join(twice), "names a column twice")
        if missing := self.unused(known):
            message = f"has no such column to map or keep; its columns are {shown(', '.join(names))}"
            raise InvalidRequest.of("catalog", missing, message)
        if "prompt" not in known:
            remedy = f"give one, or say which it is with --map prompt=THEIRS; known columns: {', '.join(COLUMNS)}"
            raise InvalidRequest.of("catalog", ", ".join(names), f"has no column 'prompt'; {remedy}")
        return Header(tuple(ours), tuple(_said(pairs)))

    def ours_of(self, name: str, is_first: bool) -> Name | None:
        """What a column is to us; `UNKNOWN`; "" if it has no name; None if it is the index of whoever wrote the file.

        Raises:
            InvalidRequest: it is to be kept, and has a name that cannot be.
        """
        plain = _plain(name)
        if found := self._ours.get(plain) or self._kept.get(plain):
            return found
        if _INDEX.fullmatch(plain) or (not plain and is_first):
            return None
        if plain in COLUMNS or not plain:
            return plain
        return _kept(name) if self.keeps_all else UNKNOWN

    def unused(self, met: Collection[Name]) -> str:
        """Which columns are mapped or kept and are none of these, as it was said; "" if there is none."""
        mapped = [f"{our}={theirs}" for our, theirs in self._theirs.items() if our not in met]
        return ", ".join([*mapped, *(kept.name for kept in self._kept.values() if kept not in met)])


class JsonKeys:
    """The same of JSON, where each row has its own names. An unknown key is left, to be refused as a field."""

    def __init__(self, columns: ColumnNames) -> None:
        self._columns = columns
        self._known: dict[tuple[str, bool], Name | None] = {}
        self._met: set[Name] = set()

    def row(self, cells: Mapping[str, Any]) -> dict[Name, Any]:
        """The cells under our names.

        Raises:
            InvalidRequest: two keys of the row mean the same column, or more are to be kept than can be.
        """
        named: dict[Name, Any] = {}
        for at, (key, cell) in enumerate(cells.items()):
            ours = self._ours_of(key, at == 0)
            if ours is None:
                continue
            if ours in named:
                raise InvalidRequest.of(name_of(ours), cell, "is given twice; give it once")
            named[ours] = cell
        return named

    def check_map(self) -> None:
        """After the last row.

        Raises:
            InvalidRequest: a key that is mapped or kept was in none of them.
        """
        if missing := self._columns.unused(self._met):
            raise InvalidRequest.of("catalog", missing, "has no such key to map or keep, in none of its rows")

    def _ours_of(self, key: str, is_first: bool) -> Name | None:
        if len(key) > _REMEMBERED_CHARACTERS:
            return key
        if (key, is_first) not in self._known:
            if len(self._known) >= _REMEMBERED_KEYS:
                self._known.clear()
            ours = self._columns.ours_of(key, is_first)
            self._known[key, is_first] = key if ours == UNKNOWN else ours
            if ours and (isinstance(ours, str) or not self._columns.keeps_all):
                self._met.add(ours)
        return self._known[key, is_first]


def _plain(name: str) -> str:
    return "_".join(name.split()).casefold()


def name_of(column: Name) -> str:
    """What messages call a column."""
    return column.name if isinstance(column, Kept) else column


def _kept(name: str) -> Kept:
    plain = name.strip()
    if len(plain) > MAX_KEPT_NAME_CHARACTERS or not plain.isprintable():
        message = f"cannot be kept; give it a printable name of at most {MAX_KEPT_NAME_CHARACTERS} characters"
        raise InvalidRequest.of("catalog", name, message)
    return Kept(plain)


def _check_kept(kept: Collection[Kept]) -> None:
    if len(kept) > MAX_KEPT_COLUMNS:
        names = ", ".join(each.name for each in kept)
        raise InvalidRequest.of("keep_columns", names, f"are {len(kept)} columns; keep at most {MAX_KEPT_COLUMNS}")


def _said(pairs: Sequence[tuple[str, Name | None]]) -> list[str]:
    renamed = [f"{name!r} is {our}" for name, our in pairs if our and isinstance(our, str) and our != name.strip()]
    kept = [repr(our.name) for _, our in pairs if isinstance(our, Kept)]
    ignored = [repr(name) if name.strip() else "the one without a name" for name, our in pairs if our is None]
    empty = sum(our == "" for _, our in pairs)
    said = ["columns: " + ", ".join(renamed)] if renamed else []
    said += ["kept columns: " + ", ".join(kept)] if kept else []
    said += ["ignored columns: " + ", ".join(ignored)] if ignored else []
    return said + ([f"{empty} columns without a name, which must be empty"] if empty else [])
