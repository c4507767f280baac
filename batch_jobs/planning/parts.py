"""A catalog's rows in parts: those that an earlier run has planned are read again, the others planned and kept.

Parts are of some thousand rows. What they come to does not depend on the other parts, so they are planned by several
processes, and a run that was killed while it planned goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Any, Final

from batch_jobs.catalog.rows import ReadRow
from batch_jobs.in_order import in_order
from batch_jobs.job_store.plan_parts import PlanPart, PlanParts
from batch_jobs.planning.planned_rows import RowSettings, unpacked
from batch_jobs.planning.planners import Planners, pack_rows, plan_blocks

#: Rows of a part, at most, and bytes of what was read of them.
PART_ROWS: Final = 2048
PART_BYTES: Final = 4 * 1024 * 1024
#: Rows that are packed together: a part can be so many rows of 64 kB larger than `PART_BYTES`.
_BLOCK_ROWS: Final = 64
#: A catalog of fewer parts is planned before another process would have started.
_PARTS_ALONE: Final = 4
#: Kept parts that are read side by side: a bucket answers slowly.
_READERS: Final = 4


@dataclass(frozen=True, slots=True)
class _Unplanned:
    """What was read of the rows of a part, packed."""

    number: int
    reads: int
    is_last: bool
    blocks: tuple[bytes, ...]


def planned_parts(
    read: Callable[[], Iterator[ReadRow]], settings: RowSettings, kept: PlanParts | None
) -> Iterator[Iterator[tuple[Any, ...]]]:
    """The rows of each part, in order, each row the values of a `PlannedRow`.

    Args:
        read: the catalog's rows, from the first on; called where they are not all kept.
        settings: how they are planned.
        kept: what earlier runs have planned, and where to keep what this one does; None to do neither.
    """
    number, reads = 0, 0
    for part in _kept(kept) if kept is not None else ():
        yield unpacked(part.rows)
        if part.is_last:
            return
        number, reads = number + 1, reads + part.reads
    yield from map(unpacked, _planned(_in_parts(islice(read(), reads, None), number), settings, kept))


def _kept(parts: PlanParts) -> Iterator[PlanPart]:
    """The parts that are there, up to the first that is not."""
    first = parts.part(0)
    if first is None:
        return
    yield first
    if first.is_last:
        return
    with ThreadPoolExecutor(_READERS, thread_name_prefix="plan-parts") as pool:
        for part in in_order(pool, parts.part, count(1), lambda: None, ahead=_READERS):
            if part is None:
                return
            yield part
            if part.is_last:
                return


def _in_parts(reads: Iterable[ReadRow], number: int) -> Iterator[_Unplanned]:
    """Cut rows into parts; `number` is that of the first."""
    rows = iter(reads)
    blocks: list[bytes] = []
    taken, size = 0, 0
    block = list(islice(rows, _BLOCK_ROWS))
    while block:
        blocks.append(pack_rows(block))
        taken, size = taken + len(block), size + len(blocks[-1])
        block = list(islice(rows, _BLOCK_ROWS))
        if block and (taken >= PART_ROWS or size >= PART_BYTES):
            yield _Unplanned(number, taken, False, tuple(blocks))
            number, blocks, taken, size = number + 1, [], 0, 0
    yield _Unplanned(number, taken, True, tuple(blocks))


def _planned(parts: Iterator[_Unplanned], settings: RowSettings, kept: PlanParts | None) -> Iterator[bytes]:
    def plan(part: _Unplanned, plan_of: Callable[[tuple[bytes, ...]], bytes]) -> bytes:
        rows = plan_of(part.blocks)
        # A small catalog is read again as soon as its plan.
        if kept is not None and not (part.is_last and part.number == 0):
            kept.keep(part.number, PlanPart(part.reads, part.is_last, rows))
        return rows

    first = list(islice(parts, _PARTS_ALONE))
    if len(first) < _PARTS_ALONE:
        yield from (plan(part, lambda blocks: plan_blocks(blocks, settings)) for part in first)
        return
    with Planners(settings) as planners, ThreadPoolExecutor(planners.count, thread_name_prefix="planners") as pool:
        yield from in_order(
            pool, lambda part: plan(part, planners.plan), chain(first, parts), lambda: None, ahead=2 * planners.count
        )
