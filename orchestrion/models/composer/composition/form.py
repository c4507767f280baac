"""The form: which sections follow one another, how long each is and how much goes on in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from orchestrion.models.composer.metre import Metre
from orchestrion.models.composer.score import Section, TempoMap
from orchestrion.tracks.section import Section as AskedSection

#: The order of sections after the intro, and how much is going on in each: 1 (bare) … 4 (everything).
_CYCLE: Final = (("A", 2), ("B", 3), ("A", 3), ("C", 2), ("B", 4), ("A", 3), ("B", 4), ("C", 1))


class _Shape(NamedTuple):
    material: str
    level: int
    growth: float = 0.06


#: What a section that is asked by its name is made of.
_SHAPES: Final[dict[str, _Shape]] = {
    "intro": _Shape("intro", 1), "verse": _Shape("A", 2), "chorus": _Shape("B", 4), "bridge": _Shape("C", 2),
    "build-up": _Shape("C", 3, 0.35), "drop": _Shape("B", 4), "part a": _Shape("A", 3), "part b": _Shape("B", 3),
    "outro": _Shape("outro", 2, -0.2),
}  # fmt: skip
#: What an intro or outro of unsaid length has of the share of others.
_SHORT: Final = frozenset({"intro", "outro"})


def build_form(bars: int, section_bars: int, energy: float) -> tuple[Section, ...]:
    """Sections for `bars` bars before the final chord: an intro, A, B and C in turn, an outro.

    The last section before the outro is the fullest. Calm pieces stay one level lower, driven ones start higher.
    """
    if bars <= 0:
        return ()
    intro = 0 if bars < 8 else 2 if bars < 24 else 4 if bars < 56 else 8
    outro = 0 if bars < 16 else 2 if bars < 24 else 4
    middle = bars - intro - outro
    half = section_bars // 2 if section_bars % 2 == 0 else section_bars
    unit = section_bars if middle >= 2 * section_bars else half
    lengths = [unit] * (middle // unit)
    rest = middle - sum(lengths)
    if rest >= 4 or not lengths:
        lengths.append(rest)
    elif rest:
        # Odd bars lengthen the outro where there is one, the intro where there is none.
        intro, outro = (intro, outro + rest) if outro else (intro + rest, outro)
    labels = [_CYCLE[i % len(_CYCLE)] for i in range(len(lengths))]
    if len(labels) > 2 and labels[-1][0] != "B":
        labels[-1] = ("B", 4) if labels[-2][0] != "B" else ("A", 4)
    plan = [("intro", intro, 1)] if intro else []
    plan += [(label, length, level) for (label, level), length in zip(labels, lengths, strict=True)]
    if len(lengths) > 1:
        label, length, level = plan[-1]
        plan[-1] = (label, length, 4 if len(lengths) > 2 else max(3, level))
    if outro:
        plan.append(("outro", outro, 2))
    sections, first_bar = [], 0
    for label, length, level in plan:
        sections.append(Section(label, first_bar, length, _moved(label, level, energy)))
        first_bar += length
    return tuple(sections)


def _moved(label: str, level: int, energy: float) -> int:
    shift = -1 if energy < 0.3 else 1 if energy > 0.8 else 0
    return level if label == "intro" else int(np.clip(level + shift, 1, 4))


def loop_form(bars: int, section_bars: int, energy: float) -> tuple[Section, ...]:
    """Sections for a loop: A and B in turn, all alike full, so that the last leads to the first."""
    level = _moved("A", 3, energy)
    starts = range(0, bars, section_bars)
    return tuple(
        Section("AB"[number % 2], first, min(section_bars, bars - first), level, growth=0.0)
        for number, first in enumerate(starts)
    )


def asked_form(
    asked: Sequence[AskedSection], bars: int, metre: Metre, tempo: TempoMap, energy: float
) -> tuple[Section, ...]:
    """The sections that were asked for, in their order, over `bars` bars before the final chord.

    Lengths in bars are kept; where a length in seconds ends, the nearest bar line is. The last section reaches to the
    end of the piece, and every section has a bar at least while there are bars.
    """
    ends: list[int] = []
    for number, end in enumerate(_ends(asked, bars, metre, tempo)):
        last = ends[-1] if ends else 0
        after = len(asked) - number - 1
        ends.append(bars if after == 0 else max(min(last + 1, bars), min(end, bars - after)))
    sections, first = [], 0
    for section, end in zip(asked, ends, strict=True):
        shape = _SHAPES[section.name]
        if end > first:
            level = _moved(section.name, shape.level, energy)
            sections.append(Section(section.name, first, end - first, level, shape.material, shape.growth))
        first = end
    return tuple(sections)


def _ends(asked: Sequence[AskedSection], bars: int, metre: Metre, tempo: TempoMap) -> list[int]:
    """The bar at which each section should end."""
    whole_s = tempo.seconds(bars * metre.beats)
    bar_s = whole_s / bars if bars else 0.0
    said_s = sum(section.duration_s or (section.bars or 0) * bar_s for section in asked)
    shares = [0.5 if section.name in _SHORT else 1.0 for section in asked if _is_open(section)]
    share_s = max(0.0, whole_s - said_s) / sum(shares) if shares else 0.0
    ends, end, at_s = [], 0, 0.0
    for section in asked:
        if section.bars is not None:
            end += section.bars
            at_s += section.bars * bar_s
        else:
            # Counted from where the section before should have ended, so that roundings do not add up.
            at_s += section.duration_s or share_s * (0.5 if section.name in _SHORT else 1.0)
            end = round(tempo.beat(at_s) / metre.beats)
        ends.append(end)
    return ends


def _is_open(section: AskedSection) -> bool:
    return section.duration_s is None and section.bars is None


def sections_error_s(asked: Sequence[AskedSection], metre: Metre, bpm: float) -> float:
    """How far the sections begin from bar lines at a steady tempo, at most, in seconds."""
    bar_s, at_s, worst = metre.beats * 60 / bpm, 0.0, 0.0
    for section in asked[:-1]:
        at_s += section.duration_s or (section.bars or 0) * bar_s
        worst = max(worst, abs(at_s - round(at_s / bar_s) * bar_s))
    return worst
