"""Convolutions as products of overlapping rows with packed weights, divided among threads."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from orchestrion.models.musicgen.codec import kernels
from orchestrion.models.musicgen.codec.kernels import Packed
from orchestrion.models.musicgen.native.emitter import PANEL
from orchestrion.models.musicgen.weights import Conv


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


class Workers:
    """The threads that a codec's products are divided among. Who does which part changes no bit of it."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None

    def product(
        self, x: int, step: int, packed: Packed, rows: int, *, addend: int = 0, raw: int = 0, activated: int = 0
    ) -> None:
        """`kernels.product`, all panels: each thread does some of them or, when they are few, some of the rows."""

        def share(first_row: int, last_row: int, first_panel: int, last_panel: int) -> None:
            done = 4 * first_row * packed.n
            kernels.product(
                x + first_row * step,
                step,
                packed.weight.ctypes.data,
                packed.k,
                packed.n,
                packed.bias.ctypes.data,
                last_row - first_row,
                first_panel,
                last_panel,
                addend and addend + done,
                raw and raw + done,
                activated and activated + done,
            )

        if self._pool is None or rows == 0:
            return share(0, rows, 0, packed.panels)
        by_panels = packed.panels >= rows // kernels.TILE
        size = packed.panels if by_panels else rows
        edges = [size * i // self._threads for i in range(self._threads + 1)]
        spans = [(first, last) for first, last in itertools.pairwise(edges) if first < last]
        tasks = [(0, rows, *span) if by_panels else (*span, 0, packed.panels) for span in spans]
        others = [self._pool.submit(share, *task) for task in tasks[1:]]
        share(*tasks[0])
        for other in others:
            other.result()
        return None

    def convolve(
        self, conv: PackedConv, x: int, rows: int, *, addend: int = 0, raw: int = 0, activated: int = 0
    ) -> None:
        """`rows` outputs of `conv`, x being where the first one's inputs begin; at most `conv.group` - 1 more."""
        if conv.dilation > 1:
            taps = np.empty((rows, conv.packed.k), np.float32)
            kernels.unfold(x, rows, conv.inputs, conv.kernel, conv.dilation, taps.ctypes.data)
            self.product(
                taps.ctypes.data, taps.strides[0], conv.packed, rows, addend=addend, raw=raw, activated=activated
            )
            return
        groups = -(-rows // conv.group)
        # What the last group reads beyond its samples meets zero weights, but must be a number.
        beyond = (groups * conv.group - rows) * conv.inputs
        kernels.clear(x + 4 * (rows + conv.kernel - 1) * conv.inputs, beyond)
        step = 4 * conv.group * conv.inputs
        self.product(x, step, conv.packed, groups, addend=addend, raw=raw, activated=activated)
