"""CSV as RFC 4180 has it, and as spreadsheets write it: the dialect is recognised by the header, never guessed.

A header is right when all its columns are known, so at most one separator makes one of it. A record that spans several
lines and is no row costs its first line only: reading goes on with the next line, so a quote that is never closed does
not take the rest of the file with it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from typing import IO, Final

from batch_jobs.catalog.cells import Opened, Read, TextCells
from batch_jobs.catalog.columns import COLUMNS, ColumnNames, Header, Name
from batch_jobs.catalog.lines import AS_UTF8, MAX_LINE_BYTES, Line, Lines, TextFile
from orchestrion.errors import InvalidRequest

#: Lines that one CSV record may span. Without a limit a line of five bytes can cost 64 kB of reading.
MAX_RECORD_LINES: Final = 100
SEPARATORS: Final[Mapping[str, str]] = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
#: What Excel takes as its own instruction and no row.
_SEP_LINE: Final = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
#: Windows writes \r\n, and \r\r\n where it translates twice; only a Macintosh of long ago, and Excel for it, \r alone.
_LINE_END: Final = re.compile(rb"\r*\n|\r")


def open_csv(file: IO[bytes], columns: ColumnNames) -> Opened:
    """Recognise the dialect and read the header.

    Raises:
        InvalidRequest: the file cannot be used.
    """
    text = TextFile(file)
    end = _line_end(text.head)
    lines = Lines(text, end)
    first = _first_line(lines)
    said = [f"CSV in {text.encoding}"]
    if end == b"\r":
        said.append("lines end with a carriage return")
    if sep := _SEP_LINE.fullmatch(first.text()):
        if sep[1] not in SEPARATORS:
            raise InvalidRequest.of("catalog", sep[1], "is no separator; use " + ", ".join(SEPARATORS.values()))
        first = _first_line(lines)
        separator, header = sep[1], _header(first, lines, sep[1], columns)
        said.append(f"separated by {SEPARATORS[separator]}, as its first line says")
    else:
        separator, header = _recognised(first, lines, columns)
        said.append(f"separated by {SEPARATORS[separator]}")
    if separator != ",":
        said.append("numbers with a decimal point or comma")
    return Opened((*said, *header.said), _rows(lines, separator, header))


def _line_end(head: bytes) -> bytes:
    found = _LINE_END.search(head)
    return b"\r" if found and found[0] == b"\r" else b"\n"


def _first_line(lines: Lines) -> Line:
    for line in lines:
        if b"\0" in line.data:
            message = f"has NUL bytes in its first line, as UTF-16 without a byte order mark has; {AS_UTF8}"
            raise InvalidRequest.of("catalog", "\0", message)
        if line.data.strip():
            return line
    raise InvalidRequest.of("catalog", "", "is empty; the first line must name its columns: " + ", ".join(COLUMNS))


def _recognised(first: Line, lines: Lines, columns: ColumnNames) -> tuple[str, Header]:
    """The separator that makes a header of the first line."""
    wrong: list[tuple[int, InvalidRequest]] = []
    for separator in SEPARATORS:
        cells: list[str] = []
        try:
            cells = _record(first, lines, None, separator)
            return separator, columns.header(cells, may_have_empty=True)
        except InvalidRequest as error:
            # Of several complaints, that about the separator which makes the most columns.
            wrong.append((-len(cells), error))
    raise min(wrong, key=lambda each: each[0])[1]


def _header(first: Line, lines: Lines, separator: str, columns: ColumnNames) -> Header:
    return columns.header(_record(first, lines, None, separator), may_have_empty=True)


def _rows(lines: Lines, separator: str, header: Header) -> Iterator[tuple[int, Read]]:
    for first in lines:
        if not first.data.strip():
            continue
        try:
            cells = _record(first, lines, len(header.names), separator)
            if any(map(str.strip, cells)):
                yield first.number, TextCells(_named(cells, header), decimal_comma=separator != ",")
        except InvalidRequest as error:
            yield first.number, str(error)


def _named(cells: list[str], header: Header) -> dict[Name, str]:
    named: dict[Name, str] = {}
    for at, (name, cell) in enumerate(zip(header.names, cells, strict=True), start=1):
        if name:
            named[name] = cell
        elif name is not None and cell.strip():
            message = (
                f"stands in column {at}, which has no name; name it, or quote the cell that a separator cut in two"
            )
            raise InvalidRequest.of("row", cell, message)
    return named


def _record(first: Line, lines: Lines, count: int | None, separator: str) -> list[str]:
    """The record that begins at `first`, of so many cells or blank; without one, lines after `first` are given back."""
    taken: list[Line] = []

    def text_lines() -> Iterator[str]:
        yield first.text()
        size = len(first.data)
        for line in lines:
            taken.append(line)
            size += len(line.data)
            if size > MAX_LINE_BYTES or len(taken) >= MAX_RECORD_LINES:
                return
            yield line.text()

    try:
        cells = next(csv.reader(text_lines(), delimiter=separator, strict=True))
        if count is not None and len(cells) != count and any(map(str.strip, cells)):
            raise InvalidRequest.of("row", cells[0], f"has {len(cells)} cells, the header has {count}")
    except csv.Error as error:
        lines.give_back(taken)
        raise InvalidRequest.of("row", first.text().rstrip("\r\n"), f"is not a CSV row: {error}") from None
    except InvalidRequest:
        lines.give_back(taken)
        raise
    return cells
