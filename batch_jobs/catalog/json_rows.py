"""JSON lines, one object a line; and JSON documents: a list of objects, or one object after another, spread over lines.

A line that is no row costs that row. In a document what is wrong inside an object costs its row, and what is wrong
between objects stops the job: nobody knows then where the next one begins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Final

from batch_jobs.catalog.cells import Opened, Read
from batch_jobs.catalog.columns import ColumnNames, JsonKeys
from batch_jobs.catalog.lines import MAX_LINE_BYTES, Line, Lines, TextFile
from orchestrion.errors import InvalidRequest
from orchestrion.tracks.strict_json import parse_json_object

_OUTSIDE: Final = re.compile(rb'["{}\[\]]')
_BETWEEN: Final = re.compile(rb"[^ \t\r\n]")


def open_json_lines(file: IO[bytes], columns: ColumnNames) -> Opened:
    """Rows of JSON lines, numbered by line; a file that is a document in truth is read as one.

    Raises:
        InvalidRequest: the file cannot be used, now or at a later row.
    """
    text = TextFile(file)
    if _is_document(text.head):
        return _opened_document(text, columns)
    return Opened((f"JSON lines in {text.encoding}",), _rows(Lines(text), JsonKeys(columns)))


def open_json(file: IO[bytes], columns: ColumnNames) -> Opened:
    """Rows of a JSON document, numbered from 1.

    Raises:
        InvalidRequest: the file cannot be used, now or at a later row.
    """
    return _opened_document(TextFile(file), columns)


def _is_document(head: bytes) -> bool:
    lines = [line for line in head[: 2 * MAX_LINE_BYTES].splitlines() if line.strip()][:2]
    if not lines:
        return False
    if lines[0].lstrip().startswith(b"["):
        return True
    # A row that is cut off behind a comma is followed by another row, a spread one by its next key.
    return len(lines) == 2 and lines[0].rstrip().endswith((b"{", b",")) and lines[1].lstrip().startswith(b'"')


def _opened_document(text: TextFile, columns: ColumnNames) -> Opened:
    said = f"JSON objects in {text.encoding}, rows counted from 1"
    objects = (Line(number, data, "row") for number, data in enumerate(_objects(text), start=1))
    return Opened((said,), _rows(objects, JsonKeys(columns)))


def _rows(lines: Iterator[Line], keys: JsonKeys) -> Iterator[tuple[int, Read]]:
    for line in lines:
        if not line.data.strip():
            continue
        try:
            yield line.number, keys.row(parse_json_object(line.text(), "row"))
        except InvalidRequest as error:
            yield line.number, str(error)
    keys.check_map()


# Documents

#: What stands between objects: where we are, and which byte leads where.
_NEXT: Final[dict[str, dict[bytes, str]]] = {
    "start": {b"[": "first", b"{": "another"},
    "first": {b"{": "comma", b"]": "end"},
    "comma": {b",": "element", b"]": "end"},
    "element": {b"{": "comma"},
    "another": {b"{": "another"},
    "end": {},
}
_REMEDY: Final = 'write a list of objects, [{"prompt": "calm piano"}] (pandas: to_json(path, orient="records"))'


def _objects(text: TextFile) -> Iterator[bytes]:
    """The text of each object, of a longer one `MAX_LINE_BYTES` + 1 bytes.

    Raises:
        InvalidRequest: the document is no list of objects.
    """
    place, number = "start", 0
    current: _ObjectText | None = None
    for block in text.blocks():
        at = 0
        while True:
            if current is None:
                found = _BETWEEN.search(block, at)
                if found is None:
                    break
                at = found.start()
                place = _after(place, block[at : at + 80], number)
                if found[0] != b"{":
                    at += 1
                    continue
                number += 1
                current = _ObjectText()
            at = current.take(block, at)
            if number == 1 and place == "another" and current.is_table():
                raise InvalidRequest.of("catalog", bytes(current.data[:80]), f"holds no rows; {_REMEDY}")
            if current.depth:
                break
            yield bytes(current.data)
            current = None
    if current is not None:
        raise InvalidRequest.of("catalog", bytes(current.data[:80]), f"ends inside row {number}; is it whole?")
    if place == "start":
        raise InvalidRequest.of("catalog", "", f"is empty; {_REMEDY}")
    if place not in ("another", "end"):
        raise InvalidRequest.of("catalog", "", f"ends after row {number}, and its list is not closed; is it whole?")


def _after(place: str, found: bytes, number: int) -> str:
    if found[:1] not in _NEXT[place]:
        raise InvalidRequest.of("catalog", found, f"is no list of objects after row {number}; {_REMEDY}")
    return _NEXT[place][found[:1]]


class _ObjectText:
    """The text of one object, taken from block after block up to the brace that closes it."""

    def __init__(self) -> None:
        self.data = bytearray()
        #: Brackets that are open; 0 when it is whole.
        self.depth = 0
        self.deepest = 0
        self._in_text = False
        self._escaped = False

    def is_table(self) -> bool:
        """Whether it is no row but a table by columns, or a list under a name: nested, and without text of its own."""
        if self.deepest == 1 or self.depth:
            return self.deepest > 1 and len(self.data) > MAX_LINE_BYTES
        try:
            members = json.loads(self.data)
        except (ValueError, RecursionError):
            return False
        return not any(isinstance(member, str) for member in members.values())

    def take(self, block: bytes, at: int) -> int:
        """Take what of the block belongs to it from here on; returns where that ends."""
        end = self._end(block, at)
        self.data += block[at : min(end, at + MAX_LINE_BYTES + 1 - len(self.data))]
        return end

    def _end(self, block: bytes, at: int) -> int:
        while at < len(block):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            if self._in_text:
                at = self._text_end(block, at)
                continue
            found = _OUTSIDE.search(block, at)
            if found is None:
                return len(block)
            at = found.end()
            if found[0] == b'"':
                self._in_text = True
            elif found[0] in (b"{", b"["):
                self.depth += 1
                self.deepest = max(self.deepest, self.depth)
            else:
                self.depth -= 1
                if self.depth == 0:
                    return at
        return at

    def _text_end(self, block: bytes, at: int) -> int:
        """Behind the quote that ends the text, or behind a backslash before it."""
        quote = block.find(b'"', at)
        end = len(block) if quote < 0 else quote
        backslash = block.find(b"\\", at, end)
        if backslash >= 0:
            self._escaped = True
            return backslash + 1
        self._in_text = quote < 0
        return min(end + 1, len(block))
