"""Where a catalog lies, of which files it is, and which files its rows may name: one rule for every kind of address.

A catalog decides what its rows name, and is not trusted: a name stays below the catalog's own folder.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, Literal
from urllib.parse import unquote

import fsspec
from fsspec.implementations.local import LocalFileSystem

from batch_jobs.catalog.files import READERS
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
#: Characters that make a pattern of a path.
PATTERN: Final = "*?["
#: What Hive writes where a partition's value is null.
_NULL_PARTITION: Final = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """One file of a catalog."""

    #: Below the catalog's folder; "" where the catalog is this one file.
    name: str
    #: What `open_catalog` opens.
    url: str
    #: Cells that its folders' names hold, e.g. style=jazz.
    partition: Mapping[str, str | None] = field(default_factory=dict)


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


def catalog_files(url: str, storage_options: Mapping[str, Any]) -> tuple[CatalogFile, ...]:
    """The files of a catalog, in order of their names: itself, or those of a folder or pattern that end in .parquet.

    Files and folders whose names begin with a dot or an underscore are notes of whoever wrote the others.

    Raises:
        InvalidRequest: a catalog cannot have such an address, or a file of the folder is a link out of it.
        NotFound: the folder or pattern cannot be listed, or has no such file.
    """
    if names_at(url) == "none" or not _may_be_many(url):
        return (CatalogFile("", url),)
    try:
        fs, path = fsspec.url_to_fs(url, **storage_options)
        folder = _folder_of(fs, path)
        if folder is None:
            if url.endswith("/"):
                raise NotFound(f"there is no folder {shown(url)} with a catalog in it")
            return (CatalogFile("", url),)
        paths = fs.find(folder) if folder == path.rstrip("/") else fs.glob(path)
        named = {str(PurePosixPath(found).relative_to(folder)): found for found in paths}
    except (OSError, ValueError, ImportError) as error:
        raise NotFound(f"cannot list the catalog {shown(url)}: {error}") from None
    names = sorted(name for name in named if _is_part(PurePosixPath(name)))
    if not names:
        raise NotFound(f"the catalog {shown(url)} has no file that ends in .parquet")
    if isinstance(fs, LocalFileSystem):
        for name in names:
            _inside("catalog", named[name], folder)
    return tuple(CatalogFile(name, fs.unstrip_protocol(named[name]), _partition(name)) for name in names)


def folder_above(path: str) -> str:
    """The smallest folder that surely holds whatever a catalog at this local path may name, found without looking."""
    parts = path.split("/")
    pattern = next((at for at, part in enumerate(parts) if any(character in part for character in PATTERN)), None)
    if pattern is not None:
        return "/".join(parts[:pattern]) or "/"
    plain = PurePosixPath(path)
    # A folder may be called songs.parquet, as Spark and pandas do.
    return str(plain.parent if plain.suffix.lower() in READERS and not path.endswith("/") else plain)


def _may_be_many(url: str) -> bool:
    suffix = PurePosixPath(url).suffix.lower()
    return suffix not in READERS or suffix == ".parquet" or any(character in url for character in PATTERN)


def _folder_of(fs: Any, path: str) -> str | None:  # noqa: ANN401  (fsspec has no types)
    """The folder of a catalog of many files; None where it is one file, or nothing."""
    if any(character in path for character in PATTERN) and not fs.isfile(path):
        parts = path.split("/")
        first = next(at for at, part in enumerate(parts) if any(character in part for character in PATTERN))
        return "/".join(parts[:first])
    # The file first: who may read it may not always list what is beside it.
    return path.rstrip("/") if not fs.isfile(path) and fs.isdir(path) else None


def _is_part(name: PurePosixPath) -> bool:
    return name.suffix.lower() == ".parquet" and not any(part.startswith((".", "_")) for part in name.parts)


def _partition(name: str) -> dict[str, str | None]:
    """The cells that the folders of a file say, in the way of Hive."""
    cells: dict[str, str | None] = {}
    for part in PurePosixPath(name).parts[:-1]:
        key, is_cell, value = part.partition("=")
        if is_cell and unquote(key) in cells:
            raise InvalidRequest.of("catalog", name, f"says {shown(unquote(key))} twice in its folders")
        if is_cell:
            cells[unquote(key)] = None if value == _NULL_PARTITION else unquote(value)
    return cells


def open_beside(column: str, name: str, catalog_url: str, storage_options: Mapping[str, Any]) -> IO[bytes]:
    """The file that a row of the catalog names in this column, below the folder that the catalog is or lies in.

    Raises:
        InvalidRequest: the name leaves the catalog's folder, or is no regular file there.
        OSError: it cannot be opened.
    """
    names = names_at(catalog_url)
    relative = _plain_relative(column, name)
    if names == "none":
        raise InvalidRequest.of(column, name, "must be 'sha256:…': a catalog on a web server has no files beside it")
    fs, catalog = fsspec.url_to_fs(catalog_url, **storage_options)
    if isinstance(fs, LocalFileSystem) != (names == "files"):
        raise InvalidRequest.of("catalog", catalog_url, f"is opened as {type(fs).__name__}, not as its address says")
    folder = (_folder_of(fs, catalog) if _may_be_many(catalog_url) else None) or str(PurePosixPath(catalog).parent)
    full = str(PurePosixPath(folder) / relative)
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
