"""Where the signing key is, and who makes it: a person, or a command that a person runs on their own machine.

Never a replica or a worker, which would each make one of its own, and never inside a folder that others may write to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrion.trust.signature import load_trusted_keys
from orchestrion.trust.signing import Signer

#: So far below a folder private keys are looked for, through so many names: somebody may name their home folder.
KEY_DEPTH: Final = 2
MAX_NAMES: Final = 10_000
#: No key is longer. Its first line says what it is.
MAX_KEY_BYTES: Final = 16 * 1024
#: Folders of stores and ledgers, in which everything has a name that its writer checks.
_OURS: Final = frozenset({"attempts", "blobs", "failures", "jobs", "manifests", "nodes", "tmp", "tracks", "uploads"})

#: The environment's name for the key's file, for every command.
KEY_VARIABLE: Final = "ORCHESTRION_SIGNING_KEY"


def default_signing_key(environment: Mapping[str, str]) -> Path:
    """The key of this person on this machine, for every command that is not given another one."""
    return Path(environment.get(KEY_VARIABLE) or "~/.orchestrion/signing-key.pem").expanduser().absolute()


def have_signing_key(path: str | Path, tell: Callable[[str], None]) -> Signer:
    """The key at `path`, made if there is none: for commands on a person's own machine, once, before anything else.

    Args:
        path: of the private key.
        tell: is told of a key that was made.

    Raises:
        InvalidRequest: it can neither be read nor made.
    """
    if not Path(path).exists():
        try:
            signer = Signer.create(path)
        except FileExistsError:
            # Another command was faster.
            pass
        else:
            tell(f"made a signing key, {signer.key_id}, in {path}; keep a copy: with it you can show what is yours")
            return signer
    return Signer.load(path)


def trusted_keys(signer: Signer, path: str | Path | None) -> dict[str, Ed25519PublicKey]:
    """Whose records and tombstones count, by key id: the signer's own key, and the public keys at `path`.

    Raises:
        InvalidRequest: there are no keys at `path`.
    """
    return {signer.key_id: signer.public_key} | (load_trusted_keys(path) if path is not None else {})


def private_keys_in(place: str) -> list[Path]:
    """Private keys that lie in a folder that is handed on, or in those below it; none are looked for in a bucket."""
    if "://" in place and not place.startswith("file://"):
        return []
    root = Path(unquote(place.removeprefix("file://")))
    return [path for path in _files_near(root) if _is_private_key(path)]


def _files_near(root: Path) -> Iterator[Path]:
    names = 0
    for folder, folders, files in os.walk(root):
        depth = len(Path(folder).relative_to(root).parts)
        folders[:] = sorted(set(folders) - _OURS) if depth < KEY_DEPTH else []
        names += len(folders) + len(files)
        if names > MAX_NAMES:
            return
        yield from (Path(folder) / name for name in files)


def _is_private_key(path: Path) -> bool:
    try:
        if not path.is_file() or path.stat().st_size > MAX_KEY_BYTES:
            return False
        first = path.read_bytes().lstrip().partition(b"\n")[0]
    except OSError:
        return False
    return first.startswith(b"-----BEGIN ") and b"PRIVATE KEY-----" in first
