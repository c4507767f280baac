"""Where a checkpoint's files lie, and how they are read without trusting them.

A source is a folder here or a name on the Hugging Face hub; of the latter only what is asked for is downloaded. A
`.bin` is a pickle, which can run code when it is read: torch's restricted unpickler reads it, which knows tensors and
plain values, and whatever holds more is refused. Nothing is unpacked before `bounds.py` has looked at it, and
YAML is read without its aliases.
"""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import yaml
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import Tensor

from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.checkpoint.bounds import (
    YAML_CHARACTERS,
    OutOfBounds,
    check_archive,
    check_safetensors,
    check_text,
)

logger = logging.getLogger(__name__)

_HUB_NAME: Final = re.compile(r"(?P<name>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?")
#: Weights in float32 that a checkpoint may become, as a multiple of its files: those of 8 bits make four times as much.
_GROWTH: Final = 4


def refused(where: str | Path, message: str) -> InvalidRequest:
    """The error for a checkpoint that cannot be had or used; `message` says why and what to do."""
    # A long path is shown cut, so the file's own name comes first.
    named = f"{where.name}: {message}" if isinstance(where, Path) else message
    return InvalidRequest.of("model", str(where), named)


@dataclass(frozen=True, slots=True)
class Source:
    """A folder, or a name on the hub with the revision wanted."""

    name: str
    folder: Path | None
    revision: str | None
    #: Where the hub's files are kept; None for the place that HF_HOME says.
    cache: Path | None

    @classmethod
    def of(cls, text: str, cache: Path | None = None) -> Source:
        """A source from what a config says: a folder, or `owner/name`, or `owner/name@revision`.

        Raises:
            InvalidRequest: it is neither.
        """
        if text and Path(text).expanduser().is_dir():
            return cls(text, Path(text).expanduser(), None, cache)
        if hub := _HUB_NAME.fullmatch(text):
            return cls(hub["name"], None, hub["revision"], cache)
        raise refused(text, "there is no such folder, and it is not a hub name such as facebook/musicgen-small")

    def fetch(self, *names: str) -> tuple[dict[str, Path], str | None]:
        """Those of the named files that there are, and the commit they are of (None for a folder).

        Raises:
            InvalidRequest: the hub does not answer and the cache has nothing of this name, it may not be read, or one
                that is read whole is too large for that.
        """
        folder, commit = (self.folder, None) if self.folder else self._download(names)
        found = {name: folder / name for name in names if (folder / name).is_file()}
        for path in found.values():
            try:
                check_text(path)
            except OutOfBounds as error:
                raise refused(path, f"{error}; download it again") from error
        logger.info("of %s there are: %s", self.name, ", ".join(found) or f"none of {', '.join(names)}")
        return found, commit

    def _download(self, names: Sequence[str]) -> tuple[Path, str]:
        logger.info("asking the hub, or its cache, for %s", self.name)
        try:
            snapshot = snapshot_download(
                self.name, revision=self.revision, cache_dir=self.cache, allow_patterns=list(names)
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise refused(
                self.name if self.revision is None else f"{self.name}@{self.revision}",
                f"it is not in the hub's cache and cannot be downloaded ({reason}). Give a local folder, or download it"
                f" first (`hf download {self.name}`) and set HF_HOME to where it was put; if it needs an account, set"
                " HF_TOKEN",
            ) from error
        # The hub's client puts each commit into a folder of its name.
        return Path(snapshot), Path(snapshot).name


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file.

    Raises:
        InvalidRequest: it is not a JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise refused(path, f"it is not JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise refused(path, "it should hold a JSON object; download it again")
    return content


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, by which a few lines become any number of values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias stands in it, and such files have none")
        return super().compose_node(parent, index)


# Numbers such as 1e-4, which YAML 1.1 takes for words, and authors of configurations for numbers.
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+"), list("-+0123456789")
)


def read_yaml(where: Path, text: str) -> object:
    """What a text in YAML says, in plain values.

    Raises:
        InvalidRequest: it is too long, has aliases or is no YAML.
    """
    if len(text) > YAML_CHARACTERS:
        raise refused(where, f"it holds YAML of {len(text)} characters; at most {YAML_CHARACTERS} are read")
    try:
        return yaml.load(text, _PlainLoader)  # noqa: S506 (derived from the safe one)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise refused(where, f"it holds no YAML that can be read ({type(error).__name__}: {error})") from error


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in one of torch's files, its tensors mapped from the file.

    Raises:
        InvalidRequest: it is damaged, older than torch 1.6, would unpack to more than it is, or holds anything but
            tensors and plain values.
    """
    try:
        check_archive(path)
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except OutOfBounds as error:
        raise refused(path, f"{error}: download it again") from error
    except pickle.UnpicklingError as error:
        reason = "it holds more than tensors and plain values. Such a file can run code, so it is not opened"
        raise refused(path, f"{reason}; use a checkpoint from a source you trust, best as safetensors") from error
    except Exception as error:
        # A file that is cut short, mangled or made to do harm makes torch raise almost anything.
        reason = str(error).strip().partition("\n")[0]
        raise refused(path, f"it cannot be read ({reason}); it may be cut short: download it again") from error
    if not isinstance(content, dict):
        raise refused(path, f"it should hold a dictionary but holds a {type(content).__name__}")
    return content


def digest(files: Mapping[str, Path]) -> str:
    """SHA-256 (hex) over the content of files by their roles: the same wherever they lie.

    One core of ours takes 0.8 GB a second: three seconds for the published musicgen-small.
    """
    total = hashlib.sha256()
    for role, path in sorted(files.items()):
        with path.open("rb") as file:
            total.update(f"{role} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


class Tensors:
    """The tensors of some files by name. What is taken is there, of the shape that was asked for, float32, and finite.

    Taking keeps count, so that `check_all_taken` can say what a checkpoint has beyond the architecture we know.
    """

    def __init__(self, tensors: Mapping[str, Tensor], where: Path, file_bytes: int) -> None:
        """Tensors by name; `where` for messages, and how large the files are that they come from."""
        self._tensors = tensors
        self._where = where
        self._bytes_left = _GROWTH * file_bytes
        self._taken: set[str] = set()
        self.megabytes = 0.0

    @classmethod
    def open(cls, files: Sequence[Path], entry: str | None = None) -> Tensors:
        """Safetensors, or torch's files with the tensors at the top or under the key `entry`; all mapped.

        Raises:
            InvalidRequest: a file cannot be read safely.
        """
        tensors: dict[str, Any] = {}
        for path in files:
            if path.suffix == ".safetensors":
                tensors |= _safetensors(path)
            else:
                content = read_pickle(path)
                inside = content if entry is None else content.get(entry)
                if not isinstance(inside, Mapping):
                    raise refused(path, f"it should have tensors under {entry}; download it again")
                tensors |= inside
        kept = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
        file_bytes = sum(path.stat().st_size for path in files)
        return cls(kept, files[0] if len(files) == 1 else files[0].parent, file_bytes)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor of this name, contiguous float32 on the CPU: mapped from the file if it is so there.

        Raises:
            InvalidRequest: there is none, it has another shape, is not of floating point, or has NaN or infinity.
        """
        if name not in self._tensors:
            raise refused(self._where, f"the tensor {name} {list(shape)} is missing; download the checkpoint again")
        tensor = self._tensors[name]
        if tuple(tensor.shape) != shape:
            raise refused(
                self._where,
                f"the tensor {name} is {list(tensor.shape)} but by the configuration it should be {list(shape)}: "
                "weights and configuration are not of one model",
            )
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise refused(self._where, f"the tensor {name} is not a plain one; only such are supported")
        if not tensor.is_floating_point():
            raise refused(self._where, f"the tensor {name} is {tensor.dtype}; only floating point is supported")
        self._bytes_left -= 4 * tensor.numel()
        if self._bytes_left < 0:
            # A tensor may be one number repeated, or many tensors be the same bytes.
            raise refused(self._where, "its tensors are larger than the file that holds them; use another checkpoint")
        taken = tensor.to(torch.float32).contiguous()
        low, high = taken.aminmax()
        if not (low.isfinite() and high.isfinite()):
            raise refused(self._where, f"the tensor {name} has values that are no numbers; use another checkpoint")
        self._taken.add(name)
        self.megabytes += taken.nbytes / 1e6
        return taken

    def check_all_taken(self, prefixes: Iterable[str], ignored: re.Pattern[str]) -> None:
        """Make sure that nothing under the prefixes was left but what may be `ignored`.

        Raises:
            InvalidRequest: the model has parts that we would silently leave out.
        """
        starts = tuple(prefixes)
        left = sorted(
            name
            for name in self._tensors
            if name.startswith(starts) and name not in self._taken and not ignored.search(name)
        )
        if left:
            raise refused(
                self._where,
                f"the model has parts that are not supported: {', '.join(left[:3])}"
                + (f" and {len(left) - 3} more" if len(left) > 3 else "")
                + "; the backend audiocraft: may run it",
            )


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        check_safetensors(path)
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except Exception as error:
        # As of `read_pickle`: what a mangled file makes the library raise is not documented.
        raise refused(path, f"it cannot be read ({error}); it may be cut short: download it again") from error
