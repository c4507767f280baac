"""A loaded MusicGen as a `MusicModel`: what a request says becomes conditions, prompt codes and a place in the engine.

`perform` puts a piece in the engine and gives its chunks; taking a chunk steps every piece that is in the engine.
Precision and kind of device are part of the model's revision, because they decide which codes are drawn; slots, threads
and chunk lengths are not, because they change no code.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import torch

from orchestrion.audio.pcm import Pcm
from orchestrion.audio.uploads import read_continuation
from orchestrion.clock import Clock
from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.checkpoint.checkpoint import Checkpoint, open_checkpoint
from orchestrion.models.musicgen.codec.codec import Codec
from orchestrion.models.musicgen.conditioning.caption import HEARD, Caption, caption, caption_revision
from orchestrion.models.musicgen.conditioning.melody import Melody, melody_prefix, read_theme
from orchestrion.models.musicgen.conditioning.text import TextEncoder, project
from orchestrion.models.musicgen.decoder.cpu import plan
from orchestrion.models.musicgen.decoder.cpu.cpu_decoder import CpuDecoder
from orchestrion.models.musicgen.decoder.cpu.linear import fastest_precision
from orchestrion.models.musicgen.decoder.cpu.threads import Home, threads_that_run
from orchestrion.models.musicgen.decoder.decoder import Condition, Decoder, Floats, Ints, Precision
from orchestrion.models.musicgen.decoder.pytorch import torch_decoder
from orchestrion.models.musicgen.decoder.pytorch.torch_decoder import TorchDecoder
from orchestrion.models.musicgen.engine.engine import Engine, Pacing, Piece
from orchestrion.models.musicgen.engine.resume import checkpoint_of, codes_of, mark_of
from orchestrion.models.musicgen.engine.scheduler import slots_that_fit
from orchestrion.models.musicgen.engine.sequence import Sequence as CodeSequence
from orchestrion.models.musicgen.engine.sequence import Window, plan_windows, stride_of
from orchestrion.models.musicgen.geometry import CodecGeometry, LmGeometry
from orchestrion.models.musicgen.loop import JoinedChunks, Loop
from orchestrion.models.musicgen.weights import LmWeights, Projection
from orchestrion.models.protocol import Conditioning, ModelInfo, Performance, Prepared
from orchestrion.tracks.request import MAX_DURATION_S

if TYPE_CHECKING:
    from orchestrion.models.settings import ModelSettings

logger = logging.getLogger(__name__)

_Number = TypeVar("_Number", int, float)

#: What MusicGen is published and evaluated with (Copet et al., 2023, section 4).
DEFAULT_GUIDANCE: Final = 3.0
DEFAULT_TEMPERATURE: Final = 1.0
DEFAULT_TOP_K: Final = 250
DEFAULT_TOP_P: Final = 0.0
#: By how much each further window of a long piece moves on, as in the reference; the rest is kept as context.
STRIDE_S: Final = 18.0
#: What every checkpoint follows.
_CONTROLS: Final = ("continuation", "guidance", "temperature", "top_k", "top_p", "bars", "loop")
#: What every checkpoint is told in words.
_HEARS: Final = ("exclude", *HEARD)
#: The first chunk: short enough to come at once, long enough to be worth a packet.
FIRST_CHUNK_S: Final = 0.2
#: A piece that is so far ahead of its listener rests.
MAX_AHEAD_S: Final = 30.0
#: Tokens of a prompt. English has about one to four characters.
MAX_TEXT_TOKENS: Final = 256
#: The codec works beside the decoder's threads, which are as many as the replica has cores: more would only wait.
CODEC_THREADS: Final = 1
#: Rows of one step while nothing but prefill is to do.
PREFILL_ROWS: Final = 128
#: Of a GPU's free memory, the share that is not left to the runtime's own needs.
_USABLE_SHARE: Final = 0.9
_GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Conditioner:
    """What a checkpoint makes conditions from."""

    text: TextEncoder
    text_projection: Projection
    #: None for models without a melody prefix.
    chroma_projection: Projection | None


@dataclass(frozen=True, slots=True)
class Opening:
    """A piece that can begin at once: all that takes long to find out of a request, and nothing of the engine."""

    conditioning: Conditioning
    #: What its checkpoints are told by.
    mark: bytes
    frames: int
    #: Codes that the piece begins with: [codebooks, frames], no frames without a continuation.
    prompt: Ints
    windows: tuple[Window, ...]
    #: How its end is joined to its beginning.
    loop: Loop | None
    #: What is heard in words, and the projected states of both; None: nothing is said.
    caption: Caption
    said: Floats | None
    null_said: Floats | None
    melody: Melody | None
    guidance: float


class MusicGen:
    """One checkpoint, its decoder, codec and engine. Used by one thread at a time, but for `prepare`."""

    def __init__(
        self,
        info: ModelInfo,
        geometry: LmGeometry,
        codec_geometry: CodecGeometry,
        conditioner: Conditioner,
        decoder: Decoder,
        codec: Codec,
        *,
        codec_streams: int,
        chunk_s: float,
        clock: Clock,
        raw_prompts: bool = False,
    ) -> None:
        """A model from its loaded parts; `load` makes them. `codec_streams` are the codec's slots."""
        self._info = info
        self._raw_prompts = raw_prompts
        self._geometry = geometry
        self._codec_geometry = codec_geometry
        self._conditioner = conditioner
        self._decoder = decoder
        self._codec = codec
        self._home = Home()
        self._codec_thread: Executor = ThreadPoolExecutor(1, thread_name_prefix="codec")
        #: Works out what the next windows of pieces in progress hear.
        self._ahead_thread: Executor = ThreadPoolExecutor(1, thread_name_prefix="conditions")
        self._engine = Engine(
            decoder,
            codec,
            codec_streams=codec_streams,
            codec_thread=self._codec_thread,
            hop=codec_geometry.hop,
            pacing=Pacing(
                first_chunk_frames=codec_geometry.frames_in(FIRST_CHUNK_S),
                chunk_frames=codec_geometry.frames_in(chunk_s),
                max_ahead_frames=codec_geometry.frames_in(MAX_AHEAD_S),
            ),
            clock=clock,
        )

    @classmethod
    def load(cls, name: str, source: str, settings: ModelSettings, clock: Clock) -> MusicGen:
        """Load the checkpoint at `source` (a hub name or a folder), to be called `name`.

        Raises:
            InvalidRequest: it cannot be had or read, or cannot run with these settings.
        """
        return cls.of(name, open_checkpoint(source), settings, clock)

    @classmethod
    def of(cls, name: str, checkpoint: Checkpoint, settings: ModelSettings, clock: Clock) -> MusicGen:
        """Load an opened checkpoint. Raises as `load`."""
        lm, codec = checkpoint.lm, checkpoint.codec
        settings = replace(settings, threads=threads_that_run(settings.threads))
        place = _Place.of(settings)
        slots = place.slots_that_fit(checkpoint, settings)
        lm_weights = checkpoint.load_lm()
        decoder = place.decoder(lm, lm_weights, slots, _positions(lm, codec), settings.threads)
        conditioner = Conditioner(
            checkpoint.load_text(),
            _copied(lm_weights.text),
            None if lm_weights.chroma is None else _copied(lm_weights.chroma),
        )
        # The decoder has packed its own copy.
        del lm_weights
        streams = _codec_streams(slots)
        audio = Codec(codec, checkpoint.load_codec(), slots=streams, threads=CODEC_THREADS, device=place.device)
        info = model_info(name, checkpoint, settings)
        logger.info("%s is ready: %s on %s, %d slots", name, place.precision, place.device, slots)
        return cls(
            *(info, lm, codec, conditioner, decoder, audio),
            codec_streams=streams,
            chunk_s=settings.chunk_s,
            clock=clock,
            raw_prompts=settings.raw_prompts,
        )

    @property
    def info(self) -> ModelInfo:
        """What this model is."""
        return self._info

    @property
    def active(self) -> int:
        """Pieces in progress."""
        return self._engine.active

    def close(self) -> None:
        """Give up what is in progress and free the decoder's and the codec's threads and memory."""
        if not self._home.is_here:
            return  # None of that is in this process.
        self._engine.close()
        self._codec_thread.shutdown()
        self._ahead_thread.shutdown(cancel_futures=True)
        self._decoder.close()

    def prepare(self, conditioning: Conditioning) -> Opening:
        """Read the uploads, encode text and continuation, find the theme's melody. See `MusicModel.prepare`.

        Raises:
            InvalidRequest: theme or continuation cannot be used, or the text or the piece is too long.
            ModelFailed: in a process that was forked off after the model was loaded.
        """
        self._home.require()
        if conditioning.duration_s > self._info.max_duration_s:
            raise InvalidRequest.of(
                "duration_s", conditioning.duration_s, f"make it at most {self._info.max_duration_s:g} s"
            )
        loop = Loop.of(conditioning, self._info.sample_rate_hz)
        samples = loop.samples if loop else self._samples(conditioning)
        frames = self._codec_geometry.frames_in(samples / self._info.sample_rate_hz)
        prompt = self._prompt(conditioning, frames)
        windows = self._windows(frames, prompt.shape[1])
        told = caption(conditioning, raw=self._raw_prompts)
        guidance = _or(conditioning.guidance, DEFAULT_GUIDANCE)
        if guidance == 1.0:  # There is no null stream that could hear it.
            told = replace(told, negative="")
        said, null_said = self._said(told.text, "prompt"), self._said(told.negative, "negative_prompt")
        melody = self._melody(conditioning, goes_on=len(windows) > 1)
        if melody is not None and windows:
            melody.chroma(self._start_s(windows[0]))
        return Opening(
            conditioning=conditioning,
            mark=mark_of(conditioning, self._info.revision),
            frames=frames,
            prompt=prompt,
            windows=windows,
            loop=loop,
            caption=told,
            said=said,
            null_said=null_said,
            melody=melody,
            guidance=guidance,
        )

    def perform(
        self,
        conditioning: Conditioning,
        *,
        interactive: bool = True,
        resume: bytes | None = None,
        prepared: Prepared | None = None,
    ) -> Performance:
        """Put one piece into the engine; taking its chunks makes it, and all other pieces too.

        What a checkpoint to `resume` from knows is decoded to audio again, but not drawn again.

        Raises:
            InvalidRequest: theme or continuation cannot be used, or the text or the piece is too long.
            ModelFailed: in a process that was forked off after the model was loaded; also from its chunks.
        """
        self._home.require()
        opening = self.prepare(conditioning) if prepared is None else prepared
        if not isinstance(opening, Opening) or opening.conditioning != conditioning:
            raise ValueError("what was prepared is not of this piece")
        prompt = opening.prompt
        known = prompt if resume is None else self._resumed(resume, opening)
        sequence = CodeSequence(self._geometry, opening.frames, known, opening.windows)
        piece = Piece(
            sequence=sequence,
            condition=self._conditions(opening),
            samples=opening.loop.samples if opening.loop else self._samples(conditioning),
            seed=conditioning.seed,
            temperature=_or(conditioning.temperature, DEFAULT_TEMPERATURE),
            top_k=_or(conditioning.top_k, DEFAULT_TOP_K),
            top_p=_or(conditioning.top_p, DEFAULT_TOP_P),
            interactive=interactive,
        )
        self._engine.submit(piece)
        choices: dict[str, str | float] = {
            "caption": opening.caption.text,
            "guidance": opening.guidance,
            "temperature": piece.temperature,
            "top_k": piece.top_k,
            "top_p": piece.top_p,
            "windows": len(opening.windows),
        }
        if opening.caption.negative:
            choices["negative_caption"] = opening.caption.negative

        def checkpoint() -> bytes | None:
            codes = sequence.settled
            return checkpoint_of(codes, opening.mark) if codes.shape[1] > prompt.shape[1] else None

        chunks = _Chunks(self._engine, piece, self._home)
        return Performance(
            JoinedChunks(chunks, opening.loop) if opening.loop else chunks,
            choices=choices,
            device_s=lambda: piece.device_s,
            checkpoint=checkpoint,
            work=lambda: self._engine.work_for(piece),
            is_ready=lambda: piece.is_ready,
        )

    def _samples(self, conditioning: Conditioning) -> int:
        return round(conditioning.duration_s * self._info.sample_rate_hz)

    def _prompt(self, conditioning: Conditioning, frames: int) -> Ints:
        """Codes that the piece begins with: [codebooks, frames], no frames without a continuation."""
        if conditioning.continuation is None:
            return np.zeros((self._geometry.codebooks, 0), np.int64)
        pcm = read_continuation(conditioning.continuation, self._info.sample_rate_hz, self._info.channels)
        if self._codec_geometry.frames_in(len(pcm) / self._info.sample_rate_hz) >= frames:
            raise InvalidRequest.of(
                "duration_s",
                conditioning.duration_s,
                f"the continuation alone is {len(pcm) / self._info.sample_rate_hz:g} s long; ask for more than that",
            )
        return self._codec.encode(pcm)

    def _windows(self, frames: int, prompt_frames: int) -> tuple[Window, ...]:
        window_frames = self._codec_geometry.frames_in(self._geometry.window_s)
        stride_frames = stride_of(window_frames, self._codec_geometry.frames_in(STRIDE_S))
        return plan_windows(frames, prompt_frames, window_frames, stride_frames)

    def _start_s(self, window: Window) -> float:
        return window.start_frame / self._codec_geometry.frame_rate_hz

    def _melody(self, conditioning: Conditioning, *, goes_on: bool) -> Melody | None:
        """A piece of several windows hears its theme over and over, another one its beginning."""
        if conditioning.theme is None or self._conditioner.chroma_projection is None:
            return None
        theme = read_theme(conditioning.theme, self._info.sample_rate_hz)
        return Melody(theme, self._geometry.chroma_frames, self._geometry.window_s if goes_on else None)

    def _resumed(self, checkpoint: bytes, opening: Opening) -> Ints:
        """The codes of a checkpoint, which begin with the prompt's; the prompt alone if it does not fit."""
        known_frames = opening.prompt.shape[1]
        try:
            return codes_of(checkpoint, opening.mark, self._geometry, longer_than=known_frames, up_to=opening.frames)
        except InvalidRequest as error:
            # The same music without it, only later.
            logger.warning("%s begins a piece anew: %s", self._info.name, error)
            return opening.prompt

    def _conditions(self, opening: Opening) -> Callable[[Window], Condition]:
        said, null_said, melody, guidance = opening.said, opening.null_said, opening.melody, opening.guidance
        if said is None and null_said is None and melody is None:
            guidance = 1.0  # Both streams would hear the same nothing.
        projection = self._conditioner.chroma_projection
        if projection is None:
            fixed = Condition(said, null_said, None, None, guidance)
            return lambda window: fixed

        def condition(window: Window) -> Condition:
            chroma = None
            if melody is not None:
                chroma = melody.chroma(self._start_s(window))
                # The next window's is worked out while this one plays, so that no piece waits for it.
                for later in opening.windows[opening.windows.index(window) + 1 :][:1]:
                    self._ahead_thread.submit(melody.chroma, self._start_s(later))
            prefix, null_prefix = melody_prefix(chroma, said, null_said, projection, self._geometry.chroma_frames)
            return Condition(None, None, prefix, null_prefix, guidance)

        return condition

    def _said(self, text: str, field: str) -> Floats | None:
        length = self._conditioner.text.length(text)
        if length > MAX_TEXT_TOKENS:
            raise InvalidRequest.of(
                field, text, f"comes to a caption of {length} tokens; {self._info.name} hears at most {MAX_TEXT_TOKENS}"
            )
        states = self._conditioner.text.encode(text)
        return None if states is None else project(states, self._conditioner.text_projection)


def model_info(name: str, checkpoint: Checkpoint, settings: ModelSettings) -> ModelInfo:
    """What the checkpoint will be when it is loaded with these settings.

    Raises:
        InvalidRequest: it cannot run with them.
    """
    place = _Place.of(settings)
    return ModelInfo(
        name=name,
        revision="+".join(
            [
                *(checkpoint.revision, str(place.precision), torch.device(place.device).type),
                caption_revision(raw=settings.raw_prompts),
            ]
        ),
        weights_licence=checkpoint.licence,
        commercial_use=checkpoint.commercial_use,
        sample_rate_hz=checkpoint.codec.sample_rate_hz,
        channels=checkpoint.codec.channels,
        max_duration_s=MAX_DURATION_S,
        controls=(*(("theme",) if checkpoint.lm.chroma_bins else ()), *_CONTROLS),
        hears=_HEARS,
        shares_steps=True,
    )


class _Chunks:
    """The audio of one piece. Closing it gives the piece up, also before its first chunk was taken."""

    def __init__(self, engine: Engine, piece: Piece, home: Home) -> None:
        self._engine = engine
        self._piece = piece
        self._home = home

    def __iter__(self) -> Iterator[Pcm]:
        return self

    def __next__(self) -> Pcm:
        self._home.require()
        chunk = self._engine.next_chunk(self._piece)
        if chunk is None:
            raise StopIteration
        return chunk

    def close(self) -> None:
        self._engine.cancel(self._piece)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where and how the model runs."""

    device: str
    precision: Precision

    @classmethod
    def of(cls, settings: ModelSettings) -> _Place:
        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device != "cpu" and not torch.cuda.is_available():
            raise InvalidRequest.of("device", device, "this machine has no usable CUDA device; use 'cpu' or 'auto'")
        if settings.precision == "auto":
            return cls(device, fastest_precision() if device == "cpu" else Precision.BF16)
        return cls(device, Precision(settings.precision))

    def decoder(self, lm: LmGeometry, weights: LmWeights, slots: int, positions: int, threads: int) -> Decoder:
        """The decoder for this place."""
        rows = max(PREFILL_ROWS, slots)
        if self.device == "cpu":
            return CpuDecoder(
                lm,
                weights,
                slots=slots,
                max_positions=positions,
                max_rows=rows,
                precision=self.precision,
                threads=threads,
                max_text=MAX_TEXT_TOKENS,
            )
        return TorchDecoder(
            lm,
            weights,
            slots=slots,
            max_positions=positions,
            max_rows=rows,
            precision=self.precision,
            device=self.device,
            max_text=MAX_TEXT_TOKENS,
        )

    def slots_that_fit(self, checkpoint: Checkpoint, settings: ModelSettings) -> int:
        """The slots to open: those that are wanted, or as many as there is memory for.

        Raises:
            InvalidRequest: there is not memory for one.
        """
        lm, codec = checkpoint.lm, checkpoint.codec
        chunk_frames = codec.frames_in(settings.chunk_s)

        def bytes_for(slots: int) -> int:
            sizes = (lm, slots, _positions(lm, codec), max(PREFILL_ROWS, slots), self.precision, MAX_TEXT_TOKENS)
            if self.device == "cpu":
                decoder_bytes = plan.memory_bytes(*sizes, threads=settings.threads)
                decoder_bytes += checkpoint.text_encoder_bytes
            else:
                decoder_bytes = torch_decoder.memory_bytes(*sizes)
            return decoder_bytes + Codec.memory_bytes(codec, _codec_streams(slots), chunk_frames, self.device)

        budget = self._budget_bytes(settings)
        slots = settings.slots if budget is None else slots_that_fit(settings.slots, budget, bytes_for)
        if not slots:
            raise InvalidRequest.of(
                "memory_gib",
                f"{(budget or 0) / _GIB:.2f}",
                f"{checkpoint.name} in {self.precision} needs {bytes_for(1) / _GIB:.2f} GiB for one slot",
            )
        if slots < settings.slots:
            logger.warning("%s: memory for %d of %d slots", checkpoint.name, slots, settings.slots)
        logger.info("%s: %.2f GiB predicted for %d slots", checkpoint.name, bytes_for(slots) / _GIB, slots)
        return slots

    def _budget_bytes(self, settings: ModelSettings) -> int | None:
        if settings.memory_gib is not None:
            return round(settings.memory_gib * _GIB)
        if self.device == "cpu":
            return None
        free_bytes, _ = torch.cuda.mem_get_info(self.device)
        return int(_USABLE_SHARE * int(free_bytes))


def _codec_streams(slots: int) -> int:
    """Streams of the codec: a piece keeps its own while another one has its slot already."""
    return 2 * slots


def _positions(lm: LmGeometry, codec: CodecGeometry) -> int:
    """Columns that a slot's cache must hold: the longest prefix and a whole window."""
    window_columns = codec.frames_in(lm.window_s) + lm.max_delay + 1
    prefix_columns = lm.chroma_frames + MAX_TEXT_TOKENS if lm.text_in_prefix else 0
    return prefix_columns + window_columns


def _copied(projection: Projection) -> Projection:
    """Out of the checkpoint's mapped file, so that the rest of it can be let go."""
    return replace(projection, weight=projection.weight.clone(), bias=projection.bias.clone())


def _or(given: _Number | None, default: _Number) -> _Number:
    return default if given is None else given
