"""Where a catalog lies, and which files its rows may name: one rule for every kind of address.

A catalog decides what its rows name, and is not trusted: a name stays below the catalog's own folder.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, Literal

import fsspec
from fsspec.implementations.local import LocalFileSystem

from orchestrion.errors import InvalidRequest, NotFound, shown

#: What a name below a folder can be. "files": also a link, so each is followed and must end inside. "keys": nothing but
#: itself. "none": whatever a server makes of it, so that rows may name no file there.
Names = Literal["files", "keys", "none"]
#: Every kind of address that a catalog may have; a path has no scheme.
SCHEMES: Final[Mapping[str, Names]] = {
    "": "files",
    "file": "files",
    "s3": "keys",
    "gs": "keys",
    "gcs": "keys",
    "az": "keys",
    "abfs": "keys",
    "abfss": "keys",
    "http": "none",
    "https": "none",
}
MAX_NAME_CHARACTERS: Final = 1000


def names_at(url: str) -> Names:
    """What names below this catalog's folder can be.

    Raises:
        InvalidRequest: a catalog cannot have such an address.
    """
    scheme = url.partition("://")[0] if "://" in url else ""
    # A chain ("simplecache::file://…") hides what it ends in, and "data:" is a file of its own making.
    if "::" in url or url.startswith("data:") or scheme not in SCHEMES:
        schemes = ", ".join(f"{name}://" for name in SCHEMES if name)
        raise InvalidRequest.of("catalog", url, f"is no address of a catalog; give a path or one of {schemes}")
    return SCHEMES[scheme]


def open_catalog(url: str, storage_options: Mapping[str, Any]) -> IO[bytes]:
    """The catalog's bytes.

    Raises:
        InvalidRequest: a catalog cannot have such an address.
        NotFound: there is no such file.
    """
    names_at(url)
    try:
        return fsspec.open(url, "rb", **storage_options).open()  # type: ignore[no-any-return]
    except (OSError, ValueError, ImportError) as error:
        raise NotFound(f"cannot open the catalog {shown(url)}: {error}") from None


def open_beside(column: str, name: str, catalog_url: str, storage_options: Mapping[str, Any]) -> IO[bytes]:
    """The file that a row of the catalog names in this column.

    Raises:
        InvalidRequest: the name leaves the catalog's folder, or is no regular file there.
        OSError: it cannot be opened.
    """
    names = names_at(catalog_url)
    relative = _plain_relative(column, name)
    if names == "none":
        raise InvalidRequest.of(column, name, "must be 'sha256:…': a catalog on a web server has no files beside it")
    fs, catalog = fsspec.url_to_fs(catalog_url, **storage_options)
    folder = str(PurePosixPath(catalog).parent)
    full = str(PurePosixPath(folder) / relative)
    if isinstance(fs, LocalFileSystem) != (names == "files"):
        raise InvalidRequest.of("catalog", catalog_url, f"is opened as {type(fs).__name__}, not as its address says")
    if names == "files":
        return _inside(column, full, folder).open("rb")
    return fs.open(full, "rb")  # type: ignore[no-any-return]


def _plain_relative(column: str, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    strange = any(unicodedata.category(c) in ("Cc", "Cs") or c in "\\:?#%*" for c in name)
    # Hidden files are where people keep their keys, and what a row names is copied into the store.
    hidden = any(part.startswith(".") for part in path.parts)
    if strange or hidden or path.is_absolute() or len(name) > MAX_NAME_CHARACTERS:
        raise InvalidRequest.of(
            column, name, "must be 'sha256:…' or a plain path below the catalog's folder, with no hidden name in it"
        )
    return path


def _inside(column: str, path: str, folder: str) -> Path:
    """What the path is in the end: links are followed here, and none leads out of the folder.

    Pipes and devices, which may never end, are refused.
    """
    real, real_folder = os.path.realpath(path), os.path.realpath(folder)
    if os.path.commonpath([real, real_folder]) != real_folder:
        raise InvalidRequest.of(column, path, "is a link out of the catalog's folder")
    if not stat.S_ISREG(Path(real).stat().st_mode):
        raise InvalidRequest.of(column, path, "is not a regular file")
    return Path(real)
