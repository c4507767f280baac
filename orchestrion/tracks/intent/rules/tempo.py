"""How fast a piece is, and how that changes: figures with and without their unit, and words from largo to presto."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from orchestrion.tracks.intent.intent import Conflict, Reading
from orchestrion.tracks.intent.lexicon import Match
from orchestrion.tracks.intent.rules.amounts import Amount, Range, as_said
from orchestrion.tracks.intent.rules.findings import Findings, Span
from orchestrion.tracks.intent.rules.negations import Negations
from orchestrion.tracks.intent.rules.unread import UnreadAmounts
from orchestrion.tracks.intent.text import Form

#: Beats per minute of words: middles of the usual metronome ranges.
TEMPO_WORDS: Final = {
    "very slow": 52.0, "slow": 70.0, "moderate": 104.0, "fast": 144.0, "very fast": 172.0, "largo": 52.0, "lento": 58.0,
    "adagio": 70.0, "andante": 88.0, "moderato": 108.0, "allegretto": 116.0, "allegro": 132.0, "vivace": 160.0,
    "presto": 184.0,
}  # fmt: skip
_NOT: Final = {"fast": 96.0, "very fast": 110.0, "slow": 104.0, "very slow": 90.0}
_NEITHER: Final = 104.0
#: A figure within these limits goes with any word.
_NEITHER_FAST_NOR_SLOW: Final = (75.0, 140.0)
#: Fast but not too fast, slow but not too slow.
_TEMPERED: Final = {True: 118.0, False: 80.0}
_ITALIAN: Final = ("largo", "lento", "adagio", "andante", "moderato", "allegretto", "allegro", "vivace", "presto")
#: A figure without a unit between commas is a tempo if it can be one.
_BARE_TEMPO: Final = (40.0, 240.0)
#: Sections of words that stand beside a figure of its own.
_PARTICLES: Final = ("function", "filler", "negation", "list", "change", "style", "genre", "mood")
#: "From" and "to" alone make a range; "starts at" and "ends at" are longer.
_SHORTEST_CHANGE: Final = 2
#: In letters, of a word that by itself says where a tempo begins or ends: "starts", not "a".
_LEAST_UNTIL: Final = 4
#: Between two tempos, of which the second is where it ends.
_ARROWS: Final = frozenset({"→", "-", "=", ">"})


@dataclass(frozen=True, slots=True)
class _Told:
    """A tempo in figures, the tokens that say so, and how sure it is one."""

    amount: Amount
    span: Span
    sure: float


class Tempo:
    """Reads the tempo of a prompt."""

    def __init__(self, findings: Findings, unread: UnreadAmounts, negations: Negations) -> None:
        self._findings = findings
        self._passage = findings.passage
        self._unread = unread
        self._negations = negations

    def read(self) -> None:
        """The tempo, and the one at the end, from figures or else from words."""
        told = [_Told(each, each.span, 0.95) for each in self._unread.of("bpm")] + self._beside_the_word()
        known = {at for one in told for at in range(*one.span)}
        # So many beats are beats a minute: 72拍.
        beats = [each for each in self._unread.of("beat") if _BARE_TEMPO[0] <= each.middle <= _BARE_TEMPO[1]]
        told += [_Told(each, each.span, 0.85) for each in beats if known.isdisjoint(range(*each.span))]
        told = self._last_said(sorted(told or self._bare(), key=lambda one: one.span))
        multiple = self._multiple(told)
        if not told and multiple is None and (begin := self._begin_of_multiple()) is not None:
            told = [begin]
            multiple = self._multiple(told)
        changes = [
            match for match in self._passage.of("change", "faster", "slower") if self._findings.is_free(match.span)
        ]
        changes = changes or self._from_and_until()
        if multiple is not None:
            match, end_bpm = multiple
            self._findings.read("tempo_end_bpm", as_said(end_bpm), match.span)
            self._findings.used.update(at for change in changes for at in range(*change.span))
        elif changes:
            told = self._changing(told, changes[0])
        elif len(told) == 1 and (end := self._end_in_figures(told[0])) is not None:
            self._findings.read("tempo_end_bpm", as_said(told[0].amount.said), end)
            told = []
        elif len(told) == 1 and self._is_crossed(told[0]):
            low, high = told[0].amount.low, told[0].amount.high
            self._findings.read("tempo_bpm", as_said(low), told[0].span)
            self._findings.read("tempo_end_bpm", as_said(high), told[0].span)
            told = []
        elif len(told) == 1 and self._goes_from(told[0]):
            low, high = told[0].amount.low, told[0].amount.high
            self._findings.read("tempo_end_bpm", as_said(high), told[0].span)
            told = [replace(told[0], amount=replace(told[0].amount, value=Range(low, low)))]
        elif len(told) == 1 and (begin := self._begins_before(told[0])) is not None:
            self._findings.read("tempo_end_bpm", as_said(told[0].amount.said), told[0].span)
            told = [begin]
        for one in told[:1]:
            self._findings.read("tempo_bpm", as_said(one.amount.middle), one.span, one.sure)
        for one in told[1:]:
            if one.amount.middle != told[0].amount.middle and not changes:
                self._findings.conflict("tempo_bpm", told[0].span, one.span)
            self._findings.used.update(range(*one.span))
        self._in_words()

    def _last_said(self, told: list[_Told]) -> list[_Told]:
        """Without what a correction takes back: "104 bpm, no, 112"."""
        corrections = self._passage.of("change", "correction")
        for number, one in enumerate(told[1:], 1):
            if any(told[0].span[1] <= match.first and match.after <= one.span[0] for match in corrections):
                self._findings.used.update(at for wrong in told[:number] for at in range(*wrong.span))
                return told[number:]
        later = self._unread.behind_correction(told[0].span[1]) if len(told) == 1 else None
        later = later or (self._unread.behind_a_no(told[0].span[1]) if len(told) == 1 else None)
        if later is not None and _BARE_TEMPO[0] <= later.middle <= _BARE_TEMPO[1]:
            return [_Told(later, (told[0].span[0], later.after), 0.9)]
        return told

    def _multiple(self, told: list[_Told]) -> tuple[Match, float] | None:
        """Where a tempo ends that is told by how much faster or slower it gets: "speeding up to double that"."""
        if len(told) != 1:
            return None
        for match in self._passage.of("change", "double", "half"):
            if match.first >= told[0].span[1] and self._findings.is_free(match.span):
                return match, told[0].amount.middle * (2.0 if match.name == "double" else 0.5)
        return None

    def _begin_of_multiple(self) -> _Told | None:
        """A figure that only "twice that" behind it makes a tempo: "start around 60 and creep up to twice that"."""
        low, high = _BARE_TEMPO
        behind = [match.first for match in self._passage.of("change", "double", "half")]
        bare = [each for each in self._unread.of(None) if each.figures and any(each.after <= at for at in behind)]
        return next((_Told(each, each.span, 0.7) for each in bare if low <= each.middle <= high), None)

    def _is_crossed(self, tempo: _Told) -> bool:
        """Whether a range is gone through in a given time: "from 70 to 140 bpm in one minute"."""
        link = self._passage.starting(tempo.span[1], "key", "in")
        is_range = tempo.amount.exact is None and tempo.amount.low < tempo.amount.high
        return is_range and link is not None and any(each.first == link.after for each in self._unread.of("second"))

    def _begins_before(self, end: _Told) -> _Told | None:
        """Where a tempo begins that ends in another: "von 100 auf 160 BPM", which is no range."""
        until = self._passage.ending(end.amount.first, "change", "until")
        for each in self._unread.of(None):
            begin = self._passage.ending(each.first, "change", "from")
            if until is not None and begin is not None and each.after == until.first:
                return _Told(each, each.span, 0.9)
        return None

    def _beside_the_word(self) -> list[_Told]:
        """Numbers behind a word: "tempo 90", "bpm: 140", "♩ = 120", "Viertel = 68", "Tempo hundertfünf"."""
        found = []
        tokens = self._passage.tokens
        beats = [m for m in self._passage.of("unit", "beat") if m.after < len(tokens) and tokens[m.after].text == "="]
        words = [*self._passage.of("tempo", "word"), *self._passage.of("unit", "bpm"), *beats]
        # テンポ is both a word before a figure and the unit behind one.
        spans = list(dict.fromkeys(word.span for word in words)) + [
            (at, at + 1) for at, t in enumerate(self._passage.tokens) if t.text == "♩"
        ]
        for first, after in spans:
            at = self._passage.skips(after)
            about = self._passage.starting(at, "amount", "about")
            begins = [at, about.after if about else at]
            particle = self._passage.starting(at, "function")
            if particle is not None and self._passage.tokens[at].form is Form.CHARACTER:
                begins.append(self._passage.skips(particle.after))  # "BPMは126".
            beside = [each for each in self._unread.of(None, "beat") if each.first in begins]
            each = beside[0] if beside else None
            # "Tempo one" is no tempo, 速度八十五 is.
            lowest = _BARE_TEMPO[0] / 2 if each is not None and each.figures else _BARE_TEMPO[0]
            if each is not None and lowest <= each.middle <= 400:
                found.append(_Told(each, (first, each.after), 0.95))
        return found

    def _bare(self) -> list[_Told]:
        """A figure without a unit that stands alone between commas."""
        low, high = _BARE_TEMPO
        for each in self._unread.of(None):
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
                return [_Told(each, each.span, 0.6)]
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
        figures = [each for each in self._unread.of("bpm", None) if each.figures]
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
        return match.length >= _SHORTEST_CHANGE or self._passage.letters(match) > _LEAST_UNTIL

    def _changing(self, told: list[_Told], change: Match) -> list[_Told]:
        """The tempos that are not read yet; from where to where it changes is read here."""
        low, high = _BARE_TEMPO
        known = {one.amount.span for one in told}
        bare = [
            _Told(each, each.span, 0.7)
            for each in self._unread.of(None)
            if (each.figures or each.low >= low) and low / 2 <= each.middle <= high * 1.25 and each.span not in known
        ]
        every = sorted([*told, *bare], key=lambda one: one.span)
        self._findings.used.update(range(change.first, change.after))
        if not every:
            # Said without a figure: it ends fast, or slow.
            end = TEMPO_WORDS["fast" if change.name == "faster" else "slow"]
            self._findings.read("tempo_end_bpm", end, change.span, 0.5)
        if len(every) == 1 and every[0].amount.exact is None and every[0].amount.low != every[0].amount.high:
            bounds = (every[0].amount.low, every[0].amount.high)
            begins, ends = bounds if change.name == "faster" else bounds[::-1]
            self._findings.read("tempo_bpm", as_said(begins), every[0].span)
            self._findings.read("tempo_end_bpm", as_said(ends), every[0].span)
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
            self._findings.read("tempo_bpm", as_said(one.amount.said), one.span)
            self._findings.read("tempo_end_bpm", as_said(two.amount.said), span)
            return []
        # "Speeding up to 170": "up to" is of the figure as well.
        if len(every) == 1 and every[0].span[1] > change.after:
            self._findings.read("tempo_end_bpm", as_said(every[0].amount.said), (change.first, every[0].span[1]))
            return []
        return told

    def _end_in_figures(self, told: _Told) -> Span | None:
        """Where words say how fast it begins and ends, and a figure behind them how fast the end is."""
        words = [m for m in self._passage.of("tempo") if m.name in TEMPO_WORDS and not self._negations.negates(m)]
        ends = self._ends_in_words(_one_a_place(words))
        is_behind = ends is not None and told.span[0] == self._passage.skips(ends[1].after)
        return (ends[1].first, told.span[1]) if ends is not None and is_behind else None

    def _goes_from(self, told: _Told) -> bool:
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
        words = [m for m in self._passage.of("tempo") if m.name in TEMPO_WORDS and self._findings.is_free(m.span)]
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
        if told:
            self._tell_contrary(told[0], wanted)
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
                self._findings.conflict("tempo_bpm", paces[True].span, paces[False].span)
            best = min(wanted, key=lambda word: (word.name in _ITALIAN, word.first))
            pace = _is_fast(best)
            if pace is not None and any(_is_fast(word) is pace for word in unwanted):
                self._findings.read("tempo_bpm", _TEMPERED[pace], self._whole(best), 0.7)
            else:
                self._findings.read("tempo_bpm", TEMPO_WORDS[self._with_degree(best)], self._whole(best), 0.8)
        elif unwanted and unwanted[0].name in _NOT:
            self._findings.read("tempo_bpm", _NOT[unwanted[0].name], self._negations.whole(unwanted[0]), 0.7)

    def _tell_contrary(self, told: Reading, words: list[Match]) -> None:
        """A figure holds; that a word says the contrary is told: "fast techno at 60 bpm"."""
        low, high = _NEITHER_FAST_NOR_SLOW
        pace = True if told.value >= high else False if told.value <= low else None
        for word in words:
            if pace is not None and _is_fast(word) is not None and _is_fast(word) is not pace:
                self._findings.conflicts.append(Conflict("tempo_bpm", (told.words, self._findings.words(word.span))))

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
        if then or (until is not None and (begins is not None or passage.letters(until) >= _LEAST_UNTIL)):
            return one, two
        return (one, two) if begins is not None and passage.letters(begins) >= _LEAST_UNTIL else None

    def _with_degree(self, word: Match) -> str:
        very = self._passage.ending(word.first, "degree", "very")
        return f"very {word.name}" if very is not None and word.name in ("slow", "fast") else word.name

    def _whole(self, word: Match) -> Span:
        very = self._passage.ending(word.first, "degree", "very")
        return (very.first if very is not None else word.first, word.after)


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
