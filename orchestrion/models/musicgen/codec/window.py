"""What a convolution of a stream hears: the rows that came now, behind the last rows of what came before.

The reference pads the two ends of the whole piece; a stream sees its start when it has heard enough of it (a
reflection needs the rows that are reflected) and its end when it is told. In between nothing is padded, and each row
of output is computed once, when its last input is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from orchestrion.models.musicgen.codec.kernels import Floats
from orchestrion.models.musicgen.geometry import CodecGeometry
from orchestrion.models.musicgen.native.emitter import PANEL

#: A product makes samples by the row, of up to PANEL samples, some of which may lie beyond both ends of what is new.
SLACK: Final = PANEL


@dataclass(frozen=True, slots=True)
class Part:
    """What is new of one lane: codes [codebooks, frames], and whether the piece ends with them."""

    lane: int
    codes: npt.NDArray[np.int64]
    last: bool

    def between(self, start: int, stop: int) -> Part:
        """Its frames from `start` to `stop`."""
        return Part(self.lane, self.codes[:, start:stop], self.last and stop >= self.codes.shape[1])


def rounds(parts: Sequence[Part], frames: int) -> Iterator[dict[int, Part]]:
    """`parts` by their indices, at most so many frames of each at a time, those left out that have no more."""
    longest = max(part.codes.shape[1] for part in parts)
    for start in range(0, max(1, longest), frames):
        going = {index: part for index, part in enumerate(parts) if start < max(1, part.codes.shape[1])}
        yield {index: part.between(start, start + frames) for index, part in going.items()}


@dataclass(frozen=True, slots=True)
class Reach:
    """Which inputs an output needs: `span` rows, of which at the piece's ends `left` and `right` are padding."""

    span: int
    left: int
    right: int

    @classmethod
    def of_conv(cls, kernel: int, dilation: int = 1) -> Reach:
        """A convolution that keeps the length; of an odd number of padded rows the left end gets more."""
        span = (kernel - 1) * dilation + 1
        right = (span - 1) // 2
        return cls(span, span - 1 - right, right)

    @classmethod
    def of_transposed(cls) -> Reach:
        """A transposed convolution whose kernel is twice its stride: a row and the one before it."""
        return cls(2, 1, 1)

    @property
    def carried(self) -> int:
        """Rows of one lane that must be kept at most until more come."""
        return max(self.span - 1, 2 * self.left)


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a `Window`."""

    reach: Reach
    channels: int
    #: Forms of the signal that are kept side by side: through ELU and, where a residual block adds it, as it is.
    planes: int
    #: Rows that can come at once.
    rows: int
    #: Whether the piece's ends are padded with its reflection, not with zeros.
    reflect: bool

    @property
    def front(self) -> int:
        """Row where new rows begin."""
        return self.reach.carried + SLACK

    @property
    def outputs(self) -> int:
        """Outputs that become ready at once, at most."""
        return self.rows + self.reach.carried + self.reach.right + 1 - self.reach.span

    def values(self, lanes: int) -> int:
        """Values that the window holds."""
        shared = self.front + self.rows + self.reach.right + SLACK
        return (shared + lanes * self.reach.carried) * self.planes * self.channels


def frames_ahead(geometry: CodecGeometry) -> int:
    """Frames after a frame that decide its samples: 4 in the published geometry."""
    missing = Reach.of_conv(geometry.kernel).right
    for ratio in geometry.ratios:
        missing = missing * ratio + ratio - ratio // 2
        missing += sum(reach.right for reach in residual_reaches(geometry))
    return -(-(missing + Reach.of_conv(geometry.last_kernel).right) // geometry.hop)


def frames_behind(geometry: CodecGeometry) -> int:
    """Outputs of the LSTM before a frame that decide its samples: 1 in the published geometry."""
    needed = Reach.of_conv(geometry.last_kernel).left
    for ratio in reversed(geometry.ratios):
        needed += sum(reach.left for reach in residual_reaches(geometry))
        needed = 1 + max(0, -(-(needed - (ratio - ratio // 2)) // ratio))
    return needed


def residual_reaches(geometry: CodecGeometry) -> list[Reach]:
    """Of the first convolution of each residual block of a stage."""
    layers = range(geometry.residual_layers)
    return [Reach.of_conv(geometry.residual_kernel, geometry.dilation_base**layer) for layer in layers]


class Window:
    """The inputs of one layer. Lanes share the room for new rows and own what they carry over.

    Use: write new rows behind `front` (up to SLACK rows before and after them may be written too), then `take`.
    """

    def __init__(self, shape: Shape, lanes: int) -> None:
        reach, planes, channels = shape.reach, shape.planes, shape.channels
        self.shape, self.front = shape, shape.front
        self.rows: Floats = np.zeros((planes, shape.front + shape.rows + reach.right + SLACK, channels), np.float32)
        self._address = self.rows.ctypes.data
        self._carry: Floats = np.zeros((lanes, planes, reach.carried, channels), np.float32)
        self._held = [0] * lanes
        self._heard = [0] * lanes

    def at(self, plane: int, row: int) -> int:
        """Address of `row` in `plane`."""
        return self._address + plane * self.rows.strides[0] + row * self.rows.strides[1]

    def is_fresh(self, lane: int) -> bool:
        """Whether nothing of the lane's piece has come yet."""
        return self._heard[lane] == 0

    def open(self, lane: int) -> None:
        """Begin a piece in `lane`."""
        self._held[lane], self._heard[lane] = self.shape.reach.left, 0
        self._carry[lane] = 0

    def take(self, lane: int, new: int, last: bool) -> tuple[int, int]:
        """Join `new` rows to what `lane` carries: (the row where the first output's inputs begin, outputs ready)."""
        reach, rows, held = self.shape.reach, self.rows, self._held[lane]
        begin, end = self.front - held, self.front + new
        rows[:, begin : self.front] = self._carry[lane, :, :held]
        started = not self.shape.reflect or self._heard[lane] > reach.left
        heard = self._heard[lane] = self._heard[lane] + new
        if not started and (last or heard > reach.left):
            self._reflect_start(begin, heard)
            started = True
        if last:
            self._pad_end(end, heard)
            end += reach.right
        ready = max(0, end - begin - (reach.span - 1)) if started and heard else 0
        kept = 0 if last else end - begin - ready
        self._carry[lane, :, :kept] = rows[:, begin + ready : begin + ready + kept]
        self._held[lane] = kept
        return begin, ready

    def _reflect_start(self, begin: int, heard: int) -> None:
        """Padding before the piece. One that is too short to be reflected is as if followed by zeros."""
        first = begin + self.shape.reach.left
        for i in range(1, self.shape.reach.left + 1):
            self.rows[:, first - i] = self.rows[:, first + i] if i < heard else 0

    def _pad_end(self, end: int, heard: int) -> None:
        right = self.shape.reach.right
        self.rows[:, end : end + right] = 0
        if not self.shape.reflect:
            return
        mirror = max(heard, self.shape.reach.left + 1) - 1
        for i in range(right):
            source = 2 * mirror - heard - i
            if mirror < heard + i and 0 <= source < heard:
                self.rows[:, end + i] = self.rows[:, end - heard + source]
