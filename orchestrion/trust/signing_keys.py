"""Where the signing key is, and who makes it: a person, or a command that a person runs on their own machine.

Never a replica or a worker, which would each make one of its own, and never inside a folder that others may write to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrion.trust.signature import load_trusted_keys
from orchestrion.trust.signing import Signer

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
