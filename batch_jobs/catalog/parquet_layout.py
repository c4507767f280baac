"""What a Parquet file says of itself, in its footer and before its pages, read without Arrow.

For two reasons. Arrow holds a page of every column at once, and two kilobytes may unpack to two gigabytes: only the
pages' own headers, from which Arrow takes its buffers, say so beforehand. And where Arrow is asked from Python about a
chunk of a damaged footer, it does not raise: it ends the process.

Both are written in Thrift's compact protocol; the numbers of the fields are those of parquet-format's parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

#: A row group of all our columns takes some 3 kB of it.
MAX_FOOTER_BYTES: Final = 16 * 1024 * 1024
#: Of the largest pages of all columns, unpacked. Most writers make pages of 1 MB, DuckDB one for 122,880 rows.
MAX_PAGE_BYTES: Final = 128 * 1024 * 1024
#: Most writers stop at 1 MB. Arrow copies from it for every row, so that a larger one takes time more than memory.
MAX_DICTIONARY_BYTES: Final = 8 * 1024 * 1024
#: Headers hold statistics, which no writer lets grow beyond 4 kB each. Most fit into the first of these.
_HEADER_BYTES: Final = (512, 64 * 1024)
_MAX_DEPTH: Final = 12
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
#: An encoding in which each text repeats the beginning of the one before: any may be as long as the whole page.
_DELTA_BYTE_ARRAY: Final = 7

_DAMAGED: Final = "a header is damaged"
Fields = dict[int, Any]


@dataclass(frozen=True, slots=True)
class Chunk:
    """The values of one leaf of the schema in one row group."""

    #: Names from the column down to the leaf, with dots between them; one of a column that is not nested.
    path: str
    #: Bytes of the file, from and to.
    start: int
    end: int
    #: None where the file does not say.
    null_count: int | None


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group as the footer has it."""

    rows: int
    chunks: tuple[Chunk, ...]


def row_groups(file: IO[bytes]) -> Iterator[RowGroup]:
    """The row groups of a Parquet file, one at a time.

    Raises:
        ValueError: the footer is damaged, or larger than `MAX_FOOTER_BYTES`.
    """
    reader = _Compact(_footer(file))
    try:
        for number, kind in reader.fields():
            if number == 4 and kind == 9:
                for _ in range(reader.list_header()[0]):
                    yield _row_group(reader.struct(0))
            else:
                reader.value(kind, 0)
    except (IndexError, TypeError, KeyError, AttributeError):
        raise ValueError("the footer is damaged") from None


def _footer(file: IO[bytes]) -> bytes:
    end = file.seek(0, 2)
    file.seek(max(0, end - 8))
    size = int.from_bytes(file.read(4), "little")
    if size > MAX_FOOTER_BYTES:
        raise ValueError(f"the footer has {size} bytes; write fewer and larger row groups")
    file.seek(max(0, end - 8 - size))
    return file.read(size)


def _row_group(fields: Fields) -> RowGroup:
    return RowGroup(_number(fields[3]), tuple(_chunk(column[3]) for column in fields[1]))


def _chunk(fields: Fields) -> Chunk:
    # Some writers give 0 where there is no dictionary.
    start = min(_number(at) for at in (fields[9], fields.get(11) or fields[9]))
    return Chunk(b".".join(fields[3]).decode(), start, start + _number(fields[7]), fields.get(12, {}).get(3))


def _number(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(_DAMAGED)
    return value


def row_bytes(file: IO[bytes], group: RowGroup, columns: Collection[str]) -> float:
    """Bytes that a row takes, unpacked, in the mean of the densest page of each of these columns.

    Raises:
        ValueError: a header is damaged, or a page is too large (`MAX_PAGE_BYTES`, `MAX_DICTIONARY_BYTES`).
    """
    largest_bytes = 0
    densest_bytes = 0.0
    for chunk in group.chunks:
        if chunk.path in columns:
            pages = _pages(file, chunk)
            largest_bytes += max((size for size, _ in pages), default=0)
            densest_bytes += max((density for _, density in pages), default=0.0)
    if largest_bytes > MAX_PAGE_BYTES:
        raise ValueError(f"its pages unpack to {largest_bytes} bytes; write pages of about 1 MB")
    return densest_bytes


def _pages(file: IO[bytes], chunk: Chunk) -> list[tuple[int, float]]:
    """Of each page: bytes unpacked, and bytes that a value of it takes."""
    at = chunk.start
    pages = []
    while at < chunk.end:
        header, length = _page_header(file, at)
        size, stored = _number(header.get(2)), _number(header.get(3))
        pages.append((size, _bytes_per_value(header, size)))
        at += length + stored
    return pages


def _bytes_per_value(header: Fields, size: int) -> float:
    kind = header.get(1)
    if kind == _DICTIONARY_PAGE:
        # Every value may be the one long text that is in it.
        if size > MAX_DICTIONARY_BYTES:
            raise ValueError(f"it has a dictionary of {size} bytes; write dictionaries of about 1 MB")
        return float(size)
    if kind not in (_DATA_PAGE, _DATA_PAGE_V2):
        return 0.0
    details = header.get(5 if kind == _DATA_PAGE else 8)
    if not isinstance(details, dict):
        raise ValueError(_DAMAGED)
    values, encoding = _number(details.get(1)), details.get(2 if kind == _DATA_PAGE else 4)
    return float(size) if encoding == _DELTA_BYTE_ARRAY or not values else size / values


def _page_header(file: IO[bytes], at: int) -> tuple[Fields, int]:
    """The fields of the header that begins here, and its length in bytes."""
    for size in _HEADER_BYTES:
        file.seek(at)
        reader = _Compact(file.read(size))
        try:
            return reader.struct(0), reader.at
        except IndexError:
            continue
    raise ValueError(_DAMAGED)


class _Compact:
    """Thrift's compact protocol. IndexError where the data ends too soon, ValueError where it makes no sense."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def struct(self, depth: int) -> Fields:
        return {number: self.value(kind, depth) for number, kind in self.fields()}

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and kind of each field of a struct; the caller reads each value before it takes the next."""
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            yield number, head & 15

    def list_header(self) -> tuple[int, int]:
        """Length of a list and the kind of what is in it."""
        head = self._byte()
        return (self._varint() if head >> 4 == 15 else head >> 4), head & 15

    def value(self, kind: int, depth: int) -> object:
        if depth > _MAX_DEPTH:
            raise ValueError(_DAMAGED)
        match kind:
            case 1 | 2:
                return kind == 1
            case 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._integer()
            case 7:
                return self._bytes(8)
            case 8:
                return self._bytes(self._varint())
            case 9 | 10:
                length, inner = self.list_header()
                # In a list a truth value is a byte of its own.
                return [self.value(3 if inner in (1, 2) else inner, depth + 1) for _ in range(length)]
            case 12:
                return self.struct(depth + 1)
        raise ValueError(_DAMAGED)

    def _integer(self) -> int:
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7
            if shift > 63:
                raise ValueError(_DAMAGED)

    def _bytes(self, length: int) -> bytes:
        self.at += length
        if self.at > len(self.data):
            raise IndexError
        return self.data[self.at - length : self.at]

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]
