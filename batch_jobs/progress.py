"""How far a job is, as figures, and three ways to show them: a bar, lines for a log, JSON for a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from batch_jobs.ledger.snapshot import Totals
from batch_jobs.options import ProgressForm

SECONDS_PER_LINE: Final = 5.0


@dataclass(frozen=True, slots=True)
class JobProgress:
    """Where a job stands `elapsed_s` after this run began to render."""

    rows: int
    #: Rows that had their outcome before this run.
    done_before: int
    #: Sums over what this run did.
    totals: Totals
    elapsed_s: float

    @property
    def done_now(self) -> int:
        """Rows that got their outcome in this run."""
        return self.totals.tracks + self.totals.failures

    @property
    def done(self) -> int:
        """Rows that have their outcome."""
        return self.done_before + self.done_now

    @property
    def tracks_per_s(self) -> float:
        """Tracks a second since the start."""
        return self.totals.tracks / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds left at the rate so far; None until there is a rate."""
        return self.elapsed_s * (self.rows - self.done) / self.done_now if self.done_now else None

    def describe(self) -> str:
        """For example "12/24 rows · 10 tracks, 2 failed, 3 cached · 1.4 tracks/s · $0.00012 · 8 s left"."""
        left = "starting" if self.left_s is None else f"{self.left_s:.0f} s left"
        totals = self.totals
        return (
            f"{self.done}/{self.rows} rows · {totals.tracks} tracks, {totals.failures} failed, "
            f"{totals.cache_hits} cached · {self.tracks_per_s:.2f} tracks/s · ${totals.charged_usd:.6f} · {left}"
        )

    def to_json(self) -> str:
        """The same as one line of JSON."""
        values = {
            "rows": self.rows,
            "done": self.done,
            "done_before": self.done_before,
            "tracks": self.totals.tracks,
            "failures": self.totals.failures,
            "cache_hits": self.totals.cache_hits,
            "audio_s": round(self.totals.audio_s, 3),
            "charged_usd": self.totals.charged_usd,
            "tracks_per_s": round(self.tracks_per_s, 4),
            "elapsed_s": round(self.elapsed_s, 3),
            "left_s": None if self.left_s is None else round(self.left_s, 1),
        }
        return json.dumps(values, allow_nan=False)


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

    def __init__(self, out: TextIO, monotonic_s: Callable[[], float], line: Callable[[JobProgress], str]) -> None:
        self._out = out
        self._monotonic_s = monotonic_s
        self._line = line
        self._shown_s = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def __call__(self, progress: JobProgress) -> None:
        """Write a line if it is time for one."""
        if self._monotonic_s() - self._shown_s >= SECONDS_PER_LINE or progress.done == progress.rows:
            self._shown_s = self._monotonic_s()
            print(self._line(progress), file=self._out, flush=True)


def progress_view(form: ProgressForm, monotonic_s: Callable[[], float]) -> ProgressView:
    """The view that is asked for, on standard error; "auto" is a bar on a terminal and lines elsewhere."""
    if form == "json":
        return ProgressLines(sys.stderr, monotonic_s, JobProgress.to_json)
    if form == "bar" or (form == "auto" and sys.stderr.isatty()):
        return ProgressBar()
    return ProgressLines(sys.stderr, monotonic_s, JobProgress.describe)
