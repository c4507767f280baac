"""What an exported file is called: a template filled from a track's row, so that every system can hold the name.

A name is safe on Linux, macOS and Windows, whatever the catalog's titles are. Two tracks never share one, also where
upper and lower case are the same; which name a track has does not depend on the order of the rows.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from batch_jobs.ledger.tables import TRACKS_SCHEMA
from orchestrion.errors import InvalidRequest

#: A track's row of the ledger, as far as it was read.
Row = Mapping[str, Any]

DEFAULT_TEMPLATE: Final = "{title|row_id|track_id}-{seed}.{format}"
#: What a template may name: a salt is nobody's business, and a list is no part of a name.
COLUMNS: Final = tuple(
    field.name for field in TRACKS_SCHEMA if not pa.types.is_nested(field.type) and field.name != "caller_salt"
)
#: Of one part of a name. Less than the 255 that file systems take: a sidecar's ending is added, and Windows counts the
#: whole path up to 260.
MAX_PART_BYTES: Final = 180
#: Of a template's own words in one part, so that there is always room for what they surround.
MAX_WORDS_BYTES: Final = 100
MAX_FOLDERS: Final = 3
UNTITLED: Final = "untitled"
#: Beside the tracks, in the folder itself.
TRACKS_CSV: Final = "tracks.csv"
PLAYLIST: Final = "playlist.m3u8"

_ENDING: Final = ".{format}"
_FIELD: Final = re.compile(r"\{([^{}]*)\}")
_FORBIDDEN: Final = frozenset('<>:"/\\|?*')
#: What a shell, a player or a person takes for something else at the beginning of a name.
_MISLEADING_FIRST: Final = (".", "-", "~", "#")
#: Windows opens the device instead, with any ending.
_DEVICES: Final = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    | {f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"}
)
_ID_PREFIX: Final = "trk_"
#: Characters of a track's id that tell tracks of one name apart: so many of them are enough in nearly all cases, and
#: all of them always are.
_SUFFIX_CHARACTERS: Final = (0, 8, 32)


@dataclass(frozen=True, slots=True)
class Template:
    """How names are made: words, and columns of a track's row."""

    #: For each folder, and last for the file without its ending: words, or columns of which the first that is not empty
    #: is taken.
    parts: tuple[tuple[str | tuple[str, ...], ...], ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Read a template such as "{style}/{title|row_id}-{seed}.{format}".

        Raises:
            InvalidRequest: it names an unknown column, does not end in ".{format}", or makes names that not every
                system can hold.
        """
        if not text.endswith(_ENDING):
            raise InvalidRequest.of("name", text, f"must end in {_ENDING}, by which a file is known for what it is")
        # A slash is between folders, wherever it stands; no column has one.
        parts = tuple(_read_part(part) for part in text.removesuffix(_ENDING).split("/"))
        if len(parts) > MAX_FOLDERS + 1:
            raise InvalidRequest.of("name", text, f"makes more than {MAX_FOLDERS} folders in each other")
        return cls(parts)

    @property
    def columns(self) -> frozenset[str]:
        """The columns of a row that it needs."""
        named = (piece for part in self.parts for piece in part if not isinstance(piece, str))
        return frozenset({"format"}.union(*named))

    def name(self, row: Row, suffix: str = "") -> str:
        """The name of a track's file. `suffix` goes before its ending."""
        *folders, file = self.parts
        ending = f".{_clean(_text(row['format']))}"
        return "/".join([*(_filled(part, row) for part in folders), _filled(file, row, suffix, ending)])


def name_tracks(template: Template, rows: Iterable[Row]) -> dict[str, Row]:
    """A name for each track's row; rows of one track that ask for the same name share it.

    Where several tracks would have the same name, all of them get a suffix from their ids. So a name is decided by
    which tracks there are, and not by their order.

    Args:
        template: how names are made.
        rows: with `job_id`, `line`, `track_id` and the template's columns.

    Returns:
        The row of each name, of several the first by job and line; in order of jobs and lines.
    """
    chosen: dict[tuple[str, str], tuple[tuple[str, str, int], Row]] = {}
    for row in rows:
        name = template.name(row)
        same, rank = (collision_key(name), row["track_id"]), (name, row["job_id"], row["line"])
        if same not in chosen or rank < chosen[same][0]:
            chosen[same] = (rank, row)
    in_order = sorted(chosen.values(), key=lambda each: each[0][1:])
    tracks, names = [row for _, row in in_order], [rank[0] for rank, _ in in_order]
    levels = [0] * len(tracks)
    while colliding := _colliding(names):
        for at in colliding:
            levels[at] = min(levels[at] + 1, len(_SUFFIX_CHARACTERS) - 1)
            id_characters = tracks[at]["track_id"].removeprefix(_ID_PREFIX)[: _SUFFIX_CHARACTERS[levels[at]]]
            names[at] = template.name(tracks[at], f"-{id_characters}")
    return dict(zip(names, tracks, strict=True))


def collision_key(name: str) -> str:
    """Equal for names that a file system may take for one: in upper and lower case, composed or decomposed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).upper().casefold())


def _colliding(names: Sequence[str]) -> list[int]:
    """Places of the names that are not alone."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for at, name in enumerate(names):
        places[collision_key(name)].append(at)
    return [at for sharing in places.values() if len(sharing) > 1 for at in sharing]


def _read_part(text: str) -> tuple[str | tuple[str, ...], ...]:
    # Split at a pattern with one group: words and fields by turns.
    pieces = _FIELD.split(text)
    part: list[str | tuple[str, ...]] = []
    for words, field in zip(pieces[::2], [*pieces[1::2], None], strict=True):
        if wrong := sorted({letter for letter in words if letter in _FORBIDDEN or letter in "{}"}):
            raise InvalidRequest.of("name", text, f"has {' '.join(wrong)}, which not every system has in a name")
        if not words.isprintable() or words != unicodedata.normalize("NFC", words):
            raise InvalidRequest.of("name", text, "has a character that cannot be seen, or a decomposed one")
        part += [words] if words else []
        part += [_read_field(field)] if field is not None else []
    words_alone = "".join(piece for piece in part if isinstance(piece, str))
    if len(words_alone.encode()) > MAX_WORDS_BYTES:
        raise InvalidRequest.of("name", text, f"has more than {MAX_WORDS_BYTES} bytes of its own words in one part")
    if not part or (part == [words_alone] and words_alone.strip(" .") == ""):
        raise InvalidRequest.of("name", text, "has a folder or a file without a name")
    return tuple(part)


def _read_field(field: str) -> tuple[str, ...]:
    columns = tuple(name.strip() for name in field.split("|"))
    for name in columns:
        if name not in COLUMNS:
            raise InvalidRequest.of("name", f"{{{field}}}", f"is no column of a track; there are {', '.join(COLUMNS)}")
    return columns


def _filled(part: Sequence[str | tuple[str, ...]], row: Row, suffix: str = "", ending: str = "") -> str:
    texts = [piece if isinstance(piece, str) else _first(piece, row) for piece in part]
    fields = [at for at, piece in enumerate(part) if not isinstance(piece, str)]
    # One byte is for what may have to stand first.
    room = MAX_PART_BYTES - len(f"_{suffix}{ending}".encode())
    while (over := len("".join(texts).encode()) - room) > 0:
        longest = max(fields, key=lambda at: len(texts[at].encode()))
        texts[longest] = _cut(texts[longest], len(texts[longest].encode()) - over)
    # What was two letters may be one now that they are beside each other; that is never longer.
    stem = unicodedata.normalize("NFC", "".join(texts)).strip(" ").rstrip(" .") or UNTITLED
    is_device = stem.split(".")[0].rstrip(" ").upper() in _DEVICES
    if stem.startswith(_MISLEADING_FIRST) or is_device or stem.lower() in (TRACKS_CSV, PLAYLIST):
        stem = f"_{stem}"
    return f"{stem}{suffix}{ending}"


def _first(columns: Sequence[str], row: Row) -> str:
    return next((text for name in columns if (text := _clean(_text(row[name])))), UNTITLED)


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.12g}"
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    return str(value)


def _clean(text: str) -> str:
    """The text without what any of the systems does not have in a name, in one line and one spelling."""
    kept = []
    for letter in text:
        if letter in _FORBIDDEN:
            kept.append("_")
        elif letter.isspace() or unicodedata.category(letter) == "Cc":
            kept.append(" ")
        elif letter.isprintable():
            kept.append(letter)
        elif unicodedata.category(letter) != "Cf":
            # Not assigned, private, or half of a character.
            kept.append("_")
        # What only directs the letters beside it, such as a right-to-left mark, can make a name look like another.
    return unicodedata.normalize("NFC", " ".join("".join(kept).split()))


def _cut(text: str, at_most_bytes: int) -> str:
    return text.encode()[: max(0, at_most_bytes)].decode("utf-8", "ignore").rstrip(" ")
