"""What kind of music is wanted: who plays, style and genre, mood, use, energy, dynamics."""

from __future__ import annotations

from typing import Any, Final

from orchestrion.tracks.intent.genres import Genre, genres
from orchestrion.tracks.intent.lexicon import Match
from orchestrion.tracks.intent.rules.findings import Findings, Span
from orchestrion.tracks.intent.rules.negations import Negations
from orchestrion.tracks.intent.text import COMMAS, STOPS

#: Not played by an instrument of their own.
_SUNG: Final = ("vocals", "rap", "melody")
#: How many words that nobody knows may stand between "solo" and who plays it.
_REACH: Final = 3
_SIZES: Final = {"duo": 2, "trio": 3, "quartet": 4}
#: How far "then" stands from what comes then.
_NEAR: Final = 2
#: How far the name of a part and a solo in it stand apart.
_PART_REACH: Final = 7
#: A genre that is no further from a style than that is played as it.
_NEARLY: Final = 0.3
#: How sure a style is that only the name of an artist says.
_LIKE_AN_ARTIST: Final = 0.4
#: Beside which a word that is also an everyday one is the name of a genre.
_ABOUT_MUSIC: Final = ("style", "genre", "instrument", "mood", "tempo", "metre", "ensemble", "only")


#: "Guitar solo", in words; so many that nobody knows may stand before it.
_SOLO: Final = 2
#: What no model sings.
_VOICES: Final = ("vocals", "rap")


class Wishes:
    """Reads what is wanted, after what is not."""

    def __init__(self, findings: Findings, negations: Negations) -> None:
        self._findings = findings
        self._passage = findings.passage
        self._negations = negations

    def read(self) -> None:
        """All of it."""
        # "Twelve bar" is no bar.
        for match in [match for match in self._wanted("mood", "use") if self._findings.is_free(match.span)]:
            self._findings.read(match.section, match.name, match.span)
        self._ensembles()
        for match in self._wanted("instrument"):
            if match.name not in _SUNG:
                self._findings.read("instruments", match.name, match.span)
        self._kinds()
        self._wanted_and_unwanted()
        if not self._swells():
            self._opposites("dynamics", ("soft", "loud"))
        self._opposites("energy", ("low", "high"))

    def _wanted(self, *sections: str) -> list[Match]:
        found = [match for section in sections for match in self._passage.of(section)]
        wanted = [match for match in found if not self._negations.negates(match)]
        return sorted(wanted, key=lambda match: (match.first, -match.after)) if len(wanted) > 1 else wanted

    def _wanted_and_unwanted(self) -> None:
        """With drums and without drums."""
        unwanted = {m.name: m for m in self._passage.of("instrument") if self._negations.negates(m)}
        for match in self._wanted("instrument"):
            if match.name in unwanted and match.name not in _SUNG:
                other = unwanted.pop(match.name)
                self._findings.conflict("exclude", match.span, self._negations.whole(other))

    def _ensembles(self) -> None:
        for match in self._wanted("ensemble"):
            kind, _, instrument = match.name.partition(": ")
            self._ensemble(kind, [instrument] if instrument else [], match.span)
        for match in self._passage.of("only", "others"):
            if self._negations.negates(match):
                # "Harp and flute, all other instruments stay at home".
                first, after = self._negations.whole(match)
                who, span = self._players(self._passage.skips(first - 1, -1, ","), -1, several=True)
                if who:
                    self._ensemble("only", who, (span[0], after))
        for match in self._wanted("only"):
            if match.name == "solo" and self._is_of_what_is_unwanted(match):
                continue
            if match.name == "others" or not self._findings.is_free(match.span) or self._is_about_a_part(match):
                continue
            if match.name == "before":
                who, span = self._players(match.after, 1, several=True)
                # "Just make it slow" is about nobody who plays.
                if who:
                    self._ensemble(self._alone(match, who), who, (match.first, span[1]))
            elif match.name == "after":
                # "Harp and flute, nothing else": one comma may stand before it.
                signs = "," if match.length > 1 else ""
                who, span = self._players(self._passage.skips(match.first - 1, -1, signs), -1, several=True)
                if who:
                    self._ensemble(self._alone(match, who), who, (span[0], match.after))
            elif match.name != "solo" or (
                self._passage.starting(match.first, "only", "before", "after") is None and not self._is_of_a_part(match)
            ):
                self._named(match)

    def _is_of_what_is_unwanted(self, solo: Match) -> bool:
        """Whether it is the solo of who must not play: "rock without the guitar solo"."""
        before = self._passage.ending(solo.first, "instrument")
        return before is not None and self._negations.negates(before)

    def _is_about_a_part(self, match: Match) -> bool:
        """Whether an "only" says in which part: "brass only in the chorus"."""
        tokens = self._passage.tokens
        return match.name in ("before", "after") and any(
            0 < part.first - match.after <= _NEAR and tokens[match.after].text not in STOPS | COMMAS
            for part in self._passage.of("section")
            if part.name != "then"
        )

    def _alone(self, match: Match, who: list[str]) -> str:
        """Whether "violoncelle seul" is a solo; "cordes et harpe seules" are only these."""
        is_solo = len(who) == 1 and self._passage.starting(match.first, "only", "solo") is not None
        return "a cappella" if who == ["choir"] else "solo" if is_solo else "only"

    def _is_of_a_part(self, solo: Match) -> bool:
        """Whether a solo is one part of a piece that others play: "a guitar solo in the bridge"."""
        parts = self._passage.of("section", "intro", "verse", "chorus", "bridge", "outro")
        between = [self._passage.between(part.span, solo.span) for part in parts]
        tokens = [[self._passage.tokens[at].text for at in gap] for gap in between if len(gap) <= _PART_REACH]
        return any(not any(token in STOPS | COMMAS for token in gap) for gap in tokens)

    def _named(self, match: Match) -> None:
        """Solo, duo, trio, quartet, a cappella, with who is named beside it."""
        several = match.name != "solo"
        behind, after = self._players(match.after, 1, several)
        # "Choir, no instruments at all": a comma may stand before what says so.
        begins = self._passage.skips(match.first - 1, -1, "," if match.name == "a cappella" else "")
        ahead, before = self._players(begins, -1, several)
        if not ahead and not behind and match.name in _SIZES:
            # "A duo, guitar and bass": a comma may stand between if they are so many.
            size, signs = _SIZES[match.name], ",-"
            behind, after = self._players(self._passage.skips(match.after, 1, signs), 1, several)
            ahead, before = self._players(self._passage.skips(match.first - 1, -1, signs), -1, several)
            behind, ahead = (behind if len(behind) == size else []), (ahead if len(ahead) == size else [])
        nearer = behind if behind and (not ahead or match.name == "solo") else ahead
        if not nearer and match.name in _SIZES and self._passage.skips(match.first - 1, -1, ",") < match.first - 1:
            # "Flute and harp, duo".
            before_comma, place = self._players(self._passage.skips(match.first - 1, -1, ","), -1, several)
            if len(before_comma) == _SIZES[match.name]:
                nearer, ahead, before = before_comma, before_comma, place
        who = list(dict.fromkeys([*ahead, *behind])) if match.name == "a cappella" else nearer
        span = match.span
        if who is behind or match.name == "a cappella":
            span = (span[0], max(span[1], after[1]) if behind else span[1])
        if who is ahead or match.name == "a cappella":
            span = (min(span[0], before[0]) if ahead else span[0], span[1])
        if match.name != "solo" or not self._is_of_a_band(match, span):
            self._ensemble(match.name, who, span)

    def _is_of_a_band(self, solo: Match, span: Span) -> bool:
        """Whether a solo is a part of what others play: "rock with a guitar solo", "jazz, drum solo at the end"."""
        passage, (first, after) = self._passage, span
        if after - first < _SOLO and passage.starting(after, "change", "until", "from") is None:
            return False
        if passage.starting(solo.after, "instrument") is not None:
            return False  # "With solo cello".
        if passage.starting(after, "change", "until", "from") is not None:
            return True
        at, unknown = first, 0
        while at > 1 and unknown <= _SOLO:
            if (opens := passage.ending(at, "function", "with")) is not None:
                return opens.first > 0
            small = passage.ending(at, "filler") or passage.ending(at, "tempo") or passage.ending(at, "mood")
            if passage.is_end_of_clause(at - 1):
                return False
            unknown += small is None
            at = small.first if small is not None else at - 1
        return False

    def _ensemble(self, kind: str, who: list[str], span: Span) -> None:
        used = self._findings.used.copy()
        self._findings.read("ensemble", {"kind": kind, "instruments": who}, span)
        # Who plays is read as an instrument as well.
        self._findings.used = used | {at for at in range(*span) if self._passage.starting(at, "only") is not None}

    def _players(self, at: int, step: int, several: bool) -> tuple[list[str], Span]:
        """The instruments beside a word, in a direction."""
        who: list[str] = []
        passage, unknown, span = self._passage, 0, (at, at)
        while 0 <= at < len(passage.tokens) and unknown <= _REACH:
            match = passage.starting(at, "instrument") if step > 0 else passage.ending(at + 1, "instrument")
            if match is not None and match.name not in _VOICES and not self._negations.negates(match):
                who.append(match.name)
                span = (min(span[0], match.first), max(span[1], match.after))
                if not several:
                    break
                at, unknown = (match.after if step > 0 else match.first - 1), 0
                if not self._goes_on(at, step):
                    break
                continue
            token = passage.tokens[at]
            if token.text in STOPS or (token.text in COMMAS and not who):
                break
            kinds = [passage.starting(at, k) if step > 0 else passage.ending(at + 1, k) for k in ("style", "genre")]
            kind = max((match for match in kinds if match is not None), key=lambda match: match.length, default=None)
            if kind is not None and not who:
                # "A gypsy jazz duo" of those who stand before it.
                at = kind.after if step > 0 else kind.first - 1
                unknown += 1
                continue
            if (
                token.text not in COMMAS
                and passage.starting(at, "list") is None
                and passage.starting(at, "filler") is None
            ):
                unknown += 1
            at += step
        return (who if step > 0 else who[::-1]), span

    def _goes_on(self, at: int, step: int) -> bool:
        """Whether a list goes on: with "and", or a comma or hyphen with the next one behind it."""
        passage = self._passage
        if not 0 <= at < len(passage.tokens):
            return False
        link = passage.starting(at, "list") if step > 0 else passage.ending(at + 1, "list")
        if link is not None:
            return True
        return passage.tokens[at].text in COMMAS | {"-"} and any(
            (passage.starting(near, "instrument") if step > 0 else passage.ending(near + 1, "instrument")) is not None
            for near in (at + step, at + 2 * step)
        )

    def _kinds(self) -> None:
        """Styles and genres. A genre that is nearly a style is read as both: the genre has changes of its own."""
        found = self._genres()
        styles = [match for match in self._wanted("style") if not _is_part_of_another(match, found)]
        for match in styles:
            self._findings.read("style", match.name, match.span, 0.9 if match.length > 1 else 0.85)
        read = {match.span for match in styles}
        for match, genre in found:
            is_style = genre.distance == 0 and genre.nearest == (match.name,)
            if not is_style:
                value: dict[str, Any] = {"genre": match.name, "nearest": list(genre.nearest)}
                self._findings.read("style", value, match.span, 0.9 - genre.distance / 2)
            if genre.distance <= _NEARLY and match.span not in read:
                self._findings.read("style", genre.nearest[0], match.span, 0.85 - genre.distance / 2)
        if not styles and not found:
            # Who is not imitated still says what the music is like.
            for match in self._passage.of("artist")[:1]:
                self._findings.read("style", match.name, match.span, _LIKE_AN_ARTIST)

    def _genres(self) -> list[tuple[Match, Genre]]:
        """The genres that are named; of names that everyday words have, those beside other words about music."""
        surely = self._wanted("genre")
        about = [match for section in _ABOUT_MUSIC for match in self._passage.of(section)]
        perhaps = [
            match
            for match in self._wanted("maybe_genre")
            if any(other.after <= match.first or match.after <= other.first for other in about)
        ]
        return [(match, genres()[match.name]) for match in [*surely, *perhaps]]

    def _swells(self) -> bool:
        """Whether it goes from soft to loud, or back: "erst leise, dann laut"; that is read here."""
        wanted = self._wanted("dynamics")
        if len(wanted) < 2 or {wanted[0].name, wanted[-1].name} != {"soft", "loud"}:
            return False
        one, two = wanted[0], wanted[-1]
        ends = [
            m
            for m in (*self._passage.of("change", "until"), *self._passage.of("section", "then"))
            if one.after <= m.first and (m.first == two.after or 0 <= two.first - m.after <= _NEAR)
        ]
        correction = any(one.after <= m.first < two.first for m in self._passage.of("change", "correction"))
        if not ends or correction:
            return False
        self._findings.read(
            "dynamics", "crescendo" if one.name == "soft" else "diminuendo", (one.first, two.after), 0.8
        )
        return True

    def _opposites(self, section: str, opposites: tuple[str, str]) -> None:
        keys = [reading.words for reading in self._findings.readings if reading.field in ("key", "key_end")]
        found = [
            match
            for match in self._passage.of(section)
            if not any(key.start <= self._passage.tokens[match.first].start < key.end for key in keys)
        ]
        turned = {opposites[0]: opposites[1], opposites[1]: opposites[0]}
        values: dict[str, Span] = {}
        # "Loud? No. Quiet": what is not wanted only counts where nothing says what is.
        is_told = any(not self._negations.negates(match) for match in found)
        if not is_told and set(opposites) <= {match.name for match in found}:
            # Neither loud nor soft.
            return
        for match in found:
            name, span = match.name, match.span
            if self._negations.negates(match):
                if is_told:
                    continue
                name, span = turned.get(name, ""), self._negations.whole(match)
            if name:
                self._findings.read(section, name, span, 0.8)
                values.setdefault(name, span)
        if set(opposites) <= values.keys():
            self._findings.conflict(section, *(values[name] for name in opposites))


def _is_part_of_another(style: Match, found: list[tuple[Match, Genre]]) -> bool:
    """Whether a style only is a part of the name of a genre that is something else: the punk of ska punk."""
    return any(
        match.first <= style.first
        and style.after <= match.after
        and style.length < match.length
        and style.name not in genre.nearest
        for match, genre in found
    )
