"""What an export has written to its destination: which files are its own, of which track, and with which bytes.

It says which files may be written over and deleted; nothing else in the destination is touched. A file is named here
before it is written, so that an export that was killed knows all of its files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from orchestrion.errors import InvalidRequest, NotFound, VerificationFailed
from orchestrion.storage.object_store import Objects, is_key

MANIFEST: Final = ".orchestrion/export.json"
MANIFEST_VERSION: Final = 1
MAX_MANIFEST_BYTES: Final = 1024 * 1024 * 1024
#: In the place of a track's id: a file that is of the whole export.
OF_ALL: Final = ""
_REMEDY: Final = (
    "Find out who put it there, and delete it; files that are as they should be are then known by their bytes"
)
_Exactly = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One file of an export."""

    __pydantic_config__: ClassVar[ConfigDict] = _Exactly

    #: `OF_ALL` for a file that is of no single track.
    track_id: Annotated[str, Field(pattern=r"^(trk_[a-z2-7]{32})?$")]
    #: Of its bytes; None: it was to be written, and it is not known whether it was.
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    bytes: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class _Document:
    __pydantic_config__: ClassVar[ConfigDict] = _Exactly

    export_version: Literal[1]
    files: dict[str, ExportedFile]


_ADAPTER: Final = TypeAdapter(_Document)


def read_manifest(objects: Objects) -> dict[str, ExportedFile]:
    """The files of the last export, by name; none where there was no export.

    Raises:
        InvalidRequest: what lies there is no such manifest.
        StoreUnavailable: the folder or bucket did not answer.
    """
    try:
        document = _ADAPTER.validate_json(objects.read(MANIFEST, MAX_MANIFEST_BYTES))
    except NotFound:
        return {}
    except (ValidationError, VerificationFailed) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise InvalidRequest.of("to", objects.url, f"has a {MANIFEST} that is none: {why}. {_REMEDY}") from None
    if wrong := sorted(name for name in document.files if not is_key(name, readable=True)):
        raise InvalidRequest.of("to", wrong[0], f"is no name of a file, and stands in {MANIFEST}. {_REMEDY}")
    return document.files


def write_manifest(objects: Objects, files: Mapping[str, ExportedFile]) -> None:
    """Put a manifest in the place of the last one.

    Raises:
        StoreUnavailable: the folder or bucket did not take it.
    """
    told = {"export_version": MANIFEST_VERSION, "files": {name: asdict(files[name]) for name in sorted(files)}}
    objects.replace(MANIFEST, json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode())
