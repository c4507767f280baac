"""How far a job is, as figures, and three ways to show them: a bar, lines for a log, JSON for a program."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
        """Seconds left at the rate at which rows were rendered; None until one was.

        What was found in the store says nothing of how long the others take.
        """
        made = self.done_now - self.totals.cache_hits
        return self.elapsed_s * (self.rows - self.done) / made if made > 0 else None

    def describe(self) -> str:
        """For example "12/24 rows · 10 tracks, 2 failed, 3 cached · 1.4 tracks/s · $0.00012 · 8 s left"."""
        left = "time left unknown" if self.left_s is None else f"{self.left_s:.0f} s left"
        totals = self.totals
        return (
            f"{self.done}/{self.rows} rows · {totals.tracks} tracks, {totals.failures} failed, "
            f"{totals.cache_hits} cached · {self.tracks_per_s:.2f} tracks/s · ${totals.charged_usd:.6f} · {left}"
        )

    def to_values(self) -> dict[str, object]:
        """The same as JSON values."""
        return {
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


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: the last thing that is said of it."""

    exit_code: int
    #: complete, interrupted, budget, failed or unusable.
    state: str
    #: In a line.
    message: str
    #: Figures of the whole job, where it came so far: counts and money over all its runs.
    figures: Mapping[str, object] = field(default_factory=dict)


class ProgressView(Protocol):
    """Shows progress while it is entered."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def __call__(self, progress: JobProgress) -> None:
        """Show this. Any thread may, one at a time."""
        ...

    def say(self, what: str | None) -> None:
        """Show what the run is at or waits for; None: it renders, and nothing is in its way."""
        ...

    def end(self, ending: Ending) -> None:
        """Show how the run ended."""
        ...


class ProgressBar:
    """A bar on a terminal."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.fields[phase]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("rows", total=None, figures="", phase="starting")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def __call__(self, progress: JobProgress) -> None:
        """Move the bar."""
        figures = progress.describe().partition(" · ")[2]
        self._bar.update(self._task, total=progress.rows, completed=progress.done, figures=figures)

    def say(self, what: str | None) -> None:
        """Show it before the bar."""
        self._bar.update(self._task, phase=what or "rendering")

    def end(self, ending: Ending) -> None:
        """Leave the bar as it is, and write below it how it ended."""
        self._bar.stop()
        sys.stderr.write(ending.message + "\n")


class ProgressLines:
    """A line every few seconds, one for each thing that the run waits for, and one at the end."""

    def __init__(self, out: TextIO, monotonic_s: Callable[[], float]) -> None:
        self._out = out
        self._monotonic_s = monotonic_s
        self._shown_s = float("-inf")
        self._said: str | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def __call__(self, progress: JobProgress) -> None:
        """Write a line if it is time for one."""
        with self._lock:
            if self._monotonic_s() - self._shown_s >= SECONDS_PER_LINE or progress.done == progress.rows:
                self._shown_s = self._monotonic_s()
                print(progress.describe(), file=self._out, flush=True)

    def say(self, what: str | None) -> None:
        """Write it when it is something new."""
        with self._lock:
            if what is not None and what != self._said:
                print(what, file=self._out, flush=True)
            self._said = what

    def end(self, ending: Ending) -> None:
        """Write it."""
        with self._lock:
            print(ending.message, file=self._out, flush=True)


class JsonLines:
    """One JSON object a line, for a program: every line has `event`, and the last one is `end`."""

    def __init__(self, out: TextIO, monotonic_s: Callable[[], float]) -> None:
        self._out = out
        self._monotonic_s = monotonic_s
        self._began_s = monotonic_s()
        self._newest: JobProgress | None = None
        self._newest_s = self._began_s
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def __call__(self, progress: JobProgress) -> None:
        """Write it."""
        with self._lock:
            self._newest, self._newest_s = progress, self._monotonic_s()
            self._write("progress", progress.to_values() | {"waiting": None})

    def say(self, what: str | None) -> None:
        """Write it, with the figures as they are by now."""
        with self._lock:
            if self._newest is None:
                self._write("phase", {"waiting": what, "elapsed_s": round(self._monotonic_s() - self._began_s, 3)})
                return
            now = replace(self._newest, elapsed_s=self._newest.elapsed_s + self._monotonic_s() - self._newest_s)
            self._write("progress", now.to_values() | {"waiting": what})

    def end(self, ending: Ending) -> None:
        """Write the last line."""
        with self._lock:
            self._write(
                "end",
                {
                    "exit_code": ending.exit_code,
                    "state": ending.state,
                    "message": ending.message,
                    "elapsed_s": round(self._monotonic_s() - self._began_s, 3),
                    **ending.figures,
                },
            )

    def _write(self, event: str, values: Mapping[str, object]) -> None:
        # Whoever read this has gone; the run goes on.
        with suppress(BrokenPipeError):
            print(json.dumps({"event": event, **values}, allow_nan=False), file=self._out, flush=True)


def progress_view(form: ProgressForm, monotonic_s: Callable[[], float]) -> ProgressView:
    """The view that is asked for: JSON on standard output, alone there; the others on standard error.

    "auto" is a bar on a terminal and lines elsewhere.
    """
    if form == "json":
        return JsonLines(sys.stdout, monotonic_s)
    if form == "bar" or (form == "auto" and sys.stderr.isatty()):
        return ProgressBar()
    return ProgressLines(sys.stderr, monotonic_s)
