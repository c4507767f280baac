"""Where the tracks of a ledger's jobs are, and whose records of them count."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from batch_jobs.ledger.snapshot import Snapshot
from orchestrion.errors import InvalidRequest
from orchestrion.trust.signature import load_trusted_keys, public_key_path
from orchestrion.trust.signing import Signer
from orchestrion.trust.signing_keys import trusted_keys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def stores_of(job_ids: Iterable[str], snapshot: Snapshot, ledger_url: str, named: str | None = None) -> dict[str, str]:
    """Where the tracks of each job are: where a person says, or as the ledger says it, or in a moved ledger's own.

    Args:
        job_ids: of the jobs.
        snapshot: the state of the ledger.
        ledger_url: where it is.
        named: the store that a person named, of all jobs.

    Raises:
        InvalidRequest: the ledger does not say it of a job, or there is no store.
    """
    if named is not None:
        return dict.fromkeys(job_ids, _there(named))
    moved = () if "://" in ledger_url else (f"{ledger_url}/store",)
    found = {}
    for job_id in job_ids:
        if job_id not in snapshot.jobs:
            raise InvalidRequest.of("store", job_id, f"{ledger_url} does not say where this job's tracks are; name it")
        found[job_id] = _there(snapshot.jobs[job_id].store, *moved)
    return found


def verifying_keys(signing_key: Path, trusted: str | None) -> dict[str, Ed25519PublicKey]:
    """Whose records count. Who only reads needs no private key.

    Raises:
        InvalidRequest: there is no key, or one that cannot be used.
    """
    if signing_key.exists():
        return trusted_keys(Signer.load(signing_key), trusted)
    own = public_key_path(signing_key)
    if trusted is None and not own.exists():
        raise InvalidRequest.of(
            "trusted_keys", str(signing_key), "is not there; name the keys whose records count with --trusted-keys"
        )
    mine = load_trusted_keys(own) if own.exists() else {}
    return mine | (load_trusted_keys(trusted) if trusted is not None else {})


def _there(*places: str) -> str:
    """The first place where there is a store: one that is opened where there is none would be made."""
    for place in places:
        if "://" in place or Path(place).is_dir():
            return place if "://" in place else os.path.normpath(Path(place).absolute())
    raise InvalidRequest.of("store", places[0], "is not there; name the folder or URL of the audio with --store")
