"""Import audiocraft beside a modern torch, without the packages that only its training half calls.

audiocraft 1.3.0 pins torch 2.1 and asks for some thirty packages, so it is installed without any. Of those that are
absent, making music calls three: torchaudio for a spectrogram, xformers to take a tensor apart, and demucs for the
stems that a melody is heard from. The stand-ins are removed when the import ends, all but that of xformers, which
audiocraft imports again at every step: no other code in the process may take them for the real packages.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

_Fill = Callable[[ModuleType], None]

_IMPORTING: Final = threading.Lock()


def import_audiocraft() -> ModuleType:
    """The package `audiocraft`; the first call imports it, which takes seconds.

    Raises:
        ImportError: it is not installed.
    """
    with _IMPORTING:
        if "audiocraft" in sys.modules:
            return sys.modules["audiocraft"]
        # These look for torchaudio and others on their own account, and shall find what is really there.
        importlib.import_module("librosa.filters")
        for name in ("EncodecModel", "RobertaTokenizer", "T5EncoderModel", "T5Tokenizer"):
            getattr(importlib.import_module("transformers"), name)
        if importlib.util.find_spec("xformers") is None:
            sys.modules.update(_xformers())
        with _lent(_NEVER_CALLED | {"torchaudio": _fill_torchaudio}):
            return importlib.import_module("audiocraft")


def demucs_is_installed() -> bool:
    """Whether melodies are heard from the vocals and other stems of a mix, or else from the whole of it."""
    return importlib.util.find_spec("demucs") is not None


@contextmanager
def separator() -> Iterator[None]:
    """While this lasts, a melody model can be built without demucs; it must then be kept from separating anything."""
    with _lent({} if demucs_is_installed() else {"demucs": _fill_demucs}):
        yield


@contextmanager
def _lent(stand_ins: Mapping[str, _Fill]) -> Iterator[None]:
    """While this lasts, importing one of these packages, or a module in it, gives a stand-in with what is filled in."""
    lender = _Lender(stand_ins)
    sys.meta_path.insert(0, lender)
    try:
        yield
    finally:
        sys.meta_path.remove(lender)
        lent = [name for name, module in sys.modules.items() if getattr(module, "__loader__", None) is lender]
        for name in lent:
            del sys.modules[name]
        for package, _, module in (name.rpartition(".") for name in lent):
            if package in sys.modules:
                delattr(sys.modules[package], module)


class _Lender(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and makes the stand-ins, for the thread that asked for them only."""

    def __init__(self, stand_ins: Mapping[str, _Fill]) -> None:
        self._stand_ins = stand_ins
        self._thread = threading.get_ident()
        self._found: dict[str, _Fill] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        fills = [fill for package, fill in self._stand_ins.items() if f"{fullname}.".startswith(f"{package}.")]
        if not fills or threading.get_ident() != self._thread:
            return None
        self._found[fullname] = fills[0]
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def exec_module(self, module: ModuleType) -> None:
        self._found[module.__name__](module)


def _fill_never_called(module: ModuleType) -> None:
    """Every name is there, and refuses to be called."""

    def find(name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*args: object, **kwargs: object) -> None:
            raise ImportError(
                f"audiocraft called {module.__name__}.{name}, which needs packages that are not installed"
            )

        return refuse

    vars(module)["__getattr__"] = find


#: Imported on the way to making music; called only to train, to read files or to lemmatise captions.
_NEVER_CALLED: Final[dict[str, _Fill]] = dict.fromkeys(
    ("audiocraft.solvers", "av", "dora", "flashy", "num2words", "spacy"), _fill_never_called
)


def _fill_torchaudio(module: ModuleType) -> None:
    vars(module)["transforms"] = SimpleNamespace(Spectrogram=Spectrogram)


class Spectrogram(nn.Module):
    """torchaudio's power spectrogram, equal to it bit by bit, in the one form that audiocraft's chroma asks for."""

    window: Tensor

    def __init__(
        self,
        n_fft: int,
        win_length: int,
        hop_length: int,
        power: Literal[2],
        center: Literal[True],
        pad: Literal[0],
        normalized: Literal[True],
    ) -> None:
        super().__init__()
        self._n_fft, self._hop = n_fft, hop_length
        # Persistent: audiocraft's checkpoints of melody models hold it.
        self.register_buffer("window", torch.hann_window(win_length))

    def forward(self, wav: Tensor) -> Tensor:
        """[…, samples] → […, n_fft / 2 + 1, frames]."""
        window = self.window
        spectrum = torch.stft(
            wav.reshape(-1, wav.shape[-1]), self._n_fft, self._hop, len(window), window, return_complex=True
        )
        spectrum = spectrum / window.pow(2.0).sum().sqrt()
        return spectrum.abs().pow(2).reshape(*wav.shape[:-1], *spectrum.shape[-2:])


class _AnyMask:
    """xformers' causal mask: audiocraft only makes it and looks whether there is one."""


def _xformers() -> dict[str, ModuleType]:
    """What audiocraft's attention calls of xformers, said with torch, as modules by their names."""

    def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | _AnyMask | None, p: float) -> Tensor:
        # [batch, time, heads, width], as xformers has it; torch has the heads before the time.
        query, key, value = (states.transpose(1, 2) for states in (query, key, value))
        bias, causal = (mask, False) if isinstance(mask, Tensor) else (None, mask is not None)
        heard = nn.functional.scaled_dot_product_attention(query, key, value, bias, p, causal)
        return heard.transpose(1, 2)

    ops = {"unbind": torch.unbind, "LowerTriangularMask": _AnyMask, "memory_efficient_attention": attention}
    profiler = SimpleNamespace(_Profiler=SimpleNamespace(_CURRENT_PROFILER=None))
    contents: dict[str, dict[str, Any]] = {
        "xformers.ops": ops,
        "xformers.profiler": {"profiler": profiler},
        "xformers": {"ops": SimpleNamespace(**ops)},
    }
    modules = {}
    for name, names in contents.items():
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        modules[name] = importlib.util.module_from_spec(spec)
        vars(modules[name]).update(names)
    return modules


class _NoSeparator:
    """What a melody model wants to know of a separator when it is built."""

    sources = ("vocals", "other")

    def to(self, device: object) -> _NoSeparator:
        return self


def _fill_demucs(module: ModuleType) -> None:
    vars(module)["get_model"] = lambda name: _NoSeparator()
