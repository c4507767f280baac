"""Meta's audiocraft as a `MusicModel`: its MusicGen and AudioGen as they are, for what our own engine does not do.

It makes one piece at a time, so that no request depends on its neighbours, and draws from a generator of that request
alone. audiocraft gives no audio until a piece is done. Until then the chunks are empty, so that the caller can do
something else in between, or stop; then the whole piece comes, cut into chunks.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from orchestrion.audio.midi import is_midi
from orchestrion.audio.pcm import Pcm
from orchestrion.audio.uploads import folded, folds, read_audio, read_continuation
from orchestrion.clock import SystemClock
from orchestrion.errors import InvalidRequest, ModelFailed, OrchestrionError
from orchestrion.models.audiocraft.imports import demucs_is_installed
from orchestrion.models.audiocraft.loading import Checkpoint, find_checkpoint, is_audiogen, load_generator
from orchestrion.models.audiocraft.turns import Turns
from orchestrion.models.musicgen.checkpoint.files import digest
from orchestrion.models.musicgen.conditioning.caption import HEARD, caption, caption_revision
from orchestrion.models.musicgen.engine.sequence import stride_of
from orchestrion.models.musicgen.loop import Joiner, Loop
from orchestrion.models.protocol import Conditioning, ModelInfo, Performance, Prepared
from orchestrion.models.settings import ModelSettings

logger = logging.getLogger(__name__)

#: Steps between chances to do something else: some seconds on a CPU core, a fifth of a second on a GPU.
_STEPS_PER_TURN: Final = 8
_MAX_DURATION_S: Final = 600.0
#: What audiocraft's numbers depend on besides its own code.
_LIBRARIES: Final = ("audiocraft", "julius", "librosa", "numpy", "soxr", "tokenizers", "torch", "transformers")


#: Fields of a request, and what audiocraft calls them; what is not given is left to its own defaults.
_SAMPLING: Final = {"guidance": "cfg_coef", "temperature": "temperature", "top_k": "top_k", "top_p": "top_p"}
_CLOCK: Final = SystemClock()


@dataclass(eq=False, slots=True)
class _Piece:
    """One request at work or waiting for its turn."""

    turns: Turns[Pcm]
    device_s: float = 0.0


class AudiocraftModel:
    """One of audiocraft's generators. One thread at a time may use it."""

    @classmethod
    def load(cls, name: str, source: str, settings: ModelSettings) -> AudiocraftModel:
        """Load the checkpoint in a folder or of a hub's name. Of the settings only the device matters here.

        Raises:
            InvalidRequest: it cannot be had or read, or a device or precision is asked for that there is not.
        """
        gpu = torch.cuda.is_available()
        device = settings.device.removesuffix(":0") if settings.device != "auto" else "cuda" if gpu else "cpu"
        if device not in ("cpu", "cuda") or (device == "cuda" and not gpu):
            raise InvalidRequest.of(
                "device",
                settings.device,
                "audiocraft runs on 'cpu', or on 'cuda' and the first GPU that a process sees",
            )
        precision = "fp32" if device == "cpu" else "fp16"
        if settings.precision not in ("auto", precision):
            raise InvalidRequest.of("precision", settings.precision, f"audiocraft runs in {precision} on {device} only")
        checkpoint = find_checkpoint(source)
        logger.info("loading %s from %s", name, checkpoint.lm.parent)
        generator = load_generator(checkpoint, device)
        return cls(name, generator, checkpoint, device, raw_prompts=settings.raw_prompts)

    def __init__(
        self,
        name: str,
        generator: Any,  # noqa: ANN401
        checkpoint: Checkpoint,
        device: str,
        *,
        raw_prompts: bool = False,
    ) -> None:
        """Wrap a generator that `load_generator` gave."""
        self._generator = generator
        makes_music = not is_audiogen(generator.lm.cfg)
        # AudioGen was trained on sentences about sounds, none of which has a key or a tempo.
        self._raw_prompts = raw_prompts or not makes_music
        self._cuda_devices = [torch.cuda.current_device()] if device == "cuda" else []
        hears_melodies = "self_wav" in generator.lm.condition_provider.conditioners
        self._choices = {} if not hears_melodies else {"melody": "stems" if demucs_is_installed() else "whole mix"}
        parameters = inspect.signature(generator.set_generation_params).parameters
        self._defaults: dict[str, float] = {field: parameters[name].default for field, name in _SAMPLING.items()}
        # Its own default, but where windows are so short that it refuses that.
        rate, window_s, usual_s = generator.frame_rate, generator.max_duration, parameters["extend_stride"].default
        self._stride_s = stride_of(int(window_s * rate), int(usual_s * rate)) / rate
        #: In order of arrival. Only the first is at work: audiocraft keeps a piece's state in the model.
        self._pieces: deque[_Piece] = deque()
        self._info = ModelInfo(
            name=name,
            revision=_revision(checkpoint, device, caption_revision(raw=self._raw_prompts), *self._choices.values()),
            weights_licence=checkpoint.licence,
            commercial_use=checkpoint.commercial_use,
            sample_rate_hz=generator.sample_rate,
            channels=generator.audio_channels,
            max_duration_s=_MAX_DURATION_S,
            controls=(*(["theme"] if hears_melodies else []), "continuation", *_SAMPLING, "bars", "loop"),
            # Not `exclude`: audiocraft has no place for what is unwanted.
            hears=HEARD if makes_music else (),
        )

    @property
    def info(self) -> ModelInfo:
        """What this model is."""
        return self._info

    def prepare(self, conditioning: Conditioning) -> None:
        """Nothing: audiocraft reads and encodes in the call that makes the piece."""

    def perform(
        self,
        conditioning: Conditioning,
        *,
        interactive: bool = True,
        resume: bytes | None = None,
        prepared: Prepared | None = None,
    ) -> Performance:
        """Start one piece. Its first chunks are empty; all of its samples come when it is done.

        There are no checkpoints to `resume` from: audiocraft shows nothing of a piece before its end.

        Raises:
            InvalidRequest: theme, continuation, length or negative prompt are nothing that audiocraft can follow.
        """
        text = caption(conditioning, raw=self._raw_prompts).text
        given = {name: getattr(conditioning, name) for name in _SAMPLING if getattr(conditioning, name) is not None}
        piece = _Piece(Turns(partial(self._make, conditioning, given, self._call(conditioning, text))))
        choices = {"caption": text, **self._choices, **self._defaults, **given}
        return Performance(self._chunks(piece), choices=choices, device_s=lambda: piece.device_s)

    def _chunks(self, piece: _Piece) -> Iterator[Pcm]:
        info = self._info
        try:
            self._pieces.append(piece)
            while not piece.turns.is_over:
                self._advance()
                yield np.zeros((0, info.channels), np.float32)
            audio = _result(piece.turns)
            for start in range(0, len(audio), info.sample_rate_hz):
                yield audio[start : start + info.sample_rate_hz]
        finally:
            if piece in self._pieces:
                self._pieces.remove(piece)
            piece.turns.give_up()

    def _advance(self) -> None:
        """Let the first piece have its turn, whichever was asked for: it is in the way of the others."""
        piece, began_s = self._pieces[0], _CLOCK.monotonic_s()
        with torch.random.fork_rng(devices=self._cuda_devices):
            piece.turns.advance()
        piece.device_s += _CLOCK.monotonic_s() - began_s
        if piece.turns.is_over:
            self._pieces.popleft()

    def _make(
        self,
        conditioning: Conditioning,
        given: Mapping[str, float],
        call: Callable[[], Tensor],
        pause: Callable[[], None],
    ) -> Pcm:
        """The piece, [samples, channels]; its pauses between steps do not change what it draws."""
        steps = 0

        def after_step(done: int, of: int) -> None:
            nonlocal steps
            steps += 1
            if steps % _STEPS_PER_TURN == 0:
                drawn, drawn_cuda = torch.get_rng_state(), [torch.cuda.get_rng_state(n) for n in self._cuda_devices]
                pause()
                torch.set_rng_state(drawn)
                for device, state in zip(self._cuda_devices, drawn_cuda, strict=True):
                    torch.cuda.set_rng_state(state, device)

        generator, loop = self._generator, Loop.of(conditioning, self._info.sample_rate_hz)
        sampling = {**self._defaults, **given}
        generator.set_generation_params(
            duration=self._length_s(conditioning),
            extend_stride=self._stride_s,
            **{name: sampling[field] for field, name in _SAMPLING.items()},
        )
        generator.set_custom_progress_callback(after_step)
        torch.manual_seed(conditioning.seed)
        audio: Pcm = call()[0, :, : self._samples(conditioning)].T.float().cpu().numpy()
        return np.ascontiguousarray(audio if loop is None else Joiner(loop).push(audio))

    def _call(self, conditioning: Conditioning, text: str) -> Callable[[], Tensor]:
        """The call of audiocraft's that makes the piece, [1, channels, samples]."""
        if not 0 < conditioning.duration_s <= _MAX_DURATION_S:
            raise InvalidRequest.of("duration_s", conditioning.duration_s, f"give at most {_MAX_DURATION_S:g} s")
        if conditioning.negative_prompt:
            raise InvalidRequest.of(
                "negative_prompt",
                conditioning.negative_prompt,
                "audiocraft cannot follow one; say in the prompt what to play",
            )
        if conditioning.continuation is not None and conditioning.theme is not None:
            raise InvalidRequest.of("theme", "with a continuation", "audiocraft takes one of the two; leave one out")
        if conditioning.theme is not None:
            return partial(self._generator.generate_with_chroma, [text], *_theme(conditioning.theme), progress=True)
        if conditioning.continuation is not None:
            prompt = self._prompt(conditioning, conditioning.continuation)
            rate_hz = self._info.sample_rate_hz
            return partial(self._generator.generate_continuation, prompt, rate_hz, [text], progress=True)
        return partial(self._generator.generate, [text], progress=True)

    def _prompt(self, conditioning: Conditioning, continuation: bytes) -> Tensor:
        """What to go on from, [1, channels, samples]."""
        info, generator = self._info, self._generator
        audio = read_continuation(continuation, info.sample_rate_hz, info.channels)
        longest_s = min(conditioning.duration_s, generator.max_duration)
        if math.ceil(len(audio) * generator.frame_rate / info.sample_rate_hz) >= int(longest_s * generator.frame_rate):
            raise InvalidRequest.of(
                "continuation",
                f"{len(audio) / info.sample_rate_hz:.2f} s",
                f"audiocraft goes on from less than {longest_s:g} s; cut it, or use a model without 'audiocraft:'",
            )
        return torch.from_numpy(audio.T.copy())[None]

    def _samples(self, conditioning: Conditioning) -> int:
        """What is to be made: of a loop more than is given out."""
        loop = Loop.of(conditioning, self._info.sample_rate_hz)
        return loop.samples if loop else round(conditioning.duration_s * self._info.sample_rate_hz)

    def _length_s(self, conditioning: Conditioning) -> float:
        """A length of which audiocraft, which rounds down, makes no frame too few."""
        frame_rate = self._generator.frame_rate
        frames = math.ceil(self._samples(conditioning) * frame_rate / self._info.sample_rate_hz)
        length_s = frames / frame_rate
        return length_s if int(length_s * frame_rate) == frames else math.nextafter(length_s, math.inf)


def _theme(theme: bytes) -> tuple[list[Tensor], int]:
    """One [channels, samples], and its rate."""
    if is_midi(theme):
        raise InvalidRequest.of("theme", f"{len(theme)} bytes", "audiocraft hears sound only; give a recording of it")
    found = read_audio(theme, "theme")
    if not found.audio.any():
        raise InvalidRequest.of("theme", f"{len(theme)} bytes", "the audio is silent; give a recording of a melody")
    # audiocraft takes the mean of the channels, in which some themes are lost.
    audio = found.audio if folds(found.audio) else folded(found.audio)[:, None]
    return [torch.from_numpy(audio.T.copy())], found.rate_hz


def _result(piece: Turns[Pcm]) -> Pcm:
    try:
        return piece.result()
    except OrchestrionError:
        raise
    except Exception as error:
        # Foreign code: one piece that breaks it in whatever way must not end the others of its batch.
        logger.exception("audiocraft failed")
        raise ModelFailed(f"audiocraft failed: {type(error).__name__}: {error}") from error


def _revision(checkpoint: Checkpoint, *also: str) -> str:
    """SHA-256 over what decides the output: the checkpoint's files, our source, the libraries, and what is given."""
    source = {f"source/{path.name}": path for path in Path(__file__).parent.glob("*.py")}
    libraries = [f"{library} {version(library)}" for library in _LIBRARIES]
    parts = [digest({**checkpoint.files, **source}), *libraries, *also]
    return f"sha256:{hashlib.sha256(repr(parts).encode()).hexdigest()}"
