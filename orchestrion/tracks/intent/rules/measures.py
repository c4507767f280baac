"""What can be counted: length, tempo and how it changes, bars, sections, metre, fades, loudness, rate."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from orchestrion.tracks.intent.lexicon import Match
from orchestrion.tracks.intent.rules.amounts import Amount, Range, as_said
from orchestrion.tracks.intent.rules.findings import Findings, Span
from orchestrion.tracks.intent.rules.negations import Negations
from orchestrion.tracks.intent.rules.tempo import Tempo
from orchestrion.tracks.intent.rules.unread import UnreadAmounts

METRES: Final = ("2/4", "3/4", "4/4", "5/4", "6/8", "7/8", "12/8")
#: How far a fade and its length stand apart, and a section and its.
_FADE_REACH: Final = 5
#: A longer time behind or before a comma is no fade's: "ten minutes, fade in".
_LONGEST_FADE_S: Final = 60.0
_BESIDE: Final = 2
_SECTION_REACH: Final = 4
_REACH: Final = 12
#: Sections of phrases that have figures in them, which count nothing: 80年代, 3拍子, "16 bit".
_WITH_FIGURES: Final = ("nothing", "style", "genre", "instrument", "metre")
_RATES_HZ: Final = (8000.0, 96_000.0)
#: Rates that need no unit, in kilohertz: no other figure of music has them.
_BARE_RATES: Final = (11.025, 22.05, 44.1, 88.2)


class Measures:
    """Reads what can be counted, each amount for one thing."""

    def __init__(self, findings: Findings, amounts: list[Amount], negations: Negations) -> None:
        self._findings = findings
        self._passage = findings.passage
        phrases = [m for section in _WITH_FIGURES for m in self._passage.of(section) if m.length > 1]
        within = {at for match in phrases for at in range(match.first, match.after)}
        # "Twelve-bar blues" is a form, and no length.
        forms = [each for each in amounts if any(m.first <= each.first and each.after <= m.after for m in phrases)]
        counting = [
            each
            for each in amounts
            if (each.unit is not None or each.first not in within) and (each.unit != "bar" or each not in forms)
        ]
        self._unread = UnreadAmounts(counting, findings)
        self._findings.used.update(at for each in forms if each.unit == "bar" for at in range(*each.span))
        self._negations = negations

    def read(self) -> None:
        """All of it, in the order in which one claims amounts before another."""
        self._metre()
        self._sound()
        self._fades()
        self._sections()
        self._bars()
        Tempo(self._findings, self._unread, self._negations).read()
        self._duration()

    def _metre(self) -> None:
        found: list[tuple[str, Span]] = [
            (match.name, match.span)
            for match in self._passage.of("metre")
            if match.name != "word" and not self._negations.negates(match)
        ]
        tokens = self._passage.tokens
        for at in range(len(tokens) - 2):
            line, below = tokens[at + 1 : at + 3]
            if line.text != "/" or self._passage.starting(at, "nothing") is not None:
                continue
            beats, unit = self._passage.figures(at), self._passage.figures(at + 2)
            if not beats.isdecimal() or unit not in ("2", "4", "8", "16"):
                continue
            if line.apart or below.apart or int(beats) > 21 or self._passage.starting(at + 3, "unit", "minute", "hour"):
                continue
            metre = f"{beats}/{unit}"
            word = self._passage.starting(self._passage.skips(at + 3), "metre", "word")
            span = (at, word.after if word else at + 3)
            if metre in METRES:
                found.append((metre, span))
            else:
                self._findings.refuse("metre", f"no model plays in {metre}; use one of {', '.join(METRES)}", span)
        for match in self._passage.of("cannot", "metre"):
            self._findings.refuse("metre", f"no model plays in that metre; use one of {', '.join(METRES)}", match.span)
        found = self._last_metres(found)
        for metre, span in found:
            self._findings.read("metre", metre, span)
        if len({metre for metre, _ in found}) > 1:
            self._findings.conflict("metre", found[0][1], next(span for metre, span in found if metre != found[0][0]))
        waltz = next((match for match in self._passage.of("style", "waltz")), None)
        other = next((span for metre, span in found if metre not in ("3/4", "6/8")), None)
        if waltz is not None and other is not None:
            self._findings.conflict("metre", waltz.span, other)

    def _last_metres(self, found: list[tuple[str, Span]]) -> list[tuple[str, Span]]:
        """Without those that a correction takes back: "3/4, no, 6/8"."""
        found = sorted(found, key=lambda one: one[1])
        # Of those in figures `Negations` knows nothing: "6/8, not 3/4", 4/4 말고 7/8.
        unwanted = [one for one in found if self._is_unwanted(one[1])]
        if unwanted and len(unwanted) < len(found):
            self._findings.used.update(at for _, span in unwanted for at in range(*span))
            found = [one for one in found if one not in unwanted]
        for match in self._passage.of("change", "correction"):
            behind = [one for one in found if match.after <= one[1][0]]
            if behind and len(behind) < len(found):
                wrong = [one for one in found if one not in behind and one[0] != behind[0][0]]
                if wrong and self._passage.distance(wrong[-1][1], behind[0][1]) <= _REACH:
                    self._findings.used.update(at for _, span in wrong for at in range(*span))
                    return [one for one in found if one not in wrong]
        return found

    def _is_unwanted(self, span: Span) -> bool:
        before = self._passage.ending(span[0], "negation", "before")
        return before is not None or self._passage.starting(span[1], "negation", "after") is not None

    def _sound(self) -> None:
        for each in self._unread.of("lufs"):
            first = each.first - (each.first > 0 and self._passage.tokens[each.first - 1].text == "-")
            self._findings.read("loudness_lufs", -abs(each.middle), (first, each.after))
        for each in self._unread.of("hertz"):
            low, high = _RATES_HZ
            if low <= each.middle <= high:
                self._findings.read("sample_rate_hz", round(each.middle), each.span)
            else:
                self._findings.refuse("other", "every model is tuned to A = 440 Hz", each.span)
        for each in self._unread.of(None):
            if each.figures and self._passage.has_decimals(each.first) and each.low in _BARE_RATES:
                self._findings.read("sample_rate_hz", round(1000 * each.low), each.span, 0.8)
        for name in ("channels", "format"):
            for match in self._passage.of(name):
                if match.name == "opus" and any(each.first == match.after for each in self._unread.of(None)):
                    continue  # "Opus 27".
                if not self._negations.negates(match):
                    value = int(match.name) if name == "channels" else match.name
                    self._findings.read(name, value, match.span)
        wanted = [match for match in self._passage.of("channels") if not self._negations.negates(match)]
        for other in wanted[1:]:
            if other.name != wanted[0].name:
                self._findings.conflict("channels", wanted[0].span, other.span)
        for match in self._passage.of("form", "loop"):
            if not self._negations.negates(match):
                self._findings.read("loop", True, match.span)

    def _fades(self) -> None:
        fades = [match for match in self._passage.of("fade") if not self._negations.negates(match)]
        # Of "fade in and out of 4 seconds" and "out of" the longer counts.
        fades = [one for one in fades if not any(_overlap(one, other) and other.length > one.length for other in fades)]
        pairs = [
            (self._near(fade, each), each.first < fade.first, number, fade, each)
            for number, fade in enumerate(fades)
            for each in self._unread.of("second", None)
            if _is_near(fade, each)
            and (each.middle <= _LONGEST_FADE_S or self._passage.distance(fade.span, each.span) <= _BESIDE)
            and (each.unit == "second" or ((each.figures or each.first == fade.after) and self._near(fade, each) <= 2))
        ]
        given: dict[int, Amount] = {}
        for distance, _, number, fade, each in sorted(pairs, key=lambda pair: pair[:3]):
            if distance > _FADE_REACH or number in given or not self._findings.is_free(each.span):
                continue
            span = (min(fade.first, each.first), max(fade.after, each.after))
            # "Fade in and out" is both.
            for other, both in enumerate(fades):
                if other == number or both.span == fade.span:
                    given[other] = each
                    self._findings.read(f"fade_{both.name}_s", each.middle, span)
        told = {fades[number].name for number in given}
        free = [self._findings.is_free(fade.span) for fade in fades]
        for number, fade in enumerate(fades):
            # "Fade in and out, three seconds each": one length for both.
            same = [each for other, each in given.items() if self._is_beside(fades[other], fade)]
            if number in given:
                continue
            if fade.name in told:
                # "It dies away (fade: seven seconds)" says it twice.
                self._findings.used.update(range(*fade.span))
            elif same:
                span = (min(fade.first, same[0].first), max(fade.after, same[0].after))
                self._findings.read(f"fade_{fade.name}_s", same[0].middle, span)
            elif free[number]:
                # Asked without a length: two seconds are heard as a fade in any piece.
                self._findings.read(f"fade_{fade.name}_s", 2.0, fade.span, 0.6)

    def _near(self, what: Match, each: Amount) -> int:
        """How far a length stands from what has it; in brackets it is as near: "intro (4 bars)", "fade (15 s)"."""
        apart = self._passage.distance(what.span, each.span)
        tokens = [self._passage.tokens[at].text for at in self._passage.between(what.span, each.span)]
        return apart - 7 if tokens.count("(") == 1 and tokens[-1] == "(" else apart

    def _is_beside(self, one: Match, other: Match) -> bool:
        """Whether two phrases are the same words, or no more than "and" stands between them."""
        at, end = sorted((one.span, other.span))[0][1], max(one.first, other.first)
        while at < end:
            link = self._passage.starting(at, "list", "and")
            if link is None:
                return False
            at = link.after
        return True

    def _sections(self) -> None:
        parts = [match for match in self._passage.of("section") if match.name != "then"]
        amounts = self._unread.of("second", "bar")
        # "Intro de 8 compases, estrofa de 16" or "8 bars intro, 16 bars verse": all as the first.
        is_behind = bool(parts and amounts) and amounts[0].first > parts[0].first
        pairs = sorted(
            (
                self._near(part, each),
                (each.first > part.first) != is_behind,
                number,
                each.first,
                part,
                each,
            )
            for number, part in enumerate(parts)
            for each in amounts
            if _is_near(part, each)
        ) if len(parts) > 1 else []  # fmt: skip
        lengths: dict[int, tuple[Match, Amount]] = {}
        taken: set[int] = set()
        for distance, _, number, first, part, each in pairs:
            if distance <= _SECTION_REACH and number not in lengths and first not in taken:
                lengths[number] = (part, each)
                taken.add(first)
        if len(lengths) < 2:
            return
        of_all = [lengths[number] for number in sorted(lengths)]
        first = min(min(part.first, each.first) for part, each in of_all)
        after = max(max(part.after, each.after) for part, each in of_all)
        sections = [
            {"name": part.name, "bars" if each.unit == "bar" else "duration_s": as_said(each.middle)}
            for part, each in of_all
        ]
        # What stands between them (a tempo, say) is not part of them.
        between = self._findings.used.copy()
        self._findings.read("sections", sections, (first, after))
        self._findings.used = between
        for part, each in of_all:
            self._findings.used.update(range(part.first, part.after), range(each.first, each.after))

    def _bars(self) -> None:
        for each in self._unread.of("bar"):
            if each.low >= 1 and not any(reading.field == "bars" for reading in self._findings.readings):
                self._findings.read("bars", round(each.low if each.exact is None else each.exact), each.span)

    def _duration(self) -> None:
        lengths = self._unread.of("second")
        for each in lengths:
            if 0 < each.middle < 1:
                self._findings.refuse("range", "no track is shorter than a second", each.span)
        lengths = [each for each in lengths if self._findings.is_free(each.span)]
        refused = [each for each in lengths if self._is_refused(each)]
        if refused and len(refused) < len(lengths):
            # "A quarter of an hour, no: 25 seconds".
            self._findings.used.update(at for each in refused for at in range(*each.span))
            lengths = [each for each in lengths if each not in refused]
        for number, each in enumerate(lengths[1:], 1):
            if any(lengths[0].after <= m.first < each.first for m in self._passage.of("change", "correction")):
                # "Ten minutes, no, six": the last word is the one that counts.
                self._findings.used.update(at for wrong in lengths[:number] for at in range(*wrong.span))
                lengths = lengths[number:]
                break
        if len(lengths) == 1 and (later := self._corrected(lengths[0])) is not None:
            self._findings.used.update(range(*lengths[0].span))
            lengths = [later]
        for each in lengths[:1]:
            value = as_said(each.middle)
            self._findings.read("duration_s", value, each.span, 0.95)
        for each in lengths[1:]:
            if (each.low, each.high) != (lengths[0].low, lengths[0].high):
                self._findings.conflict("duration_s", lengths[0].span, each.span)
            self._findings.used.update(range(*each.span))

    def _is_refused(self, length: Amount) -> bool:
        """Whether a "no" stands right before a length, or right behind it at the end of its clause."""
        passage = self._passage
        at = length.first
        while (filler := passage.ending(at, "filler")) is not None:
            at = filler.first
        # "Pas un" has the "un" of "un quart d'heure" in it.
        before = passage.ending(at, "negation", "before") or passage.ending(length.first + 1, "negation", "before")
        if before is not None and passage.ending(before.after, "change", "correction") is None:
            return before.first < length.first
        behind = passage.starting(length.after, "negation", "after")
        return behind is not None and passage.is_end_of_clause(behind.after)

    def _corrected(self, length: Amount) -> Amount | None:
        """The number right behind a correction, in the same unit: "three minutes, no, four"."""
        later = self._unread.behind_correction(length.after)
        if later is None:
            return None
        unit_s = 60.0 if length.low % 60 == 0 else 1.0
        return replace(later, value=Range(later.low * unit_s, later.high * unit_s), unit="second")


def _overlap(one: Match, other: Match) -> bool:
    return one.first < other.after and other.first < one.after


def _is_near(match: Match, amount: Amount) -> bool:
    """Whether an amount can belong to a phrase: so many tokens apart, none does."""
    return amount.first - match.after <= _REACH and match.first - amount.after <= _REACH
