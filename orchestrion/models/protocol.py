"""What the system asks of a model: perform a request as chunks of PCM, alone or beside others.

A listener hears the first chunk while the rest is made, and a finished piece is the same chunks joined. No piece
depends on those made beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol, TypeAlias

import numpy as np

from orchestrion.audio.pcm import Pcm
from orchestrion.tracks.musical_key import Key
from orchestrion.tracks.request import Composition
from orchestrion.tracks.section import Section

#: What a model made of a request ahead of its turn: an opaque object, meant for that model only.
Prepared: TypeAlias = object


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What provenance and admission need to know of a model."""

    name: str
    #: Hash of everything that decides the output: code, weights, sound font.
    revision: str
    weights_licence: str
    commercial_use: bool
    sample_rate_hz: int
    channels: int
    max_duration_s: float
    #: Those of `request.CONTROLS` that this model follows.
    controls: tuple[str, ...]
    #: Others of them that it is told in words, and follows as it follows words. A field of neither is refused.
    hears: tuple[str, ...] = ()
    #: Whether all performances in progress advance together when a chunk of one of them is taken.
    shares_steps: bool = False


@dataclass(frozen=True, slots=True)
class Conditioning:
    """The part of a request that a model hears. None means: the model chooses."""

    prompt: str
    negative_prompt: str
    style: str | None
    mood: str | None
    tempo_bpm: float | None
    key: Key | None
    duration_s: float
    seed: int
    #: The bytes of an audio or MIDI file with the theme melody.
    theme: bytes | None
    #: The bytes of an audio file that the piece begins with; its length is part of `duration_s`.
    continuation: bytes | None = None
    #: Strength of classifier-free guidance, 1 to 10.
    guidance: float | None = None
    #: 0 to 2; 0 always takes the likeliest code.
    temperature: float | None = None
    #: Draw among this many of the likeliest codes; 0: among all.
    top_k: int | None = None
    #: Draw among the likeliest codes that together have this probability, whatever `top_k` says; 0: `top_k` decides.
    top_p: float | None = None
    #: These and the following are as in `Composition`.
    exclude: tuple[str, ...] | None = None
    instruments: tuple[str, ...] | None = None
    ensemble: str | None = None
    metre: str | None = None
    sections: tuple[Section, ...] | None = None
    bars: int | None = None
    loop: bool | None = None
    tempo_end_bpm: float | None = None
    key_end: Key | None = None
    energy: str | None = None
    dynamics: str | None = None

    @classmethod
    def of(cls, composition: Composition, theme: bytes | None, continuation: bytes | None) -> Conditioning:
        """What a model is told of `composition`; `theme` and `continuation` are the files that it refers to."""
        said = {field.name: getattr(composition, field.name) for field in fields(cls)}
        return cls(**said | {"theme": theme, "continuation": continuation})


@dataclass(slots=True)
class Performance:
    """One piece being made. Iterate `chunks` to the end; close it to stop early and free what it holds."""

    #: Each [samples, channels] at the model's rate; together exactly round(duration_s · sample_rate_hz) samples.
    chunks: Iterator[Pcm]
    #: Writes the Standard MIDI File of the whole piece, for models that have a score. A function, so that the
    #: first chunk does not wait for a file.
    write_midi: Callable[[], bytes] | None = None
    #: Integrated loudness this piece is expected to have before mastering, in LUFS; None when the model can't say.
    expected_lufs: float | None = None
    #: What the model chose or found (tempo, key, style, form …), for provenance.
    choices: Mapping[str, str | float] = field(default_factory=dict)
    #: Seconds of the device that this piece has used so far, for models whose pieces share each step; None: all the
    #: seconds that its chunks took to come.
    device_s: Callable[[], float] | None = None
    #: Bytes from which `perform` can go on with this piece, in another process too; None while nothing is worth
    #: keeping. Any thread may ask. The function itself is None for models that cannot go on.
    checkpoint: Callable[[], bytes | None] | None = None
    #: Works until the next chunk of this piece, or of one that shares its steps, can be taken; whether this one's can.
    #: None: each chunk is made when it is taken.
    work: Callable[[], bool] | None = None
    #: Whether the next chunk, or the end, can be taken at once: it was made while another piece was worked for.
    is_ready: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """One finished piece: `audio` is [samples, channels]."""

    audio: Pcm
    midi: bytes | None
    choices: Mapping[str, str | float]
    #: Seconds of the device that this piece used, if the model knows.
    device_s: float | None = None

    @classmethod
    def of(cls, performance: Performance, chunks: Sequence[Pcm]) -> Generation:
        """The piece whose `chunks` have all been taken from `performance`."""
        midi = performance.write_midi() if performance.write_midi else None
        device_s = performance.device_s() if performance.device_s else None
        return cls(np.concatenate(chunks), midi, performance.choices, device_s)


class MusicModel(Protocol):
    """A loaded model. One thread at a time may use it; performances may be interleaved chunk by chunk.

    `prepare` is the exception: any number of threads may call it, also while another one makes music.
    """

    @property
    def info(self) -> ModelInfo:
        """What this model is."""
        ...

    def prepare(self, conditioning: Conditioning) -> Prepared | None:
        """Do what takes long of opening a piece (reading uploads, encoding text and audio), in any thread.

        None where a model has nothing to prepare. Raises as `perform`.
        """
        ...

    def perform(
        self,
        conditioning: Conditioning,
        *,
        interactive: bool = True,
        resume: bytes | None = None,
        prepared: Prepared | None = None,
    ) -> Performance:
        """Start one piece; it is made as its chunks are taken.

        Args:
            conditioning: what to make.
            interactive: a person waits for it; a model that makes several at once lets it go first.
            resume: a `Performance.checkpoint` of the same piece. It saves work and changes no sample: chunks come from
                the beginning all the same. One that does not fit, and any given to a model without checkpoints, is
                ignored.
            prepared: what `prepare` gave for this very conditioning; without it the same is done here.

        Raises:
            InvalidRequest: theme or continuation cannot be read, or the length is beyond the model.
            ModelFailed: the model cannot make this piece.
        """
        ...
