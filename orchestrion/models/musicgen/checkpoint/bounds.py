"""How large a checkpoint's files may be, told before anything in them is read or unpacked.

A file of a megabyte can unpack to gigabytes, and a short header can ask for as many. Torch writes its archives without
compression, so one that holds more than its own size was made to do harm; all other bounds lie far above anything that
was ever published.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Final

#: Configurations, model cards and licences: read whole, and parsed in Python.
CARD_BYTES: Final = 1 << 20
#: A tokenizer's files and the index of shards; T5's tokenizer.json has 2.4 MB.
VOCABULARY_BYTES: Final = 16 << 20
#: The header of safetensors, 150 bytes a tensor, and the pickle of one of torch's archives, 200 bytes a tensor.
HEADER_BYTES: Final = 16 << 20
#: The directory of such an archive, 110 bytes a tensor.
DIRECTORY_BYTES: Final = 4 << 20
#: Audiocraft's training configuration, which has about 30 kB.
YAML_CHARACTERS: Final = 256 << 10

_WEIGHTS: Final = (".bin", ".safetensors")
_VOCABULARY: Final = ("tokenizer.json", "spiece.model", "added_tokens.json", ".index.json")
_TEXTS: Final = (".json", ".jinja", ".model", ".txt", ".md")
#: The last record of an archive without a comment: its signature, two numbers of disks, two of entries, the size and
#: the place of the directory, the length of the comment.
_END: Final = struct.Struct("<4s4HLLH")
_END_SIGNATURE: Final = b"PK\5\6"
#: Stands for a size that a larger record has.
_IN_ZIP64: Final = 0xFFFFFFFF
_LOCATOR: Final = struct.Struct("<4sLQL")
_ZIP64: Final = struct.Struct("<4sQ2H2L4Q")


class OutOfBounds(Exception):
    """A file is larger than it should be, or would unpack to more than it is."""


def check_text(path: Path) -> None:
    """Make sure that a file which is read whole is not too large for that; weights are none of these.

    Raises:
        OutOfBounds: it is.
    """
    if path.suffix in _WEIGHTS:
        return
    limit = VOCABULARY_BYTES if path.name.endswith(_VOCABULARY) else CARD_BYTES
    size = path.stat().st_size
    if size > limit:
        raise OutOfBounds(f"it has {size / 1e6:.1f} MB, and such a file has at most {limit / 1e6:.1f}")


def check_texts(folder: Path) -> None:
    """As `check_text`, for all files of a folder that foreign code will look through."""
    for path in folder.iterdir():
        if path.suffix in _TEXTS and path.is_file():
            check_text(path)


def check_safetensors(path: Path) -> None:
    """Make sure that the header is of a size that weights have.

    Raises:
        OutOfBounds: it is not, or there is none.
    """
    with path.open("rb") as file:
        start = file.read(8)
    size = int.from_bytes(start, "little")
    if len(start) < 8 or size > min(HEADER_BYTES, path.stat().st_size):
        raise OutOfBounds(f"its header should have {size} bytes, which it cannot have; it may be cut short")


def check_archive(path: Path) -> None:
    """Make sure that one of torch's files unpacks to no more than it is.

    Raises:
        OutOfBounds: it does not, or is no archive at all: older than torch 1.6, or cut short.
    """
    size = path.stat().st_size
    if _directory_bytes(path, size) > DIRECTORY_BYTES:
        raise OutOfBounds("it holds more entries than a model has tensors")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, struct.error) as error:
        raise OutOfBounds(f"it is no archive that can be read ({error}); it may be cut short") from error
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size for entry in entries):
        raise OutOfBounds("it is compressed, and torch's own never are: there is no telling what it unpacks to")
    if sum(entry.file_size for entry in entries) > size:
        raise OutOfBounds("its entries together are larger than itself")
    if any(entry.file_size > HEADER_BYTES for entry in entries if entry.filename.endswith(".pkl")):
        raise OutOfBounds("its pickle is larger than that of any model")


def _directory_bytes(path: Path, size: int) -> int:
    """The size of an archive's directory, by its last record."""
    if size < _END.size:
        raise OutOfBounds("it is no archive: it may be cut short")
    with path.open("rb") as file:
        file.seek(size - _END.size)
        signature, *_, directory_bytes, _, comment_bytes = _END.unpack(file.read(_END.size))
        if signature != _END_SIGNATURE or comment_bytes:
            # One with a comment could have two ends, and two programs could take it for two archives.
            raise OutOfBounds("it is no archive as torch writes them since 1.6; it may be cut short")
        if directory_bytes != _IN_ZIP64 or size < _END.size + _LOCATOR.size:
            return int(directory_bytes)
        file.seek(size - _END.size - _LOCATOR.size)
        _, _, place, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
        if place + _ZIP64.size > size:
            raise OutOfBounds("it is no archive that can be read; it may be cut short")
        file.seek(place)
        return int(_ZIP64.unpack(file.read(_ZIP64.size))[-2])
