"""Parts of a job's plan that were made once, so that the next run of the job need not validate its rows again.

Whoever may write the folder must not have us render something else than the catalog says: each part is under a seal
that only holders of the signing key can make, for this job, this catalog, this release's reader and its place in the
plan. A part that is none is made anew.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from batch_jobs.job_store.seal import Seal
from batch_jobs.shared_folder import SharedFolder
from orchestrion.storage.object_store import Objects
from orchestrion.trust.signing import Signer

_HEAD: Final = b"plan part 1\n"
#: Rows of the catalog that the part is of, and whether there are none after it.
_COUNTS: Final = struct.Struct(">Q?")
#: A part is made of some 8 MiB of the catalog at most, and is compressed.
MAX_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PlanPart:
    """A part of a plan."""

    #: Rows of the catalog that it is of: those that it holds, and no others.
    reads: int
    is_last: bool
    #: As `planning.planned_rows` packs them.
    rows: bytes


class PlanParts:
    """The parts of one plan of one job: jobs/<job>/plan/<plan>/<number>."""

    def __init__(self, objects: Objects, job_id: str, plan: str, signer: Signer) -> None:
        """Take which plan it is.

        Args:
            objects: the ledger's.
            job_id: the job.
            plan: a hash, in hex, of all that decides what is in the plan: catalog, settings, reader.
            signer: whose seal counts.
        """
        self._folder = SharedFolder(objects)
        # Shorter than the hash that the seal is of: it only has to keep the parts of two releases apart.
        self._root = f"jobs/{job_id}/plan/{plan[:16]}"
        self._plan = plan
        self._seal = Seal(_HEAD, signer.derived_key(f"orchestrion plan of job {job_id}"))

    def keep(self, number: int, part: PlanPart) -> None:
        """Keep the part of this number, from 0."""
        data = _COUNTS.pack(part.reads, part.is_last) + part.rows
        self._folder.objects.replace(self._key(number), self._seal.sealed(self._name(number), data))

    def part(self, number: int) -> PlanPart | None:
        """The part of this number; None if there is none, and, with a warning, if it does not carry our seal for it."""
        return self._folder.read_if_there(self._key(number), lambda sealed: self._opened(number, sealed), MAX_BYTES)

    def _opened(self, number: int, sealed: bytes) -> PlanPart:
        try:
            data = self._seal.opened(self._name(number), sealed)
        except ValueError as error:
            raise ValueError(f"{error}: its rows may be anybody's, and are read from the catalog again") from None
        reads, is_last = _COUNTS.unpack_from(data)
        return PlanPart(reads, is_last, data[_COUNTS.size :])

    def _key(self, number: int) -> str:
        return f"{self._root}/{number:06d}"

    def _name(self, number: int) -> str:
        return f"{self._plan} {number}"
