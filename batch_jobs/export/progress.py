"""How far an export is: lines for a person or a log, or a stream of JSON for a program, both on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final, Literal, TextIO

ProgressForm = Literal["lines", "json"]
SECONDS_PER_LINE: Final = 5.0


@dataclass(slots=True)
class Counts:
    """What became of the tracks so far. Each track is in one of `copied`, `there`, `withheld` and `failed`."""

    tracks: int = 0
    #: Something of it was written.
    copied: int = 0
    #: All of it was there already.
    there: int = 0
    #: Withdrawn, or on hold.
    withheld: int = 0
    failed: int = 0
    bytes: int = 0

    @property
    def done(self) -> int:
        """Tracks that are done with."""
        return self.copied + self.there + self.withheld + self.failed


class ExportProgress:
    """Says how far an export is: at once, every few seconds, and at the end. In JSON each line is one object."""

    def __init__(
        self, form: ProgressForm, monotonic_s: Callable[[], float], out: Callable[[], TextIO] = lambda: sys.stderr
    ) -> None:
        self._form = form
        self._monotonic_s = monotonic_s
        self._out = out
        self._begun_s = monotonic_s()
        self._said_s = self._begun_s
        self._state = ""
        self.say("reading", Counts())

    def tick(self, counts: Counts) -> None:
        """Say how far it is: when copying begins, and then every few seconds."""
        if self._state != "copying" or self._monotonic_s() - self._said_s >= SECONDS_PER_LINE:
            self.say("copying", counts)

    def say(self, state: str, counts: Counts, exit_code: int | None = None) -> None:
        """Say it now. `state` is reading, copying, or how it ended; then there is an exit code."""
        self._state, self._said_s = state, self._monotonic_s()
        elapsed_s = self._said_s - self._begun_s
        left_s = elapsed_s * (counts.tracks - counts.done) / counts.done if counts.done else None
        if self._form == "json":
            told = {
                "state": state,
                **asdict(counts),
                "elapsed_s": round(elapsed_s, 3),
                "left_s": None if left_s is None else round(left_s, 1),
            }
            line = json.dumps(told if exit_code is None else told | {"exit_code": exit_code})
        else:
            line = _in_words(state, counts, None if exit_code is not None else left_s)
        self._write(line)

    def note(self, text: str) -> None:
        """Say something that is no figure."""
        self._write(json.dumps({"note": text}) if self._form == "json" else f"export: {text}")

    def _write(self, line: str) -> None:
        out = self._out()
        out.write(f"{line}\n")
        out.flush()


def _in_words(state: str, counts: Counts, left_s: float | None) -> str:
    left = "" if left_s is None else f" · {left_s:.0f} s left"
    return (
        f"export: {state}: {counts.done}/{counts.tracks} tracks · {counts.copied} copied, "
        f"{counts.there} there already, {counts.withheld} withheld, {counts.failed} failed · "
        f"{counts.bytes / 1e6:.1f} MB{left}"
    )
