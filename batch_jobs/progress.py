"""How far a job is, as figures, and two ways to show them: a bar for a person, a line now and then for a log."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from batch_jobs.ledger import Totals

SECONDS_PER_LINE: Final = 5.0


@dataclass(frozen=True, slots=True)
class JobProgress:
    """Where a job stands `elapsed_s` after its first row went out to render."""

    rows: int
    totals: Totals
    elapsed_s: float

    @property
    def done(self) -> int:
        """Rows that have their outcome."""
        return self.totals.tracks + self.totals.failures

    @property
    def tracks_per_s(self) -> float:
        """Tracks a second since the start."""
        return self.totals.tracks / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds left at the rate so far; None until there is a rate."""
        return self.elapsed_s * (self.rows - self.done) / self.done if self.done else None

    def describe(self) -> str:
        """For example "12/24 rows · 10 tracks, 2 failed, 3 cached · 1.4 tracks/s · $0.00012 · 8 s left"."""
        left = "starting" if self.left_s is None else f"{self.left_s:.0f} s left"
        totals = self.totals
        return (
            f"{self.done}/{self.rows} rows · {totals.tracks} tracks, {totals.failures} failed, "
            f"{totals.cache_hits} cached · {self.tracks_per_s:.2f} tracks/s · ${totals.cost_usd:.6f} · {left}"
        )


class ProgressView(Protocol):
    """Shows progress while it is entered."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def __call__(self, progress: JobProgress) -> None:
        """Show this."""
        ...


class ProgressBar:
    """A bar on a terminal."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("rendering"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("rows", total=None, figures="starting")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def __call__(self, progress: JobProgress) -> None:
        """Move the bar."""
        figures = progress.describe().partition(" · ")[2]
        self._bar.update(self._task, total=progress.rows, completed=progress.done, figures=figures)


class ProgressLines:
    """A line every few seconds, and one at the end."""

    def __init__(self, out: TextIO, monotonic_s: Callable[[], float]) -> None:
        self._out = out
        self._monotonic_s = monotonic_s
        self._shown_s = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def __call__(self, progress: JobProgress) -> None:
        """Write a line if it is time for one."""
        if self._monotonic_s() - self._shown_s >= SECONDS_PER_LINE or progress.done == progress.rows:
            self._shown_s = self._monotonic_s()
            print(progress.describe(), file=self._out, flush=True)


def progress_view(monotonic_s: Callable[[], float]) -> ProgressView:
    """The view that suits standard error."""
    return ProgressBar() if sys.stderr.isatty() else ProgressLines(sys.stderr, monotonic_s)
