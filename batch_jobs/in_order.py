"""Work in a pool of threads whose results come in order, with a bounded number of them ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from typing import Final, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

#: How many items are given to the pool before the first of them is waited for.
AHEAD: Final = 64
#: How long a result is waited for in silence.
SILENCE_S: Final = 5.0


def in_order(
    pool: Executor,
    work: Callable[[_Item], _Result],
    items: Iterable[_Item],
    while_waiting: Callable[[], None],
    silence_s: float = SILENCE_S,
    ahead: int = AHEAD,
) -> Iterator[_Result]:
    """The result of each item, in order. What `work` raises is raised here, and nothing more is begun.

    Args:
        pool: does the work.
        work: what is to be done with an item.
        items: one after the other, as there is room for them.
        while_waiting: called each time that a result has kept us waiting for so long.
        silence_s: how long that is.
        ahead: how many items are given to the pool before the first of them is waited for.
    """

    def result_of(future: Future[_Result]) -> _Result:
        while not wait((future,), silence_s).done:
            while_waiting()
        return future.result()

    begun: deque[Future[_Result]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) >= ahead:
                yield result_of(begun.popleft())
        while begun:
            yield result_of(begun.popleft())
    finally:
        for future in begun:
            future.cancel()
