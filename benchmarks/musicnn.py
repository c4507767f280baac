"""MusiCNN, a public music tagger, run on torch: its package brings the weights, and needs a TensorFlow that is gone.

    pip install --no-deps --target FOLDER musicnn==0.1.0    # 29 MB, ISC licence; then PYTHONPATH=FOLDER

Two sets of weights tag differently: "MSD" learned 50 tags of listeners from the Million Song Dataset (genres, decades),
"MTT" 50 of MagnaTagATune (instruments, moods). The architecture is Pons and Serra, "musicnn: pre-trained convolutional
neural networks for music audio tagging" (2019); the checkpoint format is TensorFlow's tensor bundle, whose index is a
table as LevelDB writes it.
"""

from __future__ import annotations

import importlib
import importlib.util
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import librosa
import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import conv2d, pad

SAMPLE_RATE_HZ: Final = 16_000
TRAINED_ON: Final = ("MSD", "MTT")
_FFT, _HOP, _BANDS, _FRAMES = 512, 256, 96, 187
#: Batch normalisation's, as TensorFlow has it.
_EPSILON: Final = 1e-3
_TABLE_MAGIC: Final = 0xDB4775248B80FB57
#: Magic of a table, two handles and their padding.
_FOOTER_BYTES: Final = 48


def is_installed() -> bool:
    """Whether the package with the weights can be found."""
    return importlib.util.find_spec("musicnn") is not None


class Tagger:
    """Listens to a clip and says how likely each of 50 tags is."""

    def __init__(self, trained_on: str) -> None:
        spec = importlib.util.find_spec("musicnn")
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit(f"musicnn is not installed: {(__doc__ or '').splitlines()[2].strip()}")
        self.tags: tuple[str, ...] = tuple(
            getattr(importlib.import_module("musicnn.configuration"), f"{trained_on}_LABELS")
        )
        self._weights = read_checkpoint(Path(spec.submodule_search_locations[0]) / f"{trained_on}_musicnn")

    def hear(self, mono: npt.NDArray[np.float32]) -> dict[str, float]:
        """The mean likelihood of each tag over pieces of three seconds; `mono` at `SAMPLE_RATE_HZ`."""
        power = librosa.feature.melspectrogram(y=mono, sr=SAMPLE_RATE_HZ, n_fft=_FFT, hop_length=_HOP, n_mels=_BANDS)
        frames = torch.from_numpy(np.log10(10_000 * power + 1).T.astype(np.float32))
        count = len(frames) // _FRAMES
        if count == 0:
            raise ValueError(f"a clip of {len(mono)} samples is shorter than three seconds")
        pieces = frames[: count * _FRAMES].reshape(count, 1, _FRAMES, _BANDS)
        with torch.inference_mode():
            likely = torch.sigmoid(self._logits(pieces)).mean(0).tolist()
        return dict(zip(self.tags, likely, strict=True))

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        """[pieces, 1, time, bands] → [pieces, tags]."""
        x = self._normalised(x, 0)
        # Timbre: filters over 0.4 and 0.7 of the spectrum; tempo: filters over time alone.
        blocks = [self._front(pad(x, (0, 0, 3, 3)), number) for number in (0, 1)]
        for number, length in ((2, 128), (3, 64), (4, 32)):
            before = (length - 1) // 2
            blocks.append(self._front(pad(x, (0, 0, before, length - 1 - before)), number))
        front = torch.cat(blocks, 1)  # [pieces, channels, time]
        layers = [front]
        for number in (5, 6, 7):
            filtered = self._front(pad(layers[-1].transpose(1, 2)[:, None], (0, 0, 3, 3)), number)
            layers.append(filtered + layers[-1] if number > 5 else filtered)
        features = torch.cat(layers, 1)
        pooled = torch.stack([features.amax(2), features.mean(2)], 2).flatten(1)
        dense = torch.relu(self._dense(self._normalised(pooled, 9), "dense"))
        return self._dense(self._normalised(dense, 10), "dense_1")

    def _front(self, x: torch.Tensor, number: int) -> torch.Tensor:
        """Convolution, rectifier, normalisation, the loudest of the spectrum: [pieces, filters, time]."""
        name = f"conv2d_{number}" if number else "conv2d"
        kernel = self._weights[f"{name}/kernel"].permute(3, 2, 0, 1)
        filtered = torch.relu(conv2d(x, kernel, self._weights[f"{name}/bias"]))
        return self._normalised(filtered, number + 1).amax(3)

    def _normalised(self, x: torch.Tensor, number: int) -> torch.Tensor:
        name = f"batch_normalization_{number}" if number else "batch_normalization"
        gamma, beta, mean, variance = (
            self._weights[f"{name}/{part}"].reshape(1, -1, *[1] * (x.dim() - 2))
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (x - mean) * (gamma / torch.sqrt(variance + _EPSILON)) + beta

    def _dense(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ self._weights[f"{name}/kernel"] + self._weights[f"{name}/bias"]


@cache
def read_checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    """All float tensors of a TensorFlow checkpoint by name, without its optimiser's."""
    index = (folder / ".index").read_bytes()
    data = (folder / ".data-00000-of-00001").read_bytes()
    tensors = {}
    for name, entry in _table(index):
        fields = dict(_fields(entry))
        if not name or b"Adam" in name or fields.get(1) != 1:  # 1: float32
            continue
        shape = [_size(dim) for number, dim in _fields(_bytes(fields.get(2, b""))) if number == 2]
        offset, size = int(fields.get(4, 0)), int(fields[5])
        values = np.frombuffer(data, "<f4", size // 4, offset)
        tensors[name.decode()] = torch.from_numpy(values.reshape(shape).copy())
    return tensors


def _size(dimension: int | bytes) -> int:
    return int(dict(_fields(_bytes(dimension))).get(1, 0))


def _bytes(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value


def _table(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of an uncompressed LevelDB table."""
    if struct.unpack("<Q", file[-8:])[0] != _TABLE_MAGIC:
        raise ValueError("this is no index of a TensorFlow checkpoint")
    footer = file[-_FOOTER_BYTES:]
    _, at = _varint(footer, 0)
    _, at = _varint(footer, at)
    start, at = _varint(footer, at)
    size, _ = _varint(footer, at)
    for _, handle in _block(file[start : start + size]):
        first, at = _varint(handle, 0)
        length, _ = _varint(handle, at)
        yield from _block(file[first : first + length])


def _block(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The entries of one block: each key shares its beginning with the one before."""
    restarts = struct.unpack("<I", block[-4:])[0]
    at, end, key = 0, len(block) - 4 - 4 * restarts, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        size, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + size]
        at += own + size


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol buffer: (number, value)."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
                yield tag >> 3, value
            case 2:
                size, at = _varint(message, at)
                yield tag >> 3, message[at : at + size]
                at += size
            case 5:
                at += 4
            case other:
                raise ValueError(f"wire type {other} is in no entry of a checkpoint's index")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
