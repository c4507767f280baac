"""Sound files whose beginning or end is wrong, as libsndfile reads them: what a stream, a recorder or a cut has left.

Who writes a WAV file into a pipe cannot go back to fill in its sizes; recorders forget the byte that pads a chunk; an
MP3 that was cut out of a stream begins in the middle of a frame, and has no tag that says how long it is; a download
that broke off ends in the middle of an Ogg page.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from orchestrion.audio.libsndfile import ogg_crc
from orchestrion.audio.mp3_info import MPEG_1_KBPS, MPEG_2_KBPS

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_CHUNK_NAME: Final = re.compile(rb"[A-Za-z0-9 ]{3}[A-Za-z0-9 _]")
#: How far into a file the first frame of an MP3 is looked for, and how many must follow each other to be believed.
_MP3_LEAD_BYTES: Final = 64 * 1024
_MP3_FRAMES: Final = 3
#: Taggers that know nothing of each other write one before the other.
_MOST_TAGS: Final = 16
#: Places without a frame, behind which the next one is looked for: whoever fills a file with them is not followed.
_MP3_MOST_GAPS: Final = 16
#: The first bytes of a header of layer III.
_MP3_HEADER: Final = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")
#: More than two minutes have at any rate.
_MP3_MOST_FRAMES: Final = 6000
#: Hz by the rate index of an MPEG 1 frame; MPEG 2 has half of it, MPEG 2.5 a quarter.
_MPEG_1_RATES_HZ: Final = (44_100, 48_000, 32_000)


def mended(data: bytes) -> bytes:
    """A WAV, MP3 or Ogg file as its decoder expects it; anything else, and what is right, as it is."""
    data = data.removeprefix(_BYTE_ORDER_MARK)
    if data[:4] in (b"RIFF", b"BW64") and data[8:12] == b"WAVE":
        return _mended_wav(data)
    if data.startswith(b"OggS"):
        return _mended_ogg(data)
    at = _after_tags(data)
    return _counted_mp3(data, at) if _is_mp3(data, at) else data


def _mended_wav(data: bytes) -> bytes:
    """A WAV file with the sizes that it really has.

    Where its size is none or more than there is, the audio goes on to the end of the file.
    """
    kept, at, is_wrong = b"", 12, data[:4] == b"BW64"
    while _is_chunk(data, at):
        name, size = struct.unpack_from("<4sI", data, at)
        end = at + 8 + size
        if name == b"data":
            rest = len(data) - at - 8
            is_wrong |= size > rest or (size == 0 < rest and not _is_chunk(data, end))
            if not is_wrong:
                return data
            audio = data[at + 8 : at + 8 + (size or rest)]
            head = struct.pack("<4sI4s", b"RIFF", 4 + len(kept) + 8 + len(audio), b"WAVE")
            return b"".join((head, kept, struct.pack("<4sI", name, len(audio)), audio))
        if name in (b"fmt ", b"fact"):
            kept += data[at:end] + bytes(size % 2)
        # A chunk of odd length is followed by a byte that does not count, unless its writer did not know.
        at = end + size % 2
        if size % 2 and not _is_chunk(data, at) and _is_chunk(data, end):
            at, is_wrong = end, True
    return data


def _is_chunk(data: bytes, at: int) -> bool:
    return at + 8 <= len(data) and _CHUNK_NAME.match(data, at) is not None


def mp3_from_its_first_frame(data: bytes) -> bytes | None:
    """An MP3 without what stands before its first frame; None: no frames are found, or nothing is before them."""
    at = _next_mp3_frame(data, 1, _MP3_LEAD_BYTES)
    return None if at is None else _counted_mp3(data[at:], 0)


def _after_tags(data: bytes) -> int:
    """Where the ID3v2 tags and zeros at the beginning of a file end."""
    at = 0
    for _ in range(_MOST_TAGS):
        if not data.startswith(b"ID3", at) or len(data) < at + 10:
            break
        a, b, c, d = data[at + 6 : at + 10]
        at += 10 + ((a & 127) << 21 | (b & 127) << 14 | (c & 127) << 7 | d & 127)
    return len(data) - len(data[at:].lstrip(b"\0"))


def _is_mp3(data: bytes, at: int) -> bool:
    """Whether some frames follow each other there."""
    for _ in range(_MP3_FRAMES):
        if not (length := _mp3_frame_bytes(data, at)):
            return False
        at += length
    return True


def _next_mp3_frame(data: bytes, at: int, end: int) -> int | None:
    return next((found.start() for found in _MP3_HEADER.finditer(data, at, end) if _is_mp3(data, found.start())), None)


def _counted_mp3(data: bytes, at: int) -> bytes:
    """An MP3 whose frames begin `at` a place, with their number in front where it is needed.

    Where frames differ in length and no tag counts them, decoders take the first for all, and stop too early or late.
    """
    first = data[at : at + _mp3_frame_bytes(data, at)]
    if any(tag in first for tag in (b"Xing", b"Info", b"VBRI")):
        return data
    begin, frames, gaps, shortest, longest = at, 0, 0, len(first), len(first)
    while frames < _MP3_MOST_FRAMES and gaps < _MP3_MOST_GAPS:
        if length := _mp3_frame_bytes(data, at):
            frames, at = frames + 1, at + length
            shortest, longest = min(shortest, length), max(longest, length)
        elif (following := _next_mp3_frame(data, at + 1, at + _MP3_LEAD_BYTES)) is not None:
            gaps, at = gaps + 1, following
        else:
            break
    # One is what pads a frame at a constant bitrate.
    return data if longest - shortest <= 1 else _count_frame(first, frames) + data[begin:]


def _count_frame(first: bytes, frames: int) -> bytes:
    """A frame as the first is, which has no music and says how many follow it: Xing's tag."""
    _, kind, rates, mode = first[:4]
    side_bytes = {(True, False): 32, (True, True): 17, (False, False): 17, (False, True): 9}
    # Without a checksum, and at 64 or 40 kbit/s, which has room for the tag at every rate.
    header = bytes([0xFF, kind | 1, 0x50 | rates & 0x0C, mode])
    tag = header + bytes(side_bytes[kind >> 3 & 3 == 3, mode >> 6 == 3]) + b"Xing" + struct.pack(">II", 1, frames)
    return tag.ljust(_mp3_frame_bytes(header, 0), b"\0")


def _mended_ogg(data: bytes) -> bytes:
    """An Ogg file of whole pages (RFC 3533 §6): of one that is cut off the packets that are whole are a page."""
    at, before = 0, 0
    while data.startswith(b"OggS", at) and len(data) >= at + 27:
        lacing = data[at + 27 : at + 27 + data[at + 26]]
        body = at + 27 + data[at + 26]
        (position,) = struct.unpack_from("<q", data, at + 6)
        if body + sum(lacing) > len(data):
            break
        at, before = body + sum(lacing), max(before, position)
    else:
        return data
    # A packet ends with a segment of less than 255 bytes.
    ends, size, whole = [], 0, 0
    for count, segment in enumerate(lacing, start=1):
        size += segment
        if segment < 255:
            ends.append((count, size))
            whole += body + size <= len(data)
    if not whole:
        return data
    count, size = ends[whole - 1]
    # Where it ends is not known without decoding; players go by what is there.
    position = before + (position - before) * whole // len(ends) if position >= 0 else position
    page = bytearray(data[at : at + 26]) + bytes([count]) + lacing[:count] + data[body : body + size]
    page[5] |= 4  # The last one: its audio may end before its packets do.
    struct.pack_into("<q", page, 6, position)
    struct.pack_into("<I", page, 22, 0)
    struct.pack_into("<I", page, 22, ogg_crc(bytes(page)))
    return data[:at] + bytes(page)


def _mp3_frame_bytes(data: bytes, at: int) -> int:
    """The length of the layer III frame whose header is there (ISO 11172-3 2.4.1.3); 0: none is."""
    if at + 4 > len(data):
        return 0
    _, kind, rates, _ = data[at : at + 4]
    version, layer = kind >> 3 & 3, kind >> 1 & 3
    bitrate, rate = rates >> 4, rates >> 2 & 3
    if data[at] != 0xFF or kind < 0xE0 or version == 1 or layer != 1 or bitrate in (0, 15) or rate == 3:
        return 0
    kbps = (MPEG_1_KBPS if version == 3 else MPEG_2_KBPS)[bitrate]
    rate_hz = _MPEG_1_RATES_HZ[rate] // {3: 1, 2: 2, 0: 4}[version]
    return (144 if version == 3 else 72) * kbps * 1000 // rate_hz + (rates >> 1 & 1)
