"""How long a piece is, and how fast, where a request says it in bars or in sections.

Bars, metre, tempo and length are four figures of which three give the fourth. What a field of the request says holds;
what its prompt says holds where the fields leave it open; what is open then is chosen here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from orchestrion.errors import InvalidRequest
from orchestrion.tracks.request import (
    DEFAULT_DURATION_S,
    MAX_DURATION_S,
    MAX_TEMPO_BPM,
    MIN_DURATION_S,
    MIN_SECTION_S,
    MIN_TEMPO_BPM,
)
from orchestrion.tracks.section import Section, text_of_sections
from orchestrion.tracks.vocabulary import METRES, STYLE_METRES

#: For bars whose length nothing says.
DEFAULT_TEMPO_BPM: Final = 120.0
#: Loops have bars in fours, where they have as many.
_LOOP_BARS: Final = 4
_DEFAULT_METRE: Final = "4/4"
#: Lengths that differ by no more are the same: what is rendered is exact to that, too.
TOLERANCE_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says of its length and tempo: fields of `TrackSpec`, and what its prompt says."""

    duration_s: float | None
    tempo_bpm: float | None
    tempo_end_bpm: float | None
    metre: str | None
    style: str | None
    bars: int | None
    sections: tuple[Section, ...] | None
    loop: bool
    said_duration_s: float | None
    said_tempo_bpm: float | None

    @property
    def counted_metre(self) -> str:
        """The metre that bars are counted in."""
        return self.metre or STYLE_METRES.get(self.style or "", _DEFAULT_METRE)

    @property
    def counted_bars(self) -> int | None:
        """The bars of the whole piece, if they are known."""
        if self.bars is not None or not self.sections:
            return self.bars
        in_bars = [section.bars for section in self.sections if section.bars is not None]
        return sum(in_bars) if len(in_bars) == len(self.sections) else None

    def seconds(self, bars: int, tempo_bpm: float) -> float:
        """How long so many bars last that begin at this tempo. It changes evenly, so its mean is what counts."""
        mean_bpm = tempo_bpm if self.tempo_end_bpm is None else (tempo_bpm + self.tempo_end_bpm) / 2
        return bars * METRES[self.counted_metre] * 60.0 / mean_bpm

    def tempo_for(self, bars: int, duration_s: float) -> float:
        """The tempo to begin at, so that the bars last so long. It may be out of range."""
        mean_bpm = bars * METRES[self.counted_metre] * 60.0 / duration_s
        return mean_bpm if self.tempo_end_bpm is None else 2 * mean_bpm - self.tempo_end_bpm


def length_and_tempo(asked: Asked) -> tuple[float, float | None]:
    """The length in seconds, and the tempo in bpm; None: the model chooses.

    Raises:
        InvalidRequest: fields contradict each other, or the length or the tempo is out of range.
    """
    if asked.sections:
        _check_bars_of_sections(asked.sections, asked.bars)
    bars = asked.counted_bars
    tempo_bpm = asked.said_tempo_bpm if asked.tempo_bpm is None else asked.tempo_bpm
    if bars is not None:
        duration_s, tempo_bpm = _of_bars(asked, bars)
        if asked.sections and any(section.bars is None for section in asked.sections):
            _of_sections(asked, asked.sections, tempo_bpm, asked.seconds(bars, tempo_bpm))
    elif asked.sections:
        if tempo_bpm is None and any(section.bars is not None for section in asked.sections):
            tempo_bpm = DEFAULT_TEMPO_BPM
        duration_s = _of_sections(asked, asked.sections, tempo_bpm, asked.duration_s)
    elif asked.loop and tempo_bpm is not None and asked.duration_s is None and asked.said_duration_s is None:
        # Whole bars at the tempo that is asked for, in fours where there are so many, as near to the usual length.
        bar_s = asked.seconds(1, tempo_bpm)
        unit = _LOOP_BARS if _LOOP_BARS * bar_s <= DEFAULT_DURATION_S else 1
        duration_s = max(1, round(DEFAULT_DURATION_S / bar_s / unit)) * unit * bar_s
    else:
        return _first(asked.duration_s, asked.said_duration_s, DEFAULT_DURATION_S), tempo_bpm
    if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S:
        message = f"last {duration_s:.6g} s together; a track has {MIN_DURATION_S:g} to {MAX_DURATION_S:g} s"
        raise _refusal(asked, message)
    return duration_s, tempo_bpm


def _of_bars(asked: Asked, bars: int) -> tuple[float, float]:
    """Length and tempo of a piece of so many bars."""
    if asked.tempo_bpm is not None:
        duration_s = asked.seconds(bars, asked.tempo_bpm)
        if asked.duration_s is None:
            return duration_s, asked.tempo_bpm
        if not _ends_within(asked, bars, asked.tempo_bpm, asked.duration_s):
            raise _contradiction(asked, bars, asked.tempo_bpm, duration_s)
        return asked.duration_s, asked.tempo_bpm
    said_bpm = asked.said_tempo_bpm
    if asked.duration_s is not None:
        if said_bpm is not None and _ends_within(asked, bars, said_bpm, asked.duration_s):
            return asked.duration_s, said_bpm
        tempo_bpm = asked.tempo_for(bars, asked.duration_s)
        if not MIN_TEMPO_BPM <= tempo_bpm <= MAX_TEMPO_BPM:
            what = f"{bars} bars of {asked.counted_metre} in {asked.duration_s:g} s are {tempo_bpm:g} bpm"
            remedy = f"a tempo is {MIN_TEMPO_BPM:g} to {MAX_TEMPO_BPM:g}; give other bars or another duration_s"
            raise _refusal(asked, f"{what}; {remedy}")
        return asked.duration_s, tempo_bpm
    if said_bpm is None and asked.said_duration_s:
        tempo_bpm = asked.tempo_for(bars, asked.said_duration_s)
        if MIN_TEMPO_BPM <= tempo_bpm <= MAX_TEMPO_BPM:
            return asked.said_duration_s, tempo_bpm
    tempo_bpm = DEFAULT_TEMPO_BPM if said_bpm is None else said_bpm
    return asked.seconds(bars, tempo_bpm), tempo_bpm


def _ends_within(asked: Asked, bars: int, tempo_bpm: float, duration_s: float) -> bool:
    """Whether a piece of this length holds the bars and no more: a last chord may ring on for a bar, a loop may not."""
    rest_s = duration_s - asked.seconds(bars, tempo_bpm)
    ring_s = 0.0 if asked.loop else asked.seconds(1, tempo_bpm)
    return -TOLERANCE_S <= rest_s <= ring_s + TOLERANCE_S


def _contradiction(asked: Asked, bars: int, tempo_bpm: float, duration_s: float) -> InvalidRequest:
    what = f"{bars} bars of {asked.counted_metre} at {tempo_bpm:g} bpm last {duration_s:.6g} s"
    field = "sections" if asked.bars is None else "bars"
    return _refusal(
        asked, f"{what}, but duration_s is {asked.duration_s:g}; leave out one of {field}, tempo_bpm and duration_s"
    )


def _refusal(asked: Asked, message: str) -> InvalidRequest:
    """What is wrong with the bars of a piece, at the field that gives them."""
    if asked.bars is None and asked.sections:
        return InvalidRequest.of("sections", text_of_sections(asked.sections), message)
    return InvalidRequest.of("bars", asked.bars, message)


def _check_bars_of_sections(sections: Sequence[Section], bars: int | None) -> None:
    counted = sum(section.bars or 0 for section in sections)
    all_counted = all(section.bars is not None for section in sections)
    if bars is not None and (counted > bars or (all_counted and counted < bars)):
        message = (
            f"have {counted} bars together, but bars is {bars}; give the sections other lengths, or leave bars out"
        )
        raise InvalidRequest.of("sections", text_of_sections(sections), message)


def _of_sections(asked: Asked, sections: Sequence[Section], tempo_bpm: float | None, duration_s: float | None) -> float:
    """The length of sections of which some may have none of their own; `duration_s` is what they have to fill."""
    known = [length_s for section in sections if (length_s := _seconds_of(asked, section, tempo_bpm)) is not None]
    known_s, open_count = sum(known), len(sections) - len(known)
    if duration_s is None and known:
        # Those without a length are as long as the others are on average.
        return known_s * len(sections) / len(known)
    if duration_s is None:
        duration_s = _first(asked.said_duration_s, DEFAULT_DURATION_S)
    left_s = duration_s - known_s
    if open_count and left_s < open_count * MIN_SECTION_S:
        message = (
            f"leave {left_s:.6g} s of {duration_s:g} for {open_count} without a length, which have at least "
            f"{MIN_SECTION_S:g} s each; make the others shorter or the track longer"
        )
        raise InvalidRequest.of("sections", text_of_sections(sections), message)
    if not open_count and abs(left_s) > TOLERANCE_S:
        message = (
            f"last {known_s:.6g} s together, but the track {duration_s:.6g} s; leave out duration_s or bars, or the "
            "length of a section"
        )
        raise InvalidRequest.of("sections", text_of_sections(sections), message)
    return duration_s


def _seconds_of(asked: Asked, section: Section, tempo_bpm: float | None) -> float | None:
    if section.bars is None or tempo_bpm is None:
        return section.duration_s
    return asked.seconds(section.bars, tempo_bpm)


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)
