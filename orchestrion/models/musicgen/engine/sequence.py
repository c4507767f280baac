"""One piece on its way through the decoder: its windows, its columns in the delay pattern, its codes so far.

All arithmetic of the delay pattern is here. In a window of F frames, codebook q of frame f stands in column f +
delays[q] + 1; column 0 is all special tokens; feeding column c to the decoder gives column c + 1. A prompt, the context
that a window takes over, a piece that lost its slot and one that another process began are all treated alike: as
columns that are known and not yet fed.

The pattern and the windows follow MusicGen (Copet et al., 2023, arXiv:2306.05284) as its reference code runs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orchestrion.models.musicgen.decoder.decoder import Ints
from orchestrion.models.musicgen.geometry import LmGeometry

#: A place whose code has not been drawn yet.
UNKNOWN: Final = -1


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of the piece that the model sees at once. Its first `prompt_frames` are known when it begins."""

    start_frame: int
    prompt_frames: int
    frames: int


def stride_of(window_frames: int, usual_frames: int) -> int:
    """By how many frames each further window of a long piece moves on: `usual_frames` where the windows are longer.

    Shorter ones keep two fifths of what came before, as the published ones do (12 s of 30).
    """
    return usual_frames if usual_frames < window_frames else max(1, 3 * window_frames // 5)


def plan_windows(total_frames: int, prompt_frames: int, window_frames: int, stride_frames: int) -> tuple[Window, ...]:
    """The windows that make a piece of `total_frames`, the first `prompt_frames` of which are given.

    Each window after the first starts `stride_frames` later and keeps the rest of the one before as its context. A
    prompt that fills a window is heard from its end, as far as such a context goes.
    """
    if not 0 < stride_frames <= window_frames:
        raise ValueError(f"windows of {window_frames} frames, {stride_frames} apart: some frames would be in none")
    context_frames = window_frames - stride_frames
    start = max(0, prompt_frames - context_frames) if prompt_frames >= window_frames else 0
    known = prompt_frames
    windows = []
    while known < total_frames:
        frames = min(total_frames - start, window_frames)
        windows.append(Window(start, known - start, frames))
        known = start + frames
        start += stride_frames
    return tuple(windows)


class Sequence:
    """The codes of one piece and how far the decoder is with them."""

    def __init__(self, geometry: LmGeometry, total_frames: int, known: Ints, windows: tuple[Window, ...]) -> None:
        """A piece at its beginning, or as far as it came elsewhere.

        The codes that another process drew for frames it did not complete are drawn again: they are the same, because
        all columns before them are.

        Args:
            geometry: codebooks, delays and the special token.
            total_frames: frames of the whole piece, prompt included.
            known: [codebooks, frames] of codes that the piece begins with: its prompt, and what was drawn of it
                elsewhere; no frames for none.
            windows: `plan_windows` for this length and the prompt's, wherever the piece was cut off.
        """
        self._geometry = geometry
        self._delays = np.asarray(geometry.delays)
        self._max_delay = geometry.max_delay
        self.total_frames = total_frames
        self._codes = np.full((geometry.codebooks, total_frames), UNKNOWN, np.int64)
        self._codes[:, : known.shape[1]] = known
        self._windows = windows
        #: Frames from the beginning whose codes are all known.
        self.ready_frames: int = known.shape[1]
        self._settled_frames = self.ready_frames
        self._window_index: int = sum(window.start_frame + window.frames <= self.ready_frames for window in windows)
        if not self.is_done:
            self._lay_out()

    @property
    def codes(self) -> Ints:
        """[codebooks, total_frames]; UNKNOWN from `ready_frames` on."""
        self._settle()
        return self._codes

    @property
    def settled(self) -> Ints:
        """[codebooks, frames]: the codes of most frames that are ready; up to the last when a window ends.

        Any thread may look, also while another one draws.
        """
        return self._codes[:, : self._settled_frames]

    @property
    def window(self) -> Window:
        """The window being made."""
        return self._windows[self._window_index]

    @property
    def is_done(self) -> bool:
        """Whether every code is known."""
        return self._window_index == len(self._windows)

    @property
    def columns_to_go(self) -> int:
        """Columns that are still to be drawn, over all windows."""
        if self.is_done:
            return 0
        later = self._windows[self._window_index + 1 :]
        return (
            len(self._columns)
            - self._known
            + sum(window.frames - window.prompt_frames + self._geometry.max_delay for window in later)
        )

    def pending(self, prefix_columns: int) -> int:
        """Positions that are known and not yet in the decoder's cache: 1 while decoding, more before that."""
        return prefix_columns + self._known - self._fed

    def rows(self, count: int, prefix_columns: int) -> tuple[Ints, Ints]:
        """The next `count` pending positions and their tokens: [count], [count, codebooks]."""
        positions = np.arange(self._fed, self._fed + count)
        begin = self._fed - prefix_columns
        if begin >= 0:
            return positions, self._columns[begin : begin + count]
        return positions, self._columns[np.maximum(positions - prefix_columns, 0)]

    def fed(self, count: int) -> None:
        """Note that the decoder has `count` more positions."""
        self._fed += count

    def next_column(self) -> int:
        """The column to be drawn next, counted from the beginning of the piece; the same in whichever window."""
        return self.window.start_frame + self._known

    def accept(self, tokens: Ints) -> bool:
        """Take the codes drawn for the next column, [codebooks]; whether this ended the window.

        Codes that the prompt gives, and places that have no frame, stay as they are.
        """
        column = self._columns[self._known]
        np.copyto(column, tokens, where=column == UNKNOWN)
        self._known += 1
        complete = min(self._known - 1 - self._max_delay, self.window.frames)
        self.ready_frames = max(self.ready_frames, self.window.start_frame + complete)
        if self._known < len(self._columns):
            return False
        self._settle()
        self._window_index += 1
        if not self.is_done:
            self._lay_out()
        return True

    def restart(self) -> None:
        """Forget what the decoder has: the window's known columns are to be fed again."""
        self._fed = 0

    def _settle(self) -> None:
        """Copy the codes of frames that have become ready out of the window's columns: rarely, not at each step."""
        if self._settled_frames == self.ready_frames:
            return
        frames = np.arange(self._settled_frames, self.ready_frames)
        columns = frames - self.window.start_frame + 1 + self._delays[:, None]  # [codebooks, frames]
        self._codes[:, frames] = self._columns[columns, np.arange(len(columns))[:, None]]
        # Last, because another thread may look: what counts as settled must be there.
        self._settled_frames = self.ready_frames

    def _lay_out(self) -> None:
        """The present window's columns, [frames + max_delay + 1, codebooks]."""
        window, geometry = self.window, self._geometry
        columns = np.arange(window.frames + geometry.max_delay + 1)
        frames = columns[:, None] - 1 - self._delays  # [columns, codebooks]
        has_frame = (frames >= 0) & (frames < window.frames)
        places = window.start_frame + np.clip(frames, 0, window.frames - 1)
        codes = self._codes[np.arange(geometry.codebooks), places]
        self._columns = np.where(has_frame, codes, geometry.special_token)
        # The first column with an unknown code is the one that the first frame which is not ready begins in.
        self._known = self.ready_frames - window.start_frame + 1
        self._fed = 0
