"""What an upload is for, and what was found in it. Apart from the reading, which loads much and has its own process."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class UploadUse(StrEnum):
    """The field of a request that is to name it."""

    THEME = "theme"
    CONTINUATION = "continuation"


@dataclass(frozen=True, slots=True)
class UploadReading:
    """What was read of a file: what it is, how long, and of a theme its melody."""

    #: As its sender would call it: "MIDI", "WAV", "M4A".
    kind: str
    duration_s: float
    #: Notes of the melody, of which a long one has more than are used; None: it is not for a theme.
    notes: int | None = None
    #: As "A minor", by the melody's notes.
    key: str | None = None
    tempo_bpm: float | None = None
    #: As "3/4"; None: the file does not say, and the notes do not show it plainly.
    metre: str | None = None
