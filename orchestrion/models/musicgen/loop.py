"""Loops of a model that makes none: more than their length is made, and the end fades into what led to the beginning.

A loop begins a bar late in what the model makes. At its end that bar's last beat fades in while the music fades out, so
that the beginning follows as it did the first time. Nothing that was given out is changed later, so a loop streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from orchestrion.audio.pcm import Pcm
from orchestrion.models.protocol import Conditioning
from orchestrion.tracks.vocabulary import METRES, STYLE_METRES

#: For pieces whose tempo is not known.
_LEAD_S: Final = 1.0
_FADE_S: Final = 0.5
_DEFAULT_METRE: Final = "4/4"


class Chunks(Protocol):
    """Audio that comes piece by piece, and can be given up."""

    def __next__(self) -> Pcm:
        """The next samples; raises StopIteration after the last."""
        ...

    def close(self) -> None:
        """Give up the rest."""
        ...


@dataclass(frozen=True, slots=True)
class Loop:
    """Of how much audio, in samples, a loop is made."""

    #: What is made before its beginning: a bar.
    lead: int
    #: Over which its end fades into the end of the lead.
    fade: int
    length: int

    @classmethod
    def of(cls, conditioning: Conditioning, rate_hz: int) -> Loop | None:
        """None: the piece is to be no loop."""
        if not conditioning.loop:
            return None
        lead_s, fade_s = _LEAD_S, _FADE_S
        if conditioning.tempo_bpm is not None:
            metre = conditioning.metre or STYLE_METRES.get(conditioning.style or "", _DEFAULT_METRE)
            fade_s = 60.0 / conditioning.tempo_bpm
            lead_s = METRES[metre] * fade_s
        length = round(conditioning.duration_s * rate_hz)
        return cls(round(lead_s * rate_hz), min(round(fade_s * rate_hz), length // 2), length)

    @property
    def samples(self) -> int:
        """What is to be made."""
        return self.lead + self.length


class Joiner:
    """Makes the loop of `Loop.samples` of audio as they come."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._done = 0
        #: The end of the lead, in parts.
        self._pickup: list[Pcm] = []

    def push(self, chunk: Pcm) -> Pcm:
        """Take the next samples, [samples, channels]; give those of the loop that they make: none during the lead."""
        loop = self._loop
        start, self._done = self._done, self._done + len(chunk)
        pickup_start, fade_start = loop.lead - loop.fade, loop.samples - loop.fade
        if start < loop.lead:
            self._pickup.append(chunk[max(0, pickup_start - start) : loop.lead - start].copy())
        if self._done > fade_start:
            first = max(start, fade_start)
            at = np.arange(first, self._done) - fade_start
            # Equal power: the two are different music. [samples, 1]
            angle = (np.pi / 2 * (at + 0.5) / loop.fade).astype(np.float32)[:, None]
            faded = chunk[first - start :] * np.cos(angle) + np.concatenate(self._pickup)[at] * np.sin(angle)
            chunk = np.concatenate([chunk[: first - start], faded])
        return chunk[max(0, loop.lead - start) :]


class JoinedChunks:
    """A loop, chunk by chunk."""

    def __init__(self, chunks: Chunks, loop: Loop) -> None:
        self._chunks = chunks
        self._joiner = Joiner(loop)

    def __iter__(self) -> Iterator[Pcm]:
        return self

    def __next__(self) -> Pcm:
        return self._joiner.push(next(self._chunks))

    def close(self) -> None:
        """Give up the rest."""
        self._chunks.close()
