"""Codes of pieces that another process goes on with, each under a seal that only holders of the signing key can make.

Without the seal, anything that can write the job's folder could have a worker sign music that its model never made. The
seal is made and checked here, for whatever model the bytes are of; its key is derived from the signing key and lies
nowhere.
"""

from __future__ import annotations

from typing import Final

from batch_jobs.job_store.seal import Seal
from batch_jobs.shared_folder import SharedFolder
from orchestrion.storage.object_store import Objects
from orchestrion.trust.signing import Signer

_HEAD: Final = b"partial 1\n"
#: Ten minutes of eight codebooks are half a megabyte.
MAX_BYTES: Final = 8 * 1024 * 1024


class PartialPieces:
    """The partial pieces of one job: jobs/<job>/partials/<track id>."""

    def __init__(self, objects: Objects, job_id: str, signer: Signer) -> None:
        self._folder = SharedFolder(objects)
        self._root = f"jobs/{job_id}/partials"
        self._seal = Seal(_HEAD, signer.derived_key(f"orchestrion partial pieces of job {job_id}"))

    def keep_partial(self, track_id: str, checkpoint: bytes) -> None:
        """Keep what there is of a piece for the process that makes the rest."""
        self._folder.objects.replace(f"{self._root}/{track_id}", self._seal.sealed(track_id, checkpoint))

    def partial(self, track_id: str) -> bytes | None:
        """What there is of a piece; None, and a warning, if it does not carry our seal for this piece."""
        return self._folder.read_if_there(
            f"{self._root}/{track_id}", lambda sealed: self._opened(track_id, sealed), MAX_BYTES
        )

    def drop_partial(self, track_id: str) -> None:
        """The piece is made."""
        self._folder.objects.delete(f"{self._root}/{track_id}")

    def _opened(self, track_id: str, sealed: bytes) -> bytes:
        try:
            return self._seal.opened(track_id, sealed)
        except ValueError as error:
            raise ValueError(f"{error}: its codes may be anybody's, and the piece is begun anew") from None
