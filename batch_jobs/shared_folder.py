"""Reading a folder that others write, too: what is not ours is skipped, with one warning that names it.

Names are checked here, against one pattern each; nothing else makes a key of what it has read.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from orchestrion.errors import NotFound, VerificationFailed, shown
from orchestrion.storage.object_store import Dated, Objects

logger = logging.getLogger(__name__)

_Parsed = TypeVar("_Parsed")


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.ASCII)


#: A catalog's name and a hash.
JOB_ID: Final = _pattern(r"[a-z0-9][a-z0-9-]{0,63}")
#: The round, and a hash of what is in the rows.
SHARD: Final = _pattern(r"(?P<round>[0-9]{2,6})-[0-9a-z]{1,32}")
WORKER_ID: Final = _pattern(r"[a-z0-9][a-z0-9-]{0,47}")
RUN_ID: Final = _pattern(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
ROUND: Final = _pattern(r"[0-9]{2,6}")
LINE: Final = _pattern(r"[0-9]{1,19}")
TRACK_ID: Final = _pattern(r"trk_[a-z2-7]{32}")
#: A hash of what is in it.
SETTLEMENT: Final = _pattern(r"[0-9a-f]{32}")
SHA256: Final = _pattern(r"[0-9a-f]{64}")
MANIFEST: Final = _pattern(r"[0-9]{8}")
#: The moment at which it was written, and a hash of what is in it.
PART: Final = _pattern(r"part-(?P<moment>[0-9]{8}T[0-9]{6}Z)-[0-9a-f]{32}\.parquet")
_DAY: Final = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
#: A table's file, below the ledger's folder: rows of a day, or no rows and the schema of a release.
TABLE_FILE: Final = _pattern(
    rf"(?P<table>tracks|failures|attempts|nodes)/((?P<day>{_DAY})|schema-(?P<schema_version>[0-9]{{1,4}}))/"
    + PART.pattern
)
#: The same in releases that had day and model in the folders' names only; what follows `model=` is percent-encoded.
HIVE_TABLE_FILE: Final = _pattern(
    rf"(?P<table>tracks|failures|attempts|nodes)/day=(?P<day>{_DAY})(/model=(?P<model>[A-Za-z0-9_.~%-]{{1,240}}))?/"
    + PART.pattern
)


class SharedFolder:
    """The objects of a ledger, as any writer may have left them."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._told: set[str] = set()

    def names(self, folder: str, pattern: re.Pattern[str], suffix: str, cuts: Sequence[str] = ()) -> list[str]:
        """The names in a folder that match, without their suffix, in order; others are skipped.

        `cuts` are as for `Objects.keys`.
        """
        found = []
        for key in sorted(self.objects.keys(folder, cuts)):
            name = key.removeprefix(f"{folder}/")
            if name.endswith(suffix) and pattern.fullmatch(name[: len(name) - len(suffix)]):
                found.append(name[: len(name) - len(suffix)])
            else:
                self.skip(key, "its name is none that this program gives")
        return found

    def read_if_there(self, key: str, parse: Callable[[bytes], _Parsed], at_most: int) -> _Parsed | None:
        """What `parse` makes of an object. None if there is no such object; None, and a warning, if it is not ours.

        Args:
            key: the object's name.
            parse: reads its bytes; raises ValueError for what is not ours.
            at_most: bytes that such an object may have.
        """
        return self._read(key, lambda: parse(self.objects.read(key, at_most)))

    def read_dated_if_there(self, key: str, parse: Callable[[Dated], _Parsed], at_most: int) -> _Parsed | None:
        """The same, and `parse` is also told when the object was written, by the store's clock."""
        return self._read(key, lambda: parse(self.objects.read_dated(key, at_most)))

    def _read(self, key: str, read: Callable[[], _Parsed]) -> _Parsed | None:
        try:
            return read()
        except NotFound:
            return None
        except (ValueError, VerificationFailed) as error:
            self.skip(key, str(error))
            return None

    def skip(self, key: str, why: str) -> None:
        """Say once that this object does not count."""
        self.tell(key, f"is skipped: {why}")

    def tell(self, key: str, what: str) -> None:
        """Say something about an object, unless something was said about it already."""
        if key not in self._told:
            self._told.add(key)
            logger.warning("%s in %s %s", shown(key), self.objects.url, " ".join(what.split())[:300])


def whole_numbers(data: bytes) -> list[int]:
    """A JSON list of whole numbers of 1 or more.

    Raises:
        ValueError: it is something else.
    """
    try:
        values = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(values, list) or not all(type(value) is int and value >= 1 for value in values):
        raise ValueError("it is no list of line numbers")
    return values
