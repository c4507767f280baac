"""What can be counted: length, tempo and how it changes, bars, sections, metre, fades, loudness, rate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from orchestrion.tracks.intent.amounts import Amount, Range
from orchestrion.tracks.intent.findings import Findings, Span
from orchestrion.tracks.intent.lexicon import Match
from orchestrion.tracks.intent.negations import Negations
from orchestrion.tracks.intent.passage import Passage
from orchestrion.tracks.intent.text import Form

METRES: Final = ("2/4", "3/4", "4/4", "5/4", "6/8", "7/8", "12/8")
#: Beats per minute of words: middles of the usual metronome ranges.
TEMPO_WORDS: Final = {
    "very slow": 52.0, "slow": 70.0, "moderate": 104.0, "fast": 144.0, "very fast": 172.0, "largo": 52.0, "lento": 58.0,
    "adagio": 70.0, "andante": 88.0, "moderato": 108.0, "allegretto": 116.0, "allegro": 132.0, "vivace": 160.0,
    "presto": 184.0,
}  # fmt: skip
_NOT: Final = {"fast": 96.0, "very fast": 110.0, "slow": 104.0, "very slow": 90.0}
_NEITHER: Final = 104.0
#: Fast but not too fast, slow but not too slow.
_TEMPERED: Final = {True: 118.0, False: 80.0}
_ITALIAN: Final = ("largo", "lento", "adagio", "andante", "moderato", "allegretto", "allegro", "vivace", "presto")
#: A figure without a unit between commas is a tempo if it can be one.
_BARE_TEMPO: Final = (40.0, 240.0)
#: How far a fade and its length stand apart, and a section and its.
_FADE_REACH: Final = 5
#: A longer time behind or before a comma is no fade's: "ten minutes, fade in".
_LONGEST_FADE_S: Final = 60.0
_BESIDE: Final = 2
_SECTION_REACH: Final = 4
_REACH: Final = 12
#: Sections of words that stand beside a figure of its own.
_PARTICLES: Final = ("function", "filler", "negation", "list", "change", "style", "genre", "mood")
#: "From" and "to" alone make a range; "starts at" and "ends at" are longer.
_SHORTEST_CHANGE: Final = 2
#: In letters, of a word that by itself says where a tempo begins or ends: "starts", not "a".
_LEAST_UNTIL: Final = 4
#: Sections of phrases that have figures in them, which count nothing: 80年代, 3拍子, "16 bit".
_WITH_FIGURES: Final = ("nothing", "style", "genre", "instrument", "metre")
_RATES_HZ: Final = (8000.0, 96_000.0)
#: Rates that need no unit, in kilohertz: no other figure of music has them.
_BARE_RATES: Final = (11.025, 22.05, 44.1, 88.2)
#: Between two tempos, of which the second is where it ends.
_ARROWS: Final = frozenset({"→", "-", "=", ">"})


@dataclass(frozen=True, slots=True)
class _Tempo:
    """A tempo in figures, the tokens that say so, and how sure it is one."""

    amount: Amount
    span: Span
    sure: float


class Measures:
    """Reads what can be counted, each amount for one thing."""

    def __init__(self, findings: Findings, amounts: list[Amount], negations: Negations) -> None:
        self._findings = findings
        self._passage = findings.passage
        phrases = [m for section in _WITH_FIGURES for m in self._passage.of(section) if m.length > 1]
        within = {at for match in phrases for at in range(match.first, match.after)}
        # "Twelve-bar blues" is a form, and no length.
        forms = [each for each in amounts if any(m.first <= each.first and each.after <= m.after for m in phrases)]
        self._amounts = [
            each
            for each in amounts
            if (each.unit is not None or each.first not in within) and (each.unit != "bar" or each not in forms)
        ]
        self._findings.used.update(at for each in forms if each.unit == "bar" for at in range(*each.span))
        self._negations = negations

    def read(self) -> None:
        """All of it, in the order in which one claims amounts before another."""
        self._metre()
        self._sound()
        self._fades()
        self._sections()
        self._bars()
        self._tempo()
        self._duration()

    def _left(self, *units: str | None) -> list[Amount]:
        return [each for each in self._amounts if each.unit in units and self._findings.is_free(each.span)]

    def _metre(self) -> None:
        found: list[tuple[str, Span]] = [
            (match.name, (match.first, match.after))
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
            self._findings.refuse(
                "metre", f"no model plays in that metre; use one of {', '.join(METRES)}", _span(match)
            )
        found = self._last_metres(found)
        for metre, span in found:
            self._findings.read("metre", metre, span)
        if len({metre for metre, _ in found}) > 1:
            self._findings.conflict("metre", found[0][1], next(span for metre, span in found if metre != found[0][0]))
        waltz = next((match for match in self._passage.of("style", "waltz")), None)
        other = next((span for metre, span in found if metre not in ("3/4", "6/8")), None)
        if waltz is not None and other is not None:
            self._findings.conflict("metre", _span(waltz), other)

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
        for each in self._left("lufs"):
            first = each.first - (each.first > 0 and self._passage.tokens[each.first - 1].text == "-")
            self._findings.read("loudness_lufs", -abs(each.middle), (first, each.after))
        for each in self._left("hertz"):
            low, high = _RATES_HZ
            if low <= each.middle <= high:
                self._findings.read("sample_rate_hz", round(each.middle), each.span)
            else:
                self._findings.refuse("other", "every model is tuned to A = 440 Hz", each.span)
        for each in self._left(None):
            if each.figures and self._passage.has_decimals(each.first) and each.low in _BARE_RATES:
                self._findings.read("sample_rate_hz", round(1000 * each.low), each.span, 0.8)
        for name in ("channels", "format"):
            for match in self._passage.of(name):
                if match.name == "opus" and any(each.first == match.after for each in self._left(None)):
                    continue  # "Opus 27".
                if not self._negations.negates(match):
                    value = int(match.name) if name == "channels" else match.name
                    self._findings.read(name, value, _span(match))
        wanted = [match for match in self._passage.of("channels") if not self._negations.negates(match)]
        for other in wanted[1:]:
            if other.name != wanted[0].name:
                self._findings.conflict("channels", _span(wanted[0]), _span(other))
        for match in self._passage.of("form", "loop"):
            if not self._negations.negates(match):
                self._findings.read("loop", True, _span(match))

    def _fades(self) -> None:
        fades = [match for match in self._passage.of("fade") if not self._negations.negates(match)]
        # Of "fade in and out of 4 seconds" and "out of" the longer counts.
        fades = [one for one in fades if not any(_overlap(one, other) and other.length > one.length for other in fades)]
        pairs = [
            (self._fade_distance(fade, each), each.first < fade.first, number, fade, each)
            for number, fade in enumerate(fades)
            for each in self._left("second", None)
            if _is_near(fade, each)
            and (each.middle <= _LONGEST_FADE_S or self._passage.distance(_span(fade), each.span) <= _BESIDE)
            and (
                each.unit == "second"
                or ((each.figures or each.first == fade.after) and self._fade_distance(fade, each) <= 2)
            )
        ]
        given: dict[int, Amount] = {}
        for distance, _, number, fade, each in sorted(pairs, key=lambda pair: pair[:3]):
            if distance > _FADE_REACH or number in given or not self._findings.is_free(each.span):
                continue
            span = (min(fade.first, each.first), max(fade.after, each.after))
            # "Fade in and out" is both.
            for other, both in enumerate(fades):
                if other == number or _span(both) == _span(fade):
                    given[other] = each
                    self._findings.read(f"fade_{both.name}_s", each.middle, span)
        told = {fades[number].name for number in given}
        free = [self._findings.is_free(_span(fade)) for fade in fades]
        for number, fade in enumerate(fades):
            # "Fade in and out, three seconds each": one length for both.
            same = [each for other, each in given.items() if self._is_beside(fades[other], fade)]
            if number in given:
                continue
            if fade.name in told:
                # "It dies away (fade: seven seconds)" says it twice.
                self._findings.used.update(range(*_span(fade)))
            elif same:
                span = (min(fade.first, same[0].first), max(fade.after, same[0].after))
                self._findings.read(f"fade_{fade.name}_s", same[0].middle, span)
            elif free[number]:
                # Asked without a length: two seconds are heard as a fade in any piece.
                self._findings.read(f"fade_{fade.name}_s", 2.0, _span(fade), 0.6)

    def _fade_distance(self, fade: Match, each: Amount) -> int:
        """How far a length stands from its fade; in brackets it is as near: "a long final fade (15 s)"."""
        apart = self._passage.distance(_span(fade), each.span)
        tokens = [self._passage.tokens[at].text for at in self._passage.between(_span(fade), each.span)]
        return apart - 7 if tokens.count("(") == 1 and tokens[-1] == "(" else apart

    def _is_beside(self, one: Match, other: Match) -> bool:
        """Whether two phrases are the same words, or no more than "and" stands between them."""
        at, end = sorted((_span(one), _span(other)))[0][1], max(one.first, other.first)
        while at < end:
            link = self._passage.starting(at, "list", "and")
            if link is None:
                return False
            at = link.after
        return True

    def _sections(self) -> None:
        parts = [match for match in self._passage.of("section") if match.name != "then"]
        amounts = self._left("second", "bar")
        # "Intro de 8 compases, estrofa de 16" or "8 bars intro, 16 bars verse": all as the first.
        is_behind = bool(parts and amounts) and amounts[0].first > parts[0].first
        pairs = sorted(
            (
                self._passage.distance(_span(part), each.span),
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
            {"name": part.name, "bars" if each.unit == "bar" else "duration_s": _number(each.middle)}
            for part, each in of_all
        ]
        # What stands between them (a tempo, say) is not part of them.
        between = self._findings.used.copy()
        self._findings.read("sections", sections, (first, after))
        self._findings.used = between
        for part, each in of_all:
            self._findings.used.update(range(part.first, part.after), range(each.first, each.after))

    def _bars(self) -> None:
        for each in self._left("bar"):
            if each.low >= 1 and not any(reading.field == "bars" for reading in self._findings.readings):
                self._findings.read("bars", round(each.low if each.exact is None else each.exact), each.span)

    def _tempo(self) -> None:
        told = [_Tempo(each, each.span, 0.95) for each in self._left("bpm")] + self._beside_the_word()
        known = {at for one in told for at in range(*one.span)}
        # So many beats are beats a minute: 72拍.
        beats = [each for each in self._left("beat") if _BARE_TEMPO[0] <= each.middle <= _BARE_TEMPO[1]]
        told += [_Tempo(each, each.span, 0.85) for each in beats if known.isdisjoint(range(*each.span))]
        told = self._last_said(sorted(told or self._bare(), key=lambda one: one.span))
        multiple = self._multiple(told)
        if not told and multiple is None and (begin := self._begin_of_multiple()) is not None:
            told = [begin]
            multiple = self._multiple(told)
        changes = [
            match for match in self._passage.of("change", "faster", "slower") if self._findings.is_free(_span(match))
        ]
        changes = changes or self._from_and_until()
        if multiple is not None:
            match, end_bpm = multiple
            self._findings.read("tempo_end_bpm", _number(end_bpm), _span(match))
            self._findings.used.update(at for change in changes for at in range(*_span(change)))
        elif changes:
            told = self._changing(told, changes[0])
        elif len(told) == 1 and (end := self._end_in_figures(told[0])) is not None:
            self._findings.read("tempo_end_bpm", _number(told[0].amount.said), end)
            told = []
        elif len(told) == 1 and self._is_crossed(told[0]):
            low, high = told[0].amount.low, told[0].amount.high
            self._findings.read("tempo_bpm", _number(low), told[0].span)
            self._findings.read("tempo_end_bpm", _number(high), told[0].span)
            told = []
        elif len(told) == 1 and self._goes_from(told[0]):
            low, high = told[0].amount.low, told[0].amount.high
            self._findings.read("tempo_end_bpm", _number(high), told[0].span)
            told = [replace(told[0], amount=replace(told[0].amount, value=Range(low, low)))]
        elif len(told) == 1 and (begin := self._begins_before(told[0])) is not None:
            self._findings.read("tempo_end_bpm", _number(told[0].amount.said), told[0].span)
            told = [begin]
        for one in told[:1]:
            self._findings.read("tempo_bpm", _number(one.amount.middle), one.span, one.sure)
        for one in told[1:]:
            if one.amount.middle != told[0].amount.middle and not changes:
                self._findings.conflict("tempo_bpm", told[0].span, one.span)
            self._findings.used.update(range(*one.span))
        self._in_words()

    def _last_said(self, told: list[_Tempo]) -> list[_Tempo]:
        """Without what a correction takes back: "104 bpm, no, 112"."""
        corrections = self._passage.of("change", "correction")
        for number, one in enumerate(told[1:], 1):
            if any(told[0].span[1] <= match.first and match.after <= one.span[0] for match in corrections):
                self._findings.used.update(at for wrong in told[:number] for at in range(*wrong.span))
                return told[number:]
        later = self._behind_correction(told[0].span[1]) if len(told) == 1 else None
        later = later or (self._behind_a_no(told[0].span[1]) if len(told) == 1 else None)
        if later is not None and _BARE_TEMPO[0] <= later.middle <= _BARE_TEMPO[1]:
            return [_Tempo(later, (told[0].span[0], later.after), 0.9)]
        return told

    def _multiple(self, told: list[_Tempo]) -> tuple[Match, float] | None:
        """Where a tempo ends that is told by how much faster or slower it gets: "speeding up to double that"."""
        if len(told) != 1:
            return None
        for match in self._passage.of("change", "double", "half"):
            if match.first >= told[0].span[1] and self._findings.is_free(_span(match)):
                return match, told[0].amount.middle * (2.0 if match.name == "double" else 0.5)
        return None

    def _begin_of_multiple(self) -> _Tempo | None:
        """A figure that only "twice that" behind it makes a tempo: "start around 60 and creep up to twice that"."""
        low, high = _BARE_TEMPO
        behind = [match.first for match in self._passage.of("change", "double", "half")]
        bare = [each for each in self._left(None) if each.figures and any(each.after <= at for at in behind)]
        return next((_Tempo(each, each.span, 0.7) for each in bare if low <= each.middle <= high), None)

    def _is_crossed(self, tempo: _Tempo) -> bool:
        """Whether a range is gone through in a given time: "from 70 to 140 bpm in one minute"."""
        link = self._passage.starting(tempo.span[1], "key", "in")
        is_range = tempo.amount.exact is None and tempo.amount.low < tempo.amount.high
        return is_range and link is not None and any(each.first == link.after for each in self._left("second"))

    def _begins_before(self, end: _Tempo) -> _Tempo | None:
        """Where a tempo begins that ends in another: "von 100 auf 160 BPM", which is no range."""
        until = self._passage.ending(end.amount.first, "change", "until")
        for each in self._left(None):
            begin = self._passage.ending(each.first, "change", "from")
            if until is not None and begin is not None and each.after == until.first:
                return _Tempo(each, each.span, 0.9)
        return None

    def _beside_the_word(self) -> list[_Tempo]:
        """Numbers behind a word: "tempo 90", "bpm: 140", "♩ = 120", "Viertel = 68", "Tempo hundertfünf"."""
        found = []
        tokens = self._passage.tokens
        beats = [m for m in self._passage.of("unit", "beat") if m.after < len(tokens) and tokens[m.after].text == "="]
        words = [*self._passage.of("tempo", "word"), *self._passage.of("unit", "bpm"), *beats]
        # テンポ is both a word before a figure and the unit behind one.
        spans = list(dict.fromkeys(_span(word) for word in words)) + [
            (at, at + 1) for at, t in enumerate(self._passage.tokens) if t.text == "♩"
        ]
        for first, after in spans:
            at = self._passage.skips(after)
            about = self._passage.starting(at, "amount", "about")
            begins = [at, about.after if about else at]
            particle = self._passage.starting(at, "function")
            if particle is not None and self._passage.tokens[at].form is Form.CHARACTER:
                begins.append(self._passage.skips(particle.after))  # "BPMは126".
            beside = [each for each in self._left(None, "beat") if each.first in begins]
            each = beside[0] if beside else None
            # "Tempo one" is no tempo, 速度八十五 is.
            lowest = _BARE_TEMPO[0] / 2 if each is not None and each.figures else _BARE_TEMPO[0]
            if each is not None and lowest <= each.middle <= 400:
                found.append(_Tempo(each, (first, each.after), 0.95))
        return found

    def _bare(self) -> list[_Tempo]:
        """A figure without a unit that stands alone between commas."""
        low, high = _BARE_TEMPO
        for each in self._left(None):
            at = self._passage.ending(each.first, "tempo", "at")
            if each.exact is not None:
                # "A beat at about 110": what says about also leads to it.
                at = at or self._passage.starting(each.first, "tempo", "at")
            # A number in words is one if it is all that its clause says: "сто сорок".
            is_whole = self._stands_alone(each.first - 1, each.first) and self._passage.is_end_of_clause(each.after)
            is_range = not each.value.is_number
            # "Psytrance 145", "drum and bass one seventy-four".
            is_after_kind = any(self._passage.ending(each.first, kind) is not None for kind in ("style", "genre"))
            is_tempo = is_whole or (is_after_kind and self._passage.is_end_of_clause(each.after))
            if not (each.figures or at is not None or is_range or (is_tempo and each.low >= low)):
                continue
            if self._passage.ending(each.first, "key", "word") is not None or self._is_aside(each):
                continue
            framed = is_range and self._passage.starting(each.first, "amount", "between") is not None
            framed = framed or (is_range and self._passage.ending(each.first, "change", "from") is not None)
            framed = framed or is_after_kind
            if (
                (at is not None or framed or self._stands_alone(each.first - 1, each.first))
                and (
                    self._stands_alone(each.after, each.after)
                    or self._passage.starting(each.after, "negation", "end") is not None
                    or self._passage.starting(each.after, "list") is not None
                    or self._passage.starting(each.after, "tempo") is not None
                )
                and low <= each.middle <= high
            ):
                return [_Tempo(each, each.span, 0.6)]
        return []

    def _is_aside(self, each: Amount) -> bool:
        """Whether a figure is all that stands in brackets: "for grandpa (80)"."""
        tokens = self._passage.tokens
        return (
            each.first > 0
            and tokens[each.first - 1].text == "("
            and tokens[each.after : each.after + 1] != ()
            and (tokens[each.after].text == ")")
        )

    def _stands_alone(self, at: int, border: int) -> bool:
        """Whether a figure may end or begin beside a token: no figure of 80年代, 100人."""
        passage = self._passage
        if passage.is_end_of_clause(at):
            return True
        if passage.tokens[at].form is not Form.CHARACTER:
            return False
        return passage.tokens[border].apart or any(
            passage.starting(at, section) or passage.ending(at + 1, section) for section in _PARTICLES
        )

    def _from_and_until(self) -> list[Match]:
        """Where it ends, if no word says how: "starts at 120 and ends at 140"."""
        low, high = _BARE_TEMPO
        figures = [each for each in self._left("bpm", None) if each.figures]
        of_tempo = [each for each in figures if low <= each.middle <= high] if len(figures) > 1 else []
        if len(of_tempo) != 2:
            return []
        one, two = of_tempo
        begins = self._passage.ending(one.first, "change", "from") or self._passage.starting(
            one.after, "change", "from"
        )
        ends = self._passage.ending(two.first, "change", "until") or self._passage.starting(
            two.after, "change", "until"
        )
        gap = {self._passage.tokens[at].text for at in self._passage.between(one.span, two.span)}
        then = self._passage.starting(self._passage.skips(one.after), "section", "then")
        is_then = "bpm" in (one.unit, two.unit) and then is not None and then.after == two.first
        if (gap <= _ARROWS and gap & {"→", ">"}) or is_then:
            return [Match("change", "until", "", one.after, two.first)]
        if ends is None or not self._is_change(ends):
            return []
        # "90 bpm climbing to 120" needs no word where it begins.
        is_begun = self._is_change(begins) if begins is not None else "bpm" in (one.unit, two.unit)
        return [ends] if is_begun else []

    def _is_change(self, match: Match) -> bool:
        """Whether words say by themselves where a tempo begins or ends: "starts at", "finally"; no "from"."""
        return match.length >= _SHORTEST_CHANGE or _letters(self._passage, match) > _LEAST_UNTIL

    def _changing(self, told: list[_Tempo], change: Match) -> list[_Tempo]:
        """The tempos that are not read yet; from where to where it changes is read here."""
        low, high = _BARE_TEMPO
        known = {one.amount.span for one in told}
        bare = [
            _Tempo(each, each.span, 0.7)
            for each in self._left(None)
            if (each.figures or each.low >= low) and low / 2 <= each.middle <= high * 1.25 and each.span not in known
        ]
        every = sorted([*told, *bare], key=lambda one: one.span)
        self._findings.used.update(range(change.first, change.after))
        if not every:
            # Said without a figure: it ends fast, or slow.
            end = TEMPO_WORDS["fast" if change.name == "faster" else "slow"]
            self._findings.read("tempo_end_bpm", end, _span(change), 0.5)
        if len(every) == 1 and every[0].amount.exact is None and every[0].amount.low != every[0].amount.high:
            bounds = (every[0].amount.low, every[0].amount.high)
            begins, ends = bounds if change.name == "faster" else bounds[::-1]
            self._findings.read("tempo_bpm", _number(begins), every[0].span)
            self._findings.read("tempo_end_bpm", _number(ends), every[0].span)
            return []
        if len(every) >= 2:
            one, two = every[:2]
            if self._passage.ending(one.span[0], "change", "until") and self._passage.ending(
                two.span[0], "change", "from"
            ):
                # "Slowing down to 60, from 100".
                one, two = two, one
            span = (
                (min(change.first, two.span[0]), max(change.after, two.span[1]))
                if change.first > one.span[0]
                else two.span
            )
            self._findings.read("tempo_bpm", _number(one.amount.said), one.span)
            self._findings.read("tempo_end_bpm", _number(two.amount.said), span)
            return []
        # "Speeding up to 170": "up to" is of the figure as well.
        if len(every) == 1 and every[0].span[1] > change.after:
            self._findings.read("tempo_end_bpm", _number(every[0].amount.said), (change.first, every[0].span[1]))
            return []
        return told

    def _end_in_figures(self, told: _Tempo) -> Span | None:
        """Where words say how fast it begins and ends, and a figure behind them how fast the end is."""
        words = [m for m in self._passage.of("tempo") if m.name in TEMPO_WORDS and not self._negations.negates(m)]
        ends = self._ends_in_words(_one_a_place(words))
        is_behind = ends is not None and told.span[0] == self._passage.skips(ends[1].after)
        return (ends[1].first, told.span[1]) if ends is not None and is_behind else None

    def _goes_from(self, told: _Tempo) -> bool:
        """Whether a range is where it begins and where it ends: "ramps from 80 to 150", not "from 80 to 150"."""
        amount, passage = told.amount, self._passage
        if amount.low == amount.high or amount.exact is not None:
            return False
        between = passage.starting(amount.first, "amount", "between")
        begin = passage.ending(between.after if between is not None else amount.first, "change", "from")
        signs = {passage.tokens[at].text for at in range(*amount.span)}
        # "Somewhere from 72 up to 80" says no more than "from".
        is_more = begin is not None and (between is None or begin.first < between.first)
        return begin is not None and is_more and begin.length >= _SHORTEST_CHANGE and signs.isdisjoint("-~")

    def _in_words(self) -> None:
        """Slow, allegro, not too fast."""
        told = [reading for reading in self._findings.readings if reading.field == "tempo_bpm"]
        ends = [r for r in self._findings.readings if r.field == "tempo_end_bpm" and r.sure > 0.5]
        words = [m for m in self._passage.of("tempo") if m.name in TEMPO_WORDS and self._findings.is_free(_span(m))]
        words = _one_a_place(words)
        wanted = [word for word in words if not self._negations.negates(word)]
        unwanted = [word for word in words if self._negations.negates(word)]
        for word in words:
            self._findings.used.update(range(word.first, word.after))
        if ends and not told:
            # "Slow, then racing up to 168": the words before its end say how it begins.
            wanted = [word for word in wanted if self._passage.tokens[word.after - 1].end <= ends[0].words.start]
            wanted = [word for word in wanted if _is_fast(word) is not None]
            unwanted = []
        if told or (ends and not wanted):
            return
        if len({_is_fast(word) for word in unwanted} - {None}) == 2:
            span = (self._negations.whole(unwanted[0])[0], self._negations.whole(unwanted[-1])[1])
            self._findings.read("tempo_bpm", _NEITHER, span, 0.7)
        elif (changing := self._ends_in_words(wanted)) is not None:
            begin, end = changing
            self._findings.read("tempo_bpm", TEMPO_WORDS[self._with_degree(begin)], self._whole(begin), 0.8)
            self._findings.read("tempo_end_bpm", TEMPO_WORDS[self._with_degree(end)], self._whole(end), 0.7)
        elif wanted:
            paces = {_is_fast(word): word for word in reversed(wanted)}
            if True in paces and False in paces:
                self._findings.conflict("tempo_bpm", _span(paces[True]), _span(paces[False]))
            best = min(wanted, key=lambda word: (word.name in _ITALIAN, word.first))
            pace = _is_fast(best)
            if pace is not None and any(_is_fast(word) is pace for word in unwanted):
                self._findings.read("tempo_bpm", _TEMPERED[pace], self._whole(best), 0.7)
            else:
                self._findings.read("tempo_bpm", TEMPO_WORDS[self._with_degree(best)], self._whole(best), 0.8)
        elif unwanted and unwanted[0].name in _NOT:
            self._findings.read("tempo_bpm", _NOT[unwanted[0].name], self._negations.whole(unwanted[0]), 0.7)

    def _ends_in_words(self, wanted: list[Match]) -> tuple[Match, Match] | None:
        """A slow word and a fast one of which something says that the second comes later: "starts slow, ends fast"."""
        passage = self._passage
        paced = [word for word in wanted if _is_fast(word) is not None]
        one = next(iter(paced), None)
        two = next((word for word in paced if _is_fast(word) is not _is_fast(paced[0])), None)
        if one is None or two is None:
            return None
        begin, end = self._whole(one)[0], self._whole(two)[0]
        begins = passage.ending(begin, "change", "from") or passage.starting(one.after, "change", "from")
        until = passage.ending(end, "change", "until") or passage.starting(two.after, "change", "until")
        then = [m for m in passage.of("section", "then") if one.after <= m.first and m.after <= end]
        if then or (until is not None and (begins is not None or _letters(passage, until) >= _LEAST_UNTIL)):
            return one, two
        return (one, two) if begins is not None and _letters(passage, begins) >= _LEAST_UNTIL else None

    def _with_degree(self, word: Match) -> str:
        very = self._passage.ending(word.first, "degree", "very")
        return f"very {word.name}" if very is not None and word.name in ("slow", "fast") else word.name

    def _whole(self, word: Match) -> Span:
        very = self._passage.ending(word.first, "degree", "very")
        return (very.first if very is not None else word.first, word.after)

    def _duration(self) -> None:
        lengths = [each for each in self._left("second") if each.middle >= 1 or not each.middle]
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
            value = _number(each.middle)
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
        later = self._behind_correction(length.after)
        if later is None:
            return None
        unit_s = 60.0 if length.low % 60 == 0 else 1.0
        return replace(later, value=Range(later.low * unit_s, later.high * unit_s), unit="second")

    def _behind_a_no(self, after: int) -> Amount | None:
        """The number behind a "no" and a comma: "96 bpm … no, 88"."""
        for each in self._left(None):
            at = self._passage.skips(each.first - 1, -1, signs=",-:") + 1
            no = self._passage.ending(at, "negation", "before")
            if at < each.first and no is not None and after <= no.first and self._passage.is_end_of_clause(each.after):
                return each
        return None

    def _behind_correction(self, after: int) -> Amount | None:
        """A number without a unit right behind a correction of what stands before a token."""
        for each in self._left(None):
            correction = self._passage.ending(
                self._passage.skips(each.first - 1, -1, signs=",-.:") + 1, "change", "correction"
            )
            if correction is not None and after <= correction.first:
                return each
        return None


def _overlap(one: Match, other: Match) -> bool:
    return one.first < other.after and other.first < one.after


def _letters(passage: Passage, match: Match) -> int:
    return sum(len(token.text) for token in passage.tokens[match.first : match.after])


def _span(match: Match) -> Span:
    return match.first, match.after


def _is_near(match: Match, amount: Amount) -> bool:
    """Whether an amount can belong to a phrase: so many tokens apart, none does."""
    return amount.first - match.after <= _REACH and match.first - amount.after <= _REACH


def _number(value: float) -> float:
    return int(value) if value == int(value) else value


def _is_fast(word: Match) -> bool | None:
    """Whether it is a fast word or a slow one; None for those between."""
    bpm = TEMPO_WORDS[word.name]
    return True if bpm >= 120 else False if bpm <= 80 else None


def _one_a_place(words: list[Match]) -> list[Match]:
    places: dict[int, Match] = {}
    for word in words:
        if word.first not in places or places[word.first].after < word.after:
            places[word.first] = word
    return list(places.values())
