"""The decoder half of EnCodec on a CPU: stateful, batched over lanes (mono streams), bit by bit independent of both.

Quantised frames → convolution → LSTM → per stage: transposed convolution, residual blocks → convolution → samples.
All weights that are large beside their work (LSTM, first stage) multiply the rows of all lanes at once; from there on a
lane is taken through the rest alone, in blocks whose rows stay in the cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from orchestrion.models.musicgen import codec_kernels as kernels
from orchestrion.models.musicgen.codec_kernels import Floats, Packed
from orchestrion.models.musicgen.codec_window import SLACK, Part, Reach, Shape, Window, residual_reaches
from orchestrion.models.musicgen.geometry import CodecGeometry
from orchestrion.models.musicgen.kernels import PANEL
from orchestrion.models.musicgen.weights import CodecWeights, Conv, LstmLayer, Residual, Stage

#: Frames of a lane that are worked on at a time, up to the first stage …
BLOCK_FRAMES: Final = 25
#: … and after it.
TAIL_FRAMES: Final = 5
#: Lanes that are worked on at a time.
BATCH_LANES: Final = 16
NOTHING: Final[Floats] = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class PackedConv:
    """A convolution as a product. A narrow one makes `group` samples a row, so that a row fills a panel."""

    packed: Packed
    inputs: int
    outputs: int
    kernel: int
    dilation: int
    group: int

    @classmethod
    def of(cls, conv: Conv, dilation: int = 1) -> PackedConv:
        """Pack `conv`: weights [outputs, kernel · inputs], repeated one sample later for each sample of a group."""
        outputs, inputs, kernel = conv.weight.shape
        group = cls.group_of(outputs, dilation)
        one = conv.weight.permute(0, 2, 1).reshape(outputs, kernel * inputs)
        rows = torch.zeros(group, outputs, (group + kernel - 1) * inputs)
        for sample in range(group):
            rows[sample, :, sample * inputs : (sample + kernel) * inputs] = one
        packed = kernels.pack(rows.reshape(group * outputs, -1), conv.bias.repeat(group))
        return cls(packed, inputs, outputs, kernel, dilation, group)

    @staticmethod
    def group_of(outputs: int, dilation: int) -> int:
        """Samples a row."""
        return max(1, PANEL // outputs) if dilation == 1 else 1

    @classmethod
    def nbytes(cls, outputs: int, inputs: int, kernel: int, dilation: int = 1) -> int:
        """Memory of one of these sizes."""
        group = cls.group_of(outputs, dilation)
        return Packed.nbytes(group * outputs, (group + kernel - 1) * inputs)


@dataclass(frozen=True, slots=True)
class PackedTransposed:
    """A transposed convolution as a product: (x[t-1], x[t]) to `stride` samples."""

    packed: Packed
    stride: int
    outputs: int

    @classmethod
    def of(cls, conv: Conv) -> PackedTransposed:
        """Pack `conv`, whose kernel is twice its stride."""
        _, outputs, kernel = conv.weight.shape
        stride = kernel // 2
        late, early = conv.weight[:, :, stride:], conv.weight[:, :, :stride]
        rows = torch.cat([late, early]).permute(2, 1, 0).reshape(stride * outputs, -1)
        return cls(kernels.pack(rows, conv.bias.repeat(stride)), stride, outputs)

    @property
    def trim_start(self) -> int:
        """Samples too many at the start; of an odd number the start has more."""
        return self.stride - self.trim_end

    @property
    def trim_end(self) -> int:
        """Samples too many at the end."""
        return self.stride // 2

    def span(self, row: int, rows: int, early: int, last: bool) -> tuple[int, int]:
        """First sample and how many, of `rows` outputs from `row` on, without `early` and those beyond the end."""
        late = self.trim_end if last else 0
        return row * self.stride + early, max(0, rows * self.stride - early - late)


@dataclass(frozen=True, slots=True)
class PackedResidual:
    """A residual block with the window of its input."""

    window: Window
    inner: PackedConv
    outer: PackedConv
    skip: PackedConv | None
    #: Room for the inner signal, flat …
    middle: Floats
    #: … and, if there is a `skip`, for what comes through it.
    skipped: Floats

    @classmethod
    def of(cls, block: Residual, shape: Shape, dilation: int, lanes: int) -> PackedResidual:
        """Pack `block`."""
        inner, rows = PackedConv.of(block.inner, dilation), shape.outputs + SLACK
        skip = None if block.skip is None else PackedConv.of(block.skip)
        middle = np.zeros(rows * inner.outputs, np.float32)
        skipped = NOTHING if skip is None else np.zeros(rows * skip.outputs, np.float32)
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


def flat(rows: Floats, first: int) -> Floats:
    """The values of `rows` from `first` on, as they lie in memory."""
    return rows[first:].reshape(-1)


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
        width, stages, rows = geometry.filters * 2 ** len(geometry.ratios), [], frames.outputs
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
            weights += PackedConv.nbytes(inner, width, geometry.residual_kernel, geometry.dilation_base**layer)
            weights += PackedConv.nbytes(width, inner, 1)
            values += (shape.outputs + SLACK) * inner
            if not geometry.identity_skip:
                weights += PackedConv.nbytes(width, width, 1)
                values += (shape.outputs + SLACK) * width
    return weights + 4 * values


class CpuDecoder:
    """Codes of up to `lanes` mono pieces to their samples."""

    def __init__(self, geometry: CodecGeometry, weights: CodecWeights, lanes: int, threads: int) -> None:
        seanet, layout = weights.decoder, Layout.of(geometry)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None
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
        longest = max(part.codes.shape[1] for part in parts)
        for start in range(0, max(1, longest), BLOCK_FRAMES):
            going = [i for i, part in enumerate(parts) if start < max(1, part.codes.shape[1])]
            for batch in (going[i : i + BATCH_LANES] for i in range(0, len(going), BATCH_LANES)):
                blocks = [parts[i].between(start, start + BLOCK_FRAMES) for i in batch]
                for i, samples in zip(batch, self._decode_blocks(blocks), strict=True):
                    made[i] += samples
        return [np.concatenate([NOTHING, *samples]) for samples in made]

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
            self._convolve(self._first, window.flat(0, begin), ready, raw=flat(self._states[0], at))
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
            self._product(flat(x, 0), layer.entering.k, layer.entering, total, raw=flat(self._gates, 0))
            hidden, cell = layer.hidden[lanes], layer.cell[lanes]
            for frame in range(max(counts)):
                rows = np.array([firsts[i] + frame for i in order if counts[i] > frame])
                packed = layer.recurrent
                self._product(flat(hidden, 0), packed.k, packed, len(rows), raw=flat(self._recurrent, 0))
                kernels.lstm_cells(self._gates, self._recurrent, rows, cell, hidden, out)
            layer.hidden[lanes], layer.cell[lanes] = hidden, cell
            x = out
        size = total * out.shape[1]
        kernels.add_elu(flat(out, 0), flat(self._states[0], 0), flat(out, 0)[:size])

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
        self._product(
            flat(self._joined, 0),
            self._joined.shape[1],
            up.packed,
            max(0, at - 1),
            elu=flat(self._raised[0], 0),
            raw=flat(self._raised[1], 0),
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
                begin, ready = block.window.take(lane, new, last)
                if after is not None:
                    elu, raw = (after.window.flat(plane, after.window.front) for plane in (0, 1))
                else:
                    window = self._samples if following is None else following.window
                    elu, raw = window.flat(0, window.front), NOTHING
                self._residual(block, begin, ready, raw, elu)
                new = ready
        begin, ready = self._samples.take(lane, new, last)
        self._convolve(self._last, self._samples.flat(0, begin), ready, raw=self._out)
        return self._out[:ready].copy()

    def _upsample(self, stage: PackedStage, lane: int, new: int, last: bool) -> int:
        """`new` rows in the stage's window to rows in that of its first residual block: how many."""
        up, target = stage.up, stage.residuals[0].window
        early = up.trim_start if stage.window.is_fresh(lane) else 0
        begin, ready = stage.window.take(lane, new, last)
        elu, raw = (target.flat(plane, target.front - early) for plane in (0, 1))
        self._product(stage.window.flat(0, begin), stage.window.shape.channels, up.packed, ready, elu=elu, raw=raw)
        return up.span(0, ready, early, last)[1]

    def _residual(self, block: PackedResidual, begin: int, ready: int, raw: Floats, elu: Floats) -> None:
        window = block.window
        self._convolve(block.inner, window.flat(0, begin), ready, elu=block.middle)
        unchanged = window.flat(1, begin + window.shape.reach.left)
        if block.skip is not None:
            self._convolve(block.skip, unchanged, ready, raw=block.skipped)
            unchanged = block.skipped
        self._convolve(block.outer, block.middle, ready, addend=unchanged, raw=raw, elu=elu)

    def _convolve(
        self,
        conv: PackedConv,
        x: Floats,
        rows: int,
        *,
        addend: Floats = NOTHING,
        raw: Floats = NOTHING,
        elu: Floats = NOTHING,
    ) -> None:
        """`rows` outputs of `conv`; x flat, from the first output's first input on."""
        groups, step = -(-rows // conv.group), conv.group * conv.inputs
        if conv.dilation > 1:
            taps = x[: (rows + (conv.kernel - 1) * conv.dilation) * conv.inputs].reshape(-1, conv.inputs)
            shifted = [taps[k * conv.dilation : k * conv.dilation + rows] for k in range(conv.kernel)]
            x, step = np.concatenate(shifted, axis=1).reshape(-1), conv.packed.k
        elif conv.group > 1:
            # What the last group reads beyond its samples meets zero weights, but must be a number.
            x[(rows + conv.kernel - 1) * conv.inputs : groups * step + conv.packed.k - step] = 0
        self._product(x, step, conv.packed, groups, addend=addend, raw=raw, elu=elu)

    def _product(
        self,
        x: Floats,
        step: int,
        packed: Packed,
        rows: int,
        *,
        addend: Floats = NOTHING,
        raw: Floats = NOTHING,
        elu: Floats = NOTHING,
    ) -> None:
        """`kernels.product` by all threads: each some of the panels, or, when there are few, some of the rows."""

        def share(first_row: int, last_row: int, first_panel: int, last_panel: int) -> None:
            to = first_row * packed.n
            kernels.product(
                x[first_row * step :],
                step,
                packed.weight,
                packed.k,
                packed.n,
                packed.bias,
                last_row - first_row,
                first_panel,
                last_panel,
                addend[to:],
                raw[to:],
                elu[to:],
            )

        if self._pool is None or rows == 0:
            return share(0, rows, 0, packed.panels)
        by_panels = packed.panels >= rows // kernels.TILE
        size = packed.panels if by_panels else rows
        edges = [size * i // self._threads for i in range(self._threads + 1)]
        spans = [(a, b) for a, b in itertools.pairwise(edges) if a < b]
        tasks = [(0, rows, a, b) if by_panels else (a, b, 0, packed.panels) for a, b in spans]
        futures = [self._pool.submit(share, *task) for task in tasks[1:]]
        share(*tasks[0])
        for future in futures:
            future.result()
        return None
