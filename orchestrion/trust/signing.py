"""The private key of one process, and what it signs."""

from __future__ import annotations

import errno
import os
import uuid
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orchestrion.errors import InvalidRequest, shown
from orchestrion.tracks.record import TrackRecord, canonical_bytes
from orchestrion.trust.signature import Signature, key_id_of, public_key_path
from orchestrion.trust.signed_record import SignedRecord


class Signer:
    """Signs records with one Ed25519 key. Make one per process: the key does not travel."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self._public_raw = private_key.public_key().public_bytes_raw()

    @classmethod
    def load(cls, path: str | Path) -> Signer:
        """The key in a PEM file (PKCS #8, not encrypted). A public key that lies beside it must be its own.

        Raises:
            InvalidRequest: there is no such file, it is not such a key, or the public key beside it is another's.
        """
        path = Path(path)
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except FileNotFoundError:
            raise InvalidRequest.of(
                "signing_key_path", str(path), f"is not there; make a key with: orchestrion signing init --key {path}"
            ) from None
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InvalidRequest.of(
                "signing_key_path", str(path), f"is not a usable private key ({shown(str(error))}); give an Ed25519 "
                "key in PEM, as orchestrion signing init makes it"
            ) from error  # fmt: skip
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidRequest.of("signing_key_path", str(path), "is a key of another kind; it must be Ed25519")
        signer = cls(key)
        public = public_key_path(path)
        try:
            signer._refuse_another(public)
        except FileNotFoundError:
            # A secret that is mounted into a container has the private key alone.
            pass
        except OSError as error:
            raise InvalidRequest.of("signing_key_path", str(public), f"cannot be read: {error.strerror}") from error
        return signer

    @classmethod
    def create(cls, path: str | Path) -> Signer:
        """A new key, in a PEM file with mode 0600, and its public key beside it; nothing is ever overwritten.

        Of processes that do this at the same moment one makes the key, and the others are refused.

        Raises:
            FileExistsError: there is a file at `path`.
            InvalidRequest: the files cannot be made, or another public key lies there.
        """
        path = Path(path)
        signer = cls(Ed25519PrivateKey.generate())
        pem = signer._private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                # While there is no private key: a public one that is planted there must not become the published one.
                with suppress(FileNotFoundError):
                    signer._refuse_another(public_key_path(path))
            _create_file(path, pem, mode=0o600)
        except FileExistsError:
            raise
        except InvalidRequest:
            if path.exists():
                raise FileExistsError(errno.EEXIST, "another process has made it", str(path)) from None
            raise
        except OSError as error:
            raise InvalidRequest.of("signing_key_path", str(path), f"cannot be made: {error.strerror}") from error
        signer.publish_key(path)
        return signer

    def publish_key(self, path: str | Path) -> Path:
        """Put the public key beside the private key at `path`: "signing-key.pem" gets "signing-key.pub.pem".

        This is the file that `load_trusted_keys` takes; hand it to whoever is to verify tracks.

        Raises:
            InvalidRequest: the folder cannot be written to, or another public key lies there.
        """
        public = public_key_path(path)
        try:
            with suppress(FileExistsError):
                _create_file(public, self.public_pem, mode=0o644)
            self._refuse_another(public)
        except OSError as error:
            raise InvalidRequest.of("signing_key_path", str(public), f"cannot be written: {error.strerror}") from error
        return public

    def _refuse_another(self, public: Path) -> None:
        """Refuse a public key that is not this one's: a verifier with it would trust another signer."""
        if public.read_bytes() != self.public_pem:
            raise InvalidRequest.of(
                "signing_key_path", str(public), f"is not the public key of the private key beside it ({self.key_id}); "
                "find out who put it there, and delete it"
            )  # fmt: skip

    @property
    def public_key(self) -> Ed25519PublicKey:
        """What a verifier needs."""
        return self._private_key.public_key()

    @property
    def key_id(self) -> str:
        """First 16 hex digits of the SHA-256 of the raw public key."""
        return key_id_of(self._public_raw)

    @property
    def public_pem(self) -> bytes:
        """The public key as PEM: what a verifier is given, over a channel that it trusts."""
        return self._private_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, record: TrackRecord) -> SignedRecord:
        """`record` with this key's signature."""
        return SignedRecord(record, self.sign_bytes(canonical_bytes(record)))

    def derived_key(self, purpose: str) -> bytes:
        """32 secret bytes for one purpose, the same wherever this key is (HKDF with SHA-256, RFC 5869)."""
        return HKDF(hashes.SHA256(), length=32, salt=None, info=purpose.encode()).derive(
            self._private_key.private_bytes_raw()
        )

    def sign_bytes(self, message: bytes) -> Signature:
        """The signature of this key over `message`."""
        return Signature(self.key_id, self._public_raw, self._private_key.sign(message))


def _create_file(path: Path, content: bytes, mode: int) -> None:
    """Make a file that is not there yet. Never seen half-written.

    Raises:
        FileExistsError: it is there.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(aside, path)
    finally:
        aside.unlink(missing_ok=True)
