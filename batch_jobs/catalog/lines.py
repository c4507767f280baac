"""The bytes of a text file as UTF-8 and in lines, in bounded memory, however long a line is."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Final

from orchestrion.errors import InvalidRequest

#: A longer line is a broken file, not a request: the longest valid row is about 15 kB of UTF-8.
MAX_LINE_BYTES: Final = 64 * 1024
#: A line without an end is skipped in pieces of this size.
BLOCK_BYTES: Final = 1024 * 1024
#: How to save a text file so that nothing about it has to be guessed.
AS_UTF8: Final = "save the catalog as UTF-8 (in Excel: 'CSV UTF-8')"


class TextFile:
    """A text file, read in blocks. UTF-16 is recognised by its byte order mark and becomes UTF-8; all else stays."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        first = b""
        while len(first) <= MAX_LINE_BYTES and (more := file.read(BLOCK_BYTES)):
            first += more
        self._decoder: codecs.IncrementalDecoder | None = None
        if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            # Half a surrogate pair passes here and is no UTF-8 later, where it costs its row only.
            self._decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
        #: What the file says that it is in.
        self.encoding = "UTF-16" if self._decoder else "UTF-8"
        #: The beginning, of at least a line's length if the file has so much; the first block of all.
        self.head = self._utf8(first).removeprefix(codecs.BOM_UTF8)

    def blocks(self) -> Iterator[bytes]:
        """All of the file, from its head on."""
        yield self.head
        while block := self._file.read(BLOCK_BYTES):
            yield self._utf8(block)
        if self._decoder is not None:
            yield self._end_of_utf16(self._decoder)

    def _utf8(self, block: bytes) -> bytes:
        return block if self._decoder is None else self._decoder.decode(block).encode("utf-8", "surrogatepass")

    @staticmethod
    def _end_of_utf16(decoder: codecs.IncrementalDecoder) -> bytes:
        try:
            return decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            # The file ends in the middle of a character: its last row is no UTF-8.
            return b"\xff"


@dataclass(frozen=True, slots=True)
class Line:
    """A line, or a row of JSON that spans several."""

    number: int
    #: At most `MAX_LINE_BYTES` + 1 bytes; the rest of a longer line was skipped.
    data: bytes
    what: str = "line"

    def text(self) -> str:
        """The line in characters.

        Raises:
            InvalidRequest: it is too long, or no text in UTF-8.
        """
        if len(self.data) > MAX_LINE_BYTES:
            raise InvalidRequest.of("row", "…", f"the {self.what} is longer than {MAX_LINE_BYTES} bytes")
        if b"\0" in self.data:
            raise InvalidRequest.of("row", "\0", f"the {self.what} contains a NUL byte")
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError as error:
            wrong = self.data[error.start : error.end]
            message = f"byte {error.start + 1} of the {self.what} is not UTF-8; {AS_UTF8}"
            raise InvalidRequest.of("row", wrong, message) from None


class Lines:
    """The lines of a file, one at a time; lines may be given back."""

    def __init__(self, text: TextFile, end: bytes = b"\n") -> None:
        self._blocks = text.blocks()
        self._end = end
        self._number = 0
        self._returned: deque[Line] = deque()
        self._block = b""
        self._at = 0

    def __iter__(self) -> Iterator[Line]:
        return self

    def __next__(self) -> Line:
        if self._returned:
            return self._returned.popleft()
        data = self._next_bytes()
        if not data:
            raise StopIteration
        self._number += 1
        return Line(self._number, data)

    def give_back(self, lines: Iterable[Line]) -> None:
        """Have these lines come again, before all others."""
        self._returned.extendleft(reversed(tuple(lines)))

    def _next_bytes(self) -> bytes:
        # The file's own readline would do, but takes a line of 10 GB in a hundred thousand calls, and from S3 in more.
        line = b""
        while True:
            end = self._block.find(self._end, self._at) + 1
            stop = end or len(self._block)
            line += self._block[self._at : min(stop, self._at + MAX_LINE_BYTES + 1 - len(line))]
            self._at = stop
            if end:
                return line
            block = next(self._blocks, None)
            if block is None:
                return line
            self._block, self._at = block, 0
