"""Which manifest is the newest: numbered, replaced by none, and read past what is broken."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import fsspec

from batch_jobs.ledger.snapshot import Snapshot
from batch_jobs.shared_folder import MANIFEST, SharedFolder
from orchestrion.errors import NotFound, StoreUnavailable, VerificationFailed
from orchestrion.storage.object_store import Objects

logger = logging.getLogger(__name__)

MANIFESTS_KEPT: Final = 20
#: Each lost attempt means that another writer committed: so many in a row, and the ledger cannot be worked with.
COMMIT_TRIES: Final = 50
MAX_MANIFEST_BYTES: Final = 256 * 1024 * 1024
_MANIFEST: Final = re.compile(rf"(?:^|/)manifests/({MANIFEST.pattern})\.json$", re.ASCII)


def read_snapshot(url: str, storage_options: Mapping[str, Any]) -> Snapshot:
    """The newest state of a ledger, without writing anything there.

    Raises:
        NotFound: there is no ledger at `url`.
        StoreUnavailable: the bucket does not answer.
    """
    if url.startswith("s3://"):
        objects = Objects(url, storage_options)
        manifests = Manifests(
            lambda: objects.keys("manifests"),
            lambda key: objects.read(key, MAX_MANIFEST_BYTES),
            SharedFolder(objects).skip,
        )
    else:
        # Not by `Objects`, which make a folder where there is none.
        fs, root = fsspec.url_to_fs(url)
        manifests = Manifests(
            lambda: fs.find(f"{root}/manifests"),
            lambda key: fs.cat_file(f"{root}/{key}", end=MAX_MANIFEST_BYTES),
            lambda key, why: logger.warning("%s in %s is skipped: %s", key, url, why),
        )
    snapshot, _ = manifests.newest()
    if snapshot.number == 0:
        raise NotFound(f"there is no ledger in {url}: it has no manifests/; give the --out of render_catalog")
    return snapshot


def manifest_key(number: int) -> str:
    """The name of a manifest."""
    return f"manifests/{number:08}.json"


@dataclass(frozen=True, slots=True)
class Manifests:
    """The manifests of a ledger, as any writer may have left them."""

    keys: Callable[[], Iterable[str]]
    #: At most `MAX_MANIFEST_BYTES`.
    read: Callable[[str], bytes]
    #: Says that a manifest does not count, and why.
    skip: Callable[[str, str], None]

    def newest(self) -> tuple[Snapshot, set[int]]:
        """The newest state, and every number that is taken.

        Raises:
            InvalidRequest: it is of a release with another layout.
        """
        for _ in range(COMMIT_TRIES):
            keys = list(self.keys())
            taken = numbers(keys)
            for key in keys:
                if not _MANIFEST.search(key):
                    self.skip(key, "its name is none that this program gives")
            try:
                found = self._newest_of(taken)
            except (NotFound, FileNotFoundError):
                # So many commits since it was listed that it is deleted: the next listing has a newer one.
                continue
            return found, taken
        raise StoreUnavailable("manifests are listed and cannot be read")

    def _newest_of(self, taken: set[int]) -> Snapshot:
        stretches = _stretches(taken)
        for stretch in stretches:
            for number in reversed(stretch):
                if (found := self._manifest(number)) is not None:
                    for apart in (other for other in stretches if other[0] > stretch[-1]):
                        self.skip(manifest_key(apart[-1]), "its number is far from those of the others")
                    return found
        return Snapshot.empty()

    def _manifest(self, number: int) -> Snapshot | None:
        key = manifest_key(number)
        try:
            data = self.read(key)
            return Snapshot.from_bytes(data, number)
        except (ValueError, VerificationFailed) as error:
            self.skip(key, str(error))
            return None


def numbers(keys: Iterable[str]) -> set[int]:
    """The numbers of those that are manifests."""
    return {int(name[1]) for key in keys if (name := _MANIFEST.search(key))}


def _stretches(numbers: Iterable[int]) -> list[list[int]]:
    """The numbers, cut where more are missing than are ever kept: the longest stretch first, of equals the lowest.

    Commits go on from the newest, so theirs are one stretch; what lies far from it was not committed by this program.
    """
    found: list[list[int]] = []
    for number in sorted(numbers):
        if not found or number - found[-1][-1] > MANIFESTS_KEPT:
            found.append([])
        found[-1].append(number)
    return sorted(found, key=len, reverse=True)
