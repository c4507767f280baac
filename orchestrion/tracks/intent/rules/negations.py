"""What a "no" reaches: the things behind it or before it, through lists, up to the end of the clause."""

from __future__ import annotations

from typing import Final

from orchestrion.tracks.intent.lexicon import Match
from orchestrion.tracks.intent.passage import Passage
from orchestrion.tracks.intent.rules.findings import Findings, Span
from orchestrion.tracks.intent.text import COMMAS, STOPS, Form, Token

#: What can be unwanted.
EXCLUDABLE: Final = ("instrument", "style", "genre", "mood")
#: What a "no" turns round.
_TURNED: Final = (
    "tempo",
    "dynamics",
    "energy",
    "metre",
    "channels",
    "format",
    "form",
    "fade",
    "use",
    "only",
    "ensemble",
    "section",
)
#: Keys that may be unwanted, whatever their tonic.
_MODES: Final = ("major", "minor")
#: Words that nobody knows may stand between a "no" and its thing: "no big gated snare drums".
_UNKNOWN: Final = 3
#: The same in scripts whose tokens are characters.
_UNKNOWN_CHARACTERS: Final = 4
#: Sections whose things are of one sort.
_KINDS: Final = {
    "style": "genre", "tempo": "mood", "dynamics": "mood", "energy": "mood", "ensemble": "instrument",
    "cannot": "instrument",
}  # fmt: skip
#: Of what cannot be had, that which can be unwanted: "no growling" excludes vocals.
_SUNG: Final = ("voice", "lyrics")
_VOCALS: Final = "vocals"
_SOLO: Final = ("only", "solo")
#: Links within a list, though they are folded to commas: "、" where "，" stands between clauses, "・" everywhere.
_LINKING: Final = {"zh": "、・", "ja": "・", "ko": "·・"}


class Negations:
    """Which phrases of a prompt are said to be unwanted."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage
        #: Of each unwanted phrase, the "no" that reaches it.
        self._by: dict[Match, Match] = {}
        things = [match for section in (*EXCLUDABLE, *_TURNED) for match in passage.of(section)]
        things += [match for match in passage.of("key", *_MODES) if self._is_without_tonic(match)]
        things += passage.of("cannot", *_SUNG)
        # Words that only introduce a figure are no things.
        things = [match for match in things if match.name not in ("at", "word")]
        self._things = sorted(things, key=lambda match: (match.first, -match.after))
        for no in passage.of("negation", "before", "except"):
            if no.first and passage.tokens[no.first - 1].text == "?" and passage.is_end_of_clause(no.after):
                self._backward(no, no.first - 2)  # "Brass? No, metal."
            elif self._is_verdict(no):
                continue  # "Brass no: metal."
            else:
                self._forward(no)
        forward = {no.after for no in self._by.values()}
        for no in passage.of("negation", "after"):
            if no.after not in forward and not self._goes_on(no):
                # "Guitars? Can do without": an answer is about what was asked.
                is_answer = (
                    no.first > 1 and passage.tokens[no.first - 1].text == "?" and passage.is_end_of_clause(no.after)
                )
                self._backward(no, no.first - 2 if is_answer else no.first - 1)
        for end in passage.of("negation", "out"):
            self._around(end)
        self._undo()
        for no in dict.fromkeys(self._by.values()):
            if no.name in ("after", "leave"):
                self._also(no, no.after)
            elif (out := self._out_behind(no)) is not None:
                self._also(no, out.after)

    def _goes_on(self, no: Match) -> bool:
        """Whether a "no" belongs to what stands behind it: "double kick, no holding back"."""
        passage, at = self._passage, no.after
        if at < len(passage.tokens) and passage.tokens[at].form is Form.NUMBER and not passage.tokens[at].apart:
            return True  # "ギター×2" are two guitars.
        if at < len(passage.tokens) and (end := passage.starting(at, "negation")) is not None:
            return end.name not in ("end", "all") and self._words(end) != self._words(no)
        if self._begins_its_clause(no):
            return True
        stands_before = any(other.after == no.after for other in passage.beginning(no.first, "negation", "before"))
        if not stands_before or at >= len(passage.tokens) or passage.tokens[at].form is not Form.WORD:
            return False
        return passage.starting(at, "filler") is None and passage.starting(at, "list") is None

    def _is_verdict(self, no: Match) -> bool:
        """Whether a colon stands behind a "no" that stands right behind something."""
        passage = self._passage
        is_behind = passage.starting(no.first, "negation", "after") is not None and no.first > 0
        colon = no.after < len(passage.tokens) and passage.tokens[no.after].text == ":"
        return colon and is_behind and any(thing.after == no.first for thing in self._things)

    def _begins_its_clause(self, no: Match) -> bool:
        """Whether a "no" behind a comma has more behind it than small words: "jazz, no need to add a harp"."""
        passage, at = self._passage, no.after
        if not (no.first and passage.tokens[no.first - 1].text in COMMAS):
            return False
        while at < len(passage.tokens) and (filler := self._filler(at, 1)) is not None:
            at = filler
        if passage.is_end_of_clause(at) or passage.tokens[at].form is not Form.WORD:
            return False
        return passage.starting(at, "negation") is None and passage.starting(at, "list") is None

    def _words(self, match: Match) -> str:
        return self._passage.words(match.first, match.after).text

    def _around(self, end: Match) -> None:
        """A "no" in two halves: "leave the drums and the bass out"."""
        begins = [begin for begin in self._passage.of("negation", "leave") if begin.after <= end.first]
        begins = [begin for begin in begins if begin.language == end.language and self._is_clause(begin, end)]
        if not begins:
            return
        begin = begins[-1]
        things = [
            thing
            for thing in self._things
            if begin.after <= thing.first and thing.after <= end.first and thing.section in (*EXCLUDABLE, "cannot")
        ]
        if things and self._is_bridged(things[-1].after, end.first, 0):
            whole = Match("negation", "leave", begin.language, begin.first, end.after)
            if self._is_bridged(begin.after, things[0].first, _UNKNOWN):
                for thing in things:
                    self._by.setdefault(thing, whole)

    def _undo(self) -> None:
        """Forget a "no" that another turns round, or that is only allowed: "without a bass won't do"."""
        for no in dict.fromkeys(self._by.values()):
            after = max(thing.after for thing, by in self._by.items() if by == no)
            if no.name == "before" and self._passage.starting(after, "negation", "undone") is not None:
                self._by = {thing: by for thing, by in self._by.items() if by != no}

    def _out_behind(self, no: Match) -> Match | None:
        """The other half of a "no" that reaches forward: "laat de drums weg"."""
        after = max(thing.after for thing, by in self._by.items() if by == no)
        return self._passage.starting(after, "negation", "out", "after") if no.name == "before" else None

    def _also(self, no: Match, after_no: int) -> None:
        """What the clause behind a "no" adds: "drums out, bass as well"."""
        passage, at = self._passage, self._passage.skips(after_no, signs=",.;")
        link = passage.starting(at, "list", "and")
        at = link.after if link is not None else at
        ahead = passage.starting(at, "negation", "also")
        at = ahead.after if ahead is not None else at
        while (filler := self._filler(at, 1) if at < len(passage.tokens) else None) is not None:
            at = filler
        things = [thing for thing in self._things if thing.first == at and thing.section in EXCLUDABLE]
        if not things or at == after_no:
            return
        after = max(thing.after for thing in things)
        behind = passage.starting(after, "negation", "also")
        is_whole = passage.is_end_of_clause(behind.after if behind is not None else after)
        if is_whole and (ahead is not None or behind is not None):
            for thing in things:
                if thing.after == after:
                    self._by.setdefault(thing, Match("negation", no.name, no.language, no.first, after))

    def _is_clause(self, begin: Match, end: Match) -> bool:
        return not any(token.text in STOPS for token in self._passage.tokens[begin.after : end.first])

    def _is_bridged(self, at: int, to: int, unknown: int) -> bool:
        """Whether little that nobody knows stands from one token to another."""
        while at < to:
            filler = self._filler(at, 1)
            unknown -= filler is None
            at = filler if filler is not None else at + 1
        return unknown >= 0

    def _is_without_tonic(self, mode: Match) -> bool:
        """Whether a mode stands alone: in "a minor key" the a is no tonic."""
        passage = self._passage
        return passage.ending(mode.first, "tonic") is None or passage.starting(mode.after, "key", "word") is not None

    def negates(self, match: Match) -> bool:
        """Whether a phrase is unwanted."""
        return match in self._by

    def whole(self, match: Match) -> Span:
        """The tokens of an unwanted phrase together with its "no"."""
        no = self._by[match]
        return min(no.first, match.first), max(no.after, match.after)

    def read(self, findings: Findings) -> None:
        """What is excluded."""
        for match, no in self._by.items():
            if match.section in (*EXCLUDABLE, "key"):
                used = findings.used | {*range(match.first, match.after), *range(no.first, no.after)}
                findings.read("exclude", match.name, self.whole(match))
                # What stands between them may say something else.
                findings.used = used
            elif match.section == "cannot" and not self._is_told(match):
                findings.read("exclude", _VOCALS, self.whole(match))
        for match in self._passage.of("excluded"):
            if match not in self._by:
                findings.read("exclude", match.name, match.span)

    def _is_told(self, sung: Match) -> bool:
        """Whether the same words name an instrument that is unwanted."""
        return any(
            other.section == "instrument" and other.first < sung.after and sung.first < other.after
            for other in self._by
        )

    def _forward(self, no: Match) -> None:
        if no.name == "except" and self._is_only(no):
            return
        at, is_first = no.after, True
        # "Exit les cuivres": where "les" is of the "no" and of its thing.
        shared = [m.first for m in self._passage.of("instrument") if no.first < m.first < no.after < m.after]
        at = min(shared, default=at)
        # "Not wanted: sax, synths, jazz" is a list, whatever joins its parts.
        is_list = ":" in (self._text(no.after - 1), self._text(no.after))
        reached: list[tuple[list[Match], str]] = []
        while True:
            gap = self._gap(no, at, 1, is_first)
            if gap is None:
                break
            thing, crossed = gap
            is_excludable = all(each.section in EXCLUDABLE for each in (*thing, *(reached[0][0] if reached else ())))
            if reached and crossed == "comma" and is_list and is_excludable:
                crossed = "link"
            if reached and crossed in ("comma", "both") and _kind(thing) != _kind(reached[0][0]):
                # "Not too fast, guitar and flute", "no piano, and keep it soft": a list is of one kind.
                break
            reached.append((thing, crossed))
            at, is_first = max(m.after for m in thing), False
        # "No drums, bass or whatever": what nobody knows ends the list as well.
        self._take(no, reached, self._passage.starting(at, "list", "or") is not None)

    def _text(self, at: int) -> str:
        return self._passage.tokens[at].text if 0 <= at < len(self._passage.tokens) else ""

    def _backward(self, no: Match, at: int) -> None:
        reached: list[tuple[list[Match], str]] = []
        # "Drums → none", "drums: none", "an organ? None".
        at = self._passage.skips(at, -1, ":→=?")
        is_first = True
        # "Guitar, drums, bass: all out": whatever joins them.
        everything = self._passage.ending(self._passage.skips(at, -1) + 1, "negation", "all")
        if everything is not None:
            at = everything.first - 1
        while True:
            gap = self._gap(no, at, -1, is_first, everything is not None)
            if gap is None:
                break
            thing, crossed = gap
            reached.append((thing, "link" if everything is not None else crossed))
            if any(m.name == "others" for m in thing):
                everything = None  # "Harp, all others out" is with a harp.
            at, is_first = min(m.first for m in thing) - 1, False
        if len(reached) > 1 and reached[1][1] == "both":
            # "We play emo, and country is what we are not"; "drums, bass, and strings are out" is a list.
            reached = [(thing, "link") for thing, _ in reached] if len(reached) > 2 else reached[:1]
        # What stands before a comma before it is another thing: "koto and flute, drums: none".
        self._take(no, reached[: next((n for n, (_, joint) in enumerate(reached) if n and joint == "comma"), None)])

    def _take(self, no: Match, reached: list[tuple[list[Match], str]], goes_on: bool = False) -> None:
        """All of a list; of one whose parts are joined by commas alone, the first."""
        joins = [joint for _, joint in reached[1:]]
        last_link = max((n for n, joint in enumerate(joins, 1) if joint != "comma"), default=0)
        for number, (things, _) in enumerate(reached):
            if number == 0 or number <= last_link or goes_on:
                for thing in things:
                    self._by.setdefault(thing, no)

    def _gap(
        self, no: Match, at: int, step: int, is_first: bool, everything: bool = False
    ) -> tuple[list[Match], str] | None:
        """The next thing in a list, and whether "and", a comma or both stand before it."""
        passage, unknown, joint = self._passage, 0, "none"
        while 0 <= at < len(passage.tokens):
            things = [m for m in self._things if (m.first if step > 0 else m.after - 1) == at]
            if things:
                longest = max(things, key=lambda m: m.length)
                if not is_first and joint == "none" and not everything:
                    return None
                if step < 0 and longest.section == "only" and longest.name != "others":
                    # "Nothing but the piano is used": the "no" is the one of "nothing but".
                    return None
                if step > 0 and (longest.section in ("dynamics", "energy") or (longest.section, longest.name) == _SOLO):
                    # "No loud drums" is about drums, "no solo trumpet" about trumpets.
                    played = [m for m in self._things if m.first == longest.after and m.section == "instrument"]
                    if played:
                        longest_played = [m for m in played if m.after == max(m.after for m in played)]
                        return [*longest_played, *([longest] if longest.section == "only" else [])], joint
                return [m for m in things if m.length == longest.length], joint
            token = passage.tokens[at]
            if token.text in STOPS or token.form is Form.NUMBER or (token.text == ":" and unknown):
                # "Without changes: happy" excludes nothing, "none of these: drums" does.
                return None
            link = passage.starting(at, "list") if step > 0 else passage.ending(at + 1, "list")
            if token.text in COMMAS or link is not None:
                # Behind its thing a "no" may stand after a comma, but reaches no clause before its own.
                if (
                    is_first
                    and not everything
                    and (step > 0 or unknown or (link is not None and token.form is Form.WORD))
                ):
                    return None
                # "钢琴，休息时听" is for a break; "钢琴，不要了" is a "no".
                if is_first and token.text in COMMAS and not everything and not self._is_all(no):
                    return None
                # "No drums, bass or whatever, piano": the list is over.
                if not is_first and unknown and token.form is Form.SYMBOL and not self._links(token):
                    return None
                is_link = link is not None or self._links(token)
                if step > 0 and not is_link and self._passage.languages[0] == "zh":
                    return None
                # "A, and B", in whichever direction.
                is_both = joint in ("comma", "both") if is_link else joint in ("link", "both")
                joint = "both" if is_both else "link" if is_link else "comma"
                at = link.after if link is not None and step > 0 else link.first - 1 if link is not None else at + step
                continue
            # "With" ends what a "without" reaches, though it says nothing elsewhere.
            if not is_first and passage.starting(at, "negation", "end") is not None:
                return None
            filler = self._filler(at, step)
            if filler is not None:
                at = filler
                continue
            if passage.starting(at, "negation") is not None and not is_first:
                return None
            if passage.starting(at, "negation", "end") is not None:
                return None
            unknown += 1
            # Behind a comma a "no" stands right behind its thing: "waltz in D minor, no, E minor" is a waltz.
            is_near = is_first and (step > 0 or joint == "none")
            if unknown > self._most_unknown(no, token, step, "first" if is_near else joint):
                return None
            at += step
        return None

    def _is_all(self, no: Match) -> bool:
        """Whether a "no" is all that its clause says; of scripts with spaces that is not asked."""
        passage, at = self._passage, no.after
        if passage.tokens[no.first].form is not Form.CHARACTER:
            return True
        while at < len(passage.tokens):
            following = passage.starting(at, "filler") or passage.starting(at, "function")
            if following is None:
                break
            at = following.after
        return passage.is_end_of_clause(at) or passage.tokens[at].form is Form.SYMBOL

    def _is_only(self, no: Match) -> bool:
        """Whether "except" begins "except the piano nothing", and what it names is all that is wanted."""
        clause = no.after
        while not self._passage.is_end_of_clause(clause):
            if self._passage.starting(clause, "only", "after", "others") is not None:
                return True
            clause += 1
        return False

    def _links(self, token: Token) -> bool:
        """Whether a comma is one that stands within a list only."""
        return self._passage.text.original[token.start] in _LINKING.get(self._passage.languages[0], "")

    def _most_unknown(self, no: Match, token: Token, step: int, joint: str) -> int:
        """How many words that nobody knows may stand here."""
        if token.form is not Form.CHARACTER:
            return _UNKNOWN if joint == "first" else 0 if joint == "comma" else 1
        if joint == "first":
            # Directly before a "no" is the verb that it belongs to: "the piano does not stand out". One of a single
            # character (不, 无) belongs to what it touches.
            return 0 if step < 0 or no.length == 1 else _UNKNOWN_CHARACTERS
        # What describes a thing stands before it.
        return _UNKNOWN_CHARACTERS if joint in (("link", "both") if step > 0 else ("none",)) else 0

    def _filler(self, at: int, step: int) -> int | None:
        """Behind a word that says nothing."""
        section = ("filler", "degree")
        for name in section:
            match = self._passage.starting(at, name) if step > 0 else self._passage.ending(at + 1, name)
            if match is not None and step > 0:
                return match.after
            if match is not None:
                # 시끄러운 says nothing before drums, and is what is unwanted if nothing else is.
                inside = [
                    thing.after - 1
                    for thing in self._things
                    if match.first < thing.after <= at and thing.section != "only"
                ]
                return max(inside, default=match.first - 1)
        return at + step if self._passage.tokens[at].text in "-'\"" else None


def _kind(things: list[Match]) -> str:
    """What sort of things these are: who plays, what style, or what character."""
    section = things[0].section
    return _KINDS.get(section, section)
