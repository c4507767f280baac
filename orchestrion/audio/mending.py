"""Sound files whose beginning is wrong, as libsndfile reads them: what a stream, a recorder or a cut has left.

Who writes a WAV file into a pipe cannot go back to fill in its sizes; recorders forget the byte that pads a chunk; an
MP3 that was cut out of a stream begins in the middle of a frame.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from orchestrion.audio.mp3_info import MPEG_1_KBPS, MPEG_2_KBPS

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_CHUNK_NAME: Final = re.compile(rb"[A-Za-z0-9 ]{3}[A-Za-z0-9 _]")
#: How far into a file the first frame of an MP3 is looked for, and how many must follow each other to be believed.
_MP3_LEAD_BYTES: Final = 64 * 1024
_MP3_FRAMES: Final = 3
#: Hz by the rate index of an MPEG 1 frame; MPEG 2 has half of it, MPEG 2.5 a quarter.
_MPEG_1_RATES_HZ: Final = (44_100, 48_000, 32_000)


def mended_wav(data: bytes) -> bytes:
    """A WAV file with the sizes that it really has; anything else as it is.

    Where its size is none or more than there is, the audio goes on to the end of the file.
    """
    data = data.removeprefix(_BYTE_ORDER_MARK)
    if data[:4] not in (b"RIFF", b"BW64") or data[8:12] != b"WAVE":
        return data
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
    at = data.find(b"\xff", 1, _MP3_LEAD_BYTES)
    while at > 0:
        place = at
        for _ in range(_MP3_FRAMES):
            length = _mp3_frame_bytes(data, place)
            if not length:
                break
            place += length
        else:
            return data[at:]
        at = data.find(b"\xff", at + 1, _MP3_LEAD_BYTES)
    return None


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
