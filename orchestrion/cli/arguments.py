"""What several commands take, and how what they are given is read. Loads nothing that only one of them needs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestrion.errors import InvalidRequest
from orchestrion.trust.signing_keys import default_signing_key

if TYPE_CHECKING:
    from orchestrion.rendering.config import RenderConfig

DEFAULT_STORE: Final = "out/store"
#: Of the storage options.
_SECRETS: Final = ("secret", "token")


def own_signing_key() -> str:
    """Where the key of this person is, where no other is named."""
    return str(default_signing_key(os.environ))


def add_store(parser: argparse._ActionsContainer) -> None:
    """`--store`."""
    parser.add_argument("--store", default=DEFAULT_STORE, help="Folder or s3:// URL (default: %(default)s).")


def add_storage_options(parser: argparse._ActionsContainer) -> None:
    """`--storage-options`."""
    parser.add_argument(
        "--storage-options",
        type=_storage_options,
        default={},
        metavar="JSON",
        help="Where a bucket is and who asks, in the words of s3fs; a secret is named and not given: "
        '{"endpoint_url": "…", "key": "…", "secret": {"env": "STORE_SECRET"}} or {"file": "…"}.',
    )


def _storage_options(text: str) -> dict[str, Any]:
    """The options, with each secret from where the command line says that it is."""
    try:
        options = json.loads(text)
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise argparse.ArgumentTypeError("is not a JSON object")
    return {name: _looked_up(name, value) for name, value in options.items()}


def _looked_up(name: str, value: object) -> object:
    if name not in _SECRETS:
        return value
    # Not in messages either: what was given may be the secret.
    match value:
        case {"env": str(variable), **rest} if not rest:
            if variable not in os.environ:
                raise argparse.ArgumentTypeError(f"{name}: the variable {variable} is not set")
            return os.environ[variable]
        case {"file": str(path), **rest} if not rest:
            try:
                return Path(path).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise argparse.ArgumentTypeError(f"{name}: {path} cannot be read: {error}") from None
    raise argparse.ArgumentTypeError(
        f'{name} must not stand on a command line, which others can list; name it, {{"env": "VARIABLE"}} or '
        '{"file": "PATH"}, or use a profile'
    )


def add_keys(parser: argparse.ArgumentParser) -> None:
    """`--signing-key` and `--trusted-keys`."""
    parser.add_argument(
        "--signing-key", default=own_signing_key(), help="Private key (PEM) to sign with (default: %(default)s)."
    )
    parser.add_argument(
        "--trusted-keys", type=Path, metavar="PATH", help="More public keys (PEM file or folder) whose records count."
    )


def render_config(arguments: argparse.Namespace, model: str = "composer") -> RenderConfig:
    """What `--store` and the keys mean to a render process.

    Raises:
        InvalidRequest: they do not go together, e.g. a key that is in the store.
    """
    from pydantic import ValidationError

    from orchestrion.rendering.config import RenderConfig

    trusted: Path | None = arguments.trusted_keys
    try:
        return RenderConfig(
            store_url=absolute(arguments.store),
            storage_options=arguments.storage_options,
            signing_key_path=absolute(arguments.signing_key),
            trusted_keys_path=str(trusted.absolute()) if trusted else None,
            models=(model,),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest.of(
            str((*first["loc"], "signing_key_path")[0]), arguments.signing_key, first["msg"]
        ) from None


def absolute(store: str) -> str:
    """A folder as it is seen from everywhere; a URL as it is."""
    return store if "://" in store else str(Path(store).absolute())


def read(path: Path, field: str) -> bytes:
    """The bytes of a file that was named as `field`.

    Raises:
        InvalidRequest: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest.of(field, str(path), f"cannot be read: {error.strerror}") from None


def tell(text: str) -> None:
    """Say something that is not the answer."""
    print(text, file=sys.stderr)
