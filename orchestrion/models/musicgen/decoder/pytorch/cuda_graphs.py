"""Steps of decoding as CUDA graphs: hundreds of kernels by one launch, which would be most of the time of a small step.

A graph is recorded for a number of rows and replayed for fewer, the rest padded.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import torch
from torch import Tensor

#: Steps up to these numbers of rows share a graph; above them one for each further 64.
GRAPH_ROWS: Final = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)
GRAPH_STEP: Final = 64

Shape = TypeVar("Shape", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Recorded:
    graph: torch.cuda.CUDAGraph
    #: [rows, fields], where the graph reads.
    table: Tensor
    #: [rows, codebooks], where it writes.
    codes: Tensor


class CudaGraphs(Generic[Shape]):
    """Replays `step(table, shape)`: recorded ahead by `record`, or when a number of rows and a shape are first met.

    `step` takes an int64 table [rows, fields] on the device and must neither wait for it nor allocate what outlives the
    call; `padding`, [fields] on the CPU, is a row that does no harm.
    """

    def __init__(
        self, step: Callable[[Tensor, Shape], Tensor], padding: Tensor, *, most_rows: int, device: torch.device
    ) -> None:
        self._step = step
        self._padding = padding
        self._device = device
        #: Where a table is put together for the device to fetch.
        self._staging = padding.repeat(graph_rows(most_rows), 1).pin_memory()
        self._recorded: dict[tuple[int, Shape], _Recorded] = {}
        # All share their memory, because they never run at the same time.
        self._pool = torch.cuda.graph_pool_handle()

    def replay(self, table: Tensor, shape: Shape) -> Tensor:
        """The codes for `table` [n, fields] on the CPU: [n, codebooks] on the device, until the next replay.

        Wait for them before the next replay: it fills the place from which the device fetches this table.
        """
        n, rows = len(table), graph_rows(len(table))
        if (rows, shape) not in self._recorded:
            self.record(rows, shape)
        recorded = self._recorded[rows, shape]
        self._staging[:n], self._staging[n:rows] = table, self._padding
        recorded.table.copy_(self._staging[:rows], non_blocking=True)
        recorded.graph.replay()
        return recorded.codes[:n]

    def record(self, rows: int, shape: Shape) -> None:
        """Make the graph for so many rows (see `graph_rows`) of this shape; it takes a part of a second."""
        table = self._padding.repeat(rows, 1).to(self._device)
        # Once outside the graph, so that kernels are compiled and loaded before it is recorded.
        self._step(table, shape)
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        # The codec's thread uses the card meanwhile; what it does must not end the recording, nor this what it does.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            codes = self._step(table, shape)
        self._recorded[rows, shape] = _Recorded(graph, table, codes)


def graph_rows(n: int) -> int:
    """The number of rows of the smallest graph that takes `n`."""
    return next((rows for rows in GRAPH_ROWS if rows >= n), -(-n // GRAPH_STEP) * GRAPH_STEP)


def graphs_up_to(n: int) -> Iterator[int]:
    """The numbers of rows of all graphs that steps of 1 to `n` rows take."""
    rows = 0
    while rows < n:
        rows = graph_rows(rows + 1)
        yield rows
