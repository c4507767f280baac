"""What the engine asks of a decoder: bind a request to a slot, then run any mix of columns of any slots as one step.

Two decoders answer to it: `cpu_decoder.py` (own kernels) and `torch_decoder.py` (CUDA graphs, and any device torch
has). A step does not tell prefill from decoding. It gets rows, each one column of one slot, and what a row gives must
depend on that slot alone, bit by bit: not on the other rows, their number or the slot's number.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from orchestrion.models.musicgen.geometry import LmGeometry

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class Precision(StrEnum):
    """How weights are kept and multiplied. Part of a model's revision: another precision is other music."""

    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"
    FP8 = "fp8"


@dataclass(frozen=True, slots=True)
class Condition:
    """What a slot hears. The null stream is what guidance pushes away from; its absent parts are zero and skipped."""

    #: Text states after the model's projection, [text, dim], without padding; None: nothing to cross-attend to.
    cross: Floats | None
    #: The same for the null stream: a negative prompt; None for the usual empty one.
    null_cross: Floats | None
    #: Columns before the codes, [prefix, dim]; None for models without a prefix.
    prefix: Floats | None
    null_prefix: Floats | None
    #: Strength of classifier-free guidance: null + guidance · (conditional - null). At 1 there is no null stream.
    guidance: float

    @property
    def has_null(self) -> bool:
        """Whether the slot runs two streams."""
        return self.guidance != 1.0

    @property
    def text_states(self) -> int:
        """Text states whose keys and values a decoder computes when it is bound to this."""
        return sum(len(states) for states in (self.cross, self.null_cross) if states is not None)

    @property
    def prefix_columns(self) -> int:
        """Columns before the first column of codes."""
        return 0 if self.prefix is None else len(self.prefix)


@dataclass(frozen=True, slots=True)
class Rows:
    """One step: n columns, each of one slot. Columns of one slot ascend without a gap and follow what it has so far."""

    #: [n]
    slot: Ints
    #: [n]: place in its slot's sequence, prefix included. A place inside the prefix takes the slot's prefix.
    position: Ints
    #: [n, codebooks]: the column's codes; not looked at inside the prefix.
    tokens: Ints
    #: [w]: indices of the rows that the next token is drawn from.
    wanted: Ints


@dataclass(frozen=True, slots=True)
class Draws:
    """How to draw from each wanted row. A draw depends on (seed, column, codebook) and the logits only."""

    #: [w], uint64.
    seed: npt.NDArray[np.uint64]
    #: [w]: column of the piece, counted from its beginning also in later windows.
    column: Ints
    #: [w]: 0 takes the likeliest code.
    temperature: Floats
    #: [w]: the draw is among the k likeliest codes (and those equal to the last of them); 0 for all.
    top_k: Ints
    #: [w]: … among the likeliest codes that together have this probability; 0 for all. Comes before `top_k`.
    top_p: Floats


class Decoder(Protocol):
    """Weights, cache and arithmetic of one language model. Used by one thread at a time."""

    @property
    def geometry(self) -> LmGeometry:
        """The model's sizes."""
        ...

    @property
    def slots(self) -> int:
        """Requests it can hold at the same time."""
        ...

    @property
    def max_positions(self) -> int:
        """Columns, prefix included, that a slot's cache holds."""
        ...

    @property
    def max_rows(self) -> int:
        """Rows that one step takes at most."""
        ...

    def bind(self, slot: int, condition: Condition) -> None:
        """Make `slot` empty and give it what it hears; it holds that until it is bound again."""
        ...

    def step(self, rows: Rows, draws: Draws) -> Ints:
        """Write the rows into the cache and draw from the wanted ones: [w, codebooks].

        Raises:
            MemoryError: the device has no room (`torch.OutOfMemoryError` is turned into it); nothing was drawn, and
                the slots of these rows must be bound again.
        """
        ...

    def logits(self, rows: Rows) -> Floats:
        """As `step`, but the guided logits themselves: [w, codebooks, card]."""
        ...

    def close(self) -> None:
        """End its threads and free its memory. It is not used afterwards."""
        ...
