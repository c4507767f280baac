"""The decoder half of EnCodec on a CPU: stateful, batched over lanes (mono streams), bit by bit independent of both.

Quantised frames → convolution → LSTM → per stage: transposed convolution, residual blocks → convolution → samples.
All weights that are large beside their work (LSTM, first stage) multiply the rows of all lanes at once; from there on a
lane is taken through the rest alone, in blocks whose rows stay in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from orchestrion.models.musicgen.codec import kernels
from orchestrion.models.musicgen.codec.kernels import Floats, Packed
from orchestrion.models.musicgen.codec.products import PackedConv, PackedTransposed, Workers
from orchestrion.models.musicgen.codec.window import SLACK, Part, Reach, Shape, Window, residual_reaches, rounds
from orchestrion.models.musicgen.geometry import CodecGeometry
from orchestrion.models.musicgen.weights import CodecWeights, LstmLayer, Residual, Stage

#: Frames of a lane that are worked on at a time, up to the first stage …
BLOCK_FRAMES: Final = 25
#: … and after it.
TAIL_FRAMES: Final = 5
#: Lanes that are worked on at a time.
BATCH_LANES: Final = 16


@dataclass(frozen=True, slots=True)
class PackedResidual:
    """A residual block with the window of its input."""

    window: Window
    inner: PackedConv
    outer: PackedConv
    skip: PackedConv | None
    #: Room for the inner signal …
    middle: Floats
    #: … and, if there is a `skip`, for what comes through it.
    skipped: Floats

    @classmethod
    def of(cls, block: Residual, shape: Shape, dilation: int, lanes: int) -> PackedResidual:
        """Pack `block`."""
        inner, rows = PackedConv.of(block.inner, dilation), shape.outputs + SLACK
        skip = None if block.skip is None else PackedConv.of(block.skip)
        middle = np.zeros((rows, inner.outputs), np.float32)
        skipped = np.zeros((0 if skip is None else rows, block.outer.weight.shape[0]), np.float32)
        return cls(Window(shape, lanes), inner, PackedConv.of(block.outer), skip, middle, skipped)


@dataclass(frozen=True, slots=True)
class PackedStage:
    """A stage with the window of its input."""

    window: Window
    up: PackedTransposed
    residuals: tuple[PackedResidual, ...]

    @classmethod
    def of(cls, stage: Stage, shapes: Sequence[Shape], dilation_base: int, lanes: int) -> PackedStage:
        """Pack `stage`."""
        residuals = tuple(
            PackedResidual.of(block, shape, dilation_base**layer, lanes)
            for layer, (block, shape) in enumerate(zip(stage.residuals, shapes[1:], strict=True))
        )
        return cls(Window(shapes[0], lanes), PackedTransposed.of(stage.resample), residuals)


@dataclass(frozen=True, slots=True)
class PackedLstm:
    """One LSTM layer with its state, [lanes, width] each."""

    entering: Packed
    recurrent: Packed
    hidden: Floats
    cell: Floats

    @classmethod
    def of(cls, layer: LstmLayer, lanes: int) -> PackedLstm:
        """Pack `layer`."""
        width = layer.hidden_weight.shape[1]
        state = [np.zeros((lanes, width), np.float32) for _ in range(2)]
        entering = kernels.pack(layer.input_weight, layer.input_bias + layer.hidden_bias)
        recurrent = kernels.pack(layer.hidden_weight, torch.zeros(4 * width))
        return cls(entering, recurrent, *state)


@dataclass(frozen=True, slots=True)
class Layout:
    """The windows from codes to samples, as the geometry has them."""

    frames: Shape
    #: Of each stage: before its transposed convolution, then before each residual block.
    stages: tuple[tuple[Shape, ...], ...]
    samples: Shape

    @classmethod
    def of(cls, geometry: CodecGeometry) -> Layout:
        """The windows of a decoder of this geometry."""
        reflect = geometry.pad_mode == "reflect"
        frames = Shape(Reach.of_conv(geometry.kernel), geometry.dim, 1, BLOCK_FRAMES, reflect)
        width, stages, rows = geometry.filters << len(geometry.ratios), [], frames.outputs
        for index, ratio in enumerate(geometry.ratios):
            stage = [Shape(Reach.of_transposed(), width, 1, rows, False)]
            width //= 2
            rows = ((TAIL_FRAMES if index == 0 else rows) + 1) * ratio
            for reach in residual_reaches(geometry):
                stage.append(Shape(reach, width, 2, rows, reflect))
                rows = stage[-1].outputs
            stages.append(tuple(stage))
        return cls(frames, tuple(stages), Shape(Reach.of_conv(geometry.last_kernel), width, 1, rows, reflect))

    @property
    def shapes(self) -> list[Shape]:
        """All of them."""
        return [self.frames, *(shape for stage in self.stages for shape in stage), self.samples]


def memory_bytes(geometry: CodecGeometry, lanes: int) -> int:
    """What a `CpuDecoder` holds: its packed weights, its room for blocks, and what each lane carries over."""
    layout, batch = Layout.of(geometry), min(lanes, BATCH_LANES)
    width, rows = layout.stages[0][0].channels, layout.frames.outputs
    weights = 4 * geometry.codebooks * geometry.card * geometry.dim
    weights += PackedConv.nbytes(width, geometry.dim, geometry.kernel)
    weights += PackedConv.nbytes(1, geometry.filters, geometry.last_kernel)
    weights += geometry.lstm_layers * 2 * Packed.nbytes(4 * width, width)
    values = sum(shape.values(lanes) for shape in layout.shapes) + 2 * geometry.lstm_layers * lanes * width
    values += (2 * SLACK + 6 * batch * rows + 4 * batch) * width
    values += batch * (rows + 2) * (1 + geometry.ratios[0]) * width + layout.samples.outputs + SLACK
    for ratio, shapes in zip(geometry.ratios, layout.stages, strict=True):
        weights += Packed.nbytes(ratio * width // 2, 2 * width)
        width //= 2
        inner = width // geometry.compress
        for layer, shape in enumerate(shapes[1:]):
            dilation = geometry.dilation_base**layer
            weights += PackedConv.nbytes(inner, width, geometry.residual_kernel, dilation)
            weights += PackedConv.nbytes(width, inner, 1)
            values += (shape.outputs + SLACK) * inner
            if dilation > 1:
                values += shape.outputs * geometry.residual_kernel * width  # For a moment.
            if not geometry.identity_skip:
                weights += PackedConv.nbytes(width, width, 1)
                values += (shape.outputs + SLACK) * width
    return weights + 4 * values


class CpuDecoder:
    """Codes of up to `lanes` mono pieces to their samples."""

    def __init__(self, geometry: CodecGeometry, weights: CodecWeights, lanes: int, threads: int) -> None:
        seanet, layout = weights.decoder, Layout.of(geometry)
        self._workers = Workers(threads)
        self._codebooks: Floats = weights.codebooks.numpy()
        self._first, self._last = PackedConv.of(seanet.first), PackedConv.of(seanet.last)
        self._lstm = [PackedLstm.of(layer, lanes) for layer in seanet.lstm]
        self._frames, self._samples = Window(layout.frames, lanes), Window(layout.samples, lanes)
        self._stages = [
            PackedStage.of(stage, shapes, geometry.dilation_base, lanes)
            for stage, shapes in zip(seanet.stages, layout.stages, strict=True)
        ]
        batch, rows, width = min(lanes, BATCH_LANES), layout.frames.outputs, self._first.outputs
        # What enters the LSTM, and what leaves a layer of it.
        self._states: Floats = np.zeros((2, batch * rows + SLACK, width), np.float32)
        self._gates: Floats = np.zeros((batch * rows, 4 * width), np.float32)
        self._recurrent: Floats = np.zeros((batch, 4 * width), np.float32)
        # What enters the first stage, all lanes, and what its transposed convolution makes of it.
        self._joined: Floats = np.zeros((batch * (rows + 2), width), np.float32)
        self._raised: Floats = np.zeros((2, len(self._joined) * geometry.ratios[0], width // 2), np.float32)
        self._out: Floats = np.zeros(layout.samples.outputs + SLACK, np.float32)

    def open(self, lane: int) -> None:
        """Begin a piece in `lane`."""
        for layer in self._lstm:
            layer.hidden[lane] = layer.cell[lane] = 0
        for window in self._windows():
            window.open(lane)

    def _windows(self) -> list[Window]:
        staged = [w for s in self._stages for w in (s.window, *(r.window for r in s.residuals))]
        return [self._frames, *staged, self._samples]

    def decode(self, parts: Sequence[Part]) -> list[Floats]:
        """The samples of each part's lane that have become final, [samples]."""
        made: list[list[Floats]] = [[] for _ in parts]
        for blocks in rounds(parts, BLOCK_FRAMES):
            indices = list(blocks)
            for batch in (indices[i : i + BATCH_LANES] for i in range(0, len(indices), BATCH_LANES)):
                for index, samples in zip(batch, self._decode_blocks([blocks[i] for i in batch]), strict=True):
                    made[index] += samples
        return [np.concatenate([self._out[:0], *samples]) for samples in made]

    def _decode_blocks(self, parts: Sequence[Part]) -> list[list[Floats]]:
        """At most BLOCK_FRAMES frames of each of at most BATCH_LANES lanes."""
        counts = self._enter(parts)
        self._remember(parts, counts)
        spans = self._raise(parts, counts)
        return [self._descend(part, *span) for part, span in zip(parts, spans, strict=True)]

    def _enter(self, parts: Sequence[Part]) -> list[int]:
        """Codes through the first convolution into `_states[0]`, lane after lane; how many rows each has there."""
        counts, at, window = [], 0, self._frames
        for part in parts:
            new = part.codes.shape[1]
            frames = window.rows[0, window.front : window.front + new]
            frames[:] = 0
            for book, codes in zip(self._codebooks, part.codes, strict=True):
                frames += book[codes]
            begin, ready = window.take(part.lane, new, part.last)
            self._workers.convolve(self._first, window.at(0, begin), ready, raw=self._states[0, at:].ctypes.data)
            counts.append(ready)
            at += ready
        return counts

    def _remember(self, parts: Sequence[Part], counts: Sequence[int]) -> None:
        """The LSTM, its input added, through ELU: from `_states[0]` into `_states[1]`."""
        total = sum(counts)
        firsts = np.cumsum([0, *counts[:-1]])
        # Longest first, so that the lanes that still have a frame are always the first ones.
        order = sorted(range(len(parts)), key=lambda i: -counts[i])
        lanes = [parts[i].lane for i in order]
        x, out = self._states
        for layer in self._lstm:
            self._workers.product(x.ctypes.data, x.strides[0], layer.entering, total, raw=self._gates.ctypes.data)
            hidden, cell = layer.hidden[lanes], layer.cell[lanes]
            last, gates = hidden.ctypes.data, self._recurrent.ctypes.data
            for frame in range(max(counts)):
                rows = np.array([firsts[i] + frame for i in order if counts[i] > frame])
                self._workers.product(last, hidden.strides[0], layer.recurrent, len(rows), raw=gates)
                kernels.lstm_cells(self._gates, self._recurrent, rows, cell, hidden, out)
            layer.hidden[lanes], layer.cell[lanes] = hidden, cell
            x = out
        kernels.add_elu(out[:total], self._states[0], out)

    def _raise(self, parts: Sequence[Part], counts: Sequence[int]) -> list[tuple[int, int]]:
        """The first transposed convolution, from `_states[1]` into `_raised`: (first sample, samples) of each lane."""
        stage = self._stages[0]
        window, up = stage.window, stage.up
        spans, at, taken = [], 0, 0
        for part, count in zip(parts, counts, strict=True):
            window.rows[0, window.front : window.front + count] = self._states[1, taken : taken + count]
            taken += count
            early = up.trim_start if window.is_fresh(part.lane) else 0
            begin, ready = window.take(part.lane, count, part.last)
            # Lanes lie one behind the other; the product of one's last row and the next one's first means nothing.
            self._joined[at : at + ready + 1] = window.rows[0, begin : begin + ready + 1]
            spans.append(up.span(at, ready, early, part.last))
            at += ready + 1
        joined, (activated, raw) = self._joined, self._raised
        self._workers.product(
            joined.ctypes.data,
            joined.strides[0],
            up.packed,
            max(0, at - 1),
            raw=raw.ctypes.data,
            activated=activated.ctypes.data,
        )
        return spans

    def _descend(self, part: Part, start: int, count: int) -> list[Floats]:
        """From `count` samples of `_raised` to those of the piece, block by block."""
        made = []
        size = TAIL_FRAMES * self._stages[0].up.stride
        for first in range(0, max(1, count), size):
            new = min(size, count - first)
            window = self._stages[0].residuals[0].window
            source = start + first
            window.rows[:, window.front : window.front + new] = self._raised[:, source : source + new]
            made.append(self._finish(part.lane, new, part.last and first + size >= count))
        return made

    def _finish(self, lane: int, new: int, last: bool) -> Floats:
        """From `new` samples of the first stage, before its residual blocks, to samples of the piece."""
        for stage, following in zip(self._stages, [*self._stages[1:], None], strict=True):
            if stage is not self._stages[0]:
                new = self._upsample(stage, lane, new, last)
            for block, after in zip(stage.residuals, [*stage.residuals[1:], None], strict=True):
                if after is not None:
                    activated, raw = (after.window.at(plane, after.window.front) for plane in (0, 1))
                else:
                    window = self._samples if following is None else following.window
                    activated, raw = window.at(0, window.front), 0
                new = self._residual(block, lane, new, last, activated, raw)
        begin, ready = self._samples.take(lane, new, last)
        self._workers.convolve(self._last, self._samples.at(0, begin), ready, raw=self._out.ctypes.data)
        return self._out[:ready].copy()

    def _upsample(self, stage: PackedStage, lane: int, new: int, last: bool) -> int:
        """`new` rows in the stage's window to rows in that of its first residual block: how many."""
        window, up, target = stage.window, stage.up, stage.residuals[0].window
        early = up.trim_start if window.is_fresh(lane) else 0
        begin, ready = window.take(lane, new, last)
        activated, raw = (target.at(plane, target.front - early) for plane in (0, 1))
        step = window.rows.strides[1]
        self._workers.product(window.at(0, begin), step, up.packed, ready, activated=activated, raw=raw)
        return up.span(0, ready, early, last)[1]

    def _residual(self, block: PackedResidual, lane: int, new: int, last: bool, activated: int, raw: int) -> int:
        """`new` rows in the block's window to rows at the two addresses: how many."""
        window, workers, middle = block.window, self._workers, block.middle.ctypes.data
        begin, ready = window.take(lane, new, last)
        workers.convolve(block.inner, window.at(0, begin), ready, activated=middle)
        unchanged = window.at(1, begin + window.shape.reach.left)
        if block.skip is not None:
            workers.convolve(block.skip, unchanged, ready, raw=block.skipped.ctypes.data)
            unchanged = block.skipped.ctypes.data
        workers.convolve(block.outer, middle, ready, addend=unchanged, activated=activated, raw=raw)
        return ready
